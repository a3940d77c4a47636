//! The region's certificate authority.

use std::{
    collections::HashMap,
    fmt, fs,
    io::{self, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use base64::Engine as _;
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    NameConstraints,
};
use rustls::{
    crypto::aws_lc_rs::sign::any_ecdsa_type,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use time::OffsetDateTime;

use crate::names::AZURE_DOMAINS;

/// The one file that the authority is: key and certificate together, so that one rename makes it.
const STORE: &str = "authority.pem";
/// Opens the line of [`STORE`] that gives the CA's name. Text outside of its blocks is no part of PEM.
const SUBJECT: &str = "# subject: ";
/// The certificate alone, for people; rewritten from [`STORE`] at every start.
const PUBLIC: &str = "ca.pem";

const CA_LIFETIME: time::Duration = time::Duration::days(3650);
/// Well below the 397 days that clients accept at most (CA/Browser Forum baseline requirement 6.3.2).
const LEAF_LIFETIME: time::Duration = time::Duration::days(90);
/// A cached leaf is replaced after this long, with two thirds of its life left.
const LEAF_REUSE: Duration = Duration::from_secs(30 * 24 * 3600);
/// Clocks of clients may be behind.
const BACKDATE: time::Duration = time::Duration::hours(24);
/// Where distributions keep all root certificates in one file: Debian and what descends from it, Fedora,
/// SUSE, Alpine.
const BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
/// Only names that the region answers for are ever asked for; this bounds what a client that makes up
/// `*.localhost` names can make us keep.
const CACHED_LEAVES: usize = 1024;

/// The region's certificate authority: name-constrained, so that whoever trusts it trusts it for
/// Azure's names and `localhost` and for nothing else.
pub struct Authority {
    pem: String,
    subject: String,
    der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
    leaves: ArcSwap<HashMap<Box<str>, Leaf>>,
    /// Of the next certificate: distinct within a process, and the time makes it so across them.
    serial: AtomicU64,
}

#[derive(Clone)]
struct Leaf {
    key: Arc<CertifiedKey>,
    minted: Instant,
}

/// A string that no log shows.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// The secret itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A certificate for a server that reads PEM files itself.
#[derive(Clone, Debug)]
pub struct IssuedPem {
    /// The leaf, then the CA.
    pub chain: String,
    /// The private key, PKCS#8.
    pub key: Secret,
}

/// Why the authority could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A file could not be read or written.
    #[error("cannot access {path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The stored authority is not one.
    #[error("{path} does not hold a certificate and its key ({reason}); remove it to make a new \
             authority, which every client must then trust anew", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The cryptographic library refused.
    #[error("cannot issue a certificate for {names}: {reason}")]
    Issue {
        /// For whom.
        names: String,
        /// What the library said.
        reason: String,
    },
    /// The machine has no root certificates to put into the bundle.
    #[error("this machine has no root certificates ({reason}); install ca-certificates")]
    NoRoots {
        /// Where they were looked for, and what happened.
        reason: String,
    },
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

/// The system's root certificates. A distribution keeps them in one file, and besides in hundreds, one
/// each; reading the one is a hundred milliseconds less of a region's start.
fn system_roots() -> rustls_native_certs::CertificateResult {
    let told = |name| std::env::var_os(name).map(PathBuf::from);
    let files: Vec<PathBuf> = match (told("SSL_CERT_FILE"), told("SSL_CERT_DIR")) {
        (None, None) => BUNDLES.map(PathBuf::from).to_vec(),
        (Some(file), None) => vec![file],
        // A file within the directory holds, in one, what the directory holds.
        (Some(file), Some(dir)) if file.starts_with(&dir) => vec![file],
        _ => Vec::new(),
    };
    for file in files {
        let found = rustls_native_certs::load_certs_from_paths(Some(&file), None);
        if !found.certs.is_empty() {
            return found;
        }
    }
    rustls_native_certs::load_native_certs()
}

impl Authority {
    /// Loads the authority kept in `dir`, or creates it there (directory 0700, key 0600). Creation
    /// is one rename: killed at any instant it leaves a whole authority or none.
    pub fn load_or_create(dir: &Path) -> Result<Arc<Self>, AuthorityError> {
        let store = dir.join(STORE);
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| AuthorityError::Io { path, source }
        };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io(dir))?;
        let text = match fs::read_to_string(&store) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let text = new_authority()?;
                // Somebody else may create one at the same moment: whoever links first wins, and the
                // other loads that one.
                match write_new(&store, text.as_bytes()) {
                    Ok(()) => text,
                    Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                        fs::read_to_string(&store).map_err(io(&store))?
                    }
                    Err(e) => return Err(io(&store)(e)),
                }
            }
            Err(e) => return Err(io(&store)(e)),
        };
        let authority = Self::from_pem(&text, &store)?;
        let public = dir.join(PUBLIC);
        replace(&public, authority.pem.as_bytes(), 0o644).map_err(io(&public))?;
        Ok(Arc::new(authority))
    }

    fn from_pem(text: &str, path: &Path) -> Result<Self, AuthorityError> {
        let damaged = |reason: String| AuthorityError::Damaged { path: path.to_owned(), reason };
        let key = KeyPair::from_pem(text).map_err(|e| damaged(e.to_string()))?;
        let der =
            CertificateDer::from_pem_slice(text.as_bytes()).map_err(|e| damaged(e.to_string()))?;
        let pem = pem_block(&der);
        let issuer = Issuer::from_ca_cert_der(&der, key).map_err(|e| damaged(e.to_string()))?;
        let now = OffsetDateTime::now_utc().unix_timestamp_nanos();
        let subject = text
            .lines()
            .find_map(|line| line.strip_prefix(SUBJECT))
            .ok_or_else(|| damaged("it does not say whose it is".to_owned()))?
            .to_owned();
        Ok(Self {
            pem,
            subject,
            der,
            issuer,
            leaves: ArcSwap::default(),
            serial: AtomicU64::new(u64::try_from(now & i128::from(i64::MAX)).unwrap_or_default()),
        })
    }

    /// The CA's certificate.
    pub fn ca_pem(&self) -> &str {
        &self.pem
    }

    /// The CA's distinguished name.
    pub(crate) fn subject(&self) -> &str {
        &self.subject
    }

    /// Writes the system's roots and ours to `path`, by rename.
    pub fn write_bundle(&self, path: &Path) -> Result<(), AuthorityError> {
        let roots = system_roots();
        if roots.certs.is_empty() {
            let reason =
                roots.errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
            return Err(AuthorityError::NoRoots { reason });
        }
        let mut bundle: String = roots.certs.iter().map(|root| pem_block(root)).collect();
        bundle.push_str(&self.pem);
        replace(path, bundle.as_bytes(), 0o644)
            .map_err(|source| AuthorityError::Io { path: path.to_owned(), source })
    }

    /// A certificate for `names` (host names or IP addresses), for PostgreSQL, Redis and the like.
    pub fn issue_pem(&self, names: &[&str]) -> Result<IssuedPem, AuthorityError> {
        let (leaf, key) = self.issue(names)?;
        Ok(IssuedPem {
            chain: format!("{}{}", pem_block(&leaf), self.pem),
            key: Secret(key.serialize_pem()),
        })
    }

    /// The certificate that a TLS server shows for `host`, from the cache where it can be.
    pub(crate) fn leaf(&self, host: &str) -> Result<Arc<CertifiedKey>, AuthorityError> {
        if let Some(leaf) = self.leaves.load().get(host)
            && leaf.minted.elapsed() < LEAF_REUSE
        {
            return Ok(leaf.key.clone());
        }
        let (certificate, key) = self.issue(&[host])?;
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let signer = any_ecdsa_type(&der)
            .map_err(|e| AuthorityError::Issue { names: host.to_owned(), reason: e.to_string() })?;
        let key = Arc::new(CertifiedKey::new(vec![certificate, self.der.clone()], signer));
        let leaf = Leaf { key: key.clone(), minted: Instant::now() };
        self.leaves.rcu(|leaves| {
            let mut leaves = HashMap::clone(leaves);
            if leaves.len() >= CACHED_LEAVES
                && let Some(oldest) =
                    leaves.iter().min_by_key(|(_, leaf)| leaf.minted).map(|(host, _)| host.clone())
            {
                leaves.remove(&oldest);
            }
            leaves.insert(host.into(), leaf.clone());
            leaves
        });
        Ok(key)
    }

    fn issue(&self, names: &[&str]) -> Result<(CertificateDer<'static>, KeyPair), AuthorityError> {
        let failed = |e: rcgen::Error| AuthorityError::Issue {
            names: names.join(", "),
            reason: e.to_string(),
        };
        let key = KeyPair::generate().map_err(failed)?;
        let names_owned: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names_owned).map_err(failed)?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Lazuli");
        // Only a host name, and of 64 characters at most (X.520): OpenSSL holds a common name that is an
        // address against the constraints on host names. What counts are the alternative names.
        if let Some(name) =
            names.first().filter(|name| name.len() <= 64 && name.parse::<IpAddr>().is_err())
        {
            params.distinguished_name.push(DnType::CommonName, *name);
        }
        let now = OffsetDateTime::now_utc();
        params.not_before = now - BACKDATE;
        params.not_after = now + LEAF_LIFETIME;
        params.serial_number = Some(self.serial.fetch_add(1, Ordering::Relaxed).into());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let leaf = params.signed_by(&key, &self.issuer).map_err(failed)?;
        Ok((leaf.der().clone(), key))
    }
}

