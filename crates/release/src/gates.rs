//! The checklist's gates: what must be so before anything moves, each with the evidence that it is.
//!
//! | gate | asks | section |
//! |---|---|---|
//! | tests | the app's own tests ran green for this tree | *Pre-Deployment* |
//! | review | the commit was reviewed, where a provider is configured | *Pre-Deployment* |
//! | migrations | what the new migrations would destroy or lock, read from their scripts | ERRATA 28 |
//! | settings | every setting of the slot is there, every Key Vault reference resolves | *Pre-Deployment* |
//! | secrets | no secret is expired or past its rotation | *Secret Rotation* |
//! | drift | the resources are as the blueprint has them | *Pre-Deployment* |
//! | rollback | there is a version to go back to, and it is the one released last | *Pre-Deployment* |
//!
//! All are asked, whatever the first says, so that a person sees everything at once. A person may accept
//! a gate that fails, by name; that is recorded with who did.

mod migrations;
mod platform;
mod review;
mod tests;

use std::path::Path;
use std::time::Instant;

use lazuli_standard::{Blueprint, Manifest};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use migrations::{Finding, Kind as Danger, unfit};

use crate::cloud::Cloud;
use crate::event::millis;
use crate::journal::Deployed;
use crate::package::Package;
use crate::provision::Plan;

/// What a gate came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// It is so.
    Passed,
    /// It is so, and something should be looked at.
    Warned,
    /// It is not so.
    Failed,
    /// It is not so, and a person accepted that.
    Accepted,
    /// There was nothing to ask.
    NotChecked,
}

/// A gate, asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Gate {
    /// Its name, for `--accept`.
    pub gate: String,
    /// What it came to.
    pub verdict: Verdict,
    /// In a sentence.
    pub what: String,
    /// What it rests on.
    pub evidence: Value,
    /// How long it took.
    pub elapsed_ms: u64,
}

/// What a gate says, before it is given its name.
pub(crate) struct Answer {
    verdict: Verdict,
    what: String,
    evidence: Value,
}

impl Answer {
    fn new(verdict: Verdict, what: impl Into<String>, evidence: Value) -> Self {
        Self { verdict, what: what.into(), evidence }
    }

    fn not_checked(what: impl Into<String>) -> Self {
        Self::new(Verdict::NotChecked, what, Value::Null)
    }

    /// The platform would not say.
    fn unknown(error: &lazuli_azure::Error) -> Self {
        Self::new(Verdict::Failed, format!("it cannot be asked: {error}"), Value::Null)
    }
}

/// What the gates look at.
#[derive(Debug)]
pub(crate) struct Subject<'a> {
    pub(crate) project: &'a Path,
    pub(crate) manifest: &'a Manifest,
    pub(crate) blueprint: &'a Blueprint,
    pub(crate) plan: Option<&'a Plan>,
    pub(crate) cloud: &'a Cloud,
    pub(crate) package: &'a Package,
    /// The zip.
    pub(crate) path: &'a Path,
    /// The zip that production runs, if it is kept.
    pub(crate) serving: Option<&'a Path>,
    pub(crate) found: &'a Deployed,
    /// What the last release that succeeded left in production.
    pub(crate) released: Option<&'a str>,
    /// Who releases, for what is accepted.
    pub(crate) by: &'a str,
}

/// The names of all gates.
pub const NAMES: [&str; 7] =
    ["tests", "review", "migrations", "settings", "secrets", "drift", "rollback"];

/// Asks every gate.
pub(crate) async fn ask(subject: &Subject<'_>, accepted: &[String]) -> Vec<Gate> {
    let (tests, review, migrations, settings, secrets, drift, rollback) = tokio::join!(
        timed("tests", tests::ask(subject)),
        timed("review", review::ask(subject)),
        timed("migrations", async { migrations::ask(subject) }),
        timed("settings", platform::settings(subject)),
        timed("secrets", platform::secrets(subject)),
        timed("drift", platform::drift(subject)),
        timed("rollback", async { platform::rollback(subject) }),
    );
    let mut gates = vec![tests, review, migrations, settings, secrets, drift, rollback];
    for gate in &mut gates {
        if gate.verdict == Verdict::Failed && accepted.contains(&gate.gate) {
            gate.verdict = Verdict::Accepted;
            gate.evidence = json!({ "acceptedBy": subject.by, "found": gate.evidence });
        }
    }
    gates
}

async fn timed(name: &str, asked: impl Future<Output = Answer>) -> Gate {
    let began = Instant::now();
    let Answer { verdict, what, evidence } = asked.await;
    let elapsed_ms = millis(began.elapsed());
    Gate { gate: name.to_owned(), verdict, what, evidence, elapsed_ms }
}
