//! `Microsoft.Web/sites/hostNameBindings` and `Microsoft.Web/sites/slots/hostNameBindings`: host names of a
//! site's own (<https://learn.microsoft.com/rest/api/appservice/web-apps/create-or-update-host-name-binding>).
//!
//! Whoever wants a name must own it: the region looks `asuid.{name}` up in its public DNS zones, the only
//! ones that it can know (<https://learn.microsoft.com/azure/app-service/app-service-web-tutorial-custom-domain>).
//! A binding is routed by the front end from the moment it is made, with the certificate it names.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use lazuli_azure::ResourceId;
use serde_json::{Map, Value, json};

use super::{
    Call, Placement, Query, Reply, ResourceType, Style, Write, network_dns_zones as dns,
    web::{VERSIONS, app},
};
use crate::{
    appservice::{
        hosts::{self, CERTIFICATE, SITE_BINDING, SLOT_BINDING},
        records::slot_key,
        render,
        site::SlotKey,
    },
    certificate::Facts,
    control::{Context, error::ArmError, names},
    identity::token::unbase64,
    store::{Batch, Expect, Resource},
};

/// Bindings of sites, or of slots.
pub(super) struct Bindings(&'static str);

/// Both.
pub(super) const ALL: [Bindings; 2] = [Bindings(SITE_BINDING), Bindings(SLOT_BINDING)];

const STATES: [&str; 3] = ["Disabled", "SniEnabled", "IpBasedEnabled"];

impl ResourceType for Bindings {
    fn kind(&self) -> &'static str {
        self.0
    }

    fn api_versions(&self) -> &'static [&'static str] {
        VERSIONS
    }

    fn not_acted_upon(&self) -> &'static [&'static str] {
        &[
            "domainId",
            "azureResourceName",
            "azureResourceType",
            "sslState: IpBasedEnabled is served by SNI, and there is no address of its own",
        ]
    }

    fn placement(&self) -> Placement {
        Placement::None
    }

    fn provisioning_state(&self) -> bool {
        false
    }

    fn check_name(&self, name: &str) -> Result<(), ArmError> {
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        let bare = name.strip_prefix("*.").unwrap_or(name);
        let valid = bare.len() <= 253
            && bare.split('.').count() >= 2
            && bare.split('.').all(label)
            // An address is no name.
            && bare.parse::<std::net::IpAddr>().is_err();
        let lower = bare.to_ascii_lowercase();
        if !valid || lower == "localhost" || lower.ends_with(".localhost") {
            return Err(names::invalid(self.0, name, "a host name of at least two labels"));
        }
        if lazuli_gateway::is_azure(&lower) {
            return Err(ArmError::conflict(
                "Conflict",
                format!("Hostname '{name}' already exists. Please select a different name."),
            ));
        }
        Ok(())
    }

    fn unique_name(&self, id: &ResourceId) -> Option<String> {
        Some(format!("hostname:{}", id.name().to_ascii_lowercase()))
    }

    fn write_style(&self, _: &Write<'_>) -> Style {
        Style::SyncOk
    }

    fn desired(
        &self,
        context: &Context,
        write: &Write<'_>,
        batch: &mut Batch,
    ) -> Result<Value, ArmError> {
        let key = slot_key(write.id).ok_or_else(|| ArmError::not_found(write.id))?;
        let host = write.id.name().to_ascii_lowercase();
        let asked = match &write.body["properties"] {
            Value::Null => Map::new(),
            Value::Object(asked) => asked.clone(),
            _ => return Err(ArmError::invalid_content("'properties' must be an object")),
        };
        if write.creates() {
            free(context, &host, write.id)?;
            owned(context, &key, &host)?;
        }
        let mut properties = match write.existing {
            Some(existing) => existing.properties().as_object().cloned().unwrap_or_default(),
            None => Map::new(),
        };
        properties.insert("siteName".into(), json!(key.label()));
        properties.insert("hostNameType".into(), json!("Verified"));
        properties
            .insert("customHostNameDnsRecordType".into(), json!(record_type(context, &key, &host)));
        for name in ["domainId", "azureResourceName", "azureResourceType"] {
            let given = asked.get(name).filter(|value| !value.is_null());
            if let Some(value) = given {
                properties.insert(name.into(), value.clone());
            }
        }
        // What is not said of the certificate stays as it is.
        let text = |name: &str| asked.get(name).and_then(Value::as_str);
        let before = |name: &str| {
            write.existing.and_then(|one| one.properties()[name].as_str()).map(str::to_owned)
        };
        let state = text("sslState").map(str::to_owned).or_else(|| before("sslState"));
        let thumbprint = text("thumbprint")
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
            .or_else(|| before("thumbprint"));
        let (state, thumbprint) =
            secured(context, &key, &host, state.as_deref(), thumbprint.as_deref(), batch)?;
        properties.insert("sslState".into(), json!(state));
        properties.insert("thumbprint".into(), json!(thumbprint));
        Ok(json!({ "properties": properties }))
    }

    fn provision<'a>(
        &'a self,
        context: &'a Arc<Context>,
        id: &'a ResourceId,
    ) -> BoxFuture<'a, Result<(), ArmError>> {
        Box::pin(async move {
            if let Some(key) = slot_key(id) {
                app(context)?.bound(&key, id.name());
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
            if let Some(key) = slot_key(&resource.id) {
                app(context)?.unbound(&key, resource.id.name());
            }
            Ok(())
        })
    }

    fn find(&self, context: &Context, id: &ResourceId) -> Option<Arc<Resource>> {
        context.store.get(id).or_else(|| default_binding(context, id))
    }

    fn list(
        &self,
        context: &Context,
        scope: &ResourceId,
        _: &Query,
    ) -> Result<Vec<Arc<Resource>>, ArmError> {
        let mut all = hosts::bindings_of(&context.store, scope);
        if let Some(key) = slot_key(scope)
            && let Ok(id) = scope.child("hostNameBindings", &key.host_name())
        {
            all.extend(default_binding(context, &id));
        }
        Ok(all)
    }

    fn view(&self, context: &Context, resource: &Resource) -> Value {
        let mut body = resource.body.clone();
        let names = resource.id.names();
        body["name"] = json!(names.join("/"));
        let site = resource.id.parent().and_then(|site| context.store.get(&site));
        if let Some(site) = site {
            body["location"] = site.body["location"].clone();
        }
        body
    }

    /// The site's name in Azure's domain is there with the site, and nobody's to change.
    fn intercept<'a>(
        &'a self,
        context: &'a Arc<Context>,
        call: &'a Call<'a>,
    ) -> BoxFuture<'a, Result<Option<Reply>, ArmError>> {
        Box::pin(async move {
            let changes = call.method != http::Method::GET && call.method != http::Method::HEAD;
            if changes && default_binding(context, &call.id).is_some() {
                return Err(ArmError::conflict(
                    "Conflict",
                    format!(
                        "Hostname '{}' is a default hostname and cannot be changed or removed.",
                        call.id.name()
                    ),
                ));
            }
            Ok(None)
        })
    }
}

