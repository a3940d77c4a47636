//! `Microsoft.KeyVault/vaults/secrets`: writing secrets through Resource Manager, which reaches a vault
//! that has no public network access
//! (<https://learn.microsoft.com/rest/api/keyvault/keyvault/secrets>). Values are taken and never
//! shown; deleting is the data plane's.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::{Method as Verb, StatusCode};
use jiff::Timestamp;
use lazuli_azure::ResourceId;
use serde_json::{Map, Value, json};

use super::{Call, Placement, Query, Reply, ResourceType, Write, key_vault_vaults};
use crate::{
    control::{Context, error::ArmError, router},
    store::{Batch, Resource},
    vault::{Attributes, Kind, NewSecret, VaultError, Version, audit::Event},
};

/// Secrets.
pub(super) struct Secrets;

impl ResourceType for Secrets {
    fn kind(&self) -> &'static str {
        "Microsoft.KeyVault/vaults/secrets"
    }

    fn api_versions(&self) -> &'static [&'static str] {
        key_vault_vaults::API_VERSIONS
    }

    fn not_acted_upon(&self) -> &'static [&'static str] {
        &[]
    }

    fn placement(&self) -> Placement {
        Placement::None
    }

    fn provisioning_state(&self) -> bool {
        false
    }

    fn desired(&self, _: &Context, write: &Write<'_>, _: &mut Batch) -> Result<Value, ArmError> {
        // Writes are intercepted: nothing of a secret goes the way of plain resources.
        Err(ArmError::internal(&format!("{} was written as a plain resource", write.id)))
    }

    fn find(&self, context: &Context, id: &ResourceId) -> Option<Arc<Resource>> {
        let vault = context.store.get(&id.parent()?)?;
        let version = context.vaults.current(Kind::Secret, vault.id.name(), id.name()).ok()?;
        shown(&vault, &version)
    }

    fn list(
        &self,
        context: &Context,
        scope: &ResourceId,
        _: &Query,
    ) -> Result<Vec<Arc<Resource>>, ArmError> {
        let vault = context.store.get(scope).ok_or_else(|| ArmError::not_found(scope))?;
        let secrets = context.vaults.list(Kind::Secret, vault.id.name(), false).map_err(refused)?;
        Ok(secrets.iter().filter_map(|version| shown(&vault, version)).collect())
    }

    fn intercept<'a>(
        &'a self,
        context: &'a Arc<Context>,
        call: &'a Call<'a>,
    ) -> BoxFuture<'a, Result<Option<Reply>, ArmError>> {
        Box::pin(async move {
            match call.method {
                Verb::PUT | Verb::PATCH => write(context, call).await.map(Some),
                Verb::DELETE => Err(ArmError::method_not_allowed(&call.method)),
                _ => Ok(None),
            }
        })
    }
}

fn shown(vault: &Resource, version: &Version) -> Option<Arc<Resource>> {
    let uri = format!(
        "https://{}.vault.azure.net/secrets/{}",
        vault.id.name().to_ascii_lowercase(),
        version.name
    );
    let mut attributes = json!({
        "enabled": version.attributes.enabled.unwrap_or(true),
        "created": version.created, "updated": version.updated,
    });
    for (key, value) in [("nbf", version.attributes.nbf), ("exp", version.attributes.exp)] {
        if let Some(value) = value {
            attributes[key] = json!(value);
        }
    }
    let mut properties = json!({
        "attributes": attributes, "secretUri": uri,
        "secretUriWithVersion": format!("{uri}/{}", version.version),
    });
    if let Some(kind) = &version.content_type {
        properties["contentType"] = json!(kind);
    }
    let mut body = json!({ "location": vault.body["location"], "properties": properties });
    if let Some(tags) = &version.tags {
        body["tags"] = json!(tags);
    }
    Some(Arc::new(Resource {
        id: vault.id.child("secrets", &version.name).ok()?,
        body,
        etag: version.version.as_str().into(),
        created: Timestamp::from_second(version.created).ok()?,
        changed: Timestamp::from_second(version.updated).ok()?,
    }))
}

