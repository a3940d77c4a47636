//! Blueprint → requests. Pure.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use lazuli_azure::{IdError, ResourceId};
use lazuli_standard::Blueprint;
use lazuli_standard::blueprint::{
    AlertScope, AutoscaleRule, Direction, EndpointTarget, Holder, RoleScope, SecretOrigin,
    SecurityRule, Setting, Site, Subnet, Tells,
};
use lazuli_standard::data::{self, cache as cache_data, compute};
use lazuli_standard::manifest::{Cache, Receiver};
use serde_json::{Map, Value, json};

/// In which subscription.
#[derive(Clone, Debug)]
pub struct Tenancy {
    /// The subscription's ID.
    pub subscription: String,
    /// The tenant's ID.
    pub tenant: String,
    /// The month a budget begins in, `2026-11`: Azure takes no other than the current one.
    pub month: String,
}

/// What has to be done, in an order in which it can be.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Each after everything it waits for.
    pub steps: Vec<Planned>,
}

/// One resource.
#[derive(Clone, Debug)]
pub struct Planned {
    /// The resource.
    pub id: ResourceId,
    /// The API version it is spoken to in.
    pub api_version: &'static str,
    /// What a person reads.
    pub title: String,
    /// What is done.
    pub action: Action,
    /// Indices of the steps that must have ended before.
    pub after: Vec<usize>,
    /// Whether the app runs without it: monitoring and its like.
    pub optional: bool,
}

/// What is done with a resource.
#[derive(Clone, Debug)]
pub enum Action {
    /// PUT, unless what is there has it all.
    Put {
        /// The body.
        body: Value,
        /// JSON pointers that count at creation only; later they are somebody else's, such as the
        /// number of instances, which auto-scale changes.
        initial: &'static [&'static str],
    },
    /// PUT of what is there with this in it, unless it has it all: a document that others write to as well.
    Merge(Value),
    /// PUT of a site or slot: what is there is read from its `config/web` too.
    Site(Value),
    /// PUT of a vault; one that was deleted and can be recovered is.
    Vault(Value),
    /// PUT of the database server, with the administrator's password when it is created.
    Server(Value),
    /// PATCH of a server parameter.
    Parameter(String),
    /// The values of secrets that hang on the database's password; written before the server is
    /// made, so that a password is never lost.
    DatabaseSecrets(Vec<PlannedSecret>),
    /// A secret that is generated once.
    GeneratedSecret {
        /// All of the request but the value.
        body: Value,
        /// Bytes of randomness.
        bytes: usize,
    },
    /// The URL of the cache, with its key.
    CacheSecret {
        /// All of the request but the value.
        body: Value,
        /// The cache, or the database of a Managed Redis, whose keys are listed.
        keys_of: ResourceId,
        /// Its API version.
        api_version: &'static str,
        /// The URL, with the escaped key where `{key}` stands.
        template: String,
        /// The step that creates it: a cache that is new has a new key.
        created_by: usize,
    },
    /// PUT of all application settings, unless they are just these.
    Settings(BTreeMap<String, SettingValue>),
    /// A role assignment.
    Role {
        /// Who gets the role.
        principal: Principal,
        /// The role definition's ID.
        role_definition: String,
    },
}

/// Who gets a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Principal {
    /// The identity of a site or slot.
    Identity(ResourceId),
    /// Somebody else in the tenant.
    Object {
        /// The object ID.
        id: String,
        /// `ServicePrincipal`, `Group`.
        kind: &'static str,
    },
}

/// A secret that hangs on the database's password.
#[derive(Clone, Debug)]
pub struct PlannedSecret {
    /// Its resource ID in the vault.
    pub id: ResourceId,
    /// All of the request but the value.
    pub body: Value,
    /// Its value, with the password where `{password}` stands.
    pub template: String,
}

/// The value of an application setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettingValue {
    /// As it stands.
    Text(String),
    /// The connection string of this Application Insights component.
    InsightsOf(ResourceId),
}

/// A plan cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// A name or the subscription does not make a resource ID.
    #[error("not a resource ID: {0}")]
    Id(#[from] IdError),
}

/// API versions: those that current clients speak.
mod api {
    pub(super) const RESOURCES: &str = "2023-07-01";
    pub(super) const NETWORK: &str = "2025-01-01";
    pub(super) const DNS: &str = "2024-06-01";
    pub(super) const VAULT: &str = "2023-07-01";
    pub(super) const POSTGRES: &str = "2025-08-01";
    pub(super) const REDIS: &str = "2024-11-01";
    pub(super) const REDIS_ENTERPRISE: &str = "2025-07-01";
    pub(super) const WEB: &str = "2023-12-01";
    pub(super) const LOGS: &str = "2025-07-01";
    pub(super) const INSIGHTS: &str = "2020-02-02";
    pub(super) const AUTHORIZATION: &str = "2022-04-01";
    pub(super) const AUTOSCALE: &str = "2022-10-01";
    pub(super) const ACTION_GROUPS: &str = "2023-01-01";
    pub(super) const METRIC_ALERTS: &str = "2018-03-01";
    pub(super) const QUERY_RULES: &str = "2023-03-15-preview";
    pub(super) const DIAGNOSTICS: &str = "2021-05-01-preview";
    pub(super) const BUDGETS: &str = "2019-10-01";
    pub(super) const COGNITIVE: &str = "2024-10-01";
    pub(super) const STATIC_SITES: &str = "2023-01-01";
}

/// The namespace of the names of role assignments: the same assignment has the same name.
const ROLE_NAMESPACE: uuid::Uuid = uuid::uuid!("6f1c3d0e-5c0e-4a34-9a0c-9c5d0c7c8a11");

