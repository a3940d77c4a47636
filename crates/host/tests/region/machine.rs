//! Tests seen from the machine: they start regions and kill parts of them.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use lazuli_host::edge::{self, Config, Running};
use lazuli_host::{Error, Inside, enter as enter_region};
use libtest_mimic::{Failed, Trial};
use tempfile::TempDir;

type Outcome = Result<(), Failed>;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::test("serves_until_stopped_and_leaves_no_process", serves_until_stopped),
        Trial::test("killed_edge_takes_everything_along", killed_edge),
        Trial::test("killed_init_is_replaced", || killed_is_replaced(Part::Init)),
        Trial::test("killed_core_is_replaced", || killed_is_replaced(Part::Core)),
        Trial::test("killed_and_started_again_at_once", started_again_at_once),
        Trial::test("two_regions_side_by_side", two_regions),
        Trial::test("a_taken_port_is_named", taken_port),
        Trial::test("a_core_that_fails_says_why", failing_core),
        Trial::test("only_edge_listens_in_the_machines_network", only_edge_listens),
        Trial::test("dials_out_from_the_machines_network", dials_out),
        Trial::test("a_command_inside_sees_the_regions_network", command_inside),
        Trial::test("everything_holds_for_an_ordinary_user", as_an_ordinary_user),
    ]
}

/// A scenario's assertions run in core; core's word about them is the test's outcome.
pub(crate) fn scenario(name: &str) -> Outcome {
    let region = Region::start(name)?;
    region.stop()
}

struct Region {
    dir: TempDir,
    running: Running,
}

impl Region {
    fn start(scenario: &str) -> Result<Self, Failed> {
        let dir = tempfile::tempdir()?;
        let running = edge::start(&config(dir.path(), scenario)).map_err(|e| {
            let log = fs::read_to_string(dir.path().join("log")).unwrap_or_default();
            format!("{e}\n{log}")
        })?;
        Ok(Self { dir, running })
    }

    fn stop(self) -> Outcome {
        edge::stop(self.dir.path(), Duration::from_secs(20))?;
        Ok(())
    }

    fn hello(&self) -> std::io::Result<String> {
        hello(self.running.listeners[0])
    }

    fn again(&self) -> Outcome {
        eventually("the region serves again", || self.hello().is_ok())
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        let _ = edge::stop(self.dir.path(), Duration::from_secs(5));
    }
}

fn config(dir: &Path, scenario: &str) -> Config {
    Config {
        dir: dir.to_owned(),
        listeners: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
        core_args: vec!["__core".into(), scenario.into()],
        log: dir.join("log"),
    }
}

/// What core of the scenario `serve` answers: its pid and its sandbox's, as it sees them.
fn hello(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    if text.is_empty() { Err(std::io::ErrorKind::UnexpectedEof.into()) } else { Ok(text) }
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) -> Outcome {
    let until = Instant::now() + Duration::from_secs(20);
    while !holds() {
        if Instant::now() > until {
            return Err(format!("waited 20 s in vain: {what}").into());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Every process below `root` and `root` itself: pid → start time, parent and command.
fn tree(root: i32) -> BTreeMap<i32, (u64, String)> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        if let Some((parent, started, name)) = stat(pid) {
            all.insert(pid, (parent, started, name));
        }
    }
    let mut found = BTreeMap::new();
    let mut next = vec![root];
    while let Some(pid) = next.pop() {
        if let Some((_, started, name)) = all.get(&pid) {
            found.insert(pid, (*started, name.clone()));
        }
        next.extend(all.iter().filter(|(_, (parent, ..))| *parent == pid).map(|(pid, _)| *pid));
    }
    found
}

fn stat(pid: i32) -> Option<(i32, u64, String)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (head, tail) = text.rsplit_once(')')?;
    let fields: Vec<&str> = tail.split_whitespace().collect();
    if matches!(*fields.first()?, "Z" | "X") {
        return None;
    }
    Some((fields.get(1)?.parse().ok()?, fields.get(19)?.parse().ok()?, head.to_owned()))
}

fn gone(tree: &BTreeMap<i32, (u64, String)>) -> bool {
    tree.iter().all(|(pid, (started, _))| stat(*pid).is_none_or(|(_, now, _)| now != *started))
}

