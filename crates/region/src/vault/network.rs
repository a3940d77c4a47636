//! From where a vault's data plane can be reached. Inside the region's network it always can: that is
//! where its private endpoint is.
//!
//! <https://learn.microsoft.com/azure/key-vault/general/network-security>

use std::net::IpAddr;

use serde_json::Value;

use crate::store::Resource;

/// Whether a request from outside the region's network, from `address`, may pass; otherwise Azure's
/// inner code and message.
pub(super) fn admit(vault: &Resource, address: IpAddr) -> Result<(), (&'static str, String)> {
    let disabled = vault
        .text("/properties/publicNetworkAccess")
        .is_some_and(|access| access.eq_ignore_ascii_case("disabled"));
    if disabled {
        return Err((
            "ForbiddenByConnection",
            "Public network access is disabled and request is not from a trusted service nor via an \
             approved private link."
                .to_owned(),
        ));
    }
    let denies = vault
        .text("/properties/networkAcls/defaultAction")
        .is_some_and(|action| action.eq_ignore_ascii_case("deny"));
    let rules = vault.body.pointer("/properties/networkAcls/ipRules").and_then(Value::as_array);
    let named = rules
        .into_iter()
        .flatten()
        .filter_map(|rule| rule["value"].as_str())
        .any(|rule| covers(rule, address));
    if !denies || named {
        return Ok(());
    }
    Err((
        "ForbiddenByFirewall",
        format!(
            "Client address is not authorized and caller is not a trusted service.\r\nClient address: \
             {address}"
        ),
    ))
}

/// Whether a rule, an address or a range in CIDR notation, covers an address.
fn covers(rule: &str, address: IpAddr) -> bool {
    let (network, bits) = match rule.split_once('/') {
        Some((network, bits)) => (network, bits.parse::<u32>().ok()),
        None => (rule, Some(if address.is_ipv4() { 32 } else { 128 })),
    };
    let Some(bits) = bits else { return false };
    match (network.parse::<IpAddr>(), address) {
        (Ok(IpAddr::V4(network)), IpAddr::V4(address)) if bits <= 32 => {
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            u32::from(network) & mask == u32::from(address) & mask
        }
        (Ok(IpAddr::V6(network)), IpAddr::V6(address)) if bits <= 128 => {
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            u128::from(network) & mask == u128::from(address) & mask
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::covers;

    #[test]
    fn a_rule_is_an_address_or_a_range() {
        for (rule, address, expected) in [
            ("127.0.0.1", "127.0.0.1", true),
            ("127.0.0.1", "127.0.0.2", false),
            ("203.0.113.0/24", "203.0.113.200", true),
            ("203.0.113.0/24", "203.0.114.1", false),
            ("0.0.0.0/0", "198.51.100.1", true),
            ("2001:db8::/32", "2001:db8::7", true),
            ("203.0.113.0/33", "203.0.113.1", false),
            ("nonsense", "203.0.113.1", false),
            ("2001:db8::/32", "203.0.113.1", false),
        ] {
            assert_eq!(covers(rule, address.parse().expect("an address")), expected, "{rule}");
        }
    }
}
