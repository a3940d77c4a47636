//! What a person sees of a place: the caret under it, the column in the header, sentences broken to the
//! terminal's width.
#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::HashSet;

use lazuli_check::output::human;
use lazuli_check::{Config, Input, Options, check};

fn seen(path: &str, text: &str, rule: &str, width: Option<usize>) -> String {
    let input = Input { path: path.into(), bytes: Ok(text.as_bytes().to_vec()) };
    let r = check(vec![input], &Options::default(), &Config::default(), &HashSet::new());
    human::findings(&r, false, width)
        .split("\n\n")
        .find(|f| f.contains(rule))
        .unwrap_or_default()
        .to_owned()
}

/// A plan as `terraform show -json` writes it: one line; the ninth site of ten is the broken one.
fn plan() -> String {
    let sites: Vec<String> = (0..10)
        .map(|i| {
            format!(
                r#"{{"address":"azurerm_linux_web_app.app{i}","mode":"managed","type":"azurerm_linux_web_app","name":"app{i}","values":{{"name":"nötes","https_only":{}}}}}"#,
                i != 8
            )
        })
        .collect();
    format!(
        r#"{{"format_version":"1.2","terraform_version":"1.9.0","planned_values":{{"root_module":{{"resources":[{}]}}}}}}"#,
        sites.join(",")
    )
}

#[test]
fn the_caret_is_under_its_place_in_a_plan_of_one_line() {
    let text = plan();
    for width in [None, Some(80), Some(160)] {
        let seen = seen("plan.json", &text, "LZ-APP-001", width);
        let lines: Vec<&str> = seen.lines().collect();
        let column = text[..text.find("false").unwrap()].chars().count() + 1;
        assert_eq!(lines[1].trim(), format!("--> plan.json:1:{column}"), "{seen}");
        let source = lines.iter().position(|l| l.starts_with("1 |")).unwrap();
        let caret = lines[source + 1].find('^').unwrap();
        let under: String = lines[source].chars().skip(caret).take(5).collect();
        assert_eq!(under, "false", "{seen}");
        if let Some(w) = width {
            // The label beside the caret is the resource's name, which is not cut.
            assert!(lines[source].chars().count() <= w + 8, "{seen}");
        }
    }
}

#[test]
fn sentences_are_broken_to_the_terminals_width() {
    let text = "resource \"azurerm_linux_web_app\" \"backend\" {\n  https_only = false\n}\n";
    let narrow = seen("main.tf", text, "LZ-APP-001", Some(60));
    assert!(narrow.lines().all(|l| l.chars().count() <= 60), "{narrow}");
    let whole = seen("main.tf", text, "LZ-APP-001", None);
    let words = |t: &str| t.split_whitespace().filter(|w| *w != "|").collect::<Vec<_>>().join(" ");
    assert_eq!(words(&narrow), words(&whole));
}
