//! TLS termination: one certificate per server name, one configuration per minimum version.

use std::{fmt, sync::Arc};

use arc_swap::ArcSwap;
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    server::{ClientHello, NoServerSessionStorage, ResolvesServerCert},
    sign::CertifiedKey,
};

use crate::{Authority, Table, Target, TlsVersion, names};

/// The configurations a connection may be served with. Which one follows from the server name, so
/// that a site's `minTlsVersion` acts in the handshake, where clients look for it.
pub(crate) struct Tls {
    /// Indexed by "1.3 only" and "offers HTTP/2".
    configs: [[Arc<ServerConfig>; 2]; 2],
}

impl Tls {
    pub(crate) fn new(
        authority: Arc<Authority>,
        table: Arc<ArcSwap<Table>>,
    ) -> Result<Self, rustls::Error> {
        let resolver: Arc<dyn ResolvesServerCert> = Arc::new(Resolver { authority, table });
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

struct Resolver {
    authority: Arc<Authority>,
    table: Arc<ArcSwap<Table>>,
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolver")
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let table = self.table.load();
        let name = server_name(&hello, &table)?;
        if let Some(brought) = table.certificate(&name) {
            return Some(brought.key.clone());
        }
        // A site's own host name without a certificate gets Azure's, which is for another name: what App
        // Service does, and what the client is to judge. The authority may issue for no other name.
        let own = match table.get(&name) {
            Some(Target::Site(site)) if !issuable(&name) => site.host.as_str(),
            _ => name.as_str(),
        };
        self.authority
            .leaf(own)
            .inspect_err(|error| tracing::warn!(%name, %error, "no certificate for a server name"))
            .ok()
    }
}

fn issuable(name: &str) -> bool {
    names::is_azure(name) || names::is_local(name)
}

/// The name a client asks for, canonical, if it is Azure's, the machine's or a site's own. Clients that
/// send none connected to an address, which can only be the loopback listener's.
pub(crate) fn server_name(hello: &ClientHello<'_>, table: &Table) -> Option<String> {
    let name = names::canonical(hello.server_name().unwrap_or("localhost")).into_owned();
    (issuable(&name) || table.get(&name).is_some()).then_some(name)
}