fn kill(pid: i32) -> Outcome {
    let status = Command::new("/bin/kill").args(["-9", &pid.to_string()]).status()?;
    if status.success() { Ok(()) } else { Err(format!("cannot kill {pid}").into()) }
}

/// The whole tree of the scenario `serve`: edge, init, core, a sandbox's init, its program and the
/// program's child.
fn whole_tree(region: &Region) -> Result<BTreeMap<i32, (u64, String)>, Failed> {
    eventually("the sandbox's program has its child", || tree(region.running.edge).len() == 6)?;
    Ok(tree(region.running.edge))
}

fn serves_until_stopped() -> Outcome {
    let region = Region::start("serve")?;
    region.hello()?;
    assert_eq!(edge::running(region.dir.path()).as_ref(), Some(&region.running));
    let mode = fs::metadata(region.dir.path())?.permissions().mode();
    assert_eq!(mode & 0o077, 0, "the region's directory is its owner's alone");
    let tree = whole_tree(&region)?;

    edge::stop(region.dir.path(), Duration::from_secs(20))?;
    assert!(gone(&tree), "left over: {tree:?}");
    assert_eq!(edge::running(region.dir.path()), None);
    let log = fs::read_to_string(region.dir.path().join("log"))?;
    assert!(log.contains("core: stopping"), "core had time to stop: {log}");
    assert!(matches!(
        edge::stop(region.dir.path(), Duration::from_secs(1)),
        Err(Error::NotRunning { .. })
    ));
    Ok(())
}

fn killed_edge() -> Outcome {
    let region = Region::start("serve")?;
    let tree = whole_tree(&region)?;
    kill(region.running.edge)?;
    eventually("every process is gone", || gone(&tree))?;
    assert_eq!(edge::running(region.dir.path()), None);
    Ok(())
}

#[derive(Clone, Copy)]
enum Part {
    Init,
    Core,
}

fn killed_is_replaced(part: Part) -> Outcome {
    let region = Region::start("serve")?;
    let mut before = whole_tree(&region)?;
    let victim = match part {
        Part::Init => region.running.init,
        Part::Core => *before
            .keys()
            .find(|pid| stat(**pid).is_some_and(|(parent, ..)| parent == region.running.init))
            .ok_or("core is missing")?,
    };
    kill(victim)?;
    before.remove(&region.running.edge);
    eventually("everything below edge is gone", || gone(&before))?;
    region.again()?;
    let after = whole_tree(&region)?;
    assert_eq!(after.len(), 6, "one of each and no more: {after:?}");
    let now = edge::running(region.dir.path()).ok_or("the region is up")?;
    assert_eq!(now.edge, region.running.edge);
    assert_ne!(now.init, region.running.init);
    region.stop()
}

/// The new region waits for the last of the old one: two servers never share a data directory.
fn started_again_at_once() -> Outcome {
    let mut region = Region::start("serve")?;
    for _ in 0..5 {
        let before = whole_tree(&region)?;
        kill(region.running.edge)?;
        region.running = match edge::start(&config(region.dir.path(), "serve")) {
            // Killed, but not yet dead.
            Err(Error::Running { .. }) => {
                eventually("edge is dead", || edge::running(region.dir.path()).is_none())?;
                edge::start(&config(region.dir.path(), "serve"))?
            }
            other => other?,
        };
        assert!(gone(&before), "something of the old region lives beside the new one");
        region.hello()?;
    }
    region.stop()
}

fn two_regions() -> Outcome {
    let one = Region::start("serve")?;
    let two = Region::start("serve")?;
    one.hello()?;
    two.hello()?;
    let again = edge::start(&config(one.dir.path(), "serve"));
    assert!(
        matches!(again, Err(Error::Running { pid, .. }) if pid == one.running.edge),
        "{again:?}"
    );
    one.stop()?;
    two.hello()?;
    two.stop()
}

fn taken_port() -> Outcome {
    let holder = TcpListener::bind("127.0.0.1:0")?;
    let taken = holder.local_addr()?;
    let dir = tempfile::tempdir()?;
    let mut config = config(dir.path(), "serve");
    config.listeners = vec![taken];
    let refused = edge::start(&config);
    let Err(error @ Error::Bind { addr, .. }) = &refused else {
        return Err(format!("not refused: {refused:?}").into());
    };
    assert_eq!(*addr, taken);
    assert!(error.to_string().contains("another program"), "{error}");
    Ok(())
}

