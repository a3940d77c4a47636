//! From a slot's record to what an instance is started with: the launch, its environment, and the
//! fingerprint by which two launches are known to be the same.
//!
//! <https://learn.microsoft.com/azure/app-service/reference-app-settings>

use std::{collections::BTreeMap, fmt, fmt::Write as _, net::Ipv4Addr, time::Duration};

use aws_lc_rs::digest;
use serde::Serialize;

use super::{
    references::Resolution,
    site::{ActiveDeployment, ConnectionString, SlotKey, SlotRecord},
};

/// Where the application's content is, as on App Service.
pub const WWWROOT: &str = "/home/site/wwwroot";
/// Where the virtual environment that the platform built is mounted.
pub const ANTENV: &str = "/home/site/wwwroot/antenv";
/// The port a Python application is expected on unless `WEBSITES_PORT` or `PORT` says otherwise.
pub const DEFAULT_PORT: u16 = 8000;

/// Everything an instance is started from. Equal launches are interchangeable: that is what makes
/// a warm standby usable for a rollback.
#[derive(Clone, PartialEq, Serialize)]
pub struct Launch {
    /// The slot it runs as: host name, identity and slot name in its environment.
    pub slot: SlotKey,
    /// The content, if anything was deployed.
    pub deployment: Option<ActiveDeployment>,
    /// What is mounted at `/home`.
    pub volume: String,
    /// `3.14`, from `linuxFxVersion`.
    pub python: String,
    /// The startup command, if one is configured.
    pub command: Option<String>,
    /// Application settings, references resolved.
    pub app_settings: BTreeMap<String, String>,
    /// Connection strings, references resolved.
    pub connection_strings: BTreeMap<String, ConnectionString>,
    /// The managed identity's object ID.
    pub principal: Option<String>,
    /// The subscription, group and region named in the environment.
    pub location: String,
    /// The plan's tier, `PremiumV3`.
    pub tier: String,
    /// Bumped by `restart`.
    pub restarts: u64,
}

impl fmt::Debug for Launch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Launch")
            .field("slot", &self.slot)
            .field("deployment", &self.deployment)
            .field("fingerprint", &self.fingerprint())
            .finish_non_exhaustive()
    }
}

/// A launch's identity: SHA-256 over all of it, secrets included, so it is safe to show.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Fingerprint(String);

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0[..12])
    }
}

impl Launch {
    /// The launch of `record` running as `slot`, with its references resolved as far as they could
    /// be: an unresolved reference reaches the application as its literal text.
    pub fn new(
        slot: &SlotKey,
        record: &SlotRecord,
        tier: &str,
        app_settings: &BTreeMap<String, Resolution>,
        connection_strings: &BTreeMap<String, Resolution>,
    ) -> Self {
        let value = |resolutions: &BTreeMap<String, Resolution>, name: &str, raw: &str| {
            resolutions
                .get(name)
                .and_then(|resolution| resolution.value.as_ref())
                .map_or_else(|| raw.to_owned(), |secret| secret.expose().to_owned())
        };
        Self {
            slot: slot.clone(),
            deployment: record.deployment.clone(),
            volume: record.volume.clone(),
            python: python_version(record),
            command: record.config_str("appCommandLine").map(str::to_owned),
            app_settings: record
                .app_settings
                .iter()
                .map(|(name, raw)| (name.clone(), value(app_settings, name, raw)))
                .collect(),
            connection_strings: record
                .connection_strings
                .iter()
                .map(|(name, string)| {
                    let value = value(connection_strings, name, &string.value);
                    (name.clone(), ConnectionString { value, kind: string.kind.clone() })
                })
                .collect(),
            principal: record.identity.as_ref().map(|identity| identity.principal_id.clone()),
            location: record.location.clone(),
            tier: tier.to_owned(),
            restarts: record.restarts,
        }
    }

    /// By which a launch is compared with what already runs.
    pub fn fingerprint(&self) -> Fingerprint {
        // A struct of strings and sorted maps always serialises, and always the same way.
        let bytes = serde_json::to_vec(self).unwrap_or_default();
        Fingerprint(sha256_hex(&bytes))
    }

    /// An application setting, by name without case as App Service treats them.
    pub fn setting(&self, name: &str) -> Option<&str> {
        setting(&self.app_settings, name)
    }

