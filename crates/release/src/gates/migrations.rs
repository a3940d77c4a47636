//! The gate *migrations*: what the new Alembic scripts would destroy or lock.
//!
//! Migrations run while the old version still serves, and a swap back does not undo them (ERRATA 28).
//! What destroys (drops, renames, narrows) is therefore refused, unless its script says
//! `# lazuli: contract` (the old version is known not to need it) *and* the version that serves does
//! not mention what goes. What only locks is judged by how long it really locks, in the trial on a copy
//! of the staging database.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::json;
use zip::ZipArchive;

use super::{Answer, Subject, Verdict};

/// The largest script that is read.
const SCRIPT_LIMIT: u64 = 1 << 20;
/// What a script says whose destruction is meant.
const CONTRACT: &str = "lazuli: contract";

/// What an operation does to whoever still uses the old form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// Something is gone or narrower afterwards.
    Destroys,
    /// Others wait while it runs.
    Locks,
}

/// An operation of a migration worth a look.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// The script.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// What it does.
    pub kind: Kind,
    /// In a few words.
    pub what: String,
    /// Table and column that it is about, as far as they are written out.
    pub names: Vec<String>,
    /// Whether the script says that it is meant.
    pub contract: bool,
}

/// Whether a file of a package is a migration script.
fn is_script(name: &str) -> bool {
    let path = Path::new(name);
    path.extension().is_some_and(|extension| extension == "py")
        && path.parent().is_some_and(|parent| parent.ends_with("versions"))
        && !name.ends_with("__init__.py")
}

fn open(package: &Path) -> Option<ZipArchive<File>> {
    ZipArchive::new(File::open(package).ok()?).ok()
}

/// The names of a package's files.
pub(super) fn names_of(zip: &ZipArchive<File>) -> Vec<String> {
    zip.file_names().filter_map(|name| Some(name.ok()?.into_owned())).collect()
}

fn read(zip: &mut ZipArchive<File>, name: &str) -> Option<String> {
    let mut text = String::new();
    zip.by_name(name).ok()?.take(SCRIPT_LIMIT).read_to_string(&mut text).ok()?;
    Some(text)
}

pub(super) fn ask(subject: &Subject<'_>) -> Answer {
    if subject.manifest.database.migrate.is_none() {
        return Answer::not_checked("the app has no migrations");
    }
    let Some(mut zip) = open(subject.path) else {
        return Answer::new(Verdict::Failed, "the package cannot be read", json!(null));
    };
    let mut serving = subject.serving.and_then(open);
    let names: Vec<String> = names_of(&zip).into_iter().filter(|name| is_script(name)).collect();
    let known: BTreeSet<String> = serving.iter().flat_map(names_of).collect();
    // Against nothing every script is new, and creating from nothing destroys nothing.
    let fresh: Vec<&String> = names.iter().filter(|name| !known.contains(*name)).collect();
    let mut findings = Vec::new();
    if serving.is_some() {
        for name in &fresh {
            let text = read(&mut zip, name).unwrap_or_default();
            findings.extend(scan(name, &text));
        }
    }
    let mut wrong = Vec::new();
    for finding in findings.iter().filter(|finding| finding.kind == Kind::Destroys) {
        let used = serving.as_mut().and_then(|zip| used(zip, finding));
        if let Some((file, line)) = used {
            wrong.push(format!(
                "{}:{} {}, which the version that serves still uses ({file}:{line})",
                finding.file, finding.line, finding.what
            ));
        } else if !finding.contract {
            wrong.push(format!(
                "{}:{} {}: say `# {CONTRACT}` in the script if no version that may serve needs it",
                finding.file, finding.line, finding.what
            ));
        }
    }
    let evidence = json!({ "new": fresh, "findings": findings, "compared": serving.is_some() });
    if !wrong.is_empty() {
        return Answer::new(Verdict::Failed, wrong.join("; "), evidence);
    }
    let count = fresh.len();
    let plural = if count == 1 { "" } else { "s" };
    let locks: Vec<&str> =
        findings.iter().filter(|f| f.kind == Kind::Locks).map(|f| f.what.as_str()).collect();
    if !locks.is_empty() {
        let what =
            format!("{count} new script{plural}; others wait while it runs: {}", locks.join(", "));
        return Answer::new(Verdict::Warned, what, evidence);
    }
    let what = match (count, serving.is_some()) {
        (0, true) => "no new script".to_owned(),
        (_, true) => format!("{count} new script{plural}, nothing destroyed"),
        (_, false) => {
            "nothing is known of the version that serves: the scripts were not compared".to_owned()
        }
    };
    let verdict = if serving.is_some() { Verdict::Passed } else { Verdict::NotChecked };
    Answer::new(verdict, what, evidence)
}

