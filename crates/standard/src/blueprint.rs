//! The blueprint: the Azure resources of one app in one environment, as a typed graph.
//!
//! `provision` turns it into ARM requests, `terraform` into HCL, `cost` into money. It holds names
//! and values, never IDs: the subscription is the caller's.

mod build;
mod network;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::data::compute;
use crate::environment::Environment;
use crate::manifest::{Cache, Manifest, Receiver};

/// The name of the slot a release goes to first.
pub const STAGING_SLOT: &str = compute::STAGING_SLOT.value;

/// The Azure resources of one app in one environment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Blueprint {
    /// The app's name in the manifest.
    pub app: String,
    /// The environment.
    pub environment: Environment,
    /// The Azure region.
    pub location: String,
    /// `rg-{app}-{environment}`.
    pub resource_group: String,
    /// On every resource that takes tags.
    pub tags: BTreeMap<String, String>,
    /// The VNet with its subnets and their security groups.
    pub network: Network,
    /// Private DNS zones, all linked to the VNet.
    pub dns_zones: Vec<DnsZone>,
    /// The Key Vault.
    pub vault: Vault,
    /// Secrets in the vault, and where each comes from.
    pub secrets: Vec<Secret>,
    /// The database server.
    pub postgres: Postgres,
    /// The cache.
    pub cache: Redis,
    /// Private endpoints in the pe subnet.
    pub private_endpoints: Vec<PrivateEndpoint>,
    /// App Service plans.
    pub plans: Vec<Plan>,
    /// Sites: the backend first, then worker and scheduler where the manifest has them.
    pub sites: Vec<Site>,
    /// Who may do what to which.
    pub role_assignments: Vec<RoleAssignment>,
    /// Log Analytics, Application Insights, alerts.
    pub monitoring: Monitoring,
    /// Scale-out of the backend's plan, where the environment has it.
    pub autoscale: Option<Autoscale>,
    /// Azure OpenAI, where the manifest asks for it.
    pub openai: Option<OpenAi>,
    /// The Static Web App, where the front end is hosted.
    pub frontend: Option<StaticWebApp>,
    /// The domain users know the app under, where the environment has it.
    pub domain: Option<String>,
    /// What a month may cost.
    pub budget: Budget,
}

impl Blueprint {
    /// What the standard (as corrected) gives this app in this environment. Pure.
    pub fn new(manifest: &Manifest, environment: Environment) -> Self {
        build::blueprint(manifest, environment)
    }

    /// The web app.
    pub fn backend(&self) -> &Site {
        &self.sites[0]
    }

    /// The worker's site.
    pub fn worker(&self) -> Option<&Site> {
        self.sites.iter().find(|s| s.role == SiteRole::Worker)
    }

    /// The scheduler's site.
    pub fn scheduler(&self) -> Option<&Site> {
        self.sites.iter().find(|s| s.role == SiteRole::Scheduler)
    }
}

/// The VNet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Network {
    /// `{app}-vnet`.
    pub name: String,
    /// `10.0.0.0/16`.
    pub address_space: String,
    /// app, pe, db and mgmt.
    pub subnets: Vec<Subnet>,
}

/// A subnet with its network security group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Subnet {
    /// `app-subnet`.
    pub name: String,
    /// `10.0.1.0/24`.
    pub prefix: String,
    /// The service it is delegated to, e.g. `Microsoft.Web/serverFarms`.
    pub delegation: Option<String>,
    /// Whether NSGs apply to private endpoints here (`privateEndpointNetworkPolicies`, ERRATA 6).
    pub private_endpoint_policies: bool,
    /// Its security group.
    pub security_group: SecurityGroup,
}

/// A network security group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SecurityGroup {
    /// `app-nsg`.
    pub name: String,
    /// Its rules, by priority.
    pub rules: Vec<SecurityRule>,
}

/// Inbound or outbound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Direction {
    /// To the subnet.
    Inbound,
    /// From the subnet.
    Outbound,
}

/// A security rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SecurityRule {
    /// Its name.
    pub name: String,
    /// 100 to 4096; the lower number wins.
    pub priority: u16,
    /// Which way.
    pub direction: Direction,
    /// Allow or deny.
    pub allow: bool,
    /// `Tcp` or `*`.
    pub protocol: String,
    /// Source prefixes or one service tag; `*` for any.
    pub sources: Vec<String>,
    /// Destination prefixes or one service tag; `*` for any.
    pub destinations: Vec<String>,
    /// Destination ports; empty for any.
    pub ports: Vec<u16>,
    /// Why it is there.
    pub reason: String,
}

