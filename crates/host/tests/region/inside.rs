//! What runs inside: core of each scenario, and the programs it puts into sandboxes.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use lazuli_host::core::inherit;
use lazuli_host::{Error, Exit, Host, Mount, Network, Signal, Spec, User};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Odd enough that nobody else on the machine listens there.
pub(crate) const CORE_PORT: u16 = 47_813;
pub(crate) const PROGRAM_PORT: u16 = 47_814;

type Outcome = Result<(), Box<dyn std::error::Error>>;
type Scenario = fn(Host) -> std::pin::Pin<Box<dyn Future<Output = Outcome>>>;

pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[
    ("a_sandbox_sees_little_of_the_machine", |h| Box::pin(sees_little(h))),
    ("a_sandbox_cannot_undo_its_walls", |h| Box::pin(cannot_undo(h))),
    ("a_program_gets_exactly_its_spec", |h| Box::pin(exactly_its_spec(h))),
    ("an_unprivileged_program_writes_as_the_regions_user", |h| Box::pin(unprivileged(h))),
    ("two_sandboxes_bind_the_same_port", |h| Box::pin(same_port(h))),
    ("an_address_can_be_used_again_at_once", |h| Box::pin(address_again(h))),
    ("a_sandbox_reaches_the_regions_addresses", |h| Box::pin(reaches_region(h))),
    ("signals_reach_the_program_and_its_status_comes_back", |h| Box::pin(signals(h))),
    ("a_dropped_process_is_killed_with_its_children", |h| Box::pin(dropped(h))),
    ("a_program_that_cannot_start_says_why", |h| Box::pin(cannot_start(h))),
];

pub(crate) fn core(scenario: &str) -> ExitCode {
    let inherited = match inherit() {
        Ok(inherited) => inherited,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "core: {error}");
            return ExitCode::FAILURE;
        }
    };
    let (host, ready) = (inherited.host, inherited.ready);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    match scenario {
        "refuse" => {
            ready.failed("the store is damaged");
            std::thread::sleep(Duration::from_secs(60));
        }
        "die" => return ExitCode::from(3),
        "serve" => {
            runtime.block_on(async {
                let mut terminate =
                    tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
                        .expect("signals");
                let program = host.spawn(spec(&["__program", "serve"])).await.expect("a sandbox");
                let outside = tokio::net::TcpListener::from_std(
                    inherited.listeners.into_iter().next().expect("one listener"),
                )
                .expect("a listener");
                let inside = tokio::net::TcpListener::bind(("10.0.1.1", CORE_PORT))
                    .await
                    .expect("the app subnet's gateway");
                ready.ready();
                loop {
                    let accepted = tokio::select! {
                        accepted = outside.accept() => accepted,
                        accepted = inside.accept() => accepted,
                        _ = terminate.recv() => break,
                    };
                    if let Ok((mut stream, _)) = accepted {
                        let _ = stream.write_all(b"hello from core\n").await;
                    }
                }
                let _ = writeln!(std::io::stderr(), "core: stopping");
                drop(program);
            });
        }
        "dial" => {
            runtime.block_on(async {
                let outcome = async {
                    let port = fs::read_to_string("port")?.parse()?;
                    let mut stream = host.dial_out("localhost", port).await?;
                    stream.write_all(b"ping").await?;
                    let mut answer = String::new();
                    stream.read_to_string(&mut answer).await?;
                    if answer != "pong" {
                        return Err(format!("answer {answer:?}").into());
                    }
                    // What cannot be reached says so in the system's own words.
                    let refused = host.dial_out("127.0.0.1", 1).await;
                    match refused {
                        Err(e) if e.kind() == std::io::ErrorKind::ConnectionRefused => {}
                        other => return Err(format!("{other:?}").into()),
                    }
                    let unknown = host.dial_out("no-such-host.invalid", 443).await;
                    if unknown.is_ok() {
                        return Err("a name that does not exist was reached".into());
                    }
                    Outcome::Ok(())
                };
                match outcome.await {
                    Ok(()) => ready.ready(),
                    Err(error) => ready.failed(&error.to_string()),
                }
                until_told().await;
            });
        }
        name => {
            let Some((_, run)) = SCENARIOS.iter().find(|(scenario, _)| *scenario == name) else {
                ready.failed("no such scenario");
                return ExitCode::FAILURE;
            };
            runtime.block_on(async {
                match run(host).await {
                    Ok(()) => ready.ready(),
                    Err(error) => ready.failed(&error.to_string()),
                }
                until_told().await;
            });
        }
    }
    ExitCode::SUCCESS
}

