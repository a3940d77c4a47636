//! What the platform says a site or slot has served: Azure Monitor's metrics, minute by minute.
//!
//! <https://learn.microsoft.com/azure/azure-monitor/reference/supported-metrics/microsoft-web-sites-metrics>.
//! Azure keeps them by the minute and shows the current minute as it fills. There is no percentile among
//! them: the response time is a mean, and it is called one here.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cloud::{Cloud, Place};

/// The version of Azure Monitor's metrics API.
const API: &str = "2023-10-01";
/// What is asked for.
const NAMES: &str = "Requests,Http5xx,HttpResponseTime,HealthCheckStatus";

/// What was served in some span.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Served {
    /// Requests.
    pub requests: f64,
    /// Answers of 5xx.
    pub failed: f64,
    /// Seconds until the answers, in all.
    pub seconds: f64,
}

impl Served {
    /// Share of 5xx, in percent; `None` without a request.
    pub fn error_rate(&self) -> Option<f64> {
        (self.requests >= 1.0).then(|| 100.0 * self.failed / self.requests)
    }

    /// The mean time to an answer, in milliseconds; `None` without a request.
    pub fn mean_ms(&self) -> Option<f64> {
        (self.requests >= 1.0).then(|| 1000.0 * self.seconds / self.requests)
    }

    fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.failed += other.failed;
        self.seconds += other.seconds;
    }

    /// Less what was there before; never below nothing.
    #[must_use]
    pub fn less(&self, before: &Self) -> Self {
        Self {
            requests: (self.requests - before.requests).max(0.0),
            failed: (self.failed - before.failed).max(0.0),
            seconds: (self.seconds - before.seconds).max(0.0),
        }
    }
}

/// What was served, and in what state the instances were, by minutes since 1970.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Minutes {
    /// What was served.
    pub served: BTreeMap<i64, Served>,
    /// Which share of the instances the platform's own health check found in order, in percent.
    pub health: BTreeMap<i64, f64>,
}

/// The minute that an instant lies in.
pub fn minute(at: Timestamp) -> i64 {
    at.as_second().div_euclid(60)
}

impl Minutes {
    /// What was served from a minute on.
    pub fn since(&self, minute: i64) -> Served {
        let mut sum = Served::default();
        for served in self.served.range(minute..).map(|(_, served)| served) {
            sum.add(served);
        }
        sum
    }

    /// What was served in one minute.
    pub fn at(&self, minute: i64) -> Served {
        self.served.get(&minute).copied().unwrap_or_default()
    }

    /// The mean of the instances' health over some minutes; `None` where the platform says nothing of
    /// any of them.
    pub fn health(&self, minutes: RangeInclusive<i64>) -> Option<f64> {
        let known: Vec<f64> = self.health.range(minutes).map(|(_, health)| *health).collect();
        (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
    }

    /// Without what another reading counted already.
    #[must_use]
    pub fn less(&self, minute: i64, before: &Served) -> Self {
        let mut minutes = self.clone();
        if let Some(served) = minutes.served.get_mut(&minute) {
            *served = served.less(before);
        }
        minutes
    }

    /// From an answer of the metrics API.
    fn read(answer: &Value) -> Self {
        let mut minutes = Self::default();
        let mut mean = BTreeMap::new();
        let metrics = answer.get("value").and_then(Value::as_array);
        for metric in metrics.into_iter().flatten() {
            let name = metric.pointer("/name/value").and_then(Value::as_str).unwrap_or_default();
            let data = metric.pointer("/timeseries/0/data").and_then(Value::as_array);
            for point in data.into_iter().flatten() {
                let at = point.get("timeStamp").and_then(Value::as_str);
                let Some(at) = at.and_then(|at| at.parse::<Timestamp>().ok()) else { continue };
                let at = minute(at);
                let number = |field: &str| point.get(field).and_then(Value::as_f64);
                match name {
                    "Requests" => {
                        if let Some(total) = number("total") {
                            minutes.served.entry(at).or_default().requests = total;
                        }
                    }
                    "Http5xx" => {
                        if let Some(total) = number("total") {
                            minutes.served.entry(at).or_default().failed = total;
                        }
                    }
                    "HttpResponseTime" => {
                        if let Some(average) = number("average") {
                            mean.insert(at, average);
                        }
                    }
                    "HealthCheckStatus" => {
                        if let Some(average) = number("average") {
                            minutes.health.insert(at, average);
                        }
                    }
                    _ => {}
                }
            }
        }
        for (at, mean) in mean {
            if let Some(served) = minutes.served.get_mut(&at) {
                served.seconds = mean * served.requests;
            }
        }
        minutes
    }
}

impl Cloud {
    /// What a place has served since an instant, by the minute.
    pub async fn served(
        &self,
        place: Place,
        since: Timestamp,
    ) -> Result<Minutes, lazuli_azure::Error> {
        let to_minute = |second: i64| Timestamp::from_second(second).unwrap_or(since);
        let start = to_minute(minute(since) * 60);
        // A little ahead: the current minute belongs to it.
        let end = to_minute((minute(Timestamp::now()) + 1) * 60);
        let path = format!(
            "{}/providers/Microsoft.Insights/metrics?metricnames={NAMES}&interval=PT1M\
             &aggregation=Total,Average&timespan={start}/{end}",
            self.id(place)
        );
        Ok(Minutes::read(&self.client().get(path, API).await?))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_answer_is_read_and_a_minute_without_values_is_nothing() {
        let series = |name: &str, field: &str, values: [Option<f64>; 2]| {
            let point = |at: &str, value: Option<f64>| match value {
                Some(value) => json!({ "timeStamp": at, field: value }),
                None => json!({ "timeStamp": at }),
            };
            json!({ "name": { "value": name }, "timeseries": [{ "data": [
                point("2026-01-01T00:00:00Z", values[0]), point("2026-01-01T00:01:00Z", values[1]),
            ] }] })
        };
        let minutes = Minutes::read(&json!({ "value": [
            series("Requests", "total", [Some(10.0), None]),
            series("Http5xx", "total", [Some(1.0), None]),
            series("HttpResponseTime", "average", [Some(0.2), None]),
            series("HealthCheckStatus", "average", [Some(100.0), Some(50.0)]),
        ] }));
        assert_eq!(minutes.served.len(), 1);
        let served = minutes.since(0);
        assert_eq!((served.error_rate(), served.mean_ms()), (Some(10.0), Some(200.0)));
        let at = *minutes.served.keys().next().expect("one");
        let health = (minutes.health(at..=at), minutes.health(at..=at + 1));
        assert_eq!(health, (Some(100.0), Some(75.0)));
        assert_eq!(minutes.health(at + 2..=at + 9), None);
        let rest = minutes.less(at, &Served { requests: 4.0, failed: 1.0, seconds: 1.0 });
        assert_eq!((rest.since(0).requests, rest.since(0).error_rate()), (6.0, Some(0.0)));
    }
}
