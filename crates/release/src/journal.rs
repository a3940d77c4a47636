//! The journal: what a release meant to do and what came of it, on disk before it happens.
//!
//! One file a release, `.lazuli/releases/<environment>/0007.jsonl`; one JSON object a line; each line
//! carries the hash of the one before it and its own, and the first line the last hash of the
//! release before. A line is on disk before the step it announces begins. A crash can cut the last
//! line short, nothing else: a file that ends in half a line reads as what came before it, and a file
//! that is wrong anywhere else was tampered with and is not read.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::event::{Event, Reporter};
use crate::package::{Package, hex};

/// The hash before the first line of the first release.
const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// The largest journal that is read; a release writes some 10 KiB.
const LIMIT: u64 = 16 << 20;

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// It could not be read or written.
    #[error("cannot use the journal {}", .0.display())]
    Io(PathBuf, #[source] io::Error),
    /// A line is not what was written.
    #[error("line {line} of the journal {} was changed after it was written: {what}", path.display())]
    Tampered {
        /// The journal.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        what: String,
    },
    /// There is no such release.
    #[error("there is no release {0}")]
    NoSuchRelease(u32),
}

/// A line of the journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record<E = Entry> {
    /// From 0.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// The hash of the line before.
    pub prev: String,
    /// What.
    pub entry: E,
}

/// What a line says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Entry {
    /// A release begins.
    Began(Box<Began>),
    /// The package is made.
    Packaged {
        /// What it is.
        package: Package,
    },
    /// What the platform said was deployed where, before anything was changed.
    Found {
        /// The state.
        state: Deployed,
    },
    /// A step is about to begin.
    Started {
        /// Which.
        step: Step,
    },
    /// A fact a step learned that a resumption needs or a reader wants: the id of a deployment, the
    /// address of an operation, the figures of a check.
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
        /// The last lines of the log that shows it.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        log: Vec<String>,
        /// How long it took.
        elapsed_ms: u64,
    },
    /// What a step or a gate rests on, or found out, in full.
    Evidence {
        /// Which step.
        step: Step,
        /// What of: a gate's name, `trial`, `baseline`, `watch`, `sbom`.
        name: String,
        /// The facts.
        value: serde_json::Value,
    },
    /// Somebody took an interrupted release up again.
    Resumed {
        /// Who.
        by: String,
        /// On which host.
        host: String,
        /// To what end: `resume`, `abort`, `rollback`.
        to: String,
    },
    /// The release is over.
    Ended {
        /// How.
        outcome: Outcome,
        /// From the beginning (of this process's part, if it was resumed).
        elapsed_ms: u64,
    },
}

/// How a release began.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Began {
    /// The release's number, from 1 in each environment.
    pub number: u32,
    /// What it is.
    pub kind: Kind,
    /// The app.
    pub app: String,
    /// The environment.
    pub environment: String,
    /// `local` or `azure`.
    pub target: String,
    /// Who.
    pub by: String,
    /// On which host.
    pub host: String,
    /// The version of this program.
    pub lazuli: String,
    /// The release whose version a rollback brings back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub back_to: Option<u32>,
    /// The steps, in order.
    pub plan: Vec<Step>,
    /// How long production is watched after the switch, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watch_s: Option<u64>,
    /// The gates that a person accepts though they fail.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accepted: Vec<String>,
    /// Shares of the traffic, in percent, that the new version gets before the switch.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub canary: Vec<u8>,
}

/// What a release is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// A new version.
    Deploy,
    /// The previous version again.
    Rollback,
    /// The slots exchanged, whatever they hold.
    Swap,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Deploy => "deploy",
            Self::Rollback => "rollback",
            Self::Swap => "swap",
        })
    }
}

