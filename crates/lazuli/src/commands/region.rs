//! `lazuli region`: start, stop and look after the local region.

mod rotate_key;

use std::fs;
use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Seek as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use lazuli_host::edge;
use lazuli_region::directory::{DEFAULT_PORT, Directory};
use lazuli_release::event::Reporter;
use serde::{Deserialize, Serialize};

use crate::cli::Context;
use crate::diagnostics::Failure;
use crate::environment::{DEFAULT_REGION, Environment, flag, region_dir};
use crate::exit::Exit;
use crate::printer::{BOLD, NAME, paint};

/// How long the region may take to stop its services before it is killed: PostgreSQL's fast
/// shutdown and App Service's grace time fit in.
const STOP_PATIENCE: Duration = Duration::from_secs(60);

/// Start, stop and look after the local region
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  lazuli region start
  lazuli region start --region two --port 4281    a second one beside it
  lazuli region logs --follow
  lazuli region rotate-key                        a new key for what is encrypted on the disk
  lazuli region reset --yes                       delete it and everything in it")]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Start the region; what it was doing when it stopped, it takes up again
    Start {
        /// The loopback port it listens on; kept for the next start
        #[arg(long, value_name = "PORT")]
        port: Option<u16>,
    },
    /// Stop the region and every process in it; nothing is lost
    Stop,
    /// Show whether it runs, since when, and where
    Status,
    /// Stop the region and delete everything in it
    Reset {
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
    /// Encrypt everything that the region keeps by a new key, and forget the old one
    ///
    /// A region that runs is stopped and started again: it seals its secrets anew before it serves.
    /// Interrupted, the next start goes on; until then both keys open what they sealed.
    RotateKey,
    /// Show the region's own log
    Logs {
        /// Go on showing what comes
        #[arg(long, short)]
        follow: bool,
        /// How many lines from the end
        #[arg(long, short = 'n', value_name = "LINES", default_value_t = 100)]
        lines: usize,
    },
}

pub(crate) async fn run(args: Args, cx: &Context) -> Result<(), Failure> {
    match args.action {
        Action::Start { port } => {
            let reporter = crate::reporter::for_printer(&cx.printer);
            start(cx, port, &reporter).map(|_| ())
        }
        Action::Stop => stop(cx),
        Action::Status => status(cx),
        Action::Reset { yes } => reset(cx, yes),
        Action::RotateKey => rotate_key::run(cx),
        Action::Logs { follow, lines } => logs(cx, follow, lines).await,
    }
}

/// The environment of the region, started if it was not running.
///
/// Async because its callers are; starting waits for the region's own process in between.
#[expect(clippy::unused_async, reason = "its callers await it among other steps")]
pub(crate) async fn ensure_started(
    cx: &Context,
    reporter: &Reporter,
) -> Result<Environment, Failure> {
    start(cx, None, reporter)
}

/// What a person chose for the region, kept between starts.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Settings {
    port: Option<u16>,
}

fn directory(cx: &Context) -> Result<Directory, Failure> {
    region_dir(&cx.global.region).map(Directory::at)
}

fn start(cx: &Context, port: Option<u16>, reporter: &Reporter) -> Result<Environment, Failure> {
    let region = &cx.global.region;
    let dir = directory(cx)?;
    if let Some(running) = edge::running(dir.root()) {
        let has = running.listeners.first().map_or(0, SocketAddr::port);
        if let Some(wanted) = port.filter(|wanted| *wanted != has) {
            return Err(Failure::new(
                Exit::Usage,
                format!("the region `{region}` already runs, on port {has}"),
            )
            .advise(format!(
                "to move it: lazuli region stop{f} && lazuli region start{f} --port {wanted}",
                f = flag(region)
            )));
        }
        let step = reporter.step("region", format!("Region {region}"));
        step.done(format!("runs already, on 127.0.0.1:{has}"));
        return Environment::load(region);
    }
    let step = reporter.step("region", format!("Region {region}"));
    let started = (|| {
        dir.create()
            .map_err(|error| cannot(&format!("create {}", dir.root().display()), &error))?;
        let chosen = choose_port(region, &dir, port)?;
        let config = edge::Config {
            dir: dir.root().to_owned(),
            listeners: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, chosen))],
            core_args: vec!["__core".into(), dir.root().into()],
            log: dir.logs().join("region.log"),
        };
        edge::start(&config).map_err(|error| start_failure(region, &dir, &error))
    })();
    match started {
        Ok(running) => {
            let port = running.listeners.first().map_or(0, SocketAddr::port);
            save(&dir.settings(), &Settings { port: Some(port) });
            step.done(format!("listens on 127.0.0.1:{port}"));
            Environment::load(region)
        }
        Err(failure) => {
            step.fail(&failure.summary);
            Err(failure)
        }
    }
}

