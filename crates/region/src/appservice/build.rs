//! The build that `SCM_DO_BUILD_DURING_DEPLOYMENT` asks for: a virtual environment from the
//! package's requirements.
//!
//! It is built in a sandbox, at the very path where instances will see it (`antenv` below the content),
//! so that its scripts' first lines are right. What builds see as `/home/site/wwwroot` is the directory
//! of all environments and of the installers' caches: one mount, so that files installed are hard links
//! to files cached. An environment is named by the hash of what it was built from; an unchanged one is
//! not built again.

use std::{ffi::OsString, fs, io, net::Ipv4Addr, path::Path, sync::Arc, time::SystemTime};

use aws_lc_rs::digest::{Context, SHA256};
use futures_util::future::BoxFuture;
use lazuli_host::{Host, Mount, Network, Spec, User};
use tokio::sync::Mutex;

use super::{
    content::Layout,
    logs,
    python::{Choice, Python, Pythons},
    sandbox::{Addresses, Surroundings},
    settings::{self, WWWROOT},
};

/// Where a build sees the package's content.
const SOURCE: &str = "/home/site/source";
/// Where a sandbox sees uv.
const UV: &str = "/opt/uv/uv";

/// Why there is no virtual environment.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// No interpreter.
    #[error("{0}")]
    NoPython(String),
    /// The interpreter cannot make virtual environments, and there is no uv.
    #[error(
        "Python {0} cannot create virtual environments: its ensurepip module is missing (Debian and Ubuntu: \
         install python3-venv), and uv is not installed either"
    )]
    NoInstaller(String),
    /// Requirements did not resolve or install.
    #[error("installing the requirements failed ({ended}):\n{}", last_lines.join("\n"))]
    Failed {
        /// How the installer ended.
        ended: String,
        /// What it wrote last.
        last_lines: Vec<String>,
    },
    /// The machine.
    #[error("the build could not run: {0}")]
    Machine(String),
}

impl From<io::Error> for BuildError {
    fn from(error: io::Error) -> Self {
        Self::Machine(error.to_string())
    }
}

/// Takes a line of the build's log.
pub type Say<'a> = dyn Fn(&str) + Send + Sync + 'a;

/// Builds environments. Faked in tests.
pub trait Builder: Send + Sync + 'static {
    /// The environment for `content`, built if it is not there yet; `None` when it asks for nothing.
    fn build<'a>(
        &'a self,
        content: &'a Path,
        python: &'a str,
        say: &'a Say<'a>,
    ) -> BoxFuture<'a, Result<Option<String>, BuildError>>;
}

/// What a package's requirements are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Requirements,
    Pyproject,
}

/// Builds in sandboxes.
pub struct SandboxBuilder {
    host: Host,
    layout: Layout,
    addresses: Addresses,
    surroundings: Arc<dyn Surroundings>,
    pythons: Arc<Pythons>,
    /// One build at a time: they share the path `antenv`, and the machine's processors.
    turn: Mutex<()>,
}

impl SandboxBuilder {
    /// A builder with what this machine has.
    pub fn new(
        host: Host,
        layout: Layout,
        addresses: Addresses,
        surroundings: Arc<dyn Surroundings>,
        pythons: Arc<Pythons>,
    ) -> Self {
        Self { host, layout, addresses, surroundings, pythons, turn: Mutex::default() }
    }

