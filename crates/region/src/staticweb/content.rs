//! What an environment shows: files on disk, and what is known of each.
//!
//! Content is a directory that never changes: `{id}/files`, and `{id}/manifest.json` with what stands in
//! it. It is made beside its place and renamed into it, so that it is whole or not there; which one an
//! environment shows is a record of the store. What no record names is swept away.

use std::{
    collections::{BTreeMap, HashSet},
    fs::{self, File as FsFile},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use aws_lc_rs::digest;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::config::{self, Config, Slash};
use crate::appservice::{
    content::{Limits, PackageError, unpack_into},
    settings::hex,
};

/// What may be deployed on each plan: bytes of one application, and of all a site's environments
/// (<https://learn.microsoft.com/azure/static-web-apps/quotas>).
#[derive(Clone, Copy, Debug)]
pub struct Quota {
    /// Bytes of one environment's files.
    pub app_bytes: u64,
    /// Bytes of all environments' files.
    pub all_bytes: u64,
    /// Environments besides production.
    pub staging: usize,
}

impl Quota {
    /// Of a plan.
    pub fn of(standard: bool) -> Self {
        if standard {
            Self { app_bytes: 500 << 20, all_bytes: 2 << 30, staging: 10 }
        } else {
            Self { app_bytes: 250 << 20, all_bytes: 512 << 20, staging: 3 }
        }
    }

    fn limits(self) -> Limits {
        Limits {
            package_bytes: self.app_bytes,
            entries: MAX_FILES * 2,
            content_bytes: self.app_bytes,
            ratio_from: 64 << 20,
            ..Limits::default()
        }
    }
}

/// Files of one application, directories not counted.
const MAX_FILES: usize = 15_000;

/// Why content was refused.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// The package.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// Its `staticwebapp.config.json`.
    #[error("{0}")]
    Config(String),
    /// More than the plan has.
    #[error("{0}")]
    Quota(String),
    /// The machine.
    #[error("the content could not be kept at {}: {source}", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// What is known of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// In bytes.
    pub size: u64,
    /// Of what is in it, quoted.
    pub etag: String,
}

/// Content, ready to be shown.
#[derive(Debug)]
pub struct Content {
    /// Its name.
    pub id: Uuid,
    root: PathBuf,
    /// When it was deployed.
    pub deployed: Timestamp,
    /// By path, `/index.html`. What is not in here is not shown.
    files: BTreeMap<String, File>,
    /// What `staticwebapp.config.json` says.
    pub config: Config,
}

#[derive(Serialize, Deserialize)]
struct Manifest {
    deployed: Timestamp,
    files: BTreeMap<String, File>,
}

/// A path as it is shown, or where it is shown instead.
#[derive(Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// This file.
    File(&'a str, &'a File),
    /// The same page, at the address that `trailingSlash` gives it.
    Moved(String),
}

/// How a path is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Bare,
    Slash,
    File,
}

