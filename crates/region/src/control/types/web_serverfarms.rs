//! `Microsoft.Web/serverfarms`: App Service plans
//! (<https://learn.microsoft.com/rest/api/appservice/app-service-plans>). Their capacity is how many
//! instances every site on them has.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use lazuli_azure::ResourceId;
use serde_json::{Value, json};

use super::{Call, Reply, ResourceType, Style, Write};
use crate::{
    appservice::{
        AppService,
        records::{PLAN_KIND, SITE_KIND, SLOT_KIND},
    },
    control::{
        Context,
        error::ArmError,
        names,
        schema::{self, Schema},
    },
    store::{Batch, Resource},
};

/// App Service plans.
pub(super) struct Serverfarms;

const SCHEMA: Schema = Schema(&[
    schema::text("/kind").or_text("linux"),
    schema::object("/tags"),
    schema::text("/sku/name").required(),
    schema::integer("/sku/capacity", 0..=100),
    schema::boolean("reserved").or_bool(true),
    schema::boolean("perSiteScaling").or_bool(false),
    schema::boolean("elasticScaleEnabled").or_bool(false),
    schema::boolean("zoneRedundant").or_bool(false),
    schema::boolean("isXenon").or_bool(false),
    schema::boolean("hyperV").or_bool(false),
    schema::boolean("isSpot").or_bool(false),
    schema::integer("maximumElasticWorkerCount", 0..=100).or_int(1),
    schema::integer("targetWorkerCount", 0..=100).or_int(0),
    schema::integer("targetWorkerSizeId", 0..=100).or_int(0),
    schema::any("numberOfSites").read_only(),
    schema::any("numberOfWorkers").read_only(),
    schema::any("status").read_only(),
]);

/// Sizes: prefix and suffix of the name, tier, family, most instances
/// (<https://learn.microsoft.com/azure/azure-resource-manager/management/azure-subscription-service-limits#azure-app-service-limits>).
const SIZES: &[(&[&str], &str, &str, u64)] = &[
    (&["F1"], "Free", "F", 1),
    (&["D1"], "Shared", "D", 1),
    (&["B1", "B2", "B3"], "Basic", "B", 3),
    (&["S1", "S2", "S3"], "Standard", "S", 10),
    (&["P1v2", "P2v2", "P3v2"], "PremiumV2", "Pv2", 30),
    (&["P0v3", "P1v3", "P2v3", "P3v3"], "PremiumV3", "Pv3", 30),
    (&["P1mv3", "P2mv3", "P3mv3", "P4mv3", "P5mv3"], "PremiumMV3", "Pmv3", 30),
    (&["P0v4", "P1v4", "P2v4", "P3v4"], "PremiumV4", "Pv4", 30),
    (&["P1mv4", "P2mv4", "P3mv4", "P4mv4", "P5mv4"], "PremiumMV4", "Pmv4", 30),
    (&["I1v2", "I2v2", "I3v2", "I4v2", "I5v2", "I6v2"], "IsolatedV2", "Iv2", 100),
];

/// Locations without Premium v4
/// (<https://learn.microsoft.com/azure/app-service/app-service-configure-premium-v4-tier#regions>).
const WITHOUT_V4: &[&str] = &["westus2"];

/// Whether a location has a tier. The other tiers are everywhere.
pub(super) fn offered(tier: &str, location: &str) -> bool {
    let v4 = ["PremiumV4", "PremiumMV4"].iter().any(|name| name.eq_ignore_ascii_case(tier));
    !v4 || !WITHOUT_V4.contains(&location)
}

