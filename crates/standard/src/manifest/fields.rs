//! The keys of a manifest: the one list behind reading, suggestions and the JSON schema.

/// A key of a mapping.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) required: bool,
    pub(super) description: &'static str,
    /// What people write instead.
    pub(super) also: &'static [&'static str],
}

const fn required(name: &'static str, description: &'static str) -> Field {
    Field { name, required: true, description, also: &[] }
}

const fn optional(name: &'static str, description: &'static str) -> Field {
    Field { name, required: false, description, also: &[] }
}

const fn or(mut field: Field, also: &'static [&'static str]) -> Field {
    field.also = also;
    field
}

/// The manifest itself.
pub(super) const ROOT: &[Field] = &[
    or(
        required(
            "app",
            "The app's name: the stem of every resource's name. Lower-case letters, digits and single hyphens, 2 to 17 characters, beginning with a letter.",
        ),
        &["name", "application", "app-name", "appname"],
    ),
    or(required("location", "The Azure region, e.g. westeurope."), &["region"]),
    or(
        optional("python", "The Python version of the runtime stack, in quotes. Default \"3.14\"."),
        &["runtime", "python-version", "version"],
    ),
    or(
        required("backend", "The web app, started by the standard's gunicorn command."),
        &["web", "site", "server", "api"],
    ),
    or(optional("worker", "The background worker, on a site of its own."), &["workers"]),
    or(
        optional("scheduler", "The scheduler, on a site of its own with exactly one instance."),
        &["cron", "beat"],
    ),
    or(optional("database", "The PostgreSQL database."), &["db", "postgres", "postgresql"]),
    or(
        optional(
            "cache",
            "premium: Azure Cache for Redis, as the standard has it, for those who have one. managed: Azure Managed Redis, for new deployments. Default managed.",
        ),
        &["redis"],
    ),
    or(
        optional(
            "secrets",
            "Secrets that are generated once and kept in the vault as {app}-{name}; the app reads jwt-secret from JWT_SECRET.",
        ),
        &["secret"],
    ),
    or(
        optional(
            "smoke",
            "Requests a release makes on the staging slot before the swap and on production after it, and what must come back.",
        ),
        &["smoke-tests", "checks", "tests"],
    ),
    optional("package", "What goes into the package."),
];

/// `backend`.
pub(super) const BACKEND: &[Field] = &[
    or(
        required("app", "The ASGI application, module:attribute, e.g. modules.backend.main:app."),
        &["module", "entrypoint", "main"],
    ),
    optional("workers", "gunicorn workers on each instance, 1 to 16. Default 2."),
    optional(
        "worker-class",
        "gunicorn's worker class. Default uvicorn_worker.UvicornWorker, of the package uvicorn-worker.",
    ),
    or(
        optional("health", "The health check's path. Default /health."),
        &["healthcheck", "health-check", "liveness"],
    ),
    or(
        optional("readiness", "The readiness check's path. Default /health/ready."),
        &["ready", "readiness-check"],
    ),
    or(
        optional("websockets", "Whether WebSockets are enabled. Default false."),
        &["websocket", "web-sockets"],
    ),
    or(
        optional(
            "settings",
            "Plain settings for backend, worker and scheduler. Secrets do not go here.",
        ),
        &["env", "environment", "variables", "app-settings"],
    ),
];

/// `worker`, `scheduler`.
pub(super) const PROCESS: &[Field] =
    &[or(required("run", "The startup command."), &["command", "cmd", "start", "startup"])];

/// `database`.
pub(super) const DATABASE: &[Field] = &[or(
    optional(
        "migrate",
        "The command that migrates the database that MIGRATION_DATABASE_URL names.",
    ),
    &["migration", "migrations"],
)];

/// An item of `smoke`.
pub(super) const SMOKE: &[Field] = &[
    or(required("path", "Path and query, beginning with /."), &["url", "route"]),
    or(optional("status", "The status that must come back. Default 200."), &["code", "expect"]),
    or(optional("json", "Members that the JSON answer must hold."), &["body"]),
];

/// `package`.
pub(super) const PACKAGE: &[Field] = &[or(
    optional("exclude", "Patterns left out of the package, as in a .gitignore."),
    &["ignore", "excludes"],
)];

/// Where a key belongs that stands in the wrong place.
pub(super) const PLACES: &[(&str, &[Field])] = &[
    ("", ROOT),
    ("backend", BACKEND),
    ("worker", PROCESS),
    ("database", DATABASE),
    ("package", PACKAGE),
];