impl Content {
    /// The file itself.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name.trim_start_matches('/'))
    }

    /// All it takes, in bytes.
    pub fn bytes(&self) -> u64 {
        self.files.values().map(|file| file.size).sum()
    }

    /// The file for a path of the site, by the rules of `trailingSlash`
    /// (<https://learn.microsoft.com/azure/static-web-apps/configuration#trailing-slash>).
    pub fn find(&self, path: &str) -> Option<Found<'_>> {
        if !path.starts_with('/') {
            return None;
        }
        if path == "/" {
            return self.file("/index.html");
        }
        if let Some(base) = path.strip_suffix('/') {
            return self.either(base, Form::Slash);
        }
        if !self.files.contains_key(path) {
            return self.either(path, Form::Bare);
        }
        if let Some(base) = path.strip_suffix("/index.html") {
            return self.page(base, path, true, Form::File);
        }
        match path.strip_suffix(".html") {
            Some(base) => self.page(base, path, false, Form::File),
            None => self.file(path),
        }
    }

    fn file(&self, path: &str) -> Option<Found<'_>> {
        self.files.get_key_value(path).map(|(path, file)| Found::File(path, file))
    }

    /// The page that `base` is the address of: a folder's, else a file of its own.
    fn either(&self, base: &str, form: Form) -> Option<Found<'_>> {
        self.page(base, &format!("{base}/index.html"), true, form)
            .or_else(|| self.page(base, &format!("{base}.html"), false, form))
    }

    /// The page in the file `path`, if there is one, asked for in one of its forms.
    fn page(&self, base: &str, path: &str, is_folder: bool, form: Form) -> Option<Found<'_>> {
        let found = self.file(path)?;
        let wanted = match (self.config.slash, is_folder) {
            // The root's address is a slash and nothing else.
            _ if base.is_empty() && form != Form::File => return Some(found),
            (Slash::Unset, false) if form == Form::Slash => Form::Bare,
            (Slash::Unset, _) => form,
            (Slash::Always, _) | (Slash::Auto, true) => Form::Slash,
            (Slash::Never, _) | (Slash::Auto, false) => Form::Bare,
        };
        if wanted == form {
            return Some(found);
        }
        let slash = if wanted == Form::Slash || base.is_empty() { "/" } else { "" };
        Some(Found::Moved(format!("{base}{slash}")))
    }
}

/// The directory that contents are kept in.
#[derive(Clone, Debug)]
pub struct Shelf {
    root: PathBuf,
}

