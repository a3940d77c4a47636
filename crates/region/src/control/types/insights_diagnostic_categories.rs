//! `Microsoft.Insights/diagnosticSettingsCategories`: which logs and metrics a resource can send by a
//! diagnostic setting (<https://learn.microsoft.com/rest/api/monitor/diagnostic-settings-category>).
//! The categories of each type: <https://learn.microsoft.com/azure/azure-monitor/reference/logs-index>.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::{Method as Verb, StatusCode};
use lazuli_azure::ResourceId;
use serde_json::{Value, json};

use super::{Call, Registry, Reply};
use crate::control::{Context, error::ArmError};

const KIND: &str = "microsoft.insights/diagnosticSettingsCategories";

/// What a type of resource can send. `audit` names those log categories that are in the group `audit`
/// besides `allLogs`.
pub(super) struct Categories {
    kind: &'static str,
    pub(super) logs: &'static [&'static str],
    audit: &'static [&'static str],
    pub(super) metrics: &'static [&'static str],
}

const ALL_METRICS: &[&str] = &["AllMetrics"];
const SITE: (&[&str], &[&str]) = (
    &[
        "AppServiceAntivirusScanAuditLogs",
        "AppServiceAppLogs",
        "AppServiceAuditLogs",
        "AppServiceAuthenticationLogs",
        "AppServiceConsoleLogs",
        "AppServiceFileAuditLogs",
        "AppServiceHTTPLogs",
        "AppServiceIPSecAuditLogs",
        "AppServicePlatformLogs",
    ],
    &[],
);

const fn of(
    kind: &'static str,
    (logs, audit): (&'static [&'static str], &'static [&'static str]),
    metrics: &'static [&'static str],
) -> Categories {
    Categories { kind, logs, audit, metrics }
}

const CATEGORIES: &[Categories] = &[
    of(
        "Microsoft.Cache/redis",
        (
            &["ConnectedClientList", "MSEntraAuthenticationAuditLog"],
            &["ConnectedClientList", "MSEntraAuthenticationAuditLog"],
        ),
        ALL_METRICS,
    ),
    of("Microsoft.Cache/redisEnterprise", (&[], &[]), ALL_METRICS),
    of(
        "Microsoft.Cache/redisEnterprise/databases",
        (&["ConnectionEvents"], &["ConnectionEvents"]),
        &[],
    ),
    of(
        "Microsoft.CognitiveServices/accounts",
        (&["Audit", "AzureOpenAIRequestUsage", "RequestResponse", "Trace"], &["Audit"]),
        ALL_METRICS,
    ),
    of(
        "Microsoft.DBforPostgreSQL/flexibleServers",
        (
            &[
                "PostgreSQLFlexDatabaseXacts",
                "PostgreSQLFlexPGBouncer",
                "PostgreSQLFlexQueryStoreRuntime",
                "PostgreSQLFlexQueryStoreWaitStats",
                "PostgreSQLFlexSessions",
                "PostgreSQLFlexTableStats",
                "PostgreSQLLogs",
            ],
            &["PostgreSQLLogs"],
        ),
        ALL_METRICS,
    ),
    of(
        "Microsoft.Insights/autoscaleSettings",
        (&["AutoscaleEvaluations", "AutoscaleScaleActions"], &[]),
        ALL_METRICS,
    ),
    of(
        "Microsoft.Insights/components",
        (
            &[
                "AppAvailabilityResults",
                "AppBrowserTimings",
                "AppDependencies",
                "AppEvents",
                "AppExceptions",
                "AppMetrics",
                "AppPageViews",
                "AppPerformanceCounters",
                "AppRequests",
                "AppSystemEvents",
                "AppTraces",
            ],
            &[],
        ),
        ALL_METRICS,
    ),
    of(
        "Microsoft.KeyVault/vaults",
        (&["AuditEvent", "AzurePolicyEvaluationDetails"], &["AuditEvent"]),
        ALL_METRICS,
    ),
    of(
        "Microsoft.Network/networkSecurityGroups",
        (&["NetworkSecurityGroupEvent", "NetworkSecurityGroupRuleCounter"], &[]),
        &[],
    ),
    of("Microsoft.Network/networkInterfaces", (&[], &[]), ALL_METRICS),
    of("Microsoft.Network/virtualNetworks", (&["VMProtectionAlerts"], &[]), ALL_METRICS),
    of(
        "Microsoft.OperationalInsights/workspaces",
        (&["Audit", "SummaryLogs"], &["Audit"]),
        ALL_METRICS,
    ),
    of("Microsoft.Storage/storageAccounts", (&[], &[]), &["Capacity", "Transaction"]),
    of(
        "Microsoft.Storage/storageAccounts/blobServices",
        (
            &["StorageDelete", "StorageRead", "StorageWrite"],
            &["StorageDelete", "StorageRead", "StorageWrite"],
        ),
        &["Capacity", "Transaction"],
    ),
    of(
        "Microsoft.Storage/storageAccounts/fileServices",
        (
            &["StorageDelete", "StorageRead", "StorageWrite"],
            &["StorageDelete", "StorageRead", "StorageWrite"],
        ),
        &["Capacity", "Transaction"],
    ),
    of("Microsoft.Web/serverfarms", (&[], &[]), ALL_METRICS),
    of("Microsoft.Web/sites", SITE, ALL_METRICS),
    of("Microsoft.Web/sites/slots", SITE, ALL_METRICS),
    of(
        "Microsoft.Web/staticSites",
        (&["StaticSiteDiagnosticLogs", "StaticSiteHttpLogs"], &[]),
        ALL_METRICS,
    ),
];