/// What we put into a package ourselves, the trial that names what it looks for among it.
const OURS: &str = "App_Data/jobs/triggered/migrate/";

/// Where the version that serves mentions what goes: a whole word in its Python files, its migrations
/// aside.
fn used(zip: &mut ZipArchive<File>, finding: &Finding) -> Option<(String, usize)> {
    // The last name is the column, or the table that goes as a whole.
    let name = finding.names.last().filter(|name| !name.is_empty())?;
    let files: Vec<String> = names_of(zip)
        .into_iter()
        .filter(|file| {
            Path::new(file).extension().is_some_and(|e| e == "py")
                && !is_script(file)
                && !file.ends_with("/env.py")
                && !file.starts_with(OURS)
        })
        .collect();
    for file in files {
        let text = read(zip, &file).unwrap_or_default();
        for (at, line) in text.lines().enumerate() {
            let code = line.split('#').next().unwrap_or_default();
            let word = |c: char| c.is_alphanumeric() || c == '_';
            if code.split(|c| !word(c)).any(|found| found == name) {
                return Some((file, at + 1));
            }
        }
    }
    None
}

/// The operations of a script's `upgrade` that destroy or lock.
fn scan(file: &str, text: &str) -> Vec<Finding> {
    let contract = text.lines().any(|line| {
        line.split_once('#').is_some_and(|(_, comment)| comment.trim().starts_with(CONTRACT))
    });
    let begins = text.find("def upgrade").unwrap_or(0);
    let body = &text[begins..];
    let first = body.chars().next().map_or(0, char::len_utf8);
    let ends = body[first..].find("\ndef ").map_or(body.len(), |at| at + first);
    let body = &body[..ends];
    let mut findings = Vec::new();
    let mut at = 0;
    while let Some((call, from, arguments)) = next_call(body, at) {
        at = from;
        let line = text[..begins + from].matches('\n').count() + 1;
        let names = literals(arguments);
        let named = |name: &str| keyword(arguments, name);
        let first = names.first().cloned().unwrap_or_default();
        let second = names.get(1).cloned().unwrap_or_default();
        // In a batch the table stands where the batch begins.
        let (table, column) = if call.batch { (String::new(), first) } else { (first, second) };
        let of = |table: &str, column: &str| {
            if table.is_empty() { column.to_owned() } else { format!("{table}.{column}") }
        };
        let found = match call.name {
            "drop_column" => Some((
                Kind::Destroys,
                format!("drops the column {}", of(&table, &column)),
                vec![table, column],
            )),
            "drop_table" => {
                let table = if call.batch { column } else { table };
                Some((Kind::Destroys, format!("drops the table {table}"), vec![table]))
            }
            "rename_table" => {
                Some((Kind::Destroys, format!("renames the table {table}"), vec![table]))
            }
            "alter_column" if named("new_column_name") => Some((
                Kind::Destroys,
                format!("renames the column {}", of(&table, &column)),
                vec![table, column],
            )),
            "alter_column" if named("type_") => Some((
                Kind::Locks,
                format!("changes the type of {}", of(&table, &column)),
                vec![table, column],
            )),
            "alter_column" if arguments.replace(' ', "").contains("nullable=False") => Some((
                Kind::Destroys,
                format!(
                    "forbids {} to be empty, which the old version may still write",
                    of(&table, &column)
                ),
                // What matters is that it is written, wherever: the script must say that it is meant.
                Vec::new(),
            )),
            "add_column"
                if arguments.replace(' ', "").contains("nullable=False")
                    && !named("server_default") =>
            {
                Some((
                    Kind::Destroys,
                    format!(
                        "adds a column to {table} that the old version does not fill and that has no default"
                    ),
                    Vec::new(),
                ))
            }
            "create_index" if !named("postgresql_concurrently") => {
                let table = if call.batch { String::new() } else { column };
                Some((Kind::Locks, format!("indexes {table} without CONCURRENTLY"), vec![table]))
            }
            "create_unique_constraint"
            | "create_check_constraint"
            | "create_foreign_key"
            | "create_exclude_constraint" => {
                let table = if call.batch { String::new() } else { column };
                Some((Kind::Locks, format!("adds a constraint to {table}"), vec![table]))
            }
            "execute" => sql(&names.join(" ")),
            _ => None,
        };
        if let Some((kind, what, names)) = found {
            findings.push(Finding { file: file.to_owned(), line, kind, what, names, contract });
        }
    }
    findings
}

