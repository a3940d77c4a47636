//! `Microsoft.Insights/components`: Application Insights
//! (<https://learn.microsoft.com/rest/api/application-insights/components>). The resource and its
//! keys are real records; no telemetry is taken in yet.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::Method as Verb;
use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Call, Reply, ResourceType, Style, Write};
use crate::{
    control::{
        Context,
        error::ArmError,
        schema::{self, Schema},
    },
    store::Batch,
};

/// Application Insights.
pub(super) struct Components;

/// What `currentbillingfeatures` says, per component.
const BILLING: &str = "insights.billing";

const SCHEMA: Schema = Schema(&[
    schema::text("/kind").required(),
    schema::choice("Application_Type", &["web", "other"]).or_text("web"),
    schema::text("Flow_Type").or_text("Bluefield"),
    schema::text("Request_Source").or_text("rest"),
    schema::text("WorkspaceResourceId"),
    schema::integer("RetentionInDays", 30..=730).or_int(90),
    schema::number("SamplingPercentage"),
    schema::boolean("DisableIpMasking"),
    schema::boolean("DisableLocalAuth"),
    schema::boolean("ImmediatePurgeDataOn30Days"),
    schema::choice(
        "IngestionMode",
        &["ApplicationInsights", "LogAnalytics", "ApplicationInsightsWithDiagnosticSettings"],
    ),
    schema::choice(
        "publicNetworkAccessForIngestion",
        &["Enabled", "Disabled", "SecuredByPerimeter"],
    )
    .or_text("Enabled"),
    schema::choice("publicNetworkAccessForQuery", &["Enabled", "Disabled", "SecuredByPerimeter"])
        .or_text("Enabled"),
    schema::any("ApplicationId").read_only(),
    schema::any("AppId").read_only(),
    schema::any("InstrumentationKey").read_only(),
    schema::any("ConnectionString").read_only(),
    schema::any("CreationDate").read_only(),
    schema::any("TenantId").read_only(),
    schema::any("Name").read_only(),
    schema::any("Ver").read_only(),
    schema::any("PrivateLinkScopedResources").read_only(),
]);

impl ResourceType for Components {
    fn kind(&self) -> &'static str {
        "Microsoft.Insights/components"
    }

    fn api_versions(&self) -> &'static [&'static str] {
        &["2020-02-02", "2020-02-02-preview", "2018-05-01-preview", "2015-05-01"]
    }

    fn not_acted_upon(&self) -> &'static [&'static str] {
        &["(all): no telemetry is taken in"]
    }

    fn check_name(&self, name: &str) -> Result<(), ArmError> {
        if name.chars().count() <= 255 && !name.ends_with('.') {
            return Ok(());
        }
        Err(crate::control::names::invalid(
            self.kind(),
            name,
            "1 to 255 characters long and may not end in '.'",
        ))
    }

    fn desired(
        &self,
        context: &Context,
        write: &Write<'_>,
        _: &mut Batch,
    ) -> Result<Value, ArmError> {
        let mut body = SCHEMA.apply(write)?;
        if body["properties"]["WorkspaceResourceId"].is_string() {
            body["properties"]["IngestionMode"] = json!("LogAnalytics");
        }
        if write.creates() {
            let (key, app) = (Uuid::new_v4(), Uuid::new_v4());
            let location = body["location"].as_str().unwrap_or_default().to_owned();
            let properties = &mut body["properties"];
            properties["ApplicationId"] = json!(write.id.name());
            properties["Name"] = json!(write.id.name());
            properties["AppId"] = json!(app);
            properties["InstrumentationKey"] = json!(key);
            properties["ConnectionString"] = json!(format!(
                "InstrumentationKey={key};IngestionEndpoint=https://{location}-5.in.applicationinsights.azure.com/;LiveEndpoint=https://{location}.livediagnostics.monitor.azure.com/;ApplicationId={app}"
            ));
            properties["CreationDate"] = json!(Timestamp::now());
            properties["TenantId"] = json!(context.tenancy.subscription_id);
            properties["Ver"] = json!("v2");
        }
        Ok(body)
    }

    fn write_style(&self, _: &Write<'_>) -> Style {
        Style::SyncOk
    }

    fn deletable(
        &self,
        _: &Context,
        resource: &crate::store::Resource,
        batch: &mut Batch,
    ) -> Result<(), ArmError> {
        batch.delete_state(BILLING, resource.id.key());
        Ok(())
    }

    fn act<'a>(
        &'a self,
        context: &'a Arc<Context>,
        call: &'a Call<'a>,
    ) -> BoxFuture<'a, Result<Reply, ArmError>> {
        Box::pin(async move {
            let stored = || {
                context
                    .store
                    .get_state(BILLING, call.id.key())
                    .and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok())
                    .unwrap_or_else(|| {
                        json!({
                            "CurrentBillingFeatures": ["Basic"],
                            "DataVolumeCap": {
                                "Cap": 100.0, "WarningThreshold": 90, "ResetTime": 24,
                                "StopSendNotificationWhenHitThreshold": false,
                                "StopSendNotificationWhenHitCap": false, "MaxHistoryCap": 1000.0,
                            },
                        })
                    })
            };
            match (call.method.clone(), call.action.as_str()) {
                (Verb::GET, "currentbillingfeatures") => Ok(Reply::ok(stored())),
                (Verb::PUT, "currentbillingfeatures") => {
                    if !call.body.is_object() {
                        return Err(ArmError::invalid_content(
                            "The request content must be a JSON object",
                        ));
                    }
                    let mut next = stored();
                    schema::merge(&mut next, &call.body);
                    let mut batch = Batch::new();
                    batch.put_state(
                        BILLING,
                        call.id.key(),
                        serde_json::to_vec(&next).unwrap_or_default(),
                    );
                    context.store.commit(batch).await?;
                    Ok(Reply::ok(next))
                }
                _ => Err(ArmError::method_not_allowed(&call.method)),
            }
        })
    }
}