/// What an instance of a size has: cores and memory in GiB
/// (<https://azure.microsoft.com/pricing/details/app-service/linux/>).
pub(super) fn machine(size: &str) -> (f64, f64) {
    let size = size.to_ascii_uppercase();
    let number = size.bytes().find(u8::is_ascii_digit).map_or(1, |digit| digit - b'0');
    let doubled = |first: f64| first * f64::from(1_u32 << number.clamp(1, 6).saturating_sub(1));
    let generation = size.rsplit_once('V').map(|(_, after)| after);
    let memory_optimized = size.contains('M');
    match (size.as_bytes().first(), generation) {
        (Some(b'B' | b'S'), _) => (doubled(1.0), doubled(1.75)),
        (Some(b'P'), Some("2")) => (doubled(1.0), doubled(3.5)),
        (Some(b'P'), _) if number == 0 => (1.0, 4.0),
        (Some(b'P'), _) if memory_optimized => (doubled(2.0), doubled(16.0)),
        (Some(b'P' | b'I'), _) => (doubled(2.0), doubled(8.0)),
        _ => (1.0, 1.0),
    }
}

/// Slots besides production that a tier allows: none on Free, Shared and Basic
/// (<https://learn.microsoft.com/azure/app-service/deploy-staging-slots>).
pub(super) fn slots_allowed(tier: &str) -> usize {
    match tier {
        "Free" | "Shared" | "Basic" => 0,
        "Standard" => 4,
        _ => 19,
    }
}