/// The port a person asked for, else the one it had, else the default, else (for any but the
/// default region) a free one.
fn choose_port(region: &str, dir: &Directory, asked: Option<u16>) -> Result<u16, Failure> {
    if let Some(port) = asked {
        return Ok(port);
    }
    let settings: Settings = fs::read(dir.settings())
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default();
    if let Some(port) = settings.port {
        return Ok(port);
    }
    if region == DEFAULT_REGION {
        return Ok(DEFAULT_PORT);
    }
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|error| cannot("find a free port", &error))
}

fn save(path: &Path, settings: &Settings) {
    // A port that could not be kept is chosen anew at the next start: no reason to fail.
    if let Ok(bytes) = serde_json::to_vec_pretty(settings) {
        let next = path.with_extension("new");
        if fs::write(&next, bytes).is_ok() {
            let _ = fs::rename(next, path);
        }
    }
}

fn start_failure(region: &str, dir: &Directory, error: &lazuli_host::Error) -> Failure {
    let failure =
        Failure::new(Exit::Target, format!("the region `{region}` did not start")).because(error);
    match error {
        lazuli_host::Error::Bind { addr, .. } => failure.advise(format!(
            "choose another port: lazuli region start{} --port {}",
            flag(region),
            addr.port().checked_add(1).unwrap_or(DEFAULT_PORT)
        )),
        lazuli_host::Error::Refused { .. } => failure,
        _ => {
            let mut failure = failure.advise(format!("lazuli region logs{}", flag(region)));
            if let Ok(lines) = tail(&dir.logs().join("region.log"), 8) {
                failure.log = Some(("the region's log".to_owned(), lines));
            }
            failure
        }
    }
}

fn cannot(what: &str, error: &io::Error) -> Failure {
    Failure::new(Exit::Target, format!("cannot {what}")).because(error)
}

fn stop(cx: &Context) -> Result<(), Failure> {
    let region = &cx.global.region;
    let dir = directory(cx)?;
    let reporter = crate::reporter::for_printer(&cx.printer);
    let step = reporter.step("stop", format!("Stop region {region}"));
    match edge::stop(dir.root(), STOP_PATIENCE) {
        Ok(()) => {
            // What it says is no longer so, and it holds the deployer's secret.
            let _ = fs::remove_file(dir.environment());
            step.done("stopped; its data stay");
            Ok(())
        }
        Err(lazuli_host::Error::NotRunning { .. }) => {
            step.done("was not running");
            Ok(())
        }
        Err(error) => {
            step.fail(&error);
            Err(Failure::new(Exit::Target, format!("the region `{region}` did not stop"))
                .because(&error))
        }
    }
}

/// What `region status` says.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    region: String,
    running: bool,
    directory: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    proxy: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uptime_seconds: Option<u64>,
    /// Memory of the region's own processes (edge, init, core), bytes; what they share counts once.
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_bytes: Option<u64>,
    /// Every process in the region, its own included.
    #[serde(skip_serializing_if = "Option::is_none")]
    processes: Option<usize>,
    /// Memory of every process in the region, bytes; what they share counts once.
    #[serde(skip_serializing_if = "Option::is_none")]
    total_memory_bytes: Option<u64>,
}

