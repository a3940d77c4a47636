//! The command that starts the app.

use lazuli_hcl::terraform::Resource;
use lazuli_hcl::{Span, Value};
use lazuli_standard::data::compute;

use super::{Got, SITES, get, plan_of};
use crate::project::{Project, Stack};
use crate::python::Token;
use crate::rule::{
    Check, Rule,
    Severity::{Error, Note, Warning},
};
use crate::snippet::{Start, lines};

const RUNTIME: &str = "Runtime Configuration";

/// A start command, wherever it was written.
pub(crate) struct Command<'a> {
    pub(crate) text: String,
    pub(crate) span: Span,
    pub(crate) site: Option<(&'a Stack, &'a Resource)>,
}

/// Every command that starts an app: sites, pipelines' `startUpCommand`, shell scripts.
pub(crate) fn commands(p: &Project) -> Vec<Command<'_>> {
    let mut out = Vec::new();
    for s in &p.stacks {
        for r in s.all(SITES) {
            if let Got::Written(e) = get(r, "site_config.app_command_line") {
                out.push(Command { text: e.value.known_text(), span: e.at, site: Some((s, r)) });
            }
        }
    }
    for pipeline in &p.pipelines {
        for step in pipeline.jobs.iter().flat_map(|j| &j.steps) {
            if let Some(v) = step.input("startUpCommand") {
                out.push(Command { text: v.known_text(), span: v.span, site: None });
            }
        }
    }
    for file in &p.shells {
        let source = p.sources.get(*file);
        let whole = Span::new(*file, 0, source.text.len());
        for l in lines(&source.text, whole) {
            let t = l.text.trim_start_matches("exec ");
            if t.starts_with("gunicorn ")
                || t.contains("alembic upgrade") && source.path.to_string_lossy().contains("start")
            {
                out.push(Command { text: t.to_owned(), span: l.span, site: None });
            }
        }
    }
    for d in &p.settings {
        for m in d.value.as_list().unwrap_or_default().iter().filter_map(Value::as_map) {
            if m.get("name").and_then(Value::as_str) == Some("STARTUP_COMMAND")
                && let Some(v) = m.get("value")
            {
                out.push(Command { text: v.known_text(), span: v.span, site: None });
            }
        }
    }
    out
}

/// Every gunicorn command, taken apart.
fn gunicorns(p: &Project) -> impl Iterator<Item = (Command<'_>, Start)> {
    commands(p).into_iter().filter_map(|c| Start::gunicorn(&c.text).map(|s| (c, s)))
}

/// Points at a word in a command.
fn word(p: &Project, c: &Command<'_>, needle: &str) -> Span {
    crate::snippet::within(&p.sources.get(c.span.file).text, &Value::text("", c.span), needle)
}

