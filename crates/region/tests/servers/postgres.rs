use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use lazuli_region::postgres::{Password, Postgres, Server};

use crate::{Outcome, World, expect, processes};

const PASSWORD: &str = "S3cret-of-the-test";

fn server() -> Server {
    Server {
        name: "notes-pg".to_owned(),
        major: 15,
        address: Ipv4Addr::new(10, 0, 3, 4),
        administrator: "notesadmin".to_owned(),
        password: Password::new(PASSWORD),
        max_connections: 859,
        pooler_offered: true,
        parameters: BTreeMap::new(),
        started: true,
        restarts: 0,
    }
}

fn pooled() -> Server {
    let mut server = server();
    for (name, value) in [
        ("pgbouncer.enabled", "true"),
        ("pgbouncer.pool_mode", "transaction"),
        ("pgbouncer.default_pool_size", "50"),
        ("pgbouncer.min_pool_size", "10"),
        ("pgbouncer.server_idle_timeout", "600"),
        ("pgbouncer.stats_users", "notesadmin"),
    ] {
        server.parameters.insert(name.to_owned(), value.to_owned());
    }
    server
}

async fn up(world: &World, server: Server) -> Result<Postgres, Box<dyn std::error::Error>> {
    let postgres = world.postgres();
    let name = server.name.clone();
    postgres.set(server);
    postgres.settled(&name).await?;
    postgres.create_database(&name, "notes", "UTF8", "en_US.utf8").await?;
    postgres.create_database(&name, "notes", "UTF8", "en_US.utf8").await?;
    Ok(postgres)
}

async fn psql(world: &World, port: u16, database: &str, sql: &str) -> Result<String, String> {
    psql_as(world, port, database, sql, PASSWORD, "verify-full").await
}