async fn write(context: &Arc<Context>, call: &Call<'_>) -> Result<Reply, ArmError> {
    let parent = call.id.parent().unwrap_or_else(ResourceId::root);
    let vault = context.store.get(&parent).ok_or_else(|| ArmError::parent_not_found(&call.id))?;
    let properties = &call.body["properties"];
    if !properties.is_object() {
        return Err(ArmError::invalid_content("Required property 'properties' not found in JSON"));
    }
    let text = |value: &Value, name: &str| match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.clone())),
        _ => Err(ArmError::invalid_content(format!("'{name}' must be a string"))),
    };
    let seconds = |name: &str| match &properties["attributes"][name] {
        Value::Null => Ok(None),
        Value::Number(number) if number.is_i64() => Ok(number.as_i64()),
        _ => Err(ArmError::invalid_content(format!("'attributes.{name}' must be a Unix time"))),
    };
    let enabled = match &properties["attributes"]["enabled"] {
        Value::Null => None,
        Value::Bool(enabled) => Some(*enabled),
        _ => return Err(ArmError::invalid_content("'attributes.enabled' must be true or false")),
    };
    let new = NewSecret {
        content_type: text(&properties["contentType"], "contentType")?,
        tags: tags(&call.body["tags"])?,
        attributes: Attributes { enabled, nbf: seconds("nbf")?, exp: seconds("exp")? },
        ..NewSecret::default()
    };
    let value = zeroize::Zeroizing::new(text(&properties["value"], "value")?);
    let (name, id) = (vault.id.name(), call.id.name());
    let existed = context.vaults.current(Kind::Secret, name, id).is_ok();
    let written = match (value.as_deref(), &call.method) {
        (Some(value), _) => context.vaults.set(name, id, value, new).await,
        (None, &Verb::PATCH) => context.vaults.update(Kind::Secret, name, id, None, new).await,
        (None, _) => {
            return Err(ArmError::invalid_content(
                "Required property 'properties.value' not found in JSON",
            ));
        }
    };
    let status = match &written {
        Ok(_) if existed => StatusCode::OK,
        Ok(_) => StatusCode::CREATED,
        Err(_) => StatusCode::CONFLICT,
    };
    context.vaults.audit().record(Event {
        vault: vault.id.as_str(),
        operation: "SecretSet",
        object: &format!("https://{}.vault.azure.net/secrets/{id}", name.to_ascii_lowercase()),
        object_id: &call.caller.object_id,
        app_id: &call.caller.app_id,
        caller: None,
        status: status.as_u16(),
    });
    let version = written.map_err(refused)?;
    let resource = shown(&vault, &version).ok_or_else(|| ArmError::not_found(&call.id))?;
    Ok(Reply::new(status, Some(router::show(context, &resource))))
}

fn tags(value: &Value) -> Result<Option<Map<String, Value>>, ArmError> {
    match value {
        Value::Null => Ok(None),
        Value::Object(tags) if tags.values().all(Value::is_string) => Ok(Some(tags.clone())),
        _ => Err(ArmError::invalid_content("'tags' must be an object of strings")),
    }
}

fn refused(error: VaultError) -> ArmError {
    let message = error.to_string();
    match error {
        VaultError::NotFound(..) | VaultError::DeletedNotFound(..) => {
            ArmError::new(StatusCode::NOT_FOUND, "SecretNotFound", message)
        }
        VaultError::DeletedButRecoverable(..) => {
            ArmError::conflict("ObjectIsDeletedButRecoverable", message)
        }
        VaultError::BadParameter(_) => ArmError::bad_request("BadParameter", message),
        VaultError::Store(error) => error.into(),
        VaultError::Seal(_) | VaultError::Damaged(_) => ArmError::internal(&message),
        _ => ArmError::new(StatusCode::FORBIDDEN, "Forbidden", message),
    }
}
