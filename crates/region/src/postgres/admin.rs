//! SQL as the superuser, through the Unix socket that only core and PgBouncer reach.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::time::Duration;

use lazuli_azure::scram;
use tokio::net::UnixStream;
use tokio_postgres::{Config, NoTls, error::SqlState};

use super::PORT;
use super::cluster::SUPERUSER;

/// The role whose members administer a server without being superusers, as on Azure
/// (<https://learn.microsoft.com/azure/postgresql/flexible-server/concepts-security>).
const ADMINISTRATORS: &str = "azure_pg_admin";

/// One connection as the superuser.
pub(super) struct Client(tokio_postgres::Client);

/// A database that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseInfo {
    /// Its name.
    pub name: String,
    /// Its encoding (`UTF8`).
    pub charset: String,
    /// Its collation (`C.UTF-8`).
    pub collation: String,
}

/// A server parameter as `pg_settings` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Its name.
    pub name: String,
    /// Its value now.
    pub value: String,
    /// The value it has when nobody sets it.
    pub default: String,
    /// `bool`, `integer`, `real`, `string` or `enum`.
    pub kind: String,
    /// The values of an `enum`.
    pub choices: Vec<String>,
    /// The smallest and largest value of a number.
    pub range: Option<(String, String)>,
    /// The unit of a number, if any.
    pub unit: Option<String>,
    /// `postmaster` (needs a restart), `sighup`, `user`, `internal` (read-only) and so on.
    pub context: String,
    /// What it does, in PostgreSQL's words.
    pub description: String,
    /// Whether a new value waits for a restart.
    pub pending_restart: bool,
}

type Done<T> = Result<T, String>;

fn words(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(error) => error.message().to_owned(),
        None => error.to_string(),
    }
}

impl Client {
    /// Connects through the socket in `run`.
    pub(super) async fn connect(run: &Path) -> Done<Self> {
        let attempt = async {
            // A socket's path has at most 107 bytes, and a region may live anywhere.
            let dir = File::open(run).map_err(|e| e.to_string())?;
            let path = format!("/proc/self/fd/{}/.s.PGSQL.{PORT}", dir.as_raw_fd());
            let stream = UnixStream::connect(path).await.map_err(|e| e.to_string())?;
            let mut config = Config::new();
            config.user(SUPERUSER).dbname("postgres").application_name("region");
            let (client, connection) =
                config.connect_raw(stream, NoTls).await.map_err(|e| words(&e))?;
            tokio::spawn(connection);
            Ok(Self(client))
        };
        tokio::time::timeout(Duration::from_secs(10), attempt)
            .await
            .unwrap_or_else(|_| Err("PostgreSQL does not answer".to_owned()))
    }

    async fn run(&self, statement: &str) -> Done<()> {
        self.0.batch_execute(statement).await.map_err(|e| words(&e))
    }

    async fn value(&self, query: &str, parameter: &str) -> Done<Option<String>> {
        let row = self.0.query_opt(query, &[&parameter]).await.map_err(|e| words(&e))?;
        Ok(row.and_then(|row| row.get::<_, Option<String>>(0)))
    }

    /// The version that runs (`15.18`).
    pub(super) async fn version(&self) -> Done<String> {
        let row = self.0.query_one("SHOW server_version", &[]).await.map_err(|e| words(&e))?;
        let version: String = row.get(0);
        Ok(version.split_whitespace().next().unwrap_or(&version).to_owned())
    }

    /// Makes sure that the administrator exists with this password and the rights Azure gives it.
    pub(super) async fn ensure_administrator(&self, name: &str, password: &str) -> Done<()> {
        let exists = "SELECT rolname::text FROM pg_roles WHERE rolname = $1";
        if self.value(exists, ADMINISTRATORS).await?.is_none() {
            self.run(&format!(
                "BEGIN; CREATE ROLE {ADMINISTRATORS} NOLOGIN CREATEDB CREATEROLE;
                 GRANT pg_monitor, pg_signal_backend TO {ADMINISTRATORS};
                 ALTER DATABASE postgres OWNER TO {ADMINISTRATORS}; COMMIT"
            ))
            .await?;
        }
        if self.value(exists, name).await?.is_none() {
            self.run(&format!(
                "CREATE ROLE {name} LOGIN CREATEDB CREATEROLE IN ROLE {ADMINISTRATORS}",
                name = quote(name)
            ))
            .await?;
        }
        let now = self
            .value("SELECT rolpassword FROM pg_authid WHERE rolname = $1", name)
            .await?
            .unwrap_or_default();
        if !scram::matches(&now, password) {
            let verifier = scram::verifier(password)?;
            self.run(&format!("ALTER ROLE {} PASSWORD '{verifier}'", quote(name))).await?;
        }
        Ok(())
    }

