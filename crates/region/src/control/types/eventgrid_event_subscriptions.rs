//! `Microsoft.EventGrid/eventSubscriptions`, an extension of any resource: where its events go
//! (<https://learn.microsoft.com/rest/api/eventgrid/controlplane/event-subscriptions>). A vault's are
//! delivered by [`crate::vault::expiry`]; no other resource of the region has events.

use serde_json::{Value, json};

use super::{Placement, Style, Write, stored::Stored};
use crate::control::{
    Context,
    error::ArmError,
    schema::{self, Schema},
};

/// Event subscriptions.
pub(super) const EVENT_SUBSCRIPTIONS: Stored = Stored {
    kind: "Microsoft.EventGrid/eventSubscriptions",
    api_versions: &["2025-02-15", "2022-06-15"],
    not_acted_upon: &[
        "deadLetterDestination",
        "expirationTimeUtc",
        "filter/subjectBeginsWith, subjectEndsWith, advancedFilters",
        "retryPolicy: once a minute until it is taken",
        "resources other than vaults",
    ],
    placement: Placement::None,
    schema: Schema(&[
        schema::object("destination"),
        schema::choice("destination/endpointType", &["WebHook"]).required(),
        schema::text("destination/properties/endpointUrl").required(),
        schema::object("filter"),
        schema::array("labels").or_empty(),
        schema::choice("eventDeliverySchema", &["EventGridSchema"]).or_text("EventGridSchema"),
        schema::object("retryPolicy"),
        schema::object("deadLetterDestination"),
        schema::text("expirationTimeUtc"),
        schema::any("topic").read_only(),
    ]),
    provisioning_state: true,
    style: Style::Sync,
    settle,
};

fn settle(_: &Context, write: &Write<'_>, body: &mut Value) -> Result<(), ArmError> {
    let url = body["properties"]["destination"]["properties"]["endpointUrl"].as_str();
    let url = url.unwrap_or_default();
    let parsed: Option<http::Uri> = url.parse().ok();
    if !parsed.is_some_and(|uri| uri.scheme_str() == Some("https") && uri.host().is_some()) {
        return Err(ArmError::bad_request(
            "Invalid request",
            format!(
                "The specified endpoint URL '{url}' is not valid: a webhook has an https address."
            ),
        ));
    }
    body["properties"]["topic"] = json!(write.id.scope());
    Ok(())
}
