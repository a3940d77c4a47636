//! `lazuli init`.

use std::fmt::Write as _;
use std::io::{BufRead as _, Write as _};
use std::path::{Path, PathBuf};

use lazuli_standard::Manifest;
use serde::Serialize;

use crate::cli::Context;
use crate::diagnostics::Failure;
use crate::exit::Exit;
use crate::project::MANIFEST;

/// How many Python files are looked at, and how much of each.
const FILES: usize = 2_000;
const BYTES: u64 = 256 * 1024;

/// Look at a Python project and write its first manifest
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  lazuli init                              look at this directory, ask what cannot be seen
  lazuli init ../notes --location uksouth  ask nothing

A manifest that exists is never overwritten.")]
pub(crate) struct Args {
    /// The project (default: this directory)
    directory: Option<PathBuf>,
    /// The app's name (default: the project's)
    #[arg(long, value_name = "NAME")]
    app: Option<String>,
    /// The Azure region
    #[arg(long, value_name = "REGION")]
    location: Option<String>,
}

/// What a look at a project shows.
#[derive(Debug, Default, Serialize)]
struct Seen {
    app: Option<String>,
    python: Option<String>,
    entry: Option<String>,
    worker_class: Option<&'static str>,
    health: Option<String>,
    readiness: Option<String>,
    websockets: bool,
    broker: Option<String>,
    scheduler: Option<String>,
    alembic: bool,
    frontend: Option<String>,
    settings: Vec<(String, String)>,
    secrets: Vec<String>,
    tests: bool,
}

#[derive(Serialize)]
struct Result_<'a> {
    event: &'static str,
    manifest: String,
    seen: &'a Seen,
}

pub(crate) fn run(args: &Args, cx: &Context) -> Result<(), Failure> {
    let given = args.directory.clone().or_else(|| cx.global.directory.clone());
    let directory = given.unwrap_or_else(|| PathBuf::from("."));
    let root = directory.canonicalize().map_err(|error| {
        Failure::new(Exit::Project, format!("cannot read the project {}", directory.display()))
            .because(&error)
    })?;
    let path = root.join(MANIFEST);
    if path.exists() {
        return Err(Failure::new(Exit::Project, format!("{} is there already", path.display()))
            .advise("`lazuli cost` or `lazuli parity` show what follows from it"));
    }
    let seen = look(&root);
    let app = match args.app.clone().or_else(|| seen.app.clone()) {
        Some(app) => app,
        None => ask(cx, "The app's name", "--app")?,
    };
    let Some(entry) = seen.entry.clone() else {
        return Err(Failure::new(
            Exit::Project,
            format!("there is no ASGI application in {}", root.display()),
        )
        .cause("no Python file assigns FastAPI(…), Starlette(…), Litestar(…) or Quart(…) to a name")
        .advise(
            "write backend.app into lazuli.yaml yourself: examples/notes/lazuli.yaml shows how",
        ));
    };
    let location = match &args.location {
        Some(location) => location.clone(),
        None => ask(cx, "The Azure region, such as westeurope", "--location")?,
    };
    let text = draft(&seen, &app, &location, &entry);
    // What is written is right, or is not written.
    if let Err(errors) = Manifest::parse(&text, MANIFEST) {
        return Err(Failure {
            excerpt: Some(errors.render(cx.printer.stderr_has_color())),
            state: vec!["Nothing was written.".to_owned()],
            ..Failure::new(Exit::Project, "no manifest can be made of this")
        }
        .advise("give another --app or --location"));
    }
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&path)
        .map_err(|e| Failure::new(Exit::Project, "cannot write the manifest").because(&e))?;
    file.write_all(text.as_bytes())
        .map_err(|e| Failure::new(Exit::Project, "cannot write the manifest").because(&e))?;
    let result = Result_ { event: "result", manifest: path.display().to_string(), seen: &seen };
    cx.printer.result(&result, |r| {
        format!("{} written: read it, then `lazuli up` or `lazuli render`", r.manifest)
    });
    Ok(())
}