async fn until_told() {
    let kind = tokio::signal::unix::SignalKind::terminate();
    if let Ok(mut terminate) = tokio::signal::unix::signal(kind) {
        terminate.recv().await;
    }
}

/// What this binary does as a program in a sandbox.
pub(crate) fn program(words: &[&str]) -> ExitCode {
    match words {
        // Answers with its own host name.
        ["serve"] => {
            let child = std::process::Command::new("/program").args(["__program", "sleep"]).spawn();
            if child.is_err() {
                return ExitCode::from(2);
            }
            let Ok(listener) = TcpListener::bind(("0.0.0.0", PROGRAM_PORT)) else {
                return ExitCode::from(3);
            };
            let name = fs::read_to_string("/etc/hostname").unwrap_or_default();
            for mut stream in listener.incoming().flatten() {
                let _ = stream.write_all(name.trim().as_bytes());
            }
            ExitCode::SUCCESS
        }
        ["sleep"] => {
            std::thread::sleep(Duration::from_secs(600));
            ExitCode::SUCCESS
        }
        ["read", address] => {
            let read = || -> std::io::Result<String> {
                let mut text = String::new();
                TcpStream::connect(address)?.read_to_string(&mut text)?;
                Ok(text)
            };
            match read() {
                Ok(text) => {
                    let _ = std::io::stdout().write_all(text.as_bytes());
                    ExitCode::SUCCESS
                }
                Err(error) => {
                    let _ = writeln!(std::io::stderr(), "{error}");
                    ExitCode::FAILURE
                }
            }
        }
        _ => ExitCode::from(64),
    }
}

fn spec(words: &[&str]) -> Spec {
    let myself = PathBuf::from("/proc/self/exe").canonicalize().expect("this program");
    Spec {
        name: "test".to_owned(),
        program: "/program".into(),
        args: words.iter().map(Into::into).collect(),
        env: Vec::new(),
        cwd: "/".into(),
        user: User::Root,
        network: Network::None,
        mounts: vec![Mount::read_only(myself, "/program")],
        hosts: Vec::new(),
        ca_bundle: None,
        nofile: 4096,
    }
}

fn shell(script: &str) -> Spec {
    Spec {
        program: "/bin/sh".into(),
        args: vec!["-c".into(), script.into()],
        env: vec![("PATH".into(), "/usr/sbin:/usr/bin:/sbin:/bin".into())],
        ..spec(&[])
    }
}

/// Runs to the end: how it ended and everything it wrote.
async fn output(host: &Host, spec: Spec) -> Result<(Exit, String), Error> {
    let mut process = host.spawn(spec).await?;
    let (mut stdout, mut stderr) = (process.take_stdout(), process.take_stderr());
    let (mut text, mut errors) = (String::new(), String::new());
    if let (Some(stdout), Some(stderr)) = (&mut stdout, &mut stderr) {
        let _ = tokio::join!(stdout.read_to_string(&mut text), stderr.read_to_string(&mut errors));
    }
    text.push_str(&errors);
    Ok((process.wait().await, text))
}

fn expect(holds: bool, otherwise: impl std::fmt::Display) -> Outcome {
    if holds { Ok(()) } else { Err(otherwise.to_string().into()) }
}

