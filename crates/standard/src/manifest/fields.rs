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
    or(
        optional("domain", "The domain users know production under, e.g. notes.example.com."),
        &["custom-domain", "hostname", "host"],
    ),
    or(
        optional("frontend", "The browser's part of the app, built with npm run build."),
        &["front-end", "spa", "client", "ui"],
    ),
    or(optional("openai", "Azure OpenAI, reached by managed identity."), &["open-ai", "llm"]),
    or(
        optional(
            "alerts",
            "Who is told by alerts and budgets. Default: the subscription's owners, by e-mail.",
        ),
        &["alerting", "receivers", "notifications"],
    ),
    or(
        optional("budget", "What each environment may cost a month, in US dollars."),
        &["budgets", "cost"],
    ),
    or(
        optional("pipelines", "What the Azure DevOps pipelines cannot know by themselves."),
        &["pipeline", "azure-devops", "ci"],
    ),
    or(
        optional("access", "Who reads the vault besides the app, by object ID in Entra ID."),
        &["principals", "roles", "rbac"],
    ),
    or(
        optional("release", "What a release demands before anything moves."),
        &["gates", "deploy", "deployment"],
    ),
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
pub(super) const PROCESS: &[Field] = &[
    or(required("run", "The startup command."), &["command", "cmd", "start", "startup"]),
    or(
        optional(
            "webjob",
            "true: a continuous WebJob of the web app, for low volume. Default false: a site of its own.",
        ),
        &["web-job", "job"],
    ),
];

/// `frontend`.
pub(super) const FRONTEND: &[Field] = &[
    or(
        optional(
            "hosting",
            "static-web-app: Azure Static Web Apps, with /api linked to the web app. app-service: the web app serves the files. Default static-web-app.",
        ),
        &["host", "type", "served-by"],
    ),
    or(
        optional("directory", "Its directory, where package.json is. Default modules/frontend."),
        &["path", "source", "dir", "app-location"],
    ),
    or(
        optional("output", "What its build writes, below the directory. Default dist."),
        &["dist", "build", "output-location"],
    ),
    or(
        optional(
            "connect",
            "Origins the browser talks to besides the app's own, e.g. https://tiles.example.com.",
        ),
        &["origins", "connect-src", "csp"],
    ),
];

/// `openai`.
pub(super) const OPENAI: &[Field] = &[
    or(required("model", "The model, e.g. gpt-4o. The deployment has its name."), &["name"]),
    required("version", "The model's version, e.g. \"2024-11-20\"."),
    or(
        optional("capacity", "Thousands of tokens a minute, 1 to 10000. Default 10."),
        &["tpm", "tokens"],
    ),
];

/// `alerts`.
pub(super) const ALERTS: &[Field] = &[
    or(
        optional(
            "oncall",
            "Who is woken: e-mail addresses, and names of webhooks (pagerduty) whose secret addresses Terraform is given in TF_VAR_alert_webhooks.",
        ),
        &["on-call", "pager", "pagerduty"],
    ),
    or(
        optional("team", "Who is told in the daytime, and of budgets; as oncall."),
        &["teams", "email", "emails"],
    ),
];

/// `budget`.
pub(super) const BUDGET: &[Field] = &[
    or(optional("dev", "US dollars a month. Default 300."), &["development"]),
    optional("staging", "US dollars a month. Default 900."),
    or(optional("prod", "US dollars a month. Default 1400."), &["production"]),
];

/// `pipelines`.
pub(super) const PIPELINES: &[Field] = &[
    or(
        optional(
            "service-connection",
            "The Azure Resource Manager service connection, by workload identity federation. Default {app}-azure.",
        ),
        &["connection", "azure-subscription", "subscription"],
    ),
    or(
        optional(
            "pool",
            "The pool of self-hosted agents inside the VNet that runs Terraform, which writes secrets into the vault. Default {app}-vnet.",
        ),
        &["agent-pool", "agents"],
    ),
];

/// `access`.
pub(super) const ACCESS: &[Field] = &[
    or(
        optional(
            "ci-cd",
            "The object ID of the CI/CD service principal: Key Vault Secrets User on the vault.",
        ),
        &["cicd", "pipeline", "service-principal", "ci"],
    ),
    or(
        optional(
            "break-glass",
            "The object ID of the security team's group: Key Vault Administrator on the vault.",
        ),
        &["breakglass", "security", "security-team", "administrators"],
    ),
];

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
    or(optional("method", "The request's method. Default GET."), &["verb"]),
    or(
        optional("within-ms", "How long the answer may take, in milliseconds."),
        &["within", "timeout", "latency"],
    ),
    or(
        optional("websocket", "Whether to open a WebSocket instead; 101 must come back."),
        &["ws", "websockets"],
    ),
];

/// `release`.
pub(super) const RELEASE: &[Field] = &[
    or(
        optional("tests", "The command that runs the app's own tests, in the project's directory."),
        &["test", "command"],
    ),
    or(
        optional("junit", "A JUnit file that says how the tests ran, for example by the pipeline."),
        &["results", "report"],
    ),
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
    ("frontend", FRONTEND),
    ("openai", OPENAI),
    ("alerts", ALERTS),
    ("budget", BUDGET),
    ("pipelines", PIPELINES),
    ("access", ACCESS),
    ("release", RELEASE),
];
