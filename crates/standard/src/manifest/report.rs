//! What is wrong with a manifest, and how a person reads it.

use std::fmt::{self, Write as _};
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

/// How many are shown; after that many a person starts over anyway.
const SHOWN: usize = 25;

/// One thing that is wrong. Boxed: rare, and larger than any result.
#[derive(Clone, Debug)]
pub(super) struct Problem(Box<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    span: Range<usize>,
    title: String,
    label: String,
    context: Option<(Range<usize>, String)>,
    help: Vec<String>,
}

impl Problem {
    pub(super) fn new(span: Range<usize>, title: impl Into<String>) -> Self {
        let (label, help) = (String::new(), Vec::new());
        Self(Box::new(Inner { span, title: title.into(), label, context: None, help }))
    }

    /// What stands at the underlined place.
    pub(super) fn label(mut self, label: impl Into<String>) -> Self {
        self.0.label = label.into();
        self
    }

    /// Another place that matters.
    pub(super) fn context(mut self, span: Range<usize>, label: impl Into<String>) -> Self {
        self.0.context = Some((span, label.into()));
        self
    }

    /// What was probably meant, what to do.
    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.0.help.push(help.into());
        self
    }
}

/// Everything that is wrong with a manifest. `Display` is the rendered form, without colour.
#[derive(Clone, Debug)]
pub struct ManifestErrors {
    source: String,
    file_name: String,
    problems: Vec<Problem>,
}

impl ManifestErrors {
    pub(super) fn new(source: &str, file_name: &str, mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|p| p.0.span.start);
        // A manifest over the limit is not carried along.
        let source = if source.len() > super::tree::MAX_BYTES { "" } else { source };
        Self { source: source.to_owned(), file_name: file_name.to_owned(), problems }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.problems.len()
    }

    /// The bare messages, for machines.
    pub fn messages(&self) -> impl Iterator<Item = (usize, &str)> {
        self.problems.iter().map(|p| {
            let at = p.0.span.start.min(self.source.len());
            (self.source.get(..at).unwrap_or_default().matches('\n').count() + 1, &*p.0.title)
        })
    }

    /// For a person: the lines with what is wrong underlined, what was probably meant, what to do.
    pub fn render(&self, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        // Control characters in the source must not reach the terminal; each is one byte, so every
        // place stays where it is.
        let source: String = self
            .source
            .chars()
            .map(|c| if c.is_ascii_control() && c != '\n' && c != '\t' { ' ' } else { c })
            .collect();
        let mut out = String::new();
        for Problem(problem) in self.problems.iter().take(SHOWN) {
            let clamp = |span: &Range<usize>| {
                let end = span.end.min(source.len());
                span.start.min(end)..end
            };
            let span = clamp(&problem.span);
            // A value over many lines is shown by its first.
            let first = source[span.clone()].find('\n').map_or(span.end, |n| span.start + n);
            let mut snippet =
                Snippet::source(source.as_str()).path(self.file_name.as_str()).annotation(
                    AnnotationKind::Primary.span(span.start..first).label(problem.label.as_str()),
                );
            if let Some((span, label)) = &problem.context {
                let annotation = AnnotationKind::Context.span(clamp(span)).label(label.as_str());
                snippet = snippet.annotation(annotation);
            }
            let mut group = Level::ERROR.primary_title(problem.title.as_str()).element(snippet);
            for help in &problem.help {
                group = group.element(Level::HELP.message(help.as_str()));
            }
            out.push_str(&renderer.render(&[group]));
            out.push_str("\n\n");
        }
        if self.problems.len() > SHOWN {
            let _ = write!(out, "… and {} more", self.problems.len() - SHOWN);
        }
        out.truncate(out.trim_end().len());
        out
    }
}

impl fmt::Display for ManifestErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for ManifestErrors {}
