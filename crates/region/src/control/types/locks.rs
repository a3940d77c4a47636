//! `Microsoft.Authorization/locks`: management locks
//! (<https://learn.microsoft.com/rest/api/resources/management-locks>). The router asks [`admit`] before
//! every change: `CanNotDelete` keeps a scope and all below it from being deleted, `ReadOnly` from being
//! changed at all, whatever rights the caller has.

use lazuli_azure::ResourceId;
use serde_json::Value;

use super::{Placement, ResourceType, Style, Write};
use crate::{
    control::{
        Context,
        error::ArmError,
        schema::{self, Schema},
    },
    store::{Batch, Store},
};

/// Management locks.
pub(super) struct Locks;

const KIND: &str = "Microsoft.Authorization/locks";

const SCHEMA: Schema = Schema(&[
    schema::choice("level", &["CanNotDelete", "ReadOnly"]).required(),
    schema::text("notes"),
    schema::array("owners"),
]);

/// What is about to happen to a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// It is written, or an action is done with it.
    Write,
    /// It is deleted, and all below it.
    Delete,
}

/// Refuses what a lock forbids. Locks do not guard themselves.
pub(crate) fn admit(store: &Store, id: &ResourceId, change: Change) -> Result<(), ArmError> {
    if id.is(KIND) {
        return Ok(());
    }
    let within = |inner: &ResourceId, outer: &ResourceId| {
        inner == outer
            || inner.key().strip_prefix(outer.key()).is_some_and(|rest| rest.starts_with('/'))
    };
    let mut locked: Vec<String> = store
        .list(KIND, &ResourceId::root())
        .iter()
        .filter(|lock| {
            let scope = lock.id.scope();
            match change {
                Change::Write => {
                    lock.text("/properties/level") == Some("ReadOnly") && within(id, &scope)
                }
                Change::Delete => within(id, &scope) || within(&scope, id),
            }
        })
        .map(|lock| lock.id.scope().to_string())
        .collect();
    if locked.is_empty() {
        return Ok(());
    }
    locked.dedup();
    let verb = match change {
        Change::Write => "write",
        Change::Delete => "delete",
    };
    Err(ArmError::conflict(
        "ScopeLocked",
        format!(
            "The scope '{id}' cannot perform {verb} operation because following scope(s) are locked: '{}'. Please remove the lock and try again.",
            locked.join("','")
        ),
    ))
}

impl ResourceType for Locks {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn api_versions(&self) -> &'static [&'static str] {
        &["2020-05-01", "2017-04-01", "2016-09-01", "2015-01-01"]
    }

    fn not_acted_upon(&self) -> &'static [&'static str] {
        &["owners"]
    }

    fn placement(&self) -> Placement {
        Placement::None
    }

    fn provisioning_state(&self) -> bool {
        false
    }

    fn check_name(&self, name: &str) -> Result<(), ArmError> {
        if name.chars().count() <= 90 && !name.ends_with('.') {
            return Ok(());
        }
        Err(crate::control::names::invalid(
            KIND,
            name,
            "1 to 90 characters long and may not end in '.'",
        ))
    }

    fn desired(&self, _: &Context, write: &Write<'_>, _: &mut Batch) -> Result<Value, ArmError> {
        SCHEMA.apply(write)
    }

    fn write_style(&self, _: &Write<'_>) -> Style {
        Style::Sync
    }
}
