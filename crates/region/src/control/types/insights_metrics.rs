//! `Microsoft.Insights/metrics` of a site or slot, an extension of any resource
//! (<https://learn.microsoft.com/rest/api/monitor/metrics/list>): real counts from the front end, by
//! the minute. The names are those of
//! <https://learn.microsoft.com/azure/azure-monitor/reference/supported-metrics/microsoft-web-sites-metrics>;
//! what this region does not measure is refused by name rather than answered with zeros.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::Method;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{Call, Registry, Reply, web::app};
use crate::{
    appservice::{metrics::Bin, records::slot_key},
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
        name: "HealthCheckStatus",
        called: "Health check status",
        unit: "Count",
        primary: "Average",
        of: |bin| (bin.health.0 > 0).then_some(Sum { total: bin.health.1, count: bin.health.0 }),
    },
];

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
        let slot = slot_key(&call.id).ok_or_else(|| unmeasured(call))?;
        let app = app(context)?;
        let record = app.records.slot(&slot).ok_or_else(|| ArmError::not_found(&call.id))?;
        if call.query.get("$filter").is_some_and(|filter| !filter.trim().is_empty()) {
            return Err(bad("Dimensions are not kept in this region: leave out '$filter'."));
        }
        let wanted = wanted(call.query.get("metricnames"))?;
        let minutes = interval(call.query.get("interval"))?;
        let (from, to) = timespan(call.query.get("timespan"))?;
        if (to - from) / 60 / minutes > MOST {
            return Err(bad("The time span holds too many points: ask for a longer interval."));
        }
        // Points begin at multiples of the interval, as Azure's do.
        let first = from.div_euclid(60 * minutes) * minutes;
        let last = (to - 1).max(from).div_euclid(60);
        let served = app.served(&slot, first, last);
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
            "resourceregion": record.location,
        })))
    })
}

fn definitions<'a>(
    context: &'a Arc<Context>,
    call: &'a Call<'a>,
) -> BoxFuture<'a, Result<Reply, ArmError>> {
    Box::pin(async move {
        let slot = slot_key(&call.id).ok_or_else(|| unmeasured(call))?;
        app(context)?.records.slot(&slot).ok_or_else(|| ArmError::not_found(&call.id))?;
        let value: Vec<Value> = SITE
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
        "This region measures web apps and their slots; it keeps no metrics of '{}'.",
        call.id.kind()
    ))
}

fn wanted(names: Option<&str>) -> Result<Vec<&'static Metric>, ArmError> {
    let names = names.unwrap_or("Requests");
    let find = |name: &str| {
        SITE.iter().find(|metric| metric.name.eq_ignore_ascii_case(name)).ok_or_else(|| {
            let known: Vec<&str> = SITE.iter().map(|metric| metric.name).collect();
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
        let failed = wanted(Some("Http5xx")).expect("known")[0];
        let data = points(failed, &served, 10, 19, 5, "Total");
        assert_eq!((data[0]["total"].as_f64(), data[1]["total"].as_f64()), (Some(1.0), Some(0.0)));
        let time = wanted(Some("httpresponsetime")).expect("known")[0];
        let data = points(time, &served, 10, 12, 1, "Average,Count");
        assert_eq!(data[0]["average"].as_f64(), Some(0.002));
        assert_eq!(data[1]["count"].as_u64(), Some(6));
        assert_eq!(data[2].get("average"), None);
    }

    #[test]
    fn what_is_not_measured_is_refused() {
        assert!(wanted(Some("Requests,CpuTime")).is_err());
        assert!(interval(Some("PT7M")).is_err());
        assert!(timespan(Some("yesterday")).is_err());
        assert!(timespan(Some("2026-01-02T00:00:00Z/2026-01-01T00:00:00Z")).is_err());
    }
}
