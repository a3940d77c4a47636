//! Any input terminates, none panics, and the order of files changes nothing.
#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::HashSet;
use std::path::PathBuf;

use lazuli_check::{Config, Input, Options, Report, check, rules, walk};
use proptest::prelude::*;

fn judge(files: Vec<(&str, Vec<u8>)>) -> Report {
    let inputs = files.into_iter().map(|(p, b)| Input { path: p.into(), bytes: Ok(b) }).collect();
    check(inputs, &Options::default(), &Config::default(), &HashSet::new())
}

fn messages(r: &Report) -> Vec<String> {
    r.findings.iter().map(|f| f.message.clone()).collect()
}

#[test]
fn odd_encodings_are_said() {
    let utf16: Vec<u8> = [0xff, 0xfe]
        .into_iter()
        .chain(
            "resource \"azurerm_kubernetes_cluster\" \"k\" {\n}\n"
                .encode_utf16()
                .flat_map(u16::to_le_bytes),
        )
        .collect();
    let r = judge(vec![
        ("utf16.tf", utf16),
        ("binary.tf", vec![0, 1, 2, 3, 0]),
        ("latin.tf", b"# caf\xe9\n".to_vec()),
        ("bom.tf", "\u{feff}locals {\n}\n".into()),
    ]);
    let m = messages(&r);
    assert!(
        m.iter().any(|m| m.contains("binary")) && m.iter().any(|m| m.contains("not UTF-8")),
        "{m:?}"
    );
    assert!(m.iter().any(|m| m.contains("Kubernetes")), "UTF-16 is read: {m:?}");
    assert_eq!(r.findings.len(), 3, "{m:?}");
}

#[test]
fn deep_and_endless_input_ends() {
    let deep = |open: &str, n: usize| open.repeat(n).into_bytes();
    judge(vec![
        ("staticwebapp.config.json", deep("[", 1_000_000)),
        (
            "azure-pipelines.yml",
            [b"steps:\n- script: a\nx: ".to_vec(), deep("[", 100_000)].concat(),
        ),
        ("pyproject.toml", [b"x = ".to_vec(), deep("[", 100_000)].concat()),
        ("a.tf", deep("a {", 100_000)),
        ("a.py", deep("f(", 300_000)),
        ("requirements.txt", deep("-", 1_000_000)),
        ("b.sh", deep("$(", 300_000)),
    ]);
}

#[test]
fn links_in_a_circle_are_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("main.tf"), "locals {}\n").unwrap();
    std::fs::create_dir(dir.path().join("a")).unwrap();
    std::os::unix::fs::symlink("..", dir.path().join("a/up")).unwrap();
    std::os::unix::fs::symlink("self", dir.path().join("self")).unwrap();
    std::os::unix::fs::symlink("../main.tf", dir.path().join("a/main.tf")).unwrap();
    let mut found: Vec<PathBuf> =
        walk::collect(&[".".into()], dir.path()).unwrap().into_iter().map(|i| i.path).collect();
    found.sort();
    assert_eq!(found, [PathBuf::from("a/main.tf"), PathBuf::from("main.tf")]);
}

#[test]
fn a_huge_file_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let f = std::fs::File::create(dir.path().join("huge.tf")).unwrap();
    f.set_len(100 << 20).unwrap();
    let inputs = walk::collect(&[".".into()], dir.path()).unwrap();
    assert!(inputs[0].bytes.as_ref().unwrap_err().contains("100 MiB"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_examples_terminate(rule in 0usize..1000, at in 0.0f64..1.0, len in 0usize..30, with in "[\\[\\](){}\"'$%<>=:#&*|\\n,. \\-a-z\u{e9}\u{1F600}]{0,8}") {
        let all: Vec<_> = rules::all().collect();
        let r = all[rule % all.len()];
        for example in [r.bad, r.good] {
            let files = example.iter().map(|(p, t)| {
                let mut t = (*t).to_owned();
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a place in a text")]
                let mut start = (at * t.len() as f64) as usize;
                while !t.is_char_boundary(start) { start -= 1; }
                let mut end = (start + len).min(t.len());
                while !t.is_char_boundary(end) { end += 1; }
                t.replace_range(start..end, &with);
                (*p, t.into_bytes())
            }).collect();
            let report = judge(files);
            for f in &report.findings {
                let s = report.project.sources.get(f.span.file);
                prop_assert!((f.span.end as usize) <= s.text.len() && f.span.start <= f.span.end, "{}: {:?}", f.rule.id, f.span);
                prop_assert!(s.text.is_char_boundary(f.span.start as usize) && s.text.is_char_boundary(f.span.end as usize));
            }
            let _ = lazuli_check::output::human::findings(&report, false);
            let _ = lazuli_check::output::human::fixes(&report);
            let _ = lazuli_check::output::sarif::render(&report);
        }
    }

    #[test]
    fn any_bytes_terminate(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        judge(["a.tf", "b.yml", "staticwebapp.config.json", "settings.job", "a.py", "requirements.txt", "pyproject.toml", "s.sh", ".env", "x.tfvars"].into_iter().map(|p| (p, bytes.clone())).collect());
    }
}
