//! Annotations on a pull request: GitHub's workflow commands and Azure DevOps' logging commands.

use std::fmt::Write as _;

use super::message;
use crate::engine::Report;
use crate::rule::Severity;

/// `::error file=…,line=…`
/// (<https://docs.github.com/actions/reference/workflow-commands-for-github-actions>)
pub fn github(report: &Report) -> String {
    let mut out = String::new();
    for f in report.active() {
        let s = report.project.sources.get(f.span.file);
        let (line, column) = s.line_column(f.span.start);
        let (end, _) = s.line_column(f.span.end);
        let kind = match f.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "notice",
        };
        let data = |t: &str| t.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
        let property = |t: &str| data(t).replace(':', "%3A").replace(',', "%2C");
        let _ = writeln!(
            out,
            "::{kind} file={},line={line},col={column},endLine={end},title={}::{}",
            property(&s.path.to_string_lossy()),
            property(f.rule.id),
            data(&format!("{}. {}", message(f), f.rule.fix)),
        );
    }
    out
}

/// `##vso[task.logissue type=…]`
/// (<https://learn.microsoft.com/azure/devops/pipelines/scripts/logging-commands>)
pub fn azure(report: &Report) -> String {
    let mut out = String::new();
    for f in report.active() {
        let s = report.project.sources.get(f.span.file);
        let (line, column) = s.line_column(f.span.start);
        // There is no third kind.
        let kind = if f.severity == Severity::Error { "error" } else { "warning" };
        let property = |t: &str| {
            t.replace('%', "%AZP25")
                .replace(';', "%3B")
                .replace('\r', "%0D")
                .replace('\n', "%0A")
                .replace(']', "%5D")
        };
        let _ = writeln!(
            out,
            "##vso[task.logissue type={kind};sourcepath={};linenumber={line};columnnumber={column};code={}]{}",
            property(&s.path.to_string_lossy()),
            f.rule.id,
            format!("{}. {}", message(f), f.rule.fix).replace(['\n', '\r'], " "),
        );
    }
    out
}
