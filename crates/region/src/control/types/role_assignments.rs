//! `Microsoft.Authorization/roleAssignments`: who may do what where
//! (<https://learn.microsoft.com/rest/api/authorization/role-assignments>). What is assigned here is
//! what [`crate::control::authorization`] enforces from the next request on.

use std::sync::Arc;

use lazuli_azure::ResourceId;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Method, Placement, Query, ResourceType, Write};
use crate::{
    control::{
        Context,
        authorization::{self, Permission},
        error::ArmError,
        filter::Filter,
        roles,
        schema::{self, Schema},
    },
    store::{Batch, Resource, StoreError},
};

/// Role assignments.
pub(super) struct RoleAssignments;

const SCHEMA: Schema = Schema(&[
    schema::text("roleDefinitionId").required(),
    schema::text("principalId").required(),
    schema::choice(
        "principalType",
        &["User", "Group", "ServicePrincipal", "ForeignGroup", "Device"],
    )
    .or_text("ServicePrincipal"),
    schema::text("scope").read_only(),
    schema::text("condition"),
    schema::text("conditionVersion"),
    schema::text("delegatedManagedIdentityResourceId"),
    schema::text("createdOn").read_only(),
    schema::text("createdBy").read_only(),
    schema::text("updatedOn").read_only(),
    schema::text("updatedBy").read_only(),
]);

impl ResourceType for RoleAssignments {
    fn kind(&self) -> &'static str {
        "Microsoft.Authorization/roleAssignments"
    }

    fn api_versions(&self) -> &'static [&'static str] {
        &[
            "2022-04-01",
            "2020-10-01-preview",
            "2020-04-01-preview",
            "2018-01-01-preview",
            "2015-07-01",
        ]
    }

    fn not_acted_upon(&self) -> &'static [&'static str] {
        &["condition", "conditionVersion", "delegatedManagedIdentityResourceId"]
    }

    fn placement(&self) -> Placement {
        Placement::None
    }

    fn provisioning_state(&self) -> bool {
        false
    }

    fn delete_shows(&self) -> bool {
        true
    }

    fn check_name(&self, name: &str) -> Result<(), ArmError> {
        Uuid::parse_str(name).map(|_| ()).map_err(|_| {
            ArmError::bad_request(
                "InvalidRoleAssignmentId",
                format!("The role assignment ID '{name}' is not valid. The role assignment ID must be a GUID."),
            )
        })
    }

    fn desired(
        &self,
        context: &Context,
        write: &Write<'_>,
        _: &mut Batch,
    ) -> Result<Value, ArmError> {
        let scope = write.id.scope();
        let mut body = SCHEMA.apply(write)?;
        let properties = &mut body["properties"];
        let wanted = properties["roleDefinitionId"].as_str().unwrap_or_default().to_owned();
        let role_id = last(&wanted).to_ascii_lowercase();
        let writes = Permission::DataAction("Microsoft.KeyVault/vaults/secrets/setSecret/action");
        let found = match roles::find(&role_id) {
            Some(role) => Some((role.name.to_owned(), role.grants(writes))),
            None => authorization::custom(&context.store, &role_id).map(|role| {
                let name = role.text("/properties/roleName").unwrap_or_default().to_owned();
                (name, roles::custom_grants(&role.properties()["permissions"], writes))
            }),
        };
        let (role_name, writes_secrets) = found.ok_or_else(|| {
            ArmError::bad_request(
                "RoleDefinitionDoesNotExist",
                format!(
                    "The specified role definition with ID '{}' does not exist.",
                    wanted.rsplit('/').next().unwrap_or_default()
                ),
            )
        })?;
        let principal = properties["principalId"].as_str().unwrap_or_default().to_owned();
        if Uuid::parse_str(&principal).is_err() {
            return Err(ArmError::bad_request(
                "InvalidPrincipalId",
                format!(
                    "The Principal ID '{principal}' is not valid. Principal ID must be a GUID."
                ),
            ));
        }
        // A client that says what the principal is may be ahead of the directory.
        let told = write.body["properties"]["principalType"].is_string();
        if write.creates() && !told && !context.identity.exists(&principal) {
            return Err(ArmError::bad_request(
                "PrincipalNotFound",
                format!(
                    "Principal {} does not exist in the directory {}. Check that you have the correct principal ID. If you are creating this principal and then immediately assigning a role, this error might be related to a replication delay. In this case, set the role assignment principalType property to a value, such as ServicePrincipal, User, or Group.",
                    principal.replace('-', ""),
                    context.tenancy.tenant_id
                ),
            ));
        }
        if let Some(kind) = context.identity.principal_type(&principal) {
            let given = properties["principalType"].as_str().unwrap_or_default();
            if told && given != kind {
                return Err(ArmError::bad_request(
                    "UnmatchedPrincipalType",
                    format!(
                        "The PrincipalId '{}' has type '{kind}', which is different from specified PrincipalType '{given}'.",
                        principal.replace('-', "")
                    ),
                ));
            }
            properties["principalType"] = json!(kind);
        }
        refuse_officer(context, &role_name, writes_secrets, &principal)?;
        if let Some(existing) = write.existing {
            let same = |pointer: &str, value: &str| {
                existing
                    .text(pointer)
                    .is_some_and(|old| last(old).eq_ignore_ascii_case(last(value)))
            };
            if write.method == Method::Put
                && !(same("/properties/principalId", &principal)
                    && same("/properties/roleDefinitionId", &wanted))
            {
                return Err(ArmError::conflict(
                    "RoleAssignmentUpdateNotPermitted",
                    "Tenant ID, application ID, principal ID, and scope are not allowed to be updated.",
                ));
            }
        } else if let Some(twin) = context.store.role_assignments(&scope).iter().find(|one| {
            one.text("/properties/principalId").is_some_and(|p| p.eq_ignore_ascii_case(&principal))
                && one
                    .text("/properties/roleDefinitionId")
                    .is_some_and(|r| last(r).eq_ignore_ascii_case(&role_id))
        }) {
            return Err(ArmError::conflict(
                "RoleAssignmentExists",
                format!(
                    "The role assignment already exists. The ID of the existing role assignment is {}.",
                    twin.id.name().replace('-', "")
                ),
            ));
        }
        let now = json!(jiff::Timestamp::now());
        properties["scope"] = json!(scope);
        if write.creates() {
            properties["createdOn"] = now.clone();
            properties["createdBy"] = json!(write.caller.object_id);
        }
        properties["updatedOn"] = now;
        properties["updatedBy"] = json!(write.caller.object_id);
        Ok(body)
    }

    fn list(
        &self,
        context: &Context,
        scope: &ResourceId,
        query: &Query,
    ) -> Result<Vec<Arc<Resource>>, ArmError> {
        let text = query.get("$filter");
        let filter = Filter::parse(text)?;
        let at_scope = text.is_some_and(|text| text.to_ascii_lowercase().contains("atscope()"));
        let above = scope.ancestors().flat_map(|at| context.store.role_assignments(&at));
        let here = if at_scope {
            context.store.role_assignments(scope)
        } else {
            context.store.list(self.kind(), scope)
        };
        let principal = filter.equal("principalId");
        Ok(here
            .into_iter()
            .chain(above)
            .filter(|one| {
                principal.is_none_or(|wanted| {
                    one.text("/properties/principalId")
                        .is_some_and(|p| p.eq_ignore_ascii_case(wanted))
                })
            })
            .collect())
    }
}

