//! For programs. The shape is part of the interface: keys are added, never changed.

use serde_json::{Value, json};

use crate::engine::{Report, fingerprints};

/// The whole report.
pub fn render(report: &Report) -> Value {
    let sources = &report.project.sources;
    let place = |s: lazuli_hcl::Span| {
        let source = sources.get(s.file);
        let (line, column) = source.line_column(s.start);
        let (end_line, end_column) = source.line_column(s.end);
        json!({ "path": source.path.to_string_lossy().replace('\\', "/"), "line": line, "column": column, "endLine": end_line, "endColumn": end_column })
    };
    let prints = fingerprints(sources, &report.findings);
    let findings: Vec<Value> = report
        .findings
        .iter()
        .zip(prints)
        .map(|(f, print)| {
            json!({
                "rule": f.rule.id,
                "severity": f.severity,
                "section": f.rule.section,
                "erratum": f.rule.erratum,
                "message": f.message,
                "place": place(f.span),
                "related": f.labels.iter().map(|(s, t)| json!({ "place": place(*s), "message": t })).collect::<Vec<_>>(),
                "resource": f.address,
                "environments": f.environments,
                "why": f.rule.why,
                "fix": f.rule.fix,
                "mechanical": !f.edits.is_empty(),
                "suppressed": f.suppressed,
                "fingerprint": print,
            })
        })
        .collect();
    json!({
        "findings": findings,
        "sections": report.sections(),
        "unknown": report.unknown,
        "stacks": report.project.stacks.iter().map(|s| json!({ "name": s.name, "environment": s.environment.map(lazuli_standard::Environment::as_str), "resources": s.configuration.resources.len() })).collect::<Vec<_>>(),
    })
}

/// A baseline: the findings that a repository starts with, accepted until somebody mends them.
pub fn baseline(report: &Report) -> Value {
    let prints = fingerprints(&report.project.sources, &report.findings);
    let entries: Vec<Value> = report
        .findings
        .iter()
        .zip(prints)
        .filter(|(f, _)| f.suppressed.as_deref().is_none_or(|s| s == "in the baseline"))
        .map(|(f, p)| json!({ "fingerprint": p, "rule": f.rule.id, "path": report.project.sources.path(f.span.file).to_string_lossy().replace('\\', "/") }))
        .collect();
    json!({ "version": 1, "findings": entries })
}

/// The fingerprints of a baseline file.
pub fn read_baseline(text: &str) -> Option<std::collections::HashSet<String>> {
    let v: Value = serde_json::from_str(text).ok()?;
    let list = v.get("findings")?.as_array()?;
    Some(list.iter().filter_map(|e| Some(e.get("fingerprint")?.as_str()?.to_owned())).collect())
}
