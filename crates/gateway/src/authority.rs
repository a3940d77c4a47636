//! The region's certificate authority.

use std::{fmt, io, path::Path, path::PathBuf, sync::Arc};

/// The region's certificate authority: name-constrained, so that whoever trusts it trusts it for
/// Azure's names and `localhost` and for nothing else.
pub struct Authority {}

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
}

impl Authority {
    /// Loads the authority kept in `dir`, or creates it there (directory 0700, key 0600). Creation
    /// is one rename: killed at any instant it leaves a whole authority or none.
    pub fn load_or_create(dir: &Path) -> Result<Arc<Self>, AuthorityError> {
        todo!("{}", dir.display())
    }

    /// The CA's certificate.
    pub fn ca_pem(&self) -> &str {
        todo!()
    }

    /// Writes the system's roots and ours to `path`, by rename.
    pub fn write_bundle(&self, path: &Path) -> Result<(), AuthorityError> {
        todo!("{}", path.display())
    }

    /// A certificate for `names` (host names or IP addresses), for PostgreSQL, Redis and the like.
    pub fn issue_pem(&self, names: &[&str]) -> Result<IssuedPem, AuthorityError> {
        todo!("{names:?}")
    }
}
