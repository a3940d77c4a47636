//! Errors as advice: what happened, to what, why, and what to do. Every error that reaches a person
//! passes through a [`Failure`].

pub(crate) mod release;

use std::error::Error;
use std::fmt;

use serde_json::json;

use crate::exit::Exit;
use crate::printer::{BAD, DIM, NAME, paint};

/// An error as a person sees it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Failure {
    /// The exit code.
    pub(crate) exit: Exit,
    /// What happened, to what. One line.
    pub(crate) summary: String,
    /// Why, outermost first.
    pub(crate) causes: Vec<String>,
    /// The last lines of the log that shows the cause, and whose log it is.
    pub(crate) log: Option<(String, Vec<String>)>,
    /// What is so now (production untouched, staging left as it is).
    pub(crate) state: Vec<String>,
    /// What to do, each a sentence or a command.
    pub(crate) advice: Vec<String>,
    /// An excerpt of a source file already laid out, shown instead of the summary.
    pub(crate) excerpt: Option<String>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, summary: impl Into<String>) -> Self {
        Self {
            exit,
            summary: summary.into(),
            causes: Vec::new(),
            log: None,
            state: Vec::new(),
            advice: Vec::new(),
            excerpt: None,
        }
    }

    /// Adds an error and its sources as causes.
    pub(crate) fn because(mut self, error: &(dyn Error + 'static)) -> Self {
        let mut next = Some(error);
        while let Some(error) = next {
            let text = error.to_string();
            // Some libraries repeat their source's message in their own.
            if !self.causes.iter().any(|seen| seen.contains(&text)) {
                self.causes.push(text);
            }
            next = error.source();
        }
        self
    }

    /// Adds a cause in words.
    pub(crate) fn cause(mut self, text: impl Into<String>) -> Self {
        self.causes.push(text.into());
        self
    }

    /// Adds what to do.
    pub(crate) fn advise(mut self, text: impl Into<String>) -> Self {
        self.advice.push(text.into());
        self
    }

    pub(crate) fn as_json(&self) -> serde_json::Value {
        json!({
            "event": "error",
            "exit": self.exit,
            "exitCode": self.exit as u8,
            "summary": self.summary,
            "causes": self.causes,
            "log": self.log.as_ref().map(|(of, lines)| json!({ "of": of, "lines": lines })),
            "state": self.state,
            "advice": self.advice,
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(excerpt) = &self.excerpt {
            f.write_str(excerpt.trim_end())?;
        } else {
            write!(f, "{} {}", paint(BAD, "error:"), self.summary)?;
        }
        for cause in &self.causes {
            let mut lines = cause.lines();
            write!(f, "\n  {} {}", paint(DIM, "because"), lines.next().unwrap_or_default())?;
            for line in lines {
                write!(f, "\n          {line}")?;
            }
        }
        if let Some((of, lines)) = &self.log {
            write!(f, "\n\n  last lines of {of}:")?;
            for line in lines {
                write!(f, "\n  {} {line}", paint(DIM, "│"))?;
            }
        }
        if !self.state.is_empty() {
            f.write_str("\n")?;
        }
        for state in &self.state {
            write!(f, "\n  {state}")?;
        }
        if !self.advice.is_empty() {
            f.write_str("\n")?;
        }
        for advice in &self.advice {
            write!(f, "\n{} {advice}", paint(NAME, "help:"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_reads_from_what_to_why_to_what_now() {
        let failure = Failure {
            log: Some(("the app's log".into(), vec!["boom".into()])),
            state: vec!["Production was not touched.".into()],
            ..Failure::new(Exit::ReleaseFailed, "health of notes-staging failed")
                .cause("GET /health answered 500")
                .advise("lazuli logs --slot staging")
        };
        let plain = anstream::adapter::strip_str(&failure.to_string()).to_string();
        assert_eq!(
            plain,
            "error: health of notes-staging failed\n  because GET /health answered 500\n\n  \
             last lines of the app's log:\n  │ boom\n\n  Production was not touched.\n\n\
             help: lazuli logs --slot staging"
        );
    }

    #[test]
    fn a_cause_is_not_said_twice() {
        #[derive(Debug)]
        struct Outer(std::io::Error);
        impl fmt::Display for Outer {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "cannot read: {}", self.0)
            }
        }
        impl Error for Outer {
            fn source(&self) -> Option<&(dyn Error + 'static)> {
                Some(&self.0)
            }
        }
        let failure =
            Failure::new(Exit::Project, "x").because(&Outer(std::io::Error::other("gone")));
        assert_eq!(failure.causes, ["cannot read: gone"]);
    }
}
