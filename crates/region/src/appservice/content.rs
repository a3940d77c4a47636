//! Content: packages received, checked and unpacked; one immutable directory per package.
//!
//! A package is a zip from outside. It is unpacked beside its place, flushed, and renamed into it, so
//! that a directory below `content/` is whole or not there. Its name is the package's SHA-256.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Component, Path, PathBuf},
};

use zip::ZipArchive;

/// What a package may be at most.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of the package itself; App Service takes 2048 MB.
    pub package_bytes: u64,
    /// Files and directories in it.
    pub entries: usize,
    /// Bytes of all it unpacks to.
    pub content_bytes: u64,
    /// How much larger than the package its content may be, once it is larger than `ratio_from`.
    pub ratio: u64,
    /// Content smaller than this has no ratio limit: text compresses well.
    pub ratio_from: u64,
    /// Bytes of one path.
    pub path_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            package_bytes: 2048 << 20,
            entries: 100_000,
            content_bytes: 8 << 30,
            ratio: 100,
            ratio_from: 256 << 20,
            path_bytes: 1024,
        }
    }
}

/// Why a package was refused.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// Not a zip, or a damaged one.
    #[error("the package is not a valid zip archive: {0}")]
    NotAZip(String),
    /// A path that leaves the directory, or is no path.
    #[error("the package has an entry with an unsafe path: {0:?}")]
    UnsafePath(String),
    /// A symbolic link or another special file.
    #[error("the package has a {kind} at {path:?}; only files and directories are taken")]
    NotAFile {
        /// What it is.
        kind: &'static str,
        /// Where.
        path: String,
    },
    /// Two entries with the same path.
    #[error("the package has two entries at {0:?}")]
    Twice(String),
    /// An encrypted entry.
    #[error("the package has an encrypted entry at {0:?}")]
    Encrypted(String),
    /// Larger than allowed.
    #[error("the package has {what} (at most {limit})")]
    TooLarge {
        /// What there is too much of.
        what: String,
        /// What is allowed.
        limit: String,
    },
    /// The machine.
    #[error("the package could not be unpacked to {}: {source}", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Where contents, homes and environments are kept.
