#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

const GOOD: &str = r#"app: notes
location: westeurope
python: "3.14"
backend:
  app: modules.backend.main:app
  workers: 3
  websockets: true
  settings: { LOG_LEVEL: info, DEBUG: false, LIMIT: 10 }
worker: { run: "taskiq worker modules.backend.tasks.broker:broker" }
database: { migrate: alembic upgrade head }
cache: premium
secrets: [jwt-secret, api-key-salt]
smoke:
  - { path: /health, status: 200 }
  - { path: "/health/ready?deep=1", json: { status: ready, checks: [1, true] } }
package: { exclude: [tests/] }
"#;

fn messages(source: &str) -> Vec<(usize, String)> {
    let errors = Manifest::parse(source, "lazuli.yaml").unwrap_err();
    errors.messages().map(|(line, m)| (line, m.to_owned())).collect()
}

fn rendered(source: &str) -> String {
    Manifest::parse(source, "lazuli.yaml").unwrap_err().to_string()
}

/// The smallest manifest with one line more.
fn with(line: &str) -> String {
    format!("app: notes\nlocation: westeurope\nbackend: {{ app: main:app }}\n{line}\n")
}

#[test]
fn a_whole_manifest() {
    let manifest = Manifest::parse(GOOD, "lazuli.yaml").unwrap();
    insta::assert_debug_snapshot!(manifest);
}

#[test]
fn the_smallest_manifest_gets_the_standards_values() {
    let manifest = Manifest::parse(&with(""), "lazuli.yaml").unwrap();
    assert_eq!(manifest.python, "3.14");
    assert_eq!(manifest.backend.workers, 2);
    assert_eq!(manifest.backend.worker_class, "uvicorn_worker.UvicornWorker");
    assert_eq!(manifest.backend.readiness, "/health/ready");
    assert_eq!(manifest.cache, Cache::Managed);
}

