//! Finds the files: what `.gitignore` names is left out, links to directories are not followed (so
//! that no loop of links can hold us), links to files are.

use std::path::{Path, PathBuf};

use ignore::WalkBuilder;

use crate::project::{Input, MAX_FILE, wanted};

/// Directories that hold other people's code or what tools made.
const SKIP: [&str; 10] = [
    ".git",
    ".terraform",
    ".venv",
    "venv",
    "node_modules",
    "__pycache__",
    "target",
    ".tox",
    "dist",
    "site-packages",
];
/// How many files are read at most.
const MAX_FILES: usize = 200_000;

/// Reads everything of interest below some paths. A path that is a file is read whatever its name
/// says. Paths are shown relative to `base`.
pub fn collect(paths: &[PathBuf], base: &Path) -> Result<Vec<Input>, std::io::Error> {
    Ok(list(paths, base)?.iter().map(|p| one(p, base)).collect())
}

/// The files that [`collect`] reads.
pub fn list(paths: &[PathBuf], base: &Path) -> Result<Vec<PathBuf>, std::io::Error> {
    let mut out = Vec::new();
    for path in paths {
        let full = base.join(path);
        let meta = std::fs::metadata(&full)
            .map_err(|e| std::io::Error::new(e.kind(), format!("{}: {e}", path.display())))?;
        if meta.is_file() {
            out.push(full);
            continue;
        }
        let mut walk = WalkBuilder::new(&full);
        walk.hidden(false)
            .require_git(false)
            .follow_links(false)
            .filter_entry(|e| e.file_name().to_str().is_none_or(|n| !SKIP.contains(&n)));
        for entry in walk.build().flatten() {
            let Some(kind) = entry.file_type() else { continue };
            let file = kind.is_file()
                || (kind.is_symlink()
                    && std::fs::metadata(entry.path()).is_ok_and(|m| m.is_file()));
            if file && wanted(entry.path()) {
                out.push(entry.into_path());
            }
            if out.len() >= MAX_FILES {
                return Err(std::io::Error::other(format!(
                    "more than {MAX_FILES} files: check a part of it"
                )));
            }
        }
    }
    Ok(out)
}

fn one(path: &Path, base: &Path) -> Input {
    let shown = path.strip_prefix(base).unwrap_or(path);
    let shown: PathBuf =
        shown.components().filter(|c| !matches!(c, std::path::Component::CurDir)).collect();
    let bytes = match std::fs::metadata(path) {
        Ok(m) if m.len() > MAX_FILE => Err(format!(
            "this file is {} MiB large; above {} MiB nothing is read",
            m.len() >> 20,
            MAX_FILE >> 20
        )),
        Ok(m) if !m.is_file() => Err("this is no regular file".into()),
        Ok(_) => std::fs::read(path).map_err(|e| e.to_string()),
        Err(e) => Err(e.to_string()),
    };
    Input { path: shown, bytes }
}
