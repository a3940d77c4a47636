//! The corpus: small cases, breaking and not, that a person can open. Each directory has a file
//! `case`: `judge` names the rules (or their beginnings) it is about, `expect` a finding with its
//! line; where the format has comments, `# expect LZ-…` stands on the line itself.
#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use lazuli_check::{Config, Options, check, walk};

fn cases(dir: &Path, out: &mut Vec<PathBuf>) {
    for e in std::fs::read_dir(dir).unwrap().flatten() {
        if e.path().is_dir() {
            cases(&e.path(), out);
        } else if e.file_name() == "case" {
            out.push(dir.to_owned());
        }
    }
}

#[test]
fn every_case_is_judged_as_it_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let mut all = Vec::new();
    cases(&root, &mut all);
    all.sort();
    assert!(all.len() >= 150, "{} cases", all.len());
    let (mut wrong, mut due, mut hit, mut false_alarms) = (Vec::new(), 0, 0, 0);
    for dir in &all {
        let spec = std::fs::read_to_string(dir.join("case")).unwrap();
        let mut judge = Vec::new();
        let mut expected = BTreeSet::new();
        for line in spec.lines() {
            match line.split_once(' ') {
                Some(("judge", ids)) => judge.extend(ids.split_whitespace().map(str::to_owned)),
                Some(("expect", e)) => {
                    expected.insert(e.to_owned());
                }
                _ => {}
            }
        }
        let inputs = walk::collect(&[PathBuf::from(".")], dir).unwrap();
        for i in &inputs {
            let text = String::from_utf8_lossy(i.bytes.as_ref().unwrap()).into_owned();
            for (n, line) in text.lines().enumerate() {
                if let Some((_, ids)) = line.split_once("# expect ") {
                    for id in ids.split_whitespace() {
                        expected.insert(format!("{id} {}:{}", i.path.display(), n + 1));
                    }
                }
            }
        }
        let report = check(inputs, &Options::default(), &Config::default(), &HashSet::new());
        let found: BTreeSet<String> = report
            .active()
            .filter(|f| judge.iter().any(|j| f.rule.id.starts_with(j.as_str())))
            .map(|f| {
                let s = report.project.sources.get(f.span.file);
                format!("{} {}:{}", f.rule.id, s.path.display(), s.line_column(f.span.start).0)
            })
            .collect();
        due += expected.len();
        hit += expected.intersection(&found).count();
        false_alarms += found.difference(&expected).count();
        if found != expected {
            wrong.push(format!(
                "{}:\n  expected {expected:?}\n  found    {found:?}",
                dir.strip_prefix(&root).unwrap().display()
            ));
        }
    }
    println!("{} cases, {due} findings due, {hit} found, {false_alarms} false", all.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
