//! One environment of a static site, as it answers: `https://{host}.{n}.azurestaticapps.net`.
//!
//! What a deployment, a link or a change of plan alters is a new [`Front`] in a new table: a request sees
//! one state and no mixture.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header,
    request::Parts,
};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use lazuli_gateway::{Body, Origin, Pass, Peer, Service, empty, full};
use serde_json::json;

use super::{
    content::Content,
    file::send,
    routing::{Asked, Decision, Outcome, decide},
};
use crate::http as plain;

/// How long an exchange with the back end may take
/// (<https://learn.microsoft.com/azure/static-web-apps/apis-overview#constraints>), and what a visitor is told
/// when there was no answer, as recorded in public issues (Azure/static-web-apps 801).
const API_WITHIN: Duration = Duration::from_secs(45);
const API_FAILURE: (StatusCode, &str) = (StatusCode::INTERNAL_SERVER_ERROR, "Backend call failure");
/// How much of a body that is of no use here is read, so that the client hears the answer.
const USELESS: usize = 32 << 20;

/// What every answer that is not the back end's has unless the site says otherwise, as recorded from Azure's
/// answers in public.
const PLATFORM: [(HeaderName, &str); 5] = [
    (header::STRICT_TRANSPORT_SECURITY, "max-age=10886400; includeSubDomains; preload"),
    (header::REFERRER_POLICY, "same-origin"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_XSS_PROTECTION, "1; mode=block"),
    (header::X_DNS_PREFETCH_CONTROL, "off"),
];

/// One environment.
#[derive(Debug)]
pub struct Front {
    /// Its own host name.
    pub host: Arc<str>,
    /// The site's default host name: what a linked back end knows it by.
    pub site: Arc<str>,
    /// What was deployed, if anything.
    pub content: Option<Arc<Content>>,
    /// The linked back end's host name.
    pub backend: Option<Arc<str>>,
    /// `publicNetworkAccess: Disabled`.
    pub private: bool,
}

impl Service for Front {
    fn call(
        self: Arc<Self>,
        request: Request<Incoming>,
        peer: Peer,
    ) -> BoxFuture<'static, Response<Body>> {
        Box::pin(async move {
            let (head, body) = request.into_parts();
            read_over(body).await;
            self.answer(&head, peer).await
        })
    }

    fn pass(&self, head: &Parts, peer: Peer) -> Option<Pass> {
        let (content, backend) = (self.content.as_ref()?, self.backend.as_ref()?);
        let path = decoded(head.uri.path())?;
        let decision = self.decision(content, &path, head, peer)?;
        if !matches!(decision.outcome, Outcome::Api) {
            return None;
        }
        Some(Pass {
            host: backend.clone(),
            from: self.site.clone(),
            headers: self.for_backend(head),
            within: API_WITHIN,
            failure: API_FAILURE,
        })
    }

    fn answers_plain_http_locally(&self) -> bool {
        true
    }
}

/// Reads a body that nobody wants: closed in the middle of it, a client would not hear the answer.
async fn read_over(mut body: Incoming) {
    let mut left = USELESS;
    let reading = async {
        while let Some(Ok(frame)) = body.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            if left == 0 {
                return;
            }
        }
    };
    // What is not there by then is not waited for.
    let _ = tokio::time::timeout(API_WITHIN, reading).await;
}

/// A path, decoded; none where it is no text or could be read in two ways.
fn decoded(path: &str) -> Option<String> {
    let text = percent_encoding::percent_decode_str(path).decode_utf8().ok()?;
    let plain = text.starts_with('/')
        && !text.contains(['\\', '\0'])
        && !text.split('/').any(|part| matches!(part, ".." | "."));
    plain.then(|| text.into_owned())
}

