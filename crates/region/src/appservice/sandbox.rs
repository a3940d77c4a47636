//! Programs of a slot in real sandboxes.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use futures_util::future::BoxFuture;
use lazuli_host::{Exit, Host, Mount, Network, Process, Signal, Spec, User};
use tokio::io::AsyncRead;

use super::{
    content::Layout,
    instance::{Ended, Kind, Program, Running, Runtime, StartError},
    python::Pythons,
    settings::{ANTENV, InstanceEnvironment, Launch, WWWROOT},
};
use crate::identity::msi::IdentityHeader;

/// What a sandbox finds around it in the region.
pub trait Surroundings: Send + Sync + 'static {
    /// Entries of its hosts file.
    fn hosts(&self) -> Vec<(Ipv4Addr, String)>;
    /// System roots and the region's CA.
    fn ca_bundle(&self) -> Option<PathBuf>;
    /// Proxy and certificate variables.
    fn environment(&self) -> Vec<(&'static str, String)>;
    /// The managed identity endpoint, and a header that stands for `principal` when it comes from
    /// `address`.
    fn identity(&self, principal: &str, address: Ipv4Addr) -> Option<(String, IdentityHeader)>;
    /// The program that was given this header has ended.
    fn forget_identity(&self, header: &IdentityHeader);
}

/// The addresses of instances, builds and jobs: `10.0.1.4` to `10.0.1.254`. They are not kept over
/// a restart: nothing names an instance by its address.
#[derive(Clone, Debug, Default)]
pub struct Addresses(Arc<Mutex<Taken>>);

#[derive(Debug, Default)]
struct Taken {
    addresses: BTreeSet<u8>,
    /// The one handed out last: the next one comes after it, so that an address rests before it is
    /// used again. A sandbox's end is seen here before the kernel has let go of its address.
    last: u8,
}

/// An address in use. Dropped, it is free again.
#[derive(Debug)]
pub struct Lease {
    last: u8,
    addresses: Addresses,
}

/// Every address of the subnet is in use.
#[derive(Debug, thiserror::Error)]
#[error("the app subnet 10.0.1.0/24 has no free address left for another instance")]
pub struct SubnetFull;

impl Addresses {
    /// A free address.
    pub fn lease(&self) -> Result<Lease, SubnetFull> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let after = if (4..254).contains(&taken.last) { taken.last + 1 } else { 4 };
        let last = (after..=254)
            .chain(4..after)
            .find(|last| !taken.addresses.contains(last))
            .ok_or(SubnetFull)?;
        taken.addresses.insert(last);
        taken.last = last;
        Ok(Lease { last, addresses: self.clone() })
    }
}

impl Lease {
    /// The address.
    pub fn ip(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 0, 1, self.last)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.addresses
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .addresses
            .remove(&self.last);
    }
}

/// Starts programs in sandboxes.
pub struct SandboxRuntime {
    /// The machine.
    pub host: Host,
    /// Contents and volumes.
    pub layout: Layout,
    /// Addresses for instances.
    pub addresses: Addresses,
    /// The region around them.
    pub surroundings: Arc<dyn Surroundings>,
    /// The machine's interpreters.
    pub pythons: Arc<Pythons>,
}

struct SandboxRunning {
    process: Arc<Process>,
    outputs: Vec<Box<dyn AsyncRead + Send + Sync + Unpin>>,
    address: SocketAddr,
    identity: Option<IdentityHeader>,
    surroundings: Arc<dyn Surroundings>,
    lease: Option<Lease>,
}

impl Drop for SandboxRunning {
    fn drop(&mut self) {
        if let Some(header) = &self.identity {
            self.surroundings.forget_identity(header);
        }
        self.kill();
        // The address is free once nothing of the sandbox is left, and not before: another program
        // that got it earlier could not be connected.
        let (process, lease) = (self.process.clone(), self.lease.take());
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                process.wait().await;
                drop(lease);
            });
        }
    }
}