/// A step of a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Step {
    /// Make the package.
    Package,
    /// Ask the checklist's gates.
    Gates,
    /// Deploy it to the slot that is not production (or to the only one).
    Deploy,
    /// Try the migrations on a copy of the staging slot's database.
    Trial,
    /// Migrate the staging slot's database.
    MigrateStaging,
    /// The health path of the slot answers.
    Health,
    /// The readiness path of the slot answers.
    Readiness,
    /// The manifest's smoke checks pass on the slot.
    Smoke,
    /// Migrate production's database.
    MigrateProduction,
    /// Give the new version a growing share of the traffic.
    Canary,
    /// Exchange the slots.
    Swap,
    /// Production serves the version, and is healthy and ready.
    Verify,
    /// Deploy the package to the worker's site.
    Worker,
    /// Deploy the package to the scheduler's site.
    Scheduler,
    /// Look at production for a while, ready to swap back.
    Watch,
    /// After the first release, deploy the package to the staging slot, which the swap left empty.
    Refill,
}

impl Step {
    /// The name in events, journals and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Package => "package",
            Self::Gates => "gates",
            Self::Deploy => "deploy",
            Self::Trial => "trial",
            Self::MigrateStaging => "migrate-staging",
            Self::Health => "health",
            Self::Readiness => "readiness",
            Self::Smoke => "smoke",
            Self::MigrateProduction => "migrate-production",
            Self::Canary => "canary",
            Self::Swap => "swap",
            Self::Verify => "verify",
            Self::Worker => "worker",
            Self::Scheduler => "scheduler",
            Self::Watch => "watch",
            Self::Refill => "refill",
        }
    }
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// The ids of the active deployments; `None` where nothing is deployed or there is no such place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Deployed {
    /// The backend's production slot.
    pub production: Option<String>,
    /// The backend's staging slot.
    pub staging: Option<String>,
    /// The worker's site.
    pub worker: Option<String>,
    /// The scheduler's site.
    pub scheduler: Option<String>,
}

/// How a release ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// All new.
    Succeeded,
    /// All old: stopped before production was touched.
    Failed,
    /// All old: production was touched and put back.
    RolledBack,
    /// All old: given up by a person before production was touched.
    Aborted,
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::RolledBack => "rolled back",
            Self::Aborted => "aborted",
        })
    }
}

/// The journals of one environment of one project. `E` is what a line says: of releases, unless
/// something else of many steps keeps its own.
#[derive(Clone, Debug)]
pub struct Journals<E = Entry> {
    dir: PathBuf,
    reporter: Reporter,
    entries: PhantomData<fn() -> E>,
}

/// What a journal holds, read and verified.
#[derive(Clone, Debug, PartialEq)]
pub struct Story<E = Entry> {
    /// Every line, in order.
    pub records: Vec<Record<E>>,
    /// The hash of the last line (of the release before, when there is none).
    pub hash: String,
    /// How many bytes of the file are whole lines.
    whole: u64,
}

impl Journals {
    /// Below `.lazuli` of a project.
    pub fn of(lazuli: &Path, environment: &str) -> Self {
        Self::at(lazuli.join("releases").join(environment))
    }

    /// Begins the journal of the next release; `began` is told its number.
    pub fn begin(&self, began: impl FnOnce(u32) -> Began) -> Result<Journal, JournalError> {
        self.begin_with(|number| Entry::Began(Box::new(began(number))))
    }
}

impl<E: Serialize + DeserializeOwned> Journals<E> {
    /// In this directory.
    pub fn at(dir: PathBuf) -> Self {
        Self { dir, reporter: Reporter::silent(), entries: PhantomData }
    }

    /// With somebody who hears of every line once it is on disk.
    #[must_use]
    pub fn telling(mut self, reporter: &Reporter) -> Self {
        self.reporter = reporter.clone();
        self
    }

    /// Where the journals and the lock are.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The numbers of all releases, in order.
    pub fn numbers(&self) -> Result<Vec<u32>, JournalError> {
        let entries = match std::fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(JournalError::Io(self.dir.clone(), error)),
        };
        let mut numbers: Vec<u32> = entries
            .filter_map(|entry| {
                entry.ok()?.file_name().to_str()?.strip_suffix(".jsonl")?.parse().ok()
            })
            .collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn path(&self, number: u32) -> PathBuf {
        self.dir.join(format!("{number:04}.jsonl"))
    }