/// What a statement of SQL does.
fn sql(text: &str) -> Option<(Kind, String, Vec<String>)> {
    let words: Vec<String> = text
        .split(|c: char| c.is_whitespace() || matches!(c, '(' | ')' | ',' | ';' | '"'))
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect();
    let upper: Vec<String> = words.iter().map(|word| word.to_ascii_uppercase()).collect();
    let at = |pattern: &[&str]| {
        upper.windows(pattern.len()).position(|window| window.iter().eq(pattern.iter()))
    };
    // The name after a pattern, `IF EXISTS` passed over.
    let after = |pattern: &[&str]| {
        let from = at(pattern)? + pattern.len();
        let skip = upper[from..]
            .iter()
            .take_while(|word| matches!(word.as_str(), "IF" | "EXISTS" | "NOT" | "ONLY" | "TABLE"))
            .count();
        words.get(from + skip).cloned()
    };
    let table = after(&["ALTER", "TABLE"]).unwrap_or_default();
    if let Some(name) = after(&["DROP", "TABLE"]) {
        return Some((Kind::Destroys, format!("drops the table {name}"), vec![name]));
    }
    if let Some(name) = after(&["DROP", "COLUMN"]) {
        return Some((
            Kind::Destroys,
            format!("drops the column {table}.{name}"),
            vec![table, name],
        ));
    }
    if let Some(name) = after(&["TRUNCATE"]) {
        return Some((Kind::Destroys, format!("empties the table {name}"), vec![name]));
    }
    if let Some(name) = after(&["DELETE", "FROM"]).filter(|_| !upper.iter().any(|w| w == "WHERE")) {
        return Some((Kind::Destroys, format!("empties the table {name}"), vec![name]));
    }
    if at(&["RENAME", "TO"]).is_some() && !table.is_empty() {
        return Some((Kind::Destroys, format!("renames the table {table}"), vec![table]));
    }
    if let Some(name) = after(&["RENAME", "COLUMN"]) {
        return Some((
            Kind::Destroys,
            format!("renames the column {table}.{name}"),
            vec![table, name],
        ));
    }
    if at(&["SET", "NOT", "NULL"]).is_some() {
        let what = format!(
            "forbids a column of {table} to be empty, which the old version may still write"
        );
        return Some((Kind::Destroys, what, Vec::new()));
    }
    if let Some(name) = after(&["LOCK"]) {
        return Some((Kind::Locks, format!("locks {name}"), vec![name]));
    }
    let index = at(&["CREATE", "INDEX"]).or_else(|| at(&["CREATE", "UNIQUE", "INDEX"]));
    if index.is_some() && !upper.iter().any(|word| word == "CONCURRENTLY") {
        let name = after(&["ON"]).unwrap_or_default();
        return Some((Kind::Locks, format!("indexes {name} without CONCURRENTLY"), vec![name]));
    }
    if at(&["TYPE"]).is_some() && !table.is_empty() {
        return Some((
            Kind::Locks,
            format!("changes the type of a column of {table}"),
            vec![table],
        ));
    }
    None
}

