//! What a person is told about each key of the manifest: a value of another type, a value that
//! cannot be, a typing error. The published schema says which keys there are, and one without a row
//! here fails.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use lazuli_standard::Manifest;
use lazuli_standard::manifest::schema;
use serde_json::Value;

/// A value, the message's title, and what stands at the underlined place or below it.
type Wrong = (&'static str, &'static str, &'static str);

/// A key, a value of another type, and a value that cannot be.
struct Row {
    key: &'static str,
    type_: Wrong,
    value: Wrong,
}

const fn row(key: &'static str, type_: Wrong, value: Wrong) -> Row {
    Row { key, type_, value }
}

const MODEL: &str = "2 to 64 letters, digits, `.`, `_` and `-`";
const LABEL: &str = "letters, digits, spaces, `.`, `_`, `-` and brackets only";
const ONE_LINE: &str = "it must be one line without control characters";

const ROWS: &[Row] = &[
    row(
        "app",
        ("[notes]", "`app` must be text", "this is a list"),
        ("Notes", "`Notes` cannot be `app`", "write it in lower case: `notes`"),
    ),
    row(
        "location",
        ("{ name: westeurope }", "`location` must be text", "this is keys and values"),
        ("West Europe", "`West Europe` cannot be `location`", "Azure's short name is `westeurope`"),
    ),
    row(
        "python",
        ("[3]", "`python` must be a version in quotes", "this is a list"),
        ("3.1", "`3.1` cannot be `python`", "did you mean \"3.10\"?"),
    ),
    row(
        "backend",
        (
            "main:app",
            "`backend` must be keys such as `app:`, `workers:`, `worker-class:`",
            "this is text",
        ),
        ("{ workers: 2 }", "`app` is missing", "backend needs `app:`"),
    ),
    row(
        "backend.app",
        ("[main]", "`app` must be text", "this is a list"),
        (
            "modules/backend/main.py:app",
            "`modules/backend/main.py:app` cannot be `app`",
            "it is a module, not a file: `modules.backend.main:app`",
        ),
    ),
    row(
        "backend.workers",
        ("many", "`workers` must be a whole number", "this is text"),
        ("17", "`workers` is out of range", "expected 1 to 16"),
    ),
    row(
        "backend.worker-class",
        ("5", "`worker-class` must be text, and this is a number", "write \"5\" if text is meant"),
        ("UvicornWorker", "`UvicornWorker` cannot be `worker-class`", "it must be `package.Class`"),
    ),
    row(
        "backend.health",
        ("true", "`health` must be text, and this is a truth value", "write \"true\""),
        ("health", "`health` cannot be `health`", "it must begin with a slash: `/health`"),
    ),
    row(
        "backend.readiness",
        ("[/ready]", "`readiness` must be text", "this is a list"),
        (
            "https://notes.example.com/ready",
            "`https://notes.example.com/ready` cannot be `readiness`",
            "give the path alone: the host differs from slot to slot",
        ),
    ),
    row(
        "backend.websockets",
        ("[true]", "`websockets` must be `true` or `false`", "this is a list"),
        ("yes", "`websockets` must be `true` or `false`", "YAML 1.2 reads `yes` as text"),
    ),
    row(
        "backend.settings",
        ("[LOG_LEVEL]", "`settings` must be names and values", "this is a list"),
        (
            "{ DATABASE_URL: x }",
            "`DATABASE_URL` cannot be a setting",
            "the standard sets this one itself",
        ),
    ),
    row(
        "worker",
        ("taskiq", "`worker` must be keys such as `run:`, `webjob:`", "this is text"),
        ("{ webjob: true }", "`run` is missing", "worker needs `run:`"),
    ),
    row(
        "worker.run",
        ("5", "`run` must be text, and this is a number", "write \"5\" if text is meant"),
        ("\"a\\nb\"", "`a b` cannot be `run`", ONE_LINE),
    ),
    row(
        "worker.webjob",
        ("5", "`webjob` must be `true` or `false`", "this is a number"),
        ("on", "`webjob` must be `true` or `false`", "YAML 1.2 reads `on` as text"),
    ),
    row(
        "scheduler",
        ("[taskiq]", "`scheduler` must be keys such as `run:`, `webjob:`", "this is a list"),
        ("{ command: taskiq }", "unknown key `command` in `scheduler`", "did you mean `run`?"),
    ),
    row(
        "scheduler.run",
        ("{ a: b }", "`run` must be text", "this is keys and values"),
        ("\" \"", "` ` cannot be `run`", "it is empty"),
    ),
    row(
        "scheduler.webjob",
        ("{ a: b }", "`webjob` must be `true` or `false`", "this is keys and values"),
        ("no", "`webjob` must be `true` or `false`", "YAML 1.2 reads `no` as text"),
    ),
    row(
        "database",
        ("notes", "`database` must be keys such as `migrate:`", "this is text"),
        (
            "{ migrations: alembic }",
            "unknown key `migrations` in `database`",
            "did you mean `migrate`?",
        ),
    ),
    row(
        "database.migrate",
        ("[alembic]", "`migrate` must be text", "this is a list"),
        ("\"a\\tb\"", "`a b` cannot be `migrate`", ONE_LINE),
    ),
    row(
        "cache",
        ("[managed]", "`cache` must be text", "this is a list"),
        ("premum", "`premum` is not a cache", "did you mean `premium`?"),
    ),
    row(
        "secrets",
        ("jwt-secret", "`secrets` must be a list", "this is text"),
        ("[JWT_SECRET]", "`JWT_SECRET` cannot be a secret", "as in `jwt-secret`"),
    ),
    row(
        "smoke",
        ("/health", "`smoke` must be a list", "this is text"),
        ("[/health]", "`smoke` must be keys such as `path:`, `status:`, `json:`", "this is text"),
    ),
    row(
        "smoke.path",
        ("[/health]", "`path` must be text", "this is a list"),
        ("/a b", "`/a b` cannot be `path`", "' ' must be percent-encoded in a path"),
    ),
    row(
        "smoke.status",
        ("ok", "`status` must be a whole number", "this is text"),
        ("42", "`status` is out of range", "expected 100 to 599"),
    ),
    row(
        "smoke.json",
        ("5", "`json` must be names and values", "this is a number"),
        ("{ a: 1, a: 2 }", "`a` is here twice", "keep one of them"),
    ),
    row(
        "smoke.method",
        ("[GET]", "`method` must be text", "this is a list"),
        ("get", "`get` cannot be `method`", "did you mean `GET`?"),
    ),
    row(
        "smoke.within-ms",
        ("2s", "`within-ms` must be a whole number", "this is text"),
        ("0", "`within-ms` is out of range", "expected 1 to 230000"),
    ),
    row(
        "smoke.websocket",
        ("5", "`websocket` must be `true` or `false`", "this is a number"),
        ("off", "`websocket` must be `true` or `false`", "YAML 1.2 reads `off` as text"),
    ),
    row(
        "package",
        ("[tests/]", "`package` must be keys such as `exclude:`", "this is a list"),
        ("{ ignore: [a] }", "unknown key `ignore` in `package`", "did you mean `exclude`?"),
    ),
    row(
        "package.exclude",
        ("tests/", "`exclude` must be a list", "this is text"),
        ("[\" \"]", "`exclude` must be a pattern", "this is text"),
    ),
    row(
        "domain",
        ("[notes.example.com]", "`domain` must be text", "this is a list"),
        (
            "https://notes.example.com",
            "`https://notes.example.com` cannot be `domain`",
            "give the host alone, such as `notes.example.com`",
        ),
    ),
    row(
        "frontend",
        (
            "react",
            "`frontend` must be keys such as `hosting:`, `directory:`, `output:`",
            "this is text",
        ),
        ("{ path: ui }", "unknown key `path` in `frontend`", "did you mean `directory`?"),
    ),
    row(
        "frontend.hosting",
        ("[app-service]", "`hosting` must be text", "this is a list"),
        ("static-webapp", "`static-webapp` hosts no front end", "did you mean `static-web-app`?"),
    ),
    row(
        "frontend.directory",
        ("5", "`directory` must be text, and this is a number", "write \"5\" if text is meant"),
        ("../ui", "`../ui` cannot be `directory`", "it must lie inside the project"),
    ),
    row(
        "frontend.output",
        ("[dist]", "`output` must be text", "this is a list"),
        ("/dist", "`/dist` cannot be `output`", "it must lie inside the project"),
    ),
    row(
        "frontend.connect",
        ("https://a.example.com", "`connect` must be a list", "this is text"),
        (
            "[\"http://a.example.com\"]",
            "`http://a.example.com` cannot be in `connect`",
            "it must begin with https:// or wss://",
        ),
    ),
    row(
        "openai",
        (
            "gpt-4o",
            "`openai` must be keys such as `model:`, `version:`, `capacity:`",
            "this is text",
        ),
        ("{ model: gpt-4o }", "`version` is missing", "openai needs `version:`"),
    ),
    row(
        "openai.model",
        ("[gpt-4o]", "`model` must be text", "this is a list"),
        ("gpt 4o", "`gpt 4o` cannot be `model`", MODEL),
    ),
    row(
        "openai.version",
        ("2.5", "`version` must be text, and this is a number", "write \"2.5\" if text is meant"),
        ("v/1", "`v/1` cannot be `version`", MODEL),
    ),
    row(
        "openai.capacity",
        ("10k", "`capacity` must be a whole number", "this is text"),
        ("20000", "`capacity` is out of range", "expected 1 to 10000"),
    ),
    row(
        "alerts",
        ("[a@example.com]", "`alerts` must be keys such as `oncall:`, `team:`", "this is a list"),
        ("{ email: [a@example.com] }", "unknown key `email` in `alerts`", "did you mean `team`?"),
    ),
    row(
        "alerts.oncall",
        ("a@example.com", "`oncall` must be a list", "this is text"),
        (
            "[\"https://events.example.com/x\"]",
            "`https://events.example.com/x` cannot be in `oncall`",
            "a webhook's address is a secret",
        ),
    ),
    row(
        "alerts.team",
        ("{ a: b }", "`team` must be a list", "this is keys and values"),
        ("[a@]", "`a@` cannot be in `team`", "it must be an e-mail address"),
    ),
    row(
        "budget",
        ("500", "`budget` must be keys such as `dev:`, `staging:`, `prod:`", "this is a number"),
        ("{ production: 5 }", "unknown key `production` in `budget`", "did you mean `prod`?"),
    ),
    row(
        "budget.dev",
        ("$300", "`dev` must be a whole number", "this is text"),
        ("0", "`dev` is out of range", "expected 1 to 1000000"),
    ),
    row(
        "budget.staging",
        ("1.5", "`staging` must be a whole number", "this is a number"),
        ("-1", "`staging` is out of range", "expected 1 to 1000000"),
    ),
    row(
        "budget.prod",
        ("[1]", "`prod` must be a whole number", "this is a list"),
        ("1000001", "`prod` is out of range", "expected 1 to 1000000"),
    ),
    row(
        "pipelines",
        (
            "azure",
            "`pipelines` must be keys such as `service-connection:`, `pool:`",
            "this is text",
        ),
        ("{ agents: x }", "unknown key `agents` in `pipelines`", "did you mean `pool`?"),
    ),
    row(
        "pipelines.service-connection",
        ("[a]", "`service-connection` must be text", "this is a list"),
        ("\"a/b\"", "`a/b` cannot be `service-connection`", LABEL),
    ),
    row(
        "pipelines.pool",
        ("5", "`pool` must be text, and this is a number", "write \"5\" if text is meant"),
        ("\"$(pool)\"", "`$(pool)` cannot be `pool`", LABEL),
    ),
    row(
        "release",
        ("pytest", "`release` must be keys such as `tests:`, `junit:`", "this is text"),
        ("{ report: a.xml }", "unknown key `report` in `release`", "did you mean `junit`?"),
    ),
    row(
        "access",
        ("[ci-cd]", "`access` must be keys such as `ci-cd:`, `break-glass:`", "this is a list"),
        (
            "{ security: 11111111-2222-4333-8444-555555555555 }",
            "unknown key `security` in `access`",
            "did you mean `break-glass`?",
        ),
    ),
    row(
        "access.ci-cd",
        ("[x]", "`ci-cd` must be text", "this is a list"),
        ("notes-pipeline", "`notes-pipeline` cannot be `ci-cd`", "an object ID is a GUID"),
    ),
    row(
        "access.break-glass",
        ("7", "`break-glass` must be text, and this is a number", "write \"7\" if text is meant"),
        (
            "11111111-2222-4333-8444-55555555555",
            "`11111111-2222-4333-8444-55555555555` cannot be `break-glass`",
            "an object ID is a GUID",
        ),
    ),
    row(
        "release.tests",
        ("[pytest]", "`tests` must be text", "this is a list"),
        ("\"a\\rb\"", "`a b` cannot be `tests`", ONE_LINE),
    ),
    row(
        "release.junit",
        ("true", "`junit` must be text, and this is a truth value", "write \"true\""),
        (
            "../results.xml",
            "`../results.xml` cannot be `junit`",
            "it must lie below the project's directory",
        ),
    ),
];

/// What each mapping cannot do without.
const NEEDED: &[(&str, &[(&str, &str)])] = &[
    ("", &[("app", "notes"), ("location", "westeurope"), ("backend", "{ app: main:app }")]),
    ("backend", &[("app", "main:app")]),
    ("worker", &[("run", "taskiq")]),
    ("scheduler", &[("run", "taskiq")]),
    ("openai", &[("model", "gpt-4o"), ("version", "\"2024-11-20\"")]),
    ("smoke", &[("path", "/health")]),
];

/// Every key that the schema knows, `backend.workers`; an item's keys stand below its list.
fn keys(schema: &Value, at: &str, into: &mut BTreeSet<String>) {
    let object = if schema["type"] == "array" { &schema["items"] } else { schema };
    for (name, below) in object["properties"].as_object().into_iter().flatten() {
        let key = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
        keys(below, &key, into);
        into.insert(key);
    }
}

fn split(key: &str) -> (&str, &str) {
    key.rsplit_once('.').unwrap_or(("", key))
}

/// A manifest in which one key, perhaps under another spelling, has a value, and its line.
fn manifest(key: &str, spelt: &str, value: &str) -> (String, usize) {
    let (place, name) = split(key);
    let needed = |of: &str| {
        let fields = NEEDED.iter().find(|(at, _)| *at == of);
        fields.into_iter().flat_map(|(_, fields)| fields.iter().copied())
    };
    let mut lines: Vec<String> = needed("")
        .filter(|(k, _)| *k != place && !(place.is_empty() && *k == name))
        .map(|(k, v)| format!("{k}: {v}"))
        .collect();
    if place.is_empty() {
        lines.push(format!("{spelt}: {value}"));
    } else {
        lines.push(format!("{place}:"));
        let mut fields: Vec<String> =
            needed(place).filter(|(k, _)| *k != name).map(|(k, v)| format!("  {k}: {v}")).collect();
        fields.push(format!("  {spelt}: {value}"));
        if place == "smoke" {
            for (at, field) in fields.iter_mut().enumerate() {
                field.insert_str(0, "  ");
                if at == 0 {
                    field.replace_range(2..3, "-");
                }
            }
        }
        lines.extend(fields);
    }
    (format!("{}\n", lines.join("\n")), lines.len())
}

/// One message, with this title, this line and this explanation.
fn said(source: &str, line: usize, title: &str, meaning: &str) -> Result<(), String> {
    let Err(errors) = Manifest::parse(source, "lazuli.yaml") else {
        return Err(format!("is taken:\n{source}"));
    };
    let text = errors.to_string();
    let messages: Vec<(usize, &str)> = errors.messages().collect();
    let shown = text.contains(&format!("--> lazuli.yaml:{line}:")) && text.contains(meaning);
    if messages == [(line, title)] && shown {
        return Ok(());
    }
    Err(format!("expected {title:?} in line {line} with {meaning:?}:\n{text}"))
}

/// Typing errors: a letter twice, one missing, two exchanged, and the spelling of other languages.
fn typing_errors(name: &str) -> Vec<String> {
    let mut found = vec![name.to_ascii_uppercase()];
    let middle = name.len() / 2;
    let (head, tail) = name.split_at(middle);
    found.push(format!("{head}{}{tail}", &tail[..1]));
    if name.contains('-') {
        found.push(name.replace('-', "_"));
        found.push(name.replace('-', ""));
    }
    if name.len() > 3 {
        found.push(format!("{head}{}", &tail[1..]));
        let mut letters: Vec<char> = name.chars().collect();
        letters.swap(middle - 1, middle);
        found.push(letters.into_iter().collect());
    }
    found.retain(|typo| typo != name);
    found
}

#[test]
fn every_key_has_a_row() {
    let mut known = BTreeSet::new();
    keys(&schema(), "", &mut known);
    let rows: BTreeSet<String> = ROWS.iter().map(|r| r.key.to_owned()).collect();
    assert_eq!(rows.len(), ROWS.len(), "a key twice");
    assert_eq!(rows, known);
}

#[test]
fn every_key_says_what_is_wrong_with_its_value() {
    let mut problems = Vec::new();
    for row in ROWS {
        for (value, title, meaning) in [row.type_, row.value] {
            let (source, line) = manifest(row.key, split(row.key).1, value);
            if let Err(problem) = said(&source, line, title, meaning) {
                problems.push(format!("{}: {problem}", row.key));
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n\n"));
}

#[test]
fn every_key_is_meant_by_what_is_nearly_it() {
    let mut problems = Vec::new();
    let mut tried = 0;
    for row in ROWS {
        let (place, name) = split(row.key);
        // Whatever a typing error keeps us from reading, the rest of the manifest is well.
        for typo in typing_errors(name) {
            let (source, line) = manifest(row.key, &typo, "{}");
            let title = if place.is_empty() {
                format!("unknown key `{typo}`")
            } else {
                format!("unknown key `{typo}` in `{place}`")
            };
            let meaning = format!("did you mean `{name}`?");
            if let Err(problem) = said(&source, line, &title, &meaning) {
                problems.push(format!("{}: {problem}", row.key));
            }
            tried += 1;
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n\n"));
    assert!(tried > 150, "only {tried} typing errors were tried");
}
