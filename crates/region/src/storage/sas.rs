//! Service shared access signatures for reading: what an account's key lets the bearer of an address do with
//! one blob, or the blobs of one container
//! (<https://learn.microsoft.com/rest/api/storageservices/create-service-sas>).

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::StatusCode;
use jiff::{Timestamp, civil::Date, tz::TimeZone};
use lazuli_gateway::Peer;

use super::error::Refusal;

/// From this version on the encryption scope is signed.
const WITH_SCOPE: &str = "2020-12-06";
/// From this version on the snapshot's time and the kind of resource are signed.
const OLDEST: &str = "2018-11-09";

/// A signature in an address.
pub struct Sas<'a> {
    query: &'a [(String, String)],
}

/// What the bearer wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// To read a blob.
    Read,
    /// To list a container.
    List,
    /// Anything else.
    Other,
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

/// The response headers that a signature may set, and the parameters that do.
const OVERRIDES: [(&str, &str); 5] = [
    ("rscc", "cache-control"),
    ("rscd", "content-disposition"),
    ("rsce", "content-encoding"),
    ("rscl", "content-language"),
    ("rsct", "content-type"),
];

impl<'a> Sas<'a> {
    /// The signature in a query, if there is one.
    pub fn of(query: &'a [(String, String)]) -> Option<Self> {
        let sas = Self { query };
        (!sas.get("sig").is_empty()).then_some(sas)
    }

    fn get(&self, name: &str) -> &'a str {
        self.query.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value.as_str())
    }

    /// The response headers that it sets.
    pub fn headers(&self) -> impl Iterator<Item = (&'static str, &'a str)> {
        let set = OVERRIDES.map(|(parameter, header)| (header, self.get(parameter)));
        set.into_iter().filter(|(_, value)| !value.is_empty())
    }

    /// What is signed.
    fn text(&self, account: &str, container: &str, blob: &str) -> String {
        let version = self.get("sv");
        let resource = match self.get("sr") {
            "c" => format!("/blob/{account}/{container}"),
            _ => format!("/blob/{account}/{container}/{blob}"),
        };
        let mut lines = vec![
            self.get("sp"),
            self.get("st"),
            self.get("se"),
            &resource,
            self.get("si"),
            self.get("sip"),
            self.get("spr"),
            version,
            self.get("sr"),
            "",
        ];
        if version >= WITH_SCOPE {
            lines.push(self.get("ses"));
        }
        lines.extend(OVERRIDES.map(|(parameter, _)| self.get(parameter)));
        lines.join("\n")
    }

    /// Whether it lets `peer` do what is wanted with a blob (or a container, where `blob` is empty).
    pub fn admit(
        &self,
        (account, container, blob): (&str, &str, &str),
        wanted: Wanted,
        keys: &[&str],
        peer: Peer,
    ) -> Result<(), Refusal> {
        if !self.get("skoid").is_empty() || !self.get("ss").is_empty() {
            return Err(refused(
                "This region takes service shared access signatures made with an account's key: no user delegation and no account signatures.",
            ));
        }
        if !self.get("si").is_empty() {
            return Err(refused("This region has no stored access policies."));
        }
        if self.get("sv") < OLDEST {
            return Err(refused(format!("The signed version must be {OLDEST} or later.")));
        }
        let named = match self.get("sr") {
            "b" => !blob.is_empty(),
            "c" => true,
            other => return Err(refused(format!("The signed resource '{other}' is not b or c."))),
        };
        let text = self.text(account, container, blob);
        let tag = STANDARD.decode(self.get("sig")).unwrap_or_default();
        let fits = keys.iter().any(|key| {
            STANDARD.decode(key).is_ok_and(|key| {
                let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
                hmac::verify(&key, text.as_bytes(), &tag).is_ok()
            })
        });
        if !fits || !named {
            return Err(refused(format!(
                "Signature did not match. String to sign used was {text}"
            )));
        }
        self.in_time()?;
        if self.get("spr") == "https" && !peer.tls {
            return Err(refused("The signed protocol is https."));
        }
        if !self.from(peer) {
            return Err(Refusal::new(
                StatusCode::FORBIDDEN,
                "AuthorizationSourceIPMismatch",
                "This request is not authorized to perform this operation using this source IP.",
            ));
        }
        let permissions = self.get("sp");
        let allowed = match wanted {
            Wanted::Read => permissions.contains('r'),
            Wanted::List => permissions.contains('l') && self.get("sr") == "c",
            Wanted::Other => false,
        };
        if allowed {
            return Ok(());
        }
        Err(Refusal::new(
            StatusCode::FORBIDDEN,
            "AuthorizationPermissionMismatch",
            "This request is not authorized to perform this operation using this permission.",
        ))
    }

    fn in_time(&self) -> Result<(), Refusal> {
        let now = Timestamp::now();
        let expiry =
            moment(self.get("se")).ok_or_else(|| refused("se is mandatory. Cannot be empty"))?;
        if expiry <= now {
            return Err(refused(format!(
                "Signature not valid in the specified time frame: Expiry [{expiry}] - Current [{now}]"
            )));
        }
        match self.get("st") {
            "" => Ok(()),
            start => match moment(start) {
                Some(start) if start <= now => Ok(()),
                _ => Err(refused(format!(
                    "Signature not valid in the specified time frame: Start [{start}] - Current [{now}]"
                ))),
            },
        }
    }

    fn from(&self, peer: Peer) -> bool {
        let address = peer.addr.ip();
        match self.get("sip") {
            "" => true,
            range => match range.split_once('-') {
                Some((first, last)) => match (first.parse(), last.parse()) {
                    (Ok(first), Ok(last)) => {
                        let range: std::ops::RangeInclusive<std::net::IpAddr> = first..=last;
                        range.contains(&address)
                    }
                    _ => false,
                },
                None => range.parse().is_ok_and(|one: std::net::IpAddr| one == address),
            },
        }
    }
}

