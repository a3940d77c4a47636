//! `Microsoft.Authorization/roleDefinitions`: the built-in roles
//! (<https://learn.microsoft.com/rest/api/authorization/role-definitions>).

use std::sync::Arc;

use jiff::Timestamp;
use lazuli_azure::ResourceId;
use serde_json::{Value, json};

use super::{Placement, Query, ResourceType, Write};
use crate::{
    control::{
        Context,
        error::ArmError,
        filter::Filter,
        roles::{self, Role},
    },
    store::{Batch, Resource},
};

/// Role definitions.
pub(super) struct RoleDefinitions;

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

    fn desired(&self, _: &Context, _: &Write<'_>, _: &mut Batch) -> Result<Value, ArmError> {
        Err(ArmError::not_implemented(
            "This region has Azure's built-in roles; it takes no custom ones.",
        ))
    }

    fn find(&self, context: &Context, id: &ResourceId) -> Option<Arc<Resource>> {
        resource(context, roles::find(id.name())?)
    }

    fn list(
        &self,
        context: &Context,
        _: &ResourceId,
        query: &Query,
    ) -> Result<Vec<Arc<Resource>>, ArmError> {
        let filter = Filter::parse(query.get("$filter"))?;
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
            .collect())
    }
}