fn status(cx: &Context) -> Result<(), Failure> {
    let dir = directory(cx)?;
    let running = edge::running(dir.root());
    let mut status = Status {
        region: cx.global.region.clone(),
        running: running.is_some(),
        directory: dir.root().to_owned(),
        proxy: None,
        pid: None,
        uptime_seconds: None,
        memory_bytes: None,
        processes: None,
        total_memory_bytes: None,
    };
    if let Some(running) = &running {
        status.proxy = running.listeners.first().map(|address| format!("http://{address}"));
        status.pid = Some(running.edge);
        let tree = processes::below(running.edge);
        status.processes = Some(tree.len());
        status.total_memory_bytes = Some(tree.iter().map(|p| p.memory).sum());
        status.memory_bytes = Some(tree.iter().filter(|p| p.depth <= 2).map(|p| p.memory).sum());
        status.uptime_seconds = processes::uptime(running.edge);
    }
    cx.printer.result(&status, |status| {
        let mut text = format!(
            "{} {}\n",
            paint(BOLD, format!("Region {}", status.region)),
            if status.running { "runs" } else { "is not running" }
        );
        let mut row = |name: &str, value: String| {
            text.push_str(&format!("  {name:<11}{value}\n"));
        };
        if let Some(proxy) = &status.proxy {
            row("proxy", paint(NAME, proxy));
        }
        if let (Some(pid), Some(up)) = (status.pid, status.uptime_seconds) {
            row("process", format!("{pid}, up {}", crate::reporter::duration(up * 1000)));
        }
        if let (Some(own), Some(all), Some(count)) =
            (status.memory_bytes, status.total_memory_bytes, status.processes)
        {
            row("memory", format!("{} itself; {} in {count} processes", mib(own), mib(all)));
        }
        row("directory", status.directory.display().to_string());
        text
    });
    Ok(())
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes / (1024 * 1024))
}

fn reset(cx: &Context, yes: bool) -> Result<(), Failure> {
    let region = &cx.global.region;
    let dir = directory(cx)?;
    if !dir.root().exists() {
        cx.printer.aside(format!("Region {region} does not exist: nothing to delete"));
        return Ok(());
    }
    // A mistyped --region PATH must not delete somebody's home directory. The log is there even when
    // the region never got as far as a store.
    let signs = [dir.settings(), dir.store(), dir.logs().join("region.log")];
    if !signs.iter().any(|sign| sign.exists()) {
        return Err(Failure::new(
            Exit::Usage,
            format!("{} does not look like a region", dir.root().display()),
        )
        .advise("nothing was deleted; check --region"));
    }
    if !yes {
        if !io::stdin().is_terminal() {
            return Err(Failure::new(
                Exit::Usage,
                format!("reset deletes everything in the region `{region}`"),
            )
            .advise(format!(
                "if that is what you want: lazuli region reset --yes{}",
                flag(region)
            )));
        }
        cx.printer.error_line(format!(
            "Delete the region {} with its databases, secrets and sites? [y/N] ",
            paint(BOLD, region)
        ));
        let mut answer = String::new();
        let _ = io::stdin().lock().read_line(&mut answer);
        if !matches!(answer.trim(), "y" | "Y" | "yes") {
            return Err(Failure::new(Exit::Usage, "nothing was deleted"));
        }
    }
    stop(cx)?;
    fs::remove_dir_all(dir.root())
        .map_err(|error| cannot(&format!("delete {}", dir.root().display()), &error))?;
    cx.printer.aside(format!("Region {region} is deleted"));
    Ok(())
}

async fn logs(cx: &Context, follow: bool, lines: usize) -> Result<(), Failure> {
    let dir = directory(cx)?;
    let path = dir.logs().join("region.log");
    let last = tail(&path, lines).map_err(|error| {
        cannot(&format!("read {}", path.display()), &error).advise(format!(
            "the log is written once the region starts: lazuli region start{}",
            flag(&cx.global.region)
        ))
    })?;
    for line in last {
        cx.printer.line(line);
    }
    if !follow {
        return Ok(());
    }
    let mut file = fs::File::open(&path).map_err(|error| cannot("follow the log", &error))?;
    let mut at = file.seek(io::SeekFrom::End(0)).unwrap_or(0);
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let length = fs::metadata(&path).map_or(0, |meta| meta.len());
        if length < at {
            // Rotated or truncated: begin again.
            file = fs::File::open(&path).map_err(|error| cannot("follow the log", &error))?;
            at = 0;
        }
        if length > at {
            let mut chunk = Vec::new();
            if file.read_to_end(&mut chunk).is_ok() {
                at += chunk.len() as u64;
                cx.printer.raw(&chunk);
            }
        }
    }
}

