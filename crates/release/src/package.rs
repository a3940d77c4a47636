//! The package: a zip of the app alone, the same bytes for the same tree.
//!
//! What goes in: everything below the project that version control would keep, less what the
//! manifest excludes, less what never belongs on a server (virtual environments, caches, VCS data,
//! `.env` files, private keys). Names are sorted, times and modes are fixed, so that the digest says
//! whether two packages are the same, whoever built them.
//!
//! Every package carries the WebJob that makes the database's logins (see [`crate::rotation`]).
//! Where the manifest has a migration command, the package carries it as the triggered WebJob
//! `migrate`, because only the app's own network reaches the database (ERRATA 21).

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use aws_lc_rs::digest::{Context, SHA256};
use ignore::WalkBuilder;
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use jiff::Timestamp;
use lazuli_standard::Manifest;
use lazuli_standard::webjob::WebJobFile;
use serde::{Deserialize, Serialize};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use crate::rotation;

/// Where the migration WebJob lies in the package, see
/// <https://learn.microsoft.com/azure/app-service/webjobs-create>.
pub use lazuli_standard::webjob::MIGRATE as MIGRATE_JOB;

/// Never in a package, as `.gitignore` patterns. The reasons: they are not the app (VCS, editors,
/// caches), they only work on the machine that made them (virtual environments, ERRATA 19), or they
/// hold secrets.
const NEVER: &[&str] = &[
    ".git",
    ".hg",
    ".svn",
    ".jj",
    ".lazuli/",
    ".venv/",
    "venv/",
    "antenv/",
    "__pycache__/",
    "*.py[cod]",
    ".pytest_cache/",
    ".mypy_cache/",
    ".ruff_cache/",
    ".hypothesis/",
    ".tox/",
    ".nox/",
    ".coverage",
    ".coverage.*",
    "htmlcov/",
    "*.egg-info/",
    "node_modules/",
    ".idea/",
    ".vscode/",
    ".DS_Store",
    ".terraform/",
    "*.tfstate",
    "*.tfstate.*",
    "*.swp",
    ".env",
    ".env.*",
    "!.env.example",
    "!.env.sample",
    "!.env.template",
    "*.pfx",
    "*.p12",
    "id_rsa",
    "id_ed25519",
    ".netrc",
    ".pgpass",
];

/// A file that holds a private key is small and says so in its first lines.
const KEY_SNIFF: u64 = 64 * 1024;

/// Why there is no package.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// A directory or file could not be read or written.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Walking the project failed.
    #[error("cannot read the project")]
    Walk(#[source] ignore::Error),
    /// A pattern of the manifest's `package.exclude` is none.
    #[error("`{pattern}` in package.exclude is not a pattern")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// Why not.
        source: ignore::Error,
    },
    /// A file's name is not UTF-8, which a zip cannot carry reliably.
    #[error("the name of {} is not UTF-8", .0.display())]
    Name(PathBuf),
    /// The zip could not be written.
    #[error("cannot write the package")]
    Zip(#[from] zip::result::ZipError),
    /// The manifest names a module that is not in the package.
    #[error("`{module}` is not in the package: neither {file} nor {package} is there")]
    NoModule {
        /// As the manifest names it.
        module: String,
        /// The file that would hold it.
        file: String,
        /// The package that would hold it.
        package: String,
    },
    /// There is nothing to install from.
    #[error("there is neither a requirements.txt nor a pyproject.toml in {}", .0.display())]
    NoRequirements(PathBuf),
    /// The project's own App_Data collides with ours.
    #[error("the project has a {0} of its own, which lazuli writes")]
    JobCollision(&'static str),
    /// The tree differs from its commit, and the caller demands that it does not.
    #[error("the tree is not clean: {0}")]
    Dirty(String),
}

/// A package on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Package {
    /// SHA-256 of the zip, hexadecimal.
    pub digest: String,
    /// Bytes.
    pub size: u64,
    /// Files in it.
    pub files: usize,
    /// Where it comes from.
    pub origin: Origin,
    /// When it was made.
    pub created: Timestamp,
}

impl Package {
    /// The first 12 characters of the digest, for people.
    pub fn short(&self) -> &str {
        self.digest.get(..12).unwrap_or(&self.digest)
    }
}

/// What version control says about the tree.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Origin {
    /// The commit, where the tree is under Git.
    pub commit: Option<String>,
    /// Its author.
    pub author: Option<String>,
    /// Whether the tree differs from the commit.
    pub dirty: bool,
}

/// The packages of a project, kept by digest so that a rollback can deploy an old one again.
#[derive(Clone, Debug)]
pub struct Packages {
    dir: PathBuf,
}

/// How many packages are kept. A rollback needs the last two; the rest is for looking back.
const KEEP: usize = 8;

impl Packages {
    /// The packages below `.lazuli` of a project.
    pub fn of(lazuli: &Path) -> Self {
        Self { dir: lazuli.join("packages") }
    }

    /// Where the package with this digest is, if it was kept.
    pub fn find(&self, digest: &str) -> Option<PathBuf> {
        let path = self.path(digest);
        path.is_file().then_some(path)
    }