impl Front {
    fn decision<'a>(
        &self,
        content: &'a Content,
        path: &str,
        head: &Parts,
        peer: Peer,
    ) -> Option<Decision<'a>> {
        if self.private && peer.origin == Origin::Machine {
            return None;
        }
        let asked = Asked { method: &head.method, path, headers: &head.headers, peer };
        Some(decide(content, self.backend.is_some(), asked))
    }

    /// What the back end is told besides the client's own fields, and what a client may not say. A visitor
    /// who has not signed in has no `x-ms-client-principal`
    /// (<https://learn.microsoft.com/azure/static-web-apps/user-information>).
    fn for_backend(&self, head: &Parts) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        let url = format!("https://{}{path}", self.host);
        let nothing = HeaderValue::from_static("");
        for name in head.headers.keys() {
            let dashed = name.as_str().replace('_', "-");
            if dashed.starts_with("x-ms-client-principal")
                || matches!(dashed.as_str(), "x-ms-original-url" | "x-ms-auth-token")
            {
                headers.insert(name.clone(), nothing.clone());
            }
        }
        let url = HeaderValue::from_str(&url).unwrap_or(nothing);
        headers.insert("x-ms-original-url", url);
        headers
    }

    async fn answer(&self, head: &Parts, peer: Peer) -> Response<Body> {
        if self.private && peer.origin == Origin::Machine {
            return page(
                StatusCode::FORBIDDEN,
                "This static web app takes no requests from the public network.",
            );
        }
        let Some(content) = &self.content else { return waiting(&head.method) };
        let Some(path) = decoded(head.uri.path()) else {
            return page(StatusCode::BAD_REQUEST, "The address is not valid.");
        };
        let Some(decision) = self.decision(content, &path, head, peer) else {
            return page(StatusCode::FORBIDDEN, "");
        };
        let mut response = match decision.outcome {
            Outcome::File(name, file, status) => {
                match send(content, name, file, status, head).await {
                    Ok(response) => response,
                    Err(error) => {
                        tracing::error!(host = %self.host, name, %error, "a static site's file cannot be read");
                        return page(StatusCode::INTERNAL_SERVER_ERROR, "The file cannot be read.");
                    }
                }
            }
            Outcome::Redirect(to, status) => self.redirect(content, &to, status, head, peer),
            Outcome::Moved(to) => {
                // The same page: what was asked of it goes along.
                let query = head.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
                let to = format!("{}{query}", escaped(&to));
                self.redirect(content, &to, StatusCode::MOVED_PERMANENTLY, head, peer)
            }
            Outcome::Me => {
                let body = json!({ "clientPrincipal": null });
                let mut response = plain::json(StatusCode::OK, &body).map(full);
                response.headers_mut().insert(header::CACHE_CONTROL, no_store());
                response
            }
            Outcome::Logout => self.redirect(content, "/", StatusCode::FOUND, head, peer),
            Outcome::Login => page(
                StatusCode::NOT_IMPLEMENTED,
                "Nobody signs in to a static web app of a Lazuli region: it has no GitHub and no Microsoft Entra users. Every visitor is anonymous.",
            ),
            // What is asked here and not passed on came between an unlinking and the next table.
            Outcome::Api => page(API_FAILURE.0, API_FAILURE.1),
            // `responseOverrides` say nothing of this one (Azure/static-web-apps 1659).
            Outcome::Forbidden => {
                return page(StatusCode::FORBIDDEN, "Access to this static web app is restricted.");
            }
            Outcome::Status(status) => {
                let mut response = page(status, explanation(status));
                if status == StatusCode::METHOD_NOT_ALLOWED {
                    let allowed = HeaderValue::from_static("GET, HEAD");
                    response.headers_mut().insert(header::ALLOW, allowed);
                }
                response
            }
        };
        let headers = response.headers_mut();
        for (name, value) in PLATFORM {
            if peer.tls || name != header::STRICT_TRANSPORT_SECURITY {
                headers.entry(name).or_insert(HeaderValue::from_static(value));
            }
        }
        for (name, value) in
            content.config.headers.iter().chain(decision.headers.into_iter().flatten())
        {
            match value {
                Some(value) => headers.insert(name, value.clone()),
                None => headers.remove(name),
            };
        }
        if head.method == Method::HEAD {
            *response.body_mut() = empty();
        }
        response
    }

    /// A redirect: within the site to the host that the client knows it by.
    fn redirect(
        &self,
        content: &Content,
        to: &str,
        status: StatusCode,
        head: &Parts,
        peer: Peer,
    ) -> Response<Body> {
        let location = if to.starts_with('/') {
            let said = |name: &HeaderName| head.headers.get(name)?.to_str().ok();
            let forwarded = said(&HeaderName::from_static("x-forwarded-host"))
                .map(str::to_ascii_lowercase)
                .filter(|host| content.config.forwarded_hosts.contains(host));
            let host = forwarded
                .or_else(|| head.uri.authority().map(ToString::to_string))
                .or_else(|| said(&header::HOST).map(str::to_owned))
                .unwrap_or_else(|| self.host.to_string());
            let scheme = if peer.tls { "https" } else { "http" };
            format!("{scheme}://{host}{}", encoded(to))
        } else {
            to.to_owned()
        };
        let mut response = Response::new(empty());
        *response.status_mut() = status;
        if let Ok(location) = HeaderValue::from_str(&location) {
            response.headers_mut().insert(header::LOCATION, location);
        }
        response
    }
}

