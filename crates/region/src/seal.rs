//! Encryption of what must not lie on the disk in clear: secret values, passwords, keys.
//!
//! AES-256-GCM-SIV (a repeated nonce costs nothing but equality), keys in one 0600 file, newest first.
//! A sealed value names its key, so that [`add_key`] can put a new one in front and old values stay
//! readable until [`crate::reseal`] has sealed them by it and forgets the old one.

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
    /// There is no key file: no region was ever started here.
    #[error("there is no key file {}: the region was never started", .0.display())]
    None(PathBuf),
}

/// Bytes or text that must not be shown. Wiped when dropped.
pub type Secret = Zeroizing<Vec<u8>>;

struct Key {
    number: u32,
    cipher: LessSafeKey,
}

/// Seals and opens. Cheap to use, never prints its keys.
pub struct Sealer {
    keys: Vec<Key>,
    /// Keys that are no longer in the file: of backups that clients keep, and of nothing else.
    retired: Vec<Key>,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").field("keys", &self.keys.len()).finish_non_exhaustive()
    }
}

impl Sealer {
    /// Reads the key file, or makes one.
    pub fn open(path: &Path) -> Result<Self, SealError> {
        let text = match read(path) {
            Err(SealError::None(_)) => {
                let _turn = turn(path)?;
                let text = key_line(1);
                write_private(path, text.as_bytes()).map_err(failed(path))?;
                text
            }
            text => text?,
        };
        let keys = parse(&text).ok_or_else(|| SealError::Malformed(path.into()))?;
        if keys.is_empty() {
            return Err(SealError::Malformed(path.into()));
        }
        Ok(Self { keys, retired: Vec::new() })
    }

    /// Takes keys that are in the file no longer: lines as the file has them.
    pub(crate) fn keep_retired(&mut self, lines: &str) {
        self.retired = parse(lines).unwrap_or_default();
    }

    /// Whether it holds a key besides the one that seals: some values may not be sealed by that one.
    pub(crate) fn is_changing(&self) -> bool {
        self.keys.len() > 1
    }

    /// Whether these bytes were sealed by another key of the file than the one that seals now.
    pub(crate) fn is_old(&self, sealed: &[u8]) -> bool {
        number_of(sealed).is_some_and(|number| self.keys[1..].iter().any(|k| k.number == number))
    }

    /// Seals `plain` for one `place` (a resource, a version): moved elsewhere it does not open.
    ///
    /// # Panics
    /// When the system has no random numbers: nothing can be kept safe then.
    pub fn seal(&self, place: &str, plain: &[u8]) -> Vec<u8> {
        let Key { number, cipher } = &self.keys[0];
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).expect("the system's random numbers do not run out");
        let mut out = Vec::with_capacity(HEAD + plain.len() + 16);
        out.push(LAYOUT);
        out.extend(number.to_be_bytes());
        out.extend(nonce);
        out.extend(plain);
        let tag = cipher
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
        open_by(self.keys.iter(), place, sealed)
    }

    /// The same for what clients keep, who cannot seal it anew: also by keys that are retired.
    pub fn open_backup(&self, place: &str, sealed: &[u8]) -> Result<Secret, SealError> {
        open_by(self.keys.iter().chain(&self.retired), place, sealed)
    }
}

/// The number of the key that sealed these bytes, if they look sealed.
fn number_of(sealed: &[u8]) -> Option<u32> {
    let head = sealed.get(..HEAD).filter(|head| head[0] == LAYOUT)?;
    Some(u32::from_be_bytes([head[1], head[2], head[3], head[4]]))
}

fn open_by<'a>(
    mut keys: impl Iterator<Item = &'a Key>,
    place: &str,
    sealed: &[u8],
) -> Result<Secret, SealError> {
    let number = number_of(sealed).ok_or(SealError::Refused)?;
    let (head, rest) = sealed.split_at(HEAD);
    let key = keys.find(|key| key.number == number).ok_or(SealError::Refused)?;
    let nonce = Nonce::try_assume_unique_for_key(&head[5..]).map_err(|_| SealError::Refused)?;
    let mut out = Zeroizing::new(rest.to_vec());
    let length = key
        .cipher
        .open_in_place(nonce, Aad::from(place.as_bytes()), &mut out)
        .map_err(|_| SealError::Refused)?
        .len();
    out.truncate(length);
    Ok(out)
}