    async fn run(
        &self,
        content: &Path,
        source: Source,
        choice: &Choice,
        key: &str,
        say: &Say<'_>,
    ) -> Result<(), BuildError> {
        let _turn = self.turn.lock().await;
        let place = self.layout.environment(key);
        if place.is_dir() {
            return Ok(());
        }
        let building = self.layout.environments().join("antenv");
        remove(&building)?;
        let python = &choice.python;
        let uv = self.pythons.uv().await;
        let script = match uv {
            Some(_) => uv_script(python, source),
            None if python.has_pip => pip_script(python, source),
            None => return Err(BuildError::NoInstaller(python.to_string())),
        };
        let address =
            self.addresses.lease().map_err(|error| BuildError::Machine(error.to_string()))?;
        let mut mounts = vec![
            Mount::writable(self.layout.environments(), WWWROOT),
            Mount::read_only(content, SOURCE),
        ];
        mounts.extend(python.mount().map(|prefix| Mount::read_only(prefix, prefix)));
        mounts.extend(uv.map(|uv| Mount::read_only(uv, UV)));
        let mut env = self.surroundings.environment();
        let mut set = |name: &'static str, value: &str| env.push((name, value.to_owned()));
        set("PATH", &format!("{}:/usr/local/bin:/usr/bin:/bin", python.bin().display()));
        set("HOME", "/tmp");
        set("LANG", "C.UTF-8");
        set("PYTHONUNBUFFERED", "1");
        set("UV_CACHE_DIR", &format!("{WWWROOT}/cache/uv"));
        set("UV_PYTHON_DOWNLOADS", "never");
        set("UV_NO_PROGRESS", "1");
        set("UV_NO_CONFIG", "1");
        set("PIP_CACHE_DIR", &format!("{WWWROOT}/cache/pip"));
        set("PIP_DISABLE_PIP_VERSION_CHECK", "1");
        set("PIP_NO_INPUT", "1");
        set("PIP_PROGRESS_BAR", "off");
        let mut env: Vec<(OsString, OsString)> =
            env.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        env.extend(index_settings());
        let spec = Spec {
            name: "build".to_owned(),
            program: "/bin/sh".into(),
            args: vec!["-c".into(), script.into()],
            env,
            cwd: SOURCE.into(),
            user: User::Root,
            network: Network::Own(address.ip()),
            mounts,
            hosts: self.surroundings.hosts(),
            ca_bundle: self.surroundings.ca_bundle(),
            nofile: 65_536,
        };
        let mut process =
            self.host.spawn(spec).await.map_err(|error| BuildError::Machine(error.to_string()))?;
        let written = std::sync::Mutex::new(Vec::new());
        let keep = |line: &str| {
            say(line);
            if let Ok(mut written) = written.lock() {
                written.push(line.to_owned());
            }
        };
        let (out, err) = (process.take_stdout(), process.take_stderr());
        let read = |output: Option<lazuli_host::Output>| {
            let keep = &keep;
            async move {
                if let Some(mut output) = output {
                    logs::lines(&mut output, keep).await;
                }
            }
        };
        let (exit, (), ()) = tokio::join!(process.wait(), read(out), read(err));
        if !exit.success() {
            remove(&building)?;
            let written = written.into_inner().unwrap_or_default();
            let last_lines = written[written.len().saturating_sub(15)..].to_vec();
            return Err(BuildError::Failed { ended: exit.to_string(), last_lines });
        }
        fs::rename(&building, &place)?;
        fs::File::open(self.layout.environments().join("venvs"))?.sync_all()?;
        Ok(())
    }
}

impl Builder for SandboxBuilder {
    fn build<'a>(
        &'a self,
        content: &'a Path,
        python: &'a str,
        say: &'a Say<'a>,
    ) -> BoxFuture<'a, Result<Option<String>, BuildError>> {
        Box::pin(async move {
            let Some(source) = find_source(content) else {
                say(
                    "Neither requirements.txt nor pyproject.toml in the package: nothing to install.",
                );
                return Ok(None);
            };
            let choice = self.pythons.choose(python).await.map_err(BuildError::NoPython)?;
            if let Some(note) = &choice.note {
                say(note);
            }
            let uv = self.pythons.uv().await.is_some();
            let key = environment_key(content, source, &choice.python, uv)?;
            if self.layout.environment(&key).is_dir() {
                // In use again, before any record says so.
                fs::File::open(self.layout.environment(&key))?.set_modified(SystemTime::now())?;
                say(&format!(
                    "Requirements are unchanged: using the virtual environment {} as it is.",
                    &key[..12]
                ));
                return Ok(Some(key));
            }
            let installer = if uv { "uv" } else { "pip" };
            say(&format!(
                "Creating virtual environment antenv with Python {} and installing {} with {installer}.",
                choice.python,
                match source {
                    Source::Requirements => "requirements.txt",
                    Source::Pyproject => "the dependencies of pyproject.toml",
                }
            ));
            let begun = std::time::Instant::now();
            self.run(content, source, &choice, &key, say).await?;
            say(&format!(
                "Virtual environment is ready after {:.1} s.",
                begun.elapsed().as_secs_f64()
            ));
            Ok(Some(key))
        })
    }
}

/// As Oryx: `requirements.txt` before `pyproject.toml`.
fn find_source(content: &Path) -> Option<Source> {
    if content.join("requirements.txt").is_file() {
        Some(Source::Requirements)
    } else if content.join("pyproject.toml").is_file() {
        Some(Source::Pyproject)
    } else {
        None
    }
}

