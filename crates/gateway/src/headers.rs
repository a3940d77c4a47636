//! Header fields: what is taken from a message when it is passed on, and what App Service adds.

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    sync::Arc,
};

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{CONNECTION, CONTENT_LENGTH, COOKIE, HOST},
};

use crate::Site;

/// Whether a field concerns one connection only, whatever `Connection` names (RFC 9110, 7.6.1).
fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "te"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// What `Connection` names. A client must not be able to take out what routing and framing rest on.
fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|token| token.trim().parse().ok())
        .filter(|name| *name != HOST && *name != CONTENT_LENGTH)
        .collect()
}

/// Takes out what concerns one connection only.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    for name in named_by_connection(headers) {
        headers.remove(name);
    }
    // Looking through the few that are there is cheaper than asking for each that should not be.
    while let Some(name) = headers.keys().find(|name| is_hop_by_hop(name)).cloned() {
        headers.remove(name);
    }
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

/// Takes out what App Service authentication says of a user.
pub(crate) fn strip_principal(headers: &mut HeaderMap) {
    while let Some(name) = headers
        .keys()
        .find(|name| name.as_str().replace('_', "-").starts_with("x-ms-client-principal"))
    {
        let name = name.clone();
        headers.remove(name);
    }
}

/// Whether the front end alone may say this. A client that does is not believed.
fn is_ours(name: &str) -> bool {
    matches!(
        name,
        "x-arr-log-id"
            | "client-ip"
            | "x-client-ip"
            | "x-client-port"
            | "disguised-host"
            | "x-site-deployment-id"
            | "was-default-hostname"
            | "x-forwarded-proto"
            | "x-appservice-proto"
            | "x-arr-ssl"
            | "x-forwarded-tlsversion"
            | "x-original-url"
            | "x-waws-unencoded-url"
            | "max-forwards"
    )
}

/// A field that a CGI-like environment cannot tell from one of ours: there `X_Forwarded_Proto` and
/// `X-Forwarded-Proto` are both `HTTP_X_FORWARDED_PROTO`.
fn looks_like_ours(name: &str) -> bool {
    name.contains('_') && {
        let dashed = name.replace('_', "-");
        dashed == X_FORWARDED_FOR.as_str() || is_ours(&dashed)
    }
}

/// What a connection adds to each of its requests, made once.
pub(crate) struct ClientHeaders {
    address: HeaderValue,
    ip: HeaderValue,
    port: HeaderValue,
    tls: Option<(HeaderValue, HeaderValue)>,
    /// What is the same for every request to the site and host that the connection last asked for.
    /// Copying it costs a fraction of putting the fields together anew.
    last: RefCell<Option<Same>>,
}

struct Same {
    site: Arc<Site>,
    host: HeaderValue,
    headers: HeaderMap,
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
            last: RefCell::default(),
        }
    }

    /// The fields that every request of this client to `site` as `host` gets.
    fn same(&self, site: &Arc<Site>, host: &HeaderValue) -> HeaderMap {
        let mut last = self.last.borrow_mut();
        if let Some(same) = &*last
            && Arc::ptr_eq(&same.site, site)
            && same.host == *host
        {
            return same.headers.clone();
        }
        let mut headers = HeaderMap::with_capacity(24);
        headers.insert(HOST, host.clone());
        headers.insert(MAX_FORWARDS, HeaderValue::from_static("10"));
        headers.insert(CLIENT_IP, self.address.clone());
        headers.insert(X_CLIENT_IP, self.ip.clone());
        headers.insert(X_CLIENT_PORT, self.port.clone());
        headers.insert(DISGUISED_HOST, host.clone());
        headers.insert(X_SITE_DEPLOYMENT_ID, value(&site.deployment_id));
        headers.insert(WAS_DEFAULT_HOSTNAME, value(&site.host));
        if let Some((version, arr)) = &self.tls {
            headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("https"));
            headers.insert(X_APPSERVICE_PROTO, HeaderValue::from_static("https"));
            headers.insert(X_ARR_SSL, arr.clone());
            headers.insert(X_FORWARDED_TLSVERSION, version.clone());
        }
        headers.insert(X_FORWARDED_FOR, self.address.clone());
        *last = Some(Same { site: site.clone(), host: host.clone(), headers: headers.clone() });
        headers
    }
}

