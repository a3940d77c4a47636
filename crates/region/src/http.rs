//! What every HTTP service of the region does alike: take a body within a limit, find the bearer
//! token, answer JSON.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use lazuli_gateway::{Body, Peer, full};
use serde_json::Value;

/// The longest a client may take to send its body.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);

/// A service whose bodies are small enough to be read in whole.
pub trait Whole: Send + Sync + 'static {
    /// The largest request body, in bytes.
    fn limit(&self) -> usize;

    /// What a larger one is answered with.
    fn too_large(&self) -> Response<Bytes>;

    /// Answers one request.
    fn answer(
        self: Arc<Self>,
        request: Request<Bytes>,
        peer: Peer,
    ) -> BoxFuture<'static, Response<Bytes>>;
}

/// What is read on and let go when a body is too large: who is still sending hears no answer.
const LET_GO: usize = 32 << 20;

/// Reads the body, then asks the service.
pub fn call<S: Whole>(
    service: Arc<S>,
    request: Request<Incoming>,
    peer: Peer,
) -> BoxFuture<'static, Response<Body>> {
    Box::pin(async move {
        let (parts, body) = request.into_parts();
        let response = match tokio::time::timeout(BODY_TIMEOUT, read(body, service.limit())).await {
            Ok(Ok(body)) => service.answer(Request::from_parts(parts, body), peer).await,
            Ok(Err(ReadError::TooLarge)) => service.too_large(),
            Ok(Err(ReadError::Broken)) => status(StatusCode::BAD_REQUEST),
            Err(_) => status(StatusCode::REQUEST_TIMEOUT),
        };
        response.map(full)
    })
}

enum ReadError {
    TooLarge,
    Broken,
}

async fn read(mut body: Incoming, limit: usize) -> Result<Bytes, ReadError> {
    let mut out = BytesMut::new();
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| ReadError::Broken)?;
        if let Ok(data) = frame.into_data() {
            length += data.len();
            if length > limit + LET_GO {
                break;
            }
            if length > limit {
                out = BytesMut::new();
            } else {
                out.extend_from_slice(&data);
            }
        }
    }
    if length > limit { Err(ReadError::TooLarge) } else { Ok(out.freeze()) }
}

/// An answer without a body.
pub fn status(status: StatusCode) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = status;
    response
}

/// An answer in another format.
pub fn text(status: StatusCode, content_type: &'static str, text: String) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// A JSON answer.
pub fn json(status: StatusCode, body: &Value) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(serde_json::to_vec(body).unwrap_or_default()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

/// The token of `Authorization: Bearer …`.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    (scheme.eq_ignore_ascii_case("bearer") && !token.trim().is_empty()).then(|| token.trim())
}

/// The query's pairs, decoded.
pub fn query(request: &http::Uri) -> Vec<(String, String)> {
    form_urlencoded::parse(request.query().unwrap_or_default().as_bytes()).into_owned().collect()
}

/// The path's segments, decoded; None when one does not decode to text or hides a slash.
pub fn segments(uri: &http::Uri) -> Option<Vec<String>> {
    let path = uri.path().strip_prefix('/')?;
    let path = path.strip_suffix('/').unwrap_or(path);
    if path.is_empty() {
        return Some(Vec::new());
    }
    path.split('/')
        .map(|segment| {
            let text = percent_encoding::percent_decode_str(segment).decode_utf8().ok()?;
            (!text.contains(['/', '\0'])).then(|| text.into_owned())
        })
        .collect()
}