#[derive(Clone, Debug)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// Below the region's `apps` directory.
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// Makes the directories, and removes what an interrupted upload or unpacking left.
    pub fn prepare(&self) -> io::Result<()> {
        for dir in [self.uploads(), self.unpacking()] {
            match fs::remove_dir_all(&dir) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        for dir in [
            self.uploads(),
            self.unpacking(),
            self.root.join("content"),
            self.root.join("packages"),
            self.root.join("volumes"),
            self.root.join("deployments"),
            self.root.join("logs"),
            self.environments().join("venvs"),
            self.environments().join("cache"),
        ] {
            make_dir(&dir)?;
        }
        Ok(())
    }

    /// Uploads under way.
    pub fn uploads(&self) -> PathBuf {
        self.root.join("uploads")
    }

    fn unpacking(&self) -> PathBuf {
        self.root.join("unpacking")
    }

    /// The content of the package with this digest.
    pub fn content(&self, digest: &str) -> PathBuf {
        self.root.join("content").join(digest)
    }

    /// The directory that builds see as `/home/site/wwwroot`: virtual environments and the
    /// installers' caches are in one mount, so that files can be hard links.
    pub fn environments(&self) -> PathBuf {
        self.root.join("environments")
    }

    /// A virtual environment.
    pub fn environment(&self, key: &str) -> PathBuf {
        self.environments().join("venvs").join(key)
    }

    /// What is mounted at `/home`.
    pub fn volume(&self, volume: &str) -> PathBuf {
        self.root.join("volumes").join(volume)
    }

    /// Logs of a slot.
    pub fn logs(&self, slot: &super::site::SlotKey) -> PathBuf {
        self.root
            .join("logs")
            .join(format!("{}-{}", slot.site.group, slot.site.name))
            .join(slot.slot.as_str())
    }

    /// Logs of a deployment.
    pub fn deployment_log(&self, id: &str) -> PathBuf {
        self.root.join("deployments").join(format!("{id}.log"))
    }

    /// Makes a volume with the directories an application expects.
    pub fn make_volume(&self, volume: &str) -> io::Result<PathBuf> {
        let home = self.volume(volume);
        for dir in ["site/wwwroot", "LogFiles", "data"] {
            make_dir(&home.join(dir))?;
        }
        Ok(home)
    }

    /// Unpacks `package`, whose SHA-256 is `digest`, unless its content is there already.
    pub fn unpack(
        &self,
        package: &Path,
        digest: &str,
        limits: &Limits,
    ) -> Result<PathBuf, PackageError> {
        let place = self.content(digest);
        if place.is_dir() {
            return Ok(place);
        }
        let temporary = self.unpacking().join(uuid::Uuid::new_v4().to_string());
        let unpacked = unpack_into(package, &temporary, limits).and_then(|()| {
            // Where the virtual environment is mounted: the content itself is mounted read-only.
            make_dir(&temporary.join("antenv"))
                .and_then(|()| sync_dir(&temporary))
                .map_err(|source| PackageError::Io { path: temporary.clone(), source })?;
            match fs::rename(&temporary, &place) {
                // Somebody else unpacked the same package meanwhile: the same content.
                Err(_) if place.is_dir() => Ok(()),
                other => other,
            }
            .and_then(|()| sync_dir(&self.root.join("content")))
            .map_err(|source| PackageError::Io { path: place.clone(), source })
        });
        // Only there after a failure or a lost race.
        let _ = fs::remove_dir_all(&temporary);
        unpacked.map(|()| place)
    }
}

fn make_dir(dir: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o755).create(dir)
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Unpacks a package into a directory of its own, flushed. What is there after a failure is the caller's to
/// remove.
pub(crate) fn unpack_into(package: &Path, to: &Path, limits: &Limits) -> Result<(), PackageError> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| PackageError::Io { path, source }
    };
    let broken = |error: zip::result::ZipError| PackageError::NotAZip(error.to_string());
    let file = File::open(package).map_err(at(package))?;
    let package_bytes = file.metadata().map_err(at(package))?.len();
    let mut archive = ZipArchive::new(io::BufReader::new(file)).map_err(broken)?;
    if archive.len() > limits.entries {
        return Err(PackageError::TooLarge {
            what: format!("{} entries", archive.len()),
            limit: limits.entries.to_string(),
        });
    }
    let allowed =
        limits.content_bytes.min(package_bytes.saturating_mul(limits.ratio).max(limits.ratio_from));
    let mut left = allowed;
    make_dir(to).map_err(at(to))?;
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(|error| match error {
            zip::result::ZipError::UnsupportedArchive(reason) if reason.contains("assword") => {
                PackageError::Encrypted(format!("entry {index}"))
            }
            error => broken(error),
        })?;
        let name = entry.name().map_err(broken)?.into_owned();
        let relative = safe_path(&name, limits)?;
        let mode = entry.unix_mode().unwrap_or(0o100_644);
        match mode & 0o170_000 {
            0 | 0o100_000 | 0o040_000 => {}
            0o120_000 => return Err(PackageError::NotAFile { kind: "symbolic link", path: name }),
            _ => return Err(PackageError::NotAFile { kind: "special file", path: name }),
        }
        let path = to.join(&relative);
        if entry.is_dir() {
            make_dir(&path).map_err(at(&path))?;
            continue;
        }
        if let Some(parent) = path.parent() {
            make_dir(parent).map_err(at(parent))?;
        }
        let permissions = if mode & 0o111 == 0 { 0o644 } else { 0o755 };
        let mut out =
            match File::options().write(true).create_new(true).mode(permissions).open(&path) {
                Ok(out) => out,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    return Err(PackageError::Twice(name));
                }
                Err(source) => return Err(PackageError::Io { path, source }),
            };
        // The header's size is the package's claim; what counts is what comes out.
        let written = copy(&mut entry, &mut out, left, &path)?;
        let Some(rest) = left.checked_sub(written) else {
            return Err(PackageError::TooLarge {
                what: format!("content of more than {allowed} bytes"),
                limit: format!("{allowed} bytes for a package of {package_bytes}"),
            });
        };
        left = rest;
        out.sync_all().map_err(at(&path))?;
    }
    sync_tree(to).map_err(at(to))
}