async fn sees_little(host: Host) -> Outcome {
    // Core's working directory is the region's.
    let region = std::env::current_dir()?;
    fs::write(region.join("secret"), "s")?;
    let script = format!(
        "ls -d {0} {0}/secret 2>/dev/null; ls /; echo procs: /proc/[0-9]*; ls /root /home /etc; \
         ls /proc/1/fd 2>&1; readlink /proc/1/exe; cat /proc/1/environ 2>&1; ls -l /proc/1/root/ 2>&1",
        region.display()
    );
    let (_, text) = output(&host, shell(&script)).await?;
    expect(!text.contains("secret"), format!("the region's directory is visible: {text}"))?;
    expect(
        text.contains("procs: /proc/1 /proc/2 /proc/") || text.contains("procs: /proc/1 /proc/2\n"),
        format!("its own processes: {text}"),
    )?;
    for foreign in ["shadow", "machine-id", ".machine", "sudoers"] {
        expect(!text.contains(foreign), format!("{foreign} is visible: {text}"))?;
    }
    expect(!text.contains("region-"), format!("the sandbox's init is transparent: {text}"))?;
    let (_, mounts) = output(&host, shell("cat /proc/self/mountinfo")).await?;
    expect(!mounts.contains(&*region.to_string_lossy()), mounts)
}

async fn cannot_undo(host: Host) -> Outcome {
    for attempt in [
        "touch /usr/x",
        "touch /etc/x",
        "touch /x",
        "touch /dev/x",
        "mount -o remount,rw /",
        "mount -o remount,rw,bind /usr && touch /usr/x",
        "umount /proc/sys",
        "echo x > /proc/sys/kernel/core_pattern",
        "echo h > /proc/sysrq-trigger && ! test -c /proc/sysrq-trigger",
        "kill -9 1 && sleep 1 && false",
        "hostname other",
        "unshare -Urm sh -c 'mount -o remount,rw,bind /usr && touch /usr/x'",
        "unshare -Urmpf sh -c 'mount -t proc proc /proc && echo x > /proc/sys/kernel/core_pattern'",
    ] {
        let (exit, text) = output(&host, shell(attempt)).await?;
        expect(!exit.success(), format!("`{attempt}` succeeded: {text}"))?;
    }
    Ok(())
}

