//! Who may: shared keys, Entra tokens, and what anybody may read
//! (<https://learn.microsoft.com/rest/api/storageservices/authorize-requests-to-azure-storage>).

use std::fmt::Write as _;

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, Method, StatusCode, header};
use jiff::Timestamp;

use super::error::Refusal;

/// How far a request's date may be from now, in seconds.
const SKEW: i64 = 15 * 60;

/// What is signed: the request, taken apart.
pub struct Signed<'a> {
    /// The verb.
    pub method: &'a Method,
    /// The path as it stands in the request, encoded.
    pub path: &'a str,
    /// The query's pairs, decoded.
    pub query: &'a [(String, String)],
    /// The headers.
    pub headers: &'a HeaderMap,
}

fn refused(detail: impl Into<String>) -> Refusal {
    Refusal {
        detail: Some(detail.into()),
        ..Refusal::new(
            StatusCode::FORBIDDEN,
            "AuthenticationFailed",
            "Server failed to authenticate the request. Make sure the value of Authorization header is formed correctly including the signature.",
        )
    }
}

impl Signed<'_> {
    fn header(&self, name: impl header::AsHeaderName) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().trim()
    }

    /// The string that a shared key signs
    /// (<https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key>).
    pub fn string_to_sign(&self, account: &str) -> String {
        let length = match self.header(header::CONTENT_LENGTH) {
            "0" => "",
            length => length,
        };
        // A date in `x-ms-date` stands among the canonical headers.
        let date =
            if self.headers.contains_key("x-ms-date") { "" } else { self.header(header::DATE) };
        let mut text = format!("{}\n", self.method);
        for line in [
            self.header(header::CONTENT_ENCODING),
            self.header(header::CONTENT_LANGUAGE),
            length,
            self.header("content-md5"),
            self.header(header::CONTENT_TYPE),
            date,
            self.header(header::IF_MODIFIED_SINCE),
            self.header(header::IF_MATCH),
            self.header(header::IF_NONE_MATCH),
            self.header(header::IF_UNMODIFIED_SINCE),
            self.header(header::RANGE),
        ] {
            text.push_str(line);
            text.push('\n');
        }
        let mut own: Vec<(&str, String)> = Vec::new();
        for name in self.headers.keys().filter(|name| name.as_str().starts_with("x-ms-")) {
            let values: Vec<&str> =
                self.headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
            own.push((name.as_str(), values.join(",").trim().to_owned()));
        }
        own.sort();
        for (name, value) in own {
            let _ = writeln!(text, "{name}:{value}");
        }
        let _ = write!(text, "/{account}{}", self.path);
        let mut query: Vec<(String, &str)> =
            self.query.iter().map(|(n, v)| (n.to_ascii_lowercase(), v.as_str())).collect();
        query.sort();
        let mut last = "";
        for (name, value) in &query {
            if name == last {
                let _ = write!(text, ",{value}");
            } else {
                let _ = write!(text, "\n{name}:{value}");
            }
            last = name;
        }
        text
    }

    /// Whether `authorization` (`account:signature`) was made with one of the account's keys, not long
    /// ago.
    pub fn verify(&self, account: &str, authorization: &str, keys: &[&str]) -> Result<(), Refusal> {
        let date = match self.header("x-ms-date") {
            "" => self.header(header::DATE),
            date => date,
        };
        let date = jiff::fmt::rfc2822::parse(date)
            .map_err(|_| refused("The Date header in the request is incorrect."))?
            .timestamp();
        if Timestamp::now().duration_since(date).as_secs().abs() > SKEW {
            return Err(refused(format!(
                "Request date header too old: '{date}', or this clock and the client's differ."
            )));
        }
        let (name, signature) = authorization.trim().split_once(':').unwrap_or_default();
        if name != account {
            return Err(refused("The account name in the Authorization header is another's."));
        }
        let text = self.string_to_sign(account);
        let tag = STANDARD.decode(signature).unwrap_or_default();
        let fits = keys.iter().any(|key| {
            STANDARD.decode(key).is_ok_and(|key| {
                let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
                hmac::verify(&key, text.as_bytes(), &tag).is_ok()
            })
        });
        if fits {
            return Ok(());
        }
        Err(refused(format!(
            "The MAC signature found in the HTTP request is not the same as any computed signature. Server used following string to sign: '{text}'."
        )))
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    /// The example of Microsoft's page, with its own result.
    #[test]
    fn the_string_is_that_of_the_documentation() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("x-ms-date", "Fri, 26 Jun 2015 23:39:12 GMT"),
            ("x-ms-version", "2015-02-21"),
            ("content-length", "0"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let query = ["restype=container", "comp=metadata", "timeout=20"]
            .map(|pair| pair.split_once('=').expect("a pair"))
            .map(|(n, v)| (n.to_owned(), v.to_owned()));
        let signed =
            Signed { method: &Method::GET, path: "/mycontainer", query: &query, headers: &headers };
        assert_eq!(
            signed.string_to_sign("myaccount"),
            "GET\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:Fri, 26 Jun 2015 23:39:12 GMT\nx-ms-version:2015-02-21\n/myaccount/mycontainer\ncomp:metadata\nrestype:container\ntimeout:20"
        );
    }

    #[test]
    fn only_the_right_key_and_a_fresh_date_pass() {
        let key = STANDARD.encode([7_u8; 64]);
        let sign = |date: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("x-ms-date", HeaderValue::from_str(date).expect("a date"));
            let signed =
                Signed { method: &Method::GET, path: "/c/b", query: &[], headers: &headers };
            let secret = hmac::Key::new(hmac::HMAC_SHA256, &[7_u8; 64]);
            let text = signed.string_to_sign("acc");
            let tag = STANDARD.encode(hmac::sign(&secret, text.as_bytes()));
            let verify = |authorization: &str, key: &str| {
                signed.verify("acc", authorization, &[key]).is_ok()
            };
            let other = STANDARD.encode([8_u8; 64]);
            (
                verify(&format!("acc:{tag}"), &key),
                verify(&format!("acc:{tag}"), &other),
                verify(&format!("other:{tag}"), &key),
                verify("acc:", &key),
            )
        };
        let now = Timestamp::now().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        assert_eq!(sign(&now), (true, false, false, false));
        assert!(!sign("Fri, 26 Jun 2015 23:39:12 GMT").0, "an old request");
        assert!(!sign("yesterday").0);
    }
}
