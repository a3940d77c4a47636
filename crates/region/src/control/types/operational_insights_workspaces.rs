//! `Microsoft.OperationalInsights/workspaces`: Log Analytics
//! (<https://learn.microsoft.com/rest/api/loganalytics/workspaces>). Takes in what diagnostic settings
//! send and answers queries: [`crate::monitor`].

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures_util::future::BoxFuture;
use http::Method as Verb;
use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Call, Registry, Reply, ResourceType, Write};
use crate::{
    control::{
        Context,
        error::ArmError,
        names,
        schema::{self, Schema},
    },
    store::{Batch, Resource},
};

/// Workspaces.
pub(super) struct Workspaces;

/// Sealed keys, by resource.
const KEYS: &str = "operationalinsights.keys";

const SCHEMA: Schema = Schema(&[
    schema::choice(
        "sku/name",
        &[
            "PerGB2018",
            "Free",
            "Standalone",
            "PerNode",
            "CapacityReservation",
            "LACluster",
            "Premium",
            "Standard",
        ],
    )
    .or_text("PerGB2018"),
    schema::integer("retentionInDays", 7..=730).or_int(30),
    schema::number("workspaceCapping/dailyQuotaGb"),
    schema::boolean("features/enableLogAccessUsingOnlyResourcePermissions").or_bool(true),
    schema::boolean("features/disableLocalAuth"),
    schema::boolean("features/immediatePurgeDataOn30Days"),
    schema::choice(
        "publicNetworkAccessForIngestion",
        &["Enabled", "Disabled", "SecuredByPerimeter"],
    )
    .or_text("Enabled"),
    schema::choice("publicNetworkAccessForQuery", &["Enabled", "Disabled", "SecuredByPerimeter"])
        .or_text("Enabled"),
    schema::any("customerId").read_only(),
    schema::any("createdDate").read_only(),
    schema::any("modifiedDate").read_only(),
]);

/// Adds this file's routes.
pub(super) fn register(types: &mut Registry) {
    types.route(
        Verb::GET,
        "/subscriptions/{}/providers/microsoft.operationalinsights/deletedworkspaces",
        Some("Microsoft.OperationalInsights/deletedWorkspaces/read"),
        none_deleted,
    );
}

/// The region forgets a deleted workspace at once.
fn none_deleted<'a>(
    _: &'a Arc<Context>,
    _: &'a Call<'a>,
) -> BoxFuture<'a, Result<Reply, ArmError>> {
    Box::pin(async { Ok(Reply::ok(json!({ "value": [] }))) })
}

impl ResourceType for Workspaces {
    fn kind(&self) -> &'static str {
        "Microsoft.OperationalInsights/workspaces"
    }

    fn api_versions(&self) -> &'static [&'static str] {
        &["2025-07-01", "2025-02-01", "2023-09-01", "2022-10-01", "2020-08-01"]
    }

    fn not_acted_upon(&self) -> &'static [&'static str] {
        &[
            "workspaceCapping",
            "publicNetworkAccessForIngestion",
            "publicNetworkAccessForQuery",
            "features",
            "sharedKeys: nothing is taken in by them",
        ]
    }

    fn check_name(&self, name: &str) -> Result<(), ArmError> {
        names::check(
            name,
            4..=63,
            |c| c.is_ascii_alphanumeric() || c == '-',
            |name| !name.starts_with('-') && !name.ends_with('-'),
        )
        .map_err(|()| {
            names::invalid(
                self.kind(),
                name,
                "4 to 63 letters, digits or '-', not beginning or ending with '-'",
            )
        })
    }

    fn desired(
        &self,
        context: &Context,
        write: &Write<'_>,
        batch: &mut Batch,
    ) -> Result<Value, ArmError> {
        let mut body = SCHEMA.apply(write)?;
        let now = json!(Timestamp::now());
        let properties = &mut body["properties"];
        if write.creates() {
            properties["customerId"] = json!(Uuid::new_v4());
            properties["createdDate"] = now.clone();
            batch.put_state(KEYS, write.id.key(), keys(context, write.id.key())?);
        }
        properties["modifiedDate"] = now;
        properties["sku"]["lastSkuUpdate"] = properties["createdDate"].clone();
        let quota = properties["workspaceCapping"]["dailyQuotaGb"].as_f64().unwrap_or(-1.0);
        properties["workspaceCapping"] = json!({
            "dailyQuotaGb": quota, "dataIngestionStatus": "RespectQuota",
            "quotaNextResetTime": properties["createdDate"],
        });
        properties["features"]["legacy"] = json!(0);
        properties["features"]["searchVersion"] = json!(1);
        Ok(body)
    }

    fn act<'a>(
        &'a self,
        context: &'a Arc<Context>,
        call: &'a Call<'a>,
    ) -> BoxFuture<'a, Result<Reply, ArmError>> {
        Box::pin(async move {
            match (call.method.clone(), call.action.as_str()) {
                (Verb::POST, "sharedkeys") => shared(context, call).map(Reply::ok),
                (Verb::POST, "regeneratesharedkey") => {
                    let mut batch = Batch::new();
                    batch.put_state(KEYS, call.id.key(), keys(context, call.id.key())?);
                    context.store.commit(batch).await?;
                    shared(context, call).map(Reply::ok)
                }
                _ => Err(ArmError::method_not_allowed(&call.method)),
            }
        })
    }

    fn deletable(
        &self,
        _: &Context,
        resource: &Resource,
        batch: &mut Batch,
    ) -> Result<(), ArmError> {
        batch.delete_state(KEYS, resource.id.key());
        Ok(())
    }
}

fn keys(context: &Context, place: &str) -> Result<Vec<u8>, ArmError> {
    let mut bytes = zeroize::Zeroizing::new([0_u8; 128]);
    aws_lc_rs::rand::fill(&mut *bytes).map_err(|error| ArmError::internal(&error))?;
    Ok(context.sealer.seal(place, &*bytes))
}

fn shared(context: &Context, call: &Call<'_>) -> Result<Value, ArmError> {
    let sealed = context
        .store
        .get_state(KEYS, call.id.key())
        .ok_or_else(|| ArmError::not_found(&call.id))?;
    let bytes = context
        .sealer
        .open_sealed(call.id.key(), &sealed)
        .map_err(|error| ArmError::internal(&error))?;
    let (first, second) = bytes.split_at(bytes.len() / 2);
    Ok(json!({
        "primarySharedKey": STANDARD.encode(first), "secondarySharedKey": STANDARD.encode(second),
    }))
}
