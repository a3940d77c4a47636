//! `Microsoft.Resources/resourceGroups`: a container; deleting it deletes what it holds, in the
//! background (<https://learn.microsoft.com/rest/api/resources/resource-groups>).

use std::sync::Arc;

use futures_util::future::BoxFuture;
use lazuli_azure::ResourceId;
use serde_json::Value;

use super::{LongRunning, Placement, ResourceType, Style, Write};
use crate::{
    control::{
        Context,
        error::ArmError,
        names, operation,
        schema::{self, Schema},
    },
    store::{Batch, Resource},
};

/// Resource groups.
pub(super) struct ResourceGroups;

const SCHEMA: Schema = Schema(&[
    schema::text("/location").required().immutable(),
    schema::object("/tags"),
    schema::text("/managedBy").immutable(),
]);

impl ResourceType for ResourceGroups {
    fn kind(&self) -> &'static str {
        "Microsoft.Resources/resourceGroups"
    }

    fn api_versions(&self) -> &'static [&'static str] {
        &["2025-04-01", "2024-11-01", "2023-07-01", "2022-09-01", "2021-04-01", "2020-06-01"]
    }

    fn not_acted_upon(&self) -> &'static [&'static str] {
        &["managedBy"]
    }

    fn placement(&self) -> Placement {
        Placement::Regional
    }

    fn check_name(&self, name: &str) -> Result<(), ArmError> {
        names::check(
            name,
            1..=90,
            |c| c.is_alphanumeric() || matches!(c, '-' | '_' | '(' | ')' | '.'),
            |name| !name.ends_with('.'),
        )
        .map_err(|()| {
            ArmError::bad_request(
                "InvalidResourceGroup",
                format!(
                    "The provided resource group name '{name}' has these invalid characters or length. The name can only be a letter, digit, '-', '.', '(', ')' or '_', up to 90 of them, and may not end in '.'."
                ),
            )
        })
    }

    fn desired(&self, _: &Context, write: &Write<'_>, _: &mut Batch) -> Result<Value, ArmError> {
        SCHEMA.apply(write)
    }

    fn delete_style(&self) -> Style {
        Style::LongRunning(LongRunning::LOCATION)
    }

    fn deprovision<'a>(
        &'a self,
        context: &'a Arc<Context>,
        resource: &'a Resource,
    ) -> BoxFuture<'a, Result<(), ArmError>> {
        Box::pin(empty(context, &resource.id))
    }
}

/// Deletes everything in the group. A resource that another one still needs is refused at first and
/// deleted in a later round; one that its own children keep (a DNS zone with links) goes after them.
async fn empty(context: &Arc<Context>, group: &ResourceId) -> Result<(), ArmError> {
    loop {
        let resources: Vec<_> = context
            .store
            .list_below(group)
            .into_iter()
            .filter(|resource| resource.id.parent().as_ref() == Some(group))
            .collect();
        let mut refused = None;
        let mut progress = false;
        for resource in &resources {
            if operation::remove(context, &resource.id).await.is_ok() {
                progress = true;
                continue;
            }
            let mut below = context.store.list_below(&resource.id);
            below.sort_by_key(|child| std::cmp::Reverse(child.id.key().matches('/').count()));
            for child in below {
                if operation::remove(context, &child.id).await.is_ok() {
                    progress = true;
                }
            }
            match operation::remove(context, &resource.id).await {
                Ok(()) => progress = true,
                Err(error) => refused = Some(error),
            }
        }
        match refused {
            None if resources.is_empty() => return Ok(()),
            Some(error) if !progress => return Err(error),
            _ => {}
        }
    }
}
