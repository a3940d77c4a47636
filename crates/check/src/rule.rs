//! A rule, a finding, and how a rule says one.

use lazuli_hcl::{Entry, Span, Value};

use crate::project::{Pipeline, Project, Stack};

/// How bad a breach is.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing; breaks nothing.
    Note,
    /// Breaks the standard.
    Warning,
    /// Breaks the standard, and production or its secrets with it.
    Error,
}

impl Severity {
    /// `error`, `warning`, `note`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// Files of an example: path and content.
pub type Example = &'static [(&'static str, &'static str)];

/// What a rule looks at.
#[derive(Clone, Copy)]
pub enum Check {
    /// Terraform with one set of variables, or a plan.
    Stack(fn(&Stack, &mut Sink<'_>)),
    /// An Azure Pipelines file with its templates.
    Pipeline(fn(&Pipeline, &mut Sink<'_>)),
    /// Everything at once.
    Project(fn(&Project, &mut Sink<'_>)),
    /// Found while reading; there is nothing to run.
    Reading,
}

impl std::fmt::Debug for Check {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Stack(_) => "Stack",
            Self::Pipeline(_) => "Pipeline",
            Self::Project(_) => "Project",
            Self::Reading => "Reading",
        })
    }
}

/// One sentence of the standard, judged.
#[derive(Debug)]
pub struct Rule {
    /// Stays for ever: `LZ-APP-001`.
    pub id: &'static str,
    /// The section of the standard.
    pub section: &'static str,
    /// The row of the errata that it comes from, if it does.
    pub erratum: Option<u8>,
    /// How bad.
    pub severity: Severity,
    /// What must hold.
    pub title: &'static str,
    /// Why.
    pub why: &'static str,
    /// What to write instead.
    pub fix: &'static str,
    /// Breaks the rule.
    pub bad: Example,
    /// Keeps it.
    pub good: Example,
    /// The rule itself.
    pub check: Check,
}

/// A replacement of text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// What is replaced; empty to insert.
    pub span: Span,
    /// With what.
    pub text: String,
}

/// A breach of a rule at a place.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The rule.
    pub rule: &'static Rule,
    /// How bad, after the configuration.
    pub severity: Severity,
    /// Where.
    pub span: Span,
    /// What is wrong here.
    pub message: String,
    /// Other places that matter, and why.
    pub labels: Vec<(Span, String)>,
    /// The change that mends it, where that is mechanical.
    pub edits: Vec<Edit>,
    /// In which environments, when not in all.
    pub environments: Vec<String>,
    /// The resource, as Terraform names it.
    pub address: Option<String>,
    /// Whether it follows from something *not* being written: not concluded where files could not
    /// be read or only a fragment is judged.
    pub absence: bool,
    /// Whether it follows from something not being written *in a block that is there*: what other
    /// files or modules hold cannot change it, so that only fragments and files that were not read
    /// whole keep it back.
    pub unset: bool,
    /// Why it does not count, if it does not: a suppression's reason, or the baseline.
    pub suppressed: Option<String>,
    /// The head of the block it lies in: a suppression above it covers the block.
    pub block: Option<Span>,
}

impl Finding {
    /// Adds another place.
    pub fn label(&mut self, span: Span, text: impl Into<String>) -> &mut Self {
        self.labels.push((span, text.into()));
        self
    }

    /// Adds a mechanical change.
    pub fn edit(&mut self, span: Span, text: impl Into<String>) -> &mut Self {
        self.edits.push(Edit { span, text: text.into() });
        self
    }

    /// It follows from an absence.
    pub fn absent(&mut self) -> &mut Self {
        self.absence = true;
        self
    }

    /// It follows from what a block that is there does not say.
    pub fn unset(&mut self) -> &mut Self {
        self.unset = true;
        self
    }

    /// Names the resource.
    pub fn of(&mut self, address: &str) -> &mut Self {
        self.address = Some(address.to_owned());
        self
    }
}

/// Where a rule puts what it finds.
#[derive(Debug)]
pub struct Sink<'a> {
    /// The rule that runs.
    pub(crate) rule: &'static Rule,
    /// What was found.
    pub(crate) findings: &'a mut Vec<Finding>,
    /// How often a rule could not judge, because something is unknown.
    pub(crate) unknown: &'a mut Vec<(&'static str, String)>,
    /// Whether the rule met anything it judges.
    pub(crate) judged: bool,
}

impl Sink<'_> {
    /// A breach at a place.
    pub fn at(&mut self, span: Span, message: impl Into<String>) -> &mut Finding {
        self.judged = true;
        self.findings.push(Finding {
            rule: self.rule,
            severity: self.rule.severity,
            span,
            message: message.into(),
            labels: Vec::new(),
            edits: Vec::new(),
            environments: Vec::new(),
            address: None,
            absence: false,
            unset: false,
            suppressed: None,
            block: None,
        });
        let last = self.findings.len() - 1;
        &mut self.findings[last]
    }

    /// A breach of an attribute: where it is used, and where its value was written when elsewhere.
    pub fn entry(&mut self, entry: &Entry, message: impl Into<String>) -> &mut Finding {
        self.value(entry.at, &entry.value, message)
    }

    /// The same for a value used at a place.
    pub fn value(&mut self, at: Span, value: &Value, message: impl Into<String>) -> &mut Finding {
        let written = value.span;
        let f = self.at(at, message);
        if written != at && !at.contains(written) && written != Span::default() {
            f.label(written, "this value is written here");
        }
        f
    }

    /// The rule met something it judges.
    pub fn judged(&mut self) {
        self.judged = true;
    }

    /// The rule could not judge.
    pub fn unknown(&mut self, why: impl Into<String>) {
        self.judged = true;
        self.unknown.push((self.rule.id, why.into()));
    }
}
