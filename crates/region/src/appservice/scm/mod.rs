//! A slot's SCM (Kudu): deployments, logs and WebJobs at `{site}.scm.azurewebsites.net`.
//!
//! <https://github.com/projectkudu/kudu/wiki/REST-API>

mod command;
mod deployments;
mod logs;
mod settings;
mod upload;
mod webjobs;

use std::sync::{Arc, Weak};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use lazuli_gateway::{Body, BoxError, Peer, Service, empty, full};
use serde_json::{Value, json};

use super::{AppService, Denied, access, site::SlotKey};

/// The SCM of one slot.
pub struct Scm {
    pub(super) app: Weak<AppService>,
    pub(super) slot: SlotKey,
}

impl Service for Scm {
    fn call(
        self: Arc<Self>,
        request: Request<hyper::body::Incoming>,
        peer: Peer,
    ) -> BoxFuture<'static, Response<Body>> {
        Box::pin(async move {
            match self.forbidden(&request, peer) {
                Some(refusal) => refusal,
                None => self.answer(request).await,
            }
        })
    }
}

/// An answer, or why there is none.
type Answer = Result<Response<Body>, Refused>;

/// A refusal in words.
#[derive(Debug)]
struct Refused {
    status: StatusCode,
    message: String,
}

impl Refused {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    fn not_found(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("{what} was not found."))
    }
}

/// A request being answered.
struct Call<B> {
    app: Arc<AppService>,
    slot: SlotKey,
    /// Who asks.
    who: String,
    query: Vec<(String, String)>,
    request: Request<B>,
}

impl<B> Call<B> {
    fn query(&self, name: &str) -> Option<&str> {
        self.query
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    fn flag(&self, name: &str) -> bool {
        self.query(name).is_some_and(|value| value.eq_ignore_ascii_case("true") || value == "1")
    }
}

impl Scm {
    /// The refusal of a client that the site's access restrictions keep out of its SCM.
    fn forbidden<B>(&self, request: &Request<B>, peer: Peer) -> Option<Response<Body>> {
        let record = self.app.upgrade()?.records.slot(&self.slot)?;
        if access::scm(&record).admits(peer, request.headers()) {
            return None;
        }
        let refusal =
            json!({ "Message": "Error 403 - Forbidden: the web app has blocked your access." });
        let mut response = json_with(StatusCode::FORBIDDEN, &refusal);
        if let Ok(address) = HeaderValue::from_str(&peer.addr.ip().to_string()) {
            response.headers_mut().insert("x-ms-forbidden-ip", address);
        }
        Some(response)
    }

    /// Answers one request.
    pub(super) async fn answer<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin,
        B::Error: Into<BoxError>,
    {
        let answered = match self.app.upgrade() {
            Some(app) => self.route(app, request).await,
            None => Err(Refused::new(StatusCode::SERVICE_UNAVAILABLE, "The region is stopping.")),
        };
        answered.unwrap_or_else(|refused| {
            let mut response = json_with(refused.status, &json!({ "Message": refused.message }));
            if refused.status == StatusCode::UNAUTHORIZED {
                let challenge = HeaderValue::from_static(
                    "Bearer authorization_uri=\"https://login.microsoftonline.com/\"",
                );
                response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
            }
            response
        })
    }

