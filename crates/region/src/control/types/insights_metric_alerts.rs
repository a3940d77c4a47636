//! `Microsoft.Insights/metricAlerts`
//! (<https://learn.microsoft.com/rest/api/monitor/metric-alerts>). Kept; no rule fires yet.

use super::{
    Placement, Style,
    stored::{Stored, nothing},
};
use crate::control::schema::{self, Schema};

/// Metric alerts.
pub(super) const METRIC_ALERTS: Stored = Stored {
    kind: "Microsoft.Insights/metricAlerts",
    api_versions: &["2018-03-01"],
    not_acted_upon: &["(all): no rule fires"],
    placement: Placement::Global,
    schema: Schema(&[
        schema::text("description"),
        schema::integer("severity", 0..=4).required(),
        schema::boolean("enabled").required(),
        schema::array("scopes").required(),
        schema::text("evaluationFrequency").required(),
        schema::text("windowSize").required(),
        schema::object("criteria").required(),
        schema::text("criteria/odata.type").required(),
        schema::boolean("autoMitigate").or_bool(true),
        schema::array("actions").or_empty(),
        schema::text("targetResourceType"),
        schema::text("targetResourceRegion"),
    ]),
    provisioning_state: false,
    style: Style::SyncOk,
    settle: nothing,
};