struct Call<'a> {
    name: &'a str,
    batch: bool,
}

/// The next `op.NAME(…)` or `batch_op.NAME(…)` from `at` on: the call, where its arguments begin, and
/// its arguments.
fn next_call(text: &str, at: usize) -> Option<(Call<'_>, usize, &str)> {
    let mut from = at;
    loop {
        let found = from + text.get(from..)?.find("op.")?;
        let before = &text[..found];
        let batch = before.ends_with("batch_");
        let start = if batch { found - "batch_".len() } else { found };
        let joined = text[..start].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '.');
        let name_at = found + "op.".len();
        let length = text[name_at..].find(|c: char| !c.is_alphanumeric() && c != '_')?;
        let open = name_at + length;
        // A comment, another object's method, an attribute.
        let line = &text[text[..found].rfind('\n').map_or(0, |at| at + 1)..found];
        if joined || line.contains('#') || !text[open..].starts_with('(') {
            from = open.max(found + 3);
            continue;
        }
        let arguments = balanced(&text[open + 1..]);
        return Some((Call { name: &text[name_at..open], batch }, open + 1, arguments));
    }
}

/// Up to the bracket that closes what is open, strings passed over.
fn balanced(text: &str) -> &str {
    let mut depth = 1_usize;
    let mut quote: Option<char> = None;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        if let Some(open) = quote {
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                c if c == open => quote = None,
                _ => {}
            }
            continue;
        }
        match c {
            '\'' | '"' => quote = Some(c),
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => {
                depth -= 1;
                if depth == 0 {
                    return &text[..at];
                }
            }
            _ => {}
        }
    }
    text
}

/// The string literals of some arguments, in order.
fn literals(arguments: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = arguments;
    while let Some(at) = rest.find(['\'', '"']) {
        let quote = &rest[at..=at];
        let triple = quote.repeat(3);
        let (open, close) = if rest[at..].starts_with(&triple) {
            (at + 3, triple.as_str())
        } else {
            (at + 1, quote)
        };
        let Some(length) = rest[open..].find(close) else { break };
        found.push(rest[open..open + length].to_owned());
        rest = &rest[open + length + close.len()..];
    }
    found
}

fn keyword(arguments: &str, name: &str) -> bool {
    arguments.match_indices(name).any(|(at, _)| {
        let before = arguments[..at].chars().next_back();
        let after = arguments[at + name.len()..].trim_start();
        before.is_none_or(|c| !c.is_alphanumeric() && c != '_')
            && after.starts_with('=')
            && !after[1..].trim_start().starts_with("False")
            && !after[1..].trim_start().starts_with("None")
    })
}

