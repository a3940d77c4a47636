//! What a request to a static site comes to: rules, files, fallback, overrides. Without I/O.
//!
//! Nobody can sign in to a region's site, so every visitor is anonymous: a route that another role is
//! needed for answers 401, or what `responseOverrides` has for it
//! (<https://learn.microsoft.com/azure/static-web-apps/configuration>).

use http::{HeaderMap, Method, StatusCode};
use lazuli_gateway::Peer;

use super::{
    config::{Config, Headers, Range},
    content::{Content, File, Found},
};

/// A request, as far as routing looks at it.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The verb.
    pub method: &'a Method,
    /// Decoded.
    pub path: &'a str,
    /// The header fields.
    pub headers: &'a HeaderMap,
    /// Who asks.
    pub peer: Peer,
}

/// What it comes to.
#[derive(Debug)]
pub struct Decision<'a> {
    /// What is shown.
    pub outcome: Outcome<'a>,
    /// The fields of the rule that it met.
    pub headers: Option<&'a Headers>,
}

/// What is shown.
#[derive(Debug)]
pub enum Outcome<'a> {
    /// A file, with this status.
    File(&'a str, &'a File, StatusCode),
    /// The client is sent elsewhere: an address, or a path of the site.
    Redirect(String, StatusCode),
    /// The same page is at this path of the site.
    Moved(String),
    /// The back end answers.
    Api,
    /// `/.auth/me`.
    Me,
    /// `/.auth/logout`.
    Logout,
    /// `/.auth/login/…`: nobody can.
    Login,
    /// Nothing but a status.
    Status(StatusCode),
    /// The network rules keep the client out.
    Forbidden,
}

