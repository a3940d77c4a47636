//! For people: the source with the place underlined, the reason, the fix; then the summary.

use std::fmt::Write as _;
use std::ops::Range;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Renderer, Snippet};
use lazuli_hcl::{Sources, Span};

use super::message;
use crate::engine::Report;
use crate::rule::{Edit, Finding, Severity};

/// How much of a line is shown, in bytes on either side of the place. Minified files are not for reading,
/// and a plan of megabytes is one line; the renderer cuts further, to the terminal's width.
const AROUND: usize = 200;

/// All findings that count. With the terminal's `width` in columns, excerpts are cut and sentences
/// broken to fit; without one, sentences stay whole, so that `grep` finds them.
pub fn findings(report: &Report, colour: bool, width: Option<usize>) -> String {
    let mut renderer =
        if colour { Renderer::styled() } else { Renderer::plain() }.decor_style(DecorStyle::Ascii);
    if let Some(w) = width {
        renderer = renderer.term_width(w.max(40));
    }
    let mut out = String::new();
    for f in report.active() {
        out.push_str(&finding(&report.project.sources, f, &renderer, width));
        out.push_str("\n\n");
    }
    out
}

/// What is shown of a place.
struct Window {
    text: String,
    line: usize,
    /// Where `text` does not begin with its line: the place's column in it, and in the line.
    column: Option<(usize, usize)>,
    range: Range<usize>,
    path: String,
}

/// The lines around a place, so that a large file is not handed over whole.
fn window(sources: &Sources, span: Span) -> Window {
    let s = sources.get(span.file);
    let (line, column) = s.line_column(span.start);
    let (last, _) = s.line_column(span.end.saturating_sub(1).max(span.start));
    // A long block is shown by its first line.
    let last = last.min(line + 3);
    let (from, to) = (s.line_start(line), s.line_start(last + 1));
    let text = s.text.get(from..to).unwrap_or("").trim_end_matches('\n');
    let path = s.path.to_string_lossy().replace('\\', "/");
    let start = (span.start as usize).saturating_sub(from).min(text.len());
    let end = (span.end as usize).saturating_sub(from).clamp(start, text.len());
    if text.lines().all(|l| l.len() <= 2 * AROUND) {
        let text = if text.is_empty() { " ".to_owned() } else { text.to_owned() };
        return Window { text, line, column: None, range: start..end, path };
    }
    // Of a long line what is next to the place.
    let first = text.find('\n').unwrap_or(text.len());
    let (start, end) = (start.min(first), end.min(first));
    let mut left = start.saturating_sub(AROUND);
    while !text.is_char_boundary(left) {
        left -= 1;
    }
    let mut right = (start + AROUND).min(first);
    while !text.is_char_boundary(right) {
        right -= 1;
    }
    let before = if left > 0 { "..." } else { "" };
    let after = if right < first { "..." } else { "" };
    let moved = |at: usize| at.min(right) - left + before.len();
    let range = moved(start)..moved(end);
    let text = format!("{before}{}{after}", &text[left..right]);
    let counted = text[..range.start].chars().count() + 1;
    Window { text, line, column: Some((counted, column)), range, path }
}