impl ResourceType for Serverfarms {
    fn kind(&self) -> &'static str {
        PLAN_KIND
    }

    fn api_versions(&self) -> &'static [&'static str] {
        super::web::VERSIONS
    }

    fn not_acted_upon(&self) -> &'static [&'static str] {
        &[
            "zoneRedundant",
            "elasticScaleEnabled",
            "maximumElasticWorkerCount",
            "hyperV",
            "isXenon",
            "isSpot",
        ]
    }

    fn check_name(&self, name: &str) -> Result<(), ArmError> {
        names::check(name, 1..=60, |c| c.is_ascii_alphanumeric() || c == '-' || c == '_', |_| true)
            .map_err(|()| names::invalid(PLAN_KIND, name, "1 to 60 letters, digits, '-' or '_'"))
    }

    fn desired(
        &self,
        context: &Context,
        write: &Write<'_>,
        _: &mut Batch,
    ) -> Result<Value, ArmError> {
        let mut body = SCHEMA.apply(write)?;
        let asked = body["sku"]["name"].as_str().unwrap_or_default().to_owned();
        let size = SIZES.iter().find_map(|(names, tier, family, most)| {
            let name = names.iter().find(|name| name.eq_ignore_ascii_case(&asked))?;
            Some((*name, *tier, *family, *most))
        });
        let (name, tier, family, most) = size.ok_or_else(|| {
            let known: Vec<_> = SIZES.iter().flat_map(|(names, ..)| *names).copied().collect();
            ArmError::invalid_value(
                "sku.name",
                format!("The sku '{asked}' is not valid. Valid ones are: {}.", known.join(", ")),
            )
        })?;
        if body["properties"]["reserved"] == json!(false) {
            return Err(ArmError::invalid_value(
                "properties.reserved",
                "This region runs App Service on Linux only: set 'reserved' to true.",
            ));
        }
        let location = body["location"].as_str().unwrap_or_default().to_owned();
        if !offered(tier, &location) {
            return Err(ArmError::bad_request(
                "BadRequest",
                format!(
                    "Requested features are not supported in region. Please try another region. '{name}' is not offered in '{location}'."
                ),
            )
            .at("sku.name"));
        }
        let before = write.existing.and_then(|plan| plan.body["sku"]["capacity"].as_u64());
        let capacity = body["sku"]["capacity"].as_u64().filter(|n| *n > 0).or(before).unwrap_or(1);
        if capacity > most {
            return Err(ArmError::invalid_value(
                "sku.capacity",
                format!("The tier {tier} has at most {most} instances; {capacity} were asked for."),
            ));
        }
        if slots_allowed(tier) == 0
            && let Some(slot) = slots_on(context, write.id).first()
        {
            return Err(ArmError::conflict(
                "Conflict",
                format!(
                    "Cannot change the plan to the tier {tier}: it allows no deployment slots, and '{}' is one of them.",
                    slot.id.full_name()
                ),
            ));
        }
        body["sku"] = json!({ "name": name, "tier": tier, "size": name, "family": family, "capacity": capacity });
        let id = write.id;
        let computed = json!({
            "serverFarmId": 0,
            "name": id.name(),
            "status": "Ready",
            "workerTierName": null,
            "currentWorkerSize": "Default",
            "currentNumberOfWorkers": capacity,
            "numberOfWorkers": capacity,
            "maximumNumberOfWorkers": most,
            "adminSiteName": null,
            "geoRegion": location,
            "subscription": id.subscription(),
            "resourceGroup": id.resource_group(),
            "webSpace": format!("{}-{location}webspace-Linux", id.resource_group().unwrap_or_default()),
            "kind": "linux",
            "reserved": true,
            "hostingEnvironmentProfile": null,
            "spotExpirationTime": null,
            "freeOfferExpirationTime": null,
            "kubeEnvironmentProfile": null,
        });
        if let (Some(properties), Value::Object(computed)) =
            (body["properties"].as_object_mut(), computed)
        {
            properties.extend(computed);
        }
        Ok(body)
    }

    fn write_style(&self, _: &Write<'_>) -> Style {
        Style::SyncOk
    }

    fn provision<'a>(
        &'a self,
        context: &'a Arc<Context>,
        _: &'a ResourceId,
    ) -> BoxFuture<'a, Result<(), ArmError>> {
        Box::pin(async move {
            if let Some(app) = context.handle::<Arc<AppService>>() {
                app.plan_changed();
            }
            Ok(())
        })
    }

    fn view(&self, context: &Context, resource: &Resource) -> Value {
        let mut body = resource.body.clone();
        body["properties"]["numberOfSites"] = json!(sites_on(context, &resource.id).len());
        body
    }

    fn deletable(
        &self,
        context: &Context,
        resource: &Resource,
        _: &mut Batch,
    ) -> Result<(), ArmError> {
        let sites = sites_on(context, &resource.id);
        if sites.is_empty() {
            return Ok(());
        }
        let names: Vec<_> = sites.iter().map(|site| site.id.name()).collect();
        Err(ArmError::conflict(
            "Conflict",
            format!(
                "Server farm '{}' cannot be deleted because it has web app(s) {} assigned to it.",
                resource.id.name(),
                names.join(", ")
            ),
        ))
    }

    fn act<'a>(
        &'a self,
        context: &'a Arc<Context>,
        call: &'a Call<'a>,
    ) -> BoxFuture<'a, Result<Reply, ArmError>> {
        Box::pin(async move {
            match (&call.method, call.action.as_str()) {
                (&http::Method::GET, "sites") => {
                    let sites: Vec<Value> = sites_on(context, &call.id)
                        .iter()
                        .map(|site| super::web::shown(context, site))
                        .collect();
                    Ok(Reply::ok(json!({ "value": sites })))
                }
                (&http::Method::POST, "restartsites") => {
                    let app = super::web::app(context)?;
                    for site in sites_on(context, &call.id) {
                        if let Some(key) = crate::appservice::records::slot_key(&site.id) {
                            app.restart(&key)
                                .await
                                .map_err(|error| super::web::record_error(&error))?;
                        }
                    }
                    Ok(Reply::no_content())
                }
                _ => Err(ArmError::method_not_allowed(&call.method)),
            }
        })
    }
}

fn of_kind(context: &Context, kind: &str, plan: &ResourceId) -> Vec<Arc<Resource>> {
    let mut found = context.store.list(kind, &ResourceId::root());
    found.retain(|site| {
        site.text("/properties/serverFarmId").and_then(|id| ResourceId::parse(id).ok()).as_ref()
            == Some(plan)
    });
    found
}

pub(super) fn sites_on(context: &Context, plan: &ResourceId) -> Vec<Arc<Resource>> {
    of_kind(context, SITE_KIND, plan)
}

pub(super) fn slots_on(context: &Context, plan: &ResourceId) -> Vec<Arc<Resource>> {
    of_kind(context, SLOT_KIND, plan)
}