pub(crate) static RULES: &[Rule] = &[
    Rule {
        id: "LZ-CMD-001",
        section: RUNTIME,
        erratum: None,
        severity: Warning,
        title: "A Python site says how it starts",
        why: "Without a startup command Azure guesses: it starts Flask and Django, and shows a default page for FastAPI.",
        fix: "Set `app_command_line` to the standard's gunicorn command.",
        bad: &[(
            "main.tf",
            "resource \"azurerm_linux_web_app\" \"backend\" {\n  site_config {\n    application_stack {\n      python_version = \"3.14\"\n    }\n  }\n}\n",
        )],
        good: &[(
            "main.tf",
            "resource \"azurerm_linux_web_app\" \"backend\" {\n  site_config {\n    app_command_line = \"gunicorn -w 2 -k uvicorn_worker.UvicornWorker -b 0.0.0.0:8000 --timeout 35 --graceful-timeout 30 main:app\"\n    application_stack {\n      python_version = \"3.14\"\n    }\n  }\n}\n",
        )],
        check: Check::Project(|p, o| {
            // A pipeline's deployment may set it.
            let elsewhere = p
                .pipelines
                .iter()
                .flat_map(|x| &x.jobs)
                .flat_map(|j| &j.steps)
                .any(|s| s.input("startUpCommand").is_some());
            for s in p.stacks.iter().filter(|s| !s.partial && !elsewhere) {
                for r in s.all(SITES).filter(|r| super::is_python(r)) {
                    match get(r, "site_config.app_command_line") {
                        Got::Missing(at) => {
                            o.at(at, "no `app_command_line`: Azure guesses how the app starts")
                                .absent();
                        }
                        _ => o.judged(),
                    }
                }
            }
        }),
    },
    Rule {
        id: "LZ-CMD-002",
        section: RUNTIME,
        erratum: Some(12),
        severity: Note,
        title: "gunicorn's worker class comes from the package `uvicorn-worker`",
        why: "`uvicorn.workers` is deprecated since uvicorn 0.30 and will go; an upgrade then takes the site down at its next start.",
        fix: "Require `uvicorn-worker` and write `-k uvicorn_worker.UvicornWorker`.",
        bad: &[(
            "startup.sh",
            "exec gunicorn -w 2 -k uvicorn.workers.UvicornWorker -b 0.0.0.0:8000 --timeout 35 --graceful-timeout 30 main:app\n",
        )],
        good: &[
            (
                "startup.sh",
                "exec gunicorn -w 2 -k uvicorn_worker.UvicornWorker -b 0.0.0.0:8000 --timeout 35 --graceful-timeout 30 main:app\n",
            ),
            ("requirements.txt", "gunicorn\nuvicorn-worker\n"),
        ],
        check: Check::Project(|p, o| {
            for (c, s) in gunicorns(p) {
                o.judged();
                if s.class.as_deref().is_some_and(|k| k.starts_with("uvicorn.workers.")) {
                    o.at(word(p, &c, "uvicorn.workers.UvicornWorker"), "`uvicorn.workers` is deprecated: the class moved to the package `uvicorn-worker`");
                }
            }
        }),
    },
    Rule {
        id: "LZ-CMD-003",
        section: RUNTIME,
        erratum: None,
        severity: Error,
        title: "An ASGI app is served by an ASGI worker",
        why: "gunicorn's own workers speak WSGI: a FastAPI app fails on every request.",
        fix: "Add `-k uvicorn_worker.UvicornWorker`.",
        bad: &[
            (
                "startup.sh",
                "exec gunicorn -w 2 -b 0.0.0.0:8000 --timeout 35 --graceful-timeout 30 main:app\n",
            ),
            ("requirements.txt", "fastapi\ngunicorn\nuvicorn\nuvloop\n"),
        ],
        good: &[
            (
                "startup.sh",
                "exec gunicorn -w 2 -k uvicorn_worker.UvicornWorker -b 0.0.0.0:8000 --timeout 35 --graceful-timeout 30 main:app\n",
            ),
            ("requirements.txt", "fastapi\ngunicorn\nuvicorn-worker\nuvloop\n"),
        ],
        check: Check::Project(|p, o| {
            let asgi = ["fastapi", "starlette", "litestar", "quart"].iter().any(|n| p.requires(n));
            for (c, s) in gunicorns(p).filter(|(_, s)| asgi && !s.configured) {
                match s.class.as_deref() {
                    None | Some("sync" | "gthread" | "gevent" | "eventlet") => {
                        o.at(c.span, "this worker speaks WSGI; the app is ASGI");
                    }
                    _ => o.judged(),
                }
            }
        }),
    },
    Rule {
        id: "LZ-CMD-004",
        section: "Worker Configuration",
        erratum: None,
        severity: Warning,
        title: "Workers fit the plan's SKU",
        why: "Each worker holds a copy of the app in memory; beyond the recommended number they fight for processors and memory, and each brings its own database pool.",
        fix: "Use the standard's numbers: 2 on B1, 2–3 on P1v3, 3–4 on P2v3, 4–6 on P3v3.",
        bad: &[(
            "main.tf",
            "resource \"azurerm_service_plan\" \"plan\" {\n  sku_name = \"P1v3\"\n}\nresource \"azurerm_linux_web_app\" \"backend\" {\n  service_plan_id = azurerm_service_plan.plan.id\n  site_config {\n    app_command_line = \"gunicorn -w 9 -k uvicorn_worker.UvicornWorker -b 0.0.0.0:8000 --timeout 35 --graceful-timeout 30 main:app\"\n  }\n}\n",
        )],
        good: &[(
            "main.tf",
            "resource \"azurerm_service_plan\" \"plan\" {\n  sku_name = \"P1v3\"\n}\nresource \"azurerm_linux_web_app\" \"backend\" {\n  service_plan_id = azurerm_service_plan.plan.id\n  site_config {\n    app_command_line = \"gunicorn -w 3 -k uvicorn_worker.UvicornWorker -b 0.0.0.0:8000 --timeout 35 --graceful-timeout 30 main:app\"\n  }\n}\n",
        )],
        check: Check::Project(|p, o| {
            for (c, s) in gunicorns(p) {
                let (Some((stack, site)), Some(n)) = (c.site, s.workers) else { continue };
                let Some(Got::Written(e)) = plan_of(stack, site).map(|p| get(p, "sku_name")) else {
                    continue;
                };
                let Some(sku) = e
                    .value
                    .as_str()
                    .and_then(|t| compute::SKUS.iter().find(|k| k.name.eq_ignore_ascii_case(t)))
                else {
                    continue;
                };
                if n > sku.workers.1 {
                    o.at(
                        c.span,
                        format!(
                            "{n} workers on {}: the standard recommends at most {}",
                            sku.name, sku.workers.1
                        ),
                    )
                    .label(e.at, "the plan's SKU");
                } else {
                    o.judged();
                }
            }
        }),
    },
    Rule {
        id: "LZ-CMD-005",
        section: RUNTIME,
        erratum: None,
        severity: Error,
        title: "The app listens where the platform asks",
        why: "An instance serves when port 8000 (`PORT`) answers on every address. One that listens elsewhere, or on 127.0.0.1, is killed after 230 s.",
        fix: "Write `-b 0.0.0.0:8000`.",
        bad: &[(
            "startup.sh",
            "exec gunicorn -w 2 -k uvicorn_worker.UvicornWorker -b 127.0.0.1:8000 --timeout 35 --graceful-timeout 30 main:app\n",
        )],
        good: &[(
            "startup.sh",
            "exec gunicorn -w 2 -k uvicorn_worker.UvicornWorker -b 0.0.0.0:8000 --timeout 35 --graceful-timeout 30 main:app\n",
        )],
        check: Check::Project(|p, o| {
            for (c, s) in gunicorns(p).filter(|(_, s)| !s.configured) {
                let Some(b) = &s.bind else {
                    o.judged();
                    continue;
                };
                // A WEBSITES_PORT or PORT of one's own may ask for another port; the address never may.
                let (host, port) = b.rsplit_once(':').unwrap_or((b, ""));
                let local =
                    matches!(host, "127.0.0.1" | "localhost" | "[::1]") || b.starts_with("unix:");
                let moved = c.site.is_some_and(|(_, r)| {
                    super::settings(r).is_some_and(|m| {
                        m.entry("WEBSITES_PORT").is_some() || m.entry("PORT").is_some()
                    })
                });
                let other = port.parse::<u16>().is_ok_and(|n| n != *compute::PORT) && !moved;
                if local || other {
                    o.at(
                        word(p, &c, b),
                        format!("the platform looks at 0.0.0.0:{}, not at {b}", *compute::PORT),
                    );
                } else {
                    o.judged();
                }
            }
        }),
    },
    Rule {
        id: "LZ-CMD-006",
        section: RUNTIME,
        erratum: None,
        severity: Warning,
        title: "A worker gets time to finish its requests",
        why: "At a swap or scale-in gunicorn waits `--graceful-timeout` for requests in flight. Shorter than they take, or not less than `--timeout`, it cuts them off.",
        fix: "Write `--timeout 35 --graceful-timeout 30`.",
        bad: &[(
            "startup.sh",
            "exec gunicorn -w 2 -k uvicorn_worker.UvicornWorker -b 0.0.0.0:8000 --timeout 35 --graceful-timeout 5 main:app\n",
        )],
        good: &[(
            "startup.sh",
            "exec gunicorn -w 2 -k uvicorn_worker.UvicornWorker -b 0.0.0.0:8000 --timeout 35 --graceful-timeout 30 main:app\n",
        )],
        check: Check::Project(|p, o| {
            for (c, s) in gunicorns(p).filter(|(_, s)| !s.configured) {
                // gunicorn's own defaults are 30 and 30.
                let (timeout, graceful) = (s.timeout.unwrap_or(30), s.graceful.unwrap_or(30));
                if graceful < *compute::GRACEFUL_TIMEOUT {
                    o.at(
                        word(p, &c, &format!("--graceful-timeout {graceful}")),
                        format!(
                            "{graceful} s to finish requests: the standard gives {}",
                            *compute::GRACEFUL_TIMEOUT
                        ),
                    );
                } else if s.timeout.is_some() && timeout <= graceful && timeout != 0 {
                    o.at(word(p, &c, &format!("--timeout {timeout}")), format!("a worker is killed after {timeout} s, before its {graceful} s of grace are over"));
                } else {
                    o.judged();
                }
            }
        }),
    },
    Rule {
        id: "LZ-CMD-007",
        section: "Migrations",
        erratum: None,
        severity: Error,
        title: "The startup command runs no migrations",
        why: "Every instance would run them, at every restart and scale-out, against each other. A migration that fails must block the release, not crash what serves.",
        fix: "Run `alembic upgrade head` in the pipeline, before the swap.",
        bad: &[(
            "main.tf",
            "resource \"azurerm_linux_web_app\" \"backend\" {\n  site_config {\n    app_command_line = \"alembic upgrade head && gunicorn -w 2 -k uvicorn_worker.UvicornWorker -b 0.0.0.0:8000 --timeout 35 --graceful-timeout 30 main:app\"\n  }\n}\n",
        )],
        good: &[(
            "main.tf",
            "resource \"azurerm_linux_web_app\" \"backend\" {\n  site_config {\n    app_command_line = \"gunicorn -w 2 -k uvicorn_worker.UvicornWorker -b 0.0.0.0:8000 --timeout 35 --graceful-timeout 30 main:app\"\n  }\n}\n",
        )],
        check: Check::Project(|p, o| {
            for c in commands(p) {
                let hit =
                    ["alembic upgrade", "alembic -c", "manage.py migrate", "flask db upgrade"]
                        .into_iter()
                        .find(|m| c.text.contains(m));
                match hit {
                    Some(m) => {
                        o.at(word(p, &c, m), "migrations run at every start of every instance");
                    }
                    None => o.judged(),
                }
            }
        }),
    },
    Rule {
        id: "LZ-CMD-008",
        section: RUNTIME,
        erratum: None,
        severity: Warning,
        title: "Production runs gunicorn, and does not reload",
        why: "A bare uvicorn has no supervisor: a worker that dies stays dead. `--reload` watches files and restarts under load.",
        fix: "Start gunicorn with Uvicorn workers.",
        bad: &[(
            "main.tf",
            "resource \"azurerm_linux_web_app\" \"backend\" {\n  site_config {\n    app_command_line = \"uvicorn main:app --host 0.0.0.0 --port 8000 --reload\"\n  }\n}\n",
        )],
        good: &[(
            "main.tf",
            "resource \"azurerm_linux_web_app\" \"backend\" {\n  site_config {\n    app_command_line = \"gunicorn -w 2 -k uvicorn_worker.UvicornWorker -b 0.0.0.0:8000 --timeout 35 --graceful-timeout 30 main:app\"\n  }\n}\n",
        )],
        check: Check::Project(|p, o| {
            for c in commands(p) {
                let words = crate::snippet::words(&c.text);
                let bare = words.iter().any(|w| w == "uvicorn")
                    && !words.iter().any(|w| w == "gunicorn")
                    || words.starts_with(&["fastapi".into()]);
                if let Some(w) = words.iter().find(|w| *w == "--reload") {
                    o.at(word(p, &c, w), "`--reload` restarts the app whenever a file changes");
                } else if bare {
                    o.at(
                        c.span,
                        "no supervisor: the standard starts gunicorn with Uvicorn workers",
                    );
                } else {
                    o.judged();
                }
            }
        }),
    },
    Rule {
        id: "LZ-CMD-009",
        section: "WebSocket Support",
        erratum: Some(9),
        severity: Warning,
        title: "WebSockets are pinged before the platform cuts them",
        why: "The front end cuts a connection on which nothing passed for 230 seconds. Uvicorn pings every 20 by itself, unless it is told otherwise.",
        fix: "Leave `ws_ping_interval` out, or set it to 30 seconds or less.",
        bad: &[(
            "app/workers.py",
            "from uvicorn_worker import UvicornWorker\nclass Worker(UvicornWorker):\n    CONFIG_KWARGS = {\"ws_ping_interval\": 300}\n",
        )],
        good: &[(
            "app/workers.py",
            "from uvicorn_worker import UvicornWorker\nclass Worker(UvicornWorker):\n    CONFIG_KWARGS = {\"ws_ping_interval\": 30}\n",
        )],
        check: Check::Project(|p, o| {
            const NAME: &str = "ws_ping_interval";
            const LIMIT: f64 = 30.0;
            let told = |t: &str| {
                if matches!(t, "None" | "0") {
                    Some(
                        "no pings: the front end cuts a quiet WebSocket after 230 seconds"
                            .to_owned(),
                    )
                } else {
                    t.parse::<f64>().ok().filter(|n| *n > LIMIT).map(|n| {
                        format!("a ping every {n} s: the standard's is every {LIMIT}, and the front end cuts after 230")
                    })
                }
            };
            for w in p.python.iter().flat_map(|f| f.tokens.windows(3)) {
                let (Token::Name(name) | Token::Text(name), Token::Sign('=' | ':'), Token::Name(v)) =
                    (&w[0].0, &w[1].0, &w[2].0)
                else {
                    continue;
                };
                if name == NAME {
                    match told(v) {
                        Some(m) => {
                            o.at(w[2].1, m);
                        }
                        None => o.judged(),
                    }
                }
            }
            for c in commands(p) {
                let words = crate::snippet::words(&c.text);
                let Some(i) = words.iter().position(|w| w.starts_with("--ws-ping-interval")) else {
                    continue;
                };
                let v = words[i]
                    .split_once('=')
                    .map(|(_, v)| v)
                    .or(words.get(i + 1).map(String::as_str));
                match v.and_then(told) {
                    Some(m) => {
                        o.at(word(p, &c, "--ws-ping-interval"), m);
                    }
                    None => o.judged(),
                }
            }
        }),
    },
];