    fn path(&self, digest: &str) -> PathBuf {
        self.dir.join(format!("{digest}.zip"))
    }

    /// Builds the package of the project and keeps it. `warn` hears about files left out that
    /// somebody may miss.
    pub fn build(
        &self,
        project: &Path,
        manifest: &Manifest,
        allow_dirty: bool,
        warn: &mut dyn FnMut(String),
    ) -> Result<Package, PackageError> {
        let origin = origin(project);
        if origin.dirty && !allow_dirty {
            let commit = origin.commit.as_deref().unwrap_or("its commit");
            return Err(PackageError::Dirty(format!("it differs from commit {commit}")));
        }
        let files = list(project, &manifest.package.exclude, warn)?;
        preflight(project, manifest, &files)?;
        std::fs::create_dir_all(&self.dir).map_err(io_error("create", &self.dir))?;
        let temporary = tempfile::Builder::new()
            .prefix(".new-")
            .suffix(".zip")
            .tempfile_in(&self.dir)
            .map_err(io_error("write to", &self.dir))?;
        let jobs = webjobs(manifest);
        let count = write_zip(temporary.as_file(), project, &files, &jobs)?;
        let (digest, size) = digest(temporary.as_file()).map_err(io_error("read", &self.dir))?;
        let path = self.path(&digest);
        temporary.as_file().sync_all().map_err(io_error("write", &path))?;
        temporary.persist(&path).map_err(|error| PackageError::Io {
            action: "write",
            path: path.clone(),
            source: error.error,
        })?;
        Ok(Package { digest, size, files: count, origin, created: Timestamp::now() })
    }

