//! PostgreSQL, PgBouncer and Redis as they really are: real servers in a real region's network, seen
//! from a sandbox of their own by the clients their own projects ship.

mod postgres;
mod redis;

use std::fs;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::Duration;

use lazuli_gateway::Authority;
use lazuli_host::{Host, Network, Spec, User, core, edge};
use lazuli_region::names::Names;
use libtest_mimic::{Arguments, Failed, Trial};
use tokio::io::AsyncReadExt as _;

pub(crate) type Outcome = Result<(), Box<dyn std::error::Error>>;
type Scenario = fn(World) -> Pin<Box<dyn Future<Output = Outcome>>>;

/// Each runs in a region of its own. A second part runs in the same directory after the region has
/// been killed with -9.
const SCENARIOS: &[(&str, Scenario, Option<Scenario>)] = &[
    ("postgres_demands_tls_and_a_password", |w| Box::pin(postgres::tls_and_password(w)), None),
    ("pgbouncer_has_the_numbers_it_is_given", |w| Box::pin(postgres::pooler_numbers(w)), None),
    ("postgres_survives_kill_9", |w| Box::pin(postgres::killed(w)), None),
    (
        "postgres_data_survives_the_region",
        |w| Box::pin(postgres::write(w)),
        Some(|w| Box::pin(postgres::read_again(w))),
    ),
    ("postgres_parameters_and_passwords_change", |w| Box::pin(postgres::changes(w)), None),
    ("postgres_secrets_are_in_no_command_line", |w| Box::pin(postgres::no_secrets_shown(w)), None),
    ("redis_demands_tls_and_a_key", |w| Box::pin(redis::tls_and_key(w)), None),
    ("redis_keys_rotate_without_a_restart", |w| Box::pin(redis::rotation(w)), None),
    (
        "redis_data_survives_the_region",
        |w| Box::pin(redis::write(w)),
        Some(|w| Box::pin(redis::read_again(w))),
    ),
];

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    if let Some(code) = lazuli_host::internal_main(args.iter().cloned()) {
        return code;
    }
    let words: Vec<_> = args.iter().map(|a| a.to_string_lossy().into_owned()).collect();
    if let [core, scenario, part] = words.as_slice()
        && core == "__core"
    {
        return run_core(scenario, part);
    }
    let mut trials: Vec<_> = SCENARIOS
        .iter()
        .map(|(name, _, second)| Trial::test(*name, || scenario(name, second.is_some())))
        .collect();
    trials.push(Trial::test("everything_holds_for_an_ordinary_user", as_an_ordinary_user));
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn scenario(name: &str, two_parts: bool) -> Result<(), Failed> {
    let dir = tempfile::tempdir()?;
    start(dir.path(), name, "first")?;
    if two_parts {
        let edge = edge::running(dir.path()).ok_or("the region runs")?.edge;
        Command::new("/bin/kill").args(["-9", &edge.to_string()]).status()?;
        while edge::running(dir.path()).is_some() {
            std::thread::sleep(Duration::from_millis(5));
        }
        start(dir.path(), name, "second")?;
    }
    edge::stop(dir.path(), Duration::from_secs(60))?;
    Ok(())
}

fn start(dir: &Path, name: &str, part: &str) -> Result<(), Failed> {
    let config = edge::Config {
        dir: dir.to_owned(),
        listeners: Vec::new(),
        core_args: vec!["__core".into(), name.into(), part.into()],
        log: dir.join("log"),
    };
    edge::start(&config).map_err(|error| {
        use std::fmt::Write as _;
        let mut text = format!("{error}");
        for log in fs::read_dir(dir.join("logs")).into_iter().flatten().flatten() {
            let lines = fs::read_to_string(log.path()).unwrap_or_default();
            let _ = write!(text, "\n--- {}\n{lines}", log.path().display());
        }
        let _ = edge::stop(dir, Duration::from_secs(5));
        Failed::from(text)
    })?;
    Ok(())
}

/// What a scenario works with.
pub(crate) struct World {
    pub(crate) host: Host,
    pub(crate) dir: PathBuf,
    pub(crate) authority: Arc<Authority>,
    pub(crate) names: Names,
}

