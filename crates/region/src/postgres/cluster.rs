//! A database cluster on disk: which PostgreSQL is installed, `initdb`, and the files we write.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lazuli_gateway::IssuedPem;
use lazuli_host::{Host, Mount, Network, Spec, User};

use super::{PORT, Server, truthy};
use crate::service;

/// The superuser, as on Azure: it has no password and is reachable through the Unix socket alone.
pub(super) const SUPERUSER: &str = "azuresu";
/// Where a server finds its parts inside its sandbox.
const DATA: &str = "/var/lib/postgresql/data";
const CONF: &str = "/etc/postgresql";
pub(super) const RUN: &str = "/run/postgresql";

/// An installed PostgreSQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Installation {
    pub(super) bin: PathBuf,
    pub(super) major: u32,
}

impl Installation {
    /// The newest one, or the one of the given major version.
    pub(super) fn find(major: Option<u32>) -> Result<Self, String> {
        let mut found: Vec<Self> = fs::read_dir("/usr/lib/postgresql")
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                let major = entry.file_name().to_str()?.parse().ok()?;
                let bin = entry.path().join("bin");
                bin.join("postgres").is_file().then_some(Self { bin, major })
            })
            .collect();
        if found.is_empty() {
            found.extend(Self::on_path());
        }
        found.sort_by_key(|installation| installation.major);
        match major {
            None => found.pop().ok_or_else(|| {
                "PostgreSQL is not installed: sudo apt install postgresql".to_owned()
            }),
            Some(major) => found.into_iter().find(|i| i.major == major).ok_or_else(|| {
                format!(
                    "its data is of PostgreSQL {major}, which is not installed any more: \
                     sudo apt install postgresql-{major}"
                )
            }),
        }
    }

    /// Other distributions put the programs on the path, and `pg_config`'s header names the version.
    fn on_path() -> Option<Self> {
        let path = std::env::var_os("PATH")?;
        let postgres = std::env::split_paths(&path)
            .map(|dir| dir.join("postgres"))
            .find(|candidate| candidate.is_file())?
            .canonicalize()
            .ok()?;
        let output = std::process::Command::new(&postgres).arg("--version").output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let version = text.split_whitespace().find_map(|word| {
            word.split('.').next()?.trim_end_matches(|c: char| !c.is_ascii_digit()).parse().ok()
        })?;
        Some(Self { bin: postgres.parent()?.to_owned(), major: version })
    }
}

/// A server's directories.
#[derive(Debug, Clone)]
pub(super) struct Cluster {
    dir: PathBuf,
}

impl Cluster {
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    pub(super) fn conf(&self) -> PathBuf {
        self.dir.join("conf")
    }

    pub(super) fn run(&self) -> PathBuf {
        self.dir.join("run")
    }

    /// Makes the cluster if there is none, and answers which PostgreSQL it is of.
    pub(super) async fn prepare(&self, host: &Host, wanted: u32) -> Result<Installation, String> {
        let io = |what: &str| {
            let what = format!("cannot {what} in {}", self.dir.display());
            move |e: io::Error| format!("{what}: {e}")
        };
        for dir in [&self.dir, &self.conf(), &self.run()] {
            service::make_dir(dir).map_err(io("make its directories"))?;
        }
        if let Ok(version) = fs::read_to_string(self.data().join("PG_VERSION")) {
            let major = version.trim().parse().map_err(|_| "PG_VERSION is damaged".to_owned())?;
            return Installation::find(Some(major));
        }
        let installation =
            Installation::find(Some(wanted)).or_else(|_| Installation::find(None))?;
        if installation.major != wanted {
            tracing::warn!(
                wanted,
                installed = installation.major,
                "another PostgreSQL than asked for: its minorVersion says which"
            );
        }
        // Made aside and renamed: a crash in between leaves no half cluster.
        let new = self.dir.join("data.new");
        if new.exists() {
            fs::remove_dir_all(&new).map_err(io("remove a half cluster"))?;
        }
        service::make_dir(&new).map_err(io("make its data directory"))?;
        let mut spec = self.spec(&installation, "initdb");
        spec.network = Network::None;
        spec.mounts = vec![Mount::writable(&new, DATA)];
        spec.mounts.extend(outside_usr(&installation));
        spec.args = [
            "--pgdata",
            DATA,
            "--username",
            SUPERUSER,
            // Replaced by our own rules before the first start; the superuser gets no password.
            "--auth=peer",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--data-checksums",
            "--no-instructions",
        ]
        .map(Into::into)
        .into();
        service::run(host, spec, Duration::from_secs(120)).await?;
        fs::rename(&new, self.data()).map_err(io("put the new cluster in place"))?;
        fs::File::open(&self.dir).and_then(|dir| dir.sync_all()).map_err(io("sync"))?;
        Ok(installation)
    }

    /// The server itself.
    pub(super) fn server(&self, installation: &Installation) -> Spec {
        let mut spec = self.spec(installation, "postgres");
        spec.args = ["-D", DATA, "-c", "config_file=/etc/postgresql/postgresql.conf"]
            .map(Into::into)
            .into();
        spec
    }

