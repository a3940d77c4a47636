//! Certificates that sites bring for host names of their own.

use std::{fmt, sync::Arc};

use rustls::{
    crypto::aws_lc_rs::sign::any_supported_type,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
    sign::CertifiedKey,
};

/// A certificate with its key, ready to be shown in handshakes. Cheap to clone.
#[derive(Clone)]
pub struct Certificate {
    pub(crate) key: Arc<CertifiedKey>,
    /// Issuer and subject as `X-ARR-SSL` has them.
    pub(crate) names: Arc<str>,
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Certificate").field(&self.names).finish()
    }
}

impl Certificate {
    /// The certificate whose DER is first in `chain`, with its private key in PKCS #8. `issuer` and
    /// `subject` are what an app is told of it. An error is what the cryptographic library said.
    pub fn new(
        chain: Vec<Vec<u8>>,
        pkcs8: &[u8],
        issuer: &str,
        subject: &str,
    ) -> Result<Self, String> {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pkcs8));
        let signer = any_supported_type(&key).map_err(|error| error.to_string())?;
        let chain = chain.into_iter().map(CertificateDer::from).collect();
        let key = CertifiedKey::new(chain, signer);
        key.keys_match().map_err(|error| error.to_string())?;
        Ok(Self { key: Arc::new(key), names: format!("CN={issuer}|CN={subject}").into() })
    }
}