async fn exactly_its_spec(host: Host) -> Outcome {
    let bundle = std::env::current_dir()?.join("bundle.pem");
    fs::write(&bundle, "the region's bundle\n")?;
    let data = std::env::current_dir()?.join("data");
    fs::create_dir(&data)?;
    let mut spec = shell(
        "env; id -u; hostname; pwd; ulimit -n; ulimit -Hn; cat /etc/hosts; \
         cat /etc/ssl/certs/ca-certificates.crt /etc/ssl/cert.pem; \
         grep -i nonewprivs /proc/self/status; echo written > /home/deep/data/file; cat /dev/stdin; \
         echo x > /dev/shm/x && echo x > /tmp/x && echo private",
    );
    spec.name = String::from("notes_1");
    spec.env.push(("DATABASE_URL".into(), "postgresql://x".into()));
    spec.cwd = "/tmp".into();
    spec.hosts = vec![(Ipv4Addr::new(10, 0, 3, 4), "notes-pg.postgres.database.azure.com".into())];
    spec.ca_bundle = Some(bundle);
    spec.nofile = 1234;
    spec.mounts.push(Mount::writable(&data, "/home/deep/data"));
    let (exit, text) = output(&host, spec).await?;
    expect(exit.success(), format!("{exit}: {text}"))?;
    let lines: Vec<&str> = text.lines().collect();
    let mut environment: Vec<&str> =
        lines.iter().copied().filter(|line| line.contains('=') && !line.contains(' ')).collect();
    environment.retain(|line| {
        !line.starts_with("PWD=") && !line.starts_with("_=") && !line.starts_with("SHLVL=")
    });
    environment.sort_unstable();
    expect(
        environment == ["DATABASE_URL=postgresql://x", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
        format!("environment {environment:?}"),
    )?;
    for wanted in [
        "0",
        "notes-1",
        "/tmp",
        "1234",
        "10.0.3.4\tnotes-pg.postgres.database.azure.com",
        "127.0.0.1\tlocalhost",
        "NoNewPrivs:\t1",
        "private",
    ] {
        expect(lines.contains(&wanted), format!("{wanted:?} is missing: {text}"))?;
    }
    expect(text.matches("the region's bundle").count() == 2, format!("the bundle: {text}"))?;
    expect(fs::read_to_string(data.join("file"))? == "written\n", "the file is outside")
}

async fn unprivileged(host: Host) -> Outcome {
    use std::os::unix::fs::MetadataExt as _;
    let data = std::env::current_dir()?.join("data");
    fs::create_dir(&data)?;
    let mut spec = shell("id -u; id -g; id -un; touch /data/file; ls -lnd /data");
    spec.user = User::Unprivileged;
    spec.mounts.push(Mount::writable(&data, "/data"));
    let (exit, text) = output(&host, spec).await?;
    expect(exit.success(), &text)?;
    expect(text.starts_with("65534\n65534\nnobody\n"), &text)?;
    expect(text.contains(" 65534 65534 "), format!("it owns what it is shown: {text}"))?;
    expect(fs::metadata(data.join("file"))?.uid() == 0, "outside the file is the region's own")
}

async fn answers(address: Ipv4Addr) -> Result<String, Box<dyn std::error::Error>> {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let attempt = tokio::time::timeout(Duration::from_millis(500), async {
            let mut stream = tokio::net::TcpStream::connect((address, PROGRAM_PORT)).await?;
            let mut text = String::new();
            stream.read_to_string(&mut text).await?;
            std::io::Result::Ok(text)
        });
        match attempt.await {
            Ok(Ok(text)) => return Ok(text),
            _ if Instant::now() > until => return Err(format!("{address} does not answer").into()),
            _ => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

async fn same_port(host: Host) -> Outcome {
    let mut running = Vec::new();
    for last in [4, 5] {
        let address = Ipv4Addr::new(10, 0, 1, last);
        let mut spec = spec(&["__program", "serve"]);
        spec.name = format!("instance-{last}");
        spec.network = Network::Own(address);
        running.push(host.spawn(spec).await?);
        expect(answers(address).await? == format!("instance-{last}"), "its own answer")?;
    }
    // They reach one another too (one flat network), and see no other interface than their own.
    let mut third = shell("cat /proc/net/dev");
    third.network = Network::Own(Ipv4Addr::new(10, 0, 1, 6));
    let (_, text) = output(&host, third).await?;
    expect(text.contains("eth0") && !text.contains("vnet0"), text)?;
    // An address already given away is refused, and its owner undisturbed.
    let mut twice = spec(&["__program", "serve"]);
    twice.network = Network::Own(Ipv4Addr::new(10, 0, 1, 4));
    expect(host.spawn(twice).await.is_err(), "an address was given away twice")?;
    expect(answers(Ipv4Addr::new(10, 0, 1, 4)).await? == "instance-4", "undisturbed")
}

async fn address_again(host: Host) -> Outcome {
    for round in 0..10 {
        let address = Ipv4Addr::new(10, 0, 1, 4);
        let mut spec = spec(&["__program", "serve"]);
        spec.name = format!("round-{round}");
        spec.network = Network::Own(address);
        let process = host.spawn(spec).await?;
        let started = Instant::now();
        expect(answers(address).await? == format!("round-{round}"), "the new one answers")?;
        // A stale neighbour entry would hold it up for the kernel's whole patience, not for moments.
        expect(started.elapsed() < Duration::from_secs(20), "not held up by the old one")?;
        process.signal(Signal::SIGKILL)?;
        process.wait().await;
    }
    Ok(())
}

async fn reaches_region(host: Host) -> Outcome {
    for address in [Ipv4Addr::new(10, 0, 3, 4), Ipv4Addr::new(169, 254, 131, 2)] {
        host.add_address(address).await?;
        host.add_address(address).await?;
        let listener = tokio::net::TcpListener::bind((address, 443)).await?;
        let serving = tokio::spawn(async move {
            if let Ok((mut stream, peer)) = listener.accept().await {
                let _ = stream.write_all(peer.ip().to_string().as_bytes()).await;
            }
        });
        let mut reader = spec(&["__program", "read", &format!("{address}:443")]);
        reader.network = Network::Own(Ipv4Addr::new(10, 0, 1, 7));
        let (exit, text) = output(&host, reader).await?;
        expect(exit.success() && text == "10.0.1.7", format!("{address}: {exit} {text}"))?;
        serving.await?;
        host.remove_address(address).await?;
        host.remove_address(address).await?;
        let gone = tokio::net::TcpListener::bind((address, 443)).await;
        expect(gone.is_err(), "a removed address is still there")?;
    }
    // No way out: neither the machine's own network nor anything beyond.
    let mut reader = spec(&["__program", "read", "127.0.0.1:22"]);
    reader.network = Network::Own(Ipv4Addr::new(10, 0, 1, 8));
    let (exit, _) = output(&host, reader).await?;
    expect(!exit.success(), "a sandbox's loopback is its own")
}

async fn signals(host: Host) -> Outcome {
    let (exit, _) = output(&host, shell("exit 42")).await?;
    expect(exit == Exit::Code(42), exit)?;
    let (exit, _) = output(&host, shell("kill -SEGV $$")).await?;
    expect(exit == Exit::Signal(11), exit)?;
    for (signal, code) in [(Signal::SIGTERM, 3), (Signal::SIGINT, 4), (Signal::SIGHUP, 5)] {
        let mut process = host
            .spawn(shell("trap 'exit 3' TERM; trap 'exit 4' INT; trap 'exit 5' HUP; echo up; while :; do sleep 0.01; done"))
            .await?;
        let mut stdout = process.take_stdout().ok_or("its output")?;
        stdout.read_exact(&mut [0; 3]).await?;
        process.signal(signal)?;
        let exit = process.wait().await;
        expect(exit == Exit::Code(code), format!("{signal}: {exit}"))?;
        process.signal(signal)?;
        expect(process.wait().await == exit, "the same answer again")?;
    }
    // A daemon's orphan must not keep the sandbox, nor its output, alive.
    let (exit, text) = output(&host, shell("(sleep 600 &) ; echo done")).await?;
    expect(exit.success() && text == "done\n", format!("{exit} {text}"))
}

async fn dropped(host: Host) -> Outcome {
    let process = host.spawn(spec(&["__program", "serve"])).await?;
    let pid = process.pid();
    tokio::time::sleep(Duration::from_millis(100)).await;
    drop(process);
    let until = Instant::now() + Duration::from_secs(5);
    while PathBuf::from(format!("/proc/{pid}")).exists() {
        expect(Instant::now() < until, "the sandbox lives on")?;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Core's /proc shows core's pid namespace and all below: init, core, and nobody else.
    let left = fs::read_dir("/proc")?
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().parse::<i32>().is_ok())
        .count();
    expect(left == 2, format!("{left} processes in the region"))
}

async fn cannot_start(host: Host) -> Outcome {
    let mut missing = spec(&[]);
    missing.program = "/no/such/program".into();
    let mut directory = spec(&[]);
    directory.cwd = "/no/such/directory".into();
    let mut source = spec(&[]);
    source.mounts.push(Mount::read_only("/no/such/source", "/x"));
    let mut nul = spec(&[]);
    nul.env.push(("SECRET".into(), "a\0b".into()));
    let mut name = shell("true");
    name.program = "no-such-program".into();
    for (spec, says) in [
        (missing, "/no/such/program"),
        (directory, "/no/such/directory"),
        (source, "/no/such/source"),
        (nul, "SECRET"),
        (name, "no-such-program"),
    ] {
        match host.spawn(spec).await {
            Err(error @ Error::Start { .. }) => {
                expect(error.to_string().contains(says), format!("{error} lacks {says}"))?;
            }
            other => return Err(format!("{other:?}").into()),
        }
    }
    Ok(())
}