impl Runtime for SandboxRuntime {
    fn start(&self, program: Program) -> BoxFuture<'_, Result<Box<dyn Running>, StartError>> {
        Box::pin(async move {
            let launch = &program.launch;
            let deployment = launch.deployment.as_ref().ok_or(StartError::NoContent)?;
            let content = self.layout.content(&deployment.content);
            let machine = |error: &dyn std::fmt::Display| StartError::Machine(error.to_string());
            let (command, cwd, variables) = match &program.kind {
                Kind::Web => {
                    let command = startup_command(launch, &content).ok_or(StartError::NoCommand)?;
                    (command, PathBuf::from(WWWROOT), Vec::new())
                }
                Kind::Job { dir, script, arguments, env, .. } => {
                    (job_command(script, arguments), Path::new(WWWROOT).join(dir), env.clone())
                }
                Kind::Command { command, dir } => {
                    (format!("exec bash -c {}", quoted(command)), dir.clone(), Vec::new())
                }
            };
            let choice = self.pythons.choose(&launch.python).await.map_err(StartError::NoPython)?;
            let home = self.layout.make_volume(&launch.volume).map_err(|error| machine(&error))?;
            let mut mounts =
                vec![Mount::writable(home, "/home"), Mount::read_only(&content, WWWROOT)];
            if let Some(environment) = &deployment.environment {
                mounts.push(Mount::read_only(self.layout.environment(environment), ANTENV));
            }
            mounts.extend(choice.python.mount().map(|prefix| Mount::read_only(prefix, prefix)));
            let lease = self.addresses.lease().map_err(|error| machine(&error))?;
            let identity = launch
                .principal
                .as_deref()
                .and_then(|principal| self.surroundings.identity(principal, lease.ip()));
            let env = launch
                .environment(&InstanceEnvironment {
                    id: &program.id,
                    address: Some(lease.ip()),
                    python_bin: &choice.python.bin().to_string_lossy(),
                    python_version: &choice.python.to_string(),
                    identity: identity
                        .as_ref()
                        .map(|(endpoint, header)| (&**endpoint, header.expose())),
                    outside: &self.surroundings.environment(),
                })
                .into_iter()
                .chain(variables)
                .map(|(name, value)| (OsString::from(name), OsString::from(value)))
                .collect();
            let spec = Spec {
                name: launch.slot.label(),
                program: "/bin/sh".into(),
                args: vec!["-c".into(), command.into()],
                env,
                cwd,
                user: User::Root,
                network: Network::Own(lease.ip()),
                mounts,
                hosts: self.surroundings.hosts(),
                ca_bundle: self.surroundings.ca_bundle(),
                nofile: 65_536,
            };
            let mut process = match self.host.spawn(spec).await {
                Ok(process) => process,
                Err(error) => {
                    if let Some((_, header)) = &identity {
                        self.surroundings.forget_identity(header);
                    }
                    return Err(machine(&error));
                }
            };
            let mut outputs: Vec<Box<dyn AsyncRead + Send + Sync + Unpin>> = Vec::new();
            for output in [process.take_stdout(), process.take_stderr()].into_iter().flatten() {
                outputs.push(Box::new(output));
            }
            Ok(Box::new(SandboxRunning {
                address: SocketAddr::from((lease.ip(), launch.port())),
                process: Arc::new(process),
                outputs,
                identity: identity.map(|(_, header)| header),
                surroundings: self.surroundings.clone(),
                lease: Some(lease),
            }) as Box<dyn Running>)
        })
    }
}

impl Running for SandboxRunning {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn output(&mut self) -> Vec<Box<dyn AsyncRead + Send + Sync + Unpin>> {
        std::mem::take(&mut self.outputs)
    }

    fn terminate(&self) {
        self.signal(Signal::SIGTERM);
    }

    fn kill(&self) {
        self.signal(Signal::SIGKILL);
    }

    fn pid(&self) -> Option<i32> {
        Some(self.process.pid())
    }

    fn ended(&self) -> BoxFuture<'_, Ended> {
        Box::pin(async move {
            let exit = self.process.wait().await;
            let code = match exit {
                Exit::Code(code) => Some(code),
                Exit::Signal(_) => None,
            };
            Ended { code, words: exit.to_string() }
        })
    }
}

impl SandboxRunning {
    fn signal(&self, signal: Signal) {
        if let Err(error) = self.process.signal(signal) {
            tracing::warn!(%error, %signal, "an instance could not be signalled");
        }
    }
}

/// A command that `sh` can replace itself with does: otherwise SIGTERM would end the shell, and with it
/// the sandbox, while the application knows nothing of it. What needs the shell (lists, pipes,
/// variables) gets it; there, `exec` is the command's own affair.
fn replacing_shell(command: &str) -> String {
    let simple = !command.contains([';', '&', '|', '<', '>', '(', ')', '$', '`', '\n', '{', '}'])
        && command.split_whitespace().next().is_some_and(|word| {
            !word.contains('=')
                && !matches!(
                    word,
                    "exec"
                        | "cd"
                        | "export"
                        | "."
                        | "source"
                        | "set"
                        | "if"
                        | "for"
                        | "while"
                        | "!"
                )
        });
    if simple { format!("exec {command}") } else { command.to_owned() }
}

/// What `sh -c` runs: the startup command, the startup file it names, or what App Service guesses:
/// <https://learn.microsoft.com/azure/app-service/configure-language-python#container-startup-process>.
pub fn startup_command(launch: &Launch, content: &Path) -> Option<String> {
    find_command(launch, content).map(|command| replacing_shell(&command))
}

