//! A release's record, told: as Markdown for a change ticket, and as a picture of its timeline.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde_json::Value;

use crate::gates::{Gate, Verdict};
use crate::journal::{self, Entry, Record, Step};

/// A step as it went.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// Which.
    pub step: Step,
    /// When it began.
    pub began: Timestamp,
    /// When it ended; its beginning if it was cut off.
    pub ended: Timestamp,
    /// What it said, or why it failed.
    pub detail: String,
    /// Whether it ended well.
    pub good: bool,
}

/// The steps of a release, in the order they began.
pub fn spans(records: &[Record]) -> Vec<Span> {
    let mut open: Vec<(Step, Timestamp)> = Vec::new();
    let mut spans = Vec::new();
    for record in records {
        match &record.entry {
            Entry::Started { step } => open.push((*step, record.at)),
            Entry::Done { step, detail, elapsed_ms } => {
                let at = open.iter().rposition(|(open, _)| open == step);
                let took = i64::try_from(*elapsed_ms).unwrap_or(i64::MAX);
                let before = record.at.as_millisecond().saturating_sub(took);
                let before = Timestamp::from_millisecond(before).unwrap_or(record.at);
                let began = at.map_or(before, |at| open.remove(at).1);
                let detail = detail.clone();
                spans.push(Span { step: *step, began, ended: record.at, detail, good: true });
            }
            Entry::Failed { step, error, .. } => {
                let at = open.iter().rposition(|(open, _)| open == step);
                let began = at.map_or(record.at, |at| open.remove(at).1);
                let detail = error.clone();
                spans.push(Span { step: *step, began, ended: record.at, detail, good: false });
            }
            _ => {}
        }
    }
    for (step, began) in open {
        let detail = "cut off".to_owned();
        spans.push(Span { step, began, ended: began, detail, good: false });
    }
    spans.sort_by_key(|span| span.began);
    spans
}

fn milliseconds(from: Timestamp, to: Timestamp) -> i64 {
    to.as_millisecond() - from.as_millisecond()
}

/// For people: `850 ms`, `2.4 s`, `1 min 05 s`.
pub fn duration(ms: i64) -> String {
    match ms {
        ..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        _ => format!("{} min {:02} s", ms / 60_000, ms % 60_000 / 1_000),
    }
}

/// Text in a cell of a table, whatever it holds.
fn cell(text: &str) -> String {
    let flat = text.replace(['\n', '\r'], " ").replace('\\', "\\\\").replace('|', "\\|");
    flat.replace('<', "&lt;").replace('`', "'")
}