/// A private DNS zone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DnsZone {
    /// Its name.
    pub name: String,
    /// The name of its link to the VNet.
    pub link: String,
}

/// The Key Vault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Vault {
    /// `{app}-kv`.
    pub name: String,
    /// Days that a deleted vault or secret can be recovered.
    pub soft_delete_days: u32,
    /// Whether nothing can be purged before that.
    pub purge_protection: bool,
}

impl Vault {
    /// The vault's host.
    pub fn host(&self) -> String {
        format!("{}.vault.azure.net", self.name)
    }
}

/// A secret in the vault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Secret {
    /// `{app}-jwt-secret`.
    pub name: String,
    /// Where its value comes from.
    pub origin: SecretOrigin,
}

impl Secret {
    /// The reference an application setting holds:
    /// <https://learn.microsoft.com/azure/app-service/app-service-key-vault-references>.
    pub fn reference(vault: &str, name: &str) -> String {
        format!("@Microsoft.KeyVault(VaultName={vault};SecretName={name})")
    }
}

/// Where a secret's value comes from. The value itself is never here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum SecretOrigin {
    /// Random bytes, written as URL-safe text, once.
    Generated {
        /// How many bytes of randomness.
        bytes: usize,
    },
    /// The administrator's password of the database server, generated once.
    DatabasePassword,
    /// A database URL as SQLAlchemy with asyncpg takes it.
    DatabaseUrl {
        /// Which database on the server.
        database: String,
        /// 6432 (PgBouncer) or 5432.
        port: u16,
    },
    /// A Redis URL; the app derives the logical databases.
    RedisUrl,
}

/// The PostgreSQL flexible server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[allow(clippy::struct_excessive_bools)] // four independent switches of Azure's
pub struct Postgres {
    /// `{app}-pg`.
    pub name: String,
    /// Major version.
    pub version: String,
    /// `Standard_D4ds_v5`.
    pub sku: String,
    /// `Burstable` or `GeneralPurpose`.
    pub tier: String,
    /// Storage in GB.
    pub storage_gb: u32,
    /// Whether storage grows by itself.
    pub auto_grow: bool,
    /// Whether there is a standby in another zone.
    pub zone_redundant: bool,
    /// How long backups are kept.
    pub backup_retention_days: u32,
    /// Whether backups are copied to the paired region.
    pub geo_redundant_backup: bool,
    /// The administrator's login.
    pub administrator: String,
    /// The private DNS zone of the server.
    pub dns_zone: String,
    /// Databases on it.
    pub databases: Vec<String>,
    /// Server parameters, in the order they are set.
    pub parameters: Vec<(String, String)>,
    /// Whether the built-in PgBouncer is on (not on Burstable, ERRATA 2).
    pub pgbouncer: bool,
}

impl Postgres {
    /// The server's host.
    pub fn host(&self) -> String {
        format!("{}.postgres.database.azure.com", self.name)
    }
}

/// The cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Redis {
    /// `{app}-redis`.
    pub name: String,
    /// Which kind of Redis.
    pub kind: Cache,
    /// `Premium`, `Basic`; for Managed Redis `Balanced_B5`.
    pub sku: String,
    /// `P` or `C`; empty for Managed Redis.
    pub family: String,
    /// 1 is 6 GB in family P; 0 for Managed Redis.
    pub capacity: u32,
    /// The TLS port: 6380, for Managed Redis 10000.
    pub port: u16,
}

impl Redis {
    /// The cache's host.
    pub fn host(&self, location: &str) -> String {
        match self.kind {
            Cache::Premium => format!("{}.redis.cache.windows.net", self.name),
            Cache::Managed => format!("{}.{location}.redis.azure.net", self.name),
        }
    }
}

/// A private endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PrivateEndpoint {
    /// `{app}-kv-pe`.
    pub name: String,
    /// What it leads to.
    pub target: EndpointTarget,
    /// The sub-resource: `vault`, `redisCache`, `redisEnterprise`.
    pub group: String,
    /// The DNS zone its name is registered in.
    pub dns_zone: String,
}

/// What a private endpoint leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum EndpointTarget {
    /// The Key Vault.
    Vault,
    /// The cache.
    Cache,
    /// Azure OpenAI.
    OpenAi,
}