    fn spec(&self, installation: &Installation, program: &str) -> Spec {
        let name = self.dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut mounts = vec![
            Mount::writable(self.data(), DATA),
            Mount::read_only(self.conf(), CONF),
            Mount::writable(self.run(), RUN),
        ];
        mounts.extend(outside_usr(installation));
        Spec {
            name,
            program: installation.bin.join(program).into(),
            args: Vec::new(),
            env: vec![
                ("PATH".into(), "/usr/bin:/bin".into()),
                ("LANG".into(), "C.UTF-8".into()),
                ("TZ".into(), "UTC".into()),
            ],
            cwd: "/".into(),
            user: User::Unprivileged,
            network: Network::Region,
            mounts,
            hosts: Vec::new(),
            ca_bundle: None,
            nofile: 65_536,
        }
    }

    /// Removes what a killed postmaster left: nothing of it can still run, for it died with its
    /// sandbox, but another process may have its pid by now and would look like it.
    pub(super) fn clear_pid(&self) {
        let _ = fs::remove_file(self.data().join("postmaster.pid"));
    }

    /// Writes the certificate and its key.
    pub(super) fn write_certificate(&self, pem: &IssuedPem) -> io::Result<()> {
        service::write_if_changed(&self.conf().join("server.key"), pem.key.expose().as_bytes())?;
        service::write_if_changed(&self.conf().join("server.crt"), pem.chain.as_bytes())?;
        Ok(())
    }

    /// Writes the configuration.
    pub(super) fn write_configuration(&self, server: &Server) -> io::Result<()> {
        for (name, text) in [
            ("postgresql.conf", configuration(server)),
            ("pg_hba.conf", access(server)),
            ("pg_ident.conf", format!("region nobody {SUPERUSER}\n")),
        ] {
            service::write_if_changed(&self.conf().join(name), text.as_bytes())?;
        }
        Ok(())
    }
}

fn outside_usr(installation: &Installation) -> Option<Mount> {
    let prefix = installation.bin.parent()?;
    (!prefix.starts_with("/usr")).then(|| Mount::read_only(prefix, prefix))
}

/// Who may connect and how. The Unix socket is ours: core and PgBouncer's look-up of passwords come
/// as the superuser by their system user; PgBouncer's pooled connections prove their own password.
fn access(server: &Server) -> String {
    let mut text = format!("local all {SUPERUSER} peer map=region\nlocal all all scram-sha-256\n");
    let _ = writeln!(text, "host all {SUPERUSER} all reject");
    text.push_str("hostssl all all all scram-sha-256\n");
    // <https://learn.microsoft.com/azure/postgresql/flexible-server/how-to-connect-tls-ssl>
    if server.parameters.get("require_secure_transport").is_some_and(|value| !truthy(value)) {
        text.push_str("hostnossl all all all scram-sha-256\n");
    }
    text
}

fn configuration(server: &Server) -> String {
    let mut text = String::from("# Written by the region; changes are lost.\n");
    let mut set = |name: &str, value: &str| {
        let _ = writeln!(text, "{name} = '{}'", value.replace('\\', "\\\\").replace('\'', "''"));
    };
    set("listen_addresses", &server.address.to_string());
    set("port", &PORT.to_string());
    set("max_connections", &server.max_connections.to_string());
    set("unix_socket_directories", RUN);
    set("unix_socket_permissions", "0700");
    set("hba_file", "/etc/postgresql/pg_hba.conf");
    set("ident_file", "/etc/postgresql/pg_ident.conf");
    set("ssl", "on");
    set("ssl_cert_file", "/etc/postgresql/server.crt");
    set("ssl_key_file", "/etc/postgresql/server.key");
    set("ssl_min_protocol_version", "TLSv1.2");
    set("password_encryption", "scram-sha-256");
    set("logging_collector", "off");
    set("log_destination", "stderr");
    set("log_line_prefix", "%m [%p] %q%u@%d ");
    set("timezone", "UTC");
    for (name, value) in &server.parameters {
        if !name.starts_with("pgbouncer.") && name != "require_secure_transport" {
            set(name, value);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::Ipv4Addr;

    use super::*;
    use crate::postgres::Password;

    fn server() -> Server {
        Server {
            name: "notes-pg".to_owned(),
            major: 15,
            address: Ipv4Addr::new(10, 0, 3, 4),
            administrator: "notesadmin".to_owned(),
            password: Password::new("not in any file"),
            max_connections: 859,
            pooler_offered: true,
            parameters: BTreeMap::from([
                ("work_mem".to_owned(), "8192".to_owned()),
                ("pgbouncer.enabled".to_owned(), "true".to_owned()),
                ("application_name".to_owned(), "it's\n\\'; x = 'y".to_owned()),
            ]),
            started: true,
            restarts: 0,
        }
    }

    #[test]
    fn parameters_are_quoted_and_poolers_left_out() {
        let text = configuration(&server());
        assert!(text.contains("work_mem = '8192'\n"));
        assert!(text.contains("max_connections = '859'\n"));
        assert!(!text.contains("pgbouncer"));
        assert!(text.contains("'it''s\n\\\\''; x = ''y'"), "{text}");
        assert!(!text.contains("not in any file"));
    }

    #[test]
    fn only_tls_unless_the_server_is_told_otherwise() {
        let mut server = server();
        assert!(!access(&server).contains("hostnossl"));
        server.parameters.insert("require_secure_transport".to_owned(), "OFF".to_owned());
        assert!(access(&server).contains("hostnossl"));
    }
}