/// Puts a new key in front of the others. A region seals by it from its next start on, where
/// [`crate::reseal::open`] seals everything anew; until that is done the old keys stay.
pub fn add_key(path: &Path) -> Result<(), SealError> {
    // The lock beside it cannot be made where there is no region, and would say so less clearly.
    read(path)?;
    let _turn = turn(path)?;
    let old = read(path)?;
    let keys = parse(&old).ok_or_else(|| SealError::Malformed(path.into()))?;
    let next = keys.iter().map(|key| key.number).max().unwrap_or(0) + 1;
    let text = Zeroizing::new(format!("{}{}", *key_line(next), *old));
    write_private(path, text.as_bytes()).map_err(failed(path))
}

/// How many keys the file holds: one, unless a change of the key has not ended.
pub fn count_keys(path: &Path) -> Result<usize, SealError> {
    Ok(read(path)?.lines().count())
}

/// The file's lines but the first, which is the key that seals.
pub(crate) fn old_lines(path: &Path) -> Result<Zeroizing<String>, SealError> {
    let text = read(path)?;
    Ok(Zeroizing::new(text.split_once('\n').map_or("", |(_, old)| old).to_owned()))
}

/// Takes lines out of the file; one that was added meanwhile stays.
pub(crate) fn forget(path: &Path, lines: &str) -> Result<(), SealError> {
    let _turn = turn(path)?;
    let text = read(path)?;
    let mut left = Zeroizing::new(String::with_capacity(text.len()));
    for line in text.lines().filter(|line| !lines.lines().any(|gone| gone == *line)) {
        left.push_str(line);
        left.push('\n');
    }
    write_private(path, left.as_bytes()).map_err(failed(path))
}

fn failed(path: &Path) -> impl FnOnce(std::io::Error) -> SealError {
    let path = path.to_owned();
    |source| SealError::File { path, source }
}

/// Whoever changes the file has it alone from reading to writing: a key that is lost is all lost.
fn turn(path: &Path) -> Result<fs::File, SealError> {
    let lock = path.with_extension("lock");
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    let open = options.open(&lock).and_then(|file| file.lock().map(|()| file));
    open.map_err(failed(&lock))
}

fn read(path: &Path) -> Result<Zeroizing<String>, SealError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => Zeroizing::new(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(SealError::None(path.into()));
        }
        Err(error) => return Err(failed(path)(error)),
    };
    if fs::metadata(path).map_err(failed(path))?.mode() & 0o077 != 0 {
        return Err(SealError::Exposed(path.into()));
    }
    Ok(text)
}

fn parse(text: &str) -> Option<Vec<Key>> {
    let key = |line: &str| {
        let (number, key) = line.split_once(':')?;
        let key = Zeroizing::new(STANDARD.decode(key).ok()?);
        let key = UnboundKey::new(&AES_256_GCM_SIV, &key).ok()?;
        Some(Key { number: number.parse().ok()?, cipher: LessSafeKey::new(key) })
    };
    text.lines().map(key).collect()
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

        add_key(&path).expect("adds");
        let changed = Sealer::open(&path).expect("both keys");
        assert!(changed.is_changing() && changed.is_old(&sealed));
        assert_eq!(&**changed.open_sealed("here", &sealed).expect("old key kept"), b"hunter2");
        let newer = changed.seal("here", b"x");
        assert!(!changed.is_old(&newer));
        assert!(sealer.open_sealed("here", &newer).is_err(), "sealed by the new key");
        assert_eq!(fs::metadata(&path).expect("exists").mode() & 0o777, 0o600);

        let old = old_lines(&path).expect("reads");
        // Somebody adds another one just now: it stays.
        add_key(&path).expect("adds");
        forget(&path, &old).expect("forgets");
        assert_eq!(count_keys(&path).expect("reads"), 2);
        let mut last = Sealer::open(&path).expect("two keys");
        assert_eq!(&**last.open_sealed("here", &newer).expect("kept"), b"x");
        assert!(last.open_sealed("here", &sealed).is_err(), "forgotten");
        last.keep_retired(&old);
        assert!(last.open_sealed("here", &sealed).is_err(), "for backups alone");
        assert_eq!(&**last.open_backup("here", &sealed).expect("opens"), b"hunter2");
    }

    #[test]
    fn keys_added_at_once_are_all_there() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("key");
        Sealer::open(&path).expect("new key");
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| add_key(&path).expect("adds"));
            }
        });
        let text = fs::read_to_string(&path).expect("reads");
        let mut numbers: Vec<_> = text.lines().filter_map(|line| line.split(':').next()).collect();
        numbers.dedup();
        assert_eq!(numbers.len(), 9, "each its own number");
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
