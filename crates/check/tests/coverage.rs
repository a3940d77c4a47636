//! `docs/reference/check-coverage.md`: every section and sentence of the standard that asks for
//! something, and the rules that judge it. The page names every rule and no other; where the standard's
//! text is at hand, every quotation stands in it and every section of it stands on the page.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::single_match_else,
    clippy::case_sensitive_file_extension_comparisons
)]

use std::collections::BTreeSet;
use std::path::Path;

use lazuli_check::rules;

/// Headings that ask for nothing themselves: what stands below them does, or they are about the text.
const NO_RULES: [&str; 18] = [
    "Changelog",
    "Context",
    "Deployment Philosophy",
    "Compute: Azure App Service",
    "Database: Azure Database for PostgreSQL",
    "Cache: Azure Cache for Redis",
    "Secrets: Azure Key Vault",
    "Identity: Managed Identities",
    "Networking",
    "Frontend: Azure Static Web Apps",
    "Monitoring: Application Insights",
    "CI/CD: Azure DevOps Pipelines",
    "Scaling",
    "Infrastructure as Code: Terraform",
    "Disaster Recovery",
    "Cost Management",
    "Environment Parity",
    "Deployment Checklist",
];

fn page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/check-coverage.md");
    std::fs::read_to_string(path).unwrap()
}

fn ids(text: &str) -> BTreeSet<String> {
    text.match_indices("LZ-")
        .map(|(i, _)| {
            text[i..]
                .chars()
                .take_while(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || *c == '-')
                .collect()
        })
        .collect()
}

/// The cells of a table's rows.
fn rows(text: &str) -> Vec<Vec<&str>> {
    text.lines()
        .filter(|l| {
            l.starts_with("| ") && !l.starts_with("| Section |") && !l.starts_with("| Row |")
        })
        .map(|l| l.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect()
}

#[test]
fn the_page_names_every_rule_and_no_other() {
    let named = ids(&page());
    let all: BTreeSet<String> = rules::all().map(|r| r.id.to_owned()).collect();
    assert_eq!(named.difference(&all).collect::<Vec<_>>(), Vec::<&String>::new(), "no such rule");
    assert_eq!(all.difference(&named).collect::<Vec<_>>(), Vec::<&String>::new(), "not named");
}

#[test]
fn every_erratum_is_a_rule_or_says_why_not() {
    let text = page();
    let errata = rows(text.split_once("## The errata").unwrap().1);
    assert_eq!(errata.len(), 28);
    for (n, row) in errata.iter().enumerate() {
        assert_eq!(row[0], (n + 1).to_string());
        let named = ids(row[1]);
        assert!(!named.is_empty() || row[1].starts_with("none: "), "row {}", n + 1);
        let own: BTreeSet<String> = rules::all()
            .filter(|r| r.erratum.is_some_and(|e| usize::from(e) == n + 1))
            .map(|r| r.id.to_owned())
            .collect();
        assert!(own.is_subset(&named), "row {}: {own:?} come from it", n + 1);
    }
}

#[test]
fn every_section_of_the_standard_stands_on_the_page() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let standard = ["../shared", "../../shared"].iter().find_map(|p| {
        std::fs::read_to_string(root.join(p).join("standard/deployment-azure.md")).ok()
    });
    let Some(standard) = standard else {
        eprintln!("SKIPPED: the standard's text is not in ../shared/standard");
        return;
    };
    let text = page();
    let table = rows(text.split_once("## The errata").unwrap().0);
    let plain = |t: &str| t.split_whitespace().collect::<Vec<_>>().join(" ");
    let whole = plain(&standard);
    let mut missing = Vec::new();
    for row in &table {
        let quoted = row[1].trim_matches('"');
        if !whole.contains(quoted) {
            missing.push(format!("not in the standard: {quoted}"));
        }
        if ids(row[2]).is_empty() && !row[2].starts_with("not judged: ") {
            missing.push(format!("neither a rule nor a reason: {quoted}"));
        }
    }
    let sections: BTreeSet<&str> = table.iter().map(|r| r[0]).collect();
    let mut fenced = false;
    for line in standard.lines() {
        fenced ^= line.starts_with("```");
        let heading = line.strip_prefix("## ").or(line.strip_prefix("### "));
        if let (Some(h), false) = (heading, fenced)
            && !sections.contains(h)
            && !NO_RULES.contains(&h)
        {
            missing.push(format!("section without a row: {h}"));
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}
