//! JUnit XML: a test case for every rule that met something.

use std::fmt::Write as _;

use super::message;
use crate::engine::Report;
use crate::rules;

/// The whole report.
pub fn render(report: &Report) -> String {
    let judged: Vec<_> = rules::all()
        .filter(|r| report.judged.contains(r.id) || report.active().any(|f| f.rule.id == r.id))
        .collect();
    let failed = judged.iter().filter(|r| report.active().any(|f| f.rule.id == r.id)).count();
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = writeln!(
        out,
        "<testsuites name=\"lazuli check\" tests=\"{}\" failures=\"{failed}\" errors=\"0\">",
        judged.len()
    );
    let _ = writeln!(
        out,
        "  <testsuite name=\"lazuli check\" tests=\"{}\" failures=\"{failed}\" errors=\"0\" skipped=\"0\" time=\"0\">",
        judged.len()
    );
    for r in judged {
        let _ = write!(
            out,
            "    <testcase classname=\"{}\" name=\"{} {}\"",
            escape(r.section),
            r.id,
            escape(r.title)
        );
        let found: Vec<_> = report.active().filter(|f| f.rule.id == r.id).collect();
        if found.is_empty() {
            out.push_str("/>\n");
            continue;
        }
        out.push_str(">\n");
        let lines: Vec<String> = found
            .iter()
            .map(|f| {
                let s = report.project.sources.get(f.span.file);
                let (line, column) = s.line_column(f.span.start);
                format!("{}:{line}:{column}: {}", s.path.display(), message(f))
            })
            .collect();
        let _ = writeln!(
            out,
            "      <failure type=\"{}\" message=\"{}\">{}</failure>",
            r.severity.as_str(),
            escape(&lines[0]),
            escape(&lines.join("\n"))
        );
        out.push_str("    </testcase>\n");
    }
    out.push_str("  </testsuite>\n</testsuites>\n");
    out
}

fn escape(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // What XML 1.0 has no way to write (https://www.w3.org/TR/xml/#charsets).
            c if (c as u32) < 0x20 && !matches!(c, '\n' | '\t') => out.push(' '),
            '\u{fffe}' | '\u{ffff}' => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn what_xml_cannot_hold_is_a_space() {
        assert_eq!(escape("a\u{ffff}b\u{7}c\r\u{fffe}<\"&\">"), "a b c  &lt;&quot;&amp;&quot;&gt;");
    }
}