/// The header fields that an instance gets for a client's: `asked`, of which nothing is changed, so that
/// a request can be sent again.
///
/// App Service's own fields are as observed in public request dumps of Linux web apps; only
/// `X-Forwarded-For`, `X-Forwarded-Proto` and `X-ARR-SSL` are documented
/// (learn.microsoft.com/azure/app-service/overview-inbound-outbound-ips and
/// …/configure-language-python#detect-https-session). Over plain HTTP there is no
/// `X-Forwarded-Proto`.
pub(crate) fn for_instance(
    asked: &HeaderMap,
    site: &Arc<Site>,
    host: &HeaderValue,
    url: &str,
    log_id: HeaderValue,
    client: &ClientHeaders,
) -> HeaderMap {
    let mut headers = client.same(site, host);
    let named = named_by_connection(asked);
    for (name, value) in asked {
        match name.as_str() {
            // Said anew, joined, or extended below. `100 Continue` the gateway answers itself, once
            // the instance reads the body.
            "host" | "cookie" | "x-forwarded-for" | "expect" => {}
            text if is_ours(text) || is_hop_by_hop(name) || looks_like_ours(text) => {}
            _ if named.contains(name) => {}
            _ => {
                headers.append(name.clone(), value.clone());
            }
        }
    }
    if !named.contains(&COOKIE)
        && let Some(cookies) = joined(asked, &COOKIE, b"; ", None)
    {
        headers.insert(COOKIE, cookies);
    }
    // The client's claim comes first, who really connected last.
    if !named.contains(&X_FORWARDED_FOR)
        && let Some(chain) = joined(asked, &X_FORWARDED_FOR, b", ", Some(&client.address))
    {
        headers.insert(X_FORWARDED_FOR, chain);
    }
    headers.insert(X_ARR_LOG_ID, log_id);
    let url = value(url);
    headers.insert(X_ORIGINAL_URL, url.clone());
    headers.insert(X_WAWS_UNENCODED_URL, url);
    headers
}

/// The values of a field in one, with `last` behind them; `None` when there is none. HTTP/2 may split a
/// cookie over several fields where HTTP/1.1 has one (RFC 9113, 8.2.3).
fn joined(
    headers: &HeaderMap,
    name: &HeaderName,
    between: &[u8],
    last: Option<&HeaderValue>,
) -> Option<HeaderValue> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    let mut others = values.chain(last).peekable();
    if others.peek().is_none() {
        return Some(first.clone());
    }
    let mut text = first.as_bytes().to_vec();
    for value in others {
        text.extend_from_slice(between);
        text.extend_from_slice(value.as_bytes());
    }
    Some(HeaderValue::from_bytes(&text).unwrap_or_else(|_| first.clone()))
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
pub(crate) fn log_id() -> HeaderValue {
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
        let asked = map(pairs);
        let client = ClientHeaders::new(
            ([192, 0, 2, 7], 4711).into(),
            tls.then_some(("1.3", "256|128|CN=a|CN=b")),
        );
        let site = Arc::new(Site::new("notes", Some("staging")));
        let host = HeaderValue::from_static("notes-staging.azurewebsites.net");
        let first = for_instance(&asked, &site, &host, "/a?b", log_id(), &client);
        let mut again = for_instance(&asked, &site, &host, "/a?b", log_id(), &client);
        again.insert(X_ARR_LOG_ID, first[X_ARR_LOG_ID].clone());
        assert_eq!(first, again, "what is kept for the connection makes no difference");
        first
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
    fn what_is_added_is_what_a_client_may_not_say() {
        for name in prepared(&[], true).keys() {
            assert!(is_ours(name.as_str()) || *name == HOST || *name == X_FORWARDED_FOR, "{name}");
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
