//! Sites and slots as they are kept: names, and the durable record of one slot.
//!
//! A *slot* is what runs: the production slot is the site itself. What travels with a swap and what
//! stays (<https://learn.microsoft.com/azure/app-service/deploy-staging-slots#which-settings-are-swapped>)
//! is decided in [`super::swap`]; here is only what there is.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The name of a slot. The production slot has no name of its own on Azure; ARM calls it
/// `production`, the site's environment says `Production`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum SlotName {
    /// The site itself.
    Production,
    /// A deployment slot, lower case.
    Named(String),
}

impl SlotName {
    /// Reads a slot's name; `production` in any case is the site itself.
    pub fn new(name: &str) -> Self {
        if name.is_empty() || name.eq_ignore_ascii_case("production") {
            Self::Production
        } else {
            Self::Named(name.to_ascii_lowercase())
        }
    }

    /// As ARM and `az` write it.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Production => "production",
            Self::Named(name) => name,
        }
    }

    /// As the application sees it in `WEBSITE_SLOT_NAME`.
    pub fn in_environment(&self) -> &str {
        match self {
            Self::Production => "Production",
            Self::Named(name) => name,
        }
    }
}

impl fmt::Display for SlotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
impl From<String> for SlotName {
    fn from(name: String) -> Self {
        Self::new(&name)
    }
}
impl From<SlotName> for String {
    fn from(name: SlotName) -> Self {
        name.as_str().to_owned()
    }
}

/// Which site: subscription, resource group and name. Names are compared without case, so they are
/// kept in lower case; the casing the client used is in the resource itself.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SiteKey {
    /// Subscription ID.
    pub subscription: String,
    /// Resource group.
    pub group: String,
    /// The site's name: globally unique, the first label of its host name.
    pub name: String,
}

impl SiteKey {
    /// A site by its names.
    pub fn new(subscription: &str, group: &str, name: &str) -> Self {
        Self {
            subscription: subscription.to_ascii_lowercase(),
            group: group.to_ascii_lowercase(),
            name: name.to_ascii_lowercase(),
        }
    }

    /// One of this site's slots.
    pub fn slot(&self, slot: SlotName) -> SlotKey {
        SlotKey { site: self.clone(), slot }
    }

    /// The key of this site's private records.
    pub fn state_key(&self) -> String {
        format!("{}/{}/{}", self.subscription, self.group, self.name)
    }
}

impl fmt::Display for SiteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}
impl fmt::Debug for SiteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.state_key())
    }
}

/// Which slot of which site.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SlotKey {
    /// The site.
    pub site: SiteKey,
    /// Its slot.
    pub slot: SlotName,
}

impl SlotKey {
    /// `notes` or `notes-staging`: the first label of the slot's host names.
    pub fn label(&self) -> String {
        match &self.slot {
            SlotName::Production => self.site.name.clone(),
            SlotName::Named(slot) => format!("{}-{slot}", self.site.name),
        }
    }

    /// `notes-staging.azurewebsites.net`.
    pub fn host_name(&self) -> String {
        format!("{}.azurewebsites.net", self.label())
    }

    /// `notes-staging.scm.azurewebsites.net`, where Kudu's API is.
    pub fn scm_host_name(&self) -> String {
        format!("{}.scm.azurewebsites.net", self.label())
    }

    /// `notes` or `notes(staging)`, as App Service's own messages name a slot.
    pub fn display(&self) -> String {
        match &self.slot {
            SlotName::Production => self.site.name.clone(),
            SlotName::Named(slot) => format!("{}({slot})", self.site.name),
        }
    }

    /// The key of this slot's private records.
    pub fn state_key(&self) -> String {
        format!("{}/{}", self.site.state_key(), self.slot)
    }

    /// Reads back what [`Self::state_key`] wrote.
    pub fn from_state_key(key: &str) -> Option<Self> {
        let mut parts = key.split('/');
        let (subscription, group, name, slot) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        parts
            .next()
            .is_none()
            .then(|| SiteKey::new(subscription, group, name).slot(SlotName::new(slot)))
    }
}

impl fmt::Display for SlotKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.display())
    }
}

/// A connection string and the kind of database it is for.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionString {
    /// The string itself, or a Key Vault reference.
    pub value: String,
    /// `MySql`, `SQLServer`, `SQLAzure`, `Custom`, `PostgreSQL`, …
    #[serde(rename = "type")]
    pub kind: String,
}

impl fmt::Debug for ConnectionString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} connection string", self.kind)
    }
}

/// The deployment whose content a slot runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActiveDeployment {
    /// The deployment's ID, as `/api/deployments` lists it.
    pub id: String,
    /// SHA-256 of the package's content: the name of its directory.
    pub content: String,
    /// The virtual environment built for it, when the platform built one.
    pub environment: Option<String>,
}

/// A system-assigned identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotIdentity {
    /// The service principal's object ID.
    pub principal_id: String,
    /// The tenant it is in.
    pub tenant_id: String,
}

