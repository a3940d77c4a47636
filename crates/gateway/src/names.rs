//! Host names: which are Azure's, how `.localhost` stands for a site, and how a `Host` is read.

use std::{borrow::Cow, net::IpAddr};

/// The domains that the region answers for. The CA may issue for these and `localhost` alone, and
/// the proxy lets no connection through to any of them: a rehearsal never reaches the real Azure.
///
/// - `azure.com`: Resource Manager, PostgreSQL, Application Insights, Azure DevOps
/// - `azure.net`: Key Vault (`vault.azure.net`), Azure Managed Redis (`redis.azure.net`)
/// - `windows.net`: Storage, Redis (`redis.cache.windows.net`), the older Entra hosts
/// - `microsoftonline.com`, `login.microsoft.com`, `graph.microsoft.com`: Entra and Microsoft Graph
/// - `azurewebsites.net`, `azurestaticapps.net`: App Service and its SCM, Static Web Apps
/// - `loganalytics.io`: queries of Log Analytics
/// - `services.visualstudio.com`: the older Application Insights ingestion hosts
pub(crate) const AZURE_DOMAINS: [&str; 10] = [
    "azure.com",
    "azure.net",
    "windows.net",
    "microsoftonline.com",
    "login.microsoft.com",
    "graph.microsoft.com",
    "azurewebsites.net",
    "azurestaticapps.net",
    "loganalytics.io",
    "services.visualstudio.com",
];

/// The domain under which every site is also reachable by a browser that knows no proxy.
const LOCAL: &str = "localhost";

/// Whether `host` (lower case, without a trailing dot) is one of Azure's: no site may have it for its own.
pub fn is_azure(host: &str) -> bool {
    AZURE_DOMAINS.iter().any(|domain| is_within(host, domain))
}

/// Whether `host` (canonical) is `localhost` or below it.
pub(crate) fn is_local(host: &str) -> bool {
    is_within(host, LOCAL)
}

fn is_within(host: &str, domain: &str) -> bool {
    host.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// Whether `host` names the machine itself: an application inside the region must not reach the
/// machine's own loopback services through the proxy.
pub(crate) fn is_loopback(host: &str) -> bool {
    if is_local(host) {
        return true;
    }
    match host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        Ok(ip) => match ip.to_canonical() {
            IpAddr::V4(ip) => {
                ip.is_loopback() || ip.is_unspecified() || ip.is_link_local() || ip.is_private()
            }
            IpAddr::V6(ip) => {
                ip.is_loopback()
                    || ip.is_unspecified()
                    || ip.is_unicast_link_local()
                    || ip.is_unique_local()
            }
        },
        // What `inet_aton` reads as an address (`0x7f.1`, `2130706433`) has a last label of digits.
        Err(_) => host
            .rsplit('.')
            .next()
            .is_some_and(|label| label.starts_with(|c: char| c.is_ascii_digit())),
    }
}

/// Lower case, without a trailing dot.
pub(crate) fn canonical(host: &str) -> Cow<'_, str> {
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    }
}

/// The name under which the table knows `host` (canonical): `notes-staging.localhost` is
/// `notes-staging.azurewebsites.net`, `notes.scm.localhost` its SCM. A static site's name ends in a
/// number before the domain: `calm-hill-0a1b2c3d4.5.localhost`.
/// `login.localhost` is where people sign in.
pub(crate) fn table_name(host: &str) -> Cow<'_, str> {
    match host.strip_suffix(".localhost") {
        Some("login") => Cow::Borrowed("login.microsoftonline.com"),
        Some(site)
            if site.rsplit_once('.').is_some_and(|(_, last)| {
                !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit())
            }) =>
        {
            Cow::Owned(format!("{site}.azurestaticapps.net"))
        }
        Some(site) => Cow::Owned(format!("{site}.azurewebsites.net")),
        None => Cow::Borrowed(host),
    }
}