    /// The password verifiers of roles, for PgBouncer's own users.
    pub(super) async fn verifiers(&self, roles: &[String]) -> Done<Vec<(String, String)>> {
        let rows = self
            .0
            .query(
                "SELECT rolname::text, rolpassword FROM pg_authid
                 WHERE rolname = ANY($1) AND rolcanlogin AND rolpassword IS NOT NULL
                 ORDER BY rolname",
                &[&roles],
            )
            .await
            .map_err(|e| words(&e))?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    pub(super) async fn databases(&self) -> Done<Vec<DatabaseInfo>> {
        let rows = self
            .0
            .query(
                "SELECT datname::text, pg_encoding_to_char(encoding)::text, datcollate::text
                 FROM pg_database WHERE NOT datistemplate ORDER BY datname",
                &[],
            )
            .await
            .map_err(|e| words(&e))?;
        Ok(rows
            .iter()
            .map(|row| DatabaseInfo {
                name: row.get(0),
                charset: row.get(1),
                collation: row.get(2),
            })
            .collect())
    }

    pub(super) async fn create_database(
        &self,
        name: &str,
        owner: &str,
        charset: &str,
        collation: &str,
    ) -> Done<()> {
        let exists = "SELECT datname::text FROM pg_database WHERE datname = $1";
        if self.value(exists, name).await?.is_some() {
            return Ok(());
        }
        // Azure's default `en_US.utf8` is not generated on every machine. Without it texts sort by
        // code point; the log says so.
        let known = "SELECT collcollate::text FROM pg_collation
                     WHERE collprovider = 'c' AND lower(collcollate) = lower($1) LIMIT 1";
        let collation = self.value(known, collation).await?.unwrap_or_else(|| {
            tracing::warn!(
                database = name,
                collation,
                "the machine lacks this locale; the database gets C.UTF-8 instead"
            );
            "C.UTF-8".to_owned()
        });
        let statement = format!(
            "CREATE DATABASE {} OWNER {} ENCODING {} LOCALE {} TEMPLATE template0",
            quote(name),
            quote(owner),
            literal(charset),
            literal(&collation),
        );
        match self.0.batch_execute(&statement).await {
            // Another writer was faster.
            Err(e) if e.code() == Some(&SqlState::DUPLICATE_DATABASE) => Ok(()),
            other => other.map_err(|e| words(&e)),
        }
    }

    pub(super) async fn drop_database(&self, name: &str) -> Done<()> {
        self.run(&format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quote(name))).await
    }

    pub(super) async fn settings(&self) -> Done<Vec<Setting>> {
        let rows = self
            .0
            .query(
                "SELECT name::text, setting::text, boot_val::text, vartype::text,
                        enumvals::text[], min_val::text, max_val::text, unit::text,
                        context::text, short_desc::text, pending_restart
                 FROM pg_settings WHERE name !~ '\\.' ORDER BY name",
                &[],
            )
            .await
            .map_err(|e| words(&e))?;
        Ok(rows
            .iter()
            .map(|row| Setting {
                name: row.get(0),
                value: row.get::<_, Option<String>>(1).unwrap_or_default(),
                default: row.get::<_, Option<String>>(2).unwrap_or_default(),
                kind: row.get(3),
                choices: row.get::<_, Option<Vec<String>>>(4).unwrap_or_default(),
                range: row.get::<_, Option<String>>(5).zip(row.get::<_, Option<String>>(6)),
                unit: row.get(7),
                context: row.get(8),
                description: row.get::<_, Option<String>>(9).unwrap_or_default(),
                pending_restart: row.get(10),
            })
            .collect())
    }
}

/// An identifier in SQL.
fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A string in SQL; with the doubled backslash it holds whatever `standard_conforming_strings` says.
fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_their_quotes() {
        assert_eq!(quote(r#"a"; DROP DATABASE x; --"#), r#""a""; DROP DATABASE x; --""#);
        assert_eq!(literal(r"a\'b"), r"E'a\\''b'");
    }
}
