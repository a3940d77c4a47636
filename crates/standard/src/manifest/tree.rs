//! YAML with its places: every node knows where in the source it stands.
//!
//! Untrusted bytes: size, depth and the number of nodes are limited, and anchors are not taken at
//! all, so that nothing can be multiplied.

use std::ops::Range;

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

use super::report::Problem;

/// The largest manifest, bytes.
pub(super) const MAX_BYTES: usize = 256 << 10;
/// The deepest nesting.
const MAX_DEPTH: usize = 16;
/// The most nodes.
const MAX_NODES: usize = 10_000;

/// A node.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) span: Range<usize>,
    pub(super) kind: Kind,
}

/// What it is.
#[derive(Debug)]
pub(super) enum Kind {
    /// Its text, and whether it stood without quotes.
    Scalar { text: String, plain: bool },
    /// A list.
    Sequence(Vec<Node>),
    /// Keys and values.
    Mapping(Vec<Entry>),
}

/// A key and its value.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_span: Range<usize>,
    pub(super) value: Node,
}

/// What a plain scalar means, by YAML 1.2's core schema.
#[derive(Debug, PartialEq)]
pub(super) enum Scalar<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(&'a str),
}

impl Scalar<'_> {
    pub(super) fn what(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "a truth value",
            Self::Int(_) | Self::Float(_) => "a number",
            Self::Text(_) => "text",
        }
    }
}

/// Resolves a scalar.
pub(super) fn resolve(text: &str, plain: bool) -> Scalar<'_> {
    if !plain {
        return Scalar::Text(text);
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Scalar::Null,
        "true" | "True" | "TRUE" => return Scalar::Bool(true),
        "false" | "False" | "FALSE" => return Scalar::Bool(false),
        _ => {}
    }
    if let Ok(int) = text.parse::<i64>() {
        return Scalar::Int(int);
    }
    let numeric = text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c))
        && text.chars().all(|c| c.is_ascii_digit() || "+-.eE".contains(c));
    match text.parse::<f64>() {
        Ok(float) if numeric && float.is_finite() => Scalar::Float(float),
        _ => Scalar::Text(text),
    }
}

/// Reads one document.
pub(super) fn read(source: &str) -> Result<Node, Problem> {
    if source.len() > MAX_BYTES {
        let title = format!("the manifest is larger than {} KiB", MAX_BYTES >> 10);
        return Err(Problem::new(0..0, title).label("starts here"));
    }
    // The scanner counts characters, the snippets count bytes.
    let mut bytes: Vec<usize> = source.char_indices().map(|(at, _)| at).collect();
    bytes.push(source.len());
    let mut builder = Builder { source, bytes, parser: Parser::new_from_str(source), nodes: 0 };
    builder.document()
}

struct Builder<'a> {
    source: &'a str,
    bytes: Vec<usize>,
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
    nodes: usize,
}

impl<'a> Builder<'a> {
    fn byte(&self, character: usize) -> usize {
        self.bytes[character.min(self.bytes.len() - 1)]
    }

    fn range(&self, span: Span) -> Range<usize> {
        let (start, end) = (self.byte(span.start.index()), self.byte(span.end.index()));
        start..end.max(start)
    }

    fn next(&mut self) -> Result<(Event<'a>, Range<usize>), Problem> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => {
                let range = self.range(span);
                Ok((event, range))
            }
            Some(Err(error)) => {
                let at = self.byte(error.marker().index()).min(self.source.len());
                let line = self.source[..at].rfind('\n').map_or(0, |n| n + 1);
                let mut problem =
                    Problem::new(at..at, format!("not YAML: {}", error.info())).label("found here");
                if self.source[line..].split('\n').next().is_some_and(|l| l.starts_with('\t')) {
                    problem = problem.help("YAML is indented with spaces, not tabs");
                }
                Err(problem)
            }
            None => {
                Err(Problem::new(self.source.len()..self.source.len(), "the manifest ends early"))
            }
        }
    }

    fn document(&mut self) -> Result<Node, Problem> {
        let mut root = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => {
                    return root.ok_or_else(|| {
                        Problem::new(0..0, "the manifest is empty")
                            .help("`lazuli init` writes a first one")
                    });
                }
                Event::DocumentStart(_) if root.is_some() => {
                    return Err(Problem::new(span, "a second document")
                        .label("begins here")
                        .help("a manifest is one document: remove the `---`"));
                }
                Event::StreamStart
                | Event::Nothing
                | Event::DocumentStart(_)
                | Event::DocumentEnd => {}
                event => root = Some(self.node(event, span, 0)?),
            }
        }
    }

    fn node(
        &mut self,
        event: Event<'a>,
        span: Range<usize>,
        depth: usize,
    ) -> Result<Node, Problem> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(Problem::new(span, format!("more than {MAX_NODES} values")));
        }
        if depth > MAX_DEPTH {
            return Err(Problem::new(span, format!("nested more than {MAX_DEPTH} levels deep")));
        }
        let (anchor, tag) = match &event {
            Event::Scalar(_, _, anchor, tag)
            | Event::SequenceStart(anchor, tag)
            | Event::MappingStart(anchor, tag) => (*anchor, tag.is_some()),
            Event::Alias(anchor) => (*anchor, false),
            _ => (0, false),
        };
        if anchor > 0 {
            return Err(Problem::new(span, "anchors and aliases (`&`, `*`) are not taken here")
                .help("write the value out")
                .help("a text that begins with `*` or `&` goes into quotes"));
        }
        if tag {
            return Err(Problem::new(span, "tags (`!`) are not taken here")
                .help("a text that begins with `!` goes into quotes"));
        }
        match event {
            Event::Scalar(text, style, ..) => {
                let plain = style == ScalarStyle::Plain;
                Ok(Node { span, kind: Kind::Scalar { text: text.into_owned(), plain } })
            }
            Event::SequenceStart(..) => {
                let mut items = Vec::new();
                loop {
                    let (event, item) = self.next()?;
                    if matches!(event, Event::SequenceEnd) {
                        let end = items.last().map_or(item.end, |n: &Node| n.span.end);
                        return Ok(Node { span: span.start..end, kind: Kind::Sequence(items) });
                    }
                    items.push(self.node(event, item, depth + 1)?);
                }
            }
            Event::MappingStart(..) => {
                let mut entries: Vec<Entry> = Vec::new();
                loop {
                    let (event, key_span) = self.next()?;
                    if matches!(event, Event::MappingEnd) {
                        let end = entries.last().map_or(key_span.end, |e| e.value.span.end);
                        return Ok(Node { span: span.start..end, kind: Kind::Mapping(entries) });
                    }
                    let key = self.node(event, key_span, depth + 1)?;
                    let Kind::Scalar { text, .. } = key.kind else {
                        return Err(Problem::new(key.span, "a key must be text"));
                    };
                    let (event, value_span) = self.next()?;
                    let value = self.node(event, value_span, depth + 1)?;
                    entries.push(Entry { key: text, key_span: key.span, value });
                }
            }
            other => Err(Problem::new(span, format!("not YAML that a manifest uses: {other:?}"))),
        }
    }
}