fn find_command(launch: &Launch, content: &Path) -> Option<String> {
    if let Some(command) = &launch.command {
        let command = command.trim();
        let file = !command.is_empty()
            && !command.contains(char::is_whitespace)
            && !command.contains("..")
            && content.join(command.trim_start_matches('/')).is_file()
            && !command.starts_with('/');
        return Some(if file { format!("sh ./{command}") } else { command.to_owned() });
    }
    // Django: a directory with a wsgi.py.
    let mut dirs: Vec<_> = std::fs::read_dir(content).into_iter().flatten().flatten().collect();
    dirs.sort_by_key(std::fs::DirEntry::file_name);
    for dir in dirs {
        let name = dir.file_name();
        let name = name.to_string_lossy();
        if name != "antenv" && is_module(&name) && dir.path().join("wsgi.py").is_file() {
            return Some(format!(
                "gunicorn --bind=0.0.0.0:{} --timeout 600 {name}.wsgi",
                launch.port()
            ));
        }
    }
    // Flask: an application object named app.
    ["application", "app"].iter().find(|module| content.join(format!("{module}.py")).is_file()).map(
        |module| format!("gunicorn --bind=0.0.0.0:{} --timeout 600 {module}:app", launch.port()),
    )
}

fn is_module(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_')
}

/// One word to the shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// A job's script with its arguments, each quoted; scripts need no executable bit.
fn job_command(script: &str, arguments: &[String]) -> String {
    let interpreter = match Path::new(script).extension().and_then(|extension| extension.to_str()) {
        Some("py") => "exec python3 ",
        // Kudu runs scripts with bash: <https://learn.microsoft.com/azure/app-service/webjobs-create>
        Some("sh" | _) | None => "exec bash ",
    };
    let mut command = format!("{interpreter}{}", quoted(&format!("./{script}")));
    for argument in arguments {
        command.push(' ');
        command.push_str(&quoted(argument));
    }
    command
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, fs};

    use serde_json::json;

    use super::*;
    use crate::appservice::{
        settings::tests::record,
        site::{SiteKey, SlotName},
    };

    fn command(files: &[&str], configured: Option<&str>) -> Option<String> {
        let dir = tempfile::tempdir().expect("tempdir");
        for file in files {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().expect("parent")).expect("dirs");
            fs::write(path, "").expect("write");
        }
        let mut record = record();
        if let Some(configured) = configured {
            record.config.insert("appCommandLine".into(), json!(configured));
        }
        let slot = SiteKey::new("s", "g", "n").slot(SlotName::Production);
        startup_command(
            &Launch::new(&slot, &record, "", &BTreeMap::new(), &BTreeMap::new()),
            dir.path(),
        )
    }

    #[test]
    fn the_startup_command_is_the_configured_one_or_the_documented_guess() {
        assert_eq!(
            command(&[], Some("gunicorn -w 2 main:app")).as_deref(),
            Some("exec gunicorn -w 2 main:app")
        );
        assert_eq!(
            command(&["startup.sh"], Some("startup.sh")).as_deref(),
            Some("exec sh ./startup.sh")
        );
        assert_eq!(
            command(&["mysite/wsgi.py", "app.py"], None).as_deref(),
            Some("exec gunicorn --bind=0.0.0.0:8000 --timeout 600 mysite.wsgi")
        );
        assert_eq!(
            command(&["app.py"], None).as_deref(),
            Some("exec gunicorn --bind=0.0.0.0:8000 --timeout 600 app:app")
        );
        assert_eq!(command(&["main.py"], None), None);
        for shell in [
            "cd app && gunicorn main:app",
            "A=1 gunicorn main:app",
            "exec gunicorn main:app",
            "a; b",
        ] {
            assert_eq!(command(&[], Some(shell)).as_deref(), Some(shell));
        }
    }

    #[test]
    fn arguments_of_a_job_stay_arguments() {
        assert_eq!(
            job_command("run.sh", &["staging".into(), "a'; rm -rf /".into()]),
            r"exec bash './run.sh' 'staging' 'a'\''; rm -rf /'"
        );
    }

    #[test]
    fn addresses_are_unique_come_back_and_run_out() {
        let addresses = Addresses::default();
        let leases: Vec<_> = (4..=254).map(|_| addresses.lease().expect("free")).collect();
        assert_eq!(leases[0].ip(), Ipv4Addr::new(10, 0, 1, 4));
        assert!(addresses.lease().is_err());
        drop(leases);
        let one = addresses.lease().expect("free").ip();
        assert_ne!(
            addresses.lease().expect("free").ip(),
            one,
            "an address rests before it is used again"
        );
    }
}