    async fn route<B>(&self, app: Arc<AppService>, request: Request<B>) -> Answer
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin,
        B::Error: Into<BoxError>,
    {
        let who = self.who(&app, &request)?;
        let method = request.method().clone();
        let path = request.uri().path().trim_matches('/').to_owned();
        let segments: Vec<String> = path.split('/').map(decode).collect();
        let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
        let query = request.uri().query().map(read_query).unwrap_or_default();
        let call = Call { app, slot: self.slot.clone(), who, query, request };
        let lower: Vec<String> = parts.iter().map(|part| part.to_ascii_lowercase()).collect();
        let route: Vec<&str> = lower.iter().map(String::as_str).collect();
        match (&method, route.as_slice()) {
            (&Method::GET | &Method::HEAD, [""]) => Ok(text(StatusCode::OK, "Kudu\n")),
            (&Method::POST | &Method::PUT, ["api", "publish"]) => upload::publish(call).await,
            (&Method::POST | &Method::PUT, ["api", "zipdeploy"]) => upload::zip_deploy(call).await,
            (&Method::GET, ["api", "deployments"]) => Ok(deployments::list(&call)),
            (&Method::GET, ["api", "deployments", _]) => deployments::get(&call, parts[2]),
            (&Method::GET, ["api", "deployments", _, "log"]) => {
                deployments::log(&call, parts[2], None)
            }
            (&Method::GET, ["api", "deployments", _, "log", _]) => {
                deployments::log(&call, parts[2], Some(parts[4]))
            }
            (&Method::POST, ["api", "command"]) => command::run(call).await,
            (&Method::GET, ["appservicetunnel", "tunnel.ashx"])
                if call.query("GetStatus").is_some() =>
            {
                Ok(command::tunnel_status(&call))
            }
            (&Method::GET, ["api", "isdeploying"]) => Ok(deployments::is_deploying(&call)),
            (&Method::GET, ["api", "logstream", ..] | ["logstream", ..]) => logs::stream(&call),
            (&Method::GET, ["api", "logs", "docker"]) => logs::list(&call),
            (&Method::GET, ["api", "logs", "docker", "zip"] | ["dump"] | ["api", "dump"]) => {
                logs::zip(&call).await
            }
            (&Method::GET, ["api", "vfs", "logfiles", _]) => logs::file(&call, parts[3]),
            (&Method::GET, ["api", "settings"]) => Ok(settings::list(&call)),
            (&Method::GET, ["api", "settings", _]) => settings::get(&call, parts[2]),
            (&Method::GET, ["api", "environment"]) => Ok(settings::environment()),
            (&Method::GET, ["api", "webjobs"]) => Ok(webjobs::all(&call)),
            (&Method::GET, ["api", "triggeredwebjobs"]) => Ok(webjobs::triggered(&call)),
            (&Method::GET, ["api", "triggeredwebjobs", _]) => {
                webjobs::one_triggered(&call, parts[2])
            }
            (&Method::POST, ["api", "triggeredwebjobs", _, "run"]) => {
                webjobs::run(&call, parts[2]).await
            }
            (&Method::GET, ["api", "triggeredwebjobs", _, "history"]) => {
                webjobs::history(&call, parts[2])
            }
            (&Method::GET, ["api", "triggeredwebjobs", _, "history", _]) => {
                webjobs::one_run(&call, parts[2], parts[4])
            }
            (&Method::GET, ["api", "triggeredwebjobs", _, "history", _, "output"]) => {
                webjobs::output(&call, parts[2], parts[4])
            }
            (&Method::GET, ["api", "continuouswebjobs"]) => Ok(webjobs::continuous(&call)),
            (&Method::GET, ["api", "continuouswebjobs", _]) => {
                webjobs::one_continuous(&call, parts[2])
            }
            (&Method::POST, ["api", "continuouswebjobs", _, "start"]) => {
                webjobs::set(&call, parts[2], true).await
            }
            (&Method::POST, ["api", "continuouswebjobs", _, "stop"]) => {
                webjobs::set(&call, parts[2], false).await
            }
            _ => Err(Refused::new(
                StatusCode::NOT_FOUND,
                format!("No HTTP resource was found that matches {method} /{path}."),
            )),
        }
    }

    /// Who asks: a bearer token of somebody who may publish, or the publishing user where basic
    /// authentication is allowed.
    fn who<B>(&self, app: &AppService, request: &Request<B>) -> Result<String, Refused> {
        let unauthorized = || {
            Refused::new(
                StatusCode::UNAUTHORIZED,
                "401 Unauthorized: sign in with a token or with publishing credentials.",
            )
        };
        let value = request
            .headers()
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .ok_or_else(unauthorized)?;
        let (scheme, rest) = value.split_once(' ').ok_or_else(unauthorized)?;
        let rest = rest.trim();
        if scheme.eq_ignore_ascii_case("bearer") {
            return app.authorize.bearer(rest, &self.slot).map_err(|denied| match denied {
                Denied::Unauthenticated => unauthorized(),
                Denied::Forbidden => Refused::new(
                    StatusCode::FORBIDDEN,
                    "403 Forbidden: the token's principal may not do Microsoft.Web/sites/publish/Action on this site.",
                ),
            });
        }
        if scheme.eq_ignore_ascii_case("basic") {
            let record = app.records.slot(&self.slot).ok_or_else(unauthorized)?;
            let allowed = record.basic_auth.get("scm").copied().unwrap_or(true);
            let given = STANDARD.decode(rest).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            let (user, password) = given
                .as_deref()
                .and_then(|given| given.split_once(':'))
                .ok_or_else(unauthorized)?;
            let known = user.eq_ignore_ascii_case(&super::settings::publishing_user(&self.slot))
                && same(password.as_bytes(), record.publishing_password.as_bytes());
            return match (allowed, known) {
                (true, true) => Ok(user.to_owned()),
                (false, true) => Err(Refused::new(
                    StatusCode::UNAUTHORIZED,
                    "401 Unauthorized: basic authentication is disabled for this site (basicPublishingCredentialsPolicies/scm).",
                )),
                _ => Err(unauthorized()),
            };
        }
        Err(unauthorized())
    }
}

/// Compares without telling by its time where the difference is.
fn same(a: &[u8], b: &[u8]) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(a, b).is_ok()
}

fn decode(segment: &str) -> String {
    percent_encoding::percent_decode_str(segment).decode_utf8_lossy().into_owned()
}

fn read_query(query: &str) -> Vec<(String, String)> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(&name.replace('+', " ")), decode(&value.replace('+', " ")))
        })
        .collect()
}

fn json_with(status: StatusCode, value: &Value) -> Response<Body> {
    let mut response = Response::new(full(value.to_string()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    response
}

fn json_ok(value: &Value) -> Response<Body> {
    json_with(StatusCode::OK, value)
}

fn text(status: StatusCode, text: impl Into<String>) -> Response<Body> {
    let mut response = Response::new(full(text.into()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

fn status_only(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(empty());
    *response.status_mut() = status;
    response
}