/// Copies at most `left + 1` bytes: one more than allowed shows that there were too many.
fn copy(
    entry: &mut impl Read,
    out: &mut File,
    left: u64,
    path: &Path,
) -> Result<u64, PackageError> {
    let mut buffer = vec![0; 64 << 10];
    let mut written = 0;
    loop {
        let read = entry.read(&mut buffer).map_err(|error| {
            PackageError::NotAZip(format!(
                "{}: {error}",
                path.file_name().unwrap_or_default().to_string_lossy()
            ))
        })?;
        if read == 0 {
            return Ok(written);
        }
        written += read as u64;
        if written > left {
            return Ok(left.saturating_add(1));
        }
        out.write_all(&buffer[..read])
            .map_err(|source| PackageError::Io { path: path.to_owned(), source })?;
    }
}

fn safe_path(name: &str, limits: &Limits) -> Result<PathBuf, PackageError> {
    let refuse = || PackageError::UnsafePath(name.chars().take(200).collect());
    // Zips made on Windows write backslashes, which here would be part of a name.
    if name.len() > limits.path_bytes || name.contains(['\0', '\\']) || name.starts_with('/') {
        return Err(refuse());
    }
    let mut safe = PathBuf::new();
    for component in Path::new(name).components() {
        match component {
            Component::Normal(part) => safe.push(part),
            Component::CurDir => {}
            _ => return Err(refuse()),
        }
    }
    if safe.as_os_str().is_empty() { Err(refuse()) } else { Ok(safe) }
}

fn sync_tree(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_tree(&entry.path())?;
        }
    }
    sync_dir(dir)
}

#[cfg(test)]
pub(super) mod tests {
    use zip::{ZipWriter, write::SimpleFileOptions};

    use super::*;

    /// A package on disk with these files.
    pub(in crate::appservice) fn package(dir: &Path, files: &[(&str, &[u8], u32)]) -> PathBuf {
        let path = dir.join(format!("{}.zip", uuid::Uuid::new_v4()));
        let mut zip = ZipWriter::new(File::create(&path).expect("create"));
        for (name, bytes, mode) in files {
            let options = SimpleFileOptions::default().unix_permissions(*mode);
            zip.start_file(*name, options).expect("start");
            zip.write_all(bytes).expect("write");
        }
        zip.finish().expect("finish");
        path
    }

    struct Fixture {
        dir: tempfile::TempDir,
        layout: Layout,
    }

    fn fixture() -> Fixture {
        let dir = tempfile::tempdir().expect("tempdir");
        let layout = Layout::new(dir.path().join("apps"));
        layout.prepare().expect("prepare");
        Fixture { dir, layout }
    }

    impl Fixture {
        fn unpack(&self, package: &Path, limits: &Limits) -> Result<PathBuf, PackageError> {
            let unpacked = self.layout.unpack(package, "digest", limits);
            assert_eq!(
                fs::read_dir(self.layout.unpacking()).expect("read").count(),
                0,
                "nothing is left over"
            );
            unpacked
        }
    }