/// `host` and `port` of an authority; `None` when it is not one. Strict: what is not a host name, an
/// IPv4 address or a bracketed IPv6 address with at most one port is refused, so that nothing behind
/// can read it differently.
pub(crate) fn split_authority(authority: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = if authority.starts_with('[') {
        let end = authority.find(']')?;
        let host = &authority[..=end];
        host[1..end].parse::<std::net::Ipv6Addr>().ok()?;
        (host, &authority[end + 1..])
    } else {
        let end = authority.find(':').unwrap_or(authority.len());
        let host = &authority[..end];
        let plausible =
            host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
        if host.is_empty() || host.len() > 254 || !plausible {
            return None;
        }
        (host, &authority[end..])
    };
    match port.strip_prefix(':') {
        None if port.is_empty() => Some((host, None)),
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
            digits.parse().ok().map(|port| (host, Some(port)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn whatever_is_taken_for_an_authority_is_one_to_everybody(text in "[a-zA-Z0-9.:\\[\\]@/?# ,%_+-]{0,24}") {
            if let Some((host, port)) = split_authority(&text) {
                let parsed: http::uri::Authority = text.parse().expect("the http crate takes it too");
                prop_assert_eq!(parsed.host(), host);
                prop_assert_eq!(parsed.port_u16(), port);
            }
        }

        #[test]
        fn case_and_a_trailing_dot_make_no_difference(host in "[a-zA-Z]{1,8}(-[a-zA-Z]{1,8})?\\.azurewebsites\\.net") {
            let upper = format!("{}.", host.to_ascii_uppercase());
            prop_assert_eq!(canonical(&upper), canonical(&host));
            prop_assert!(is_azure(&canonical(&upper)));
            let alias = canonical(&upper).replace("azurewebsites.net", "localhost");
            prop_assert_eq!(table_name(&alias), canonical(&host));
        }
    }

    #[test]
    fn azure_is_told_from_what_looks_like_it() {
        for host in ["management.azure.com", "notes.azurewebsites.net", "a.b.windows.net"] {
            assert!(is_azure(host), "{host}");
        }
        for host in ["notazure.com", "azure.com.evil.org", "pypi.org", "packages.microsoft.com"] {
            assert!(!is_azure(host), "{host}");
        }
    }

    #[test]
    fn localhost_names_stand_for_sites() {
        assert_eq!(table_name("notes-staging.localhost"), "notes-staging.azurewebsites.net");
        assert_eq!(table_name("notes.scm.localhost"), "notes.scm.azurewebsites.net");
        assert_eq!(table_name("localhost"), "localhost");
        assert_eq!(table_name("login.localhost"), "login.microsoftonline.com");
        assert_eq!(table_name("calm-hill-0a.5.localhost"), "calm-hill-0a.5.azurestaticapps.net");
        assert_eq!(
            table_name("calm-hill-0a-dev.westeurope.5.localhost"),
            "calm-hill-0a-dev.westeurope.5.azurestaticapps.net"
        );
        assert_eq!(table_name("55.localhost"), "55.azurewebsites.net");
        assert_eq!(canonical("Notes.AzureWebsites.NET."), "notes.azurewebsites.net");
    }

    #[test]
    fn authorities_are_read_one_way_only() {
        assert_eq!(split_authority("a.b:443"), Some(("a.b", Some(443))));
        assert_eq!(split_authority("a.b"), Some(("a.b", None)));
        assert_eq!(split_authority("[::1]:80"), Some(("[::1]", Some(80))));
        for bad in [
            "", ":80", "a:b", "a:80:80", "a:65536", "a b", "a@b", "a/b", "[::1", "[::1]x", "a:+1",
            "a:",
        ] {
            assert_eq!(split_authority(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_machine_itself_is_recognised_in_every_spelling() {
        for host in [
            "localhost",
            "x.localhost",
            "127.0.0.1",
            "[::1]",
            "0.0.0.0",
            "10.0.2.4",
            "2130706433",
            "0x7f.1",
            "127.1",
            "[::ffff:127.0.0.1]",
            "169.254.169.254",
        ] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["pypi.org", "1.1.1.1", "[2606:4700::1]", "a1.example"] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
