//! TLS termination: one certificate per server name, one configuration per minimum version.

use std::{fmt, sync::Arc};

use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    server::{ClientHello, NoServerSessionStorage, ResolvesServerCert},
    sign::CertifiedKey,
};

use crate::{Authority, TlsVersion, names};

/// The configurations a connection may be served with. Which one follows from the server name, so
/// that a site's `minTlsVersion` acts in the handshake, where clients look for it.
pub(crate) struct Tls {
    /// Indexed by "1.3 only" and "offers HTTP/2".
    configs: [[Arc<ServerConfig>; 2]; 2],
}

impl Tls {
    pub(crate) fn new(authority: Arc<Authority>) -> Result<Self, rustls::Error> {
        let resolver: Arc<dyn ResolvesServerCert> = Arc::new(Resolver(authority));
        let provider = Arc::new(aws_lc_rs::default_provider());
        // Sessions resume by ticket alone: no shared session cache, hence no lock in a handshake.
        // The ticket holds the server name, and is not accepted for another one.
        let ticketer = aws_lc_rs::Ticketer::new()?;
        let make = |only_13: bool, h2: bool| -> Result<Arc<ServerConfig>, rustls::Error> {
            let versions: &[&rustls::SupportedProtocolVersion] = if only_13 {
                &[&rustls::version::TLS13]
            } else {
                &[&rustls::version::TLS13, &rustls::version::TLS12]
            };
            let mut config = ServerConfig::builder_with_provider(provider.clone())
                .with_protocol_versions(versions)?
                .with_no_client_auth()
                .with_cert_resolver(resolver.clone());
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.ticketer = ticketer.clone();
            config.alpn_protocols = if h2 {
                vec![b"h2".to_vec(), b"http/1.1".to_vec()]
            } else {
                vec![b"http/1.1".to_vec()]
            };
            Ok(Arc::new(config))
        };
        Ok(Self {
            configs: [
                [make(false, false)?, make(false, true)?],
                [make(true, false)?, make(true, true)?],
            ],
        })
    }

    pub(crate) fn config(&self, minimum: TlsVersion, h2: bool) -> Arc<ServerConfig> {
        self.configs[usize::from(minimum >= TlsVersion::V1_3)][usize::from(h2)].clone()
    }
}

struct Resolver(Arc<Authority>);

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolver")
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = server_name(&hello)?;
        self.0
            .leaf(&name)
            .inspect_err(|error| tracing::warn!(%name, %error, "no certificate for a server name"))
            .ok()
    }
}

/// The name a client asks for, canonical, if the authority may issue for it. Clients that send none
/// connected to an address, which can only be the loopback listener's.
pub(crate) fn server_name(hello: &ClientHello<'_>) -> Option<String> {
    let name = names::canonical(hello.server_name().unwrap_or("localhost")).into_owned();
    (names::is_azure(&name) || names::is_local(&name)).then_some(name)
}