    #[test]
    fn a_package_is_unpacked_whole_with_its_executable_files() {
        use std::os::unix::fs::PermissionsExt;
        let fixture = fixture();
        let zip = package(
            fixture.dir.path(),
            &[
                ("app/main.py", b"print()", 0o644),
                ("App_Data/jobs/triggered/migrate/run.sh", b"#!/bin/sh", 0o755),
            ],
        );
        let content = fixture.unpack(&zip, &Limits::default()).expect("unpack");
        assert_eq!(fs::read(content.join("app/main.py")).expect("read"), b"print()");
        let script =
            fs::metadata(content.join("App_Data/jobs/triggered/migrate/run.sh")).expect("script");
        assert_eq!(script.permissions().mode() & 0o777, 0o755);
        assert!(content.join("antenv").is_dir());
    }

    #[test]
    fn paths_that_leave_the_directory_are_refused() {
        for name in ["../evil", "a/../../evil", "/etc/passwd", "a\\..\\evil", "", "."] {
            assert!(safe_path(name, &Limits::default()).is_err(), "{name:?}");
        }
        let fixture = fixture();
        let zip = package(fixture.dir.path(), &[("ok", b"", 0o644), ("../evil", b"x", 0o644)]);
        let error = fixture.unpack(&zip, &Limits::default()).expect_err("refused");
        assert!(matches!(error, PackageError::UnsafePath(_)), "{error}");
        assert!(!fixture.layout.content("digest").exists());
        assert!(!fixture.layout.root.join("evil").exists());
    }

    #[test]
    fn symbolic_links_are_refused() {
        let fixture = fixture();
        let path = fixture.dir.path().join("link.zip");
        let mut zip = ZipWriter::new(File::create(&path).expect("create"));
        zip.add_symlink("link", "/etc/passwd", SimpleFileOptions::default()).expect("link");
        zip.finish().expect("finish");
        let error = fixture.unpack(&path, &Limits::default()).expect_err("refused");
        assert!(error.to_string().contains("symbolic link"), "{error}");
    }

    #[test]
    fn a_bomb_is_refused_by_what_comes_out_of_it() {
        let fixture = fixture();
        let zip = package(fixture.dir.path(), &[("zeros", &vec![0; 4 << 20], 0o644)]);
        let limits = Limits { ratio: 10, ratio_from: 1 << 20, ..Limits::default() };
        let error = fixture.unpack(&zip, &limits).expect_err("refused");
        assert!(matches!(error, PackageError::TooLarge { .. }), "{error}");
        let limits = Limits { content_bytes: 1 << 20, ..Limits::default() };
        assert!(fixture.unpack(&zip, &limits).is_err());
        assert!(fixture.unpack(&zip, &Limits::default()).is_ok());
    }

    #[test]
    fn too_many_entries_are_refused() {
        let fixture = fixture();
        let zip = package(fixture.dir.path(), &[("a", b"", 0o644), ("b", b"", 0o644)]);
        let error =
            fixture.unpack(&zip, &Limits { entries: 1, ..Limits::default() }).expect_err("refused");
        assert!(error.to_string().contains("2 entries"), "{error}");
    }

    #[test]
    fn what_is_not_a_zip_says_so() {
        let fixture = fixture();
        let path = fixture.dir.path().join("not.zip");
        fs::write(&path, b"this is not a zip").expect("write");
        assert!(matches!(fixture.unpack(&path, &Limits::default()), Err(PackageError::NotAZip(_))));
        let zip = package(fixture.dir.path(), &[("a", &[7; 5000], 0o644)]);
        let bytes = fs::read(&zip).expect("read");
        for cut in (0..bytes.len()).step_by(7) {
            fs::write(&path, &bytes[..cut]).expect("write");
            assert!(fixture.unpack(&path, &Limits::default()).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn an_interrupted_unpacking_is_swept_away_at_start() {
        let fixture = fixture();
        fs::create_dir(fixture.layout.unpacking().join("half")).expect("create");
        fixture.layout.prepare().expect("prepare");
        assert_eq!(fs::read_dir(fixture.layout.unpacking()).expect("read").count(), 0);
    }
}
