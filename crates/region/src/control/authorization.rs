//! RBAC: whether a principal's role assignments, at a scope or above it, grant an action
//! (<https://learn.microsoft.com/azure/role-based-access-control/overview>).

use std::sync::Arc;

use lazuli_azure::ResourceId;

use super::roles;
use crate::store::{Resource, Store};

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission<'a> {
    /// Something in Resource Manager: `Microsoft.KeyVault/vaults/write`.
    Action(&'a str),
    /// Something with the data in a resource: `Microsoft.KeyVault/vaults/secrets/getSecret/action`.
    DataAction(&'a str),
}

/// Whether `principal` (an object ID) may do it at `scope`. Reads memory only.
pub fn allowed(
    store: &Store,
    principal: &str,
    permission: Permission<'_>,
    scope: &ResourceId,
) -> bool {
    std::iter::once(scope.clone())
        .chain(scope.ancestors())
        .any(|at| granted_at(store, principal, permission, &at))
}

fn granted_at(
    store: &Store,
    principal: &str,
    permission: Permission<'_>,
    scope: &ResourceId,
) -> bool {
    store.role_assignments(scope).iter().any(|assignment| {
        assignment
            .text("/properties/principalId")
            .is_some_and(|p| p.eq_ignore_ascii_case(principal))
            && assignment
                .text("/properties/roleDefinitionId")
                .and_then(|id| id.rsplit('/').next())
                .is_some_and(|role| match roles::find(role) {
                    Some(role) => role.grants(permission),
                    None => custom(store, role).is_some_and(|role| {
                        roles::custom_grants(&role.properties()["permissions"], permission)
                    }),
                })
    })
}

/// The custom role of this name, a GUID.
pub(super) fn custom(store: &Store, name: &str) -> Option<Arc<Resource>> {
    store
        .list("Microsoft.Authorization/roleDefinitions", &ResourceId::root())
        .into_iter()
        .find(|role| role.id.name().eq_ignore_ascii_case(name))
}