    /// The port the application is expected on.
    pub fn port(&self) -> u16 {
        self.setting("WEBSITES_PORT")
            .or_else(|| self.setting("PORT"))
            .and_then(|port| port.trim().parse().ok())
            .filter(|port| *port != 0)
            .unwrap_or(DEFAULT_PORT)
    }

    /// How long an instance may take until its port answers: `WEBSITES_CONTAINER_START_TIME_LIMIT`,
    /// 230 s unless set, 1800 s at most.
    pub fn start_limit(&self) -> Duration {
        seconds(self.setting("WEBSITES_CONTAINER_START_TIME_LIMIT"), 230, 1800)
    }

    /// How long an instance has between SIGTERM and SIGKILL: `WEBSITES_CONTAINER_STOP_TIME_LIMIT`.
    /// Azure's default is 5 s, 120 s at most; gunicorn's own `--graceful-timeout 30` of the standard's
    /// command only means something with more than that, so the default here is 30 s.
    pub fn stop_limit(&self) -> Duration {
        seconds(self.setting("WEBSITES_CONTAINER_STOP_TIME_LIMIT"), 30, 120)
    }

    /// Whether the old instance is stopped before the new one starts.
    pub fn overlap_disabled(&self) -> bool {
        self.setting("WEBSITE_DISABLE_OVERLAPPED_RECYCLING")
            .is_some_and(|value| matches!(value.trim(), "1" | "true" | "True" | "TRUE"))
    }

    /// Failed pings until an instance is out of rotation: `WEBSITE_HEALTHCHECK_MAXPINGFAILURES`, 2 to
    /// 10, by default 10 (<https://learn.microsoft.com/azure/app-service/monitor-instances-health-check>).
    pub fn max_ping_failures(&self) -> u32 {
        self.setting("WEBSITE_HEALTHCHECK_MAXPINGFAILURES")
            .and_then(|value| value.trim().parse::<u32>().ok())
            .map_or(10, |failures| failures.clamp(2, 10))
    }

    /// The environment of one of its processes. Settings come last and so win, as they do on Azure.
    pub fn environment(&self, instance: &InstanceEnvironment<'_>) -> Vec<(String, String)> {
        let mut env = BTreeMap::new();
        let mut set = |name: &str, value: String| {
            env.insert(name.to_owned(), value);
        };
        let port = self.port().to_string();
        set("PORT", port.clone());
        set("WEBSITES_PORT", port);
        set("HOME", "/home".into());
        set("LANG", "C.UTF-8".into());
        set("PWD", WWWROOT.into());
        set("PATH", self.path(instance.python_bin));
        if self.deployment.as_ref().is_some_and(|deployment| deployment.environment.is_some()) {
            set("VIRTUAL_ENV", ANTENV.into());
        }
        // As Oryx's start script leaves it: the application's own directory is importable.
        set("PYTHONPATH", WWWROOT.into());
        set("PYTHONUNBUFFERED", "1".into());
        set("APP_PATH", WWWROOT.into());
        set("PYTHON_VERSION", instance.python_version.to_owned());
        set("WEBSITE_SITE_NAME", self.slot.site.name.clone());
        set("WEBSITE_SLOT_NAME", self.slot.slot.in_environment().to_owned());
        set("WEBSITE_HOSTNAME", self.slot.host_name());
        set("WEBSITE_INSTANCE_ID", instance.id.to_owned());
        set("WEBSITE_RESOURCE_GROUP", self.slot.site.group.clone());
        let owner = format!(
            "{}+{}-{}webspace-Linux",
            self.slot.site.subscription, self.slot.site.group, self.location
        );
        set("WEBSITE_OWNER_NAME", owner);
        set("WEBSITE_SKU", self.tier.clone());
        set("REGION_NAME", self.location.clone());
        set("WEBSITE_ROLE_INSTANCE_ID", "0".into());
        set("WEBSITE_STACK", "PYTHON".into());
        set("WEBSITE_AUTH_ENABLED", "False".into());
        set("WEBSITES_ENABLE_APP_SERVICE_STORAGE", "true".into());
        if let Some((endpoint, header)) = instance.identity {
            set("IDENTITY_ENDPOINT", endpoint.to_owned());
            set("IDENTITY_HEADER", header.to_owned());
            set("MSI_ENDPOINT", endpoint.to_owned());
            set("MSI_SECRET", header.to_owned());
        }
        if let Some(address) = instance.address {
            set("WEBSITE_PRIVATE_IP", address.to_string());
        }
        for (name, value) in instance.outside {
            set(name, value.clone());
        }
        for (name, string) in &self.connection_strings {
            let name = format!("{}{}", connection_prefix(&string.kind), variable_name(name));
            set(&name, string.value.clone());
        }
        for (name, value) in &self.app_settings {
            let name = variable_name(name);
            set(&format!("APPSETTING_{name}"), value.clone());
            set(&name, value.clone());
        }
        env.into_iter().collect()
    }

