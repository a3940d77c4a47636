//! Azure's retail prices: pages of `https://prices.azure.com/api/retail/prices` as they come, one after
//! another or as one list of them.
//!
//! Fields: <https://learn.microsoft.com/en-us/rest/api/cost-management/retail-prices/azure-retail-prices>.
//! Prices are for an hour (or a gigabyte a month); here they are for a month of 730 hours. What is not
//! known by its product's name is passed over: the list holds every service of Azure.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::{PriceList, PriceListError, key};
use crate::data::cost as data;

#[derive(Deserialize)]
#[serde(untagged)]
enum Export {
    Page(Page),
    Pages(Vec<Page>),
    Items(Vec<Item>),
}

#[derive(Deserialize)]
struct Page {
    #[serde(rename = "Items")]
    items: Vec<Item>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    currency_code: String,
    retail_price: f64,
    #[serde(default)]
    tier_minimum_units: f64,
    #[serde(default)]
    arm_region_name: String,
    meter_name: String,
    product_name: String,
    sku_name: String,
    unit_of_measure: String,
    #[serde(rename = "type")]
    kind: String,
}

pub(super) fn read(text: &str, source: &str) -> Result<PriceList, PriceListError> {
    let wrong = |what: String| PriceListError::Retail(what);
    let mut items = Vec::new();
    for export in serde_json::Deserializer::from_str(text).into_iter::<Export>() {
        let export = export.map_err(|e| {
            wrong(format!("expected what https://prices.azure.com/api/retail/prices answers: {e}"))
        })?;
        match export {
            Export::Page(page) => items.extend(page.items),
            Export::Pages(pages) => items.extend(pages.into_iter().flat_map(|p| p.items)),
            Export::Items(list) => items.extend(list),
        }
    }
    let mut found: BTreeMap<String, f64> = BTreeMap::new();
    let mut regions = BTreeSet::new();
    let mut storage = None;
    for item in items.iter().filter(|i| i.kind == "Consumption" && i.tier_minimum_units == 0.0) {
        let Some(of) = known(item) else { continue };
        if item.currency_code != "USD" {
            return Err(wrong(format!("expected US dollars, found {}", item.currency_code)));
        }
        if !item.retail_price.is_finite() || item.retail_price < 0.0 {
            return Err(wrong(format!("{} has no price", item.meter_name)));
        }
        // What has one price everywhere is in no region.
        if !matches!(item.arm_region_name.as_str(), "" | "Global") {
            regions.insert(item.arm_region_name.as_str());
        }
        match of {
            Known::Hourly(item_name, sku) => {
                found.insert(key(item_name, &sku), item.retail_price * data::HOURS_A_MONTH);
            }
            Known::Storage => storage = Some(item.retail_price * data::POSTGRES_STORAGE_GB),
        }
    }
    if regions.len() > 1 {
        let names: Vec<&str> = regions.into_iter().collect();
        return Err(wrong(format!(
            "they are for several regions ({}); ask for one with \
             $filter=armRegionName eq 'westeurope'",
            names.join(", ")
        )));
    }
    if found.is_empty() {
        return Err(wrong("they hold nothing that an app of the standard uses".to_owned()));
    }
    let mut list = PriceList { source: source.to_owned(), ..PriceList::default() };
    let server = key(data::POSTGRES, "");
    for (key, mut usd) in found {
        if key.starts_with(&server) {
            // A server without its storage is not what is paid.
            let Some(storage) = storage else {
                return Err(wrong(
                    "they hold PostgreSQL servers and not their storage \
                     (Az DB for PostgreSQL Flexible Server Storage)"
                        .to_owned(),
                ));
            };
            usd += storage;
        }
        list.prices.insert(key, usd);
    }
    Ok(list)
}