impl World {
    pub(crate) fn postgres(&self) -> lazuli_region::postgres::Postgres {
        lazuli_region::postgres::Postgres::new(lazuli_region::postgres::Config {
            host: self.host.clone(),
            authority: Arc::clone(&self.authority),
            names: self.names.clone(),
            root: self.dir.join("postgres"),
            logs: self.dir.join("logs"),
        })
    }

    pub(crate) fn redis(&self) -> lazuli_region::redis::Redis {
        lazuli_region::redis::Redis::new(lazuli_region::redis::Config {
            host: self.host.clone(),
            authority: Arc::clone(&self.authority),
            names: self.names.clone(),
            root: self.dir.join("redis"),
            logs: self.dir.join("logs"),
        })
    }

    /// Runs a client as an instance would: its own network, the region's names and CA.
    pub(crate) async fn client(
        &self,
        program: &str,
        args: &[&str],
        env: &[(&str, &str)],
    ) -> Result<String, String> {
        let mut variables =
            vec![("PATH".into(), "/usr/bin:/bin".into()), ("HOME".into(), "/tmp".into())];
        variables.extend(env.iter().map(|(name, value)| ((*name).into(), (*value).into())));
        let spec = Spec {
            name: "client".to_owned(),
            program: program.into(),
            args: args.iter().map(Into::into).collect(),
            env: variables,
            cwd: "/".into(),
            user: User::Root,
            network: Network::Own(Ipv4Addr::new(10, 0, 1, 9)),
            mounts: Vec::new(),
            hosts: self.names.hosts(),
            ca_bundle: Some(self.dir.join("bundle.pem")),
            nofile: 1024,
        };
        let mut process = self.host.spawn(spec).await.map_err(|e| e.to_string())?;
        let (mut out, mut err) = (String::new(), String::new());
        let (Some(mut stdout), Some(mut stderr)) = (process.take_stdout(), process.take_stderr())
        else {
            return Err("no output".to_owned());
        };
        let _ = tokio::join!(stdout.read_to_string(&mut out), stderr.read_to_string(&mut err));
        let exit = process.wait().await;
        if exit.success() { Ok(out) } else { Err(format!("{exit}: {err}{out}")) }
    }
}

fn run_core(scenario: &str, part: &str) -> ExitCode {
    let inherited = match core::inherit() {
        Ok(inherited) => inherited,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "core: {error}");
            return ExitCode::FAILURE;
        }
    };
    let ready = inherited.ready;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let outcome = async {
            let (_, first, second) =
                SCENARIOS.iter().find(|(name, ..)| *name == scenario).ok_or("no such scenario")?;
            let dir = std::env::current_dir()?;
            fs::create_dir_all(dir.join("logs"))?;
            let authority = Authority::load_or_create(&dir.join("ca"))?;
            authority.write_bundle(&dir.join("bundle.pem"))?;
            let world = World { host: inherited.host, dir, authority, names: Names::default() };
            let run = if part == "first" { Some(first) } else { second.as_ref() };
            run.ok_or("no such part")?(world).await
        };
        match outcome.await {
            Ok(()) => ready.ready(),
            Err(error) => ready.failed(&error.to_string()),
        }
        let kind = tokio::signal::unix::SignalKind::terminate();
        if let Ok(mut terminate) = tokio::signal::unix::signal(kind) {
            terminate.recv().await;
        }
    });
    ExitCode::SUCCESS
}

pub(crate) fn expect(holds: bool, otherwise: impl std::fmt::Display) -> Outcome {
    if holds { Ok(()) } else { Err(otherwise.to_string().into()) }
}

/// The processes of the region whose command line satisfies a condition.
pub(crate) fn processes(wanted: impl Fn(&str) -> bool) -> Vec<(i32, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if wanted(&line) {
            found.push((pid, line));
        }
    }
    found
}

fn as_an_ordinary_user() -> Result<(), Failed> {
    // Only root can become somebody else; an ordinary user has just run everything above.
    if !fs::read_to_string("/proc/self/status")?.contains("Uid:\t0\t0") {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let program = dir.path().join("servers");
    fs::copy(std::env::current_exe()?, &program)?;
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    let temporary = dir.path().join("tmp");
    fs::create_dir(&temporary)?;
    fs::set_permissions(&temporary, fs::Permissions::from_mode(0o777))?;
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&program)
        .args(["--test-threads=1", "--color=never", "survives_the_region"])
        .env("TMPDIR", &temporary)
        .current_dir("/")
        .output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stdout).into_owned().into())
}
