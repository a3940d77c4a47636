//! Header fields: what is taken from a message when it is passed on, and what App Service adds.

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    sync::Arc,
};

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{
        CONNECTION, COOKIE, EXPECT, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING,
        UPGRADE,
    },
};

use crate::Site;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

const HOP_BY_HOP: [HeaderName; 7] = [
    KEEP_ALIVE,
    PROXY_CONNECTION,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Takes out the fields that are `unwanted`. Looking through the few that are there is cheaper than
/// asking for each that should not be.
fn strip(headers: &mut HeaderMap, unwanted: impl Fn(&HeaderName) -> bool) {
    while let Some(name) = headers.keys().find(|name| unwanted(name)).cloned() {
        headers.remove(name);
    }
}

/// Takes out what concerns one connection only (RFC 9110, 7.6.1).
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|token| token.trim().parse().ok())
            // A client must not be able to take out what routing and framing rest on.
            .filter(|name| *name != http::header::HOST && *name != http::header::CONTENT_LENGTH)
            .collect();
        for name in named {
            headers.remove(name);
        }
        headers.remove(CONNECTION);
    }
    strip(headers, |name| HOP_BY_HOP.contains(name));
}

const X_ARR_LOG_ID: HeaderName = HeaderName::from_static("x-arr-log-id");
const CLIENT_IP: HeaderName = HeaderName::from_static("client-ip");
const X_CLIENT_IP: HeaderName = HeaderName::from_static("x-client-ip");
const X_CLIENT_PORT: HeaderName = HeaderName::from_static("x-client-port");
const DISGUISED_HOST: HeaderName = HeaderName::from_static("disguised-host");
const X_SITE_DEPLOYMENT_ID: HeaderName = HeaderName::from_static("x-site-deployment-id");
const WAS_DEFAULT_HOSTNAME: HeaderName = HeaderName::from_static("was-default-hostname");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_APPSERVICE_PROTO: HeaderName = HeaderName::from_static("x-appservice-proto");
const X_ARR_SSL: HeaderName = HeaderName::from_static("x-arr-ssl");
const X_FORWARDED_TLSVERSION: HeaderName = HeaderName::from_static("x-forwarded-tlsversion");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_ORIGINAL_URL: HeaderName = HeaderName::from_static("x-original-url");
const X_WAWS_UNENCODED_URL: HeaderName = HeaderName::from_static("x-waws-unencoded-url");
const MAX_FORWARDS: HeaderName = HeaderName::from_static("max-forwards");

/// What the front end alone may say. A client that sends one of these is not believed.
const OURS: [HeaderName; 14] = [
    X_ARR_LOG_ID,
    CLIENT_IP,
    X_CLIENT_IP,
    X_CLIENT_PORT,
    DISGUISED_HOST,
    X_SITE_DEPLOYMENT_ID,
    WAS_DEFAULT_HOSTNAME,
    X_FORWARDED_PROTO,
    X_APPSERVICE_PROTO,
    X_ARR_SSL,
    X_FORWARDED_TLSVERSION,
    X_ORIGINAL_URL,
    X_WAWS_UNENCODED_URL,
    MAX_FORWARDS,
];

/// What a connection adds to each of its requests, made once.
pub(crate) struct ClientHeaders {
    address: HeaderValue,
    ip: HeaderValue,
    port: HeaderValue,
    tls: Option<(HeaderValue, HeaderValue)>,
    /// The site that the connection last asked for: its deployment and its host.
    site: RefCell<Option<(Arc<Site>, HeaderValue, HeaderValue)>>,
}

fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

impl ClientHeaders {
    /// `tls` is the value of `X-Forwarded-TlsVersion` and of `X-ARR-SSL`.
    pub(crate) fn new(client: SocketAddr, tls: Option<(&str, &str)>) -> Self {
        Self {
            address: value(&client.to_string()),
            ip: value(&client.ip().to_string()),
            port: HeaderValue::from(client.port()),
            tls: tls.map(|(version, arr)| (value(version), value(arr))),
            site: RefCell::default(),
        }
    }

    fn site(&self, site: &Arc<Site>) -> (HeaderValue, HeaderValue) {
        let mut last = self.site.borrow_mut();
        match &*last {
            Some((known, deployment, host)) if Arc::ptr_eq(known, site) => {
                (deployment.clone(), host.clone())
            }
            _ => {
                let (deployment, host) = (value(&site.deployment_id), value(&site.host));
                *last = Some((site.clone(), deployment.clone(), host.clone()));
                (deployment, host)
            }
        }
    }
}

