//! Encryption of what must not lie on the disk in clear: secret values, passwords, keys.
//!
//! AES-256-GCM-SIV (a repeated nonce costs nothing but equality), keys in one 0600 file, newest first.
//! A sealed value names its key, so that [`Sealer::rotate`] can add a key and old values stay readable
//! until they are sealed again.

use std::{
    fmt, fs,
    io::Write as _,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use aws_lc_rs::{
    aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

/// The layout of a sealed value: this byte, four bytes of key number, the nonce, then ciphertext and tag.
const LAYOUT: u8 = 1;
const HEAD: usize = 1 + 4 + NONCE_LEN;

/// Why something could not be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The key file cannot be read or written.
    #[error("cannot use the key file {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The key file is not one.
    #[error("{} is not a key file of this region", .0.display())]
    Malformed(PathBuf),
    /// The key file can be read by others.
    #[error("{} can be read by others; chmod 600 it", .0.display())]
    Exposed(PathBuf),
    /// The value was sealed by another key or for another place, or was changed.
    #[error("a sealed value cannot be opened: it was sealed by another region, or it was changed")]
    Refused,
}

/// Bytes or text that must not be shown. Wiped when dropped.
pub type Secret = Zeroizing<Vec<u8>>;

/// Seals and opens. Cheap to use, never prints its keys.
pub struct Sealer {
    path: PathBuf,
    keys: Vec<(u32, LessSafeKey)>,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").field("keys", &self.keys.len()).finish_non_exhaustive()
    }
}

impl Sealer {
    /// Reads the key file, or makes one.
    pub fn open(path: &Path) -> Result<Self, SealError> {
        let failed = |source| SealError::File { path: path.into(), source };
        match fs::read_to_string(path) {
            Ok(text) => {
                let mode = fs::metadata(path).map_err(failed)?.mode();
                if mode & 0o077 != 0 {
                    return Err(SealError::Exposed(path.into()));
                }
                Self::parse(path, &Zeroizing::new(text))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let text = key_line(1);
                write_private(path, text.as_bytes()).map_err(failed)?;
                Self::parse(path, &text)
            }
            Err(error) => Err(failed(error)),
        }
    }

    fn parse(path: &Path, text: &str) -> Result<Self, SealError> {
        let malformed = || SealError::Malformed(path.into());
        let mut keys = Vec::new();
        for line in text.lines() {
            let (number, key) = line.split_once(':').ok_or_else(malformed)?;
            let number = number.parse().map_err(|_| malformed())?;
            let key = Zeroizing::new(STANDARD.decode(key).map_err(|_| malformed())?);
            let key = UnboundKey::new(&AES_256_GCM_SIV, &key).map_err(|_| malformed())?;
            keys.push((number, LessSafeKey::new(key)));
        }
        if keys.is_empty() {
            return Err(malformed());
        }
        Ok(Self { path: path.into(), keys })
    }

    /// The same with a new key in front. What is sealed from now on uses it; open and seal what exists
    /// again, then forget the old key by deleting its line from the file.
    pub fn rotate(self) -> Result<Self, SealError> {
        let failed = |source| SealError::File { path: self.path.clone(), source };
        let old = Zeroizing::new(fs::read_to_string(&self.path).map_err(failed)?);
        let next = self.keys.iter().map(|(number, _)| *number).max().unwrap_or(0) + 1;
        let text = Zeroizing::new(format!("{}{}", *key_line(next), *old));
        write_private(&self.path, text.as_bytes()).map_err(failed)?;
        Self::parse(&self.path, &text)
    }

    /// Seals `plain` for one `place` (a resource, a version): moved elsewhere it does not open.
    ///
    /// # Panics
    /// When the system has no random numbers: nothing can be kept safe then.
    pub fn seal(&self, place: &str, plain: &[u8]) -> Vec<u8> {
        let (number, key) = &self.keys[0];
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).expect("the system's random numbers do not run out");
        let mut out = Vec::with_capacity(HEAD + plain.len() + 16);
        out.push(LAYOUT);
        out.extend(number.to_be_bytes());
        out.extend(nonce);
        out.extend(plain);
        let tag = key
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(place.as_bytes()),
                &mut out[HEAD..],
            )
            .expect("values are far below the cipher's limit");
        out.extend(tag.as_ref());
        out
    }

    /// Opens what [`Sealer::seal`] made for the same `place`.
    pub fn open_sealed(&self, place: &str, sealed: &[u8]) -> Result<Secret, SealError> {
        let (head, rest) = sealed.split_at_checked(HEAD).ok_or(SealError::Refused)?;
        if head[0] != LAYOUT {
            return Err(SealError::Refused);
        }
        let number = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
        let (_, key) = self.keys.iter().find(|(n, _)| *n == number).ok_or(SealError::Refused)?;
        let nonce = Nonce::try_assume_unique_for_key(&head[5..]).map_err(|_| SealError::Refused)?;
        let mut out = Zeroizing::new(rest.to_vec());
        let length = key
            .open_in_place(nonce, Aad::from(place.as_bytes()), &mut out)
            .map_err(|_| SealError::Refused)?
            .len();
        out.truncate(length);
        Ok(out)
    }
}

fn key_line(number: u32) -> Zeroizing<String> {
    let mut key = Zeroizing::new([0; 32]);
    rand::fill(&mut *key).expect("the system's random numbers do not run out");
    Zeroizing::new(format!("{number}:{}\n", STANDARD.encode(*key)))
}

/// Writes a file that only its owner can read, in whole or not at all.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let next = path.with_extension("new");
    let mut file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&next)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&next, path)?;
    fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_opens_in_its_place_only_and_survives_a_rotation() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("key");
        let sealer = Sealer::open(&path).expect("new key");
        let sealed = sealer.seal("here", b"hunter2");
        assert!(!sealed.windows(7).any(|w| w == b"hunter2"));
        assert_eq!(&**sealer.open_sealed("here", &sealed).expect("opens"), b"hunter2");
        assert!(sealer.open_sealed("there", &sealed).is_err());
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(sealer.open_sealed("here", &changed).is_err(), "byte {at} was changed");
        }
        assert!(sealer.open_sealed("here", &sealed[..10]).is_err());

        let rotated = Sealer::open(&path).expect("same key").rotate().expect("rotates");
        assert_eq!(&**rotated.open_sealed("here", &sealed).expect("old key kept"), b"hunter2");
        let newer = rotated.seal("here", b"x");
        assert!(sealer.open_sealed("here", &newer).is_err(), "sealed by the new key");
        assert_eq!(fs::metadata(&path).expect("exists").mode() & 0o777, 0o600);
    }

    #[test]
    fn a_key_file_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("key");
        Sealer::open(&path).expect("new key");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("chmod");
        assert!(matches!(Sealer::open(&path), Err(SealError::Exposed(_))));
    }
}