/// The binding of the name that Azure gives, which is no record.
fn default_binding(context: &Context, id: &ResourceId) -> Option<Arc<Resource>> {
    let key = slot_key(id)?;
    let site = context.store.get(&id.parent()?)?;
    id.name().eq_ignore_ascii_case(&key.host_name()).then(|| {
        Arc::new(Resource {
            id: id.clone(),
            body: json!({ "properties": {
                "siteName": key.label(), "domainId": null, "hostNameType": "Verified",
                "azureResourceName": null, "customHostNameDnsRecordType": null,
                "sslState": null, "thumbprint": null,
            } }),
            etag: site.etag.clone(),
            created: site.created,
            changed: site.changed,
        })
    })
}

/// A name is one site's or slot's.
fn free(context: &Context, host: &str, id: &ResourceId) -> Result<(), ArmError> {
    let taken = hosts::bindings(&context.store)
        .iter()
        .any(|other| other.id.name().eq_ignore_ascii_case(host) && other.id != *id);
    if taken {
        return Err(ArmError::conflict(
            "Conflict",
            format!("Hostname '{host}' already exists. Please select a different name."),
        ));
    }
    Ok(())
}

/// Whether the name's zone says that it is this subscription's: `asuid.{name}`, in Azure's words if not
/// (<https://github.com/rcl-letsencrypt-auto-ssl/Lets-Encrypt-Auto/issues/25>).
fn owned(context: &Context, key: &SlotKey, host: &str) -> Result<(), ArmError> {
    let id = render::verification_id(&key.site.subscription);
    let bare = host.strip_prefix("*.").unwrap_or(host);
    let said = dns::texts(context, &format!("asuid.{bare}"));
    if said.iter().any(|text| text.trim().eq_ignore_ascii_case(&id)) {
        return Ok(());
    }
    Err(ArmError::bad_request(
        "BadRequest",
        format!(
            "A TXT record pointing from asuid.{bare} to {} was not found.",
            id.to_ascii_lowercase()
        ),
    ))
}

