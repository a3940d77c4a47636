//! What the front end says itself.

use http::{
    HeaderValue, Response, StatusCode,
    header::{CONTENT_TYPE, LOCATION, WWW_AUTHENTICATE},
};
use hyper::ext::ReasonPhrase;

use crate::response_body::ResponseBody;

/// An HTML page with App Service's heading and our explanation.
fn page(status: StatusCode, heading: &str, text: &str) -> Response<ResponseBody> {
    let html = format!(
        "<!DOCTYPE html>\n<html><head><meta charset=\"utf-8\"><title>{heading}</title></head>\n\
         <body><h1>{heading}</h1><p>{text}</p></body></html>\n"
    );
    answer(status, "text/html; charset=utf-8", html)
}

fn answer(status: StatusCode, kind: &'static str, text: String) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::text(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// Plain text, for clients that show it as it is.
pub(crate) fn plain(status: StatusCode, text: impl Into<String>) -> Response<ResponseBody> {
    let mut text = text.into();
    text.push('\n');
    answer(status, "text/plain; charset=utf-8", text)
}

/// The answer of a stopped web app.
pub(crate) fn stopped() -> Response<ResponseBody> {
    page(
        StatusCode::FORBIDDEN,
        "Error 403 - This web app is stopped.",
        "The web app you have attempted to reach is currently stopped and does not accept any \
         requests. Please try to reload the page or visit it again soon.",
    )
}

/// The answer to a client that the site's access restrictions keep out
/// (learn.microsoft.com/azure/app-service/overview-access-restrictions). Reason and `x-ms-forbidden-ip` are
/// as recorded in public issues.
pub(crate) fn ip_forbidden(client: std::net::IpAddr) -> Response<ResponseBody> {
    let mut response = page(
        StatusCode::FORBIDDEN,
        "Error 403 - Forbidden",
        "The web app you have attempted to reach has blocked your access.",
    );
    if let Ok(address) = HeaderValue::from_str(&client.to_string()) {
        response.headers_mut().insert("x-ms-forbidden-ip", address);
    }
    if let Ok(reason) = ReasonPhrase::try_from(b"Ip Forbidden".as_slice()) {
        response.extensions_mut().insert(reason);
    }
    response
}

/// The answer of App Service authentication to somebody it does not know.
pub(crate) fn unauthenticated(status: StatusCode, host: &str) -> Response<ResponseBody> {
    let mut response = plain(status, "You do not have permission to view this directory or page.");
    if status == StatusCode::UNAUTHORIZED
        && let Ok(challenge) = HeaderValue::from_str(&format!("Bearer realm=\"{host}\""))
    {
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    }
    response
}

/// The answer for a name under `azurewebsites.net` that no site has.
pub(crate) fn no_site(host: &str) -> Response<ResponseBody> {
    let host = escape(host);
    page(
        StatusCode::NOT_FOUND,
        "404 Web Site not found.",
        &format!("This region has no site that answers for {host}."),
    )
}

pub(crate) fn unavailable(why: &str) -> Response<ResponseBody> {
    page(StatusCode::SERVICE_UNAVAILABLE, "503 Service Unavailable", why)
}

pub(crate) fn bad_gateway(why: &str) -> Response<ResponseBody> {
    page(StatusCode::BAD_GATEWAY, "502 Bad Gateway", why)
}

pub(crate) fn gateway_timeout() -> Response<ResponseBody> {
    page(
        StatusCode::GATEWAY_TIMEOUT,
        "504 Gateway Timeout",
        "The web app did not respond within the time that App Service waits for one.",
    )
}

/// `301 Moved Permanently`, as `httpsOnly` answers
/// (learn.microsoft.com/azure/app-service/configure-ssl-bindings#enforce-https).
pub(crate) fn moved(to: &str) -> Response<ResponseBody> {
    let Ok(location) = HeaderValue::from_str(to) else {
        return plain(StatusCode::BAD_REQUEST, "the address cannot be redirected");
    };
    let mut response = Response::new(ResponseBody::empty());
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    response.headers_mut().insert(LOCATION, location);
    response
}

/// A refused `CONNECT`. Most clients show the status line only, so the reason stands there as well.
pub(crate) fn refused(status: StatusCode, reason: &str, text: String) -> Response<ResponseBody> {
    let mut response = plain(status, text);
    if let Ok(reason) = ReasonPhrase::try_from(reason.as_bytes()) {
        response.extensions_mut().insert(reason);
    }
    response
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