/// Makes a client's header fields those that an instance gets.
///
/// App Service's own fields are as observed in public request dumps of Linux web apps; only
/// `X-Forwarded-For`, `X-Forwarded-Proto` and `X-ARR-SSL` are documented
/// (learn.microsoft.com/azure/app-service/overview-inbound-outbound-ips and
/// …/configure-language-python#detect-https-session). Over plain HTTP there is no
/// `X-Forwarded-Proto`.
pub(crate) fn prepare_request(
    headers: &mut HeaderMap,
    site: &Arc<Site>,
    host: &HeaderValue,
    url: &str,
    client: &ClientHeaders,
) {
    strip_hop_by_hop(headers);
    // The gateway answers `100 Continue` itself, once the instance reads the body.
    headers.remove(EXPECT);
    join_cookies(headers);
    strip(headers, is_ours);
    let value =
        |text: &str| HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""));
    headers.insert(http::header::HOST, host.clone());
    headers.insert(MAX_FORWARDS, HeaderValue::from_static("10"));
    headers.insert(X_ARR_LOG_ID, log_id());
    headers.insert(CLIENT_IP, client.address.clone());
    headers.insert(X_CLIENT_IP, client.ip.clone());
    headers.insert(X_CLIENT_PORT, client.port.clone());
    headers.insert(DISGUISED_HOST, host.clone());
    let (deployment, default_host) = client.site(site);
    headers.insert(X_SITE_DEPLOYMENT_ID, deployment);
    headers.insert(WAS_DEFAULT_HOSTNAME, default_host);
    if let Some((version, arr)) = &client.tls {
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("https"));
        headers.insert(X_APPSERVICE_PROTO, HeaderValue::from_static("https"));
        headers.insert(X_ARR_SSL, arr.clone());
        headers.insert(X_FORWARDED_TLSVERSION, version.clone());
    }
    let forwarded = if headers.contains_key(&X_FORWARDED_FOR) {
        // The client's claim comes first, who really connected last.
        let mut chain = Vec::new();
        for claim in headers.get_all(&X_FORWARDED_FOR) {
            chain.extend_from_slice(claim.as_bytes());
            chain.extend_from_slice(b", ");
        }
        chain.extend_from_slice(client.address.as_bytes());
        HeaderValue::from_bytes(&chain).unwrap_or_else(|_| client.address.clone())
    } else {
        client.address.clone()
    };
    headers.insert(X_FORWARDED_FOR, forwarded);
    let url = value(url);
    headers.insert(X_ORIGINAL_URL, url.clone());
    headers.insert(X_WAWS_UNENCODED_URL, url);
}

/// HTTP/2 may split a cookie over several fields; HTTP/1.1 has one (RFC 9113, 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut cookies = headers.get_all(COOKIE).iter();
    if cookies.next().is_none() || cookies.next().is_none() {
        return;
    }
    let joined = headers
        .get_all(COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect::<Vec<_>>()
        .join(&b"; "[..]);
    if let Ok(joined) = HeaderValue::from_bytes(&joined) {
        headers.insert(COOKIE, joined);
    }
}

/// Whether a field is the front end's to set, or one that a CGI-like environment cannot tell from such
/// a field: there `X_Forwarded_Proto` and `X-Forwarded-Proto` are both `HTTP_X_FORWARDED_PROTO`.
fn is_ours(name: &HeaderName) -> bool {
    if OURS.contains(name) {
        return true;
    }
    name.as_str().contains('_') && {
        let dashed = name.as_str().replace('_', "-");
        dashed == X_FORWARDED_FOR.as_str() || OURS.iter().any(|ours| ours.as_str() == dashed)
    }
}

/// The value of a cookie that a client sent.
pub(crate) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value)
}

thread_local! {
    static RANDOM: Cell<u64> = {
        let mut seed = [0; 8];
        // Without entropy the correlation ids of threads may coincide; nothing else rests on them.
        let _ = aws_lc_rs::rand::fill(&mut seed);
        Cell::new(u64::from_ne_bytes(seed))
    };
}