#[test]
fn a_typing_error_in_a_key_names_what_was_meant() {
    insta::assert_snapshot!(rendered(
        "app: notes\nlocation: westeurope\nbackend:\n  app: main:app\n  wokers: 3\nschedular:\n  run: x\n"
    ), @"
error: unknown key `wokers` in `backend`
 --> lazuli.yaml:5:3
  |
5 |   wokers: 3
  |   ^^^^^^ did you mean `workers`?

error: unknown key `schedular`
 --> lazuli.yaml:6:1
  |
6 | schedular:
  | ^^^^^^^^^ did you mean `scheduler`?
");
}

#[test]
fn everything_wrong_is_said_at_once() {
    let source = "name: Notes\nlocation: West Europe\npython: 3.1\nbackend:\n  app: modules/backend/main.py:app\n  workers: many\n  health: health\n  websockets: yes\nsmoke: /health\ncache: premum\n";
    insta::assert_snapshot!(rendered(source));
}

#[test]
fn a_missing_key_is_said_once_and_not_when_it_is_only_misspelt() {
    assert_eq!(
        messages("location: westeurope\nbackend: { app: a:b }\n"),
        [(1, "`app` is missing".to_owned())]
    );
    assert_eq!(
        messages("aap: notes\nlocation: westeurope\nbackend: { app: a:b }\n"),
        [(1, "unknown key `aap`".to_owned())]
    );
}

#[test]
fn a_key_twice_shows_both() {
    insta::assert_snapshot!(rendered(
        "app: notes\nlocation: westeurope\nbackend: { app: a:b }\napp: other\n"
    ));
}

#[test]
fn a_key_in_the_wrong_place_is_told_where_it_belongs() {
    let text = rendered(&with("health: /health"));
    assert!(text.contains("it belongs under `backend:`"), "{text}");
    let text = rendered("app: notes\nlocation: westeurope\nbackend: { app: a:b, secrets: [] }\n");
    assert!(text.contains("it stands at the top level"), "{text}");
}

#[test]
fn names_obey_azure() {
    for bad in [
        "n",
        "Notes",
        "9notes",
        "notes-",
        "no--tes",
        "no_tes",
        "notes.app",
        "azure",
        "my-microsoft",
        "loginpage",
        "postgres",
        "an-app-of-eighteen",
        "nötes",
        "\"\"",
    ] {
        let source = format!("app: {bad}\nlocation: westeurope\nbackend: {{ app: a:b }}\n");
        let found = messages(&source);
        assert_eq!(found.len(), 1, "{bad}: {found:?}");
        assert_eq!(found[0].0, 1, "{bad}");
    }
    for good in ["no", "notes", "my-app-2", "an-app-of-17-char"] {
        let source = format!("app: {good}\nlocation: westeurope\nbackend: {{ app: a:b }}\n");
        assert!(Manifest::parse(&source, "x").is_ok(), "{good}");
    }
}

#[test]
fn values_are_checked() {
    for (line, expected) in [
        ("python: 2.7", "`2.7` cannot be `python`"),
        ("python: 3.14.1", "`3.14.1` cannot be `python`"),
        ("worker: taskiq", "`worker` must be keys such as `run:`, `webjob:`"),
        ("worker: { run: \"\" }", "`run` must be text"),
        ("worker: { run: \"a\\nb\" }", "`a b` cannot be `run`"),
        ("worker: { run: 5 }", "`run` must be text, and this is a number"),
        ("secrets: [JWT_SECRET]", "`JWT_SECRET` cannot be a secret"),
        ("secrets: [notes-jwt-secret]", "`notes-jwt-secret` cannot be a secret"),
        ("secrets: [database-url]", "`database-url` cannot be a secret"),
        ("secrets: [a, a]", "`a` cannot be a secret"),
        ("secrets: a", "`secrets` must be a list"),
        ("smoke: [{ path: \"https://x/y\" }]", "`https://x/y` cannot be `path`"),
        ("smoke: [{ path: /x, status: 42 }]", "`status` is out of range"),
        ("smoke: [{ path: \"/a b\" }]", "`/a b` cannot be `path`"),
        ("smoke: [{ path: /x, json: 5 }]", "`json` must be names and values"),
        ("smoke: [{ status: 200 }]", "`path` is missing"),
        ("package: { exclude: [\"\"] }", "`exclude` must be a pattern"),
        ("database: { migrate: [a] }", "`migrate` must be text"),
    ] {
        assert_eq!(messages(&with(line)), [(4, expected.to_owned())], "{line}");
    }
}

#[test]
fn settings_are_checked() {
    for (settings, expected) in [
        ("DATABASE_URL: x", "`DATABASE_URL` cannot be a setting"),
        ("WEBSITE_RUN_FROM_PACKAGE: 1", "`WEBSITE_RUN_FROM_PACKAGE` cannot be a setting"),
        ("LOG-LEVEL: x", "`LOG-LEVEL` cannot be a setting"),
        ("A: [b]", "`A` must be a value"),
        (
            "A: \"@Microsoft.KeyVault(VaultName=a;SecretName=b)\"",
            "a Key Vault reference among the plain settings",
        ),
    ] {
        let source = format!(
            "app: notes\nlocation: westeurope\nbackend: {{ app: a:b, settings: {{ {settings} }} }}\n"
        );
        assert_eq!(messages(&source), [(3, expected.to_owned())], "{settings}");
    }
}

#[test]
fn limits_hold() {
    assert_eq!(messages(""), [(1, "the manifest is empty".to_owned())]);
    assert_eq!(
        messages("a: &x 1\nb: *x\n")[0].1,
        "anchors and aliases (`&`, `*`) are not taken here"
    );
    assert_eq!(messages("a: !!str 1\n")[0].1, "tags (`!`) are not taken here");
    assert_eq!(
        messages(&format!("a: {}{}", "[".repeat(30), "]".repeat(30)))[0].1,
        "nested more than 16 levels deep"
    );
    assert_eq!(messages(&format!("a: [{}]", "1,".repeat(11_000)))[0].1, "more than 10000 values");
    assert_eq!(messages(&"a".repeat(300_000))[0].1, "the manifest is larger than 256 KiB");
    assert_eq!(messages("app: a\n---\napp: b\n")[0].1, "a second document");
    assert!(messages("app: [a\n")[0].1.starts_with("not YAML"));
    assert!(rendered("app: notes\nbackend:\n\tapp: a:b\n").contains("spaces, not tabs"));
}

#[test]
fn places_are_right_after_characters_of_many_bytes() {
    let found = rendered(
        "# ünïcödé 🙂🙂🙂\napp: notes\nlocation: westeurope\nbackend: { app: a:b }\nwrker: { run: x }\n",
    );
    assert!(found.contains("5 | wrker"), "{found}");
    assert!(found.contains("  | ^^^^^ did you mean `worker`?"), "{found}");
}

#[test]
fn terminal_controls_in_a_manifest_do_not_reach_the_terminal() {
    let text = rendered("app: \"no\u{1b}[31mtes\"\nlocation: westeurope\nbackend: { app: a:b }\n");
    assert!(!text.contains('\u{1b}'), "{text:?}");
}

#[test]
fn the_published_schema_is_the_parsers() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/lazuli.schema.json");
    let expected = format!("{}\n", serde_json::to_string_pretty(&schema()).unwrap());
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        std::fs::create_dir_all(std::path::Path::new(path).parent().unwrap()).unwrap();
        std::fs::write(path, &expected).unwrap();
    }
    let published = std::fs::read_to_string(path).unwrap_or_default();
    assert!(published == expected, "run once with UPDATE_SCHEMA=1 and commit {path}");
}

proptest! {
    /// Whatever comes in, parsing and rendering end without a panic, and say something.
    #[test]
    fn nothing_panics(source in "\\PC*") {
        if let Err(errors) = Manifest::parse(&source, "x") {
            prop_assert!(!errors.render(true).is_empty());
        }
    }

    /// The same for what looks like a manifest and is damaged in one place.
    #[test]
    fn damage_never_panics(at in 0..GOOD.len(), with in "\\PC{0,4}", cut in 0..8_usize) {
        let end = (at + cut).min(GOOD.len());
        let source = format!("{}{with}{}", &GOOD[..at], &GOOD[end..]);
        if let Err(errors) = Manifest::parse(&source, "x") {
            prop_assert!(!errors.render(false).is_empty());
        }
    }
}
