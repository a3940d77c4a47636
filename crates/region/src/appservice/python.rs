//! The Python interpreters of this machine: App Service brings its own, a local region uses those
//! that are installed.

use std::{
    collections::BTreeSet,
    env, fmt, fs,
    io::Read,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
};

use serde::Deserialize;
use tokio::{process::Command, sync::OnceCell};

/// An interpreter.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Python {
    /// `[3, 14, 0]`.
    pub version: [u32; 3],
    /// The interpreter itself, no shim and no link.
    pub executable: PathBuf,
    /// Where its library is: what a sandbox needs to see.
    pub prefix: PathBuf,
    /// Whether `python -m venv` can bring pip along.
    pub has_pip: bool,
}

impl fmt::Display for Python {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch] = self.version;
        write!(f, "{major}.{minor}.{patch}")
    }
}

impl Python {
    /// The directory of the interpreter.
    pub fn bin(&self) -> &Path {
        self.executable.parent().unwrap_or(Path::new("/usr/bin"))
    }

    /// What a sandbox must show beyond the minimal system, if anything.
    pub fn mount(&self) -> Option<&Path> {
        (!self.prefix.starts_with("/usr")).then_some(&*self.prefix)
    }
}

/// The interpreters of this machine, newest first. Asking each what it is takes a moment: it is done
/// once, by whoever needs the answer first or by [`look`](Self::look), and the others wait for it.
#[derive(Debug, Default)]
pub struct Pythons {
    found: OnceCell<Vec<Python>>,
    uv: OnceCell<Option<PathBuf>>,
}

/// Which interpreter a site gets.
#[derive(Clone, Debug)]
pub struct Choice {
    /// The interpreter.
    pub python: Python,
    /// What to say when it is not the version the site asked for.
    pub note: Option<String>,
}

const QUESTION: &str = "import sys, json, os, importlib.util as u\n\
    print(json.dumps({'version': list(sys.version_info[:3]), \
    'executable': os.path.realpath(sys.executable), 'prefix': os.path.realpath(sys.base_prefix), \
    'has_pip': u.find_spec('ensurepip') is not None and u.find_spec('venv') is not None}))";

impl Pythons {
    /// Begins to look for interpreters, where distributions, pyenv and uv put them; returns at once.
    pub fn look(self: &Arc<Self>) {
        let looking = self.clone();
        tokio::spawn(async move {
            looking.uv().await;
        });
    }

    /// These interpreters.
    pub fn of(found: Vec<Python>) -> Self {
        Self { found: OnceCell::new_with(Some(newest_first(found))), uv: OnceCell::new() }
    }

    /// All of them.
    pub async fn all(&self) -> &[Python] {
        self.found
            .get_or_init(|| async {
                let mut found: Vec<Python> = Vec::new();
                let asked = candidates().into_iter().map(ask);
                for python in futures_util::future::join_all(asked).await.into_iter().flatten() {
                    let known = found.iter().any(|p| p.executable == python.executable);
                    if python.version >= [3, 9, 0] && !known {
                        found.push(python);
                    }
                }
                newest_first(found)
            })
            .await
    }

    /// uv, if it is on this machine.
    pub async fn uv(&self) -> Option<&Path> {
        let all = self.all().await;
        self.uv.get_or_init(|| async { find_uv(all) }).await.as_deref()
    }

    /// The interpreter for `wanted` (`3.14`): that version, or else the newest there is, and says so.
    pub async fn choose(&self, wanted: &str) -> Result<Choice, String> {
        let all = self.all().await;
        let mut parts = wanted.split('.').map(str::parse::<u32>);
        let wanted_version = match (parts.next(), parts.next()) {
            (Some(Ok(major)), Some(Ok(minor))) => Some([major, minor]),
            _ => None,
        };
        let exact = all
            .iter()
            .find(|python| Some([python.version[0], python.version[1]]) == wanted_version);
        if let Some(python) = exact {
            return Ok(Choice { python: python.clone(), note: None });
        }
        let newest = all.first().ok_or_else(|| {
            "no Python 3.9 or newer was found on this machine; install python3 and python3-venv, or uv".to_owned()
        })?;
        let note = format!(
            "Python {wanted} is not installed on this machine; using Python {newest} instead."
        );
        Ok(Choice { python: newest.clone(), note: Some(note) })
    }
}

fn newest_first(mut found: Vec<Python>) -> Vec<Python> {
    // Of two of one version, the one that needs no mount.
    found.sort_by(|a, b| {
        b.version.cmp(&a.version).then(a.mount().is_some().cmp(&b.mount().is_some()))
    });
    found
}

async fn ask(executable: PathBuf) -> Option<Python> {
    let run = Command::new(&executable)
        .args(["-I", "-S", "-c", QUESTION])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(std::time::Duration::from_secs(10), run).await.ok()?.ok()?;
    serde_json::from_slice(&output.stdout).ok()
}