/// Blueprint → requests. Pure.
pub fn plan(blueprint: &Blueprint, tenancy: &Tenancy) -> Result<Plan, PlanError> {
    let group = ResourceId::of_resource_group(&tenancy.subscription, &blueprint.resource_group)?;
    let mut planner =
        Planner { blueprint, tenancy, group, steps: Vec::new(), index: HashMap::new() };
    planner.foundation();
    planner.network()?;
    planner.workspace_of_logs()?;
    planner.vault()?;
    planner.database()?;
    planner.cache()?;
    planner.openai()?;
    planner.private_endpoints()?;
    planner.monitoring()?;
    planner.sites()?;
    planner.secrets()?;
    planner.settings()?;
    planner.alerts()?;
    planner.budget()?;
    planner.frontend()?;
    Ok(Plan { steps: planner.steps })
}

/// All of a secret but its value, the same whoever writes it:
/// <https://learn.microsoft.com/rest/api/keyvault/keyvault/secrets/create-or-update>.
pub(crate) fn secret_body(tags: &BTreeMap<String, String>) -> Value {
    json!({
        "tags": tags,
        "properties": {"contentType": "text/plain", "attributes": {"enabled": true}},
    })
}

struct Planner<'a> {
    blueprint: &'a Blueprint,
    tenancy: &'a Tenancy,
    group: ResourceId,
    steps: Vec<Planned>,
    index: HashMap<ResourceId, usize>,
}

