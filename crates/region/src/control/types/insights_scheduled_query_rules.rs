//! `Microsoft.Insights/scheduledQueryRules`
//! (<https://learn.microsoft.com/rest/api/monitor/scheduled-query-rules>). Kept; no query runs yet.

use super::{
    Placement, Style,
    stored::{Stored, nothing},
};
use crate::control::schema::{self, Schema};

/// Alerts on log queries.
pub(super) const SCHEDULED_QUERY_RULES: Stored = Stored {
    kind: "Microsoft.Insights/scheduledQueryRules",
    api_versions: &["2023-12-01", "2023-03-15-preview", "2022-06-15", "2021-08-01"],
    not_acted_upon: &["(all): no query runs"],
    placement: Placement::Regional,
    schema: Schema(&[
        schema::text("description"),
        schema::text("displayName"),
        schema::integer("severity", 0..=4),
        schema::boolean("enabled").or_bool(true),
        schema::array("scopes").required(),
        schema::text("evaluationFrequency"),
        schema::text("windowSize"),
        schema::object("criteria").required(),
        schema::array("criteria/allOf").required(),
        schema::object("actions"),
        schema::boolean("autoMitigate"),
        schema::boolean("checkWorkspaceAlertsStorageConfigured"),
        schema::boolean("skipQueryValidation"),
    ]),
    provisioning_state: false,
    style: Style::Sync,
    settle: nothing,
};