/// A release as Markdown.
pub fn markdown(records: &[Record]) -> String {
    let mut text = String::new();
    let Some((first, Entry::Began(began))) = records.first().map(|first| (first, &first.entry))
    else {
        return text;
    };
    let outcome =
        journal::outcome(records).map_or_else(|| "not ended".to_owned(), |o| o.to_string());
    let _ = writeln!(
        text,
        "# Release {} of {} to {}: {outcome}\n",
        began.number,
        cell(&began.app),
        cell(&began.environment)
    );
    let mut fact = |name: &str, value: &str| {
        let _ = writeln!(text, "- {name}: {}", cell(value));
    };
    fact("What", &began.kind.to_string());
    fact("Who", &format!("{} on {}", began.by, began.host));
    fact("When", &format!("{:.0} (UTC)", first.at));
    fact("Target", &format!("{} (lazuli {})", began.target, began.lazuli));
    if let Some(package) = journal::package(records) {
        fact("Package", &format!("sha256 {}", package.digest));
        if let Some(commit) = &package.origin.commit {
            let dirty = if package.origin.dirty { ", with uncommitted changes" } else { "" };
            let author = package.origin.author.as_deref().unwrap_or("unknown");
            fact("Commit", &format!("{commit} by {author}{dirty}"));
        }
    }
    if let Some(back_to) = began.back_to {
        fact("Back to", &format!("release {back_to}"));
    }
    if let Some(bom) = journal::evidence(records, Step::Package, "sbom") {
        let count = bom["components"].as_array().map_or(0, Vec::len);
        fact("Requirements", &format!("{count} (bill of materials in the record)"));
    }
    let gates: Vec<Gate> = records
        .iter()
        .filter_map(|record| match &record.entry {
            Entry::Evidence { step: Step::Gates, value, .. } => {
                serde_json::from_value(value.clone()).ok()
            }
            _ => None,
        })
        .collect();
    if !gates.is_empty() {
        text.push_str("\n## Gates\n\n| gate | verdict | |\n|---|---|---|\n");
        for gate in gates {
            let verdict = match gate.verdict {
                Verdict::Passed => "passed",
                Verdict::Warned => "warned",
                Verdict::Failed => "**failed**",
                Verdict::Accepted => "**failed, accepted**",
                Verdict::NotChecked => "not checked",
            };
            let _ = writeln!(text, "| {} | {verdict} | {} |", cell(&gate.gate), cell(&gate.what));
        }
    }
    text.push_str("\n## Steps\n\n| step | began | took | |\n|---|---|---:|---|\n");
    for span in spans(records) {
        let took = duration(milliseconds(span.began, span.ended));
        let mark = if span.good { "" } else { "**failed** " };
        let at = span.began.to_zoned(jiff::tz::TimeZone::UTC).strftime("%H:%M:%S").to_string();
        let _ = writeln!(text, "| {} | {at} | {took} | {mark}{} |", span.step, cell(&span.detail));
    }
    if let Some(breach) = journal::evidence(records, Step::Watch, "breach") {
        let said = |name: &str| breach[name].as_str().unwrap_or_default();
        let _ = writeln!(
            text,
            "\n## Why it went back\n\n{}: {}",
            cell(said("signal")),
            cell(said("what"))
        );
    }
    if let Some(watched) = journal::evidence(records, Step::Watch, "watched") {
        let figure = |path: &str| watched.pointer(path).and_then(Value::as_f64).unwrap_or_default();
        let _ = writeln!(
            text,
            "\n## Watched\n\n| | requests | 5xx | on average |\n|---|---:|---:|---:|\n| before | {:.0} | {:.0} | {:.0} ms |\n| after | {:.0} | {:.0} | {:.0} ms |",
            figure("/before/requests"),
            figure("/before/failed"),
            1000.0 * figure("/before/seconds") / figure("/before/requests").max(1.0),
            figure("/standing/served/requests"),
            figure("/standing/served/failed"),
            1000.0 * figure("/standing/served/seconds")
                / figure("/standing/served/requests").max(1.0),
        );
    }
    text
}