impl Planner<'_> {
    fn id(&self, kind: &str, name: &str) -> Result<ResourceId, IdError> {
        self.group.resource(kind, name)
    }

    /// A top-level body: location, tags, properties.
    fn body(&self, properties: &Value) -> Value {
        json!({
            "location": self.blueprint.location,
            "tags": self.blueprint.tags,
            "properties": properties,
        })
    }

    fn global(&self, properties: &Value) -> Value {
        json!({"location": "global", "tags": self.blueprint.tags, "properties": properties})
    }

    /// Adds a step that waits for the given resources (those that are in the plan) and its parent.
    fn add(
        &mut self,
        id: ResourceId,
        api_version: &'static str,
        title: impl Into<String>,
        action: Action,
        after: &[&ResourceId],
    ) -> usize {
        let mut wait: Vec<usize> =
            after.iter().filter_map(|id| self.index.get(*id).copied()).collect();
        wait.extend(id.ancestors().filter_map(|id| self.index.get(&id).copied()));
        wait.sort_unstable();
        wait.dedup();
        let at = self.steps.len();
        self.index.insert(id.clone(), at);
        let title = title.into();
        self.steps.push(Planned { id, api_version, title, action, after: wait, optional: false });
        at
    }

    fn optional(&mut self, at: usize) {
        self.steps[at].optional = true;
    }

    fn foundation(&mut self) {
        let body = json!({"location": self.blueprint.location, "tags": self.blueprint.tags});
        let title = format!("Resource group {}", self.blueprint.resource_group);
        self.add(self.group.clone(), api::RESOURCES, title, put(body), &[]);
    }

    fn vnet(&self) -> Result<ResourceId, IdError> {
        self.id("Microsoft.Network/virtualNetworks", &self.blueprint.network.name)
    }

    fn subnet(&self, name: &str) -> Result<ResourceId, IdError> {
        self.vnet()?.child("subnets", name)
    }

    fn zone(&self, name: &str) -> Result<ResourceId, IdError> {
        self.id("Microsoft.Network/privateDnsZones", name)
    }

    fn network(&mut self) -> Result<(), PlanError> {
        let network = &self.blueprint.network;
        let mut subnets = Vec::new();
        let mut groups = Vec::new();
        for subnet in &network.subnets {
            let group = &subnet.security_group;
            let id = self.id("Microsoft.Network/networkSecurityGroups", &group.name)?;
            let rules: Vec<Value> = group.rules.iter().map(rule).collect();
            let body = self.body(&json!({"securityRules": rules}));
            let title = format!("Network security group {}", group.name);
            self.add(id.clone(), api::NETWORK, title, put(body), &[]);
            subnets.push(subnet_body(subnet, &id));
            groups.push(id);
        }
        let vnet = self.vnet()?;
        let body = self.body(&json!({
            "addressSpace": {"addressPrefixes": [network.address_space]},
            "subnets": subnets,
        }));
        let after: Vec<&ResourceId> = groups.iter().collect();
        let title = format!("Virtual network {}", network.name);
        self.add(vnet.clone(), api::NETWORK, title, put(body), &after);
        for zone in &self.blueprint.dns_zones {
            let id = self.zone(&zone.name)?;
            let body = json!({"location": "global", "tags": self.blueprint.tags});
            let title = format!("Private DNS zone {}", zone.name);
            self.add(id.clone(), api::DNS, title, put(body), &[]);
            let link = id.child("virtualNetworkLinks", &zone.link)?;
            let body = self.global(&json!({
                "registrationEnabled": false,
                "virtualNetwork": {"id": vnet.as_str()},
            }));
            let title = format!("Link of {} to {}", zone.name, network.name);
            self.add(link, api::DNS, title, put(body), &[&vnet]);
        }
        Ok(())
    }

    /// Before what is to be recorded in it.
    fn workspace_of_logs(&mut self) -> Result<(), PlanError> {
        let monitoring = &self.blueprint.monitoring;
        let workspace = self.workspace()?;
        let body = self.body(&json!({
            "sku": {"name": "PerGB2018"},
            "retentionInDays": monitoring.retention_days,
            "publicNetworkAccessForIngestion": "Enabled",
            "publicNetworkAccessForQuery": "Enabled",
        }));
        let title = format!("Log Analytics workspace {}", monitoring.workspace);
        self.add(workspace, api::LOGS, title, put(body), &[]);
        Ok(())
    }

    fn vault_id(&self) -> Result<ResourceId, IdError> {
        self.id("Microsoft.KeyVault/vaults", &self.blueprint.vault.name)
    }

    /// What sends the vault's records to the workspace. Secrets come after it: the first write of each
    /// is recorded, too.
    fn vault_audit(&self) -> Result<ResourceId, IdError> {
        self.vault_id()?.resource("Microsoft.Insights/diagnosticSettings", "to-workspace")
    }

    fn vault(&mut self) -> Result<(), PlanError> {
        let vault = &self.blueprint.vault;
        let mut properties = json!({
            "tenantId": self.tenancy.tenant,
            "sku": {"family": "A", "name": "standard"},
            "accessPolicies": [],
            "enableRbacAuthorization": true,
            "enableSoftDelete": true,
            "softDeleteRetentionInDays": vault.soft_delete_days,
            "publicNetworkAccess": "Disabled",
            "networkAcls": {"bypass": "AzureServices", "defaultAction": "Deny"},
        });
        if vault.purge_protection {
            // Azure refuses an explicit `false`, and it can never be switched off again.
            properties["enablePurgeProtection"] = true.into();
        }
        let id = self.vault_id()?;
        let title = format!("Key Vault {}", vault.name);
        let body = self.body(&properties);
        self.add(id, api::VAULT, title, Action::Vault(body), &[]);
        let monitoring = &self.blueprint.monitoring;
        let logs: Vec<Value> = monitoring
            .vault_logs
            .iter()
            .map(|category| json!({"category": category, "enabled": true}))
            .collect();
        let workspace = self.workspace()?;
        let body = json!({"properties": {"workspaceId": workspace.as_str(), "logs": logs}});
        let title = format!("Audit of {} to {}", vault.name, monitoring.workspace);
        self.add(self.vault_audit()?, api::DIAGNOSTICS, title, put(body), &[&workspace]);
        Ok(())
    }

    fn secret(&self, name: &str) -> Result<ResourceId, IdError> {
        self.vault_id()?.child("secrets", name)
    }

    fn database(&mut self) -> Result<(), PlanError> {
        let postgres = &self.blueprint.postgres;
        let id = self.id("Microsoft.DBforPostgreSQL/flexibleServers", &postgres.name)?;

        // Secrets first: should this stop half-way, the vault knows the password or nobody does.
        let mut secrets = Vec::new();
        for secret in &self.blueprint.secrets {
            let template = match &secret.origin {
                SecretOrigin::DatabasePassword => "{password}".to_owned(),
                SecretOrigin::DatabaseUrl { database, port } => format!(
                    "postgresql+asyncpg://{}:{{password}}@{}:{port}/{database}?ssl=require",
                    postgres.administrator,
                    postgres.host(),
                ),
                _ => continue,
            };
            secrets.push(PlannedSecret {
                id: self.secret(&secret.name)?,
                body: secret_body(&self.blueprint.tags),
                template,
            });
        }
        let (vault, audit) = (self.vault_id()?, self.vault_audit()?);
        let title = format!("Database secrets in {}", self.blueprint.vault.name);
        // The step's ID is the server's first secret: a place of its own in the plan.
        let first = secrets.first().map_or_else(|| vault.clone(), |s| s.id.clone());
        self.add(
            first.clone(),
            api::VAULT,
            title,
            Action::DatabaseSecrets(secrets),
            &[&vault, &audit],
        );

        let zone = self.zone(&postgres.dns_zone)?;
        let link = self.blueprint.dns_zones.iter().find(|z| z.name == postgres.dns_zone);
        let link = link.map(|z| zone.child("virtualNetworkLinks", &z.link)).transpose()?;
        let subnet = self.subnet(data::network::DB.0)?;
        let enabled = |on: bool| if on { "Enabled" } else { "Disabled" };
        let mut body = self.body(&json!({
            "version": postgres.version,
            "administratorLogin": postgres.administrator,
            "storage": {
                "storageSizeGB": postgres.storage_gb,
                "autoGrow": enabled(postgres.auto_grow),
            },
            "backup": {
                "backupRetentionDays": postgres.backup_retention_days,
                "geoRedundantBackup": enabled(postgres.geo_redundant_backup),
            },
            "highAvailability": {
                "mode": if postgres.zone_redundant { "ZoneRedundant" } else { "Disabled" },
            },
            "network": {
                "delegatedSubnetResourceId": subnet.as_str(),
                "privateDnsZoneArmResourceId": zone.as_str(),
                "publicNetworkAccess": "Disabled",
            },
        }));
        body["sku"] = json!({"name": postgres.sku, "tier": postgres.tier});
        let mut after = vec![&subnet, &zone, &first];
        let vnet = self.vnet()?;
        after.push(&vnet);
        after.extend(link.as_ref());
        let title = format!("PostgreSQL server {}", postgres.name);
        self.add(id.clone(), api::POSTGRES, title, Action::Server(body), &after);

        // One at a time: the server refuses a second change while one is going on.
        let mut previous = id.clone();
        for database in &postgres.databases {
            let database_id = id.child("databases", database)?;
            let body = json!({"properties": {"charset": "UTF8", "collation": "en_US.utf8"}});
            let title = format!("Database {database}");
            self.add(database_id.clone(), api::POSTGRES, title, put(body), &[&previous]);
            previous = database_id;
        }
        for (name, value) in &postgres.parameters {
            let parameter = id.child("configurations", name)?;
            let title = format!("Parameter {name} = {value}");
            let action = Action::Parameter(value.clone());
            self.add(parameter.clone(), api::POSTGRES, title, action, &[&previous]);
            previous = parameter;
        }
        Ok(())
    }

    fn cache_id(&self) -> Result<ResourceId, IdError> {
        let kind = match self.blueprint.cache.kind {
            Cache::Premium => "Microsoft.Cache/redis",
            Cache::Managed => "Microsoft.Cache/redisEnterprise",
        };
        self.id(kind, &self.blueprint.cache.name)
    }

    fn cache(&mut self) -> Result<(), PlanError> {
        let cache = &self.blueprint.cache;
        let id = self.cache_id()?;
        match cache.kind {
            Cache::Premium => {
                let body = self.body(&json!({
                    "sku": {"name": cache.sku, "family": cache.family, "capacity": cache.capacity},
                    "enableNonSslPort": false,
                    "minimumTlsVersion": *compute::MIN_TLS,
                    "publicNetworkAccess": "Disabled",
                    "redisVersion": *cache_data::VERSION,
                }));
                let title = format!("Azure Cache for Redis {}", cache.name);
                // It answers `6.0.14` for `6`.
                let initial = &["/properties/redisVersion"];
                self.add(id, api::REDIS, title, Action::Put { body, initial }, &[]);
            }
            Cache::Managed => {
                let mut body = self.body(&json!({
                    "minimumTlsVersion": *compute::MIN_TLS,
                    "publicNetworkAccess": "Disabled",
                }));
                body["sku"] = json!({"name": cache.sku});
                let title = format!("Azure Managed Redis {}", cache.name);
                self.add(id.clone(), api::REDIS_ENTERPRISE, title, put(body), &[]);
                let body = json!({"properties": {
                    "clientProtocol": "Encrypted",
                    "clusteringPolicy": "EnterpriseCluster",
                    "evictionPolicy": "VolatileLRU",
                    "accessKeysAuthentication": "Enabled",
                    "port": cache.port,
                }});
                let database = id.child("databases", "default")?;
                let title = format!("Database of {}", cache.name);
                self.add(database, api::REDIS_ENTERPRISE, title, put(body), &[&id]);
            }
        }
        Ok(())
    }

    fn private_endpoints(&mut self) -> Result<(), PlanError> {
        let subnet = self.subnet(data::network::PE.0)?;
        let vnet = self.vnet()?;
        for endpoint in &self.blueprint.private_endpoints {
            let target = match endpoint.target {
                EndpointTarget::Vault => self.vault_id()?,
                EndpointTarget::Cache => self.cache_id()?,
                EndpointTarget::OpenAi => self.openai_id()?,
            };
            let id = self.id("Microsoft.Network/privateEndpoints", &endpoint.name)?;
            let body = self.body(&json!({
                "subnet": {"id": subnet.as_str()},
                "privateLinkServiceConnections": [{
                    "name": endpoint.name,
                    "properties": {
                        "privateLinkServiceId": target.as_str(),
                        "groupIds": [endpoint.group],
                    },
                }],
            }));
            let title = format!("Private endpoint {}", endpoint.name);
            let optional = endpoint.target == EndpointTarget::OpenAi;
            let at = self.add(id.clone(), api::NETWORK, title, put(body), &[&target, &vnet]);
            self.steps[at].optional = optional;
            let zone = self.zone(&endpoint.dns_zone)?;
            let body = json!({"properties": {"privateDnsZoneConfigs": [{
                "name": endpoint.dns_zone.replace('.', "-"),
                "properties": {"privateDnsZoneId": zone.as_str()},
            }]}});
            let zone_group = id.child("privateDnsZoneGroups", "default")?;
            let title = format!("DNS of {}", endpoint.name);
            let at = self.add(zone_group, api::NETWORK, title, put(body), &[&zone]);
            self.steps[at].optional = optional;
        }
        Ok(())
    }

    fn openai_id(&self) -> Result<ResourceId, IdError> {
        let name = self.blueprint.openai.as_ref().map_or("openai", |o| o.name.as_str());
        self.id("Microsoft.CognitiveServices/accounts", name)
    }

    /// Optional: a region on one machine has no model, and the rest of the app runs without.
    fn openai(&mut self) -> Result<(), PlanError> {
        let Some(openai) = &self.blueprint.openai else { return Ok(()) };
        let id = self.openai_id()?;
        let mut body = self.body(&json!({
            "customSubDomainName": openai.name,
            "disableLocalAuth": true,
            "publicNetworkAccess": "Disabled",
            "networkAcls": {"defaultAction": "Deny"},
        }));
        body["kind"] = "OpenAI".into();
        body["sku"] = json!({"name": "S0"});
        body["identity"] = json!({"type": "SystemAssigned"});
        let title = format!("Azure OpenAI {}", openai.name);
        let at = self.add(id.clone(), api::COGNITIVE, title, put(body), &[]);
        self.optional(at);
        let body = json!({
            "sku": {"name": "Standard", "capacity": openai.capacity},
            "properties": {
                "model": {"format": "OpenAI", "name": openai.model, "version": openai.version},
                "versionUpgradeOption": "NoAutoUpgrade",
            },
        });
        let deployment = id.child("deployments", &openai.model)?;
        let title = format!("Model {} {}", openai.model, openai.version);
        let at = self.add(deployment, api::COGNITIVE, title, put(body), &[&id]);
        self.optional(at);
        Ok(())
    }

    /// What the group costs, and who hears of it.
    fn budget(&mut self) -> Result<(), PlanError> {
        let budget = &self.blueprint.budget;
        let team = self.blueprint.monitoring.action_groups.iter().find(|g| g.short_name == "team");
        let group =
            team.map(|g| self.id("Microsoft.Insights/actionGroups", &g.name)).transpose()?;
        let notifications: Map<String, Value> = budget
            .thresholds
            .iter()
            .map(|threshold| {
                let mut notification = json!({
                    "enabled": true,
                    "operator": "GreaterThan",
                    "threshold": threshold,
                    "thresholdType": "Actual",
                    "contactEmails": [],
                    "contactRoles": ["Owner"],
                });
                if let Some(group) = &group {
                    notification["contactGroups"] = json!([group.as_str()]);
                }
                (format!("Actual_GreaterThan_{threshold}.000000_Percent"), notification)
            })
            .collect();
        let body = json!({"properties": {
            "category": "Cost",
            "amount": budget.amount,
            "timeGrain": "Monthly",
            "timePeriod": {"startDate": format!("{}-01T00:00:00Z", self.tenancy.month)},
            "notifications": notifications,
        }});
        let id = self.group.resource("Microsoft.Consumption/budgets", &budget.name)?;
        let title = format!("Budget of {} USD a month", budget.amount);
        let after: Vec<&ResourceId> = group.iter().collect();
        // When it begins counts once: next month it is still the same budget.
        let action = Action::Put { body, initial: &["/properties/timePeriod"] };
        let at = self.add(id, api::BUDGETS, title, action, &after);
        self.optional(at);
        Ok(())
    }

    /// Optional: a region without Static Web Apps serves the app all the same.
    fn frontend(&mut self) -> Result<(), PlanError> {
        let Some(web) = &self.blueprint.frontend else { return Ok(()) };
        let id = self.id("Microsoft.Web/staticSites", &web.name)?;
        let body = json!({
            "location": web.location,
            "tags": self.blueprint.tags,
            "sku": {"name": web.sku, "tier": web.sku},
            "properties": {
                "allowConfigFileUpdates": true,
                "publicNetworkAccess": "Enabled",
                "stagingEnvironmentPolicy": "Disabled",
            },
        });
        let title = format!("Static Web App {}", web.name);
        let at = self.add(id.clone(), api::STATIC_SITES, title, put(body), &[]);
        self.optional(at);
        let backend = self.site_id(&self.blueprint.backend().name, None)?;
        let link = id.child("linkedBackends", "backend")?;
        let body = json!({"properties": {
            "backendResourceId": backend.as_str(),
            "region": self.blueprint.location,
        }});
        let title = format!("Back end of {}", web.name);
        let at = self.add(link.clone(), api::STATIC_SITES, title, put(body), &[&id, &backend]);
        self.optional(at);
        // The link makes the back end refuse whoever does not come through the Static Web App: smoke tests and
        // WebSockets do not. The app authenticates its users itself.
        let auth = backend.child("config", "authsettingsV2")?;
        let body = json!({"properties": {"globalValidation": {
            "requireAuthentication": false,
            "unauthenticatedClientAction": "AllowAnonymous",
        }}});
        let title = format!("Who may ask {}", self.blueprint.backend().name);
        let at = self.add(auth, api::WEB, title, Action::Merge(body), &[&link]);
        self.optional(at);
        Ok(())
    }

    fn workspace(&self) -> Result<ResourceId, IdError> {
        let name = &self.blueprint.monitoring.workspace;
        self.id("Microsoft.OperationalInsights/workspaces", name)
    }

    fn insights(&self, name: &str) -> Result<ResourceId, IdError> {
        self.id("Microsoft.Insights/components", name)
    }

    fn monitoring(&mut self) -> Result<(), PlanError> {
        let monitoring = &self.blueprint.monitoring;
        let workspace = self.workspace()?;
        for name in &monitoring.insights {
            let id = self.insights(name)?;
            let mut body = self.body(&json!({
                "Application_Type": "web",
                "WorkspaceResourceId": workspace.as_str(),
                "RetentionInDays": monitoring.retention_days,
                "IngestionMode": "LogAnalytics",
            }));
            body["kind"] = "web".into();
            let title = format!("Application Insights {name}");
            self.add(id, api::INSIGHTS, title, put(body), &[&workspace]);
        }
        Ok(())
    }

    fn plan_id(&self, name: &str) -> Result<ResourceId, IdError> {
        self.id("Microsoft.Web/serverfarms", name)
    }

    fn site_id(&self, site: &str, slot: Option<&str>) -> Result<ResourceId, IdError> {
        let id = self.id("Microsoft.Web/sites", site)?;
        slot.map_or(Ok(id.clone()), |slot| id.child("slots", slot))
    }

    fn sites(&mut self) -> Result<(), PlanError> {
        let scaled = self.blueprint.autoscale.as_ref().map(|a| a.plan.as_str());
        for plan in &self.blueprint.plans {
            let mut body = self.body(&json!({
                "reserved": true,
                "perSiteScaling": plan.per_site_scaling,
            }));
            body["kind"] = "linux".into();
            body["sku"] = json!({"name": plan.sku, "capacity": plan.instances});
            let initial: &[&str] =
                if scaled == Some(plan.name.as_str()) { &["/sku/capacity"] } else { &[] };
            let id = self.plan_id(&plan.name)?;
            let title = format!("App Service plan {} ({})", plan.name, plan.sku);
            self.add(id, api::WEB, title, Action::Put { body, initial }, &[]);
        }
        let vnet = self.vnet()?;
        for site in &self.blueprint.sites {
            let plan = self.plan_id(&site.plan)?;
            let body = self.site_body(site)?;
            let id = self.site_id(&site.name, None)?;
            let title = format!("Site {}", site.name);
            let action = Action::Site(body.clone());
            self.add(id.clone(), api::WEB, title, action, &[&plan, &vnet]);
            self.no_basic_authentication(&id, &site.name)?;
            if !site.sticky.is_empty() {
                let names = id.child("config", "slotConfigNames")?;
                let sticky = json!({"properties": {"appSettingNames": site.sticky}});
                let title = format!("Settings of {} that stay with their slot", site.name);
                self.add(names, api::WEB, title, put(sticky), &[&id]);
            }
            for slot in &site.slots {
                let id = self.site_id(&site.name, Some(&slot.name))?;
                let title = format!("Slot {}/{}", site.name, slot.name);
                self.add(id.clone(), api::WEB, title, Action::Site(body.clone()), &[&plan, &vnet]);
                self.no_basic_authentication(&id, &format!("{}/{}", site.name, slot.name))?;
            }
        }
        for assignment in &self.blueprint.role_assignments {
            let kind = assignment.holder.principal_type();
            let principal = match &assignment.holder {
                Holder::Identity { site, slot } => {
                    Principal::Identity(self.site_id(site, slot.as_deref())?)
                }
                Holder::CiCd(id) | Holder::BreakGlass(id) => {
                    Principal::Object { id: id.clone(), kind }
                }
            };
            let (scope, optional) = match &assignment.scope {
                RoleScope::Vault => (self.vault_id()?, false),
                RoleScope::Insights(name) => (self.insights(name)?, true),
                RoleScope::OpenAi => (self.openai_id()?, true),
            };
            let role_definition = format!(
                "/subscriptions/{}/providers/Microsoft.Authorization/roleDefinitions/{}",
                self.tenancy.subscription, assignment.role_id
            );
            let (whose, after) = match &principal {
                Principal::Identity(site) => (site.key(), Some(site)),
                Principal::Object { id, .. } => (id.as_str(), None),
            };
            let seed = format!("{}|{whose}|{}", scope.key(), assignment.role_id);
            let name = uuid::Uuid::new_v5(&ROLE_NAMESPACE, seed.as_bytes()).to_string();
            let id = scope.resource("Microsoft.Authorization/roleAssignments", &name)?;
            let who = assignment.holder.called();
            let title = format!("Role {} on {} for {who}", assignment.role, scope.name());
            let action = Action::Role { principal: principal.clone(), role_definition };
            let after: Vec<&ResourceId> = after.into_iter().chain([&scope]).collect();
            let at = self.add(id, api::AUTHORIZATION, title, action, &after);
            if optional {
                self.optional(at);
            }
        }
        Ok(())
    }

    /// Whoever deploys has an identity: publishing by a password, which is on for every new site, is
    /// switched off (<https://learn.microsoft.com/azure/app-service/configure-basic-auth-disable>).
    fn no_basic_authentication(
        &mut self,
        site: &ResourceId,
        called: &str,
    ) -> Result<(), PlanError> {
        for what in ["ftp", "scm"] {
            let id = site.child("basicPublishingCredentialsPolicies", what)?;
            let title = format!("No basic authentication to {called} ({what})");
            self.add(id, api::WEB, title, put(json!({"properties": {"allow": false}})), &[site]);
        }
        Ok(())
    }

    fn site_body(&self, site: &Site) -> Result<Value, PlanError> {
        let subnet = self.subnet(data::network::APP.0)?;
        let plan = self.plan_id(&site.plan)?;
        let mut config = json!({
            "linuxFxVersion": site.linux_fx_version,
            "appCommandLine": site.startup,
            "alwaysOn": *compute::ALWAYS_ON,
            "ftpsState": *compute::FTPS_STATE,
            "minTlsVersion": *compute::MIN_TLS,
            "scmMinTlsVersion": *compute::MIN_TLS,
            "remoteDebuggingEnabled": *compute::REMOTE_DEBUGGING,
            "use32BitWorkerProcess": *compute::USE_32_BIT,
            "webSocketsEnabled": site.websockets,
            "vnetRouteAllEnabled": *compute::ROUTE_ALL,
        });
        if let Some(path) = &site.health_check_path {
            config["healthCheckPath"] = path.as_str().into();
        }
        if let Some(instances) = site.instances {
            config["numberOfWorkers"] = instances.into();
        }
        let mut body = self.body(&json!({
            "serverFarmId": plan.as_str(),
            "reserved": true,
            "httpsOnly": *compute::HTTPS_ONLY,
            "clientAffinityEnabled": *compute::ARR_AFFINITY,
            "virtualNetworkSubnetId": subnet.as_str(),
            "vnetRouteAllEnabled": *compute::ROUTE_ALL,
            "siteConfig": config,
        }));
        body["kind"] = "app,linux".into();
        body["identity"] = json!({"type": "SystemAssigned"});
        Ok(body)
    }

    fn secrets(&mut self) -> Result<(), PlanError> {
        let (vault, audit) = (self.vault_id()?, self.vault_audit()?);
        let cache = self.cache_id()?;
        let mut keys_of = cache.clone();
        let mut api_version = api::REDIS;
        if self.blueprint.cache.kind == Cache::Managed {
            keys_of = cache.child("databases", "default")?;
            api_version = api::REDIS_ENTERPRISE;
        }
        for secret in &self.blueprint.secrets {
            let body = secret_body(&self.blueprint.tags);
            let action = match secret.origin {
                SecretOrigin::Generated { bytes } => Action::GeneratedSecret { body, bytes },
                SecretOrigin::RedisUrl => Action::CacheSecret {
                    body,
                    keys_of: keys_of.clone(),
                    api_version,
                    template: format!(
                        "rediss://:{{key}}@{}:{}/0",
                        self.blueprint.cache.host(&self.blueprint.location),
                        self.blueprint.cache.port,
                    ),
                    created_by: self.index.get(&keys_of).copied().unwrap_or_default(),
                },
                _ => continue,
            };
            let id = self.secret(&secret.name)?;
            let after: &[&ResourceId] = match action {
                Action::CacheSecret { .. } => &[&vault, &audit, &keys_of],
                _ => &[&vault, &audit],
            };
            let title = format!("Secret {}", secret.name);
            self.add(id, api::VAULT, title, action, after);
        }
        Ok(())
    }

    /// Settings come last of what an app needs: a reference resolves when the secret is there, and
    /// the role, and the way to the vault.
    fn settings(&mut self) -> Result<(), PlanError> {
        let mut before: Vec<ResourceId> = Vec::new();
        for step in &self.steps {
            let needed =
                matches!(
                    step.action,
                    Action::GeneratedSecret { .. }
                        | Action::CacheSecret { .. }
                        | Action::DatabaseSecrets(_)
                        | Action::Server(_)
                        | Action::Parameter(_)
                        | Action::Role { .. }
                ) || ["privateDnsZoneGroups", "slotConfigNames", "components", "databases"]
                    .iter()
                    .any(|kind| step.id.as_str().contains(kind));
            if needed {
                before.push(step.id.clone());
            }
        }
        let before: Vec<&ResourceId> = before.iter().collect();
        for site in &self.blueprint.sites {
            let production = std::iter::once((None, &site.settings));
            let slots = site.slots.iter().map(|s| (Some(s.name.as_str()), &s.settings));
            for (slot, settings) in production.chain(slots) {
                let mut values = BTreeMap::new();
                for (name, setting) in settings {
                    let value = match setting {
                        Setting::Plain(text) => SettingValue::Text(text.clone()),
                        Setting::Secret(name) => {
                            SettingValue::Text(lazuli_standard::blueprint::Secret::reference(
                                &self.blueprint.vault.name,
                                name,
                            ))
                        }
                        Setting::Insights(name) => SettingValue::InsightsOf(self.insights(name)?),
                    };
                    values.insert(name.clone(), value);
                }
                let id = self.site_id(&site.name, slot)?.child("config", "appsettings")?;
                let who = slot.map_or_else(|| site.name.clone(), |s| format!("{}/{s}", site.name));
                let title = format!("Settings of {who}");
                self.add(id, api::WEB, title, Action::Settings(values), &before);
            }
        }
        Ok(())
    }

    fn alerts(&mut self) -> Result<(), PlanError> {
        let first = self.steps.len();
        let monitoring = &self.blueprint.monitoring;
        let workspace = self.workspace()?;
        if !monitoring.site_logs.is_empty() {
            let logs: Vec<Value> = monitoring
                .site_logs
                .iter()
                .map(|category| json!({"category": category, "enabled": true}))
                .collect();
            for site in &self.blueprint.sites {
                let id = self
                    .site_id(&site.name, None)?
                    .resource("Microsoft.Insights/diagnosticSettings", "to-workspace")?;
                let body = json!({"properties": {"workspaceId": workspace.as_str(), "logs": logs}});
                let title = format!("Logs of {} to {}", site.name, monitoring.workspace);
                self.add(id, api::DIAGNOSTICS, title, put(body), &[&workspace]);
            }
        }
        if let Some(autoscale) = &self.blueprint.autoscale {
            let plan = self.plan_id(&autoscale.plan)?;
            let site = self.site_id(&self.blueprint.backend().name, None)?;
            let rules: Vec<Value> = autoscale
                .rules
                .iter()
                .flat_map(|rule| {
                    let of = if rule.of_site { &site } else { &plan };
                    [scale_rule(rule, of, true), scale_rule(rule, of, false)]
                })
                .collect();
            let body = self.body(&json!({
                "enabled": true,
                "targetResourceUri": plan.as_str(),
                "profiles": [{
                    "name": "default",
                    "capacity": {
                        "minimum": autoscale.minimum.to_string(),
                        "maximum": autoscale.maximum.to_string(),
                        "default": autoscale.minimum.to_string(),
                    },
                    "rules": rules,
                }],
            }));
            let id = self.id("Microsoft.Insights/autoscaleSettings", &autoscale.name)?;
            let title = format!(
                "Auto-scale of {}, {} to {} instances",
                autoscale.plan, autoscale.minimum, autoscale.maximum
            );
            self.add(id, api::AUTOSCALE, title, put(body), &[&plan, &site]);
        }
        let mut groups: Vec<ResourceId> = Vec::new();
        for group in &monitoring.action_groups {
            let id = self.id("Microsoft.Insights/actionGroups", &group.name)?;
            let mut emails = Vec::new();
            for receiver in &group.receivers {
                // A webhook's address is a secret that only Terraform is given.
                if let Receiver::Email(address) = receiver {
                    emails.push(json!({
                        "name": address, "emailAddress": address, "useCommonAlertSchema": true,
                    }));
                }
            }
            let mut properties = json!({"groupShortName": group.short_name, "enabled": true, "emailReceivers": emails});
            if group.receivers.is_empty() {
                properties["armRoleReceivers"] = json!([{
                    "name": "owners", "roleId": data::monitoring::OWNER.id, "useCommonAlertSchema": true,
                }]);
            }
            let body = self.global(&properties);
            let title = format!("Action group {}", group.name);
            self.add(id.clone(), api::ACTION_GROUPS, title, put(body), &[]);
            groups.push(id);
        }
        if let [oncall, team] = &groups[..] {
            let told = |tells: Tells| -> Vec<&ResourceId> {
                let (first, second) = tells.groups();
                [(first, oncall), (second, team)]
                    .into_iter()
                    .filter_map(|(is, group)| is.then_some(group))
                    .collect()
            };
            for alert in &monitoring.metric_alerts {
                let scope = match alert.scope {
                    AlertScope::Site => self.site_id(&self.blueprint.backend().name, None)?,
                    AlertScope::Plan => self.plan_id(&self.blueprint.backend().plan)?,
                    AlertScope::Postgres => self.id(
                        "Microsoft.DBforPostgreSQL/flexibleServers",
                        &self.blueprint.postgres.name,
                    )?,
                    AlertScope::Cache => self.cache_id()?,
                };
                let body = self.global(&json!({
                    "description": alert.description,
                    "severity": alert.severity,
                    "enabled": true,
                    "scopes": [scope.as_str()],
                    "evaluationFrequency": iso8601(alert.frequency),
                    "windowSize": iso8601(alert.window),
                    "autoMitigate": true,
                    "criteria": {
                        "odata.type":
                            "Microsoft.Azure.Monitor.SingleResourceMultipleMetricCriteria",
                        "allOf": [{
                            "criterionType": "StaticThresholdCriterion",
                            "name": "threshold",
                            "metricNamespace": alert.namespace,
                            "metricName": alert.metric,
                            "operator": alert.operator,
                            "threshold": alert.threshold,
                            "timeAggregation": alert.aggregation,
                        }],
                    },
                    "actions": told(alert.tells)
                        .iter()
                        .map(|g| json!({"actionGroupId": g.as_str()}))
                        .collect::<Vec<_>>(),
                }));
                let id = self.id("Microsoft.Insights/metricAlerts", &alert.name)?;
                let title = format!("Alert {}", alert.name);
                let mut after = told(alert.tells);
                after.push(&scope);
                self.add(id, api::METRIC_ALERTS, title, put(body), &after);
            }
            let insights = self.insights(&monitoring.insights[0])?;
            for alert in &monitoring.query_alerts {
                let mut body = self.body(&json!({
                    "description": alert.description,
                    "severity": alert.severity,
                    "enabled": true,
                    "scopes": [insights.as_str()],
                    "evaluationFrequency": iso8601(alert.frequency),
                    "windowSize": iso8601(alert.window),
                    "autoMitigate": true,
                    "criteria": {"allOf": [{
                        "query": alert.query,
                        "timeAggregation": "Count",
                        "operator": "GreaterThan",
                        "threshold": 0,
                        "failingPeriods":
                            {"numberOfEvaluationPeriods": 1, "minFailingPeriodsToAlert": 1},
                    }]},
                    "actions": {"actionGroups": told(alert.tells)
                        .iter()
                        .map(|g| g.as_str())
                        .collect::<Vec<_>>()},
                }));
                body["kind"] = "LogAlert".into();
                let id = self.id("Microsoft.Insights/scheduledQueryRules", &alert.name)?;
                let title = format!("Alert {}", alert.name);
                let mut after = told(alert.tells);
                after.push(&insights);
                self.add(id, api::QUERY_RULES, title, put(body), &after);
            }
        }
        for at in first..self.steps.len() {
            self.optional(at);
        }
        Ok(())
    }
}