    /// Deletes the oldest packages beyond the bound, but none of those in `needed`.
    pub fn prune(&self, needed: &[&str]) -> io::Result<()> {
        let mut kept: Vec<(std::time::SystemTime, PathBuf)> = std::fs::read_dir(&self.dir)?
            .filter_map(Result::ok)
            .filter(|entry| entry.path().extension().is_some_and(|e| e == "zip"))
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect();
        kept.sort();
        let excess = kept.len().saturating_sub(KEEP);
        for (_, path) in kept.into_iter().take(excess) {
            let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            if !needed.contains(&stem) {
                std::fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}

fn io_error<'a>(action: &'static str, path: &'a Path) -> impl Fn(io::Error) -> PackageError + 'a {
    move |source| PackageError::Io { action, path: path.to_owned(), source }
}

/// A file of the package.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    /// With `/`, relative to the project.
    name: String,
    executable: bool,
}

/// The files that belong into the package, sorted by name.
fn list(
    project: &Path,
    exclude: &[String],
    warn: &mut dyn FnMut(String),
) -> Result<Vec<Entry>, PackageError> {
    let never = matcher(project, NEVER)?;
    let excluded = matcher(project, exclude)?;
    let mut walk = WalkBuilder::new(project);
    walk.hidden(false)
        .require_git(false)
        // What is ignored must not depend on who packages.
        .git_global(false)
        .ignore(false)
        .follow_links(false)
        .filter_entry(move |entry| {
            let is_dir = entry.file_type().is_some_and(|kind| kind.is_dir());
            !(never.matched(entry.path(), is_dir).is_ignore()
                || excluded.matched(entry.path(), is_dir).is_ignore()
                // A virtual environment by whatever name.
                || is_dir && entry.path().join("pyvenv.cfg").is_file())
        });
    let mut files = Vec::new();
    for entry in walk.build() {
        let entry = entry.map_err(PackageError::Walk)?;
        let path = entry.path();
        let Ok(relative) = path.strip_prefix(project) else { continue };
        let Some(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            continue;
        }
        let name = relative.to_str().ok_or_else(|| PackageError::Name(relative.to_owned()))?;
        if kind.is_symlink() && !links_to_own_file(project, path) {
            warn(format!(
                "{name} is left out: it is a link to something that is not a file of the project"
            ));
            continue;
        }
        let metadata = std::fs::metadata(path).map_err(io_error("read", path))?;
        if !metadata.is_file() {
            warn(format!("{name} is left out: it is neither a file nor a directory"));
            continue;
        }
        if metadata.len() <= KEY_SNIFF && holds_private_key(path).map_err(io_error("read", path))? {
            warn(format!(
                "{name} is left out: it holds a private key; secrets belong in the Key Vault"
            ));
            continue;
        }
        let executable = metadata.permissions().mode() & 0o111 != 0;
        files.push(Entry { name: name.to_owned(), executable });
    }
    files.sort();
    Ok(files)
}

fn matcher(root: &Path, patterns: &[impl AsRef<str>]) -> Result<Gitignore, PackageError> {
    let mut builder = GitignoreBuilder::new(root);
    for pattern in patterns {
        let pattern = pattern.as_ref();
        let error = |source| PackageError::Pattern { pattern: pattern.to_owned(), source };
        builder.add_line(None, pattern).map_err(error)?;
    }
    builder.build().map_err(PackageError::Walk)
}

fn links_to_own_file(project: &Path, link: &Path) -> bool {
    match (project.canonicalize(), link.canonicalize()) {
        (Ok(project), Ok(target)) => target.starts_with(project) && target.is_file(),
        _ => false,
    }
}

fn holds_private_key(path: &Path) -> io::Result<bool> {
    let mut head = Vec::new();
    File::open(path)?.take(KEY_SNIFF).read_to_end(&mut head)?;
    const MARK: &[u8] = b"PRIVATE KEY-----";
    const BEGIN: &[u8] = b"-----BEGIN ";
    // Only at the beginning of a line: a program that mentions the words is no key.
    Ok(head
        .split(|byte| *byte == b'\n')
        .any(|line| line.starts_with(BEGIN) && line.trim_ascii_end().ends_with(MARK)))
}

/// What can be seen to be missing before anything is uploaded.
fn preflight(project: &Path, manifest: &Manifest, files: &[Entry]) -> Result<(), PackageError> {
    let has = |name: &str| files.binary_search_by(|file| file.name.as_str().cmp(name)).is_ok();
    if !has("requirements.txt") && !has("pyproject.toml") {
        return Err(PackageError::NoRequirements(project.to_owned()));
    }
    let module = manifest.backend.app.split(':').next().unwrap_or_default();
    let path = module.replace('.', "/");
    let (file, package) = (format!("{path}.py"), format!("{path}/__init__.py"));
    // `src` layouts put the root one level down; gunicorn finds them through the installed project.
    let found = has(&file)
        || has(&package)
        || has(&format!("src/{file}"))
        || has(&format!("src/{package}"));
    if !found {
        return Err(PackageError::NoModule { module: module.to_owned(), file, package });
    }
    for job in webjobs(manifest) {
        if has(job.path) {
            return Err(PackageError::JobCollision(job.path));
        }
    }
    Ok(())
}

/// What lazuli adds to a package: the manifest's WebJobs and a rotation's, in the order of their
/// names, which is the zip's.
fn webjobs(manifest: &Manifest) -> Vec<WebJobFile> {
    let mut jobs = lazuli_standard::webjob::files(manifest);
    jobs.push(WebJobFile {
        path: rotation::JOB,
        content: rotation::JOB_SCRIPT.to_owned(),
        executable: true,
    });
    jobs.sort_by_key(|job| job.path);
    jobs
}

/// Writes the zip, returns the number of files in it.
fn write_zip(
    file: &File,
    project: &Path,
    files: &[Entry],
    jobs: &[WebJobFile],
) -> Result<usize, PackageError> {
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .compression_level(Some(6))
        // The earliest time a zip can carry.
        .last_modified_time(DateTime::default());
    let mut zip = ZipWriter::new(io::BufWriter::with_capacity(256 * 1024, file));
    let mode = |executable| options.unix_permissions(if executable { 0o755 } else { 0o644 });
    let add = |zip: &mut ZipWriter<_>, files: &[Entry]| {
        for entry in files {
            let path = project.join(&entry.name);
            let mut source = File::open(&path).map_err(io_error("read", &path))?;
            let large = source.metadata().is_ok_and(|m| m.len() >= u64::from(u32::MAX));
            zip.start_file(entry.name.as_str(), mode(entry.executable).large_file(large))?;
            io::copy(&mut source, zip).map_err(io_error("pack", &path))?;
        }
        Ok::<_, PackageError>(())
    };
    // Everything in the order of its name, so that the same project is the same bytes.
    let mut from = 0;
    for job in jobs {
        let to = files.partition_point(|f| f.name.as_str() < job.path);
        add(&mut zip, &files[from..to])?;
        from = to;
        zip.start_file(job.path, mode(job.executable))?;
        let mut content = job.content.as_bytes();
        io::copy(&mut content, &mut zip).map_err(io_error("pack", Path::new(job.path)))?;
    }
    add(&mut zip, &files[from..])?;
    zip.finish()?.into_inner().map_err(|error| PackageError::Io {
        action: "write",
        path: project.to_owned(),
        source: error.into_error(),
    })?;
    Ok(files.len() + jobs.len())
}

/// SHA-256 and length of a whole file.
fn digest(mut file: &File) -> io::Result<(String, u64)> {
    file.seek(SeekFrom::Start(0))?;
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0; 256 * 1024];
    let mut size = 0;
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        context.update(&buffer[..read]);
        size += read as u64;
    }
    Ok((hex(context.finish().as_ref()), size))
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// What Git says about the project; nothing where there is no Git.
fn origin(project: &Path) -> Origin {
    let git = |arguments: &[&str]| {
        let output = Command::new("git")
            .arg("-C")
            .arg(project)
            .args(["-c", "core.fsmonitor=false", "--no-optional-locks"])
            .args(arguments)
            .output()
            .ok()
            .filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--verify", "HEAD"]) else { return Origin::default() };
    Origin {
        commit: Some(commit),
        author: git(&["log", "-1", "--format=%an <%ae>"]).filter(|author| !author.is_empty()),
        dirty: git(&["status", "--porcelain", "--", "."]).is_none_or(|status| !status.is_empty()),
    }
}

#[cfg(test)]
mod tests;