fn failing_core() -> Outcome {
    let dir = tempfile::tempdir()?;
    let failed = edge::start(&config(dir.path(), "refuse"));
    assert!(
        matches!(&failed, Err(Error::Core(reason)) if reason == "the store is damaged"),
        "{failed:?}"
    );
    let died = edge::start(&config(dir.path(), "die"));
    assert!(matches!(&died, Err(Error::Core(why)) if why.contains("exit code 3")), "{died:?}");
    assert_eq!(edge::running(dir.path()), None);
    Ok(())
}

fn only_edge_listens() -> Outcome {
    let region = Region::start("serve")?;
    region.hello()?;
    let listening = fs::read_to_string("/proc/net/tcp")?;
    let port = |port: u16| {
        listening.lines().skip(1).any(|line| {
            let mut fields = line.split_whitespace().skip(1);
            let local = fields.next().unwrap_or_default();
            local.ends_with(&format!(":{port:04X}")) && fields.nth(1) == Some("0A")
        })
    };
    assert!(port(region.running.listeners[0].port()), "edge's own listener is there");
    for inside in [super::inside::CORE_PORT, super::inside::PROGRAM_PORT] {
        assert!(!port(inside), "port {inside} of the region is open on the machine");
    }
    region.stop()
}

fn dials_out() -> Outcome {
    let server = TcpListener::bind("127.0.0.1:0")?;
    let port = server.local_addr()?.port();
    let answering = std::thread::spawn(move || -> std::io::Result<String> {
        let (mut stream, _) = server.accept()?;
        let mut text = [0; 4];
        stream.read_exact(&mut text)?;
        stream.write_all(b"pong")?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    });
    let dir = tempfile::tempdir()?;
    fs::write(dir.path().join("port"), port.to_string())?;
    edge::start(&config(dir.path(), "dial"))?;
    edge::stop(dir.path(), Duration::from_secs(10))?;
    assert_eq!(answering.join().map_err(|_| "the server panicked")??, "ping");
    Ok(())
}

fn command_inside() -> Outcome {
    let region = Region::start("serve")?;
    let hosts = region.dir.path().join("hosts");
    fs::write(&hosts, "10.0.1.1 the-region.example\n")?;
    let output = Command::new(std::env::current_exe()?)
        .arg("__enter")
        .arg(region.running.init.to_string())
        .arg(&hosts)
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(7), "the command's own exit code\n{text}{errors}");
    assert!(text.contains("the-region.example"), "{text}{errors}");
    assert!(text.contains("hello from core"), "{text}{errors}");
    region.stop()
}

/// `lazuli run --inside` in small: must be the process's first act, while it has one thread.
pub(crate) fn enter(init: &str, hosts: &str) -> ExitCode {
    let script = format!(
        "cat /etc/hosts; exec 3<>/dev/tcp/10.0.1.1/{}; cat <&3; exit 7",
        super::inside::CORE_PORT
    );
    let command = Inside {
        init: init.parse().unwrap_or(0),
        cwd: "/".into(),
        argv: vec!["bash".into(), "-c".into(), script.into()],
        env: vec![("PATH".into(), "/usr/bin:/bin".into())],
        hosts: Some(PathBuf::from(hosts)),
        ca_bundle: None,
    };
    match enter_region(&command) {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{error}");
            ExitCode::from(99)
        }
    }
}

fn as_an_ordinary_user() -> Outcome {
    // Only root can become somebody else; an ordinary user has just run everything above.
    if !fs::read_to_string("/proc/self/status")?.contains("Uid:\t0\t0") {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let program = dir.path().join("region");
    fs::copy(std::env::current_exe()?, &program)?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))?;
    let temporary = dir.path().join("tmp");
    fs::create_dir(&temporary)?;
    fs::set_permissions(&temporary, fs::Permissions::from_mode(0o777))?;
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&program)
        .args(["--test-threads=1", "--color=never"])
        .env("TMPDIR", &temporary)
        .current_dir("/")
        .output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stdout).into_owned().into())
}
