//! A cache's files and its sandbox.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest;
use lazuli_gateway::IssuedPem;
use lazuli_host::{Mount, Network, Spec, User};

use super::Cache;
use crate::service;

/// The user that core itself comes as, through the Unix socket.
pub(super) const OURS: &str = "region";
pub(super) const SOCKET: &str = "redis.sock";
const CONF: &str = "/etc/redis";
const DATA: &str = "/var/lib/redis";
const RUN: &str = "/run/redis";

/// Commands that Azure does not let clients give
/// (<https://learn.microsoft.com/azure/azure-cache-for-redis/cache-configure#redis-commands-not-supported-in-azure-cache-for-redis>).
const REFUSED: [&str; 14] = [
    "acl",
    "bgrewriteaof",
    "bgsave",
    "config",
    "debug",
    "failover",
    "migrate",
    "module",
    "psync",
    "replicaof",
    "save",
    "shutdown",
    "slaveof",
    "sync",
];

pub(super) fn conf(dir: &Path) -> PathBuf {
    dir.join("conf")
}

pub(super) fn make_dirs(dir: &Path) -> io::Result<()> {
    for part in ["data", "conf", "run"] {
        service::make_dir(&dir.join(part))?;
    }
    Ok(())
}

pub(super) fn write_certificate(dir: &Path, pem: &IssuedPem, ca: &str) -> io::Result<()> {
    service::write_if_changed(&conf(dir).join("server.key"), pem.key.expose().as_bytes())?;
    service::write_if_changed(&conf(dir).join("server.crt"), pem.chain.as_bytes())?;
    service::write_if_changed(&conf(dir).join("ca.crt"), ca.as_bytes())?;
    Ok(())
}

/// Writes the configuration and the users; `ours` is the password of [`OURS`].
pub(super) fn write_configuration(dir: &Path, cache: &Cache, ours: &str) -> io::Result<()> {
    let conf = conf(dir);
    service::write_if_changed(&conf.join("redis.conf"), configuration(cache).as_bytes())?;
    service::write_if_changed(&conf.join("users.acl"), users(cache, ours).as_bytes())?;
    Ok(())
}

fn configuration(cache: &Cache) -> String {
    let mut text = String::from("# Written by the region; changes are lost.\n");
    let mut set = |name: &str, value: &str| {
        let _ = writeln!(text, "{name} \"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""));
    };
    set("bind", &cache.address.to_string());
    set("port", &cache.plain_port.to_string());
    set("tls-port", &cache.tls_port.to_string());
    set("tls-cert-file", &format!("{CONF}/server.crt"));
    set("tls-key-file", &format!("{CONF}/server.key"));
    set("tls-ca-cert-file", &format!("{CONF}/ca.crt"));
    set("tls-auth-clients", "no");
    set("tls-protocols", protocols(cache));
    set("unixsocket", &format!("{RUN}/{SOCKET}"));
    set("unixsocketperm", "700");
    set("aclfile", &format!("{CONF}/users.acl"));
    set("dir", DATA);
    set("appendonly", "yes");
    set("appendfsync", "everysec");
    set("databases", &cache.databases.to_string());
    set("maxmemory", &cache.memory.to_string());
    set("maxclients", &cache.clients.to_string());
    set("maxmemory-policy", &cache.eviction);
    set("notify-keyspace-events", &cache.keyspace_events);
    set("daemonize", "no");
    if cache.cluster {
        set("cluster-enabled", "yes");
        // The bus's port follows from the port that is open.
        set("tls-cluster", if cache.tls_port == 0 { "no" } else { "yes" });
        set("cluster-announce-hostname", &cache.host);
        set("cluster-preferred-endpoint-type", "hostname");
        set("cluster-require-full-coverage", "no");
    }
    // Azure's front end disconnects idle clients after ten minutes
    // (https://learn.microsoft.com/azure/azure-cache-for-redis/cache-best-practices-connection).
    set("timeout", "600");
    // `save` takes its words apart: snapshots off, the append-only file is what is durable.
    text.push_str("save \"\"\n");
    text
}

pub(super) fn protocols(cache: &Cache) -> &'static str {
    if cache.tls12 { "TLSv1.2 TLSv1.3" } else { "TLSv1.3" }
}

/// Passwords as hashes: the file shows no key.
fn users(cache: &Cache, ours: &str) -> String {
    let [primary, secondary] = &cache.keys;
    let state = if cache.keys_accepted { "on" } else { "off" };
    let mut text = format!(
        "user {OURS} on #{} ~* &* +@all\nuser default {state} #{} #{} ~* &* +@all",
        hash(ours),
        hash(primary.expose()),
        hash(secondary.expose())
    );
    for command in REFUSED {
        let _ = write!(text, " -{command}");
    }
    text.push('\n');
    text
}

fn hash(password: &str) -> String {
    let mut text = String::new();
    for byte in digest::digest(&digest::SHA256, password.as_bytes()).as_ref() {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

pub(super) fn spec(dir: &Path, cache: &Cache) -> Result<Spec, String> {
    let program = ["/usr/bin/redis-server", "/usr/local/bin/redis-server"]
        .into_iter()
        .find(|path| Path::new(path).is_file())
        .ok_or("Redis is not installed: sudo apt install redis-server")?;
    Ok(Spec {
        name: cache.name.clone(),
        program: program.into(),
        args: vec![format!("{CONF}/redis.conf").into()],
        env: vec![("PATH".into(), "/usr/bin:/bin".into()), ("LANG".into(), "C.UTF-8".into())],
        cwd: "/".into(),
        user: User::Unprivileged,
        network: Network::Region,
        mounts: vec![
            Mount::read_only(conf(dir), CONF),
            Mount::writable(dir.join("data"), DATA),
            Mount::writable(dir.join("run"), RUN),
        ],
        hosts: Vec::new(),
        ca_bundle: None,
        nofile: 65_536,
    })
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::redis::Password;

    fn cache() -> Cache {
        Cache {
            name: "notes-redis".to_owned(),
            host: "notes-redis.redis.cache.windows.net".to_owned(),
            address: Ipv4Addr::new(10, 0, 2, 4),
            keys: [Password::new("one"), Password::new("two")],
            keys_accepted: true,
            memory: 6 << 30,
            databases: 16,
            clients: 7500,
            eviction: "volatile-lru".to_owned(),
            keyspace_events: String::new(),
            tls12: true,
            tls_port: 6380,
            plain_port: 0,
            cluster: false,
        }
    }

    #[test]
    fn both_keys_are_accepted_and_neither_is_written() {
        let text = users(&cache(), "ours");
        // echo -n one | sha256sum
        assert!(
            text.contains("#7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed ")
        );
        assert!(!text.contains("one ") && !text.contains("two "), "{text}");
        assert!(text.lines().last().is_some_and(|line| line.contains("-config")));
        let off = users(&Cache { keys_accepted: false, ..cache() }, "ours");
        assert!(off.contains("user default off "), "{off}");
    }

    #[test]
    fn no_port_without_tls_unless_asked_for() {
        let mut cache = cache();
        assert!(configuration(&cache).contains("\nport \"0\"\n"));
        cache.plain_port = 6379;
        assert!(configuration(&cache).contains("\nport \"6379\"\n"));
        cache.tls12 = false;
        assert!(configuration(&cache).contains("tls-protocols \"TLSv1.3\"\n"));
    }
}
