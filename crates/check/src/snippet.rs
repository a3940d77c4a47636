//! Shell inside other files: a script's lines with their places, commands split into words, and the
//! command that starts an app.

use lazuli_hcl::{Span, Value};

/// One line of a script.
#[derive(Clone, Debug)]
pub(crate) struct Line<'a> {
    /// Without indentation and line end.
    pub(crate) text: &'a str,
    /// Where.
    pub(crate) span: Span,
}

/// The lines of a scalar as they stand in the file: so that each has its own place.
/// The header of a YAML block scalar (`|`, `>-`) and quotes are not lines.
pub(crate) fn lines(source: &str, at: Span) -> Vec<Line<'_>> {
    let (from, to) = (at.start as usize, (at.end as usize).min(source.len()));
    let Some(text) = source.get(from..to) else { return Vec::new() };
    let mut out = Vec::new();
    let mut offset = from;
    for raw in text.split_inclusive('\n') {
        let trimmed = raw.trim();
        let lead = raw.len() - raw.trim_start().len();
        let start = offset + lead;
        offset += raw.len();
        let header = out.is_empty()
            && start == from
            && (trimmed.starts_with(['|', '>']) || trimmed.starts_with("<<"));
        if trimmed.is_empty() || header && trimmed.len() < 20 && !trimmed.contains(' ') {
            continue;
        }
        out.push(Line { text: trimmed, span: Span::new(at.file, start, start + trimmed.len()) });
    }
    out
}

/// Splits a command into words as a shell would, without expanding anything.
pub(crate) fn words(command: &str) -> Vec<String> {
    let mut out = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut any = false;
    let mut chars = command.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (None, '\'' | '"') => {
                quote = Some(c);
                any = true;
            }
            (Some(q), c) if c == q => quote = None,
            (None | Some('"'), '\\') => match chars.next() {
                Some('\n') | None => {}
                Some(n) => word.push(n),
            },
            (None, c) if c.is_whitespace() => {
                if any || !word.is_empty() {
                    out.push(std::mem::take(&mut word));
                }
                any = false;
            }
            (_, c) => word.push(c),
        }
    }
    if any || !word.is_empty() {
        out.push(word);
    }
    out
}

/// A command that starts an app, taken apart.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Start {
    /// The words.
    pub(crate) words: Vec<String>,
    /// `-w`
    pub(crate) workers: Option<u32>,
    /// `-k`
    pub(crate) class: Option<String>,
    /// `-b`
    pub(crate) bind: Option<String>,
    /// `--timeout`
    pub(crate) timeout: Option<u32>,
    /// `--graceful-timeout`
    pub(crate) graceful: Option<u32>,
    /// Whether gunicorn reads a configuration file, which may say what the command does not.
    pub(crate) configured: bool,
}

impl Start {
    /// Reads a command. `None` when it does not start gunicorn.
    pub(crate) fn gunicorn(command: &str) -> Option<Self> {
        let words = words(command);
        let at = words.iter().position(|w| w == "gunicorn" || w.ends_with("/gunicorn"))?;
        let mut s = Self::default();
        let mut i = at + 1;
        while i < words.len() {
            let (name, inline) = match words[i].split_once('=') {
                Some((n, v)) if n.starts_with("--") => (n, Some(v.to_owned())),
                _ => (words[i].as_str(), None),
            };
            let mut value = || {
                inline.clone().or_else(|| {
                    i += 1;
                    words.get(i).cloned()
                })
            };
            match name {
                "-w" | "--workers" => s.workers = value().and_then(|v| v.parse().ok()),
                "-k" | "--worker-class" => s.class = value(),
                "-b" | "--bind" => s.bind = value(),
                "-t" | "--timeout" => s.timeout = value().and_then(|v| v.parse().ok()),
                "--graceful-timeout" => s.graceful = value().and_then(|v| v.parse().ok()),
                "-c" | "--config" => {
                    s.configured = true;
                    value();
                }
                _ => {
                    if let Some(n) = name.strip_prefix("-w").and_then(|n| n.parse().ok()) {
                        s.workers = Some(n);
                    }
                }
            }
            i += 1;
        }
        s.words = words;
        Some(s)
    }
}

/// Where in a value's source text a needle stands; the value's own place when it is not there as
/// such (escaped, folded, or from elsewhere).
pub(crate) fn within(source: &str, value: &Value, needle: &str) -> Span {
    let at = value.span;
    source.get(at.start as usize..at.end as usize).and_then(|t| t.find(needle)).map_or(at, |n| {
        Span::new(at.file, at.start as usize + n, at.start as usize + n + needle.len())
    })
}

/// Shannon entropy of a text, bits per character: random keys lie above 3.5, words below.
pub(crate) fn entropy(text: &str) -> f64 {
    let mut counts = [0u32; 256];
    for b in text.bytes() {
        counts[b as usize] += 1;
    }
    #[expect(clippy::cast_precision_loss, reason = "lengths of settings")]
    let n = text.len().max(1) as f64;
    counts.iter().filter(|c| **c > 0).map(|c| f64::from(*c) / n).map(|p| -p * p.log2()).sum()
}
