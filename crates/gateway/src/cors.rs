//! App Service's own answer to requests from other origins
//! (<https://learn.microsoft.com/azure/app-service/app-service-web-tutorial-rest-api#enable-cors>): what a site
//! allows is said by the platform, whatever the application says.

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode,
    header::{
        ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS,
        ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE,
        ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
    },
};

use crate::response_body::ResponseBody;

/// `siteConfig.cors`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cors {
    /// `allowedOrigins` in lower case; `*` is every one.
    pub origins: Vec<String>,
    /// `supportCredentials`.
    pub credentials: bool,
}

impl Cors {
    /// What is said to `origin` about itself.
    fn allowed(&self, origin: &HeaderValue) -> Option<HeaderValue> {
        let text = origin.to_str().ok()?;
        if self.origins.iter().any(|one| one == "*") {
            return Some(HeaderValue::from_static("*"));
        }
        self.origins.iter().any(|one| one.eq_ignore_ascii_case(text)).then(|| origin.clone())
    }

    fn say(&self, origin: &HeaderValue, headers: &mut HeaderMap) -> bool {
        headers.append(VARY, HeaderValue::from_name(ORIGIN));
        let Some(allowed) = self.allowed(origin) else { return false };
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        if self.credentials {
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        true
    }

    /// The answer to a preflight, which the application never sees.
    pub(crate) fn preflight<B>(&self, request: &Request<B>) -> Option<Response<ResponseBody>> {
        let asked = request.headers();
        let origin = asked.get(ORIGIN).filter(|_| request.method() == Method::OPTIONS)?;
        let method = asked.get(ACCESS_CONTROL_REQUEST_METHOD)?;
        let mut response = Response::new(ResponseBody::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let headers = response.headers_mut();
        if self.say(origin, headers) {
            headers.insert(ACCESS_CONTROL_ALLOW_METHODS, method.clone());
            if let Some(fields) = asked.get(ACCESS_CONTROL_REQUEST_HEADERS) {
                headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, fields.clone());
            }
            headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
        }
        Some(response)
    }

    /// Says in an application's answer what the platform allows.
    pub(crate) fn answer(&self, origin: &HeaderValue, headers: &mut HeaderMap) {
        const SAID: [HeaderName; 2] =
            [ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_ALLOW_CREDENTIALS];
        for name in SAID {
            headers.remove(name);
        }
        self.say(origin, headers);
    }
}
