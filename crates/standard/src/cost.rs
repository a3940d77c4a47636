//! What a blueprint costs a month. The standard's figures are built in; others are read from a
//! price list with the same lines, or from what Azure's retail price API answers
//! (`crate::cost::retail`).

mod retail;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::blueprint::Blueprint;
use crate::data::cost as data;
use crate::manifest::Cache;

/// Prices by SKU, US dollars a month.
#[derive(Clone, Debug, PartialEq)]
pub struct PriceList {
    prices: BTreeMap<String, f64>,
    /// Where they come from, for the output.
    pub source: String,
}

/// A price list cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum PriceListError {
    /// A line of a list of our own.
    #[error("line {line} of the price list: {what}")]
    Line {
        /// Which line.
        line: usize,
        /// What is wrong with it.
        what: String,
    },
    /// Azure's retail prices.
    #[error("Azure's retail prices: {0}")]
    Retail(String),
}

impl Default for PriceList {
    fn default() -> Self {
        let prices = data::PRICES.iter().map(|p| (key(p.item, p.sku), p.usd)).collect();
        Self { prices, source: format!("the standard, {}", data::PRICES.section) }
    }
}

fn key(item: &str, sku: &str) -> String {
    format!("{item}|{sku}").to_ascii_lowercase()
}

impl PriceList {
    /// Reads `item,sku,usd` lines (`#` begins a comment) over the standard's figures; or, when it is
    /// JSON, what Azure's retail price API answered, for one region and in US dollars.
    ///
    /// # Errors
    /// The first line that is none; JSON that is no answer of that API, or holds several regions.
    pub fn parse(text: &str, source: &str) -> Result<Self, PriceListError> {
        if text.trim_start().starts_with(['{', '[']) {
            return retail::read(text, source);
        }
        let mut list = Self { source: source.to_owned(), ..Self::default() };
        for (at, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() || line.eq_ignore_ascii_case("item,sku,usd") {
                continue;
            }
            let wrong = |what: String| PriceListError::Line { line: at + 1, what };
            let fields: Vec<&str> = line.split(',').map(str::trim).collect();
            let [item, sku, usd] = fields[..] else {
                return Err(wrong("expected item,sku,usd".to_owned()));
            };
            if !data::ITEMS.iter().any(|known| known.eq_ignore_ascii_case(item)) {
                return Err(wrong(format!("`{item}` is not one of {}", data::ITEMS.join(", "))));
            }
            let price: f64 = usd
                .parse()
                .ok()
                .filter(|p: &f64| p.is_finite() && *p >= 0.0)
                .ok_or_else(|| wrong(format!("`{usd}` is not a price")))?;
            list.prices.insert(key(item, sku), price);
        }
        Ok(list)
    }

    fn price(&self, item: &str, sku: &str) -> Option<f64> {
        self.prices.get(&key(item, sku)).copied().or_else(|| {
            // A standby is a second server of the same size and storage; without a line of its own
            // it is counted as one: our reckoning, not the standard's.
            (item == data::POSTGRES_STANDBY).then(|| self.price(data::POSTGRES, sku)).flatten()
        })
    }
}

/// A line of an estimate.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    /// What.
    pub resource: String,
    /// Of which SKU.
    pub sku: String,
    /// How many, at least and at most.
    pub units: (u32, u32),
    /// For all of them at least and at most, US dollars a month; none: the list has no price.
    pub usd: Option<(f64, f64)>,
}

/// What a blueprint costs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// Line by line.
    pub lines: Vec<Line>,
    /// At the fewest instances that auto-scale keeps, US dollars a month; without lines that have
    /// no price.
    pub minimum: f64,
    /// At the most instances.
    pub maximum: f64,
    /// Resources that the list has no price for.
    pub unpriced: Vec<String>,
}