/// What a trial of the migrations on a copy of the staging database found, and why it must not go on;
/// `None` when it may. `report` is the trial's own, `limit_ms` how long it may lock.
pub fn unfit(report: &serde_json::Value, contract: bool, limit_ms: u64) -> Option<String> {
    let number = |path: &str| report.pointer(path).and_then(serde_json::Value::as_f64);
    let text = |path: &str| report.pointer(path).and_then(serde_json::Value::as_str);
    if let Some(error) = text("/error") {
        return Some(error.to_owned());
    }
    if number("/first/status") != Some(0.0) {
        return Some("the migration failed on a copy of the staging database".to_owned());
    }
    if number("/second/status") != Some(0.0) {
        return Some("run a second time, the migration failed: it must be a no-op then".to_owned());
    }
    if report.pointer("/second/changed").and_then(serde_json::Value::as_bool) == Some(true) {
        return Some("run a second time, the migration changed the schema again".to_owned());
    }
    let list = |path: &str| report.pointer(path).and_then(serde_json::Value::as_array);
    if !contract && let Some(gone) = list("/gone").filter(|gone| !gone.is_empty()) {
        let gone: Vec<&str> = gone.iter().filter_map(serde_json::Value::as_str).collect();
        return Some(format!(
            "PostgreSQL reports as gone or narrower afterwards: {}; the old version still serves then",
            gone.join(", ")
        ));
    }
    for lock in list("/locks").into_iter().flatten() {
        let ms = lock["ms"].as_f64().unwrap_or_default();
        if ms > limit_ms as f64 {
            return Some(format!(
                "it held {} on {} for {ms:.0} ms on a copy of the staging database: production would wait, and {limit_ms} ms is the limit",
                lock["mode"].as_str().unwrap_or("a lock"),
                lock["relation"].as_str().unwrap_or("a table"),
            ));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whats(text: &str) -> Vec<String> {
        scan("0003.py", text).into_iter().map(|finding| finding.what).collect()
    }

    #[test]
    fn what_destroys_is_found_with_its_line_and_names() {
        let text = "def upgrade() -> None:\n    op.drop_column(\n        \"notes\", \"summary\")\n\ndef downgrade():\n    op.drop_table(\"notes\")\n";
        let found = scan("versions/0003.py", text);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].line, found[0].kind, found[0].contract), (2, Kind::Destroys, false));
        assert_eq!(found[0].names, ["notes", "summary"]);
        assert!(scan("x", &format!("# lazuli: contract: nobody reads it\n{text}"))[0].contract);
    }

    #[test]
    fn operations_are_told_apart() {
        for (text, what) in [
            (
                "op.execute(\"ALTER TABLE notes DROP COLUMN IF EXISTS summary\")",
                "drops the column notes.summary",
            ),
            ("op.execute(sa.text('truncate notes'))", "empties the table notes"),
            ("op.create_index('ix', 'notes', ['author'])", "indexes notes without CONCURRENTLY"),
            ("batch_op.drop_column('summary')", "drops the column summary"),
            (
                "op.alter_column('notes', 'body', new_column_name='text')",
                "renames the column notes.body",
            ),
            ("op.rename_table('notes', 'texts')", "renames the table notes"),
            (
                "op.add_column('notes', sa.Column('x', sa.Text(), nullable=False))",
                "adds a column to notes that the old version does not fill and that has no default",
            ),
            ("op.execute('''LOCK TABLE notes IN ACCESS EXCLUSIVE MODE''')", "locks notes"),
        ] {
            assert_eq!(whats(&format!("def upgrade():\n    {text}\n")), [what], "{text}");
        }
        for text in [
            "op.add_column('notes', sa.Column('x', sa.Text()))",
            "op.add_column('notes', sa.Column('x', sa.Text(), nullable=False, server_default=''))",
            "op.create_index('ix', 'notes', ['a'], postgresql_concurrently=True)",
            "op.create_table('more', sa.Column('id', sa.Integer))",
            "# op.drop_table('notes')",
            "shop.drop_table('notes')",
            "op.execute(\"UPDATE notes SET body = '' WHERE body IS NULL\")",
        ] {
            assert_eq!(
                whats(&format!("def upgrade():\n    {text}\n")),
                Vec::<String>::new(),
                "{text}"
            );
        }
    }

    #[test]
    fn a_trial_is_judged() {
        let good = json!({ "first": { "status": 0 }, "second": { "status": 0, "changed": false },
            "gone": [], "locks": [{ "relation": "notes", "mode": "AccessExclusiveLock", "ms": 40.0 }] });
        assert_eq!(unfit(&good, false, 2000), None);
        let with = |pointer: &str, value: serde_json::Value| {
            let mut report = good.clone();
            *report.pointer_mut(pointer).expect("there") = value;
            unfit(&report, false, 2000)
        };
        assert!(with("/first/status", json!(1)).expect("unfit").contains("failed on a copy"));
        assert!(with("/second/changed", json!(true)).expect("unfit").contains("second time"));
        assert!(with("/gone", json!(["column notes.summary"])).expect("unfit").contains("summary"));
        assert!(with("/locks/0/ms", json!(9000.0)).expect("unfit").contains("9000 ms"));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_scanned(text in "(def upgrade|op\\.|batch_op\\.|drop_column|execute|\\(|\\)|'|\"|#|\n| |[a-zé]){0,60}") {
            let _ = scan("x.py", &text);
        }
    }
}