    fn path(&self, python_bin: &str) -> String {
        let mut path = String::new();
        if self.deployment.as_ref().is_some_and(|deployment| deployment.environment.is_some()) {
            let _ = write!(path, "{ANTENV}/bin:");
        }
        let _ = write!(
            path,
            "{python_bin}:/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"
        );
        path
    }
}

/// What differs between instances of one launch, and what the machine contributes.
pub struct InstanceEnvironment<'a> {
    /// The instance's ID.
    pub id: &'a str,
    /// Its address in the region.
    pub address: Option<Ipv4Addr>,
    /// The interpreter's directory.
    pub python_bin: &'a str,
    /// The interpreter's version, `3.14.1`.
    pub python_version: &'a str,
    /// Managed identity endpoint and header.
    pub identity: Option<(&'a str, &'a str)>,
    /// Proxy and certificate variables.
    pub outside: &'a [(&'static str, String)],
}

/// `3.14` from `PYTHON|3.14`.
pub fn python_version(record: &SlotRecord) -> String {
    record
        .config_str("linuxFxVersion")
        .and_then(|version| version.split_once('|'))
        .map_or("3.14", |(_, version)| version)
        .to_owned()
}

/// A setting by its name, without case.
pub fn setting<'a>(settings: &'a BTreeMap<String, String>, name: &str) -> Option<&'a str> {
    settings
        .get(name)
        .or_else(|| {
            settings.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
        })
        .map(String::as_str)
}

/// Whether a setting is `1` or `true`.
pub fn enabled(settings: &BTreeMap<String, String>, name: &str) -> bool {
    setting(settings, name)
        .is_some_and(|value| value.trim() == "1" || value.trim().eq_ignore_ascii_case("true"))
}

/// On Linux, characters that an environment variable cannot have become underscores: `:` two, as
/// .NET's configuration expects, the others one.
fn variable_name(name: &str) -> String {
    let mut variable = String::with_capacity(name.len());
    for character in name.chars() {
        match character {
            ':' => variable.push_str("__"),
            character if character.is_ascii_alphanumeric() || character == '_' => {
                variable.push(character);
            }
            _ => variable.push('_'),
        }
    }
    variable
}

/// <https://learn.microsoft.com/azure/app-service/configure-common#configure-connection-strings>
fn connection_prefix(kind: &str) -> &'static str {
    match kind.to_ascii_lowercase().as_str() {
        "mysql" => "MYSQLCONNSTR_",
        "sqlserver" => "SQLCONNSTR_",
        "sqlazure" => "SQLAZURECONNSTR_",
        "postgresql" => "POSTGRESQLCONNSTR_",
        "notificationhub" => "NOTIFICATIONHUBCONNSTR_",
        "servicebus" => "SERVICEBUSCONNSTR_",
        "eventhub" => "EVENTHUBCONNSTR_",
        "docdb" => "DOCDBCONNSTR_",
        "rediscache" => "REDISCACHECONNSTR_",
        _ => "CUSTOMCONNSTR_",
    }
}

fn seconds(value: Option<&str>, default: u64, most: u64) -> Duration {
    let seconds = value.and_then(|value| value.trim().parse::<u64>().ok()).unwrap_or(default);
    Duration::from_secs(seconds.clamp(1, most))
}

/// The user of a slot's publishing credentials: `$notes`, `$notes__staging`.
pub fn publishing_user(slot: &SlotKey) -> String {
    match &slot.slot {
        super::site::SlotName::Production => format!("${}", slot.site.name),
        super::site::SlotName::Named(name) => format!("${}__{name}", slot.site.name),
    }
}