/// What cannot stand in an address as it is.
const NOT_PLAIN: &percent_encoding::AsciiSet =
    &percent_encoding::CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>');

/// An address of the configuration's, in which what is escaped already stays so.
fn encoded(path: &str) -> String {
    percent_encoding::utf8_percent_encode(path, NOT_PLAIN).to_string()
}

/// A decoded path as it stands in an address.
fn escaped(path: &str) -> String {
    const NOT_PATH: &percent_encoding::AsciiSet = &NOT_PLAIN.add(b'%').add(b'?').add(b'#');
    percent_encoding::utf8_percent_encode(path, NOT_PATH).to_string()
}

fn no_store() -> HeaderValue {
    HeaderValue::from_static("no-store")
}

fn explanation(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => "This page needs somebody who has signed in.",
        StatusCode::NOT_FOUND => "This static web app has no such file.",
        StatusCode::METHOD_NOT_ALLOWED => "Files are read, and nothing else.",
        _ => "",
    }
}

/// A page of ours.
fn page(status: StatusCode, text: &str) -> Response<Body> {
    let title = format!("{}: {}", status.as_u16(), status.canonical_reason().unwrap_or_default());
    let html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Azure Static Web Apps - {title}</title></head>\n<body><h1>{title}</h1><p>{text}</p></body></html>\n"
    );
    let mut response = plain::text(status, "text/html", html).map(full);
    response.headers_mut().insert(header::CACHE_CONTROL, no_store());
    response
}