/// Asks, where there is somebody to ask.
fn ask(cx: &Context, what: &str, option: &str) -> Result<String, Failure> {
    if !cx.printer.is_interactive() {
        return Err(Failure::new(Exit::Usage, format!("{what} cannot be seen in the project"))
            .advise(format!("give it with {option}")));
    }
    cx.printer.error_line(format!("{what}:"));
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line);
    match read {
        Ok(n) if n > 0 && !line.trim().is_empty() => Ok(line.trim().to_owned()),
        _ => Err(Failure::new(Exit::Usage, "no answer").advise(format!("give it with {option}"))),
    }
}

/// The beginning of a file as text; what cannot be read is not there.
fn text(path: &Path) -> Option<String> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    std::fs::File::open(path).ok()?.take(BYTES).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Every Python file of the app: no tests, no environments, nothing hidden.
fn python_files(root: &Path) -> Vec<PathBuf> {
    const SKIP: [&str; 10] = [
        "tests",
        "test",
        "node_modules",
        "venv",
        "env",
        "antenv",
        "migrations",
        "alembic",
        "build",
        "dist",
    ];
    let mut found = Vec::new();
    let mut directories = vec![(root.to_path_buf(), 0)];
    while let Some((directory, depth)) = directories.pop() {
        let Ok(entries) = std::fs::read_dir(&directory) else { continue };
        let mut entries: Vec<_> = entries.filter_map(Result::ok).collect();
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Ok(kind) = entry.file_type() else { continue };
            if name.starts_with('.') || kind.is_symlink() {
                continue;
            }
            if kind.is_dir() && depth < 8 && !SKIP.contains(&name.as_str()) {
                directories.push((entry.path(), depth + 1));
            } else if kind.is_file()
                && entry.path().extension().is_some_and(|extension| extension == "py")
                && found.len() < FILES
            {
                found.push(entry.path());
            }
        }
    }
    found.sort_by_key(|p| (p.components().count(), p.clone()));
    found
}

/// `modules/backend/main.py` → `modules.backend.main`; below `src/`, without it.
fn module(root: &Path, file: &Path) -> Option<String> {
    let relative = file.strip_prefix(root).ok()?.with_extension("");
    let mut parts: Vec<String> =
        relative.components().map(|c| c.as_os_str().to_string_lossy().into_owned()).collect();
    if parts.first().is_some_and(|p| p == "src") {
        parts.remove(0);
    }
    if parts.last().is_some_and(|p| p == "__init__") {
        parts.pop();
    }
    let identifier =
        |p: &String| p.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && !p.is_empty();
    (!parts.is_empty() && parts.iter().all(identifier)).then(|| parts.join("."))
}

/// The name that a line at the beginning of a column assigns a call of one of these to.
fn assigned(source: &str, calls: &[&str]) -> Option<String> {
    source.lines().find_map(|line| {
        let (name, value) = line.split_once('=')?;
        let name = name.split(':').next()?.trim_end();
        let identifier = !name.is_empty()
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        let value = value.trim_start();
        let called = calls.iter().any(|call| {
            value.strip_prefix(call).is_some_and(|rest| rest.starts_with('('))
                || value.contains(&format!(".{call}("))
        });
        (identifier && called).then(|| name.to_owned())
    })
}

