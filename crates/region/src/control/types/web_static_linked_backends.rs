//! `Microsoft.Web/staticSites/linkedBackends`: the App Service behind a static site's `/api`
//! (<https://learn.microsoft.com/azure/static-web-apps/apis-app-service>).

use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::Method;
use jiff::Timestamp;
use lazuli_azure::ResourceId;
use serde_json::{Value, json};

use super::{
    Call, Placement, Query, Reply, ResourceType, Style, Write,
    web::{VERSIONS, app, record_error},
    web_static_sites::web,
};
use crate::{
    appservice::{access, records::slot_key},
    control::{
        Context,
        error::ArmError,
        schema::{self, Schema},
    },
    staticweb::{LINKED, PRODUCTION, StaticWeb},
    store::{Batch, Resource},
};

/// Linked back ends.
pub(super) struct LinkedBackends;

const LINK: Schema = Schema(&[
    schema::text("backendResourceId").required().immutable(),
    schema::text("region"),
    schema::any("createdOn").read_only(),
]);

impl ResourceType for LinkedBackends {
    fn kind(&self) -> &'static str {
        LINKED
    }

    fn api_versions(&self) -> &'static [&'static str] {
        VERSIONS
    }

    fn not_acted_upon(&self) -> &'static [&'static str] {
        &["region"]
    }

    fn placement(&self) -> Placement {
        Placement::None
    }

    fn desired(
        &self,
        context: &Context,
        write: &Write<'_>,
        _: &mut Batch,
    ) -> Result<Value, ArmError> {
        let mut body = LINK.apply(write)?;
        let Some(site) = write.id.parent().and_then(|id| context.store.get(&id)) else {
            return Err(ArmError::parent_not_found(write.id));
        };
        if site.text("/sku/name") != Some("Standard") {
            return Err(ArmError::bad_request(
                "BadRequest",
                "Linked backends need a static site of the Standard SKU.",
            ));
        }
        let text = body["properties"]["backendResourceId"].as_str().unwrap_or_default().to_owned();
        let backend = ResourceId::parse(&text)
            .ok()
            .filter(|id| id.is("Microsoft.Web/sites"))
            .and_then(|id| context.store.get(&id))
            .ok_or_else(|| {
                ArmError::bad_request(
                    "BadRequest",
                    format!(
                        "The backend resource '{text}' is not an App Service site of this region."
                    ),
                )
                .at("properties.backendResourceId")
            })?;
        let others = context.store.list(LINKED, &site.id);
        if write.creates() && others.iter().any(|other| other.id != *write.id) {
            return Err(ArmError::bad_request(
                "BadRequest",
                "A static site can have one linked backend.",
            ));
        }
        let elsewhere = context.store.list(LINKED, &ResourceId::root()).into_iter().find(|other| {
            let to = other.text("/properties/backendResourceId").unwrap_or_default();
            to.eq_ignore_ascii_case(backend.id.as_str()) && other.id.parent() != write.id.parent()
        });
        if let Some(other) = elsewhere {
            return Err(ArmError::bad_request(
                "BadRequest",
                format!(
                    "The backend resource '{}' is linked to the static site '{}' already: it can be linked to one at a time.",
                    backend.id,
                    other.id.parent().map(|site| site.to_string()).unwrap_or_default()
                ),
            ));
        }
        let properties = &mut body["properties"];
        properties["backendResourceId"] = json!(backend.id);
        if properties["region"].is_null() {
            properties["region"] = backend.body["location"].clone();
        }
        if write.creates() {
            properties["createdOn"] = json!(Timestamp::now());
        }
        Ok(body)
    }

    fn write_style(&self, _: &Write<'_>) -> Style {
        Style::SyncOk
    }

    fn provision<'a>(
        &'a self,
        context: &'a Arc<Context>,
        id: &'a ResourceId,
    ) -> BoxFuture<'a, Result<(), ArmError>> {
        Box::pin(async move {
            let Some(link) = context.store.get(id) else { return Ok(()) };
            let Some(site) = id.parent().and_then(|site| context.store.get(&site)) else {
                return Ok(());
            };
            let host = StaticWeb::host(&site, PRODUCTION);
            change_auth(context, &link, |record| access::link(record, &host)).await?;
            if let Some(web) = web(context) {
                web.publish(&site.id, None);
            }
            Ok(())
        })
    }

    fn deprovision<'a>(
        &'a self,
        context: &'a Arc<Context>,
        resource: &'a Resource,
    ) -> BoxFuture<'a, Result<(), ArmError>> {
        Box::pin(async move {
            // The back end stays closed, so that nothing is opened to the public by accident: see
            // `isCleaningAuthConfig`.
            if let (Some(web), Some(site)) = (web(context), resource.id.parent()) {
                web.publish(&site, Some(&resource.id));
            }
            Ok(())
        })
    }

    fn intercept<'a>(
        &'a self,
        context: &'a Arc<Context>,
        call: &'a Call<'a>,
    ) -> BoxFuture<'a, Result<Option<Reply>, ArmError>> {
        Box::pin(async move {
            if call.method == Method::DELETE
                && cleans_auth(&call.query)
                && let Some(link) = context.store.get(&call.id)
            {
                clean_auth(context, &link).await?;
            }
            Ok(None)
        })
    }
}

/// Whether an unlinking asks for the back end's authentication to be removed
/// (<https://learn.microsoft.com/rest/api/appservice/static-sites/unlink-backend>).
pub(super) fn cleans_auth(query: &Query) -> bool {
    query.get("isCleaningAuthConfig").is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

/// Removes the authentication that the link set up.
pub(super) async fn clean_auth(context: &Arc<Context>, link: &Resource) -> Result<(), ArmError> {
    let Some(site) = link.id.parent().and_then(|site| context.store.get(&site)) else {
        return Ok(());
    };
    let host = StaticWeb::host(&site, PRODUCTION);
    change_auth(context, link, |record| access::unlink(record, &host)).await
}

/// Changes the back end's record, if it is there.
async fn change_auth(
    context: &Arc<Context>,
    link: &Resource,
    change: impl Fn(&mut crate::appservice::site::SlotRecord),
) -> Result<(), ArmError> {
    let backend = link.text("/properties/backendResourceId").unwrap_or_default();
    let Some(key) = ResourceId::parse(backend).ok().and_then(|id| slot_key(&id)) else {
        return Ok(());
    };
    let app = app(context)?;
    if app.records.slot(&key).is_none() {
        return Ok(());
    }
    app.records
        .update(&key, |record| {
            change(record);
            Ok(())
        })
        .await
        .map_err(|error| record_error(&error))?;
    app.changed(&key);
    Ok(())
}