/// A swap with preview under way: the source slot runs with the target's settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preview {
    /// The slot whose settings are tried out here.
    pub target: SlotName,
}

/// What is kept of one slot. Secrets are in here: it goes into the store's private state, never into
/// the ARM body, and its `Debug` does not show them.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct SlotRecord {
    /// Region, `westeurope`.
    pub location: String,
    /// `app,linux`.
    pub kind: String,
    /// Tags as the client gave them.
    #[serde(default)]
    pub tags: Map<String, Value>,
    /// The App Service plan's resource ID.
    pub plan: String,
    /// The system-assigned identity, when there is one.
    #[serde(default)]
    pub identity: Option<SlotIdentity>,
    /// Whether the client asked for one: it is made right after the record is.
    #[serde(default)]
    pub wants_identity: bool,
    /// Whether it should run (`start`/`stop`).
    pub running: bool,
    /// Bumped by `restart`: instances of an older number are replaced.
    #[serde(default)]
    pub restarts: u64,
    /// Top-level writable properties: `httpsOnly`, `clientAffinityEnabled`, ….
    #[serde(default)]
    pub properties: Map<String, Value>,
    /// The web configuration (`config/web`).
    #[serde(default)]
    pub config: Map<String, Value>,
    /// Application settings, unresolved.
    #[serde(default)]
    pub app_settings: BTreeMap<String, String>,
    /// Connection strings, unresolved.
    #[serde(default)]
    pub connection_strings: BTreeMap<String, ConnectionString>,
    /// `config/metadata`, `config/logs`, `config/authsettings` by name.
    #[serde(default)]
    pub documents: BTreeMap<String, Value>,
    /// Whether basic authentication is allowed, for `scm` and `ftp`.
    #[serde(default)]
    pub basic_auth: BTreeMap<String, bool>,
    /// The password of the publishing user `$site`.
    pub publishing_password: String,
    /// Name of the directory mounted at `/home`: it travels with the content.
    pub volume: String,
    /// What it runs, if anything was deployed.
    #[serde(default)]
    pub deployment: Option<ActiveDeployment>,
    /// A swap with preview under way.
    #[serde(default)]
    pub preview: Option<Preview>,
    /// RFC 3339.
    pub created: String,
    /// RFC 3339.
    pub changed: String,
}

impl fmt::Debug for SlotRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SlotRecord")
            .field("plan", &self.plan)
            .field("running", &self.running)
            .field("app_settings", &self.app_settings.keys())
            .field("deployment", &self.deployment)
            .finish_non_exhaustive()
    }
}

impl SlotRecord {
    /// A writable property that is true or false.
    pub fn flag(&self, name: &str) -> bool {
        self.properties.get(name).and_then(Value::as_bool).unwrap_or(false)
    }

    /// A web configuration value that is a string, if set and not empty.
    pub fn config_str(&self, name: &str) -> Option<&str> {
        self.config.get(name).and_then(Value::as_str).filter(|value| !value.is_empty())
    }

    /// A web configuration value that is true or false.
    pub fn config_flag(&self, name: &str) -> bool {
        self.config.get(name).and_then(Value::as_bool).unwrap_or(false)
    }
}

/// What is kept of a site besides its slots.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SiteRecord {
    /// Names of the settings that stay with their slot.
    #[serde(default)]
    pub sticky: StickyNames,
}

/// `config/slotConfigNames`: <https://learn.microsoft.com/rest/api/appservice/web-apps/update-slot-configuration-names>.
/// In the order they were given: Terraform's azurerm holds them as lists, and another order as a change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StickyNames {
    /// Application settings.
    pub app_setting_names: Vec<String>,
    /// Connection strings.
    pub connection_string_names: Vec<String>,
    /// Azure Storage mounts.
    pub azure_storage_config_names: Vec<String>,
}

/// Whether a site's or slot's name is one Azure takes: letters, digits and inner hyphens.
pub fn valid_name(name: &str, longest: usize) -> bool {
    (2..=longest).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_has_the_host_names_azure_gives_it() {
        let site = SiteKey::new("S", "rg-notes-prod", "Notes");
        assert_eq!(site.slot(SlotName::Production).host_name(), "notes.azurewebsites.net");
        let staging = site.slot(SlotName::new("Staging"));
        assert_eq!(staging.host_name(), "notes-staging.azurewebsites.net");
        assert_eq!(staging.scm_host_name(), "notes-staging.scm.azurewebsites.net");
        assert_eq!(staging.display(), "notes(staging)");
    }

    #[test]
    fn state_keys_read_back() {
        let key = SiteKey::new("s", "g", "n").slot(SlotName::new("staging"));
        assert_eq!(SlotKey::from_state_key(&key.state_key()), Some(key));
        assert_eq!(SlotKey::from_state_key("s/g"), None);
    }

    #[test]
    fn names_that_cannot_be_host_labels_are_refused() {
        assert!(valid_name("notes-worker", 60));
        for bad in ["n", "-notes", "notes-", "no_tes", "no.tes", ""] {
            assert!(!valid_name(bad, 60), "{bad}");
        }
    }
}
