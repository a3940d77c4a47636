//! SARIF 2.1.0 (<https://docs.oasis-open.org/sarif/sarif/v2.1.0/>): what GitHub's and Azure DevOps'
//! code scanning read.

use serde_json::{Value, json};

use super::message;
use crate::engine::{Report, fingerprints};
use crate::rule::Severity;
use crate::rules;

/// The whole report.
pub fn render(report: &Report) -> Value {
    let sources = &report.project.sources;
    let all: Vec<&crate::Rule> = rules::all().collect();
    let location = |s: lazuli_hcl::Span| {
        let source = sources.get(s.file);
        let (line, column) = source.line_column(s.start);
        let (end_line, end_column) = source.line_column(s.end.max(s.start + 1));
        json!({ "physicalLocation": {
            "artifactLocation": { "uri": uri(&source.path.to_string_lossy()), "uriBaseId": "%SRCROOT%" },
            "region": { "startLine": line, "startColumn": column, "endLine": end_line, "endColumn": end_column },
        }})
    };
    let prints = fingerprints(sources, &report.findings);
    let results: Vec<Value> = report.findings.iter().zip(prints).map(|(f, print)| {
        let index = all.iter().position(|r| r.id == f.rule.id);
        let related: Vec<Value> = f.labels.iter().enumerate().map(|(i, (s, t))| {
            let mut l = location(*s);
            l["id"] = json!(i + 1);
            l["message"] = json!({ "text": t });
            l
        }).collect();
        let mut r = json!({
            "ruleId": f.rule.id,
            "ruleIndex": index,
            "level": level(f.severity),
            "message": { "text": message(f) },
            "locations": [location(f.span)],
            "partialFingerprints": { "lazuli/v1": print },
        });
        if !related.is_empty() {
            r["relatedLocations"] = json!(related);
        }
        if let Some(reason) = &f.suppressed {
            let kind = if reason == "in the baseline" { "external" } else { "inSource" };
            r["suppressions"] = json!([{ "kind": kind, "justification": reason }]);
        }
        if !f.edits.is_empty() {
            let mut files: std::collections::BTreeMap<lazuli_hcl::FileId, Vec<Value>> = std::collections::BTreeMap::new();
            for e in &f.edits {
                let source = sources.get(e.span.file);
                let (line, column) = source.line_column(e.span.start);
                let (end_line, end_column) = source.line_column(e.span.end);
                files.entry(e.span.file).or_default().push(json!({
                    "deletedRegion": { "startLine": line, "startColumn": column, "endLine": end_line, "endColumn": end_column },
                    "insertedContent": { "text": e.text },
                }));
            }
            let changes: Vec<Value> = files.into_iter().map(|(id, replacements)| json!({
                "artifactLocation": { "uri": uri(&sources.path(id).to_string_lossy()), "uriBaseId": "%SRCROOT%" },
                "replacements": replacements,
            })).collect();
            r["fixes"] = json!([{ "description": { "text": f.rule.fix }, "artifactChanges": changes }]);
        }
        r
    }).collect();
    let descriptors: Vec<Value> = all
        .iter()
        .map(|r| {
            json!({
                "id": r.id,
                "shortDescription": { "text": r.title },
                "fullDescription": { "text": r.why },
                "help": { "text": r.fix },
                "defaultConfiguration": { "level": level(r.severity) },
                "properties": { "tags": [r.section] },
            })
        })
        .collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": { "name": "lazuli check", "version": env!("CARGO_PKG_VERSION"), "rules": descriptors } },
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    })
}

fn level(s: Severity) -> &'static str {
    s.as_str()
}

/// A path as a relative URI.
fn uri(path: &str) -> String {
    let mut out = String::new();
    for b in path.replace('\\', "/").bytes() {
        if b.is_ascii_alphanumeric() || b"-._~/".contains(&b) {
            out.push(b as char);
        } else {
            use std::fmt::Write as _;
            let _ = write!(out, "%{b:02X}");
        }
    }
    out
}