/// SHA-256 in lower-case hexadecimal.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

/// Bytes in lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::{Map, json};

    use super::*;
    use crate::appservice::site::{SiteKey, SlotName};

    pub(in crate::appservice) fn record() -> SlotRecord {
        SlotRecord {
            location: "westeurope".into(),
            kind: "app,linux".into(),
            tags: Map::new(),
            plan: "/subscriptions/s/resourceGroups/g/providers/Microsoft.Web/serverfarms/p".into(),
            identity: None,
            wants_identity: false,
            running: true,
            restarts: 0,
            properties: Map::new(),
            config: Map::new(),
            app_settings: BTreeMap::new(),
            connection_strings: BTreeMap::new(),
            documents: BTreeMap::new(),
            basic_auth: BTreeMap::new(),
            publishing_password: "pw".into(),
            volume: "v".into(),
            deployment: None,
            preview: None,
            created: String::new(),
            changed: String::new(),
        }
    }

    fn launch(record: &SlotRecord) -> Launch {
        let slot = SiteKey::new("sub", "rg", "notes").slot(SlotName::new("staging"));
        Launch::new(&slot, record, "PremiumV3", &BTreeMap::new(), &BTreeMap::new())
    }

    fn environment(launch: &Launch) -> BTreeMap<String, String> {
        launch
            .environment(&InstanceEnvironment {
                id: "abc",
                address: None,
                python_bin: "/usr/bin",
                python_version: "3.14.0",
                identity: Some(("http://169.254.131.2:8081/msi/token", "header")),
                outside: &[],
            })
            .into_iter()
            .collect()
    }

    #[test]
    fn the_environment_is_the_documented_one() {
        let mut record = record();
        record.app_settings.insert("APP_ENV".into(), "staging".into());
        record.app_settings.insert("Logging:Level".into(), "info".into());
        record.connection_strings.insert(
            "main".into(),
            ConnectionString { value: "host=x".into(), kind: "PostgreSQL".into() },
        );
        let env = environment(&launch(&record));
        for (name, value) in [
            ("PORT", "8000"),
            ("WEBSITE_SITE_NAME", "notes"),
            ("WEBSITE_SLOT_NAME", "staging"),
            ("WEBSITE_HOSTNAME", "notes-staging.azurewebsites.net"),
            ("APP_ENV", "staging"),
            ("APPSETTING_APP_ENV", "staging"),
            ("Logging__Level", "info"),
            ("POSTGRESQLCONNSTR_main", "host=x"),
            ("IDENTITY_HEADER", "header"),
            ("HOME", "/home"),
        ] {
            assert_eq!(env.get(name).map(String::as_str), Some(value), "{name}");
        }
    }

    #[test]
    fn the_port_follows_websites_port() {
        let mut record = record();
        record.app_settings.insert("websites_port".into(), "9000".into());
        assert_eq!(environment(&launch(&record))["PORT"], "9000");
        record.app_settings.insert("websites_port".into(), "0".into());
        assert_eq!(launch(&record).port(), 8000);
    }

    #[test]
    fn the_fingerprint_sees_every_part_and_shows_no_secret() {
        let base = record();
        let first = launch(&base).fingerprint();
        let changes: [fn(&mut SlotRecord); 5] = [
            |r| r.restarts = 1,
            |r| r.volume = "other".into(),
            |r| {
                r.app_settings.insert("A".into(), "b".into());
            },
            |r| {
                r.config.insert("appCommandLine".into(), json!("run"));
            },
            |r| {
                r.deployment = Some(ActiveDeployment {
                    id: "1".into(),
                    content: "c".into(),
                    environment: None,
                });
            },
        ];
        for change in changes {
            let mut changed = base.clone();
            change(&mut changed);
            assert_ne!(launch(&changed).fingerprint(), first);
        }
        assert_eq!(launch(&base).fingerprint(), first);
        let mut secret = base;
        secret.app_settings.insert("JWT_SECRET".into(), "hunter2".into());
        assert!(!format!("{:?}", launch(&secret)).contains("hunter2"));
        assert!(!format!("{secret:?}").contains("hunter2"));
    }
}
