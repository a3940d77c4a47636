//! `staticwebapp.config.json`:
//! <https://learn.microsoft.com/azure/static-web-apps/configuration>.

use lazuli_standard::manifest::Hosting;
use lazuli_standard::{Blueprint, Environment, Manifest};
use serde_json::{Value, json};

use crate::Files;

/// The front end's configuration for each environment: the content security policy names the back
/// end's host. None where the web app itself serves the front end.
pub fn render(manifest: &Manifest, environments: &[Environment]) -> Files {
    let mut files = Files::new();
    if !manifest.frontend.as_ref().is_some_and(|f| f.hosting == Hosting::StaticWebApp) {
        return files;
    }
    for environment in environments {
        let blueprint = Blueprint::new(manifest, *environment);
        let text = serde_json::to_string_pretty(&config(manifest, &blueprint)).unwrap_or_default();
        let path = format!("static-web-app/{environment}/staticwebapp.config.json");
        files.insert(path, format!("{text}\n"));
    }
    files
}

fn config(manifest: &Manifest, blueprint: &Blueprint) -> Value {
    // Files below assets/ carry a hash of their content in their name: Vite's default.
    json!({
        "routes": [
            {
                "route": "/api/*",
                "headers": {"Cache-Control": "no-store"}
            },
            {
                "route": "/assets/*",
                "headers": {"Cache-Control": "public, max-age=31536000, immutable"}
            },
            {
                "route": "/index.html",
                "headers": {"Cache-Control": "no-cache"}
            }
        ],
        "navigationFallback": {
            "rewrite": "/index.html",
            "exclude": ["/api/*", "/ws/*", "/assets/*"]
        },
        "globalHeaders": {
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            "Referrer-Policy": "strict-origin-when-cross-origin",
            "Strict-Transport-Security": "max-age=31536000; includeSubDomains",
            "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
            "Content-Security-Policy": policy(manifest, blueprint),
        },
        "mimeTypes": {".json": "application/json", ".webmanifest": "application/manifest+json"},
    })
}

/// Exactly what the app uses. The back end below /api is `'self'`; WebSockets are not passed on, so
/// the browser opens them to the back end's own host (ERRATA 8).
fn policy(manifest: &Manifest, blueprint: &Blueprint) -> String {
    let mut connect = vec!["'self'".to_owned()];
    if manifest.backend.websockets {
        connect.push(format!("wss://{}", blueprint.backend().host(None)));
    }
    if let Some(frontend) = &manifest.frontend {
        connect.extend(frontend.connect.iter().cloned());
    }
    [
        "default-src 'self'".to_owned(),
        "base-uri 'self'".to_owned(),
        format!("connect-src {}", connect.join(" ")),
        "font-src 'self'".to_owned(),
        "form-action 'self'".to_owned(),
        "frame-ancestors 'none'".to_owned(),
        "img-src 'self' data:".to_owned(),
        "object-src 'none'".to_owned(),
        "script-src 'self'".to_owned(),
        "style-src 'self'".to_owned(),
    ]
    .join("; ")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn rendered(more: &str) -> Files {
        let source = format!("app: notes\nlocation: westeurope\n{more}\n");
        render(&Manifest::parse(&source, "x").unwrap(), &Environment::ALL)
    }

    #[test]
    fn the_browser_may_open_websockets_to_its_own_environments_back_end_and_to_nothing_else() {
        let files = rendered("backend: { app: a:b, websockets: true }\nfrontend: {}");
        for (environment, host) in
            [("prod", "notes"), ("dev", "notes-dev"), ("staging", "notes-stg")]
        {
            let text = &files[&format!("static-web-app/{environment}/staticwebapp.config.json")];
            let policy = format!("connect-src 'self' wss://{host}.azurewebsites.net; font-src");
            assert!(text.contains(&policy), "{text}");
            assert!(!text.contains("\"rewrite\": \"https"), "{text}");
        }
        let files =
            rendered("backend: { app: a:b }\nfrontend: { connect: ['https://x.example.com'] }");
        let text = &files["static-web-app/prod/staticwebapp.config.json"];
        assert!(text.contains("connect-src 'self' https://x.example.com;"), "{text}");
        assert!(!text.contains("wss://"), "{text}");
    }

    #[test]
    fn a_front_end_that_the_web_app_serves_has_no_such_file() {
        assert!(rendered("backend: { app: a:b }\nfrontend: { hosting: app-service }").is_empty());
        assert!(rendered("backend: { app: a:b }").is_empty());
    }
}