fn put(body: Value) -> Action {
    Action::Put { body, initial: &[] }
}

fn subnet_body(subnet: &Subnet, group: &ResourceId) -> Value {
    let enabled = if subnet.private_endpoint_policies { "Enabled" } else { "Disabled" };
    let delegations: Vec<Value> = subnet
        .delegation
        .iter()
        .map(|service| json!({"name": "delegation", "properties": {"serviceName": service}}))
        .collect();
    json!({
        "name": subnet.name,
        "properties": {
            "addressPrefix": subnet.prefix,
            "networkSecurityGroup": {"id": group.as_str()},
            "delegations": delegations,
            "privateEndpointNetworkPolicies": enabled,
        },
    })
}

/// A rule as Resource Manager takes it: one value in the singular property, more in the plural one.
fn rule(rule: &SecurityRule) -> Value {
    let mut properties = Map::new();
    let mut set = |name: &str, value: Value| {
        properties.insert(name.to_owned(), value);
    };
    set("description", rule.reason.chars().take(140).collect::<String>().into());
    set("priority", rule.priority.into());
    set(
        "direction",
        match rule.direction {
            Direction::Inbound => "Inbound",
            Direction::Outbound => "Outbound",
        }
        .into(),
    );
    set("access", if rule.allow { "Allow" } else { "Deny" }.into());
    set("protocol", rule.protocol.as_str().into());
    set("sourcePortRange", "*".into());
    let mut prefixes = |one: &str, many: &str, values: &[String]| match values {
        [value] => set(one, value.as_str().into()),
        values => set(many, json!(values)),
    };
    prefixes("sourceAddressPrefix", "sourceAddressPrefixes", &rule.sources);
    prefixes("destinationAddressPrefix", "destinationAddressPrefixes", &rule.destinations);
    let ports: Vec<String> = if rule.ports.is_empty() {
        vec!["*".to_owned()]
    } else {
        rule.ports.iter().map(u16::to_string).collect()
    };
    prefixes("destinationPortRange", "destinationPortRanges", &ports);
    json!({"name": rule.name, "properties": properties})
}

fn scale_rule(rule: &AutoscaleRule, of: &ResourceId, out: bool) -> Value {
    let (operator, threshold, direction) = if out {
        ("GreaterThan", rule.out_above, "Increase")
    } else {
        ("LessThan", rule.in_below, "Decrease")
    };
    json!({
        "metricTrigger": {
            "metricName": rule.metric,
            "metricResourceUri": of.as_str(),
            "operator": operator,
            // Within each minute; then the average minute of the window.
            "statistic": if rule.aggregation == "Total" { "Sum" } else { "Average" },
            "threshold": threshold,
            "timeAggregation": "Average",
            "timeGrain": "PT1M",
            "timeWindow": iso8601(rule.window),
            "dividePerInstance": rule.per_instance,
        },
        "scaleAction": {
            "direction": direction,
            "type": "ChangeCount",
            "value": "1",
            "cooldown": iso8601(rule.cooldown),
        },
    })
}

/// Whole minutes as Azure writes them.
fn iso8601(duration: Duration) -> String {
    format!("PT{}M", duration.as_secs() / 60)
}