/// Whether a path is the API's: everything below `/api`
/// (<https://learn.microsoft.com/azure/static-web-apps/apis-overview#constraints>).
fn is_api(path: &str) -> bool {
    path.strip_prefix("/api").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Decides; `linked` is whether there is a back end.
pub fn decide<'a>(content: &'a Content, linked: bool, asked: Asked<'_>) -> Decision<'a> {
    let config = &content.config;
    if !admitted(config, asked) {
        return Decision { outcome: Outcome::Forbidden, headers: None };
    }
    let rule = config.route(asked.method, asked.path);
    let headers = rule.map(|rule| &rule.headers);
    let site = Site { content, linked, asked };
    let outcome = match rule {
        Some(rule) if !rule.anonymous => site.error(StatusCode::UNAUTHORIZED),
        Some(rule) => match (&rule.redirect, &rule.rewrite, rule.status) {
            (Some(to), _, status) => {
                Outcome::Redirect(to.clone(), status.unwrap_or(StatusCode::FOUND))
            }
            (None, None, Some(StatusCode::NOT_FOUND)) => site.missing(),
            (None, None, Some(status)) if status.is_client_error() || status.is_server_error() => {
                site.error(status)
            }
            (None, rewrite, status) => {
                let path = rewrite.as_deref().unwrap_or(asked.path);
                site.show(path, status.unwrap_or(StatusCode::OK))
            }
        },
        None => site.show(asked.path, StatusCode::OK),
    };
    Decision { outcome, headers }
}

/// `networking` and `forwardingGateway.requiredHeaders`.
fn admitted(config: &Config, asked: Asked<'_>) -> bool {
    let address = asked.peer.addr.ip();
    let within = config.allowed.is_empty()
        || config.allowed.iter().any(|range| match range {
            Range::Network(network) => network.holds(address),
            Range::Tag => false,
        });
    within
        && config.required.iter().all(|(name, value)| {
            asked.headers.get(name).is_some_and(|said| said.as_bytes() == value.as_bytes())
        })
}

struct Site<'a, 'r> {
    content: &'a Content,
    linked: bool,
    asked: Asked<'r>,
}

impl<'a> Site<'a, '_> {
    /// What is at a path of the site.
    fn show(&self, path: &str, status: StatusCode) -> Outcome<'a> {
        if let Some(below) = path.strip_prefix("/.auth/") {
            return match below.trim_end_matches('/') {
                "me" => Outcome::Me,
                "logout" => Outcome::Logout,
                login if login.starts_with("login/") => Outcome::Login,
                _ => self.error(StatusCode::NOT_FOUND),
            };
        }
        if is_api(path) {
            return if self.linked { Outcome::Api } else { self.error(StatusCode::NOT_FOUND) };
        }
        if self.asked.method != Method::GET && self.asked.method != Method::HEAD {
            return Outcome::Status(StatusCode::METHOD_NOT_ALLOWED);
        }
        match self.content.find(path) {
            Some(Found::File(path, file)) => Outcome::File(path, file, status),
            Some(Found::Moved(to)) => Outcome::Moved(to),
            None => self.missing(),
        }
    }

    /// Where there is no file: the fallback's page, or 404.
    fn missing(&self) -> Outcome<'a> {
        let reads = self.asked.method == Method::GET || self.asked.method == Method::HEAD;
        if let Some(fallback) = &self.content.config.fallback
            && reads
            && fallback.covers(self.asked.path)
            && let Some((path, file)) = self.page(&fallback.rewrite)
        {
            return Outcome::File(path, file, StatusCode::OK);
        }
        self.error(StatusCode::NOT_FOUND)
    }

    /// An error, or what the site has instead of it.
    fn error(&self, status: StatusCode) -> Outcome<'a> {
        let Some(instead) = self.content.config.overrides.get(&status.as_u16()) else {
            return Outcome::Status(status);
        };
        if let Some(to) = &instead.redirect {
            let redirects = instead.status.filter(StatusCode::is_redirection);
            return Outcome::Redirect(to.clone(), redirects.unwrap_or(StatusCode::FOUND));
        }
        let status = instead.status.unwrap_or(status);
        match &instead.rewrite {
            Some(path) if path.starts_with("/.auth/login/") => Outcome::Login,
            Some(path) => match self.page(path) {
                Some((path, file)) => Outcome::File(path, file, status),
                None => Outcome::Status(status),
            },
            None => Outcome::Status(status),
        }
    }

    /// The file behind a path that the configuration names, whatever its address should be.
    fn page(&self, path: &str) -> Option<(&'a str, &'a File)> {
        let path = path.split(['?', '#']).next().unwrap_or_default();
        let found = match self.content.find(path)? {
            Found::Moved(to) => self.content.find(&to)?,
            found @ Found::File(..) => found,
        };
        match found {
            Found::File(path, file) => Some((path, file)),
            Found::Moved(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use http::HeaderValue;
    use lazuli_gateway::Origin;

    use super::*;
    use crate::staticweb::content::tests::content;

    /// The documentation's example, and what a release of ours renders.
    const CONFIG: &str = r#"{
        "routes": [
            {"route": "/profile*", "allowedRoles": ["authenticated"]},
            {"route": "/admin/index.html", "allowedRoles": ["administrator"]},
            {"route": "/images/*", "headers": {"cache-control": "must-revalidate"}},
            {"route": "/api/secret", "methods": ["GET"], "allowedRoles": ["authenticated"]},
            {"route": "/login", "rewrite": "/.auth/login/github"},
            {"route": "/.auth/login/twitter", "statusCode": 404},
            {"route": "/logout", "redirect": "/.auth/logout"},
            {"route": "/calendar*", "rewrite": "/calendar.html"},
            {"route": "/specials", "redirect": "/deals", "statusCode": 301},
            {"route": "/gone", "statusCode": 410}
        ],
        "navigationFallback": {
            "rewrite": "index.html", "exclude": ["/images/*.{png,jpg,gif}", "/css/*", "/api/*"]
        },
        "responseOverrides": {
            "401": {"redirect": "/login", "statusCode": 302},
            "404": {"rewrite": "/404.html"}
        }
    }"#;

    fn outcome(config: &str, method: &str, path: &str, linked: bool) -> String {
        let (_dir, content) = content(&[
            ("index.html", b"home"),
            ("404.html", b"nothing"),
            ("calendar.html", b"calendar"),
            ("admin/index.html", b"admin"),
            ("profile/index.html", b"profile"),
            ("images/logo.png", b"png"),
            ("staticwebapp.config.json", config.as_bytes()),
        ]);
        let headers = HeaderMap::new();
        let asked = Asked {
            method: &method.parse().expect("a method"),
            path,
            headers: &headers,
            peer: from("127.0.0.1"),
        };
        match decide(&content, linked, asked).outcome {
            Outcome::File(path, _, status) => format!("{} {path}", status.as_u16()),
            Outcome::Redirect(to, status) => format!("{} {to}", status.as_u16()),
            Outcome::Moved(to) => format!("moved {to}"),
            Outcome::Status(status) => status.as_u16().to_string(),
            other => format!("{other:?}"),
        }
    }

    fn from(address: &str) -> Peer {
        let ip: IpAddr = address.parse().expect("an address");
        Peer { addr: (ip, 4711).into(), origin: Origin::Machine, tls: true }
    }

    #[test]
    fn the_documentations_scenarios() {
        for (path, wanted) in [
            ("/profile", "302 /login"),
            ("/profile/index.html", "302 /login"),
            ("/admin", "302 /login"),
            ("/admin/", "302 /login"),
            ("/admin/index.html", "302 /login"),
            ("/images/logo.png", "200 /images/logo.png"),
            ("/login", "Login"),
            ("/.auth/login/twitter", "200 /index.html"),
            ("/logout", "302 /.auth/logout"),
            ("/.auth/me", "Me"),
            ("/calendar/2021/01", "200 /calendar.html"),
            ("/specials", "301 /deals"),
            ("/about", "200 /index.html"),
            ("/images/other", "200 /index.html"),
            ("/images/other.png", "404 /404.html"),
            ("/css/other.css", "404 /404.html"),
            ("/gone", "410"),
            ("/staticwebapp.config.json", "200 /index.html"),
        ] {
            assert_eq!(outcome(CONFIG, "GET", path, false), wanted, "{path}");
        }
        assert_eq!(outcome(CONFIG, "POST", "/about", false), "405");
        assert_eq!(outcome(CONFIG, "HEAD", "/about", false), "200 /index.html");
    }

    #[test]
    fn the_api_is_the_back_ends_where_there_is_one() {
        for path in ["/api", "/api/", "/api/notes/1"] {
            assert_eq!(outcome(CONFIG, "POST", path, true), "Api", "{path}");
            assert_eq!(outcome(CONFIG, "GET", path, false), "404 /404.html", "{path}");
        }
        assert_eq!(outcome(CONFIG, "GET", "/apiary", true), "200 /index.html");
        assert_eq!(outcome(CONFIG, "GET", "/api/secret", true), "302 /login");
        assert_eq!(outcome(CONFIG, "PUT", "/api/secret", true), "Api");
    }

    #[test]
    fn without_a_configuration_files_are_files_and_the_rest_is_404() {
        assert_eq!(outcome("{}", "GET", "/", false), "200 /index.html");
        assert_eq!(outcome("{}", "GET", "/profile", false), "200 /profile/index.html");
        assert_eq!(outcome("{}", "GET", "/absent", false), "404");
        let protected = r#"{"routes":[{"route":"/*","allowedRoles":["authenticated"]}]}"#;
        assert_eq!(outcome(protected, "GET", "/", false), "401");
        assert_eq!(outcome(protected, "GET", "/api/x", true), "401");
    }

    #[test]
    fn only_the_allowed_networks_and_gateways_get_in() {
        let (_dir, content) = content(&[
            ("index.html", b"home"),
            (
                "staticwebapp.config.json",
                br#"{"networking":{"allowedIpRanges":["10.0.0.0/8","AzureFrontDoor.Backend"]},
                    "forwardingGateway":{"requiredHeaders":{"X-Azure-FDID":"one"}},
                    "responseOverrides":{"403":{"rewrite":"/index.html"}}}"#,
            ),
        ]);
        let mut headers = HeaderMap::new();
        let asks = |peer, headers: &HeaderMap| {
            let asked = Asked { method: &Method::GET, path: "/", headers, peer };
            !matches!(decide(&content, false, asked).outcome, Outcome::Forbidden)
        };
        assert!(!asks(from("10.1.2.3"), &headers));
        headers.insert("x-azure-fdid", HeaderValue::from_static("ONE"));
        assert!(!asks(from("10.1.2.3"), &headers), "values are compared with regard to case");
        headers.insert("x-azure-fdid", HeaderValue::from_static("one"));
        assert!(asks(from("10.1.2.3"), &headers));
        assert!(!asks(from("127.0.0.1"), &headers));
    }
}
