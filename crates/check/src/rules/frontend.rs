//! Static Web Apps.

use lazuli_hcl::Value;

use super::{Attribute, attribute, shown};
use crate::rule::{
    Check, Rule,
    Severity::{Error, Note, Warning},
};

const PROXY: &str = "Reverse Proxy Configuration";
const GOOD: &str = "{\n  \"navigationFallback\": { \"rewrite\": \"/index.html\", \"exclude\": [\"/api/*\", \"/assets/*\"] },\n  \"globalHeaders\": {\n    \"X-Content-Type-Options\": \"nosniff\",\n    \"X-Frame-Options\": \"DENY\",\n    \"Content-Security-Policy\": \"default-src 'self'; connect-src 'self' wss://notes.azurewebsites.net\"\n  }\n}\n";

pub(crate) static RULES: &[Rule] = &[
    Rule {
        id: "LZ-FE-001",
        section: PROXY,
        erratum: Some(8),
        severity: Error,
        title: "Routes rewrite to places inside the site",
        why: "A rewrite cannot leave the site. An App Service back end is *linked* and served below `/api`; anything else stays a 404.",
        fix: "Link the back end (`azurerm_static_web_app_function_app_registration`'s App Service counterpart, or the portal's *APIs*) and remove the rewrite.",
        bad: &[(
            "staticwebapp.config.json",
            "{ \"routes\": [{ \"route\": \"/api/*\", \"rewrite\": \"https://notes.azurewebsites.net/api/*\" }] }\n",
        )],
        good: &[(
            "staticwebapp.config.json",
            "{ \"routes\": [{ \"route\": \"/old\", \"rewrite\": \"/new.html\" }] }\n",
        )],
        check: Check::Project(|p, o| {
            for d in &p.static_web {
                for r in routes(&d.value) {
                    let Some(e) = r.entry("rewrite") else { continue };
                    let Some(t) = e.value.as_str() else { continue };
                    let socket = r
                        .get("route")
                        .and_then(Value::as_str)
                        .is_some_and(|t| t.starts_with("/ws"));
                    if t.contains("://") && !socket {
                        o.entry(e, "a rewrite stays inside the site: link the back end instead");
                    } else {
                        o.judged();
                    }
                }
            }
        }),
    },
    Rule {
        id: "LZ-FE-002",
        section: PROXY,
        erratum: Some(8),
        severity: Error,
        title: "WebSockets go to the back end directly",
        why: "Static Web Apps proxies no WebSockets.",
        fix: "Open `wss://{app}.azurewebsites.net` from the browser, and allow exactly that in `connect-src`.",
        bad: &[(
            "staticwebapp.config.json",
            "{ \"routes\": [{ \"route\": \"/ws/*\", \"rewrite\": \"https://notes.azurewebsites.net/ws/*\" }] }\n",
        )],
        good: &[("staticwebapp.config.json", GOOD)],
        check: Check::Project(|p, o| {
            for d in &p.static_web {
                o.judged();
                for r in routes(&d.value) {
                    let Some(e) = r.entry("route") else { continue };
                    if e.value.as_str().is_some_and(|t| t.starts_with("/ws"))
                        && r.entry("rewrite").is_some()
                    {
                        o.entry(e, "Static Web Apps proxies no WebSockets");
                    }
                }
            }
        }),
    },
    Rule {
        id: "LZ-FE-003",
        section: PROXY,
        erratum: None,
        severity: Warning,
        title: "Unknown paths fall back to the app",
        why: "A single-page app's routes exist in the browser only: without the fallback a reload is a 404.",
        fix: "Add `navigationFallback` with `rewrite: /index.html`, excluding `/api/*` and assets.",
        bad: &[(
            "staticwebapp.config.json",
            "{ \"globalHeaders\": { \"X-Frame-Options\": \"DENY\" } }\n",
        )],
        good: &[("staticwebapp.config.json", GOOD)],
        check: Check::Project(|p, o| {
            for d in &p.static_web {
                let Some(m) = d.value.as_map() else { continue };
                match m.get("navigationFallback").and_then(Value::as_map) {
                    None => {
                        o.at(
                            first(&d.value),
                            "no `navigationFallback`: reloading a page of the app is a 404",
                        )
                        .absent();
                    }
                    Some(f) => {
                        o.judged();
                        let excluded: Vec<String> = f
                            .get("exclude")
                            .and_then(Value::as_list)
                            .unwrap_or_default()
                            .iter()
                            .map(Value::known_text)
                            .collect();
                        if !excluded.iter().any(|e| e.starts_with("/api")) {
                            let at = f.entry("exclude").map_or_else(
                                || {
                                    m.entry("navigationFallback")
                                        .map_or(d.value.span, |e| e.key_span)
                                },
                                |e| e.at,
                            );
                            o.at(at, "`/api/*` is not excluded: a missing API path answers 200 with the app's page");
                        }
                    }
                }
            }
        }),
    },
    Rule {
        id: "LZ-FE-004",
        section: PROXY,
        erratum: None,
        severity: Warning,
        title: "Every answer carries the security headers",
        why: "They stop content sniffing, framing and injected scripts.",
        fix: "Set `X-Content-Type-Options: nosniff`, `X-Frame-Options: DENY` and a `Content-Security-Policy` in `globalHeaders`.",
        bad: &[(
            "staticwebapp.config.json",
            "{ \"navigationFallback\": { \"rewrite\": \"/index.html\", \"exclude\": [\"/api/*\"] }, \"globalHeaders\": { \"X-Frame-Options\": \"DENY\" } }\n",
        )],
        good: &[("staticwebapp.config.json", GOOD)],
        check: Check::Project(|p, o| {
            for d in &p.static_web {
                let Some(m) = d.value.as_map() else { continue };
                let headers = m.get("globalHeaders").and_then(Value::as_map);
                let at = m.entry("globalHeaders").map_or_else(|| first(&d.value), |e| e.key_span);
                let missing: Vec<&str> =
                    ["X-Content-Type-Options", "X-Frame-Options", "Content-Security-Policy"]
                        .into_iter()
                        .filter(|h| {
                            headers.is_none_or(|m| !m.iter().any(|e| e.key.eq_ignore_ascii_case(h)))
                        })
                        .collect();
                // A policy with frame-ancestors says what X-Frame-Options says.
                let framed = headers.is_some_and(|m| {
                    m.iter().any(|e| e.value.known_text().contains("frame-ancestors"))
                });
                let missing: Vec<&str> =
                    missing.into_iter().filter(|h| !(framed && *h == "X-Frame-Options")).collect();
                if missing.is_empty() {
                    o.judged();
                } else {
                    o.at(at, format!("`globalHeaders` lacks {}", missing.join(", "))).absent();
                }
            }
        }),
    },
    Rule {
        id: "LZ-FE-005",
        section: PROXY,
        erratum: None,
        severity: Warning,
        title: "The content security policy restricts",
        why: "A policy with wildcards or `unsafe-inline` scripts stops nothing.",
        fix: "Name the sources: `default-src 'self'; connect-src 'self' wss://{app}.azurewebsites.net`.",
        bad: &[(
            "staticwebapp.config.json",
            "{ \"globalHeaders\": { \"Content-Security-Policy\": \"default-src *\" } }\n",
        )],
        good: &[("staticwebapp.config.json", GOOD)],
        check: Check::Project(|p, o| {
            for d in &p.static_web {
                let headers =
                    d.value.as_map().and_then(|m| m.get("globalHeaders")).and_then(Value::as_map);
                for e in headers
                    .into_iter()
                    .flatten()
                    .filter(|e| e.key.eq_ignore_ascii_case("content-security-policy"))
                {
                    let t = e.value.known_text();
                    let weak = t.split(';').map(str::trim).find(|d| {
                        let w: Vec<&str> = d.split_whitespace().collect();
                        let scripts = matches!(w.first(), Some(&("default-src" | "script-src")));
                        w.iter()
                            .skip(1)
                            .any(|s| matches!(*s, "*" | "http:" | "https:" | "wss:" | "ws:"))
                            && matches!(
                                w.first(),
                                Some(&("default-src" | "script-src" | "connect-src"))
                            )
                            || scripts
                                && w.iter()
                                    .any(|s| matches!(*s, "'unsafe-inline'" | "'unsafe-eval'"))
                    });
                    match weak {
                        Some(d) => {
                            o.entry(e, format!("`{d}` restricts nothing"));
                        }
                        None => o.judged(),
                    }
                }
            }
        }),
    },
    Rule {
        id: "LZ-FE-006",
        section: "Standard: Static Web Apps (Standard tier)",
        erratum: None,
        severity: Warning,
        title: "Staging and production use the Standard tier",
        why: "Free has no linked back end, no SLA and no private endpoints.",
        fix: "Set `sku_tier = \"Standard\"` and `sku_size = \"Standard\"`.",
        bad: &[(
            "prod/main.tf",
            "resource \"azurerm_static_web_app\" \"web\" {\n  sku_tier = \"Free\"\n}\n",
        )],
        good: &[(
            "prod/main.tf",
            "resource \"azurerm_static_web_app\" \"web\" {\n  sku_tier = \"Standard\"\n}\n",
        )],
        check: Check::Stack(|s, o| {
            for r in
                s.all(&["azurerm_static_web_app", "azurerm_static_site"]).filter(|_| s.is_serious())
            {
                attribute(
                    o,
                    s,
                    r,
                    &Attribute {
                        path: "sku_tier",
                        absent: Some(false),
                        message: "Free has no linked back end",
                        missing: "`sku_tier` is not set: Free has no linked back end",
                        write: Some("\"Standard\""),
                    },
                    |v| v.as_str().map(|t| t == "Standard"),
                );
            }
        }),
    },
    Rule {
        id: "LZ-FE-007",
        section: "Alternative: Serve from App Service",
        erratum: None,
        severity: Note,
        title: "Production's front end is a Static Web App",
        why: "Served from the back end it has no CDN, and every change of it releases the back end.",
        fix: "Deploy the build to Static Web Apps in production.",
        bad: &[
            ("prod/main.tf", "resource \"azurerm_linux_web_app\" \"app\" {\n  name = \"x\"\n}\n"),
            (
                "modules/backend/main.py",
                "app.mount(\"/\", StaticFiles(directory=\"modules/frontend/dist\", html=True), name=\"frontend\")\n",
            ),
        ],
        good: &[
            (
                "prod/main.tf",
                "resource \"azurerm_linux_web_app\" \"app\" {\n  name = \"x\"\n}\nresource \"azurerm_static_web_app\" \"web\" {\n  sku_tier = \"Standard\"\n}\n",
            ),
            (
                "modules/backend/main.py",
                "app.mount(\"/\", StaticFiles(directory=\"modules/frontend/dist\", html=True), name=\"frontend\")\n",
            ),
        ],
        check: Check::Project(|p, o| {
            let prod: Vec<_> = p
                .stacks
                .iter()
                .filter(|s| s.is(lazuli_standard::Environment::Prod) && s.any(super::SITE))
                .collect();
            if prod.is_empty()
                || prod
                    .iter()
                    .any(|s| s.partial || s.any(&["azurerm_static_web_app", "azurerm_static_site"]))
            {
                return;
            }
            for f in p.python.iter().filter(|f| !f.path.to_string_lossy().contains("test")) {
                for c in f
                    .calls
                    .iter()
                    .filter(|c| c.name.ends_with("StaticFiles") && c.keyword("html").is_some())
                {
                    o.at(
                        c.span,
                        format!(
                            "production serves the front end from the back end ({})",
                            shown(&Value::text("no azurerm_static_web_app", c.span))
                        ),
                    );
                }
            }
        }),
    },
];

fn routes(v: &Value) -> impl Iterator<Item = &lazuli_hcl::Map> {
    v.as_map()
        .and_then(|m| m.get("routes"))
        .and_then(Value::as_list)
        .unwrap_or_default()
        .iter()
        .filter_map(Value::as_map)
}

/// The first key of a document: where what is missing is shown.
fn first(v: &Value) -> lazuli_hcl::Span {
    v.as_map().and_then(|m| m.iter().next()).map_or(v.span, |e| e.key_span)
}