/// Breaks a sentence at spaces, so that no line is longer than `width` columns.
fn broken(text: &str, width: Option<usize>) -> String {
    let Some(width) = width else { return text.to_owned() };
    let mut out = String::new();
    let mut column = 0;
    for word in text.split(' ') {
        let long = word.chars().count();
        if column > 0 && column + 1 + long > width {
            out.push('\n');
            column = 0;
        } else if column > 0 {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += long;
    }
    out
}

fn finding(sources: &Sources, f: &Finding, renderer: &Renderer, width: Option<usize>) -> String {
    let level = match f.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
        Severity::Note => Level::NOTE,
    };
    let main = window(sources, f.span);
    let others: Vec<_> = f.labels.iter().map(|(s, t)| (window(sources, *s), t)).collect();
    // What stands before a sentence: `warning[LZ-APP-001]: `, and `12345 = note: `.
    let numbers = others.iter().map(|(w, _)| w.line).chain([main.line]).max().unwrap_or(1);
    let digits = numbers.to_string().len();
    let title = broken(
        &message(f),
        width.map(|w| w.saturating_sub(f.severity.as_str().len() + f.rule.id.len() + 4)),
    );
    let room = width.map(|w| w.saturating_sub(digits + 9));
    let why = broken(&format!("{} [{}]", f.rule.why, f.rule.section), room);
    let fix = broken(f.rule.fix, room);

    let label = f.address.as_deref().map(|a| format!("in {a}"));
    let mut annotation = AnnotationKind::Primary.span(main.range.clone());
    if let Some(l) = &label {
        annotation = annotation.label(l.as_str());
    }
    let mut group = Group::with_title(level.primary_title(title.as_str()).id(f.rule.id));
    group = shown(group, &main, annotation);
    for (w, label) in &others {
        let annotation = AnnotationKind::Context.span(w.range.clone()).label(label.as_str());
        group = shown(group, w, annotation);
    }
    group = group.element(Level::NOTE.message(why.as_str()));
    group = group.element(Level::HELP.message(fix.as_str()));
    let mut out = renderer.render(&[group]);
    // Of an excerpt that begins within its line the renderer counts the column from there.
    for w in std::iter::once(&main).chain(others.iter().map(|(w, _)| w)) {
        if let Some((counted, column)) = w.column {
            let place = |c: usize| format!("{}:{}:{c}", w.path, w.line);
            out = out.replacen(&place(counted), &place(column), 1);
        }
    }
    out
}

/// An excerpt with its place.
fn shown<'a>(group: Group<'a>, w: &'a Window, annotation: Annotation<'a>) -> Group<'a> {
    let snippet = Snippet::source(w.text.as_str()).line_start(w.line).path(w.path.as_str());
    group.element(snippet.annotation(annotation))
}

/// The summary: by section what was judged, held and broken.
pub fn summary(report: &Report) -> String {
    let mut out = String::new();
    let count = |s: Severity| report.active().filter(|f| f.severity == s).count();
    let sections = report.sections();
    let _ = writeln!(
        out,
        "{:<52} {:>5} {:>6} {:>5} {:>6}",
        "Section of the standard", "rules", "judged", "held", "broken"
    );
    for s in sections.iter().filter(|s| s.judged > 0) {
        let _ = writeln!(
            out,
            "{:<52} {:>5} {:>6} {:>5} {:>6}",
            s.section, s.rules, s.judged, s.held, s.broken
        );
    }
    let sum = |f: fn(&crate::Section) -> usize| sections.iter().map(f).sum::<usize>();
    let _ = writeln!(
        out,
        "{:<52} {:>5} {:>6} {:>5} {:>6}",
        "All sections",
        sum(|s| s.rules),
        sum(|s| s.judged),
        sum(|s| s.held),
        sum(|s| s.broken)
    );
    let hidden = report.findings.len() - report.active().count();
    let _ = write!(
        out,
        "\n{} errors, {} warnings, {} notes",
        count(Severity::Error),
        count(Severity::Warning),
        count(Severity::Note)
    );
    if hidden > 0 {
        let _ = write!(out, "; {hidden} suppressed");
    }
    let unknown: usize = report.unknown.values().map(std::collections::BTreeSet::len).sum();
    if unknown > 0 {
        let _ = write!(
            out,
            "; {unknown} not judged because a value is not known (--verbose lists them)"
        );
    }
    out.push('\n');
    for s in &report.environment_unknown {
        let place = if s.is_empty() { "this directory" } else { s.as_str() };
        let _ = writeln!(
            out,
            "note: {place}: no environment can be told, so what holds for production alone was not judged; say it with --assume prod"
        );
    }
    let mut seen = std::collections::BTreeSet::new();
    for s in &report.project.stacks {
        for (why, _) in &s.configuration.incomplete {
            if seen.insert(why.clone()) && seen.len() <= 10 {
                let _ = writeln!(out, "note: {why}: nothing was concluded from what is not there");
            }
        }
    }
    out
}

/// What could not be judged, and why.
pub fn unknown(report: &Report) -> String {
    let mut out = String::new();
    for (id, reasons) in &report.unknown {
        for r in reasons {
            let _ = writeln!(out, "{id} not judged: {r}");
        }
    }
    out
}