    /// What the journal of a release says.
    pub fn read(&self, number: u32) -> Result<Story<E>, JournalError> {
        let path = self.path(number);
        let bytes = match File::open(&path).and_then(|file| {
            let mut bytes = Vec::new();
            io::Read::read_to_end(&mut io::Read::take(file, LIMIT), &mut bytes).map(|_| bytes)
        }) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(JournalError::NoSuchRelease(number));
            }
            Err(error) => return Err(JournalError::Io(path, error)),
        };
        parse(&bytes).map_err(|(line, what)| JournalError::Tampered { path, line, what })
    }

    /// The last release, if there is one whose journal says anything.
    pub fn last(&self) -> Result<Option<(u32, Story<E>)>, JournalError> {
        for number in self.numbers()?.into_iter().rev() {
            let story = self.read(number)?;
            if !story.records.is_empty() {
                return Ok(Some((number, story)));
            }
        }
        Ok(None)
    }

    /// Begins the next journal with its first line; `first` is told the number.
    pub fn begin_with(&self, first: impl FnOnce(u32) -> E) -> Result<Journal<E>, JournalError> {
        let error = |source| JournalError::Io(self.dir.clone(), source);
        std::fs::create_dir_all(&self.dir).map_err(error)?;
        let last = self.last()?;
        let (number, prev) = match last {
            Some((number, story)) => (number + 1, story.hash),
            None => (1, GENESIS.to_owned()),
        };
        let path = self.path(number);
        // A file of that name without a whole line was cut off at birth: it says nothing.
        let mut options = OpenOptions::new();
        let file = options.create(true).write(true).truncate(true).open(&path);
        let file = file.map_err(|source| JournalError::Io(path.clone(), source))?;
        // The name must be on disk as well.
        File::open(&self.dir).and_then(|dir| dir.sync_all()).map_err(error)?;
        let reporter = self.reporter.clone();
        let records = Vec::new();
        let mut journal = Journal { path, file, number, seq: 0, prev, records, reporter };
        journal.write(first(number))?;
        Ok(journal)
    }

    /// Opens the journal of an interrupted release to go on with it.
    pub fn resume(&self, number: u32) -> Result<Journal<E>, JournalError> {
        let story = self.read(number)?;
        let path = self.path(number);
        let error = |source| JournalError::Io(path.clone(), source);
        let file = OpenOptions::new().append(true).open(&path).map_err(error)?;
        file.set_len(story.whole).map_err(error)?;
        let (seq, prev) = (story.records.len() as u64, story.hash.clone());
        let (records, reporter) = (story.records, self.reporter.clone());
        Ok(Journal { path: path.clone(), file, number, seq, prev, records, reporter })
    }
}

/// The journal of a release that runs.
#[derive(Debug)]
pub struct Journal<E = Entry> {
    path: PathBuf,
    file: File,
    number: u32,
    seq: u64,
    prev: String,
    records: Vec<Record<E>>,
    reporter: Reporter,
}

impl<E: Serialize + DeserializeOwned> Journal<E> {
    /// The release's number.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// What was written so far.
    pub fn records(&self) -> &[Record<E>] {
        &self.records
    }

    /// Writes a line; it is on disk when this returns.
    pub fn write(&mut self, entry: E) -> Result<(), JournalError> {
        let record = Record { seq: self.seq, at: now(), prev: self.prev.clone(), entry };
        let error = |source| JournalError::Io(self.path.clone(), source);
        let (line, hash) = render(&record).map_err(|e| error(e.into()))?;
        self.file.write_all(line.as_bytes()).map_err(error)?;
        self.file.sync_data().map_err(error)?;
        self.prev = hash;
        self.seq += 1;
        self.records.push(record);
        self.reporter.emit(Event::Recorded { release: self.number, line: self.seq });
        Ok(())
    }
}

/// Microseconds are enough, and survive being written and read.
fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
}

/// What follows the record in a line: its hash.
const HASH: &str = ",\"hash\":\"";

/// The line of a record, with its hash at the end, and the hash.
fn render<E: Serialize>(record: &Record<E>) -> serde_json::Result<(String, String)> {
    let body = serde_json::to_string(record)?;
    let hash = hex(digest(&SHA256, body.as_bytes()).as_ref());
    let open = body.strip_suffix('}').unwrap_or(&body);
    Ok((format!("{open}{HASH}{hash}\"}}\n"), hash))
}