impl Shelf {
    /// Makes the directories, and removes what interrupted deployments left and what no record names.
    pub fn open(root: PathBuf, named: &HashSet<Uuid>) -> io::Result<Self> {
        let shelf = Self { root };
        match fs::remove_dir_all(shelf.incoming()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::create_dir_all(shelf.incoming())?;
        fs::create_dir_all(shelf.root.join("content"))?;
        for entry in fs::read_dir(shelf.root.join("content"))? {
            let entry = entry?;
            let id = entry.file_name().to_str().and_then(|name| Uuid::parse_str(name).ok());
            if id.is_none_or(|id| !named.contains(&id)) {
                fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(shelf)
    }

    /// Where packages come in; emptied at every start.
    pub fn incoming(&self) -> PathBuf {
        self.root.join("incoming")
    }

    fn place(&self, id: Uuid) -> PathBuf {
        self.root.join("content").join(id.to_string())
    }

    /// Makes content of a package; durable when it returns. Blocks.
    pub fn add(&self, package: &Path, standard: bool) -> Result<Content, ContentError> {
        let id = Uuid::new_v4();
        let temporary = self.incoming().join(id.to_string());
        let made = self.make(id, package, &temporary, standard);
        // Only there after a failure.
        let _ = fs::remove_dir_all(&temporary);
        made
    }

    fn make(
        &self,
        id: Uuid,
        package: &Path,
        temporary: &Path,
        standard: bool,
    ) -> Result<Content, ContentError> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| ContentError::Io { path, source }
        };
        let files = temporary.join("files");
        fs::create_dir(temporary).map_err(at(temporary))?;
        let quota = Quota::of(standard);
        unpack_into(package, &files, &quota.limits()).map_err(|error| over_quota(error, quota))?;
        let config = match fs::read(files.join(config::NAME)) {
            Ok(bytes) => Config::parse(&bytes, standard).map_err(ContentError::Config)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Config::default(),
            Err(error) => return Err(at(&files)(error)),
        };
        let mut listed = BTreeMap::new();
        list(&files, "", &mut listed).map_err(at(&files))?;
        // Both say how the site works: they are not shown.
        listed.remove(&format!("/{}", config::NAME));
        listed.remove("/routes.json");
        if listed.len() > MAX_FILES {
            return Err(ContentError::Quota(format!(
                "The number of static files was too large: {} files, and a static site has {MAX_FILES} at most.",
                listed.len()
            )));
        }
        let manifest = Manifest { deployed: Timestamp::now(), files: listed };
        let path = temporary.join("manifest.json");
        let mut out = FsFile::create(&path).map_err(at(&path))?;
        out.write_all(&serde_json::to_vec(&manifest).unwrap_or_default())
            .and_then(|()| out.sync_all())
            .and_then(|()| FsFile::open(temporary)?.sync_all())
            .map_err(at(&path))?;
        let place = self.place(id);
        fs::rename(temporary, &place)
            .and_then(|()| FsFile::open(self.root.join("content"))?.sync_all())
            .map_err(at(&place))?;
        Ok(self.content(id, manifest, config))
    }

    fn content(&self, id: Uuid, manifest: Manifest, config: Config) -> Content {
        let root = self.place(id).join("files");
        Content { id, root, deployed: manifest.deployed, files: manifest.files, config }
    }

    /// Content that was made before. Its configuration was checked then: what the plan has changed since does
    /// not take a site down.
    pub fn load(&self, id: Uuid) -> io::Result<Content> {
        let place = self.place(id);
        let manifest = serde_json::from_slice(&fs::read(place.join("manifest.json"))?)?;
        let config = match fs::read(place.join("files").join(config::NAME)) {
            Ok(bytes) => Config::parse(&bytes, true).map_err(io::Error::other)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Config::default(),
            Err(error) => return Err(error),
        };
        Ok(self.content(id, manifest, config))
    }

    /// Removes content that nothing names any more.
    pub fn remove(&self, id: Uuid) {
        if let Err(error) = fs::remove_dir_all(self.place(id)) {
            tracing::debug!(%id, %error, "content is gone already");
        }
    }
}

/// What is too much for the plan, in its words.
fn over_quota(error: PackageError, quota: Quota) -> ContentError {
    match error {
        PackageError::TooLarge { what, .. } => ContentError::Quota(format!(
            "The size of the app content was too large: {what}. The limit for this Static Web App is {} bytes and {MAX_FILES} files.",
            quota.app_bytes
        )),
        error => error.into(),
    }
}

/// Every file below `dir`.
fn list(dir: &Path, prefix: &str, into: &mut BTreeMap<String, File>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        // Names come out of the package as text.
        let Some(name) = name.to_str() else { continue };
        let path = format!("{prefix}/{name}");
        if entry.file_type()?.is_dir() {
            list(&entry.path(), &path, into)?;
            continue;
        }
        let mut file = FsFile::open(entry.path())?;
        let mut sum = digest::Context::new(&digest::SHA256);
        let (mut buffer, mut size) = (vec![0; 64 << 10], 0);
        loop {
            let read = file.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            size += read as u64;
            sum.update(&buffer[..read]);
        }
        let etag = format!("\"{}\"", hex(&sum.finish().as_ref()[..16]));
        into.insert(path, File { size, etag });
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use zip::{ZipWriter, write::SimpleFileOptions};

    use super::*;

    /// A package on disk.
    pub(in crate::staticweb) fn package(dir: &Path, files: &[(&str, &[u8])]) -> PathBuf {
        let path = dir.join(format!("{}.zip", Uuid::new_v4()));
        let mut zip = ZipWriter::new(FsFile::create(&path).expect("create"));
        for (name, bytes) in files {
            zip.start_file(*name, SimpleFileOptions::default()).expect("start");
            zip.write_all(bytes).expect("write");
        }
        zip.finish().expect("finish");
        path
    }

    /// Content of these files, in a directory that lives as long as the first.
    pub(in crate::staticweb) fn content(files: &[(&str, &[u8])]) -> (tempfile::TempDir, Content) {
        let dir = tempfile::tempdir().expect("tempdir");
        let shelf = Shelf::open(dir.path().join("static"), &HashSet::new()).expect("a shelf");
        let content = shelf.add(&package(dir.path(), files), true).expect("content");
        (dir, content)
    }

    /// The table of the documentation: what `/about` (a folder) and `/contact` (a file) answer.
    fn table(mode: &str) -> Vec<String> {
        let config =
            if mode.is_empty() { "{}".into() } else { format!(r#"{{"trailingSlash":"{mode}"}}"#) };
        let (_dir, content) = content(&[
            ("about/index.html", b"about"),
            ("contact.html", b"contact"),
            ("index.html", b"home"),
            ("logo.png", b"png"),
            ("staticwebapp.config.json", config.as_bytes()),
        ]);
        ["/about", "/about/", "/about/index.html", "/contact", "/contact/", "/contact.html"]
            .iter()
            .map(|path| match content.find(path) {
                Some(Found::File(..)) => "200".to_owned(),
                Some(Found::Moved(to)) => to,
                None => "404".to_owned(),
            })
            .collect()
    }

    #[test]
    fn the_trailing_slash_is_as_documented() {
        let same = "200";
        assert_eq!(table(""), [same, same, same, same, "/contact", same]);
        assert_eq!(table("always"), ["/about/", same, "/about/", "/contact/", same, "/contact/"]);
        assert_eq!(table("never"), [same, "/about", "/about", same, "/contact", "/contact"]);
        assert_eq!(table("auto"), ["/about/", same, "/about/", same, "/contact", "/contact"]);
    }

    #[test]
    fn nothing_but_the_sites_own_files_is_found() {
        let (_dir, content) = content(&[
            ("index.html", b"home"),
            ("a/logo.png", b"png"),
            ("staticwebapp.config.json", b"{}"),
        ]);
        assert!(matches!(content.find("/"), Some(Found::File("/index.html", _))));
        assert!(matches!(content.find("/index.html"), Some(Found::File("/index.html", _))));
        assert!(matches!(content.find("/a/logo.png"), Some(Found::File(..))));
        let (_dir, both) =
            self::content(&[("about.html", b"file"), ("about/index.html", b"folder")]);
        assert!(matches!(both.find("/about.html"), Some(Found::File("/about.html", _))));
        assert!(matches!(both.find("/about"), Some(Found::File("/about/index.html", _))));
        for path in [
            "/staticwebapp.config.json",
            "/staticwebapp.config",
            "/a",
            "/a/",
            "/a/logo.png/",
            "//",
            "//evil.org/",
            "/../manifest.json",
            "/a/../index.html",
            "",
            "index.html",
        ] {
            assert!(content.find(path).is_none(), "{path}");
        }
    }

    #[test]
    fn a_refused_package_leaves_nothing_and_content_comes_back_as_it_was() {
        let dir = tempfile::tempdir().expect("tempdir");
        let root = dir.path().join("static");
        let shelf = Shelf::open(root.clone(), &HashSet::new()).expect("a shelf");
        let bad = package(dir.path(), &[("staticwebapp.config.json", b"{")]);
        assert!(matches!(shelf.add(&bad, true), Err(ContentError::Config(_))));
        let out = package(dir.path(), &[("../evil", b"x")]);
        assert!(matches!(shelf.add(&out, true), Err(ContentError::Package(_))));
        let empty = |dir: &str| fs::read_dir(root.join(dir)).expect("a directory").count() == 0;
        assert!(empty("incoming") && empty("content"));
        let good =
            shelf.add(&package(dir.path(), &[("index.html", b"home")]), false).expect("good");
        let again = Shelf::open(root.clone(), &HashSet::from([good.id])).expect("a shelf");
        assert_eq!(again.load(good.id).expect("content").files, good.files);
        Shelf::open(root.clone(), &HashSet::new()).expect("a shelf");
        assert!(empty("content"), "what no record names is swept away");
    }

    #[test]
    fn more_than_the_plan_has_is_refused() {
        let dir = tempfile::tempdir().expect("tempdir");
        let shelf = Shelf::open(dir.path().join("static"), &HashSet::new()).expect("a shelf");
        let names: Vec<String> = (0..=MAX_FILES).map(|n| format!("f{n}")).collect();
        let files: Vec<(&str, &[u8])> =
            names.iter().map(|name| (name.as_str(), &b""[..])).collect();
        let error = shelf.add(&package(dir.path(), &files), true).expect_err("too many");
        assert!(error.to_string().contains("15001 files"), "{error}");
        let zeros = vec![0; 65 << 20];
        let bomb = package(dir.path(), &[("zeros", &zeros)]);
        assert!(matches!(shelf.add(&bomb, true), Err(ContentError::Quota(_))));
    }
}