/// A new CA, key and certificate in one PEM text.
fn new_authority() -> Result<String, AuthorityError> {
    let failed = |e: rcgen::Error| AuthorityError::Issue {
        names: "the authority itself".to_owned(),
        reason: e.to_string(),
    };
    let key = KeyPair::generate().map_err(failed)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Lazuli");
    // Two regions' authorities must not be taken for one another by their names.
    // The first byte of an uncompressed point says only that it is one.
    let tag =
        key.public_key_raw().iter().skip(1).take(4).fold(0, |tag, &b| tag << 8 | u32::from(b));
    let name = format!("Lazuli region {tag:08x}");
    params.distinguished_name.push(DnType::CommonName, name.as_str());
    let now = OffsetDateTime::now_utc();
    params.not_before = now - BACKDATE;
    params.not_after = now + CA_LIFETIME;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    // A kind of name that is not listed is not constrained, so addresses are: to loopback.
    let mut permitted: Vec<GeneralSubtree> = AZURE_DOMAINS
        .iter()
        .chain(&["localhost"])
        .map(|domain| GeneralSubtree::DnsName((*domain).to_owned()))
        .collect();
    permitted.push(GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(
        Ipv4Addr::LOCALHOST.into(),
        8,
    )));
    permitted.push(GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(
        Ipv6Addr::LOCALHOST.into(),
        128,
    )));
    params.name_constraints =
        Some(NameConstraints { permitted_subtrees: permitted, excluded_subtrees: Vec::new() });
    let certificate = params.self_signed(&key).map_err(failed)?;
    Ok(format!("{SUBJECT}CN={name}, O=Lazuli\n{}{}", key.serialize_pem(), certificate.pem()))
}

fn pem_block(der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut pem = String::with_capacity(text.len() + text.len() / 64 + 64);
    pem.push_str("-----BEGIN CERTIFICATE-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, tail) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = tail;
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

/// Writes `path` whole or not at all, and only if nobody has.
fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = write_temporary(path, bytes, 0o600)?;
    let linked = fs::hard_link(&temporary, path);
    fs::remove_file(&temporary)?;
    linked?;
    sync_directory(path)
}

/// Replaces `path` whole.
fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let temporary = write_temporary(path, bytes, mode)?;
    fs::rename(&temporary, path)?;
    sync_directory(path)
}

fn write_temporary(path: &Path, bytes: &[u8], mode: u32) -> io::Result<PathBuf> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let temporary = path.with_extension(format!("{}-{count}.tmp", std::process::id()));
    // A namesake can only be what a killed process of the same id left.
    let _ = fs::remove_file(&temporary);
    let mut file =
        fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    Ok(temporary)
}

fn sync_directory(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) => fs::File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}
