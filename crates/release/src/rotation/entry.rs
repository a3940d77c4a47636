//! What a rotation's journal says. Never a value: names, versions, times.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::journal::Record;

/// A line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Entry {
    /// A rotation begins.
    Began(Box<Began>),
    /// A step is about to begin.
    Started {
        /// Which.
        step: Step,
    },
    /// A fact that a resumption needs.
    Noted {
        /// Which step.
        step: Step,
        /// What of.
        name: String,
        /// The fact.
        value: String,
    },
    /// A step ended well.
    Done {
        /// Which.
        step: Step,
        /// In a few words.
        detail: String,
        /// How long it took.
        elapsed_ms: u64,
    },
    /// A step ended badly.
    Failed {
        /// Which.
        step: Step,
        /// The cause.
        error: String,
    },
    /// The old versions are disabled at this time.
    Due {
        /// When.
        at: Timestamp,
    },
    /// Somebody took it up again.
    Resumed {
        /// Who.
        by: String,
        /// On which host.
        host: String,
    },
    /// It is over.
    Ended {
        /// How.
        outcome: Outcome,
    },
}

/// How a rotation began.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Began {
    /// From 1 in each environment.
    pub number: u32,
    /// The app.
    pub app: String,
    /// The environment.
    pub environment: String,
    /// `local` or `azure`; journals from before there was a choice are a region's.
    #[serde(default = "local")]
    pub target: String,
    /// The secret that was asked for.
    pub secret: String,
    /// All that hang on the same credential.
    pub secrets: Vec<String>,
    /// Who.
    pub by: String,
    /// On which host.
    pub host: String,
    /// The version of this program.
    pub lazuli: String,
    /// The confirmation period, seconds.
    pub confirm_seconds: u64,
}

fn local() -> String {
    "local".to_owned()
}

/// A step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// A credential beside the old one, and a new version in the vault.
    NewVersion,
    /// The staging slot on the new version.
    Staging,
    /// The worker on the new version.
    Worker,
    /// The scheduler on the new version.
    Scheduler,
    /// Production on the new version.
    Production,
    /// The confirmation period.
    Confirm,
    /// The server forgets the old credential.
    Retire,
    /// The old versions are disabled in the vault.
    Disable,
}

impl Step {
    /// The name in events and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::NewVersion => "new-version",
            Self::Staging => "staging",
            Self::Worker => "worker",
            Self::Scheduler => "scheduler",
            Self::Production => "production",
            Self::Confirm => "confirm",
            Self::Retire => "retire",
            Self::Disable => "disable",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How a rotation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// The app uses the new version; the old one works no more.
    Rotated,
    /// The app uses the old value, which is the newest version again.
    Undone,
}

/// How it began.
pub fn began(records: &[Record<Entry>]) -> Option<&Began> {
    records.iter().find_map(|record| match &record.entry {
        Entry::Began(began) => Some(began.as_ref()),
        _ => None,
    })
}

/// How it ended.
pub fn outcome(records: &[Record<Entry>]) -> Option<Outcome> {
    records.iter().rev().find_map(|record| match record.entry {
        Entry::Ended { outcome } => Some(outcome),
        _ => None,
    })
}

/// When the old versions are to be disabled.
pub fn due(records: &[Record<Entry>]) -> Option<Timestamp> {
    records.iter().rev().find_map(|record| match record.entry {
        Entry::Due { at } => Some(at),
        _ => None,
    })
}

/// The latest fact of that name that a step noted.
pub fn noted<'a>(records: &'a [Record<Entry>], step: Step, name: &str) -> Option<&'a str> {
    records.iter().rev().find_map(|record| match &record.entry {
        Entry::Noted { step: s, name: n, value } if *s == step && n == name => Some(value.as_str()),
        _ => None,
    })
}

/// Whether a step was done.
pub fn is_done(records: &[Record<Entry>], step: Step) -> bool {
    records.iter().any(|record| matches!(record.entry, Entry::Done { step: s, .. } if s == step))
}