async fn psql_as(
    world: &World,
    port: u16,
    database: &str,
    sql: &str,
    password: &str,
    tls: &str,
) -> Result<String, String> {
    let connection = format!(
        "host=notes-pg.postgres.database.azure.com port={port} user=notesadmin dbname={database} \
         sslmode={tls} sslrootcert=/etc/ssl/certs/ca-certificates.crt connect_timeout=5"
    );
    let args = ["-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql, &connection];
    // The version-independent wrapper is a Perl script that wants /etc/postgresql-common.
    let found = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let psql = found.map(|entry| entry.path().join("bin/psql")).max().unwrap_or("psql".into());
    let program = psql.to_string_lossy().into_owned();
    world.client(&program, &args, &[("PGPASSWORD", password)]).await.map(|t| t.trim().to_owned())
}

pub(crate) async fn tls_and_password(world: World) -> Outcome {
    let postgres = up(&world, server()).await?;
    let tls =
        psql(&world, 5432, "notes", "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()");
    expect(tls.await? == "t", "the certificate is verified and the connection encrypted")?;
    let plain = psql_as(&world, 5432, "notes", "SELECT 1", PASSWORD, "disable").await;
    expect(plain.as_ref().is_err_and(|e| e.contains("no encryption")), format!("{plain:?}"))?;
    let wrong = psql_as(&world, 5432, "notes", "SELECT 1", "wrong", "require").await;
    expect(wrong.as_ref().is_err_and(|e| e.contains("password")), format!("{wrong:?}"))?;
    // The administrator administers, and is no superuser.
    let text = psql(&world, 5432, "notes", "CREATE TABLE t (n int); CREATE ROLE app LOGIN; SELECT rolsuper FROM pg_roles WHERE rolname = current_user").await?;
    expect(text.ends_with('f'), text)?;
    let superuser = psql(&world, 5432, "notes", "COPY t FROM PROGRAM 'id'").await;
    expect(superuser.is_err(), "the administrator runs programs on the server")?;
    // No pooler unless asked for.
    expect(psql(&world, 6432, "notes", "SELECT 1").await.is_err(), "PgBouncer runs unasked")?;
    expect(postgres.databases("notes-pg").await?.iter().any(|d| d.name == "notes"), "listed")?;
    postgres.drop_database("notes-pg", "notes").await?;
    postgres.drop_database("notes-pg", "notes").await?;
    expect(psql(&world, 5432, "notes", "SELECT 1").await.is_err(), "dropped")?;
    postgres.remove("notes-pg").await;
    expect(!world.dir.join("postgres/notes-pg").exists(), "its files are gone")?;
    expect(world.names.hosts().is_empty(), "its name is gone")?;
    expect(processes(|line| line.contains("bin/postgres")).is_empty(), "its processes are gone")
}

pub(crate) async fn pooler_numbers(world: World) -> Outcome {
    let _postgres = up(&world, pooled()).await?;
    expect(psql(&world, 6432, "notes", "SELECT 41 + 1").await? == "42", "through PgBouncer")?;
    let config = psql(&world, 6432, "pgbouncer", "SHOW CONFIG").await?;
    for (name, value) in [
        ("default_pool_size", "50"),
        ("min_pool_size", "10"),
        ("server_idle_timeout", "600"),
        ("pool_mode", "transaction"),
        ("client_tls_sslmode", "require"),
        ("max_client_conn", "5000"),
    ] {
        expect(config.contains(&format!("\n{name}|{value}|")), format!("{name} in {config}"))?;
    }
    let pools = psql(&world, 6432, "pgbouncer", "SHOW POOLS").await?;
    expect(pools.contains("notes|notesadmin|"), &pools)?;
    let plain = psql_as(&world, 6432, "notes", "SELECT 1", PASSWORD, "disable").await;
    expect(plain.is_err(), "PgBouncer speaks without TLS")?;
    let wrong = psql_as(&world, 6432, "notes", "SELECT 1", "wrong", "require").await;
    expect(wrong.is_err(), "PgBouncer accepts any password")?;
    // A role the application made itself comes in too: PgBouncer asks the server.
    psql(&world, 5432, "notes", "CREATE ROLE notesadmin2 LOGIN PASSWORD 'other'").await?;
    let args = [
        "-X",
        "-A",
        "-t",
        "-c",
        "SELECT current_user",
        "host=notes-pg.postgres.database.azure.com port=6432 user=notesadmin2 dbname=notes sslmode=require",
    ];
    let bin = "/usr/lib/postgresql/15/bin/psql";
    let program = if std::path::Path::new(bin).exists() { bin } else { "psql" };
    let text = world.client(program, &args, &[("PGPASSWORD", "other")]).await?;
    expect(text.trim() == "notesadmin2", text)
}

pub(crate) async fn killed(world: World) -> Outcome {
    let postgres = up(&world, pooled()).await?;
    psql(&world, 6432, "notes", "CREATE TABLE t AS SELECT 7 AS n").await?;
    for victim in ["bin/postgres -D", "pgbouncer.ini", "lazuli-sandbox"] {
        let found = processes(|line| line.contains(victim));
        expect(!found.is_empty(), format!("no {victim} to kill"))?;
        for (pid, _) in found {
            tokio::process::Command::new("/bin/kill")
                .args(["-9", &pid.to_string()])
                .status()
                .await?;
        }
        let mut answer = Err(String::new());
        for _ in 0..200 {
            answer = psql(&world, 6432, "notes", "SELECT n FROM t").await;
            if answer.is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        expect(answer.as_deref() == Ok("7"), format!("after {victim} was killed: {answer:?}"))?;
        postgres.settled("notes-pg").await?;
        let masters = processes(|line| line.contains("bin/postgres -D")).len();
        expect(masters == 1, format!("{masters} servers run"))?;
    }
    Ok(())
}

pub(crate) async fn write(world: World) -> Outcome {
    let postgres = up(&world, pooled()).await?;
    psql(&world, 6432, "notes", "CREATE TABLE t (n int)").await?;
    psql(&world, 6432, "notes", "INSERT INTO t SELECT generate_series(1, 1000)").await?;
    // Not stopped: the region is killed with it running.
    std::mem::forget(postgres);
    Ok(())
}

pub(crate) async fn read_again(world: World) -> Outcome {
    let postgres = world.postgres();
    postgres.set(pooled());
    postgres.settled("notes-pg").await?;
    let sum = psql(&world, 6432, "notes", "SELECT count(*), sum(n) FROM t").await?;
    expect(sum == "1000|500500", &sum)?;
    postgres.shutdown().await;
    let log = std::fs::read_to_string(world.dir.join("logs/notes-pg-postgresql.log"))?;
    expect(log.contains("was not properly shut down"), "recovered from a crash")?;
    expect(log.contains("database system is shut down"), format!("stopped cleanly: {log}"))?;
    expect(processes(|line| line.contains("bin/postgres -D")).is_empty(), "still running")
}

pub(crate) async fn changes(world: World) -> Outcome {
    let postgres = up(&world, pooled()).await?;
    let started = "SELECT pg_postmaster_start_time()";
    let first = psql(&world, 5432, "notes", started).await?;

    // A dynamic parameter acts at once; a static one waits for a restart and says so.
    let mut server = pooled();
    server.parameters.insert("work_mem".to_owned(), "12345".to_owned());
    server.parameters.insert("max_wal_senders".to_owned(), "7".to_owned());
    server.parameters.insert("pgbouncer.default_pool_size".to_owned(), "33".to_owned());
    postgres.set(server.clone());
    postgres.settled("notes-pg").await?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    expect(psql(&world, 5432, "notes", "SHOW work_mem").await? == "12345kB", "work_mem")?;
    expect(psql(&world, 5432, "notes", started).await? == first, "restarted unasked")?;
    let config = psql(&world, 6432, "pgbouncer", "SHOW CONFIG").await?;
    expect(config.contains("\ndefault_pool_size|33|"), "PgBouncer took the new size")?;
    let settings = postgres.settings("notes-pg").await?;
    let senders = settings.iter().find(|s| s.name == "max_wal_senders").ok_or("a parameter")?;
    expect(senders.pending_restart && senders.value == "10", format!("{senders:?}"))?;
    server.restarts += 1;
    postgres.set(server.clone());
    postgres.settled("notes-pg").await?;
    expect(psql(&world, 5432, "notes", "SHOW max_wal_senders").await? == "7", "after the restart")?;

    // A new password takes the old one's place, on both ports, without a restart.
    let second = psql(&world, 5432, "notes", started).await?;
    server.password = Password::new("Another-0ne");
    postgres.set(server.clone());
    postgres.settled("notes-pg").await?;
    for port in [5432, 6432] {
        let old = psql(&world, port, "notes", "SELECT 1").await;
        expect(old.is_err(), format!("the old password still opens {port}"))?;
        let new = psql_as(&world, port, "notes", started, "Another-0ne", "require").await?;
        expect(new == second, format!("restarted: {new}"))?;
    }

    // Stopped and started again.
    server.started = false;
    postgres.set(server.clone());
    postgres.settled("notes-pg").await?;
    expect(processes(|line| line.contains("bin/postgres -D")).is_empty(), "stopped")?;
    expect(postgres.databases("notes-pg").await.is_err(), "a stopped server answers")?;
    server.started = true;
    postgres.set(server);
    postgres.settled("notes-pg").await?;
    psql_as(&world, 5432, "notes", "SELECT 1", "Another-0ne", "require").await?;

    // A server that cannot start says why, and comes back when that is put right.
    let mut broken = pooled();
    broken.parameters.insert("shared_buffers".to_owned(), "nonsense".to_owned());
    broken.restarts = 9;
    postgres.set(broken);
    let failed = postgres.settled("notes-pg").await;
    expect(
        failed.as_ref().is_err_and(|e| e.to_string().contains("shared_buffers")),
        format!("{failed:?}"),
    )?;
    postgres.set(pooled());
    postgres.settled("notes-pg").await?;
    expect(psql(&world, 6432, "notes", "SELECT 1").await? == "1", "it is back")
}

pub(crate) async fn no_secrets_shown(world: World) -> Outcome {
    let _postgres = up(&world, pooled()).await?;
    psql(&world, 6432, "notes", "SELECT 1").await?;
    let shown = processes(|line| line.contains(PASSWORD));
    expect(shown.is_empty(), format!("{shown:?}"))?;
    // Nor in any file: not in a configuration, not in a log, not in the database.
    let mut next = vec![world.dir.clone()];
    while let Some(dir) = next.pop() {
        for entry in std::fs::read_dir(dir)?.flatten() {
            if entry.file_type()?.is_dir() {
                next.push(entry.path());
            } else if let Ok(bytes) = std::fs::read(entry.path()) {
                let found = bytes.windows(PASSWORD.len()).any(|w| w == PASSWORD.as_bytes());
                expect(!found, format!("the password stands in {}", entry.path().display()))?;
            }
        }
    }
    Ok(())
}
