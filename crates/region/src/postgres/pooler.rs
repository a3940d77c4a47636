//! The built-in PgBouncer: Azure's `pgbouncer.*` server parameters and what becomes of them.
//!
//! <https://learn.microsoft.com/azure/postgresql/flexible-server/concepts-pgbouncer>

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use lazuli_host::{Mount, Network, Spec, User};

use super::cluster::{Cluster, RUN, SUPERUSER};
use super::{POOLER_PORT, PORT, Server};
use crate::service;

const CONF: &str = "/etc/pgbouncer";

/// A `pgbouncer.*` server parameter.
#[derive(Debug, Clone, Copy)]
pub struct Parameter {
    /// Azure's name.
    pub name: &'static str,
    /// Azure's data type: `Boolean`, `Integer`, `Enumeration`, `String`.
    pub kind: &'static str,
    /// Azure's default.
    pub default: &'static str,
    /// What Azure accepts: a range, a list of choices, or a pattern.
    pub allowed: &'static str,
    /// What it does.
    pub description: &'static str,
}

/// What Azure lets be set. `pgbouncer.max_prepared_statements` needs PgBouncer 1.21 and is offered
/// only where that runs.
pub const PARAMETERS: &[Parameter] = &[
    Parameter {
        name: "pgbouncer.default_pool_size",
        kind: "Integer",
        default: "50",
        allowed: "1-4950",
        description: "How many server connections to allow per user/database pair.",
    },
    Parameter {
        name: "pgbouncer.enabled",
        kind: "Boolean",
        default: "false",
        allowed: "true,false",
        description: "Denotes if pgBouncer service is enabled.",
    },
    Parameter {
        name: "pgbouncer.ignore_startup_parameters",
        kind: "String",
        default: "extra_float_digits",
        allowed: "[A-Za-z_, ]*",
        description: "Parameters that clients may send and PgBouncer does not pass on.",
    },
    Parameter {
        name: "pgbouncer.max_client_conn",
        kind: "Integer",
        default: "5000",
        allowed: "1-50000",
        description: "Maximum number of client connections allowed.",
    },
    Parameter {
        name: "pgbouncer.min_pool_size",
        kind: "Integer",
        default: "0",
        allowed: "0-4950",
        description: "Server connections kept open while a pool is in use.",
    },
    Parameter {
        name: "pgbouncer.pool_mode",
        kind: "Enumeration",
        default: "transaction",
        allowed: "session,transaction,statement",
        description: "When a server connection can be reused by another client.",
    },
    Parameter {
        name: "pgbouncer.query_wait_timeout",
        kind: "Integer",
        default: "120",
        allowed: "0-86400",
        description: "Seconds a query may wait for a server connection; then its client is disconnected.",
    },
    Parameter {
        name: "pgbouncer.server_idle_timeout",
        kind: "Integer",
        default: "600",
        allowed: "0-86400",
        description: "Seconds after which an idle server connection is closed.",
    },
    Parameter {
        name: "pgbouncer.stats_users",
        kind: "String",
        default: "",
        allowed: "[A-Za-z0-9_, ]*",
        description: "Users that may read statistics from the database `pgbouncer`.",
    },
];

/// The users of the parameter `pgbouncer.stats_users`.
pub(super) fn stats_users(server: &Server) -> Vec<String> {
    let users = server.parameters.get("pgbouncer.stats_users").map_or("", String::as_str);
    users.split(',').map(str::trim).filter(|user| !user.is_empty()).map(str::to_owned).collect()
}

/// Writes PgBouncer's files. `verifiers` are those of
/// [`stats_users`]: everybody else's come from PostgreSQL when they connect.
pub(super) fn write_configuration(
    cluster: &Cluster,
    server: &Server,
    verifiers: &[(String, String)],
) -> io::Result<()> {
    let conf = conf(cluster);
    service::make_dir(&conf)?;
    let mut users = String::new();
    for (name, verifier) in verifiers {
        let _ = writeln!(users, "\"{}\" \"{verifier}\"", name.replace('"', "\"\""));
    }
    service::write_if_changed(&conf.join("userlist.txt"), users.as_bytes())?;
    service::write_if_changed(&conf.join("pgbouncer.ini"), configuration(server).as_bytes())?;
    for file in ["server.key", "server.crt"] {
        let pem = std::fs::read(cluster.conf().join(file))?;
        service::write_if_changed(&conf.join(file), &pem)?;
    }
    Ok(())
}

fn conf(cluster: &Cluster) -> PathBuf {
    cluster.dir().join("pgbouncer")
}

fn configuration(server: &Server) -> String {
    let value = |parameter: &Parameter| {
        server.parameters.get(parameter.name).map_or(parameter.default, String::as_str).to_owned()
    };
    let mut text = format!(
        "; Written by the region; changes are lost.\n\
         [databases]\n\
         * = host={RUN} port={PORT}\n\
         [pgbouncer]\n\
         listen_addr = {}\n\
         listen_port = {POOLER_PORT}\n\
         unix_socket_dir =\n\
         auth_type = scram-sha-256\n\
         auth_file = {CONF}/userlist.txt\n\
         auth_user = {SUPERUSER}\n\
         auth_query = SELECT usename, passwd FROM pg_catalog.pg_shadow WHERE usename = $1\n\
         client_tls_sslmode = require\n\
         client_tls_key_file = {CONF}/server.key\n\
         client_tls_cert_file = {CONF}/server.crt\n\
         client_tls_protocols = secure\n\
         max_db_connections = 0\n",
        server.address,
    );
    for parameter in PARAMETERS {
        let Some(name) = parameter.name.strip_prefix("pgbouncer.") else { continue };
        if name != "enabled" {
            // A value is one line: the resource type's patterns allow no other.
            let _ = writeln!(text, "{name} = {}", value(parameter).replace(['\n', '\r'], " "));
        }
    }
    text
}

/// PgBouncer's program, if it is installed.
pub(super) fn program() -> Result<&'static Path, String> {
    ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer", "/usr/local/bin/pgbouncer"]
        .into_iter()
        .map(Path::new)
        .find(|path| path.is_file())
        .ok_or_else(|| "PgBouncer is not installed: sudo apt install pgbouncer".to_owned())
}

pub(super) fn spec(cluster: &Cluster, server: &Server, program: &Path) -> Spec {
    Spec {
        name: format!("{}-pgbouncer", server.name),
        program: program.into(),
        args: vec![format!("{CONF}/pgbouncer.ini").into()],
        env: vec![("PATH".into(), "/usr/bin:/bin".into())],
        cwd: "/".into(),
        user: User::Unprivileged,
        network: Network::Region,
        mounts: vec![Mount::read_only(conf(cluster), CONF), Mount::writable(cluster.run(), RUN)],
        hosts: Vec::new(),
        ca_bundle: None,
        nofile: 65_536,
    }
}