/// What a site shows before anything was deployed.
fn waiting(method: &Method) -> Response<Body> {
    let mut response =
        page(StatusCode::OK, "Your Azure Static Web App is live and waiting for your content.");
    if method == Method::HEAD {
        *response.body_mut() = empty();
    }
    response
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::staticweb::{content::tests::content, file::CACHE};

    const CONFIG: &str = r#"{
        "routes": [
            {"route": "/assets/*", "headers": {"Cache-Control": "public, max-age=31536000, immutable"}},
            {"route": "/old", "redirect": "/new"},
            {"route": "/plain.txt", "headers": {"X-Content-Type-Options": ""}}
        ],
        "globalHeaders": {"X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer"},
        "forwardingGateway": {"allowedForwardedHosts": ["www.example.org"]},
        "mimeTypes": {".txt": "text/plain; charset=utf-8"}
    }"#;

    struct Site {
        _dir: tempfile::TempDir,
        front: Front,
    }

    fn site() -> Site {
        let big = vec![7; 200_000];
        let (dir, content) = content(&[
            ("index.html", b"home"),
            ("plain.txt", b"0123456789"),
            ("assets/big.js", &big),
            ("about/index.html", b"about"),
            ("staticwebapp.config.json", CONFIG.as_bytes()),
        ]);
        let front = Front {
            host: "calm.5.azurestaticapps.net".into(),
            site: "calm.5.azurestaticapps.net".into(),
            content: Some(Arc::new(content)),
            backend: Some("api.azurewebsites.net".into()),
            private: false,
        };
        Site { _dir: dir, front }
    }

    fn peer(origin: Origin) -> Peer {
        Peer { addr: (IpAddr::from([127, 0, 0, 1]), 4711).into(), origin, tls: true }
    }

    fn head(method: &str, path: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "calm.5.azurestaticapps.net");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).expect("a request").into_parts().0
    }

    async fn ask(
        site: &Site,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> (Parts2, Bytes) {
        let response = site.front.answer(&head(method, path, headers), peer(Origin::Machine)).await;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.expect("a body").to_bytes();
        (Parts2 { status: parts.status.as_u16(), headers: parts.headers }, body)
    }

    struct Parts2 {
        status: u16,
        headers: HeaderMap,
    }

    impl Parts2 {
        fn get(&self, name: &str) -> &str {
            self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
        }
    }

    #[tokio::test]
    async fn a_file_has_its_type_its_tag_and_the_sites_headers() {
        let site = site();
        let (head, body) = ask(&site, "GET", "/", &[]).await;
        assert_eq!((head.status, &body[..]), (200, &b"home"[..]));
        assert_eq!(head.get("content-type"), "text/html");
        assert_eq!(head.get("x-frame-options"), "DENY");
        assert_eq!(head.get("referrer-policy"), "no-referrer", "the site's own word wins");
        assert_eq!(head.get("x-content-type-options"), "nosniff");
        assert_eq!(head.get("cache-control"), CACHE);
        let tag = head.get("etag").to_owned();
        let (head, body) =
            ask(&site, "GET", "/", &[("if-none-match", &format!("\"x\", W/{tag}"))]).await;
        assert_eq!((head.status, body.len()), (304, 0));
        assert_eq!(head.get("etag"), tag);
        let (head, _) = ask(&site, "GET", "/", &[("if-none-match", "\"x\"")]).await;
        assert_eq!(head.status, 200);
        let (head, body) = ask(&site, "HEAD", "/assets/big.js", &[]).await;
        assert_eq!((head.status, head.get("content-length"), body.len()), (200, "200000", 0));
        assert_eq!(head.get("cache-control"), "public, max-age=31536000, immutable");
        let (head, body) = ask(&site, "GET", "/assets/big.js", &[]).await;
        assert_eq!((head.status, body.len()), (200, 200_000));
        let (head, _) = ask(&site, "GET", "/plain.txt", &[]).await;
        assert_eq!(head.get("content-type"), "text/plain; charset=utf-8");
        assert_eq!(head.get("x-content-type-options"), "", "an empty value takes a field out");
    }

    #[tokio::test]
    async fn a_part_of_a_file_is_sent_when_it_is_asked_for() {
        let site = site();
        for (asked, status, wanted, shown) in [
            ("bytes=2-4", 206, "234", "bytes 2-4/10"),
            ("bytes=7-", 206, "789", "bytes 7-9/10"),
            ("bytes=-2", 206, "89", "bytes 8-9/10"),
            ("bytes=8-99", 206, "89", "bytes 8-9/10"),
            ("bytes=10-", 416, "", "bytes */10"),
            ("bytes=5-2", 200, "0123456789", ""),
            ("bytes=0-1,3-4", 200, "0123456789", ""),
            ("lines=1-2", 200, "0123456789", ""),
        ] {
            let (head, body) = ask(&site, "GET", "/plain.txt", &[("range", asked)]).await;
            assert_eq!((head.status, &body[..]), (status, wanted.as_bytes()), "{asked}");
            assert_eq!(head.get("content-range"), shown, "{asked}");
        }
    }

    #[tokio::test]
    async fn a_redirect_leads_to_the_host_that_the_visitor_knows() {
        let site = site();
        let (head, _) = ask(&site, "GET", "/old", &[]).await;
        assert_eq!(
            (head.status, head.get("location")),
            (302, "https://calm.5.azurestaticapps.net/new")
        );
        let (head, _) = ask(&site, "GET", "/old", &[("x-forwarded-host", "WWW.example.org")]).await;
        assert_eq!(head.get("location"), "https://www.example.org/new");
        let (head, _) = ask(&site, "GET", "/old", &[("x-forwarded-host", "evil.org")]).await;
        assert_eq!(head.get("location"), "https://calm.5.azurestaticapps.net/new");
    }

    #[tokio::test]
    async fn a_page_at_another_address_keeps_what_was_asked_of_it() {
        let (_dir, content) = content(&[("contact.html", b"contact"), ("50% off?.html", b"sale")]);
        let mut site = site();
        site.front.content = Some(Arc::new(content));
        let (head, _) = ask(&site, "GET", "/contact/?a=b", &[]).await;
        assert_eq!(head.status, 301);
        assert_eq!(head.get("location"), "https://calm.5.azurestaticapps.net/contact?a=b");
        let (head, _) = ask(&site, "GET", "/50%25%20off%3f/", &[]).await;
        assert_eq!(head.get("location"), "https://calm.5.azurestaticapps.net/50%25%20off%3F");
        let (head, body) = ask(&site, "HEAD", "/contact", &[("range", "bytes=0-1")]).await;
        assert_eq!((head.status, head.get("content-length"), body.len()), (200, "7", 0));
    }

    #[tokio::test]
    async fn addresses_that_leave_the_site_are_no_addresses() {
        let site = site();
        for path in
            ["/../manifest.json", "/%2e%2e/manifest.json", "/a%5c..%5cb", "/%00", "/%ff", "/a/./b"]
        {
            assert_eq!(ask(&site, "GET", path, &[]).await.0.status, 400, "{path}");
        }
        assert_eq!(ask(&site, "GET", "//evil.org/", &[]).await.0.status, 404);
        assert_eq!(ask(&site, "GET", "/staticwebapp.config.json", &[]).await.0.status, 404);
        assert_eq!(ask(&site, "GET", "/staticwebapp%2econfig.json", &[]).await.0.status, 404);
    }

    #[tokio::test]
    async fn visitors_are_anonymous() {
        let site = site();
        let (head, body) = ask(&site, "GET", "/.auth/me", &[]).await;
        assert_eq!((head.status, &body[..]), (200, &br#"{"clientPrincipal":null}"#[..]));
        assert_eq!(ask(&site, "GET", "/.auth/login/aad", &[]).await.0.status, 501);
        assert_eq!(ask(&site, "GET", "/.auth/logout", &[]).await.0.status, 302);
    }

    #[tokio::test]
    async fn the_api_goes_to_the_back_end_and_nothing_else_does() {
        let site = site();
        let spoof =
            [("x-ms-client-principal", "e30="), ("x_ms_original_url", "x"), ("x-other", "kept")];
        let pass = site.front.pass(&head("POST", "/api/a%20b?c=d", &spoof), peer(Origin::Machine));
        let pass = pass.expect("passed on");
        assert_eq!(
            (&*pass.host, &*pass.from),
            ("api.azurewebsites.net", "calm.5.azurestaticapps.net")
        );
        assert_eq!(
            pass.headers["x-ms-original-url"],
            "https://calm.5.azurestaticapps.net/api/a%20b?c=d"
        );
        assert_eq!(pass.headers["x-ms-client-principal"], "");
        assert_eq!(pass.headers["x_ms_original_url"], "");
        assert!(!pass.headers.contains_key("x-other"));
        for path in ["/", "/apis", "/api/%2e%2e/x"] {
            assert!(
                site.front.pass(&head("GET", path, &[]), peer(Origin::Machine)).is_none(),
                "{path}"
            );
        }
    }

    #[tokio::test]
    async fn without_public_access_the_machine_is_kept_out() {
        let mut site = site();
        site.front.private = true;
        assert_eq!(ask(&site, "GET", "/", &[]).await.0.status, 403);
        assert!(site.front.pass(&head("GET", "/api/x", &[]), peer(Origin::Machine)).is_none());
        let inside = site.front.answer(&head("GET", "/", &[]), peer(Origin::Inside)).await;
        assert_eq!(inside.status(), 200);
    }

    #[tokio::test]
    async fn before_the_first_deployment_a_page_says_so() {
        let mut site = site();
        site.front.content = None;
        let (head, body) = ask(&site, "GET", "/whatever", &[]).await;
        assert_eq!(head.status, 200);
        assert!(String::from_utf8_lossy(&body).contains("waiting for your content"));
        assert!(
            site.front.pass(&self::head("GET", "/api/x", &[]), peer(Origin::Machine)).is_none()
        );
    }
}
