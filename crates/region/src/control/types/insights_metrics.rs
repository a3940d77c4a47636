//! `Microsoft.Insights/metrics` of a site, a slot or a plan, an extension of any resource
//! (<https://learn.microsoft.com/rest/api/monitor/metrics/list>): real counts from the front end, and
//! what the instances' processes use, by the minute. The names are those of
//! <https://learn.microsoft.com/azure/azure-monitor/reference/supported-metrics/microsoft-web-sites-metrics>
//! and of plans; a plan's percentages are of what its instances have, and where the machine has less
//! than all of them together, of what the machine has;
//! what this region does not measure is refused by name rather than answered with zeros.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::Method;
use jiff::Timestamp;
use lazuli_azure::ResourceId;
use serde_json::{Map, Value, json};

use super::{
    Call, Registry, Reply,
    web::app,
    web_serverfarms::{machine, sites_on, slots_on},
};
use crate::{
    appservice::{
        metrics::Bin,
        records::{PLAN_KIND, slot_key},
        site::SlotKey,
    },
    control::{Context, error::ArmError},
};

const READ: &str = "Microsoft.Insights/Metrics/Read";
/// The most points one answer holds.
const MOST: i64 = 1440 * 31;

/// A metric: its name, how people call it, its unit, and what it is of a span.
struct Metric {
    name: &'static str,
    called: &'static str,
    unit: &'static str,
    /// The aggregation that is meant when none is asked for.
    primary: &'static str,
    of: fn(&Bin) -> Option<Sum>,
}

/// A sum of so many values.
struct Sum {
    total: f64,
    count: u64,
}

#[expect(clippy::unnecessary_wraps, reason = "one shape for every metric")]
fn total(value: u64) -> Option<Sum> {
    Some(Sum { total: value as f64, count: value.max(1) })
}

fn mean_of((count, total): (u64, u64)) -> Option<Sum> {
    (count > 0).then_some(Sum { total: total as f64, count })
}

const SITE: &[Metric] = &[
    Metric {
        name: "Requests",
        called: "Requests",
        unit: "Count",
        primary: "Total",
        of: |bin| total(bin.requests),
    },
    Metric {
        name: "Http101",
        called: "Http 101",
        unit: "Count",
        primary: "Total",
        of: |bin| total(bin.status[0]),
    },
    Metric {
        name: "Http2xx",
        called: "Http 2xx",
        unit: "Count",
        primary: "Total",
        of: |bin| total(bin.status[1]),
    },
    Metric {
        name: "Http3xx",
        called: "Http 3xx",
        unit: "Count",
        primary: "Total",
        of: |bin| total(bin.status[2]),
    },
    Metric {
        name: "Http4xx",
        called: "Http 4xx",
        unit: "Count",
        primary: "Total",
        of: |bin| total(bin.status[3]),
    },
    Metric {
        name: "Http5xx",
        called: "Http Server Errors",
        unit: "Count",
        primary: "Total",
        of: |bin| total(bin.status[4]),
    },
    Metric {
        name: "HttpResponseTime",
        called: "Response Time",
        unit: "Seconds",
        primary: "Average",
        of: |bin| (bin.timed > 0).then(|| Sum { total: bin.micros as f64 / 1e6, count: bin.timed }),
    },
    Metric {
        name: "BytesSent",
        called: "Data Out",
        unit: "Bytes",
        primary: "Total",
        of: |bin| total(bin.bytes),
    },
    Metric {
        name: "CpuTime",
        called: "CPU Time",
        unit: "Seconds",
        primary: "Total",
        of: |bin| {
            let seconds = bin.cpu as f64 / 1e6;
            (bin.instances.0 > 0).then_some(Sum { total: seconds, count: 1 })
        },
    },
    Metric {
        name: "MemoryWorkingSet",
        called: "Memory working set",
        unit: "Bytes",
        primary: "Average",
        of: |bin| mean_of(bin.memory),
    },
    Metric {
        name: "HealthCheckStatus",
        called: "Health check status",
        unit: "Count",
        primary: "Average",
        of: |bin| (bin.health.0 > 0).then_some(Sum { total: bin.health.1, count: bin.health.0 }),
    },
];

/// A plan's percentages: [`of_plan`] makes them.
const PLAN: &[Metric] = &[
    Metric {
        name: "CpuPercentage",
        called: "CPU Percentage",
        unit: "Percent",
        primary: "Average",
        of: |bin| bin.share.map(|(cpu, _)| Sum { total: cpu, count: 1 }),
    },
    Metric {
        name: "MemoryPercentage",
        called: "Memory Percentage",
        unit: "Percent",
        primary: "Average",
        of: |bin| bin.share.map(|(_, memory)| Sum { total: memory, count: 1 }),
    },
];

