//! Every rule's own two examples: the failing one is found, the passing one is not.
#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::HashSet;

use lazuli_check::rule::Example;
use lazuli_check::{Config, Input, Options, Report, check, rules};

fn judge(example: Example) -> Report {
    let inputs = example
        .iter()
        .map(|(p, t)| Input { path: p.into(), bytes: Ok(t.as_bytes().to_vec()) })
        .collect();
    check(inputs, &Options::default(), &Config::default(), &HashSet::new())
}

fn told(r: &Report) -> String {
    r.findings
        .iter()
        .map(|f| {
            format!(
                "  {} {}: {}\n",
                f.rule.id,
                r.project.sources.path(f.span.file).display(),
                f.message
            )
        })
        .collect()
}

#[test]
fn failing_examples_are_found() {
    let mut wrong = Vec::new();
    for rule in rules::all() {
        let r = judge(rule.bad);
        if !r.active().any(|f| f.rule.id == rule.id) {
            wrong.push(format!(
                "{} is not found in its failing example; found:\n{}  unknown: {:?}",
                rule.id,
                told(&r),
                r.unknown
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn passing_examples_pass() {
    let mut wrong = Vec::new();
    for rule in rules::all() {
        let r = judge(rule.good);
        if r.active().any(|f| f.rule.id == rule.id) {
            wrong.push(format!("{} is found in its passing example:\n{}", rule.id, told(&r)));
        }
        if rule.id != "LZ-INP-001" && r.active().any(|f| f.rule.id == "LZ-INP-001") {
            wrong.push(format!("{}: its passing example cannot be read:\n{}", rule.id, told(&r)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn ids_are_unique_and_well_formed() {
    let mut seen = HashSet::new();
    for r in rules::all() {
        assert!(seen.insert(r.id), "{} twice", r.id);
        let parts: Vec<&str> = r.id.split('-').collect();
        assert!(
            matches!(&*parts, ["LZ", family, n] if (2..=3).contains(&family.len()) && n.len() == 3 && n.parse::<u32>().is_ok()),
            "{}",
            r.id
        );
        assert!(
            !r.why.is_empty()
                && !r.fix.is_empty()
                && r.title.chars().next().is_some_and(char::is_alphanumeric),
            "{}",
            r.id
        );
    }
    assert!(seen.len() > 120, "{} rules", seen.len());
}

#[test]
fn nothing_depends_on_the_order_of_files() {
    for rule in rules::all().filter(|r| r.bad.len() > 1) {
        let forward = judge(rule.bad);
        let inputs = rule
            .bad
            .iter()
            .rev()
            .map(|(p, t)| Input { path: p.into(), bytes: Ok(t.as_bytes().to_vec()) })
            .collect();
        let backward = check(inputs, &Options::default(), &Config::default(), &HashSet::new());
        assert_eq!(told(&forward), told(&backward));
    }
}

#[test]
fn the_reference_is_in_sync() {
    let page =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/rules.md");
    let fresh = lazuli_check::output::reference::render();
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        std::fs::write(&page, &fresh).unwrap();
    }
    let kept = std::fs::read_to_string(&page).unwrap_or_default();
    assert!(
        kept == fresh,
        "docs/reference/rules.md is not what the rules say: UPDATE_REFERENCE=1 writes it"
    );
}
