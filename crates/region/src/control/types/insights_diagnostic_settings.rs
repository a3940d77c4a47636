//! `Microsoft.Insights/diagnosticSettings`, an extension of any resource
//! (<https://learn.microsoft.com/rest/api/monitor/diagnostic-settings>). What a vault records goes to the
//! workspace named here ([`crate::monitor`]); whatever else is kept and sends nothing.

use lazuli_azure::ResourceId;
use serde_json::{Value, json};

use super::{
    Placement, Style, Write,
    insights_diagnostic_categories::{Categories, unsupported},
    stored::Stored,
};
use crate::control::{
    Context,
    error::ArmError,
    schema::{self, Schema},
};

/// Diagnostic settings.
pub(super) const DIAGNOSTIC_SETTINGS: Stored = Stored {
    kind: "Microsoft.Insights/diagnosticSettings",
    api_versions: &["2021-05-01-preview"],
    not_acted_upon: &[
        "logs: of Key Vault, AuditEvent is sent; of others nothing",
        "metrics",
        "storageAccountId",
        "eventHubAuthorizationRuleId",
        "eventHubName",
        "marketplacePartnerId",
        "serviceBusRuleId",
    ],
    placement: Placement::None,
    schema: Schema(&[
        schema::text("workspaceId"),
        schema::text("storageAccountId"),
        schema::text("eventHubAuthorizationRuleId"),
        schema::text("eventHubName"),
        schema::text("marketplacePartnerId"),
        schema::text("serviceBusRuleId"),
        schema::text("logAnalyticsDestinationType"),
        schema::array("logs").or_empty(),
        schema::array("metrics").or_empty(),
    ]),
    provisioning_state: false,
    style: Style::SyncOk,
    settle,
};

fn settle(_: &Context, write: &Write<'_>, body: &mut Value) -> Result<(), ArmError> {
    let scope = write.id.parent().unwrap_or_else(ResourceId::root);
    // The subscription's own setting is for the activity log, whose categories are no resource's.
    if scope.namespace().is_some() {
        let categories = Categories::of(scope.kind()).ok_or_else(|| unsupported(scope.kind()))?;
        known(categories, &body["properties"])?;
    }
    let properties = &mut body["properties"];
    let sinks =
        ["workspaceId", "storageAccountId", "eventHubAuthorizationRuleId", "marketplacePartnerId"];
    if sinks.iter().all(|sink| properties[*sink].as_str().is_none_or(str::is_empty)) {
        return Err(ArmError::bad_request(
            "BadRequest",
            "At least one data sink needs to be specified.",
        ));
    }
    for list in ["logs", "metrics"] {
        for entry in properties[list].as_array_mut().into_iter().flatten() {
            if !entry["enabled"].is_boolean() {
                return Err(ArmError::invalid_content(format!(
                    "Every entry of '{list}' needs 'enabled'"
                )));
            }
            if entry.get("retentionPolicy").is_none_or(Value::is_null) {
                entry["retentionPolicy"] = json!({ "enabled": false, "days": 0 });
            }
        }
    }
    Ok(())
}

/// Every category or group that a setting names must be one of the resource's.
fn known(categories: &Categories, properties: &Value) -> Result<(), ArmError> {
    let lists = [("logs", categories.logs), ("metrics", categories.metrics)];
    for (list, names) in lists {
        for entry in properties[list].as_array().into_iter().flatten() {
            let given = |key: &str| entry[key].as_str().filter(|text| !text.is_empty());
            match (given("category"), given("categoryGroup")) {
                (Some(_), Some(_)) => {
                    return Err(ArmError::bad_request(
                        "BadRequest",
                        "A log setting takes 'category' or 'categoryGroup', not both.",
                    ));
                }
                (Some(name), None) if !names.iter().any(|one| one.eq_ignore_ascii_case(name)) => {
                    let what = if list == "logs" { "Category" } else { "Metric category" };
                    return Err(ArmError::bad_request(
                        "BadRequest",
                        format!("{what} '{name}' is not supported."),
                    ));
                }
                (None, Some(group)) if list == "metrics" || !categories.has_group(group) => {
                    return Err(ArmError::bad_request(
                        "BadRequest",
                        format!("Category group '{group}' is not supported."),
                    ));
                }
                _ => {}
            }
        }
    }
    Ok(())
}