/// An App Service plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// `{app}-plan`.
    pub name: String,
    /// `P2v3`.
    pub sku: String,
    /// Instances.
    pub instances: u32,
    /// Whether each site has its own number of instances.
    pub per_site_scaling: bool,
}

/// What a site is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum SiteRole {
    /// Serves requests.
    Backend,
    /// Runs background tasks.
    Worker,
    /// Schedules them: exactly one instance.
    Scheduler,
}

/// A site, with its slots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Site {
    /// Its name, the first label of its host.
    pub name: String,
    /// What it is for.
    pub role: SiteRole,
    /// The plan's name.
    pub plan: String,
    /// `PYTHON|3.14`.
    pub linux_fx_version: String,
    /// The startup command.
    pub startup: String,
    /// Whether WebSockets are enabled.
    pub websockets: bool,
    /// The health check's path.
    pub health_check_path: Option<String>,
    /// Instances of this site when the plan scales per site.
    pub instances: Option<u32>,
    /// Application settings of the production slot.
    pub settings: BTreeMap<String, Setting>,
    /// Names of settings that stay with their slot.
    pub sticky: Vec<String>,
    /// Slots besides production.
    pub slots: Vec<Slot>,
}

impl Site {
    /// The host of the site or of one of its slots.
    pub fn host(&self, slot: Option<&str>) -> String {
        match slot {
            None => format!("{}.azurewebsites.net", self.name),
            Some(slot) => format!("{}-{slot}.azurewebsites.net", self.name),
        }
    }

    /// The host of the site's or slot's deployment service (Kudu).
    pub fn scm_host(&self, slot: Option<&str>) -> String {
        match slot {
            None => format!("{}.scm.azurewebsites.net", self.name),
            Some(slot) => format!("{}-{slot}.scm.azurewebsites.net", self.name),
        }
    }

    /// The slot a release goes to first; without one it goes to production directly.
    pub fn staging(&self) -> Option<&Slot> {
        self.slots.iter().find(|s| s.name == STAGING_SLOT)
    }
}

/// A slot besides production. All but its settings is as in the site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Slot {
    /// Its name.
    pub name: String,
    /// Its application settings.
    pub settings: BTreeMap<String, Setting>,
}

/// The value of an application setting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Setting {
    /// As it stands.
    Plain(String),
    /// A reference to the vault's secret of this name.
    Secret(String),
    /// The connection string of the Application Insights component of this name.
    Insights(String),
}

/// A role assignment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RoleAssignment {
    /// Who gets it.
    pub holder: Holder,
    /// `Key Vault Secrets User`.
    pub role: String,
    /// The role definition's ID (a GUID, the same in every tenant).
    pub role_id: String,
    /// On what.
    pub scope: RoleScope,
}

/// Who holds a role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Holder {
    /// The system-assigned identity of a site or slot.
    Identity {
        /// The site.
        site: String,
        /// The slot, or production.
        slot: Option<String>,
    },
    /// The CI/CD service principal, by object ID.
    CiCd(String),
    /// The security team's group, by object ID.
    BreakGlass(String),
}

impl Holder {
    /// How people call it: `notes`, `notes/staging`, `CI/CD`.
    pub fn called(&self) -> String {
        match self {
            Self::Identity { site, slot: None } => site.clone(),
            Self::Identity { site, slot: Some(slot) } => format!("{site}/{slot}"),
            Self::CiCd(_) => "CI/CD".to_owned(),
            Self::BreakGlass(_) => "break-glass".to_owned(),
        }
    }

    /// `principalType`: <https://learn.microsoft.com/rest/api/authorization/role-assignments/create>.
    pub fn principal_type(&self) -> &'static str {
        match self {
            Self::Identity { .. } | Self::CiCd(_) => "ServicePrincipal",
            Self::BreakGlass(_) => "Group",
        }
    }
}

/// On what a role is assigned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum RoleScope {
    /// The Key Vault.
    Vault,
    /// The Application Insights component of this name.
    Insights(String),
    /// Azure OpenAI.
    OpenAi,
}

/// Azure OpenAI.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OpenAi {
    /// `{app}-openai`, the account and the first label of its host.
    pub name: String,
    /// The model; the deployment has its name.
    pub model: String,
    /// The model's version.
    pub version: String,
    /// Thousands of tokens a minute.
    pub capacity: u32,
}