fn look(root: &Path) -> Seen {
    let mut seen = Seen::default();
    let pyproject = text(&root.join("pyproject.toml")).unwrap_or_default();
    let requirements = text(&root.join("requirements.txt")).unwrap_or_default() + &pyproject;
    let named = pyproject
        .lines()
        .find_map(|l| l.strip_prefix("name = \"")?.split('"').next().map(str::to_owned))
        .or_else(|| root.file_name().map(|n| n.to_string_lossy().into_owned()));
    seen.app = named.map(|n| plain(&n)).filter(|n| n.len() > 1);
    seen.python = text(&root.join(".python-version"))
        .or_else(|| text(&root.join("runtime.txt")))
        .and_then(|t| version(&t))
        .or_else(|| {
            let line = pyproject.lines().find(|l| l.trim_start().starts_with("requires-python"))?;
            version(line)
        });
    seen.worker_class = if requirements.contains("uvicorn-worker") {
        Some("uvicorn_worker.UvicornWorker")
    } else if requirements.contains("uvicorn") {
        Some("uvicorn.workers.UvicornWorker")
    } else {
        None
    };
    for file in python_files(root) {
        let Some(source) = text(&file) else { continue };
        let Some(module) = module(root, &file) else { continue };
        let of = |name: String| format!("{module}:{name}");
        if seen.entry.is_none() {
            seen.entry =
                assigned(&source, &["FastAPI", "Starlette", "Litestar", "Quart", "create_app"])
                    .map(of);
        }
        if source.contains("taskiq") {
            let calls = ["ListQueueBroker", "RedisStreamBroker", "PubSubBroker", "AioPikaBroker"];
            let named = assigned(&source, &calls)
                .or_else(|| (source.contains("\nbroker")).then(|| "broker".to_owned()));
            if seen.broker.is_none() {
                seen.broker = named.map(|n| format!("{module}:{n}"));
            }
            if seen.scheduler.is_none() && source.contains("TaskiqScheduler") {
                // Perhaps of a subclass, under the usual name.
                let usual = source.lines().any(|l| l.starts_with("scheduler = "));
                seen.scheduler = assigned(&source, &["TaskiqScheduler"])
                    .or_else(|| usual.then(|| "scheduler".to_owned()))
                    .map(|n| format!("{module}:{n}"));
            }
        }
        seen.websockets |= source.contains(".websocket(") || source.contains("WebSocketRoute(");
        for (path, place) in [("/health", &mut seen.health), ("/health/ready", &mut seen.readiness)]
        {
            if source.contains(&format!("\"{path}\"")) {
                place.get_or_insert_with(|| path.to_owned());
            }
        }
        for path in ["/healthz", "/livez", "/readyz"] {
            if source.contains(&format!("\"{path}\"")) {
                let place = if path == "/readyz" { &mut seen.readiness } else { &mut seen.health };
                place.get_or_insert_with(|| path.to_owned());
            }
        }
    }
    seen.alembic = root.join("alembic.ini").is_file();
    seen.tests = root.join("tests").is_dir();
    seen.frontend = ["modules/frontend", "frontend", "client", "web", "ui"]
        .into_iter()
        .find(|d| root.join(d).join("package.json").is_file())
        .map(str::to_owned);
    for file in [".env.example", ".env"] {
        if let Some(source) = text(&root.join(file)) {
            environment(&source, &mut seen);
        }
    }
    seen
}

/// Names of a `.env`: what sounds like a secret becomes one, without its value.
fn environment(source: &str, seen: &mut Seen) {
    const SECRET: [&str; 6] = ["SECRET", "PASSWORD", "TOKEN", "_KEY", "SALT", "CREDENTIAL"];
    const OURS: [&str; 8] = [
        "DATABASE_URL",
        "REDIS_URL",
        "APP_ENV",
        "PORT",
        "MIGRATION_DATABASE_URL",
        "APPLICATIONINSIGHTS_CONNECTION_STRING",
        "HOME",
        "PATH",
    ];
    for line in source.lines() {
        let line = line.trim().trim_start_matches("export ");
        let Some((name, value)) = line.split_once('=') else { continue };
        let name = name.trim();
        let fits = name.starts_with(|c: char| c.is_ascii_uppercase())
            && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
            && !name.ends_with('_')
            && !name.contains("__");
        let known = seen.settings.iter().any(|(n, _)| n == name)
            || seen.secrets.iter().any(|s| s.replace('-', "_").to_uppercase() == name);
        let connection = value.contains("://") && value.contains('@');
        if !fits || known || OURS.contains(&name) {
            continue;
        }
        if connection || ["DB_", "REDIS_", "POSTGRES"].iter().any(|p| name.starts_with(p)) {
            continue; // the standard's own
        }
        if SECRET.iter().any(|s| name.contains(s)) {
            seen.secrets.push(name.to_lowercase().replace('_', "-"));
        } else {
            let value = value.trim().trim_matches(['"', '\'']);
            seen.settings.push((name.to_owned(), value.to_owned()));
        }
    }
}

