//! What the targets do alike: judge files, and hold the report against what must be true of any.

use std::collections::HashSet;

use lazuli_check::{Config, Input, Options, Report, check, output};

/// Judges a small tree; panics when a place of a finding is not a place in its file.
pub fn judge(files: &[(&str, &[u8])]) -> Report {
    let inputs = files
        .iter()
        .map(|(path, bytes)| Input { path: path.into(), bytes: Ok(bytes.to_vec()) })
        .collect();
    let report = check(inputs, &Options::default(), &Config::default(), &HashSet::new());
    for f in &report.findings {
        for span in [f.span].into_iter().chain(f.labels.iter().map(|l| l.0)) {
            let text = &report.project.sources.get(span.file).text;
            assert!(span.start <= span.end, "{}: {span:?}", f.rule.id);
            assert!(
                text.is_char_boundary(span.start as usize)
                    && text.is_char_boundary(span.end as usize),
                "{}: {span:?}",
                f.rule.id
            );
        }
    }
    let _ = output::human::findings(&report, false);
    let _ = output::human::fixes(&report);
    let _ = output::sarif::render(&report);
    report
}