/// The standard's rule, which Azure would enforce by a policy of the subscription: what an app runs as
/// reads secrets and no more (*Access Control*: never Key Vault Secrets Officer for an application).
fn refuse_officer(
    context: &Context,
    role: &str,
    writes: bool,
    principal: &str,
) -> Result<(), ArmError> {
    let site = context.identity.owner(principal);
    let Some(site) = site.filter(|id| id.kind().starts_with("Microsoft.Web/sites")) else {
        return Ok(());
    };
    if !writes {
        return Ok(());
    }
    Err(ArmError::new(
        http::StatusCode::FORBIDDEN,
        "RequestDisallowedByPolicy",
        format!(
            "The role {role} was disallowed by policy: {principal} is the identity of {site}, and an application's identity may only read secrets. Assign Key Vault Secrets User instead."
        ),
    ))
}

fn last(text: &str) -> &str {
    text.rsplit('/').next().unwrap_or(text)
}

/// Makes the deployer Owner of the subscription when nobody has any rights there yet.
pub(crate) async fn ensure_owner(context: &Context) -> Result<(), StoreError> {
    let subscription = context.subscription();
    let deployer = context.identity.deployer();
    let owner = "8e3af657-a8ff-443c-a75c-2fe8c4bcb635";
    let assigned = context.store.role_assignments(&subscription);
    if assigned.iter().any(|one| one.text("/properties/principalId") == Some(&deployer.object_id)) {
        return Ok(());
    }
    let Ok(id) = subscription
        .resource("Microsoft.Authorization/roleAssignments", &Uuid::new_v4().to_string())
    else {
        return Ok(());
    };
    let now = jiff::Timestamp::now();
    let mut batch = Batch::new();
    batch.put(
        &id,
        json!({ "properties": {
            "roleDefinitionId": format!("{subscription}/providers/Microsoft.Authorization/roleDefinitions/{owner}"),
            "principalId": deployer.object_id,
            "principalType": "ServicePrincipal",
            "scope": subscription,
            "createdOn": now, "createdBy": deployer.object_id,
            "updatedOn": now, "updatedBy": deployer.object_id,
        }}),
    );
    context.store.commit(batch).await
}