/// What metrics are asked of.
enum Source {
    Slot(SlotKey),
    Plan(ResourceId),
}

impl Source {
    /// What the request names, if it is there, and where it is.
    fn of(context: &Context, call: &Call<'_>) -> Result<(Self, String), ArmError> {
        if call.id.is(PLAN_KIND) {
            let plan = context.store.get(&call.id).ok_or_else(|| ArmError::not_found(&call.id))?;
            let location = plan.text("/location").unwrap_or_default().to_owned();
            return Ok((Self::Plan(plan.id.clone()), location));
        }
        let slot = slot_key(&call.id).ok_or_else(|| unmeasured(call))?;
        let record = app(context)?.records.slot(&slot);
        let record = record.ok_or_else(|| ArmError::not_found(&call.id))?;
        Ok((Self::Slot(slot), record.location))
    }

    fn metrics(&self) -> &'static [Metric] {
        match self {
            Self::Slot(_) => SITE,
            Self::Plan(_) => PLAN,
        }
    }

    fn minutes(
        &self,
        context: &Context,
        first: i64,
        last: i64,
    ) -> Result<Vec<(i64, Bin)>, ArmError> {
        let app = app(context)?;
        let plan = match self {
            Self::Slot(slot) => return Ok(app.served(slot, first, last)),
            Self::Plan(plan) => plan,
        };
        let on_it = sites_on(context, plan).into_iter().chain(slots_on(context, plan));
        let series: Vec<_> = on_it
            .filter_map(|site| slot_key(&site.id))
            .map(|slot| app.served(&slot, first, last))
            .collect();
        let size = context.store.get(plan);
        let size = size.as_ref().and_then(|plan| plan.text("/sku/name")).unwrap_or_default();
        Ok(of_plan(&series, machine(size), here(), Timestamp::now().as_second()))
    }
}

/// Cores and memory in GiB of this machine.
fn here() -> (f64, f64) {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = total.and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<f64>().ok());
    (cores as f64, kib.map_or(f64::INFINITY, |kib| kib / 1024.0 / 1024.0))
}

/// A plan's minutes from those of what is on it. A plan has as many instances as the site that has most.
fn of_plan(
    series: &[Vec<(i64, Bin)>],
    (cores, memory): (f64, f64),
    here: (f64, f64),
    now: i64,
) -> Vec<(i64, Bin)> {
    let mut minutes: BTreeMap<i64, (f64, f64, f64)> = BTreeMap::new();
    for (minute, bin) in series.iter().flatten() {
        if bin.instances.0 == 0 {
            continue;
        }
        let mean = |(count, sum): (u64, u64)| sum as f64 / count.max(1) as f64;
        let sum = minutes.entry(*minute).or_default();
        sum.0 += bin.cpu as f64 / 1e6;
        sum.1 += mean(bin.memory) / f64::from(1 << 30);
        sum.2 = sum.2.max(mean(bin.instances));
    }
    minutes
        .into_iter()
        .map(|(minute, (cpu, used, instances))| {
            // The current minute is as long as it has lasted.
            let seconds = (now - minute * 60).clamp(1, 60) as f64;
            let instances = instances.max(1.0);
            let percent = |part: f64, whole: f64| (part / whole * 100.0).clamp(0.0, 100.0);
            let cpu = percent(cpu, seconds * (cores * instances).min(here.0));
            let used = percent(used, (memory * instances).min(here.1));
            let bin = Bin { share: Some((cpu, used)), ..Bin::default() };
            (minute, bin)
        })
        .collect()
}

pub(super) fn register(types: &mut Registry) {
    types.route(Method::GET, "**/providers/microsoft.insights/metrics", Some(READ), metrics);
    types.route(
        Method::GET,
        "**/providers/microsoft.insights/metricdefinitions",
        Some("Microsoft.Insights/MetricDefinitions/Read"),
        definitions,
    );
}

fn bad(message: impl Into<String>) -> ArmError {
    ArmError::bad_request("BadRequest", message)
}

