//! Looking at production after the switch, and saying when it must be undone.
//!
//! The standard's *Rollback Trigger*: 5xx above 5 % within 10 minutes, failing health, failing
//! dependencies. The figures are the platform's ([`crate::metrics`]); health and readiness are asked of
//! production itself. What the old version did before the switch is the measure for what cannot be
//! judged absolutely.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use lazuli_standard::data::release as standard;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::cloud::{Cloud, Place};
use crate::metrics::{Minutes, Served, minute};

/// How far back the old version's own figures count.
pub const BASELINE: Duration = Duration::from_mins(30);
/// Fewer requests than this say nothing.
const ENOUGH: f64 = 20.0;
/// Fewer failures than this may be chance.
const FAILURES: f64 = 3.0;
/// A new version may take this many times as long as the old one …
const SLOWER: f64 = 2.0;
/// … and this much longer, in milliseconds, before it is too slow.
const SLACK_MS: f64 = 200.0;
/// And never longer than this on average, whatever the old one took: the standard's warning.
const SLOWEST_MS: f64 = 5_000.0;
/// The signal that is judged by a mean.
const TIME: &str = "response time";
/// Looks in a row that must agree on what is not counted: the standard's three consecutive failures.
const IN_A_ROW: u32 = 3;
/// Below this share of instances in order, in percent, a site is failing, whatever the others still
/// answer. An instance that is only being added to two others does not bring it so low.
const IN_ORDER: f64 = 60.0;
/// What the platform's health check needs to see of the new version before it says anything.
const SETTLED: Duration = Duration::from_secs(15);
/// How long a new version may be slow because it is new.
const WARM: Duration = Duration::from_secs(10);
/// What counts as lately.
const LATELY: Duration = Duration::from_secs(5);
/// Between two looks.
const EVERY: Duration = Duration::from_secs(2);
/// How long a look may wait for health or readiness.
const PATIENCE: Duration = Duration::from_secs(10);

/// The old version's figures, and where the counts of the new one begin.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Baseline {
    /// What the old version served, up to half an hour before the switch.
    pub before: Served,
    /// When routing switched, and what the platform had counted in that very minute by then.
    pub switched: Option<(Timestamp, Served)>,
}

/// A signal that production must go back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Breach {
    /// `5xx`, `response time`, `health`, `readiness`, `instances`, `worker`, `scheduler`.
    pub signal: String,
    /// What was seen, with the numbers.
    pub what: String,
    /// Milliseconds after the switch.
    pub after_ms: u64,
}

/// How things stand.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Standing {
    /// Since the switch, in seconds.
    pub watched_s: u64,
    /// What the new version has served.
    pub served: Served,
    /// Looks that the platform answered.
    pub looks: u32,
    /// Looks that the platform did not answer.
    pub blind: u32,
    /// Why production must go back.
    pub breach: Option<Breach>,
    /// Whether the time is over.
    pub over: bool,
}

impl Standing {
    /// In one line.
    pub fn line(&self, baseline: &Served) -> String {
        if self.looks == 0 && self.blind > 0 {
            return "the platform gave no figures; health and readiness answered".to_owned();
        }
        if self.served.requests < ENOUGH {
            return format!(
                "{} requests: too few to judge errors and times by; health and readiness answered",
                self.served.requests
            );
        }
        let times = match (self.served.mean_ms(), baseline.mean_ms()) {
            (Some(now), Some(before)) => {
                format!(", {now:.0} ms on average (before: {before:.0} ms)")
            }
            (Some(now), None) => format!(", {now:.0} ms on average"),
            _ => String::new(),
        };
        let rate = self.served.error_rate().unwrap_or_default();
        format!("{} requests, {rate:.1} % of them 5xx{times}", self.served.requests)
    }
}

/// Judges what the platform counted. Pure: `minutes` are the new version's alone, `now` the current
/// minute.
pub fn judge(minutes: &Minutes, now: i64, before: &Served) -> Option<(&'static str, String)> {
    let window = i64::try_from(standard::ROLLBACK_WINDOW.as_secs() / 60).unwrap_or(10);
    // The whole window, and the last minute or two: what begins late must not drown in what went well.
    for (from, called) in [(now - window + 1, "since the switch"), (now - 1, "in the last minutes")]
    {
        let served = minutes.since(from);
        let limit = *standard::ROLLBACK_ERROR_RATE;
        let usual = before.error_rate().filter(|_| before.requests >= ENOUGH).unwrap_or(0.0);
        let rate = served.error_rate().unwrap_or_default();
        // Where the old version failed as often, going back helps nobody.
        if served.requests >= ENOUGH
            && served.failed >= FAILURES
            && rate > limit
            && rate > usual * 1.5
        {
            return Some((
                "5xx",
                format!(
                    "{} of {} requests {called} were answered 5xx: {rate:.1} %, where {limit} % is the limit and {usual:.1} % was usual",
                    served.failed, served.requests
                ),
            ));
        }
        let Some(mean) = served.mean_ms().filter(|_| served.requests >= ENOUGH) else { continue };
        let usual = before.mean_ms().filter(|_| before.requests >= ENOUGH);
        let limit = slowest(before);
        if mean > limit && usual.is_none_or(|usual| mean > usual * 1.5) {
            let usual = usual.map_or_else(
                || "nothing is known of the version before".to_owned(),
                |usual| format!("{usual:.0} ms was usual"),
            );
            return Some((
                TIME,
                format!(
                    "{} requests {called} took {mean:.0} ms on average, where {limit:.0} ms is the limit and {usual}",
                    served.requests
                ),
            ));
        }
    }
    None
}

