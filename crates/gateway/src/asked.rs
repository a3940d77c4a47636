//! Whom a request is for.

use http::{HeaderValue, Request, Version, header::HOST};

use crate::names;

/// The host that a client asks for, as it writes it and as we know it.
pub(crate) struct Asked {
    /// As the client writes it, a port included.
    pub(crate) authority: HeaderValue,
    /// Canonical, without the port.
    pub(crate) host: String,
    pub(crate) port: Option<u16>,
    /// The name under which the table knows the host.
    pub(crate) name: String,
}

impl Asked {
    /// Reads the request's address. One answer only: what could be read in two ways is refused, and why.
    pub(crate) fn read(authority: HeaderValue) -> Result<Self, &'static str> {
        let text = authority.to_str().map_err(|_| "the Host field is not text")?;
        let (host, port) =
            names::split_authority(text).ok_or("the Host field is not a host name")?;
        let host = names::canonical(host).into_owned();
        let name = names::table_name(&host).into_owned();
        Ok(Self { authority, host, port, name })
    }

    /// As the client writes it.
    pub(crate) fn text(&self) -> &str {
        self.authority.to_str().unwrap_or(&self.host)
    }
}

/// Whom a request is for, as the client writes it. One answer only: what could be read in two ways is
/// refused.
pub(crate) fn authority<B>(request: &Request<B>) -> Result<HeaderValue, &'static str> {
    let mut hosts = request.headers().get_all(HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err("there is more than one Host field");
    }
    let target = request.uri().authority().map(http::uri::Authority::as_str);
    match (request.version(), target, host) {
        (Version::HTTP_2, Some(target), Some(host))
            if !target.as_bytes().eq_ignore_ascii_case(host.as_bytes()) =>
        {
            Err(":authority and Host differ")
        }
        // RFC 9112, 3.2.2: the request target wins over Host, which must be there all the same.
        (Version::HTTP_11, Some(_), None) | (_, None, None) => Err("there is no Host field"),
        (_, Some(target), _)
            if request.uri().scheme_str() != Some("https")
                || request.version() == Version::HTTP_2 =>
        {
            HeaderValue::from_str(target).map_err(|_| "the address is not text")
        }
        (_, Some(_), _) => Err("https is reached with CONNECT"),
        (_, None, Some(host)) => Ok(host.clone()),
    }
}