/// Files that may be interpreters, each once, links resolved.
fn candidates() -> BTreeSet<PathBuf> {
    let home = env::var_os("HOME").map(PathBuf::from);
    let mut dirs: Vec<PathBuf> =
        env::var_os("PATH").map(|path| env::split_paths(&path).collect()).unwrap_or_default();
    dirs.extend(["/usr/local/bin", "/usr/bin"].map(PathBuf::from));
    let mut collections =
        vec![PathBuf::from("/opt/python"), PathBuf::from("/usr/local/pyenv/versions")];
    if let Some(root) = env::var_os("PYENV_ROOT") {
        collections.push(Path::new(&root).join("versions"));
    }
    if let Some(dir) = env::var_os("UV_PYTHON_INSTALL_DIR") {
        collections.push(dir.into());
    }
    if let Some(home) = &home {
        dirs.push(home.join(".local/bin"));
        collections.push(home.join(".pyenv/versions"));
        let data =
            env::var_os("XDG_DATA_HOME").map_or_else(|| home.join(".local/share"), PathBuf::from);
        collections.push(data.join("uv/python"));
    }
    for collection in collections {
        dirs.extend(
            fs::read_dir(collection)
                .into_iter()
                .flatten()
                .flatten()
                .map(|entry| entry.path().join("bin")),
        );
    }
    dirs.into_iter()
        .flat_map(|dir| fs::read_dir(dir).into_iter().flatten().flatten())
        .filter(|entry| is_python(&entry.file_name().to_string_lossy()))
        .filter_map(|entry| fs::canonicalize(entry.path()).ok())
        .filter(|path| is_program(path))
        .collect()
}

/// `python3` or `python3.14`, not `python3-config`.
fn is_python(name: &str) -> bool {
    name.strip_prefix("python3").is_some_and(|rest| {
        rest.is_empty() || rest.strip_prefix('.').is_some_and(|minor| minor.parse::<u32>().is_ok())
    })
}

/// Whether a file is a program itself and not a script that stands for one (pyenv's shims).
pub fn is_program(path: &Path) -> bool {
    let mut magic = [0; 4];
    fs::File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok()
        && magic == *b"\x7fELF"
}

/// uv, when it is on the machine: on the `PATH`, where its installer puts it, or beside an
/// interpreter that it was installed into.
fn find_uv(pythons: &[Python]) -> Option<PathBuf> {
    let home = env::var_os("HOME").map(PathBuf::from);
    let path = env::var_os("PATH")
        .map(|path| env::split_paths(&path).collect::<Vec<_>>())
        .unwrap_or_default();
    path.into_iter()
        .chain(home.iter().flat_map(|home| [home.join(".local/bin"), home.join(".cargo/bin")]))
        .chain(pythons.iter().map(|python| python.bin().to_owned()))
        .map(|dir| dir.join("uv"))
        .filter_map(|path| fs::canonicalize(path).ok())
        .find(|path| is_program(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn python(version: [u32; 3], prefix: &str) -> Python {
        Python {
            version,
            executable: Path::new(prefix).join("bin/python3"),
            prefix: prefix.into(),
            has_pip: true,
        }
    }

    #[tokio::test]
    async fn the_version_asked_for_is_used_or_the_newest_and_that_is_said() {
        let pythons = Pythons::of(vec![
            python([3, 11, 2], "/usr"),
            python([3, 13, 0], "/opt/a"),
            python([3, 14, 1], "/opt/b"),
        ]);
        let choice = pythons.choose("3.14").await.expect("found");
        assert_eq!((choice.python.version, choice.note), ([3, 14, 1], None));
        assert_eq!(pythons.choose("3.11").await.expect("found").python.mount(), None);
        let choice = pythons.choose("3.15").await.expect("another");
        assert_eq!(choice.python.version, [3, 14, 1]);
        assert!(choice.note.expect("said").contains("3.15 is not installed"));
        assert!(Pythons::of(Vec::new()).choose("3.14").await.is_err());
    }

    #[test]
    fn only_interpreters_are_candidates() {
        for (name, is) in [
            ("python3", true),
            ("python3.14", true),
            ("python3-config", false),
            ("python3.14-gdb.py", false),
            ("python2", false),
        ] {
            assert_eq!(is_python(name), is, "{name}");
        }
    }

    #[tokio::test]
    async fn an_interpreter_of_this_machine_is_found_with_its_prefix() {
        let pythons = Pythons::default();
        let Some(python) = pythons.all().await.first() else {
            return; // A machine without Python has nothing to find.
        };
        assert!(python.executable.is_absolute() && python.prefix.is_dir());
    }
}
