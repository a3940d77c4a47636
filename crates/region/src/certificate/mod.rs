//! Certificates with their private keys: read from PFX (PKCS #12, RFC 7292) or PEM, written as either,
//! and described. What Key Vault keeps and App Service serves.

mod facts;
mod key;

use p12_keystore::{
    Certificate, KeyStore, KeyStoreEntry, LocalKeyId, Pkcs12Archive, PrivateKeyChain,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

pub use self::facts::Facts;
pub use self::key::{Curve, KeyError, Kind, PrivateKey};

/// The largest file that is looked into, bytes. A chain of five certificates with a key of 4096 bits takes
/// a tenth of it.
pub const MAX_FILE: usize = 64 * 1024;
/// Certificates of a file at most, and keys.
const MAX_CERTIFICATES: usize = 32;

/// Why a file is no certificate with its key. None of it says what is in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// Larger than [`MAX_FILE`].
    #[error("the file is larger than {MAX_FILE} bytes")]
    TooLarge,
    /// Not PKCS #12, or in a way that is not known.
    #[error("the file is not PKCS #12")]
    NotPfx,
    /// The password does not open it.
    #[error("the password is not right")]
    Password,
    /// Not PEM, or without one unencrypted PKCS #8 key.
    #[error("the text is not PEM with one PKCS #8 key")]
    NotPem,
    /// There is no certificate in it.
    #[error("there is no certificate")]
    NoCertificate,
    /// A certificate that cannot be read.
    #[error("a certificate cannot be read")]
    BadCertificate,
    /// There is no private key, or it is no certificate's.
    #[error("there is no certificate with its private key")]
    NoKey,
    /// The key is of a kind that the region has not.
    #[error("the key is neither RSA of 2048 to 8192 bits nor on P-256, P-384 or P-521")]
    BadKey,
    /// It cannot be written: the library refused.
    #[error("the certificate cannot be written as PKCS #12")]
    Unwritable,
}

/// A certificate with its private key and what leads to its authority.
#[derive(Debug)]
pub struct Bundle {
    /// The private key.
    pub key: PrivateKey,
    /// The certificate, then those above it.
    pub chain: Vec<Vec<u8>>,
}

impl Bundle {
    /// Reads PKCS #12, of today (PBES2 with AES) or of yesterday (3DES). Takes as long as the file's
    /// iterations demand: not on a thread that answers others.
    pub fn from_pfx(bytes: &[u8], password: &str) -> Result<Self, BundleError> {
        use p12_keystore::error::Error;
        if bytes.len() > MAX_FILE {
            return Err(BundleError::TooLarge);
        }
        let archive = Pkcs12Archive::from_pkcs12(bytes, password).map_err(|error| match error {
            // With a check of the whole the first, without it the others.
            Error::MacError(_) | Error::UnpadError | Error::Pkcs5Error(_) => BundleError::Password,
            _ => BundleError::NotPfx,
        })?;
        if archive.certs.len() > MAX_CERTIFICATES || archive.keys.len() > MAX_CERTIFICATES {
            return Err(BundleError::TooLarge);
        }
        let certificates = archive.certs.iter().map(|bag| bag.cert.as_der().to_vec()).collect();
        let mut keys = Vec::new();
        for bag in &archive.keys {
            keys.push(PrivateKey::from_pkcs8(bag.key.as_der()).map_err(|_| BundleError::BadKey)?);
        }
        Self::matched(keys, certificates)
    }

    /// Reads PEM: one key in PKCS #8 (`BEGIN PRIVATE KEY`) and the certificates, in any order. Azure takes
    /// no other form of key
    /// (<https://learn.microsoft.com/azure/key-vault/certificates/certificate-scenarios#formats-of-import-we-support>).
    pub fn from_pem(text: &str) -> Result<Self, BundleError> {
        if text.len() > MAX_FILE {
            return Err(BundleError::TooLarge);
        }
        let mut certificates = Vec::new();
        for one in CertificateDer::pem_slice_iter(text.as_bytes()).take(MAX_CERTIFICATES + 1) {
            certificates.push(one.map_err(|_| BundleError::NotPem)?.as_ref().to_vec());
        }
        if certificates.is_empty() {
            return Err(BundleError::NotPem);
        }
        let mut keys = Vec::new();
        for one in PrivateKeyDer::pem_slice_iter(text.as_bytes()).take(MAX_CERTIFICATES + 1) {
            let key = one.map_err(|_| BundleError::NotPem)?;
            if !matches!(key, PrivateKeyDer::Pkcs8(_)) {
                return Err(BundleError::NotPem);
            }
            keys.push(PrivateKey::from_der(&key).map_err(|_| BundleError::BadKey)?);
        }
        if certificates.len() > MAX_CERTIFICATES || keys.len() > MAX_CERTIFICATES {
            return Err(BundleError::TooLarge);
        }
        Self::matched(keys, certificates)
    }

    /// The first key that a certificate has, with that certificate and those that lead on from it.
    fn matched(keys: Vec<PrivateKey>, certificates: Vec<Vec<u8>>) -> Result<Self, BundleError> {
        if certificates.is_empty() {
            return Err(BundleError::NoCertificate);
        }
        let mut facts = Vec::new();
        for one in &certificates {
            facts.push(Facts::of(one)?);
        }
        for key in keys {
            if let Some(at) = facts.iter().position(|facts| facts.public == key.public()) {
                let mut chain = certificates.clone();
                let leaf = chain.remove(at);
                chain.retain(|one| *one != leaf);
                chain.insert(0, leaf);
                return Ok(Self { key, chain });
            }
        }
        Err(BundleError::NoKey)
    }

