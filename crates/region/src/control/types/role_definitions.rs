//! `Microsoft.Authorization/roleDefinitions`: the built-in roles, and custom ones
//! (<https://learn.microsoft.com/rest/api/authorization/role-definitions>).

use std::sync::Arc;

use jiff::Timestamp;
use lazuli_azure::ResourceId;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Placement, Query, ResourceType, Write};
use crate::{
    control::{
        Context, authorization,
        error::ArmError,
        filter::Filter,
        roles::{self, Role},
        schema::{self, Schema},
    },
    store::{Batch, Resource},
};

/// Role definitions.
pub(super) struct RoleDefinitions;

const SCHEMA: Schema = Schema(&[
    schema::text("roleName").required(),
    schema::text("description").or_text(""),
    schema::array("permissions").required(),
    schema::array("assignableScopes").required(),
    schema::text("type").read_only(),
    schema::text("createdOn").read_only(),
    schema::text("createdBy").read_only(),
    schema::text("updatedOn").read_only(),
    schema::text("updatedBy").read_only(),
]);

fn resource(context: &Context, role: &Role) -> Option<Arc<Resource>> {
    // Wherever it was asked for: a built-in role lies in the subscription.
    let id =
        context.subscription().resource("Microsoft.Authorization/roleDefinitions", role.id).ok()?;
    let body = json!({ "properties": {
        "roleName": role.name, "type": "BuiltInRole", "description": role.description,
        "assignableScopes": ["/"],
        "permissions": [{
            "actions": role.actions, "notActions": role.not_actions,
            "dataActions": role.data_actions, "notDataActions": role.not_data_actions,
        }],
        "createdOn": "2015-02-02T21:55:09.8806423Z", "updatedOn": "2021-11-11T20:14:58.4795814Z",
        "createdBy": null, "updatedBy": null,
    }});
    let then = Timestamp::UNIX_EPOCH;
    Some(Arc::new(Resource { id, body, etag: role.id.into(), created: then, changed: then }))
}

impl ResourceType for RoleDefinitions {
    fn kind(&self) -> &'static str {
        "Microsoft.Authorization/roleDefinitions"
    }

    fn api_versions(&self) -> &'static [&'static str] {
        &["2022-05-01-preview", "2022-04-01", "2018-01-01-preview", "2015-07-01"]
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

    fn check_name(&self, name: &str) -> Result<(), ArmError> {
        Uuid::parse_str(name).map(|_| ()).map_err(|_| {
            ArmError::bad_request(
                "InvalidRoleDefinitionId",
                format!("The role definition ID '{name}' is not valid. The role definition ID must be a GUID."),
            )
        })
    }

    fn desired(
        &self,
        context: &Context,
        write: &Write<'_>,
        _: &mut Batch,
    ) -> Result<Value, ArmError> {
        let refused = |message: String| ArmError::bad_request("RoleDefinitionInvalid", message);
        if roles::find(write.id.name()).is_some() {
            return Err(refused("A built-in role cannot be changed.".into()));
        }
        let mut body = SCHEMA.apply(write)?;
        let properties = &mut body["properties"];
        let name = properties["roleName"].as_str().unwrap_or_default().to_owned();
        let scopes = properties["assignableScopes"].as_array().cloned().unwrap_or_default();
        if scopes.is_empty()
            || !scopes.iter().all(|s| s.as_str().is_some_and(|s| ResourceId::parse(s).is_ok()))
        {
            return Err(ArmError::bad_request(
                "MissingAssignableScopes",
                "A custom role needs at least one assignable scope: a subscription or a resource group.",
            ));
        }
        let lists = ["actions", "notActions", "dataActions", "notDataActions"];
        for entry in properties["permissions"].as_array_mut().into_iter().flatten() {
            for list in lists {
                let texts = entry[list].as_array().is_some_and(|l| l.iter().all(Value::is_string));
                if entry[list].is_null() {
                    entry[list] = json!([]);
                } else if !texts {
                    return Err(ArmError::invalid_content(format!(
                        "'properties.permissions[].{list}' must be a list of strings"
                    )));
                }
            }
        }
        let twin = roles::BUILT_IN.iter().any(|role| role.name.eq_ignore_ascii_case(&name))
            || context.store.list(self.kind(), &ResourceId::root()).iter().any(|other| {
                other.id != *write.id
                    && other
                        .text("/properties/roleName")
                        .is_some_and(|other| other.eq_ignore_ascii_case(&name))
            });
        if twin {
            return Err(ArmError::conflict(
                "RoleDefinitionWithSameNameExists",
                format!(
                    "A custom role with the same name already exists in this directory. Use a different name than '{name}'."
                ),
            ));
        }
        let now = json!(Timestamp::now());
        properties["type"] = json!("CustomRole");
        if write.creates() {
            properties["createdOn"] = now.clone();
            properties["createdBy"] = json!(write.caller.object_id);
        }
        properties["updatedOn"] = now;
        properties["updatedBy"] = json!(write.caller.object_id);
        Ok(body)
    }

    fn deletable(
        &self,
        context: &Context,
        resource: &Resource,
        _: &mut Batch,
    ) -> Result<(), ArmError> {
        let assigned = context
            .store
            .list("Microsoft.Authorization/roleAssignments", &ResourceId::root())
            .iter()
            .any(|one| {
                one.text("/properties/roleDefinitionId")
                    .and_then(|id| id.rsplit('/').next())
                    .is_some_and(|role| role.eq_ignore_ascii_case(resource.id.name()))
            });
        if assigned {
            return Err(ArmError::bad_request(
                "RoleDefinitionHasAssignments",
                "There are existing role assignments referencing role (code: RoleDefinitionHasAssignments)",
            ));
        }
        Ok(())
    }

    fn find(&self, context: &Context, id: &ResourceId) -> Option<Arc<Resource>> {
        match roles::find(id.name()) {
            Some(role) => resource(context, role),
            None => authorization::custom(&context.store, id.name()),
        }
    }

    fn list(
        &self,
        context: &Context,
        _: &ResourceId,
        query: &Query,
    ) -> Result<Vec<Arc<Resource>>, ArmError> {
        let filter = Filter::parse(query.get("$filter"))?;
        let custom = context.store.list(self.kind(), &ResourceId::root());
        let custom = custom.into_iter().filter(|role| {
            filter.holds(|field| match field.to_ascii_lowercase().as_str() {
                "rolename" => role.text("/properties/roleName").map(ToOwned::to_owned),
                "type" => Some("CustomRole".to_owned()),
                "atscope" => Some(String::new()),
                _ => None,
            })
        });
        Ok(roles::BUILT_IN
            .iter()
            .filter(|role| {
                filter.holds(|field| match field.to_ascii_lowercase().as_str() {
                    "rolename" => Some(role.name.to_owned()),
                    "type" => Some("BuiltInRole".to_owned()),
                    // `atScope()` holds for what is assignable everywhere.
                    "atscope" => Some(String::new()),
                    _ => None,
                })
            })
            .filter_map(|role| resource(context, role))
            .chain(custom)
            .collect())
    }
}
