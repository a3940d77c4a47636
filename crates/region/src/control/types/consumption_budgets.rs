//! `Microsoft.Consumption/budgets`, an extension of a group or subscription
//! (<https://learn.microsoft.com/rest/api/consumption/budgets>). A region costs nothing: kept only.

use serde_json::{Value, json};

use super::{Placement, Style, Write, stored::Stored};
use crate::control::{
    Context,
    error::ArmError,
    schema::{self, Schema},
};

/// Budgets.
pub(super) const BUDGETS: Stored = Stored {
    kind: "Microsoft.Consumption/budgets",
    api_versions: &["2024-08-01", "2023-11-01", "2021-10-01", "2019-10-01"],
    not_acted_upon: &["(all): a region has no costs"],
    placement: Placement::None,
    schema: Schema(&[
        schema::choice("category", &["Cost", "ReservationUtilization"]).or_text("Cost"),
        schema::number("amount").required(),
        schema::choice(
            "timeGrain",
            &[
                "Monthly",
                "Quarterly",
                "Annually",
                "BillingMonth",
                "BillingQuarter",
                "BillingAnnual",
            ],
        )
        .required(),
        schema::object("timePeriod").required(),
        schema::text("timePeriod/startDate").required(),
        schema::text("timePeriod/endDate"),
        schema::object("filter"),
        schema::object("notifications"),
        schema::any("currentSpend").read_only(),
    ]),
    provisioning_state: false,
    style: Style::Sync,
    settle,
};

fn settle(_: &Context, _: &Write<'_>, body: &mut Value) -> Result<(), ArmError> {
    let properties = &mut body["properties"];
    if properties["amount"].as_f64().is_none_or(|amount| amount <= 0.0) {
        return Err(ArmError::bad_request("400", "The budget amount must be greater than 0."));
    }
    let start = properties["timePeriod"]["startDate"].as_str().unwrap_or_default().to_owned();
    if !start.contains("-01") {
        return Err(ArmError::bad_request("400", "Start date should be first of the month."));
    }
    if !properties["timePeriod"]["endDate"].is_string() {
        // Ten years, as Azure has it.
        let year: i64 = start.get(..4).and_then(|year| year.parse().ok()).unwrap_or(2026);
        let rest = start.get(4..).unwrap_or("-01-01T00:00:00Z");
        properties["timePeriod"]["endDate"] = json!(format!("{}{rest}", year + 10));
    }
    properties["currentSpend"] = json!({ "amount": 0.0, "unit": "USD" });
    Ok(())
}