enum Known {
    /// An item of ours with its SKU, priced by the hour.
    Hourly(&'static str, String),
    /// A gigabyte of PostgreSQL's storage, a month.
    Storage,
}

/// What an item is here, by the names that Azure gives it.
fn known(item: &Item) -> Option<Known> {
    let product = item.product_name.as_str();
    let tight = item.sku_name.replace(' ', "");
    if product == "Az DB for PostgreSQL Flexible Server Storage"
        && item.meter_name == "Storage Data Stored"
    {
        return Some(Known::Storage);
    }
    if item.unit_of_measure != "1 Hour" {
        return None;
    }
    if let Some(plan) = product.strip_prefix("Azure App Service ") {
        return plan.ends_with("Plan - Linux").then_some(Known::Hourly(data::PLAN, tight));
    }
    if let Some(tier) = product.strip_prefix("Azure Database for PostgreSQL Flexible Server ") {
        return postgres(tier, &item.sku_name).map(|sku| Known::Hourly(data::POSTGRES, sku));
    }
    if let Some(tier) = product.strip_prefix("Azure Redis Cache ") {
        let sku = matches!(tier, "Basic" | "Standard" | "Premium")
            && item.meter_name.starts_with(&format!("{tight} Cache"));
        return sku.then(|| Known::Hourly(data::REDIS, format!("{tier} {tight}")));
    }
    if let Some((_, tier)) = product.split_once("Managed Redis - ") {
        return Some(Known::Hourly(
            data::MANAGED_REDIS,
            format!("{tier}_{tight}").replace(' ', ""),
        ));
    }
    if product == "Virtual Network Private Link" && item.meter_name == "Standard Private Endpoint" {
        return Some(Known::Hourly(data::ENDPOINT, "Standard".to_owned()));
    }
    None
}

/// `General Purpose Ddsv5 Series Compute` and `4 vCore` are `Standard_D4ds_v5`; `Burstable BS Series
/// Compute` and `B2ms` are `Standard_B2ms`.
fn postgres(tier: &str, sku: &str) -> Option<String> {
    if tier.starts_with("Burstable") {
        return sku.starts_with('B').then(|| format!("Standard_{}", sku.replace(' ', "")));
    }
    let series = tier
        .strip_prefix("General Purpose ")
        .or_else(|| tier.strip_prefix("Memory Optimized "))?
        .trim_start_matches("- ")
        .split(' ')
        .next()?;
    let cores: u32 = sku.strip_suffix(" vCore")?.parse().ok()?;
    let (family, rest) = series.split_at_checked(1)?;
    let (letters, version) = rest.rsplit_once('v')?;
    Some(format!("Standard_{family}{cores}{letters}_v{version}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::cost::estimate;
    use crate::{Blueprint, Environment, Manifest};

    /// An item as the API's page documents it, with what differs.
    fn item(product: &str, sku: &str, meter: &str, unit: &str, price: f64) -> serde_json::Value {
        serde_json::json!({
            "currencyCode": "USD", "tierMinimumUnits": 0.0, "retailPrice": price, "unitPrice": price,
            "armRegionName": "westeurope", "location": "EU West", "meterName": meter,
            "productName": product, "skuName": sku, "serviceName": "x", "unitOfMeasure": unit,
            "type": "Consumption", "isPrimaryMeterRegion": true, "armSkuName": "",
        })
    }

    fn page() -> serde_json::Value {
        let mut reserved = item(
            "Azure App Service Premium v3 Plan - Linux",
            "P2 v3",
            "P2 v3 App",
            "1 Hour",
            2000.0,
        );
        reserved["type"] = "Reservation".into();
        let mut endpoint = item(
            "Virtual Network Private Link",
            "Standard",
            "Standard Private Endpoint",
            "1 Hour",
            0.01,
        );
        endpoint["armRegionName"] = "".into();
        serde_json::json!({ "BillingCurrency": "USD", "Items": [
            reserved, endpoint,
            item("Azure App Service Premium v3 Plan - Linux", "P2 v3", "P2 v3 App", "1 Hour", 0.5),
            item("Azure App Service Premium v3 Plan", "P2 v3", "P2 v3 App", "1 Hour", 9.0),
            item("Azure Database for PostgreSQL Flexible Server General Purpose Ddsv5 Series Compute", "4 vCore", "vCore", "1 Hour", 0.4),
            item("Azure Database for PostgreSQL Flexible Server Burstable BS Series Compute", "B2ms", "B2ms", "1 Hour", 0.1),
            item("Az DB for PostgreSQL Flexible Server Storage", "Storage", "Storage Data Stored", "1 GB/Month", 0.125),
            item("Azure Redis Cache Premium", "P1", "P1 Cache Instance", "1 Hour", 0.6),
            item("Virtual Machines Dv3 Series", "D2 v3", "D2 v3", "1 Hour", 0.096),
        ], "NextPageLink": null, "Count": 9 })
    }

    #[test]
    fn a_months_prices_are_those_of_730_hours() {
        let source = "app: notes\nlocation: westeurope\nbackend: { app: a:b }\ncache: premium\n";
        let blueprint = Blueprint::new(&Manifest::parse(source, "x").unwrap(), Environment::Prod);
        // Pages one after another, as `curl` leaves them; and as one list.
        for text in [page().to_string() + &page().to_string(), format!("[{}]", page())] {
            let list = PriceList::parse(&text, "azure.json").unwrap();
            let lines = estimate(&blueprint, &list).lines;
            let of = |name: &str| lines.iter().find(|l| l.resource == name).unwrap().usd.unwrap().0;
            assert!((of("notes-plan") - 2.0 * 0.5 * 730.0).abs() < 0.001, "{lines:?}");
            assert!((of("notes-pg") - (0.4 * 730.0 + 128.0 * 0.125)).abs() < 0.001, "{lines:?}");
            assert!((of("notes-redis") - 0.6 * 730.0).abs() < 0.001, "{lines:?}");
            assert!((of("private endpoints") - 2.0 * 0.01 * 730.0).abs() < 0.001, "{lines:?}");
        }
    }

    #[test]
    fn what_cannot_be_used_says_why() {
        let mut two = page();
        two["Items"][2]["armRegionName"] = "eastus".into();
        let mut euros = page();
        euros["Items"][2]["currencyCode"] = "EUR".into();
        let mut bare = page();
        bare["Items"].as_array_mut().unwrap().remove(6);
        for (text, said) in [
            (two.to_string(), "eastus, westeurope"),
            (euros.to_string(), "EUR"),
            (bare.to_string(), "storage"),
            ("{}".to_owned(), "prices.azure.com"),
            ("{\"Items\":[]}".to_owned(), "nothing"),
        ] {
            let error = PriceList::parse(&text, "x").unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