/// The last `count` lines of a file, of which at most the last MiB is looked at.
fn tail(path: &Path, count: usize) -> io::Result<Vec<String>> {
    const WINDOW: u64 = 1024 * 1024;
    let mut file = fs::File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(io::SeekFrom::Start(length.saturating_sub(WINDOW)))?;
    let mut bytes = Vec::new();
    file.take(WINDOW).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    Ok(lines[lines.len().saturating_sub(count)..].iter().map(|&line| line.to_owned()).collect())
}

/// What `/proc` says of a tree of processes.
mod processes {
    use std::collections::HashMap;
    use std::fs;

    pub(super) struct Process {
        /// 0 is the root of the tree.
        pub(super) depth: usize,
        /// Bytes.
        pub(super) memory: u64,
    }

    /// The process and all its descendants.
    pub(super) fn below(root: i32) -> Vec<Process> {
        let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok())
            else {
                continue;
            };
            if let Some(parent) = stat(pid, 3).and_then(|field| i32::try_from(field).ok()) {
                children.entry(parent).or_default().push(pid);
            }
        }
        let mut found = Vec::new();
        let mut next = vec![(root, 0)];
        while let Some((pid, depth)) = next.pop() {
            found.push(Process { depth, memory: memory(pid) });
            next.extend(children.get(&pid).into_iter().flatten().map(|&child| (child, depth + 1)));
        }
        found
    }

    /// Seconds since the process began.
    pub(super) fn uptime(pid: i32) -> Option<u64> {
        // USER_HZ is 100 on every architecture Linux runs on today.
        const TICKS_PER_SECOND: u64 = 100;
        let began = stat(pid, 21)? / TICKS_PER_SECOND;
        let uptime = fs::read_to_string("/proc/uptime").ok()?;
        let now: f64 = uptime.split_whitespace().next()?.parse().ok()?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "seconds")]
        Some((now as u64).saturating_sub(began))
    }

    /// Field `index` (0 is the pid) of `/proc/PID/stat`; see proc(5).
    fn stat(pid: i32, index: usize) -> Option<u64> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The second field is the name in parentheses and may contain anything.
        let rest = &text[text.rfind(')')? + 2..];
        rest.split_whitespace().nth(index - 2)?.parse().ok()
    }

    /// The process's share of memory in bytes: pages it shares with others count in equal parts (`Pss`).
    /// Where the kernel does not tell, which takes leave to trace the process, all that is resident.
    fn memory(pid: i32) -> u64 {
        let field = |file: &str, name: &str| {
            let text = fs::read_to_string(format!("/proc/{pid}/{file}")).ok()?;
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        field("smaps_rollup", "Pss:").or_else(|| field("status", "VmRSS:")).unwrap_or(0) * 1024
    }

    #[cfg(test)]
    mod tests {
        #[test]
        fn this_process_has_memory_and_an_age() {
            let me = i32::try_from(std::process::id()).expect("a pid");
            let tree = super::below(me);
            assert!(tree.iter().any(|p| p.depth == 0 && p.memory > 0));
            assert!(super::uptime(me).is_some_and(|seconds| seconds < 86_400 * 365));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_of_a_file_is_its_last_lines() {
        let dir = std::env::temp_dir().join(format!("lazuli-tail-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("temp dir");
        let path = dir.join("log");
        fs::write(&path, "one\ntwo\nthree\n").expect("written");
        assert_eq!(tail(&path, 2).expect("read"), ["two", "three"]);
        assert_eq!(tail(&path, 9).expect("read"), ["one", "two", "three"]);
        fs::remove_dir_all(dir).expect("removed");
    }

    #[test]
    fn a_port_once_chosen_stays() {
        let root = std::env::temp_dir().join(format!("lazuli-port-{}", std::process::id()));
        let dir = Directory::at(&root);
        dir.create().expect("created");
        assert_eq!(choose_port(DEFAULT_REGION, &dir, None).expect("default"), DEFAULT_PORT);
        save(&dir.settings(), &Settings { port: Some(5555) });
        assert_eq!(choose_port(DEFAULT_REGION, &dir, None).expect("kept"), 5555);
        assert_eq!(choose_port("other", &dir, Some(7)).expect("asked"), 7);
        fs::remove_dir_all(root).expect("removed");
    }
}