/// A rule, explained.
pub fn explain(rule: &crate::Rule) -> String {
    let mut out = format!(
        "{} ({}): {}\n\nSection: {}\n",
        rule.id,
        rule.severity.as_str(),
        rule.title,
        rule.section
    );
    if let Some(e) = rule.erratum {
        let _ = writeln!(out, "Erratum: {e}");
    }
    let _ = writeln!(out, "\nWhy: {}\nFix: {}", rule.why, rule.fix);
    for (what, example) in [("Breaks it", rule.bad), ("Keeps it", rule.good)] {
        for (path, text) in example {
            let _ = writeln!(out, "\n{what} ({path}):\n");
            for l in text.lines() {
                let _ = writeln!(out, "    {l}");
            }
        }
    }
    out
}

/// The changes that mend what is mechanical: new content per file, and the differences as a
/// unified diff. Edits that overlap are left for the next run.
pub fn fixes(report: &Report) -> (Vec<(std::path::PathBuf, String)>, String) {
    let sources = &report.project.sources;
    let mut by_file: std::collections::BTreeMap<lazuli_hcl::FileId, Vec<&Edit>> =
        std::collections::BTreeMap::new();
    for f in report.active() {
        for e in &f.edits {
            by_file.entry(e.span.file).or_default().push(e);
        }
    }
    let mut out = Vec::new();
    let mut diff = String::new();
    for (file, mut edits) in by_file {
        let source = sources.get(file);
        edits.sort_by_key(|e| (e.span.start, e.span.end, e.text.clone()));
        edits.dedup();
        let mut text = String::new();
        let mut hunks: Vec<(usize, usize)> = Vec::new();
        let mut at = 0usize;
        for e in edits {
            let (start, end) = (e.span.start as usize, e.span.end as usize);
            let (Some(before), true) = (source.text.get(at..start), end <= source.text.len())
            else {
                continue;
            };
            text.push_str(before);
            text.push_str(&e.text);
            at = end;
            let (a, b) = (source.line_column(e.span.start).0, source.line_column(e.span.end).0);
            match hunks.last_mut() {
                Some(h) if a <= h.1 + 1 => h.1 = h.1.max(b),
                _ => hunks.push((a, b)),
            }
        }
        text.push_str(source.text.get(at..).unwrap_or(""));
        let path = source.path.to_string_lossy().replace('\\', "/");
        let _ = write!(diff, "--- {path}\n+++ {path}\n");
        unified(&source.text, &text, &mut diff);
        out.push((source.path.clone(), text));
    }
    (out, diff)
}

/// A unified diff of two texts that differ in few lines, by matching what lies between.
fn unified(old: &str, new: &str, out: &mut String) {
    let (a, b): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let (mut i, mut j) = (0, 0);
    while i < a.len() || j < b.len() {
        if i < a.len() && j < b.len() && a[i] == b[j] {
            i += 1;
            j += 1;
            continue;
        }
        // The nearest place where both go on alike.
        let mut found = (a.len() - i, b.len() - j);
        'search: for d in 1..200 {
            for x in 0..=d {
                let y = d - x;
                let same =
                    |n: usize| a.get(i + x + n).is_some() && a.get(i + x + n) == b.get(j + y + n);
                let last = i + x + 1 >= a.len() || j + y + 1 >= b.len();
                if same(0) && (last || same(1)) {
                    found = (x, y);
                    break 'search;
                }
            }
        }
        let before = a.get(i.wrapping_sub(1)).filter(|_| i > 0);
        let (x, y) = found;
        let context = usize::from(before.is_some());
        let after = a.get(i + x).copied();
        let tail = usize::from(after.is_some());
        let _ = writeln!(
            out,
            "@@ -{},{} +{},{} @@",
            i + 1 - context,
            x + context + tail,
            j + 1 - context,
            y + context + tail
        );
        if let Some(l) = before {
            let _ = writeln!(out, " {l}");
        }
        for l in &a[i..i + x] {
            let _ = writeln!(out, "-{l}");
        }
        for l in &b[j..j + y] {
            let _ = writeln!(out, "+{l}");
        }
        if let Some(l) = after {
            let _ = writeln!(out, " {l}");
        }
        i += x;
        j += y;
    }
}
