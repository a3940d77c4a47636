//! What happens while something long runs (a provision, a release), as events for whoever watches:
//! the terminal, a CI log, a JSON stream, the journal.
//!
//! The code that works holds a [`Reporter`] and opens a [`Step`] for each thing a person would want
//! a line about. A step always ends: dropped without an end, it reports that it was abandoned.
//!
//! ```
//! use lazuli_release::event::Reporter;
//! let reporter = Reporter::silent();
//! let step = reporter.step("vnet", "Virtual network notes-vnet");
//! step.message("waiting for Microsoft.Network/virtualNetworks");
//! step.done("created");
//! ```

use std::fmt::Display;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

/// One thing that happened. Serialised as one JSON object a line by `--output json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "camelCase", rename_all_fields = "camelCase")]
#[non_exhaustive]
pub enum Event {
    /// A step begins. `step` is a short stable name (`swap`), unique among the steps now open.
    Started {
        /// Stable name.
        step: String,
        /// What a person reads.
        title: String,
    },
    /// What an open step is doing right now; replaces the previous message.
    Progress {
        /// Stable name.
        step: String,
        /// What a person reads.
        message: String,
    },
    /// How far an open step is, in units of its own (bytes sent, instances warm).
    Measured {
        /// Stable name.
        step: String,
        /// So far.
        done: u64,
        /// Of how many.
        total: u64,
    },
    /// A line somebody else's program wrote: build log, migration output.
    Output {
        /// Stable name.
        step: String,
        /// The line, as it came.
        line: String,
    },
    /// A step ended well.
    Finished {
        /// Stable name.
        step: String,
        /// What a person reads.
        title: String,
        /// Whether anything had to be done.
        outcome: Outcome,
        /// The result in a few words, perhaps empty.
        detail: String,
        /// How long it took.
        elapsed_ms: u64,
    },
    /// A step ended badly. The error itself is returned by the function that ran the step.
    Failed {
        /// Stable name.
        step: String,
        /// What a person reads.
        title: String,
        /// The cause in one line.
        error: String,
        /// How long it took.
        elapsed_ms: u64,
    },
    /// A line of the release's journal is on disk.
    Recorded {
        /// The release.
        release: u32,
        /// The line, from 1.
        line: u64,
    },
    /// Something worth knowing that is no step.
    Note {
        /// What a person reads.
        message: String,
    },
    /// Something that did not stop the work and should be looked at.
    Warning {
        /// What a person reads.
        message: String,
    },
}

/// How a step that succeeded ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// The step changed something.
    Done,
    /// Everything was already as it should be.
    Unchanged,
    /// The step does not apply here.
    Skipped,
}

/// Where events go. Cheap to clone; callable from any task.
#[derive(Clone)]
pub struct Reporter(Arc<dyn Fn(Event) + Send + Sync>);

impl std::fmt::Debug for Reporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reporter")
    }
}

impl Reporter {
    /// Sends every event to `sink`.
    pub fn new(sink: impl Fn(Event) + Send + Sync + 'static) -> Self {
        Self(Arc::new(sink))
    }

    /// Drops every event.
    pub fn silent() -> Self {
        Self::new(|_| {})
    }

    /// Sends one event.
    pub fn emit(&self, event: Event) {
        (self.0)(event);
    }

    /// Something worth knowing.
    pub fn note(&self, message: impl Display) {
        self.emit(Event::Note { message: message.to_string() });
    }

    /// Something to look at.
    pub fn warn(&self, message: impl Display) {
        self.emit(Event::Warning { message: message.to_string() });
    }

    /// Begins a step. `name` is short, stable and unique among open steps; `title` is for people.
    #[must_use = "a step that is dropped at once is reported as abandoned"]
    pub fn step(&self, name: impl Into<String>, title: impl Into<String>) -> Step {
        let (name, title) = (name.into(), title.into());
        self.emit(Event::Started { step: name.clone(), title: title.clone() });
        Step { reporter: self.clone(), name, title, started: Instant::now(), open: true }
    }
}

/// A step that has begun and not ended.
#[derive(Debug)]
pub struct Step {
    reporter: Reporter,
    name: String,
    title: String,
    started: Instant,
    open: bool,
}

impl Step {
    /// What the step is doing now.
    pub fn message(&self, message: impl Display) {
        let (step, message) = (self.name.clone(), message.to_string());
        self.reporter.emit(Event::Progress { step, message });
    }

    /// How far it is.
    pub fn measure(&self, done: u64, total: u64) {
        self.reporter.emit(Event::Measured { step: self.name.clone(), done, total });
    }

    /// A line of another program's output.
    pub fn output(&self, line: impl Into<String>) {
        self.reporter.emit(Event::Output { step: self.name.clone(), line: line.into() });
    }

    /// Since the step began.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Ends well, with the result in a few words (or nothing).
    pub fn done(self, detail: impl Display) {
        self.finish(Outcome::Done, detail.to_string());
    }

    /// Ends well: there was nothing to do.
    pub fn unchanged(self, detail: impl Display) {
        self.finish(Outcome::Unchanged, detail.to_string());
    }

    /// Ends well: the step does not apply, for the reason given.
    pub fn skipped(self, reason: impl Display) {
        self.finish(Outcome::Skipped, reason.to_string());
    }

    /// Ends badly, with the cause in one line.
    pub fn fail(mut self, error: impl Display) {
        self.fail_now(error.to_string());
    }

    fn finish(mut self, outcome: Outcome, detail: String) {
        self.open = false;
        self.reporter.emit(Event::Finished {
            step: self.name.clone(),
            title: self.title.clone(),
            outcome,
            detail,
            elapsed_ms: millis(self.elapsed()),
        });
    }

    fn fail_now(&mut self, error: String) {
        self.open = false;
        self.reporter.emit(Event::Failed {
            step: self.name.clone(),
            title: self.title.clone(),
            error,
            elapsed_ms: millis(self.elapsed()),
        });
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if self.open {
            self.fail_now("abandoned".to_owned());
        }
    }
}

/// Whole milliseconds, saturating.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn a_step_always_ends() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let reporter = {
            let seen = Arc::clone(&seen);
            Reporter::new(move |event| seen.lock().expect("not poisoned").push(event))
        };
        drop(reporter.step("swap", "Swap"));
        let seen = seen.lock().expect("not poisoned");
        assert!(
            matches!(&seen[..], [Event::Started { .. }, Event::Failed { error, .. }] if error == "abandoned")
        );
    }

    #[test]
    fn json_names_are_camel_case() {
        let event = Event::Finished {
            step: "swap".into(),
            title: "Swap".into(),
            outcome: Outcome::Unchanged,
            detail: String::new(),
            elapsed_ms: 7,
        };
        assert_eq!(
            serde_json::to_string(&event).expect("serialises"),
            r#"{"event":"finished","step":"swap","title":"Swap","outcome":"unchanged","detail":"","elapsedMs":7}"#
        );
    }
}
