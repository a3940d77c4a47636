//! The Python project.

use lazuli_standard::data::compute;

use super::app::minor;
use super::command::commands;
use crate::rule::{
    Check, Rule,
    Severity::{Error, Note, Warning},
};
use crate::snippet::Start;

pub(crate) static RULES: &[Rule] = &[
    Rule {
        id: "LZ-PY-001",
        section: "Event Loop: uvloop",
        erratum: None,
        severity: Warning,
        title: "uvloop is installed",
        why: "Uvicorn uses it when it is there, and silently the slower loop when it is not.",
        fix: "Add `uvloop` to the requirements.",
        bad: &[("requirements.txt", "fastapi\ngunicorn\nuvicorn\n")],
        good: &[("requirements.txt", "fastapi\ngunicorn\nuvicorn[standard]\n")],
        check: Check::Project(|p, o| {
            for (file, list) in &p.requirements {
                let Some(u) =
                    list.iter().find(|r| r.name == "uvicorn" || r.name == "uvicorn-worker")
                else {
                    continue;
                };
                // An app, not a library or a tool: what starts it is here too.
                if !p.requires("gunicorn") {
                    continue;
                }
                let text = &p.sources.get(*file).text;
                if p.requires("uvloop") || text.contains("uvicorn[standard]") {
                    o.judged();
                } else {
                    o.at(u.span, "uvicorn without uvloop runs on the slower event loop").absent();
                }
            }
        }),
    },
    Rule {
        id: "LZ-PY-002",
        section: "Runtime Configuration",
        erratum: Some(12),
        severity: Error,
        title: "The worker class's package is required",
        why: "gunicorn cannot start `uvicorn_worker.UvicornWorker` without `uvicorn-worker`.",
        fix: "Add `uvicorn-worker` to the requirements.",
        bad: &[
            ("requirements.txt", "fastapi\ngunicorn\nuvicorn\nuvloop\n"),
            (
                "startup.sh",
                "exec gunicorn -w 2 -k uvicorn_worker.UvicornWorker -b 0.0.0.0:8000 --timeout 35 --graceful-timeout 30 main:app\n",
            ),
        ],
        good: &[
            ("requirements.txt", "fastapi\ngunicorn\nuvicorn-worker\nuvloop\n"),
            (
                "startup.sh",
                "exec gunicorn -w 2 -k uvicorn_worker.UvicornWorker -b 0.0.0.0:8000 --timeout 35 --graceful-timeout 30 main:app\n",
            ),
        ],
        check: Check::Project(|p, o| {
            if p.requirements.iter().all(|(_, r)| r.is_empty()) {
                return;
            }
            for c in commands(p) {
                let Some(s) = Start::gunicorn(&c.text) else { continue };
                let missing = match s.class.as_deref() {
                    Some(k)
                        if k.starts_with("uvicorn_worker.") && !p.requires("uvicorn-worker") =>
                    {
                        "uvicorn-worker"
                    }
                    Some(k) if k.starts_with("uvicorn.workers.") && !p.requires("uvicorn") => {
                        "uvicorn"
                    }
                    _ if !p.requires("gunicorn") => "gunicorn",
                    _ => {
                        o.judged();
                        continue;
                    }
                };
                o.at(
                    c.span,
                    format!("the requirements lack `{missing}`, which this command needs"),
                )
                .absent();
            }
        }),
    },
    Rule {
        id: "LZ-PY-003",
        section: "Runtime Configuration",
        erratum: None,
        severity: Note,
        title: "The project allows the standard's Python",
        why: "App Service runs 3.14; a project that excludes it does not install.",
        fix: "Write `requires-python = \">=3.14\"`.",
        bad: &[(
            "pyproject.toml",
            "[project]\nname = \"notes\"\nrequires-python = \">=3.10,<3.13\"\n",
        )],
        good: &[("pyproject.toml", "[project]\nname = \"notes\"\nrequires-python = \">=3.14\"\n")],
        check: Check::Project(|p, o| {
            for (t, at) in &p.requires_python {
                let want = minor(&compute::PYTHON).unwrap_or(14);
                let excluded = t.split(',').map(str::trim).any(|c| {
                    let n = |p: &str| c.strip_prefix(p).and_then(|v| minor(v.trim()));
                    n("<=").is_some_and(|m| m < want)
                        || (!c.starts_with("<=") && n("<").is_some_and(|m| m <= want))
                        || n("==").is_some_and(|m| m != want)
                        || n("~=").is_some_and(|m| m != want && c.matches('.').count() > 1)
                });
                if excluded {
                    o.at(
                        *at,
                        format!(
                            "{t} excludes Python {}, which the standard runs",
                            *compute::PYTHON
                        ),
                    );
                } else {
                    o.judged();
                }
            }
        }),
    },
    Rule {
        id: "LZ-PY-004",
        section: "Production Debugging with py-spy",
        erratum: None,
        severity: Note,
        title: "py-spy is installed",
        why: "When requests hang in production it is what shows where; installing it then needs a deployment.",
        fix: "Add `py-spy` to the requirements.",
        bad: &[("requirements.txt", "fastapi\ngunicorn\nuvicorn\nuvloop\n")],
        good: &[("requirements.txt", "fastapi\ngunicorn\nuvicorn\nuvloop\npy-spy\n")],
        check: Check::Project(|p, o| {
            // Terraform that has no App Service says that this app runs elsewhere.
            if !p.stacks.is_empty() && !p.stacks.iter().any(|s| s.any(super::SITES)) {
                return;
            }
            for (_, list) in &p.requirements {
                let Some(g) = list.iter().find(|r| r.name == "gunicorn") else { continue };
                if p.requires("py-spy") {
                    o.judged();
                } else {
                    o.at(
                        g.span,
                        "no py-spy: a process that hangs in production cannot be looked into",
                    )
                    .absent();
                }
            }
        }),
    },
    Rule {
        id: "LZ-PY-005",
        section: "Application Settings",
        erratum: None,
        severity: Error,
        title: "Configuration comes from the environment",
        why: "A URL of Azure's in the source ties the code to one environment; the swap would carry it along.",
        fix: "Read it from a setting.",
        bad: &[("app/config.py", "REDIS_HOST = \"notes-redis.redis.cache.windows.net\"\n")],
        good: &[("app/config.py", "import os\nREDIS_HOST = os.environ[\"REDIS_HOST\"]\n")],
        check: Check::Project(|p, o| {
            for f in p
                .python
                .iter()
                .filter(|f| !f.path.to_string_lossy().to_ascii_lowercase().contains("test"))
            {
                for w in f.tokens.windows(3) {
                    let (
                        crate::python::Token::Name(_),
                        crate::python::Token::Sign('='),
                        crate::python::Token::Text(t),
                    ) = (&w[0].0, &w[1].0, &w[2].0)
                    else {
                        continue;
                    };
                    let host = [
                        ".postgres.database.azure.com",
                        ".redis.cache.windows.net",
                        ".redis.azure.net",
                        ".vault.azure.net",
                        ".azurewebsites.net",
                    ]
                    .into_iter()
                    // A resource's name stands before it: the suffix alone tells the services apart.
                    .any(|s| {
                        t.match_indices(s)
                            .any(|(at, _)| t[..at].ends_with(|c: char| c.is_ascii_alphanumeric()))
                    });
                    if host && !t.contains('{') && !t.contains(' ') {
                        o.at(
                            w[2].1,
                            "this ties the code to one environment: read it from a setting",
                        );
                    } else {
                        o.judged();
                    }
                }
            }
        }),
    },
    Rule {
        id: "LZ-PY-006",
        section: "Integration with structlog",
        erratum: None,
        severity: Warning,
        title: "Logs go to standard output",
        why: "App Service collects standard output. A file lies on one instance, fills its disk, and goes with it at the next scale-in.",
        fix: "Log to stdout (`logging.StreamHandler`, structlog's default; gunicorn's `--access-logfile -`).",
        bad: &[
            ("requirements.txt", "gunicorn\nuvloop\npy-spy\n"),
            (
                "app/logs.py",
                "import logging\nhandler = logging.FileHandler(\"/home/LogFiles/app.log\")\n",
            ),
        ],
        good: &[
            ("requirements.txt", "gunicorn\nuvloop\npy-spy\n"),
            (
                "app/logs.py",
                "import logging\nimport sys\nhandler = logging.StreamHandler(sys.stdout)\n",
            ),
        ],
        check: Check::Project(|p, o| {
            // Programs that nobody serves may log where they like.
            if !(p.requires("gunicorn") || p.requires("uvicorn")) {
                return;
            }
            for f in p.python.iter().filter(|f| super::database::is_app(f)) {
                for c in &f.calls {
                    let name = c.name.rsplit('.').next().unwrap_or(&c.name);
                    if matches!(
                        name,
                        "FileHandler"
                            | "RotatingFileHandler"
                            | "TimedRotatingFileHandler"
                            | "WatchedFileHandler"
                    ) {
                        o.at(c.span, "a log file lies on one instance and goes with it: log to standard output");
                    } else if matches!(
                        name,
                        "StreamHandler" | "PrintLoggerFactory" | "WriteLoggerFactory"
                    ) {
                        o.judged();
                    }
                }
            }
            for c in commands(p) {
                let words = crate::snippet::words(&c.text);
                for (i, w) in words.iter().enumerate() {
                    let (flag, value) = w
                        .split_once('=')
                        .map_or((w.as_str(), words.get(i + 1)), |(f, _)| (f, None));
                    let value =
                        value.map(String::as_str).or_else(|| w.split_once('=').map(|(_, v)| v));
                    if !matches!(flag, "--access-logfile" | "--error-logfile" | "--log-file") {
                        continue;
                    }
                    match value {
                        Some(v) if v != "-" && !v.starts_with("/dev/") => {
                            o.at(
                                c.span,
                                format!(
                                    "`{flag} {v}`: a log file lies on one instance and goes with it"
                                ),
                            );
                        }
                        _ => o.judged(),
                    }
                }
            }
        }),
    },
];