/// A name as Azure takes it.
fn plain(name: &str) -> String {
    let lower = name.to_lowercase();
    let mut out = String::new();
    for c in lower.chars() {
        match c {
            'a'..='z' | '0'..='9' => out.push(c),
            _ if !out.is_empty() && !out.ends_with('-') => out.push('-'),
            _ => {}
        }
    }
    let out = out.trim_start_matches(|c: char| c.is_ascii_digit() || c == '-');
    out.chars().take(17).collect::<String>().trim_end_matches('-').to_owned()
}

/// The first `3.N` in a text.
fn version(text: &str) -> Option<String> {
    let at = text.find("3.")?;
    let minor: String = text[at + 2..].chars().take_while(char::is_ascii_digit).collect();
    let offered = minor.parse::<u32>().is_ok_and(|m| (10..=14).contains(&m));
    offered.then(|| format!("3.{minor}"))
}

/// A YAML text that means just this.
fn yaml(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}

fn draft(seen: &Seen, app: &str, location: &str, entry: &str) -> String {
    let mut out = String::from(
        "# What Lazuli needs to know about this app. Everything else follows from the deployment standard.\n",
    );
    let _ = write!(out, "app: {}\nlocation: {}\n", yaml(app), yaml(location));
    if let Some(python) = &seen.python {
        let _ = writeln!(out, "python: {}", yaml(python));
    }
    let _ =
        write!(out, "\nbackend:\n  # module:attribute of the ASGI application.\n  app: {entry}\n");
    if let Some(class) = seen.worker_class.filter(|c| c.starts_with("uvicorn.workers")) {
        let _ = write!(
            out,
            "  # Deprecated in uvicorn: with the package uvicorn-worker in the requirements, leave this out.\n  worker-class: {class}\n"
        );
    }
    match (&seen.health, &seen.readiness) {
        (None, _) => out.push_str("  # No health check was found: the app must answer this with 200.\n  health: /health\n"),
        (Some(path), _) => {
            let _ = writeln!(out, "  health: {path}");
        }
    }
    match &seen.readiness {
        None => out.push_str(
            "  # The same, when database and cache answer too.\n  readiness: /health/ready\n",
        ),
        Some(path) => {
            let _ = writeln!(out, "  readiness: {path}");
        }
    }
    if seen.websockets {
        out.push_str("  websockets: true\n");
    }
    if !seen.settings.is_empty() {
        out.push_str("  # From .env; secrets are not here.\n  settings:\n");
        for (name, value) in &seen.settings {
            let _ = writeln!(out, "    {name}: {}", yaml(value));
        }
    }
    if let Some(broker) = &seen.broker {
        let _ = write!(
            out,
            "\n# On a site of its own; for low volume: webjob: true.\nworker:\n  run: taskiq worker {broker}\n"
        );
    }
    if let Some(scheduler) = &seen.scheduler {
        let _ = write!(
            out,
            "\n# Exactly one instance.\nscheduler:\n  run: taskiq scheduler {scheduler}\n"
        );
    }
    if seen.alembic {
        out.push_str("\n# Runs inside the app's network, before a release reaches users.\ndatabase:\n  migrate: alembic upgrade head\n");
    }
    out.push_str("\n# Azure Managed Redis; premium is for those who have an Azure Cache for Redis.\ncache: managed\n");
    if !seen.secrets.is_empty() {
        out.push_str("\n# Generated once and kept in Key Vault. One that somebody else gave you is set there later.\nsecrets:\n");
        for secret in &seen.secrets {
            let _ = writeln!(out, "  - {secret}");
        }
    }
    if let Some(frontend) = &seen.frontend {
        let _ = write!(
            out,
            "\n# Served by Azure Static Web Apps; hosting: app-service for the web app itself.\nfrontend:\n  directory: {frontend}\n"
        );
    }
    if seen.tests {
        out.push_str("\npackage:\n  exclude: [tests/]\n");
    }
    out
}