fn metrics<'a>(
    context: &'a Arc<Context>,
    call: &'a Call<'a>,
) -> BoxFuture<'a, Result<Reply, ArmError>> {
    Box::pin(async move {
        let (source, location) = Source::of(context, call)?;
        if call.query.get("$filter").is_some_and(|filter| !filter.trim().is_empty()) {
            return Err(bad("Dimensions are not kept in this region: leave out '$filter'."));
        }
        let wanted = wanted(source.metrics(), call.query.get("metricnames"))?;
        let minutes = interval(call.query.get("interval"))?;
        let (from, to) = timespan(call.query.get("timespan"))?;
        if (to - from) / 60 / minutes > MOST {
            return Err(bad("The time span holds too many points: ask for a longer interval."));
        }
        // Points begin at multiples of the interval, as Azure's do.
        let first = from.div_euclid(60 * minutes) * minutes;
        let last = (to - 1).max(from).div_euclid(60);
        let served = source.minutes(context, first, last)?;
        let value: Vec<Value> = wanted
            .iter()
            .map(|metric| {
                let asked = call.query.get("aggregation").unwrap_or(metric.primary);
                let data = points(metric, &served, first, last, minutes, asked);
                json!({
                    "id": format!("{}/providers/Microsoft.Insights/metrics/{}", call.id, metric.name),
                    "type": "Microsoft.Insights/metrics",
                    "name": { "value": metric.name, "localizedValue": metric.called },
                    "displayDescription": metric.called,
                    "unit": metric.unit,
                    "timeseries": [{ "metadatavalues": [], "data": data }],
                    "errorCode": "Success",
                })
            })
            .collect();
        Ok(Reply::ok(json!({
            "cost": (to - from) / 60,
            "timespan": format!("{}/{}", time(from), time(to)),
            "interval": format!("PT{minutes}M"),
            "value": value,
            "namespace": call.id.kind(),
            "resourceregion": location,
        })))
    })
}

fn definitions<'a>(
    context: &'a Arc<Context>,
    call: &'a Call<'a>,
) -> BoxFuture<'a, Result<Reply, ArmError>> {
    Box::pin(async move {
        let (source, _) = Source::of(context, call)?;
        let value: Vec<Value> = source
            .metrics()
            .iter()
            .map(|metric| {
                json!({
                    "id": format!(
                        "{}/providers/microsoft.insights/metricdefinitions/{}", call.id, metric.name
                    ),
                    "resourceId": call.id,
                    "namespace": call.id.kind(),
                    "name": { "value": metric.name, "localizedValue": metric.called },
                    "unit": metric.unit,
                    "primaryAggregationType": metric.primary,
                    "supportedAggregationTypes": ["Average", "Total", "Count"],
                    "metricAvailabilities": [{ "timeGrain": "PT1M", "retention": "P1D" }],
                    "dimensions": [],
                })
            })
            .collect();
        Ok(Reply::ok(json!({ "value": value })))
    })
}

fn unmeasured(call: &Call<'_>) -> ArmError {
    ArmError::not_implemented(format!(
        "This region measures web apps, their slots and plans; it keeps no metrics of '{}'.",
        call.id.kind()
    ))
}

fn wanted(
    metrics: &'static [Metric],
    names: Option<&str>,
) -> Result<Vec<&'static Metric>, ArmError> {
    let names = names.unwrap_or(metrics[0].name);
    let find = |name: &str| {
        metrics.iter().find(|metric| metric.name.eq_ignore_ascii_case(name)).ok_or_else(|| {
            let known: Vec<&str> = metrics.iter().map(|metric| metric.name).collect();
            bad(format!(
                "Failed to find metric configuration for metric: {name}. This region measures: {}.",
                known.join(",")
            ))
        })
    };
    names.split(',').map(str::trim).filter(|name| !name.is_empty()).map(find).collect()
}

/// `PT1M`, `PT5M`, `PT1H`, `P1D`: in minutes. `FULL` is the whole span in Azure; it is not offered here.
fn interval(text: Option<&str>) -> Result<i64, ArmError> {
    Ok(match text.unwrap_or("PT1M").to_ascii_uppercase().as_str() {
        "PT1M" => 1,
        "PT5M" => 5,
        "PT15M" => 15,
        "PT30M" => 30,
        "PT1H" => 60,
        "PT6H" => 360,
        "PT12H" => 720,
        "P1D" => 1440,
        other => {
            return Err(bad(format!(
                "Detected invalid time grain input '{other}': PT1M, PT5M, PT15M, PT30M, PT1H, PT6H, PT12H or P1D."
            )));
        }
    })
}

/// `start/end`, in seconds since 1970; the last hour when none is given.
fn timespan(text: Option<&str>) -> Result<(i64, i64), ArmError> {
    let now = Timestamp::now().as_second();
    let Some(text) = text else { return Ok((now - 3600, now)) };
    let wrong = || bad(format!("The time span '{text}' is not 'start/end' in ISO 8601."));
    // `az` encodes the span twice, and leaves the zone out, which is then UTC.
    let text = percent_encoding::percent_decode_str(text).decode_utf8().map_err(|_| wrong())?;
    let (start, end) = text.split_once('/').ok_or_else(wrong)?;
    let parse = |text: &str| {
        text.parse::<Timestamp>()
            .or_else(|_| format!("{text}Z").parse::<Timestamp>())
            .map(Timestamp::as_second)
    };
    let (start, end) = (parse(start).map_err(|_| wrong())?, parse(end).map_err(|_| wrong())?);
    if start >= end {
        return Err(bad("The start of the time span must be before its end."));
    }
    Ok((start, end))
}