/// The record of a whole line, and its hash.
fn read_line<E: DeserializeOwned>(line: &str) -> Result<(Record<E>, String), String> {
    let at = line.rfind(HASH).ok_or("it has no hash")?;
    let hash = line[at + HASH.len()..].strip_suffix("\"}").ok_or("it has no hash at its end")?;
    let body = format!("{}}}", &line[..at]);
    if hex(digest(&SHA256, body.as_bytes()).as_ref()) != hash {
        return Err("its hash does not fit".to_owned());
    }
    let record = serde_json::from_str(&body).map_err(|error| error.to_string())?;
    Ok((record, hash.to_owned()))
}

/// All whole lines. An error names the line (from 1) that cannot have been written so.
fn parse<E: DeserializeOwned>(bytes: &[u8]) -> Result<Story<E>, (usize, String)> {
    let mut story = Story { records: Vec::new(), hash: GENESIS.to_owned(), whole: 0 };
    for (index, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
        // The last line may have been cut off while being written; then it was never acted upon.
        let Some(line) = line.strip_suffix(b"\n") else { break };
        let wrong = |what: String| (index + 1, what);
        let line_text = std::str::from_utf8(line).map_err(|error| wrong(error.to_string()))?;
        let (record, hash) = read_line(line_text).map_err(wrong)?;
        if record.seq != index as u64 {
            return Err(wrong(format!("it says it is number {}", record.seq)));
        }
        if index > 0 && record.prev != story.hash {
            return Err(wrong("it does not follow the line before it".to_owned()));
        }
        story.whole += line.len() as u64 + 1;
        story.hash = hash;
        story.records.push(record);
    }
    Ok(story)
}

impl Story {
    /// How it began.
    pub fn began(&self) -> Option<&Began> {
        self.records.iter().find_map(|record| match &record.entry {
            Entry::Began(began) => Some(began.as_ref()),
            _ => None,
        })
    }

    /// How it ended; `None` when it has not.
    pub fn outcome(&self) -> Option<Outcome> {
        outcome(&self.records)
    }
}

/// How a release ended, from its lines.
pub fn outcome(records: &[Record]) -> Option<Outcome> {
    records.iter().rev().find_map(|record| match record.entry {
        Entry::Ended { outcome, .. } => Some(outcome),
        _ => None,
    })
}

/// The package of a release.
pub fn package(records: &[Record]) -> Option<&Package> {
    records.iter().rev().find_map(|record| match &record.entry {
        Entry::Packaged { package } => Some(package),
        _ => None,
    })
}

/// What was deployed before the release changed anything.
pub fn found(records: &[Record]) -> Option<&Deployed> {
    records.iter().find_map(|record| match &record.entry {
        Entry::Found { state } => Some(state),
        _ => None,
    })
}

/// The latest fact of that name that a step noted.
pub fn noted<'a>(records: &'a [Record], step: Step, name: &str) -> Option<&'a str> {
    records.iter().rev().find_map(|record| match &record.entry {
        Entry::Noted { step: s, name: n, value } if *s == step && n == name => Some(value.as_str()),
        _ => None,
    })
}

/// The latest evidence of that name that a step left.
pub fn evidence<'a>(
    records: &'a [Record],
    step: Step,
    name: &str,
) -> Option<&'a serde_json::Value> {
    records.iter().rev().find_map(|record| match &record.entry {
        Entry::Evidence { step: s, name: n, value } if *s == step && n == name => Some(value),
        _ => None,
    })
}

/// Whether a step was done.
pub fn is_done(records: &[Record], step: Step) -> bool {
    records.iter().any(|record| matches!(record.entry, Entry::Done { step: s, .. } if s == step))
}

/// Whether a step was ever begun.
pub fn is_started(records: &[Record], step: Step) -> bool {
    records.iter().any(|record| matches!(record.entry, Entry::Started { step: s } if s == step))
}

#[cfg(test)]
mod tests;