/// The name of the environment: a hash of all that it depends on.
fn environment_key(
    content: &Path,
    source: Source,
    python: &Python,
    uv: bool,
) -> io::Result<String> {
    let mut hash = Context::new(&SHA256);
    let mut part = |bytes: &[u8]| {
        hash.update(&(bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    part(b"1");
    part(python.to_string().as_bytes());
    part(python.executable.as_os_str().as_encoded_bytes());
    part(if uv { b"uv" } else { b"pip" });
    let names: &[&str] = match source {
        Source::Requirements => &["requirements.txt"],
        Source::Pyproject => &["pyproject.toml", "uv.lock"],
    };
    let mut refers = false;
    for name in names {
        let text = match fs::read(content.join(name)) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        refers |=
            source == Source::Requirements && refers_to_files(&String::from_utf8_lossy(&text));
        part(name.as_bytes());
        part(&text);
    }
    if refers {
        // Its name is the digest of everything in it.
        part(content.file_name().unwrap_or_default().as_encoded_bytes());
    }
    Ok(settings::hex(hash.finish().as_ref()))
}

/// Whether requirements name other files of the package: then all of it counts.
fn refers_to_files(requirements: &str) -> bool {
    requirements.lines().map(str::trim).any(|line| {
        line.starts_with(['.', '/'])
            || ["-r", "-c", "-e", "--requirement", "--constraint", "--editable", "file:"]
                .iter()
                .any(|option| line.starts_with(option))
            || line.contains("@ file:")
    })
}

fn uv_script(python: &Python, source: Source) -> String {
    let python = shell_quote(&python.executable.to_string_lossy());
    let antenv = settings::ANTENV;
    let install = match source {
        Source::Requirements => format!(
            "{UV} pip install --python {antenv} --compile-bytecode -r {SOURCE}/requirements.txt"
        ),
        // With a lock, exactly what it names; without, what the project asks for.
        Source::Pyproject => format!(
            "if [ -f {SOURCE}/uv.lock ]; then \
               {UV} export --project {SOURCE} --frozen --no-dev --no-emit-project --no-hashes -o /tmp/requirements.txt >/dev/null && \
               {UV} pip install --python {antenv} --compile-bytecode -r /tmp/requirements.txt; \
             else {UV} pip install --python {antenv} --compile-bytecode -r {SOURCE}/pyproject.toml; fi"
        ),
    };
    format!("set -e; {UV} venv --quiet --python {python} {antenv}; {install}")
}

fn pip_script(python: &Python, source: Source) -> String {
    let python = shell_quote(&python.executable.to_string_lossy());
    let antenv = settings::ANTENV;
    let what = match source {
        Source::Requirements => format!("-r {SOURCE}/requirements.txt"),
        // pip knows no way to install a project's dependencies alone; it builds in a copy.
        Source::Pyproject => "/tmp/project".to_owned(),
    };
    let copy = if source == Source::Pyproject {
        format!("cp -r {SOURCE} /tmp/project; ")
    } else {
        String::new()
    };
    format!("set -e; {copy}{python} -m venv {antenv}; {antenv}/bin/python -m pip install {what}")
}

fn shell_quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// How this machine's user reaches package indexes: a mirror that is set for pip or uv outside is used
/// inside, certificates are the sandbox's own.
fn index_settings() -> Vec<(OsString, OsString)> {
    const TAKEN: &[&str] = &[
        "PIP_INDEX_URL",
        "PIP_EXTRA_INDEX_URL",
        "PIP_TRUSTED_HOST",
        "PIP_DEFAULT_TIMEOUT",
        "PIP_NO_INDEX",
        "UV_INDEX",
        "UV_DEFAULT_INDEX",
        "UV_INDEX_URL",
        "UV_EXTRA_INDEX_URL",
        "UV_HTTP_TIMEOUT",
        "UV_INSECURE_HOST",
    ];
    std::env::vars_os().filter(|(name, _)| TAKEN.iter().any(|taken| name == taken)).collect()
}

fn remove(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The proxy that sandboxes use for the world outside: core's own address on their subnet.
pub const PROXY: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 0, 1, 1), 3128);

#[cfg(test)]
mod tests {
    use super::*;

    fn python(version: [u32; 3]) -> Python {
        Python {
            version,
            executable: "/usr/bin/python3".into(),
            prefix: "/usr".into(),
            has_pip: true,
        }
    }

    fn key(dir: &Path, python: &Python) -> String {
        environment_key(dir, find_source(dir).expect("a source"), python, true).expect("key")
    }

    #[test]
    fn an_environment_is_known_by_its_requirements_and_its_interpreter() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        for content in [&one, &two] {
            fs::create_dir(content).expect("dir");
            fs::write(content.join("requirements.txt"), "fastapi==0.1\n").expect("write");
        }
        fs::write(two.join("main.py"), "changed").expect("write");
        let base = key(&one, &python([3, 14, 0]));
        assert_eq!(base, key(&two, &python([3, 14, 0])), "the code is no part of it");
        assert_ne!(base, key(&one, &python([3, 14, 1])));
        fs::write(two.join("requirements.txt"), "fastapi==0.2\n").expect("write");
        assert_ne!(base, key(&two, &python([3, 14, 0])));
    }

    #[test]
    fn requirements_that_name_files_depend_on_the_whole_package() {
        assert!(refers_to_files("fastapi\n-r base.txt\n"));
        assert!(refers_to_files("./vendored\n"));
        assert!(refers_to_files("x @ file:///home/site/source/x\n"));
        assert!(!refers_to_files("fastapi\n# -r no\nuvicorn[standard]>=0.1\n"));
    }

    #[test]
    fn requirements_come_before_a_project() {
        let dir = tempfile::tempdir().expect("tempdir");
        assert_eq!(find_source(dir.path()), None);
        fs::write(dir.path().join("pyproject.toml"), "").expect("write");
        assert_eq!(find_source(dir.path()), Some(Source::Pyproject));
        fs::write(dir.path().join("requirements.txt"), "").expect("write");
        assert_eq!(find_source(dir.path()), Some(Source::Requirements));
    }

    #[test]
    fn paths_are_quoted_for_the_shell() {
        assert_eq!(shell_quote("/a b'c"), r"'/a b'\''c'");
    }
}
