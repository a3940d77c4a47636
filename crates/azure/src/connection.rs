//! How to reach Azure: directly, or through a region's gateway.

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::Error;

/// How to reach Azure. The default is Azure itself, through whatever `HTTPS_PROXY` says.
#[derive(Clone, Debug, Default)]
pub struct Connection {
    /// An HTTP proxy for everything, `http://127.0.0.1:7443`; a region's gateway.
    pub proxy: Option<String>,
    /// Certificates to trust, as PEM, and no others; a region's CA. The system's where there are none.
    pub roots: Option<String>,
}

impl Connection {
    /// The HTTP client. Never follows redirects: Azure's APIs use `Location` for other things, and
    /// a token must not travel to a host it is not for.
    pub(crate) fn http(&self) -> Result<reqwest::Client, Error> {
        self.builder()?.build().map_err(|error| Error::Configuration(error.to_string()))
    }

    /// The same, speaking HTTP/1.1 alone.
    pub(crate) fn http1(&self) -> Result<reqwest::Client, Error> {
        let builder = self.builder()?.http1_only();
        builder.build().map_err(|error| Error::Configuration(error.to_string()))
    }

    /// The same, through no proxy at all: for what is on this machine.
    pub(crate) fn direct(&self) -> Result<reqwest::Client, Error> {
        let builder = Self { proxy: None, ..self.clone() }.builder()?.no_proxy();
        builder.build().map_err(|error| Error::Configuration(error.to_string()))
    }

    fn builder(&self) -> Result<reqwest::ClientBuilder, Error> {
        let configuration = |what: &dyn std::fmt::Display| Error::Configuration(what.to_string());
        let mut roots = rustls::RootCertStore::empty();
        match &self.roots {
            Some(pem) => {
                for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                    let certificate = certificate.map_err(|e| configuration(&e))?;
                    roots.add(certificate).map_err(|e| configuration(&e))?;
                }
                if roots.is_empty() {
                    return Err(Error::Configuration("the roots hold no certificate".to_owned()));
                }
            }
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| configuration(&e))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .user_agent(concat!("lazuli/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(10))
            .pool_idle_timeout(Duration::from_secs(60));
        if let Some(proxy) = &self.proxy {
            builder = builder.proxy(reqwest::Proxy::all(proxy).map_err(|e| configuration(&e))?);
        }
        Ok(builder)
    }
}