/// How the name leads to the site: by another name, by an address, or not (yet).
pub(super) fn record_type(context: &Context, key: &SlotKey, host: &str) -> Option<&'static str> {
    if dns::alias(context, host).is_some_and(|name| name == key.host_name()) {
        return Some("CName");
    }
    (!dns::addresses(context, host).is_empty()).then_some("A")
}

/// `sslState` and `thumbprint` as they will be: a certificate that is served exists and is for the name. The
/// batch demands that it is still there.
fn secured(
    context: &Context,
    key: &SlotKey,
    host: &str,
    state: Option<&str>,
    thumbprint: Option<&str>,
    batch: &mut Batch,
) -> Result<(String, Option<String>), ArmError> {
    let state = match state {
        None => "Disabled",
        Some(asked) => {
            STATES.into_iter().find(|state| state.eq_ignore_ascii_case(asked)).ok_or_else(|| {
                ArmError::invalid_value(
                    "properties.sslState",
                    format!(
                        "'{asked}' is not an SSL state: Disabled, SniEnabled or IpBasedEnabled."
                    ),
                )
            })?
        }
    };
    if state == "Disabled" {
        return Ok((state.to_owned(), None));
    }
    let thumbprint = thumbprint.ok_or_else(|| {
        ArmError::invalid_value(
            "properties.thumbprint",
            format!("The SSL state '{state}' of hostname '{host}' needs the thumbprint of a certificate."),
        )
    })?;
    let upper = thumbprint.to_ascii_uppercase();
    let location = app(context)?.records.slot(key).map(|slot| slot.location).unwrap_or_default();
    let subscription = ResourceId::of_subscription(&key.site.subscription)?;
    let found = context.store.list(CERTIFICATE, &subscription).into_iter().find(|one| {
        one.text("/properties/thumbprint") == Some(&upper)
            && one.text("/location").is_some_and(|place| place.eq_ignore_ascii_case(&location))
    });
    let Some(found) = found else {
        return Err(ArmError::new(
            http::StatusCode::NOT_FOUND,
            "NotFound",
            format!("Certificate with thumbprint {upper} was not found."),
        ));
    };
    let facts = found
        .text("/properties/cerBlob")
        .and_then(unbase64)
        .and_then(|der| Facts::of(&der).ok())
        .unwrap_or_default();
    if !facts.covers(host) {
        return Err(ArmError::bad_request(
            "BadRequest",
            format!("The certificate with thumbprint {upper} does not match the hostname {host}."),
        ));
    }
    batch.expect(&found.id, Expect::Present);
    Ok((state.to_owned(), Some(upper)))
}

/// `hostNameSslStates` of a site with `toUpdate`, which is how `az webapp config ssl bind` says it: the
/// bindings change with the site, in one step.
pub(super) fn update_states(
    context: &Context,
    site: &ResourceId,
    states: &Value,
    batch: &mut Batch,
) -> Result<(), ArmError> {
    let Some(key) = slot_key(site) else { return Ok(()) };
    for state in states.as_array().into_iter().flatten() {
        if state["toUpdate"] != true {
            continue;
        }
        let host = state["name"].as_str().unwrap_or_default().to_ascii_lowercase();
        let binding = hosts::bindings_of(&context.store, site)
            .into_iter()
            .find(|one| one.id.name().eq_ignore_ascii_case(&host))
            .ok_or_else(|| {
                ArmError::new(
                    http::StatusCode::NOT_FOUND,
                    "NotFound",
                    format!("Hostname '{host}' is not bound to the site '{}'.", key.label()),
                )
            })?;
        let (state, thumbprint) = secured(
            context,
            &key,
            &host,
            state["sslState"].as_str(),
            state["thumbprint"].as_str(),
            batch,
        )?;
        let mut body = binding.body.clone();
        body["properties"]["sslState"] = json!(state);
        body["properties"]["thumbprint"] = json!(thumbprint);
        batch.expect(&binding.id, Expect::Etag(binding.etag.clone()));
        batch.put(&binding.id, body);
    }
    Ok(())
}

/// Adds a site's own host names to what is shown of it.
pub(super) fn show_on_site(context: &Context, site: &ResourceId, properties: &mut Value) {
    for binding in hosts::bindings_of(&context.store, site) {
        let host = binding.id.name();
        let state = binding.text("/properties/sslState").unwrap_or("Disabled");
        let shown = json!({
            "name": host, "sslState": state, "thumbprint": binding.properties()["thumbprint"],
            "toUpdate": null, "virtualIP": null, "hostType": "Standard",
        });
        for (list, value) in [
            ("hostNames", json!(host)),
            ("enabledHostNames", json!(host)),
            ("hostNameSslStates", shown),
        ] {
            if let Some(list) = properties[list].as_array_mut() {
                list.insert(0, value);
            }
        }
    }
}
