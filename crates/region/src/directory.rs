//! Where a region keeps its things: one directory, 0700, that holds everything and nothing else
//! does. Deleting it is deleting the region.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The port of the default region's listener; other regions get a free one that they then keep.
pub const DEFAULT_PORT: u16 = 4280;

/// The directory of one region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    root: PathBuf,
}

impl Directory {
    /// The directory at `root`.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Creates the directory and what every part expects below it; harmless when it exists.
    ///
    /// # Errors
    /// What the system says.
    pub fn create(&self) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.root)?;
        fs::set_permissions(&self.root, fs::Permissions::from_mode(0o700))?;
        for dir in [
            self.apps(),
            self.logs(),
            self.postgres(),
            self.redis(),
            self.run(),
            self.storage(),
            self.static_web(),
        ] {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        }
        Ok(())
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Held (`flock`) by edge for as long as the region runs.
    pub fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    /// The certificate authority's key and certificate.
    pub fn ca(&self) -> PathBuf {
        self.root.join("ca")
    }

    /// The system's roots and the region's, for clients of the region.
    pub fn ca_bundle(&self) -> PathBuf {
        self.root.join("ca-bundle.pem")
    }

    /// The resource store.
    pub fn store(&self) -> PathBuf {
        self.root.join("region.db")
    }

    /// The key that Key Vault's values are encrypted with.
    pub fn vault_key(&self) -> PathBuf {
        self.root.join("vault.key")
    }

    /// Entra ID's signing key.
    pub fn signing_key(&self) -> PathBuf {
        self.root.join("identity.key")
    }

    /// What a client needs to talk to the region, secrets included (0600).
    pub fn environment(&self) -> PathBuf {
        self.root.join("environment.json")
    }

    /// What a person chose for the region (its port), so that it stays when started again.
    pub fn settings(&self) -> PathBuf {
        self.root.join("region.json")
    }

    /// App Service: contents, homes, virtual environments, application logs.
    pub fn apps(&self) -> PathBuf {
        self.root.join("apps")
    }

    /// PostgreSQL's data directories.
    pub fn postgres(&self) -> PathBuf {
        self.root.join("postgres")
    }

    /// The content of blobs.
    pub fn storage(&self) -> PathBuf {
        self.root.join("storage")
    }

    /// Static sites' content.
    pub fn static_web(&self) -> PathBuf {
        self.root.join("static")
    }

    /// Redis' data directories.
    pub fn redis(&self) -> PathBuf {
        self.root.join("redis")
    }

    /// The region's own log files.
    pub fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    /// The region's private names as a hosts file, for `lazuli run --inside`; written by
    /// [`crate::names::Names::keep_file`].
    pub fn hosts(&self) -> PathBuf {
        self.run().join("hosts")
    }

    /// Sockets and process IDs: worthless once the region has stopped.
    pub fn run(&self) -> PathBuf {
        self.root.join("run")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn creation_is_private_and_repeatable() {
        let temp = tempfile::tempdir().expect("temp dir");
        let dir = Directory::at(temp.path().join("r"));
        dir.create().expect("first");
        dir.create().expect("second");
        let mode = fs::metadata(dir.root()).expect("exists").permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        assert!(dir.logs().is_dir());
    }
}