/// SplitMix64: for correlation ids and for spreading traffic, never for secrets.
pub(crate) fn random() -> u64 {
    RANDOM.with(|state| {
        let next = state.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        state.set(next);
        let mut z = next;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}

/// A random version-4 UUID.
fn log_id() -> HeaderValue {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let random = u128::from(random()) << 64 | u128::from(random());
    let mut id = *b"........-....-4...-....-............";
    for (place, digit) in id.iter_mut().filter(|digit| **digit == b'.').enumerate() {
        let nibble = (random >> (4 * place)) as usize & 0xf;
        // The first after the version and its three digits is the variant: 8 to b.
        *digit = DIGITS[if place == 15 { nibble & 3 | 8 } else { nibble }];
    }
    HeaderValue::from_bytes(&id).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .fold(HeaderMap::new(), |mut map, (name, value)| {
                map.append(name, value);
                map
            })
    }

    fn prepared(pairs: &[(&'static str, &'static str)], tls: bool) -> HeaderMap {
        let mut headers = map(pairs);
        let client = ClientHeaders::new(
            ([192, 0, 2, 7], 4711).into(),
            tls.then_some(("1.3", "256|128|CN=a|CN=b")),
        );
        let site = Arc::new(Site::new("notes", Some("staging")));
        let host = HeaderValue::from_static("notes-staging.azurewebsites.net");
        prepare_request(&mut headers, &site, &host, "/a?b", &client);
        headers
    }

    #[test]
    fn what_a_client_says_in_the_front_ends_name_is_not_believed() {
        let headers = prepared(
            &[
                ("x-forwarded-proto", "https"),
                ("x_forwarded_proto", "https"),
                ("x_forwarded-for", "9.9.9.9"),
                ("client-ip", "1.1.1.1:1"),
                ("x-arr-ssl", "yes"),
                ("was-default-hostname", "evil"),
                ("under_score", "kept"),
            ],
            false,
        );
        assert_eq!(headers["client-ip"], "192.0.2.7:4711");
        assert_eq!(headers["was-default-hostname"], "notes-staging.azurewebsites.net");
        assert_eq!(headers["under_score"], "kept");
        for name in ["x-forwarded-proto", "x_forwarded_proto", "x_forwarded-for", "x-arr-ssl"] {
            assert!(!headers.contains_key(name), "{name}");
        }
    }

    #[test]
    fn the_forwarding_chain_ends_in_who_connected() {
        let headers =
            prepared(&[("x-forwarded-for", "9.9.9.9"), ("x-forwarded-for", "8.8.8.8")], true);
        assert_eq!(headers["x-forwarded-for"], "9.9.9.9, 8.8.8.8, 192.0.2.7:4711");
        assert_eq!(headers.get_all("x-forwarded-for").iter().count(), 1);
        assert_eq!(headers["x-forwarded-proto"], "https");
        assert_eq!(headers["x-original-url"], "/a?b");
    }

    #[test]
    fn fields_of_one_connection_are_not_passed_on() {
        let headers = prepared(
            &[
                ("connection", "keep-alive, X-Secret, host, content-length"),
                ("x-secret", "1"),
                ("keep-alive", "timeout=5"),
                ("transfer-encoding", "chunked"),
                ("te", "trailers"),
                ("upgrade", "h2c"),
                ("proxy-authorization", "Basic eDp5"),
                ("content-length", "3"),
                ("accept", "*/*"),
            ],
            true,
        );
        for name in [
            "connection",
            "x-secret",
            "keep-alive",
            "transfer-encoding",
            "te",
            "upgrade",
            "proxy-authorization",
        ] {
            assert!(!headers.contains_key(name), "{name}");
        }
        assert_eq!(headers["accept"], "*/*");
        assert_eq!(headers["content-length"], "3");
        assert_eq!(headers["host"], "notes-staging.azurewebsites.net");
    }

    #[test]
    fn split_cookies_are_joined_and_found() {
        let headers = prepared(&[("cookie", "a=1"), ("cookie", "b=2; c=3")], true);
        assert_eq!(headers["cookie"], "a=1; b=2; c=3");
        assert_eq!(cookie(&headers, "c"), Some("3"));
        assert_eq!(cookie(&headers, "d"), None);
    }

    #[test]
    fn correlation_ids_are_uuids_and_differ() {
        let (a, b) = (log_id(), log_id());
        assert_ne!(a, b);
        let a = a.to_str().expect("text");
        assert_eq!(a.len(), 36);
        assert_eq!(&a[14..15], "4");
        assert!(matches!(&a[19..20], "8" | "9" | "a" | "b"), "{a}");
    }
}
