//! `Microsoft.Web/staticSites/linkedBackends`: the App Service behind a static site's `/api`
//! (<https://learn.microsoft.com/azure/static-web-apps/apis-app-service>).

use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::Method;
use jiff::Timestamp;
use lazuli_azure::ResourceId;
use serde_json::{Value, json};

use super::{
    Call, Caller, Placement, Query, Reply, ResourceType, Style, Write,
    web::{VERSIONS, app, record_error},
    web_static_sites::web,
};
use crate::{
    appservice::{access, records::slot_key},
    control::{
        Context,
        authorization::{Permission, allowed},
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
        may_configure(context, write.caller, write.id, &backend.id)?;
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
                clean_auth(context, &link, call.caller).await?;
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

/// A link configures the back end's authentication: whoever makes or cleans one must be allowed to.
fn may_configure(
    context: &Context,
    caller: &Caller,
    link: &ResourceId,
    backend: &ResourceId,
) -> Result<(), ArmError> {
    const NEEDED: &str = "Microsoft.Web/sites/config/write";
    if allowed(&context.store, &caller.object_id, Permission::Action(NEEDED), backend) {
        return Ok(());
    }
    Err(ArmError::new(
        http::StatusCode::FORBIDDEN,
        "LinkedAuthorizationFailed",
        format!(
            "The client with object id '{}' has permission to perform action '{LINKED}/write' on scope '{link}'; however, it does not have permission to perform action(s) '{NEEDED}' on the linked scope(s) '{backend}' (respectively) or the linked scope(s) are invalid.",
            caller.object_id
        ),
    ))
}

/// Removes the authentication that the link set up.
pub(super) async fn clean_auth(
    context: &Arc<Context>,
    link: &Resource,
    caller: &Caller,
) -> Result<(), ArmError> {
    let backend = link.text("/properties/backendResourceId").unwrap_or_default();
    if let Ok(backend) = ResourceId::parse(backend) {
        may_configure(context, caller, &link.id, &backend)?;
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::testing::World;

    #[tokio::test]
    async fn a_link_needs_rights_on_the_back_end_and_there_is_one_at_a_time() {
        let world = World::new().await;
        world.group().await;
        let context = world.context();
        let backend = world.id("/providers/Microsoft.Web/sites/api");
        let mut batch = Batch::new();
        batch.put(&backend, json!({ "location": "westeurope", "properties": {} }));
        for (name, sku) in [("web", "Standard"), ("other", "Standard"), ("free", "Free")] {
            let site = world.id(&format!("/providers/Microsoft.Web/staticSites/{name}"));
            batch.put(&site, json!({ "sku": { "name": sku }, "properties": {} }));
        }
        let taken = world.id("/providers/Microsoft.Web/staticSites/other/linkedBackends/api");
        context.store.commit(batch).await.expect("stored");
        let link = |site: &str, object_id: &str, to: &ResourceId| {
            let caller = Caller { object_id: object_id.to_owned(), app_id: String::new() };
            let path = format!("/providers/Microsoft.Web/staticSites/{site}/linkedBackends/api");
            let write = Write {
                id: &world.id(&path),
                existing: None,
                method: super::super::Method::Put,
                body: json!({ "properties": { "backendResourceId": to } }),
                api_version: "2024-04-01",
                caller: &caller,
            };
            LinkedBackends.desired(context, &write, &mut Batch::new()).map_err(|error| error.code)
        };
        let owner = context.identity.deployer().object_id.clone();
        assert!(link("web", &owner, &backend).is_ok());
        assert_eq!(link("web", "nobody", &backend), Err("LinkedAuthorizationFailed".into()));
        assert_eq!(link("free", &owner, &backend), Err("BadRequest".into()));
        assert_eq!(link("web", &owner, &taken), Err("BadRequest".into()), "not an App Service");
        let mut batch = Batch::new();
        batch.put(&taken, json!({ "properties": { "backendResourceId": backend } }));
        context.store.commit(batch).await.expect("stored");
        assert_eq!(link("web", &owner, &backend), Err("BadRequest".into()), "linked elsewhere");
    }
}