impl Categories {
    /// What resources of a type can send. None: it takes no diagnostic setting.
    pub(super) fn of(kind: &str) -> Option<&'static Self> {
        CATEGORIES.iter().find(|one| one.kind.eq_ignore_ascii_case(kind))
    }

    /// The groups that a log category is in.
    fn groups(&self, log: &str) -> Vec<&'static str> {
        let audit = self.audit.contains(&log).then_some("audit");
        audit.into_iter().chain(["allLogs"]).collect()
    }

    /// Whether a setting may name this group.
    pub(super) fn has_group(&self, group: &str) -> bool {
        !self.logs.is_empty() && group.eq_ignore_ascii_case("allLogs")
            || !self.audit.is_empty() && group.eq_ignore_ascii_case("audit")
    }

    fn shown(&self, scope: &ResourceId) -> Vec<Value> {
        let one = |name: &str, properties: Value| {
            json!({
                "id": format!("{scope}/providers/{KIND}/{name}"),
                "name": name,
                "type": KIND,
                "properties": properties,
            })
        };
        let metrics = self
            .metrics
            .iter()
            .map(|name| one(name, json!({ "categoryType": "Metrics", "categoryGroups": null })));
        let logs = self.logs.iter().map(|name| {
            one(name, json!({ "categoryType": "Logs", "categoryGroups": self.groups(name) }))
        });
        metrics.chain(logs).collect()
    }
}

/// The refusal of a type that has nothing to send.
pub(super) fn unsupported(kind: &str) -> ArmError {
    ArmError::bad_request(
        "ResourceTypeNotSupported",
        format!(
            "The resource type '{}' does not support diagnostic settings.",
            kind.to_ascii_lowercase()
        ),
    )
}

/// Adds this file's routes.
pub(super) fn register(types: &mut Registry) {
    let read = Some("Microsoft.Insights/DiagnosticSettingsCategories/Read");
    types.route(
        Verb::GET,
        "**/providers/microsoft.insights/diagnosticsettingscategories",
        read,
        answer,
    );
    types.route(
        Verb::GET,
        "**/providers/microsoft.insights/diagnosticsettingscategories/{}",
        read,
        answer,
    );
}

fn answer<'a>(
    context: &'a Arc<Context>,
    call: &'a Call<'a>,
) -> BoxFuture<'a, Result<Reply, ArmError>> {
    Box::pin(async move {
        let end =
            call.segments.iter().rposition(|segment| segment.eq_ignore_ascii_case("providers"));
        let end = end.unwrap_or_default();
        let scope = ResourceId::parse(&format!("/{}", call.segments[..end].join("/")))?;
        let kind = context.registry.get(scope.kind());
        if kind.is_none_or(|kind| kind.find(context, &scope).is_none()) {
            return Err(ArmError::not_found(&scope));
        }
        let categories = Categories::of(scope.kind()).ok_or_else(|| unsupported(scope.kind()))?;
        let mut all = categories.shown(&scope);
        let Some(name) = call.segments.get(end + 3) else {
            return Ok(Reply::ok(json!({ "value": all })));
        };
        all.retain(|one| one["name"].as_str().is_some_and(|have| have.eq_ignore_ascii_case(name)));
        all.pop().map(Reply::ok).ok_or_else(|| {
            ArmError::new(
                StatusCode::NOT_FOUND,
                "ResourceNotFound",
                format!("The category '{name}' of the resource '{scope}' was not found."),
            )
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::types::Registry;

    #[test]
    fn every_type_with_categories_is_one_of_the_regions() {
        let registry = Registry::new();
        for one in CATEGORIES {
            assert!(registry.get(one.kind).is_some(), "{}", one.kind);
            for audit in one.audit {
                assert!(one.logs.contains(audit), "{}: {audit}", one.kind);
            }
        }
    }
}