/// A release's timeline as SVG: a bar a step, on one axis of time.
pub fn picture(records: &[Record]) -> String {
    const LEFT: f64 = 150.0;
    const WIDTH: f64 = 560.0;
    const ROW: f64 = 22.0;
    let spans = spans(records);
    let number = match records.first().map(|record| &record.entry) {
        Some(Entry::Began(began)) => began.number,
        _ => 0,
    };
    let first = spans.iter().map(|span| span.began).min().unwrap_or(Timestamp::UNIX_EPOCH);
    let last = spans.iter().map(|span| span.ended).max().unwrap_or(first);
    let elapsed = milliseconds(first, last).max(1);
    let whole = elapsed as f64;
    let height = ROW.mul_add(spans.len() as f64, 62.0);
    let outcome = journal::outcome(records);
    let verdict = outcome.map_or_else(|| "not ended".to_owned(), |outcome| outcome.to_string());
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 820 {height:.0}\" font-family=\"system-ui, sans-serif\" font-size=\"12\" role=\"img\" aria-label=\"Timeline of release {number}\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n<text x=\"10\" y=\"20\" font-weight=\"bold\">Release {number}: {verdict} after {}</text>\n",
        duration(elapsed)
    );
    // The moment that matters: production's routing.
    let switched = spans.iter().find(|span| span.step == Step::Swap && span.good);
    let x = |at: Timestamp| LEFT + WIDTH * milliseconds(first, at) as f64 / whole;
    for (row, span) in spans.iter().enumerate() {
        let y = ROW.mul_add(row as f64, 36.0);
        let (from, to) = (x(span.began), x(span.ended));
        let color = match (span.good, span.step) {
            (false, _) => "#c0392b",
            (true, Step::Swap) => "#1f6feb",
            (true, Step::Watch) => "#8ab4e8",
            (true, _) => "#5b7fa6",
        };
        let _ = writeln!(
            svg,
            "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\">{}</text><rect x=\"{from:.1}\" y=\"{y:.0}\" width=\"{:.1}\" height=\"14\" rx=\"2\" fill=\"{color}\"/><text x=\"{:.0}\" y=\"{:.0}\" fill=\"#555\">{}</text>",
            LEFT - 8.0,
            y + 11.0,
            span.step,
            (to - from).max(1.5),
            to.max(from + 1.5) + 6.0,
            y + 11.0,
            duration(milliseconds(span.began, span.ended)),
        );
    }
    if let Some(span) = switched {
        let at = x(span.ended);
        let _ = writeln!(
            svg,
            "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"28\" y2=\"{:.0}\" stroke=\"#1f6feb\" stroke-dasharray=\"3 3\"/><text x=\"{at:.1}\" y=\"{:.0}\" text-anchor=\"middle\" fill=\"#1f6feb\">routing switched</text>",
            height - 22.0,
            height - 8.0,
        );
    }
    svg.push_str("</svg>\n");
    svg
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{Began, Journals, Kind, Outcome};

    fn record() -> Vec<Record> {
        let dir = tempfile::tempdir().expect("a directory");
        let journals = Journals::of(dir.path(), "prod");
        let began = |number| Began {
            number,
            kind: Kind::Deploy,
            app: "notes".into(),
            environment: "prod".into(),
            target: "local".into(),
            by: "a|b".into(),
            host: "h".into(),
            lazuli: "0".into(),
            back_to: None,
            plan: vec![Step::Swap],
            watch_s: Some(5),
            accepted: Vec::new(),
            canary: Vec::new(),
        };
        let mut journal = journals.begin(began).expect("begun");
        for entry in [
            Entry::Started { step: Step::Swap },
            Entry::Done { step: Step::Swap, detail: String::new(), elapsed_ms: 3 },
            Entry::Started { step: Step::Watch },
            Entry::Failed {
                step: Step::Watch,
                error: "5xx <b>".into(),
                log: Vec::new(),
                elapsed_ms: 9,
            },
            Entry::Ended { outcome: Outcome::RolledBack, elapsed_ms: 20 },
        ] {
            journal.write(entry).expect("written");
        }
        journal.records().to_vec()
    }

    #[test]
    fn a_release_is_told_and_nothing_in_it_breaks_the_page() {
        let records = record();
        let text = markdown(&records);
        assert!(text.starts_with("# Release 1 of notes to prod: rolled back\n"), "{text}");
        assert!(text.contains("a\\|b") && text.contains("**failed** 5xx &lt;b>"), "{text}");
        let svg = picture(&records);
        assert!(svg.contains("routing switched") && svg.ends_with("</svg>\n"));
        assert_eq!(svg.matches("<rect").count(), 3);
    }

    /// `LAZULI_BLESS=1` draws it anew, after `lazuli releases export N --as json` gave another record.
    #[test]
    fn the_picture_on_the_concept_page_is_of_the_record_beside_it() {
        let docs = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/concepts");
        let read = |name: &str| std::fs::read_to_string(docs.join(name)).expect("readable");
        let records: Vec<Record> =
            serde_json::from_str(&read("release-timeline.json")).expect("a record");
        let picture = picture(&records);
        if std::env::var("LAZULI_BLESS").is_ok_and(|bless| bless == "1") {
            std::fs::write(docs.join("release-timeline.svg"), &picture).expect("written");
        }
        assert_eq!(read("release-timeline.svg"), picture);
        let page = read("releases.md");
        assert!(page.contains("](release-timeline.svg)"), "the page shows it");
        // Every step that the record has is explained on the page.
        for span in spans(&records) {
            assert!(page.contains(span.step.name()), "{} is not explained", span.step);
        }
    }
}
