//! The standard's own snippets, judged as they stand: the known errors are found, nothing else is.
//! The text is not part of the project: it is looked for beside the repository, in `../shared`, or
//! where `LAZULI_STANDARD` says; without it the tests say that they are skipped.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::single_match_else,
    clippy::case_sensitive_file_extension_comparisons
)]

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use lazuli_check::{Config, Input, Options, check};

/// What the errata say is wrong in the fenced blocks, each where it stands.
const KNOWN: &[&str] = &[
    // websocket_enabled is websockets_enabled.
    "LZ-APP-017",
    // Erratum 12 in the pipeline's start command.
    "LZ-CMD-002",
    // Errata 3 and 1 in the connection string.
    "LZ-DB-014",
    "LZ-DB-016",
    // Erratum 4 in the engine.
    "LZ-DB-017",
    // Erratum 16 in the references.
    "LZ-KV-006",
    // Erratum 8 in the front end's routes.
    "LZ-FE-001",
    "LZ-FE-002",
    // Erratum 13 in the requirements, 24 in the debugging commands.
    "LZ-MON-010",
    "LZ-MON-011",
    // Errata 17 to 21 and 27 in the pipelines.
    "LZ-PIP-002",
    "LZ-PIP-003",
    "LZ-PIP-004",
    "LZ-PIP-005",
    "LZ-PIP-006",
    "LZ-PIP-010",
];

/// The standard's text, or nothing, said so.
fn standard() -> Option<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let path = match std::env::var_os("LAZULI_STANDARD") {
        Some(p) => PathBuf::from(p),
        // Beside the repository; a worktree may lie one directory deeper.
        None => ["../shared", "../../shared"]
            .iter()
            .map(|p| root.join(p).join("standard/deployment-azure.md"))
            .find(|p| p.exists())
            .unwrap_or_default(),
    };
    match std::fs::read_to_string(&path) {
        Ok(text) => Some(text),
        Err(_) => {
            eprintln!("SKIPPED: the standard's text is not in ../shared/standard");
            None
        }
    }
}

#[test]
fn the_standards_own_snippets() {
    let Some(text) = standard() else { return };
    let mut found = BTreeSet::new();
    let mut told = String::new();
    let mut n = 0;
    let mut block: Option<(String, String)> = None;
    for line in text.lines() {
        match (&mut block, line.strip_prefix("```")) {
            (None, Some(language)) => block = Some((language.trim().to_owned(), String::new())),
            (Some(_), Some(_)) => {
                let (language, content) = block.take().unwrap();
                n += 1;
                let name = match language.as_str() {
                    "hcl" => "main.tf",
                    "yaml" => "azure-pipelines.yml",
                    "json" => "staticwebapp.config.json",
                    "python" => "app/module.py",
                    "bash" => "script.sh",
                    "txt" => "requirements.txt",
                    "" if content.contains("://") && !content.contains('=') => ".env",
                    "" if content.contains("@Microsoft.KeyVault") => ".env",
                    "" => ".env",
                    other => panic!("what is {other}?"),
                };
                // Connection strings without a name are the app's.
                let content = if name == ".env" && content.trim_start().starts_with("postgresql") {
                    format!("DATABASE_URL={content}")
                } else {
                    content
                };
                let input = Input { path: name.into(), bytes: Ok(content.into_bytes()) };
                let options = Options { assume: None, fragments: true };
                let report = check(vec![input], &options, &Config::default(), &HashSet::new());
                for f in report.active() {
                    let s = report.project.sources.get(f.span.file);
                    let line = s.line_column(f.span.start).0;
                    told.push_str(&format!(
                        "block {n} ({name}:{line}) {}: {}\n    {}\n",
                        f.rule.id,
                        f.message,
                        s.line(line)
                    ));
                    found.insert(f.rule.id);
                }
            }
            (Some((_, content)), None) => {
                content.push_str(line);
                content.push('\n');
            }
            (None, None) => {}
        }
    }
    println!("{told}");
    let known: BTreeSet<&str> = KNOWN.iter().copied().collect();
    let extra: Vec<_> = found.difference(&known).collect();
    let missed: Vec<_> = known.difference(&found).collect();
    assert!(
        extra.is_empty() && missed.is_empty(),
        "found beyond the errata: {extra:?}; not found: {missed:?}\n{told}"
    );
}
