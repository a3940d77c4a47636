//! Lines and columns. What a rule finds in its failing example it finds at the same text when the
//! file begins further down, when its lines end as on Windows, and when it is a module.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::single_match_else,
    clippy::case_sensitive_file_extension_comparisons
)]

use std::collections::{BTreeSet, HashSet};

use lazuli_check::{Config, Input, Options, Report, check, rules};

fn judge(files: &[(String, String)]) -> Report {
    let inputs = files
        .iter()
        .map(|(p, t)| Input { path: p.into(), bytes: Ok(t.clone().into_bytes()) })
        .collect();
    check(inputs, &Options::default(), &Config::default(), &HashSet::new())
}

fn files(example: lazuli_check::rule::Example) -> Vec<(String, String)> {
    example.iter().map(|(p, t)| ((*p).to_owned(), (*t).to_owned())).collect()
}

/// Path, line, column, end line, end column of what one rule found, and of its related places.
fn places(r: &Report, rule: &str) -> BTreeSet<(String, usize, usize, usize, usize)> {
    r.active()
        .filter(|f| f.rule.id == rule)
        .flat_map(|f| std::iter::once(f.span).chain(f.labels.iter().map(|(s, _)| *s)))
        .map(|span| {
            let s = r.project.sources.get(span.file);
            let (line, column) = s.line_column(span.start);
            let (end, end_column) = s.line_column(span.end);
            (s.path.to_string_lossy().into_owned(), line, column, end, end_column)
        })
        .collect()
}

/// Whether what a rule finds lies in Terraform alone, so that the example can become a module.
fn is_terraform(files: &[(String, String)]) -> bool {
    files.iter().all(|(p, _)| p.ends_with(".tf"))
}

#[test]
fn places_move_with_the_text() {
    let mut wrong = Vec::new();
    for rule in rules::all() {
        let plain = files(rule.bad);
        let before = places(&judge(&plain), rule.id);
        let down: Vec<_> = plain.iter().map(|(p, t)| (p.clone(), format!("\n\n\n{t}"))).collect();
        let after = places(&judge(&down), rule.id);
        let moved: BTreeSet<_> =
            before.iter().map(|(p, l, c, e, d)| (p.clone(), l + 3, *c, e + 3, *d)).collect();
        if after != moved {
            wrong.push(format!("{}: {before:?} became {after:?}", rule.id));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn places_are_the_same_with_windows_line_ends() {
    let mut wrong = Vec::new();
    for rule in rules::all() {
        let plain = files(rule.bad);
        let before = places(&judge(&plain), rule.id);
        let crlf: Vec<_> =
            plain.iter().map(|(p, t)| (p.clone(), t.replace('\n', "\r\n"))).collect();
        let after = places(&judge(&crlf), rule.id);
        // Where a place ends at the line's end, the carriage return is not part of it.
        if after != before {
            wrong.push(format!("{}: {before:?} became {after:?}", rule.id));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn places_are_the_same_in_a_module() {
    let (mut wrong, mut tried) = (Vec::new(), 0);
    for rule in rules::all() {
        let plain = files(rule.bad);
        let family = &rule.id[3..6];
        // The state's backend, providers and variables are the root's alone; and a file that cannot
        // be read is no module.
        if !is_terraform(&plain)
            || matches!(family, "IAC" | "INP")
            || plain.iter().any(|(_, t)| {
                t.contains("variable \"") || t.contains("provider \"") || t.contains("backend \"")
            })
        {
            continue;
        }
        let roots: BTreeSet<String> = plain
            .iter()
            .map(|(p, _)| p.rsplit_once('/').map_or(String::new(), |(d, _)| format!("{d}/")))
            .collect();
        if roots.len() != 1 {
            continue;
        }
        tried += 1;
        let root = roots.first().unwrap();
        let before = places(&judge(&plain), rule.id);
        let mut moved: Vec<_> = plain
            .iter()
            .map(|(p, t)| (format!("{root}modules/m/{}", &p[root.len()..]), t.clone()))
            .collect();
        moved.push((
            format!("{root}root.tf"),
            "module \"m\" {\n  source = \"./modules/m\"\n}\n".into(),
        ));
        let after = places(&judge(&moved), rule.id);
        let want: BTreeSet<_> = before
            .iter()
            .map(|(p, l, c, e, d)| {
                (format!("{root}modules/m/{}", &p[root.len()..]), *l, *c, *e, *d)
            })
            .collect();
        if after != want {
            wrong.push(format!("{}: {want:?} became {after:?}", rule.id));
        }
    }
    assert!(tried > 60, "{tried} examples became modules");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What stands at each place of a finding, as a person reads it.
fn texts(files: &[(&str, &str)], rule: &str) -> Vec<String> {
    let files: Vec<_> = files.iter().map(|(p, t)| ((*p).to_owned(), (*t).to_owned())).collect();
    let r = judge(&files);
    let mut out: Vec<String> = r
        .active()
        .filter(|f| f.rule.id == rule)
        .flat_map(|f| std::iter::once(f.span).chain(f.labels.iter().map(|(s, _)| *s)))
        .map(|span| {
            let s = r.project.sources.get(span.file);
            let (line, column) = s.line_column(span.start);
            let text = &s.text[span.start as usize..span.end as usize];
            format!("{}:{line}:{column} {text}", s.path.display())
        })
        .collect();
    out.sort();
    out
}

#[test]
fn a_value_is_followed_through_two_modules_to_where_it_is_written() {
    let found = texts(
        &[
            ("main.tf", "module \"outer\" {\n  source = \"./outer\"\n  tls    = \"1.0\"\n}\n"),
            (
                "outer/main.tf",
                "variable \"tls\" {}\nmodule \"inner\" {\n  source = \"./inner\"\n  settings = { minimum = var.tls }\n}\n",
            ),
            (
                "outer/inner/main.tf",
                "variable \"settings\" {}\nresource \"azurerm_linux_web_app\" \"x\" {\n  site_config {\n    minimum_tls_version = var.settings.minimum\n  }\n}\n",
            ),
        ],
        "LZ-APP-002",
    );
    assert_eq!(found, ["main.tf:3:12 \"1.0\"", "outer/inner/main.tf:4:27 var.settings.minimum"]);
}

#[test]
fn a_dynamic_blocks_value_is_followed_to_its_list() {
    let found = texts(
        &[(
            "main.tf",
            "locals {\n  firewall = [\n    { name = \"ok\", from = \"10.0.0.1\", to = \"10.0.0.9\" },\n    { name = \"all\", from = \"0.0.0.0\", to = \"255.255.255.255\" },\n  ]\n}\nresource \"azurerm_network_security_group\" \"db\" {\n  dynamic \"security_rule\" {\n    for_each = { ssh = \"22\", web = \"443\" }\n    content {\n      name                       = security_rule.key\n      access                     = \"Allow\"\n      direction                  = \"Inbound\"\n      priority                   = 100\n      protocol                   = \"Tcp\"\n      source_address_prefix      = \"Internet\"\n      source_port_range          = \"*\"\n      destination_address_prefix = \"*\"\n      destination_port_range     = security_rule.value\n    }\n  }\n}\n",
        )],
        "LZ-NET-013",
    );
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("main.tf:10:5 content"), "{found:?}");
}

#[test]
fn columns_count_characters() {
    let found = texts(
        &[(
            "main.tf",
            "resource \"azurerm_linux_web_app\" \"x\" {\n  /* größer 😀 */ https_only = false\n\tclient_affinity_enabled = true\n}\n",
        )],
        "LZ-APP-001",
    );
    assert_eq!(found, ["main.tf:2:31 false"]);
}
