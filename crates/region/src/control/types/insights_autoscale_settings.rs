//! `Microsoft.Insights/autoscaleSettings`
//! (<https://learn.microsoft.com/rest/api/monitor/autoscale-settings>). Kept and checked; nothing
//! scales by itself yet.

use serde_json::{Value, json};

use super::{Placement, Style, Write, stored::Stored};
use crate::control::{
    Context,
    error::ArmError,
    schema::{self, Schema},
};

/// Autoscale settings.
pub(super) const AUTOSCALE_SETTINGS: Stored = Stored {
    kind: "Microsoft.Insights/autoscaleSettings",
    api_versions: &["2022-10-01", "2021-05-01-preview", "2015-04-01"],
    not_acted_upon: &["(all): nothing scales by itself"],
    placement: Placement::Regional,
    schema: Schema(&[
        schema::boolean("enabled").or_bool(true),
        schema::array("profiles").required(),
        schema::array("notifications"),
        schema::text("targetResourceUri").required(),
        schema::text("targetResourceLocation"),
        schema::text("name"),
        schema::object("predictiveAutoscalePolicy"),
    ]),
    provisioning_state: false,
    style: Style::Sync,
    settle,
};

fn settle(_: &Context, write: &Write<'_>, body: &mut Value) -> Result<(), ArmError> {
    let invalid = |message: String| Err(ArmError::bad_request("InvalidAutoscaleSetting", message));
    for profile in body["properties"]["profiles"].as_array().into_iter().flatten() {
        let name = profile["name"].as_str().unwrap_or_default();
        let mut limits = [0_u32; 3];
        for (limit, key) in limits.iter_mut().zip(["minimum", "default", "maximum"]) {
            // Azure's wire type is a string that holds a number.
            let value = &profile["capacity"][key];
            let Some(number) = value.as_str().and_then(|text| text.parse().ok()) else {
                return invalid(format!(
                    "The profile '{name}' needs 'capacity.{key}', a number as a string."
                ));
            };
            *limit = number;
        }
        let [minimum, default, maximum] = limits;
        if minimum > maximum || !(minimum..=maximum).contains(&default) {
            return invalid(format!(
                "The capacity of the profile '{name}' must satisfy minimum <= default <= maximum."
            ));
        }
        if profile["rules"].as_array().is_some_and(|rules| rules.len() > 10) {
            return invalid(format!("The profile '{name}' has more than 10 rules."));
        }
    }
    body["properties"]["name"] = json!(write.id.name());
    Ok(())
}