fn time(seconds: i64) -> String {
    Timestamp::from_second(seconds).map_or_else(|_| String::new(), |time| time.to_string())
}

/// One point an interval. A point of which nothing was seen has a time and no value, as in Azure.
fn points(
    metric: &Metric,
    served: &[(i64, Bin)],
    first: i64,
    last: i64,
    minutes: i64,
    asked: &str,
) -> Vec<Value> {
    let mut points = Vec::new();
    let mut at = first;
    while at <= last {
        let mut sum: Option<Sum> = None;
        for (_, bin) in served.iter().filter(|(minute, _)| (at..at + minutes).contains(minute)) {
            if let Some(value) = (metric.of)(bin) {
                let before = sum.take().unwrap_or(Sum { total: 0.0, count: 0 });
                sum = Some(Sum {
                    total: before.total + value.total,
                    count: before.count + value.count,
                });
            }
        }
        let mut point = Map::new();
        point.insert("timeStamp".to_owned(), json!(time(at * 60)));
        if let Some(sum) = sum {
            for aggregation in asked.split(',').map(str::trim) {
                match aggregation.to_ascii_lowercase().as_str() {
                    "total" => point.insert("total".to_owned(), json!(sum.total)),
                    "count" => point.insert("count".to_owned(), json!(sum.count)),
                    "average" => point
                        .insert("average".to_owned(), json!(sum.total / sum.count.max(1) as f64)),
                    _ => None,
                };
            }
        }
        points.push(Value::Object(point));
        at += minutes;
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_sums_its_minutes_and_a_minute_nobody_saw_has_no_value() {
        let bin = |requests, failed, micros| Bin {
            requests,
            timed: requests,
            status: [0, requests - failed, 0, 0, failed],
            micros,
            ..Bin::default()
        };
        let served = [(10, bin(4, 1, 8_000)), (11, bin(6, 0, 2_000)), (16, bin(1, 0, 500))];
        let failed = wanted(SITE, Some("Http5xx")).expect("known")[0];
        let data = points(failed, &served, 10, 19, 5, "Total");
        assert_eq!((data[0]["total"].as_f64(), data[1]["total"].as_f64()), (Some(1.0), Some(0.0)));
        let time = wanted(SITE, Some("httpresponsetime")).expect("known")[0];
        let data = points(time, &served, 10, 12, 1, "Average,Count");
        assert_eq!(data[0]["average"].as_f64(), Some(0.002));
        assert_eq!(data[1]["count"].as_u64(), Some(6));
        assert_eq!(data[2].get("average"), None);
    }

    #[test]
    fn a_plans_percentages_are_of_what_its_instances_have() {
        let bin = |cpu_seconds: u64, gib: u64| Bin {
            cpu: cpu_seconds * 1_000_000,
            memory: (2, (2 * gib) << 30),
            instances: (2, 4),
            ..Bin::default()
        };
        // Two sites on two instances of two cores and 8 GiB: 240 core seconds a minute, 16 GiB.
        let series = [vec![(10, bin(60, 3)), (11, bin(30, 3))], vec![(10, bin(60, 1))]];
        let big = (64.0, 512.0);
        let found = of_plan(&series, (2.0, 8.0), big, 11 * 60 + 30);
        let shares =
            |found: &[(i64, Bin)]| found.iter().map(|(_, bin)| bin.share).collect::<Vec<_>>();
        // Of the second minute only half has been.
        assert_eq!(shares(&found), [Some((50.0, 25.0)), Some((25.0, 18.75))]);
        // A machine of two cores cannot give more than two.
        let found = of_plan(&series, (2.0, 8.0), (2.0, 8.0), 12 * 60);
        assert_eq!(shares(&found)[0], Some((100.0, 50.0)));
        assert_eq!(of_plan(&[vec![(10, Bin::default())]], (2.0, 8.0), big, 900), []);
        assert_eq!(machine("P1v3"), (2.0, 8.0));
        assert_eq!(machine("P0v3"), (1.0, 4.0));
        assert_eq!(machine("P2mv3"), (4.0, 32.0));
        assert_eq!(machine("B2"), (2.0, 3.5));
        assert_eq!(machine("P3v2"), (4.0, 14.0));
    }

    #[test]
    fn what_is_not_measured_is_refused() {
        assert!(wanted(SITE, Some("Requests,Gen0Collections")).is_err());
        assert!(wanted(PLAN, Some("Requests")).is_err());
        assert!(interval(Some("PT7M")).is_err());
        assert!(timespan(Some("yesterday")).is_err());
        assert!(timespan(Some("2026-01-02T00:00:00Z/2026-01-01T00:00:00Z")).is_err());
    }
}