/// How long an answer may take on average, in milliseconds.
fn slowest(before: &Served) -> f64 {
    let usual = before.mean_ms().filter(|_| before.requests >= ENOUGH);
    usual.map_or(SLOWEST_MS, |usual| (usual * SLOWER).max(usual + SLACK_MS).min(SLOWEST_MS))
}

/// What was served by when, look by look, to tell a version that is slow from one that was slow when it
/// was new: its first answers fill caches and pools.
#[derive(Debug, Default)]
struct History(VecDeque<(Duration, Served)>);

impl History {
    /// Whether what was answered lately was too slow as well. `at` counts from the switch.
    fn still_slow(&mut self, at: Duration, served: Served, before: &Served) -> bool {
        let lately = self.0.iter().rev().find(|(then, _)| *then + LATELY <= at);
        let slow = lately.is_some_and(|(_, then)| {
            let since = served.less(then);
            since.requests >= ENOUGH && since.mean_ms().is_some_and(|ms| ms > slowest(before))
        });
        self.0.push_back((at, served));
        while self.0.len() > 60 {
            self.0.pop_front();
        }
        slow && at >= WARM
    }
}

/// Judges the state that the platform's health check sees production's instances in: one that crashes
/// and is started again is out of rotation meanwhile. `from` is the minute of the switch.
pub fn judge_instances(minutes: &Minutes, from: i64, now: i64) -> Option<String> {
    let health = minutes.health((now - 1).max(from)..=now)?;
    (health < IN_ORDER).then(|| {
        format!(
            "{health:.0} % of the instances were in order in the last minutes by the platform's health check, where {IN_ORDER} % is the limit"
        )
    })
}

/// Judges a site that serves nobody, the worker's or the scheduler's: while it is deployed it may be
/// away for a moment, but not for two whole minutes.
pub fn judge_silent(minutes: &Minutes, from: i64, now: i64) -> Option<String> {
    let whole = (now - 2).max(from + 1)..=now - 1;
    if whole.clone().count() < 2 {
        return None;
    }
    let low = whole.clone().all(|at| minutes.health(at..=at).is_some_and(|h| h < IN_ORDER));
    let health = minutes.health(whole).filter(|_| low)?;
    Some(format!(
        "{health:.0} % of its instances were in order in the last two minutes by the platform's health check, where {IN_ORDER} % is the limit"
    ))
}

/// A watch under way, in a task of its own; dropped, it ends.
#[derive(Debug)]
pub struct Watcher {
    standing: watch::Receiver<Standing>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What to look at.
#[derive(Clone, Debug)]
pub struct Look {
    /// Where.
    pub cloud: Cloud,
    /// The path that must answer 2xx.
    pub health: String,
    /// The path that must answer 2xx while its dependencies do.
    pub readiness: String,
    /// What the old version did.
    pub baseline: Baseline,
    /// For how long, from the switch.
    pub lasts: Duration,
}

impl Watcher {
    /// Begins to watch.
    pub fn start(look: Look) -> Arc<Self> {
        let (tell, standing) = watch::channel(Standing::default());
        let task = tokio::spawn(look.run(tell));
        Arc::new(Self { standing, task })
    }

    /// Waits for a breach; never resolves without one.
    pub async fn breached(&self) -> Breach {
        let mut standing = self.standing.clone();
        let found = standing.wait_for(|standing| standing.breach.is_some()).await;
        match found.ok().and_then(|standing| standing.breach.clone()) {
            Some(breach) => breach,
            None => std::future::pending().await,
        }
    }

    /// Waits for a change.
    pub async fn next(&self, seen: &mut watch::Receiver<Standing>) -> Standing {
        // The sender lives as long as the task, which ends with a breach or with the time.
        let _ = seen.changed().await;
        seen.borrow_and_update().clone()
    }