    /// The certificate itself.
    pub fn leaf(&self) -> &[u8] {
        self.chain.first().map(Vec::as_slice).unwrap_or_default()
    }

    /// What the certificate says of itself.
    pub fn facts(&self) -> Result<Facts, BundleError> {
        Facts::of(self.leaf())
    }

    /// PKCS #12 by today's algorithms.
    pub fn to_pfx(&self, password: &str) -> Result<Zeroizing<Vec<u8>>, BundleError> {
        let refused = |_| BundleError::Unwritable;
        let key = p12_keystore::PrivateKey::from_der(self.key.pkcs8()).map_err(refused)?;
        let mut certificates = Vec::new();
        for one in &self.chain {
            certificates.push(Certificate::from_der(one).map_err(refused)?);
        }
        let id = LocalKeyId::from(vec![1, 0, 0, 0]);
        let mut store = KeyStore::new();
        let chain = PrivateKeyChain::new(id, key, certificates);
        store.add_entry("certificate", KeyStoreEntry::PrivateKeyChain(chain));
        store.writer(password).write().map(Zeroizing::new).map_err(refused)
    }

    /// PEM: the key in PKCS #8, the certificate, those above it.
    pub fn to_pem(&self) -> Zeroizing<String> {
        let mut text = pem("PRIVATE KEY", self.key.pkcs8());
        text.push_str(&pem_chain(&self.chain));
        Zeroizing::new(text)
    }
}

/// Certificates as PEM.
pub fn pem_chain(chain: &[Vec<u8>]) -> String {
    chain.iter().map(|one| pem("CERTIFICATE", one)).collect()
}

fn pem(label: &str, der: &[u8]) -> String {
    let body = Zeroizing::new(crate::identity::token::base64(der));
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in body.as_bytes().chunks(64) {
        text.push_str(&String::from_utf8_lossy(line));
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

#[cfg(test)]
pub(crate) mod tests {
    use rcgen::{CertificateParams, DnType};

    use super::*;

    /// A certificate for `host`, signed by itself, valid from and for so many days from now.
    pub(crate) fn made(host: &str, from: i64, days: i64) -> Bundle {
        let key = PrivateKey::generate_ec(Curve::P256).expect("a key");
        let mut params = CertificateParams::new(vec![host.to_owned()]).expect("parameters");
        params.distinguished_name.push(DnType::CommonName, host);
        let now = jiff::Timestamp::now().as_second();
        let time = |day: i64| {
            time::OffsetDateTime::from_unix_timestamp(now + day * 86_400).expect("a time")
        };
        params.not_before = time(from);
        params.not_after = time(days);
        let signed = params.self_signed(&key.signer().expect("a signer")).expect("signed");
        Bundle { key, chain: vec![signed.der().to_vec()] }
    }

    #[test]
    fn what_is_written_is_read() {
        let bundle = made("www.example.org", -1, 30);
        for password in ["", "a pässword"] {
            let pfx = bundle.to_pfx(password).expect("written");
            let again = Bundle::from_pfx(&pfx, password).expect("read");
            assert_eq!(again.chain, bundle.chain);
            assert_eq!(again.key.pkcs8(), bundle.key.pkcs8());
            assert_eq!(Bundle::from_pfx(&pfx, "wrong").err(), Some(BundleError::Password));
        }
        let again = Bundle::from_pem(&bundle.to_pem()).expect("read");
        assert_eq!(again.chain, bundle.chain);
        let facts = bundle.facts().expect("facts");
        assert_eq!(facts.subject_name, "www.example.org");
        assert_eq!(facts.thumbprint_hex().len(), 40);
        assert!(facts.covers("WWW.example.org") && !facts.covers("example.org"));
    }

    #[test]
    fn what_is_no_certificate_with_its_key_is_refused() {
        let bundle = made("www.example.org", -1, 30);
        let other = made("other.example.org", -1, 30);
        assert_eq!(Bundle::from_pfx(b"garbage", "").err(), Some(BundleError::NotPfx));
        assert_eq!(Bundle::from_pfx(&[], "").err(), Some(BundleError::NotPfx));
        let large = vec![0x30; MAX_FILE + 1];
        assert_eq!(Bundle::from_pfx(&large, "").err(), Some(BundleError::TooLarge));
        let pfx = bundle.to_pfx("").expect("written");
        assert!(Bundle::from_pfx(&pfx[..pfx.len() - 1], "").is_err());
        let alone = pem_chain(&bundle.chain);
        assert_eq!(Bundle::from_pem(&alone).err(), Some(BundleError::NoKey));
        assert_eq!(Bundle::from_pem("no PEM").err(), Some(BundleError::NotPem));
        let foreign = format!("{}{}", pem("PRIVATE KEY", other.key.pkcs8()), alone);
        assert_eq!(Bundle::from_pem(&foreign).err(), Some(BundleError::NoKey));
    }

    #[test]
    fn a_wildcard_covers_one_label() {
        let facts = made("*.example.org", -1, 30).facts().expect("facts");
        assert!(facts.covers("www.example.org"));
        assert!(!facts.covers("example.org") && !facts.covers("a.b.example.org"));
    }
}