/// A time in one of the forms that signatures take: a date, or with hours and minutes, in UTC.
fn moment(text: &str) -> Option<Timestamp> {
    text.parse().ok().or_else(|| {
        let date: Date = text.parse().ok()?;
        Some(date.to_zoned(TimeZone::UTC).ok()?.timestamp())
    })
}

#[cfg(test)]
mod tests {
    use lazuli_gateway::Origin;

    use super::*;

    const KEY: [u8; 64] = [7; 64];

    fn peer(address: &str) -> Peer {
        let ip: std::net::IpAddr = address.parse().expect("an address");
        Peer { addr: (ip, 1).into(), origin: Origin::Machine, tls: true }
    }

    /// Signs what is given and asks for `blob`.
    fn ask(change: &[(&str, &str)], blob: &str, wanted: Wanted) -> Result<(), Refusal> {
        let mut query: Vec<(String, String)> = [
            ("sv", "2022-11-02"),
            ("sr", "b"),
            ("sp", "r"),
            ("se", "2099-01-01T00:00Z"),
            ("spr", "https"),
        ]
        .iter()
        .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
        .collect();
        for (name, value) in change {
            query.retain(|(n, _)| n != name);
            query.push(((*name).to_owned(), (*value).to_owned()));
        }
        let text = Sas { query: &query }.text("acc", "c", "b.zip");
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &KEY), text.as_bytes());
        query.push(("sig".into(), STANDARD.encode(tag)));
        let key = STANDARD.encode(KEY);
        Sas { query: &query }.admit(("acc", "c", blob), wanted, &[&key], peer("127.0.0.1"))
    }

    #[test]
    fn a_signature_lets_in_for_what_it_signs_and_nothing_else() {
        assert!(ask(&[], "b.zip", Wanted::Read).is_ok());
        assert!(
            ask(&[("sv", "2019-02-02")], "b.zip", Wanted::Read).is_ok(),
            "before there were scopes"
        );
        assert!(ask(&[("rsct", "text/plain")], "b.zip", Wanted::Read).is_ok());
        assert!(ask(&[], "other.zip", Wanted::Read).is_err());
        assert!(ask(&[], "b.zip", Wanted::Other).is_err());
        assert!(ask(&[("sr", "c")], "other.zip", Wanted::Read).is_ok());
        assert!(ask(&[("sr", "c")], "", Wanted::List).is_err());
        assert!(ask(&[("sr", "c"), ("sp", "rl")], "", Wanted::List).is_ok());
        assert!(ask(&[("sp", "l")], "b.zip", Wanted::Read).is_err());
        assert!(ask(&[("se", "2020-01-01T00:00:00Z")], "b.zip", Wanted::Read).is_err());
        assert!(ask(&[("st", "2098-01-01")], "b.zip", Wanted::Read).is_err());
        assert!(ask(&[("st", "2020-01-01")], "b.zip", Wanted::Read).is_ok());
        assert!(ask(&[("se", "")], "b.zip", Wanted::Read).is_err());
        assert!(ask(&[("sip", "127.0.0.0-127.0.0.9")], "b.zip", Wanted::Read).is_ok());
        assert!(ask(&[("sip", "10.0.0.1")], "b.zip", Wanted::Read).is_err());
        assert!(ask(&[("si", "policy")], "b.zip", Wanted::Read).is_err());
        assert!(ask(&[("skoid", "x")], "b.zip", Wanted::Read).is_err());
    }

    #[test]
    fn a_signature_of_another_key_is_none() {
        let query: Vec<(String, String)> = vec![
            ("sv".into(), "2022-11-02".into()),
            ("sr".into(), "b".into()),
            ("sp".into(), "r".into()),
            ("se".into(), "2099-01-01T00:00Z".into()),
            ("sig".into(), STANDARD.encode([0; 32])),
        ];
        let key = STANDARD.encode(KEY);
        let sas = Sas::of(&query).expect("a signature");
        assert!(sas.admit(("acc", "c", "b"), Wanted::Read, &[&key], peer("127.0.0.1")).is_err());
    }
}