    /// How things stand.
    pub fn receiver(&self) -> watch::Receiver<Standing> {
        self.standing.clone()
    }
}

impl Look {
    async fn run(self, tell: watch::Sender<Standing>) {
        let (switched, counted) =
            self.baseline.switched.unwrap_or_else(|| (Timestamp::now(), Served::default()));
        let passed = || {
            let since = Timestamp::now().duration_since(switched);
            Duration::try_from(since).unwrap_or_default()
        };
        let mut standing = Standing::default();
        // In a row: slow or failing by the counts, health, readiness, instances.
        let mut rows = [0_u32; 4];
        let mut history = History::default();
        loop {
            let began = Instant::now();
            let (figures, worker, scheduler, health, readiness) = tokio::join!(
                self.cloud.served(Place::Production, switched),
                self.silent(Place::Worker, switched),
                self.silent(Place::Scheduler, switched),
                self.cloud.answers(Place::Production, &self.health, PATIENCE),
                self.cloud.answers(Place::Production, &self.readiness, PATIENCE),
            );
            let mut wrong: Option<(&str, String)> = None;
            match figures {
                Ok(minutes) => {
                    standing.looks += 1;
                    let ours = minutes.less(minute(switched), &counted);
                    standing.served = ours.since(minute(switched));
                    let before = &self.baseline.before;
                    let still_slow = history.still_slow(passed(), standing.served, before);
                    let judged = judge(&ours, minute(Timestamp::now()), before)
                        .filter(|(signal, _)| *signal != TIME || still_slow);
                    rows[0] = if judged.is_some() { rows[0] + 1 } else { 0 };
                    // Counts do not come and go: twice is certain enough.
                    wrong = judged.filter(|_| rows[0] >= 2);
                    let now = minute(Timestamp::now());
                    let sick = judge_instances(&minutes, minute(switched), now)
                        .filter(|_| passed() >= SETTLED);
                    rows[3] = if sick.is_some() { rows[3] + 1 } else { 0 };
                    if let Some(what) = sick.filter(|_| rows[3] >= IN_A_ROW) {
                        wrong = wrong.or(Some(("instances", what)));
                    }
                }
                Err(error) => {
                    standing.blind += 1;
                    tracing::debug!(%error, "no figures");
                }
            }
            // Two whole minutes are certain enough.
            for (signal, what) in [("worker", worker), ("scheduler", scheduler)] {
                wrong = wrong.or(what.map(|what| (signal, what)));
            }
            for (row, signal, outcome) in [(1, "health", health), (2, "readiness", readiness)] {
                match outcome {
                    Ok(()) => rows[row] = 0,
                    Err(what) => {
                        rows[row] += 1;
                        if rows[row] >= IN_A_ROW && wrong.is_none() {
                            wrong = Some((signal, format!("{what}, {} times in a row", rows[row])));
                        }
                    }
                }
            }
            let watched = passed();
            standing.watched_s = watched.as_secs();
            standing.breach = wrong.map(|(signal, what)| Breach {
                signal: signal.to_owned(),
                what,
                after_ms: crate::event::millis(watched),
            });
            // What looks bad at the very end is looked at once more.
            standing.over = watched >= self.lasts && rows == [0; 4];
            let ends = standing.over || standing.breach.is_some();
            if tell.send(standing.clone()).is_err() || ends {
                // Whoever waits for a breach must not be told that nobody watches.
                return tell.closed().await;
            }
            let rest = self.lasts.saturating_sub(watched).max(Duration::from_millis(200));
            let every = if rows == [0; 4] { EVERY } else { EVERY / 2 };
            tokio::time::sleep(every.min(rest).saturating_sub(began.elapsed() / 4)).await;
        }
    }
}

impl Look {
    /// What is wrong with a site that serves nobody, if there is one and the platform says.
    async fn silent(&self, place: Place, since: Timestamp) -> Option<String> {
        if !self.cloud.has(place) {
            return None;
        }
        let minutes = self.cloud.served(place, since).await.ok()?;
        judge_silent(&minutes, minute(since), minute(Timestamp::now()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn served(requests: f64, failed: f64, ms: f64) -> Served {
        Served { requests, failed, seconds: requests * ms / 1000.0 }
    }

    fn minutes(all: &[(i64, Served)]) -> Minutes {
        Minutes { served: all.iter().copied().collect(), ..Minutes::default() }
    }

    fn health(all: &[(i64, f64)]) -> Minutes {
        Minutes { health: all.iter().copied().collect(), ..Minutes::default() }
    }

    #[test]
    fn instances_that_crash_again_and_again_are_a_breach_and_one_that_is_added_is_not() {
        let half = health(&[(100, 100.0), (101, 50.0), (102, 50.0)]);
        let what = judge_instances(&half, 100, 102).expect("a breach");
        assert!(what.starts_with("50 % of the instances"), "{what}");
        // A third beside two, and what the old version's instances did before the switch.
        assert_eq!(judge_instances(&health(&[(102, 66.7)]), 100, 102), None);
        assert_eq!(judge_instances(&health(&[(99, 0.0), (100, 100.0)]), 100, 100), None);
        // A platform that says nothing is no breach.
        assert_eq!(judge_instances(&Minutes::default(), 100, 102), None);
    }

    #[test]
    fn a_worker_may_be_away_while_it_is_deployed_and_no_longer() {
        let away = health(&[(100, 20.0), (101, 30.0), (102, 100.0), (103, 0.0)]);
        assert_eq!(judge_silent(&away, 100, 103), None);
        let down = health(&[(100, 100.0), (101, 10.0), (102, 0.0), (103, 100.0)]);
        let what = judge_silent(&down, 100, 103).expect("a breach");
        assert!(what.starts_with("5 % of its instances"), "{what}");
        assert_eq!(judge_silent(&down, 101, 103), None, "two whole minutes are waited for");
    }

    const GOOD: Served = Served { requests: 3000.0, failed: 3.0, seconds: 60.0 };

    #[test]
    fn a_tenth_of_5xx_is_a_breach_and_says_the_numbers() {
        let seen = judge(&minutes(&[(100, served(200.0, 20.0, 20.0))]), 100, &GOOD);
        let (signal, what) = seen.expect("a breach");
        assert_eq!(signal, "5xx");
        assert!(what.starts_with("20 of 200 requests since the switch were answered 5xx: 10.0 %"));
    }

    #[test]
    fn what_begins_late_does_not_drown_in_what_went_well() {
        let mut all: Vec<_> = (91..=99).map(|at| (at, served(600.0, 0.0, 20.0))).collect();
        all.push((100, served(200.0, 60.0, 20.0)));
        let (_, what) = judge(&minutes(&all), 100, &GOOD).expect("a breach");
        assert!(what.contains("in the last minutes"), "{what}");
    }

    #[test]
    fn what_the_old_version_did_as_well_is_no_breach() {
        let before = served(1000.0, 80.0, 900.0);
        let now = minutes(&[(100, served(200.0, 16.0, 1000.0))]);
        assert_eq!(judge(&now, 100, &before), None);
    }

    #[test]
    fn slow_because_it_is_new_is_given_time_and_slow_for_good_is_not() {
        let at = |second: u32| Duration::from_secs(second.into());
        // Two seconds an answer at first, and as usual from then on.
        let mut history = History::default();
        let looks = (1..=15_u32).map(|second| {
            let slow = second.min(4);
            let served = Served {
                requests: 25.0 * f64::from(second),
                failed: 0.0,
                seconds: 50.0 * f64::from(slow) + 0.5 * f64::from(second - slow),
            };
            (second, served)
        });
        for (second, served) in looks {
            assert!(!history.still_slow(at(second), served, &GOOD), "after {second} s");
        }
        let mut history = History::default();
        let slow = (1..=12_u32).map(|second| {
            let served = served(25.0 * f64::from(second), 0.0, 900.0);
            history.still_slow(at(second), served, &GOOD)
        });
        let slow: Vec<bool> = slow.collect();
        assert_eq!(slow.iter().position(|slow| *slow), Some(9), "{slow:?}");
    }

    #[test]
    fn three_times_as_slow_is_a_breach_and_a_few_milliseconds_are_not() {
        let slow = minutes(&[(100, served(100.0, 0.0, 320.0))]);
        assert_eq!(judge(&slow, 100, &GOOD).map(|(signal, _)| signal), Some("response time"));
        let fast = minutes(&[(100, served(100.0, 0.0, 60.0))]);
        assert_eq!(judge(&fast, 100, &GOOD), None);
    }

    proptest! {
        /// Too little traffic is never a verdict, whatever it looks like.
        #[test]
        fn few_requests_are_no_verdict(requests in 0.0..19.9_f64, share in 0.0..1.0_f64, ms in 0.0..60_000.0_f64) {
            let now = minutes(&[(100, served(requests.floor(), (requests * share).floor(), ms))]);
            prop_assert_eq!(judge(&now, 100, &GOOD), None);
        }

        /// More failures never turn a breach into none.
        #[test]
        fn worse_is_worse(requests in 20.0..5000.0_f64, failed in 0.0..1.0_f64, more in 0.0..1.0_f64) {
            let requests = requests.floor();
            let few = (requests * failed).floor();
            let many = few + ((requests - few) * more).floor();
            let of = |failed| judge(&minutes(&[(100, served(requests, failed, 20.0))]), 100, &GOOD);
            prop_assert!(of(few).is_none() || of(many).is_some());
        }
    }
}