/// What a blueprint costs a month.
pub fn estimate(blueprint: &Blueprint, prices: &PriceList) -> Estimate {
    let mut lines = Vec::new();
    let mut add = |resource: &str, item: &str, sku: &str, units: (u32, u32)| {
        let usd = prices.price(item, sku).map(|p| (p * f64::from(units.0), p * f64::from(units.1)));
        lines.push(Line { resource: resource.to_owned(), sku: sku.to_owned(), units, usd });
    };
    for plan in &blueprint.plans {
        let units = blueprint
            .autoscale
            .as_ref()
            .filter(|a| a.plan == plan.name)
            .map_or((plan.instances, plan.instances), |a| (a.minimum, a.maximum));
        add(&plan.name, data::PLAN, &plan.sku, units);
    }
    let postgres = &blueprint.postgres;
    add(&postgres.name, data::POSTGRES, &postgres.sku, (1, 1));
    if postgres.zone_redundant {
        // The standby is a server of the same size, at the same price.
        add(&format!("{} standby", postgres.name), data::POSTGRES_STANDBY, &postgres.sku, (1, 1));
    }
    let cache = &blueprint.cache;
    let (item, sku) = match cache.kind {
        Cache::Premium => {
            (data::REDIS, format!("{} {}{}", cache.sku, cache.family, cache.capacity))
        }
        Cache::Managed => (data::MANAGED_REDIS, cache.sku.clone()),
    };
    add(&cache.name, item, &sku, (1, 1));
    add(&blueprint.vault.name, data::VAULT, "Standard", (1, 1));
    let insights = u32::try_from(blueprint.monitoring.insights.len()).unwrap_or(u32::MAX);
    add(&blueprint.monitoring.workspace, data::INSIGHTS, "5 GB ingest", (insights, insights));
    let endpoints = u32::try_from(blueprint.private_endpoints.len()).unwrap_or(u32::MAX);
    add("private endpoints", data::ENDPOINT, "Standard", (endpoints, endpoints));
    if let Some(site) = &blueprint.frontend {
        add(&site.name, data::STATIC_WEB_APP, "Standard", (1, 1));
    }
    let sum = |which: fn((f64, f64)) -> f64| lines.iter().filter_map(|l| l.usd).map(which).sum();
    let (minimum, maximum) = (sum(|u| u.0), sum(|u| u.1));
    let unpriced = lines
        .iter()
        .filter(|l| l.usd.is_none())
        .map(|l| format!("{} ({})", l.resource, l.sku))
        .collect();
    Estimate { lines, minimum, maximum, unpriced }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::{Environment, Manifest};

    fn blueprint(environment: Environment) -> Blueprint {
        let source = "app: notes\nlocation: westeurope\nbackend: { app: a:b }\nworker: { run: w }\ncache: premium\n";
        Blueprint::new(&Manifest::parse(source, "x").unwrap(), environment)
    }

    /// The standard's own table, line by line: what of it the blueprint has.
    #[test]
    fn production_costs_what_the_standard_says() {
        let estimate = estimate(&blueprint(Environment::Prod), &PriceList::default());
        let of = |name: &str| estimate.lines.iter().find(|l| l.resource == name).unwrap().usd;
        assert_eq!(of("notes-plan"), Some((500.0, 1500.0)));
        assert_eq!(of("notes-worker-plan"), Some((125.0, 125.0)));
        assert_eq!(of("notes-pg"), Some((350.0, 350.0)));
        assert_eq!(of("notes-redis"), Some((340.0, 340.0)));
        assert_eq!(of("private endpoints"), Some((20.0, 20.0)));
        // Left out by the standard; a second server.
        assert_eq!(of("notes-pg standby"), Some((350.0, 350.0)));
        assert!(estimate.unpriced.is_empty(), "{:?}", estimate.unpriced);
        assert!((estimate.maximum - estimate.minimum - 1000.0).abs() < 0.01);
    }

    #[test]
    fn what_has_no_price_is_said_and_not_counted_as_nothing() {
        let dev = estimate(&blueprint(Environment::Dev), &PriceList::default());
        assert!(dev.unpriced.iter().any(|u| u.contains("B1")), "{:?}", dev.unpriced);
        let list = "item,sku,usd\nApp Service plan, B1, 13.14 # West Europe\nPostgreSQL,Standard_B2ms,99\nRedis,Basic C1,40\n";
        let dev =
            estimate(&blueprint(Environment::Dev), &PriceList::parse(list, "prices.csv").unwrap());
        assert!(dev.unpriced.is_empty(), "{:?}", dev.unpriced);
    }

    #[test]
    fn a_price_list_that_is_wrong_names_its_line() {
        for (list, line) in [
            ("x\n", 1),
            ("# a\nPlan,B1,1\n", 2),
            ("PostgreSQL,a,-1\n", 1),
            ("PostgreSQL,a,NaN\n", 1),
        ] {
            let error = PriceList::parse(list, "x").unwrap_err();
            assert!(matches!(error, PriceListError::Line { line: l, .. } if l == line), "{list}");
        }
    }
}