impl OpenAi {
    /// The account's host.
    pub fn host(&self) -> String {
        format!("{}.openai.azure.com", self.name)
    }
}

/// A Static Web App, linked to the backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StaticWebApp {
    /// `{app}-web`.
    pub name: String,
    /// Where it is registered: one of the few regions that offer it.
    pub location: String,
    /// `Standard`.
    pub sku: String,
}

/// What a month may cost, and at which parts of it somebody is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Budget {
    /// `{app}-budget`.
    pub name: String,
    /// US dollars.
    pub amount: u32,
    /// Percentages.
    pub thresholds: Vec<u32>,
}

/// Monitoring.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Monitoring {
    /// The Log Analytics workspace, `{app}-law`.
    pub workspace: String,
    /// Days that logs and telemetry are kept.
    pub retention_days: u32,
    /// Application Insights components: production's and the staging slot's.
    pub insights: Vec<String>,
    /// Log categories of each site that go to the workspace.
    pub site_logs: Vec<String>,
    /// Log categories of the vault that go there: who read or wrote which secret.
    pub vault_logs: Vec<String>,
    /// Who is told: none where there are no alerts.
    pub action_groups: Vec<ActionGroup>,
    /// Alerts on metrics.
    pub metric_alerts: Vec<MetricAlert>,
    /// Alerts on queries.
    pub query_alerts: Vec<QueryAlert>,
}

/// Who is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ActionGroup {
    /// Its name.
    pub name: String,
    /// At most 12 characters.
    pub short_name: String,
    /// Who is in it; nobody: the subscription's owners.
    pub receivers: Vec<Receiver>,
}

/// Which action groups an alert tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Tells {
    /// Whoever is on call.
    OnCall,
    /// The team.
    Team,
    /// Both.
    Both,
}

impl Tells {
    /// Whether the on-call group is told, and whether the team is.
    pub const fn groups(self) -> (bool, bool) {
        (matches!(self, Self::OnCall | Self::Both), matches!(self, Self::Team | Self::Both))
    }
}

/// What a metric alert looks at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum AlertScope {
    /// The backend's site.
    Site,
    /// The backend's plan.
    Plan,
    /// The database server.
    Postgres,
    /// The cache.
    Cache,
}

/// An alert on a metric.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MetricAlert {
    /// Its name.
    pub name: String,
    /// What it means.
    pub description: String,
    /// 0 (critical) to 4.
    pub severity: u8,
    /// On what.
    pub scope: AlertScope,
    /// Who is told.
    pub tells: Tells,
    /// `Microsoft.Web/sites`.
    pub namespace: String,
    /// The metric's name.
    pub metric: String,
    /// `Average`, `Total`, …
    pub aggregation: String,
    /// `GreaterThan`, `LessThan`.
    pub operator: String,
    /// The threshold.
    pub threshold: f64,
    /// How often it is looked at.
    pub frequency: Duration,
    /// Over how long.
    pub window: Duration,
}

/// An alert on a query over Application Insights.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct QueryAlert {
    /// Its name.
    pub name: String,
    /// What it means.
    pub description: String,
    /// 0 (critical) to 4.
    pub severity: u8,
    /// Who is told.
    pub tells: Tells,
    /// The query (Kusto); each row it yields is a breach.
    pub query: String,
    /// How often it runs.
    pub frequency: Duration,
    /// Over how long.
    pub window: Duration,
}

/// Scale-out of the backend's plan.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Autoscale {
    /// Its name.
    pub name: String,
    /// The plan it scales.
    pub plan: String,
    /// Fewest instances.
    pub minimum: u32,
    /// Most instances.
    pub maximum: u32,
    /// Its rules.
    pub rules: Vec<AutoscaleRule>,
}

/// A pair of thresholds on one metric.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AutoscaleRule {
    /// The metric's name.
    pub metric: String,
    /// Whether it is the site's (`Requests`) or the plan's (`CpuPercentage`), ERRATA 22.
    pub of_site: bool,
    /// `Average` or `Total` over the window.
    pub aggregation: String,
    /// Whether the figure is per instance.
    pub per_instance: bool,
    /// One more instance above this.
    pub out_above: f64,
    /// One fewer below this.
    pub in_below: f64,
    /// Over how long.
    pub window: Duration,
    /// How long nothing changes after a change.
    pub cooldown: Duration,
}
