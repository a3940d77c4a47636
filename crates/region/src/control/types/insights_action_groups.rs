//! `Microsoft.Insights/actionGroups`: whom alerts tell
//! (<https://learn.microsoft.com/rest/api/monitor/action-groups>). Kept; nobody is told yet.

use super::{
    Placement, Style,
    stored::{Stored, nothing},
};
use crate::control::schema::{self, Schema};

/// Action groups.
pub(super) const ACTION_GROUPS: Stored = Stored {
    kind: "Microsoft.Insights/actionGroups",
    api_versions: &["2023-01-01", "2022-06-01", "2021-09-01", "2019-06-01"],
    not_acted_upon: &["(all): nobody is notified"],
    placement: Placement::Global,
    schema: Schema(&[
        schema::text("groupShortName").required(),
        schema::boolean("enabled").or_bool(true),
        schema::array("emailReceivers").or_empty(),
        schema::array("smsReceivers").or_empty(),
        schema::array("webhookReceivers").or_empty(),
        schema::array("itsmReceivers").or_empty(),
        schema::array("azureAppPushReceivers").or_empty(),
        schema::array("automationRunbookReceivers").or_empty(),
        schema::array("voiceReceivers").or_empty(),
        schema::array("logicAppReceivers").or_empty(),
        schema::array("azureFunctionReceivers").or_empty(),
        schema::array("armRoleReceivers").or_empty(),
        schema::array("eventHubReceivers").or_empty(),
    ]),
    provisioning_state: false,
    style: Style::Sync,
    settle: nothing,
};
