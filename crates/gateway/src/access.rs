//! Who may reach a site at all: its network rules, and whether it serves only what came through the
//! static site that it is linked to.

use std::net::IpAddr;

use http::HeaderMap;

use crate::{Origin, Peer};

/// Where requests may come from
/// (<https://learn.microsoft.com/azure/app-service/overview-access-restrictions>). The default lets
/// everybody in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// `publicNetworkAccess: Disabled`: the region's own network alone, where private endpoints are.
    pub private: bool,
    /// `ipSecurityRestrictions`, by priority: the first that fits decides.
    pub rules: Vec<Rule>,
    /// What becomes of a client that no rule fits.
    pub otherwise_denied: bool,
}

/// One of `ipSecurityRestrictions`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Whom it is about.
    pub from: Source,
    /// What a request must say besides, each field one of these values: names in lower case.
    pub headers: Vec<(String, Vec<String>)>,
    /// `action`.
    pub allows: bool,
}

/// Whom a rule is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// `Any`.
    Anybody,
    /// An address or a range.
    Network(Network),
    /// A service tag or a subnet: nobody who asks a region comes from one.
    Nobody,
}

/// A range of addresses in CIDR notation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl std::str::FromStr for Network {
    type Err = String;

    /// `10.0.0.0/24`, or an address alone.
    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = || format!("'{text}' is not an address or a range in CIDR notation");
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| refuse())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => most,
            Some(bits) if bits.bytes().all(|byte| byte.is_ascii_digit()) => {
                bits.parse().ok().filter(|bits| *bits <= most).ok_or_else(refuse)?
            }
            Some(_) => return Err(refuse()),
        };
        Ok(Self { address, bits })
    }
}

impl Network {
    /// Whether `address` is in it.
    pub fn holds(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0);
                u32::from(network) & mask == u32::from(address) & mask
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.bits)).unwrap_or(0);
                u128::from(network) & mask == u128::from(address) & mask
            }
            _ => false,
        }
    }
}

impl Rule {
    fn fits(&self, address: IpAddr, headers: &HeaderMap) -> bool {
        let from = match &self.from {
            Source::Anybody => true,
            Source::Network(network) => network.holds(address),
            Source::Nobody => false,
        };
        from && self.headers.iter().all(|(name, values)| {
            let said = headers.get(name).and_then(|value| value.to_str().ok());
            said.is_some_and(|said| values.iter().any(|value| value.eq_ignore_ascii_case(said)))
        })
    }
}

impl Access {
    /// Whether a client may ask.
    pub fn admits(&self, peer: Peer, headers: &HeaderMap) -> bool {
        if self.private {
            // What comes through a private endpoint is not restricted any further.
            return peer.origin == Origin::Inside;
        }
        let decided = self.rules.iter().find(|rule| rule.fits(peer.addr.ip(), headers));
        decided.map_or(!self.otherwise_denied, |rule| rule.allows)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn peer(address: &str, origin: Origin) -> Peer {
        Peer {
            addr: (address.parse::<IpAddr>().expect("an address"), 4711).into(),
            origin,
            tls: true,
        }
    }

    fn rule(from: &str, allows: bool) -> Rule {
        let from = Source::Network(from.parse().expect("a network"));
        Rule { from, headers: Vec::new(), allows }
    }

    #[test]
    fn a_range_holds_its_addresses_and_no_others() {
        let holds = |network: &str, address: &str| {
            network.parse::<Network>().expect(network).holds(address.parse().expect(address))
        };
        assert!(holds("10.0.0.0/24", "10.0.0.255") && !holds("10.0.0.0/24", "10.0.1.0"));
        assert!(holds("0.0.0.0/0", "8.8.8.8") && !holds("0.0.0.0/0", "::1"));
        assert!(holds("127.0.0.1", "127.0.0.1") && !holds("127.0.0.1/32", "127.0.0.2"));
        assert!(holds("2001:db8::/32", "2001:db8::1") && !holds("2001:db8::/32", "2001:db9::1"));
        assert!(holds("127.0.0.1", "::ffff:127.0.0.1"), "an address mapped into IPv6 is the same");
        for wrong in ["", "10.0.0.0/33", "10.0.0/8", "a/8", "10.0.0.0/", "10.0.0.0/+8", "::/129"] {
            assert!(wrong.parse::<Network>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_first_rule_that_fits_decides_and_the_rest_is_the_default() {
        let none = HeaderMap::new();
        let access = Access {
            private: false,
            rules: vec![rule("127.0.0.1", false), rule("127.0.0.0/8", true)],
            otherwise_denied: true,
        };
        assert!(!access.admits(peer("127.0.0.1", Origin::Machine), &none));
        assert!(access.admits(peer("127.0.0.2", Origin::Machine), &none));
        assert!(!access.admits(peer("10.0.1.4", Origin::Inside), &none));
        assert!(Access::default().admits(peer("127.0.0.1", Origin::Machine), &none));
    }

    #[test]
    fn a_rule_with_header_fields_wants_them_too() {
        let mut only = rule("0.0.0.0/0", true);
        only.headers = vec![("x-azure-fdid".into(), vec!["one".into(), "two".into()])];
        let access = Access { rules: vec![only], otherwise_denied: true, ..Access::default() };
        let mut headers = HeaderMap::new();
        let from = peer("127.0.0.1", Origin::Machine);
        assert!(!access.admits(from, &headers));
        headers.insert("x-azure-fdid", HeaderValue::from_static("three"));
        assert!(!access.admits(from, &headers));
        headers.insert("x-azure-fdid", HeaderValue::from_static("TWO"));
        assert!(access.admits(from, &headers));
    }

    #[test]
    fn without_public_access_only_the_regions_own_network_gets_in() {
        let access = Access { private: true, ..Access::default() };
        assert!(!access.admits(peer("127.0.0.1", Origin::Machine), &HeaderMap::new()));
        assert!(access.admits(peer("10.0.1.9", Origin::Inside), &HeaderMap::new()));
    }
}
