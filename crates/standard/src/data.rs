//! The standard, as data: every figure, name and threshold in one place, each with the section of
//! the standard it comes from and, where the standard was corrected, the erratum.
//!
//! Nothing else in the workspace hard-codes one of these.

use std::ops::Deref;
use std::time::Duration;

use crate::environment::Environment;

/// A value the standard gives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Said<T> {
    /// The value.
    pub value: T,
    /// The section of the standard it comes from.
    pub section: &'static str,
    /// The erratum that corrected it.
    pub erratum: Option<u8>,
}

impl<T> Deref for Said<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

const fn said<T>(section: &'static str, value: T) -> Said<T> {
    Said { value, section, erratum: None }
}

const fn corrected<T>(section: &'static str, erratum: u8, value: T) -> Said<T> {
    Said { value, section, erratum: Some(erratum) }
}

const fn minutes(n: u64) -> Duration {
    Duration::from_secs(n * 60)
}

/// *Compute: Azure App Service*.
pub mod compute {
    use super::{Duration, Environment, Said, corrected, said};

    const SKU: &str = "SKU Selection";
    const RUNTIME: &str = "Runtime Configuration";
    const SLOTS: &str = "Deployment Slots";

    /// An App Service SKU.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Sku {
        /// Azure's name.
        pub name: &'static str,
        /// Virtual processors.
        pub vcpu: u32,
        /// Memory in MiB.
        pub memory_mib: u32,
        /// Recommended gunicorn workers, from and to.
        pub workers: (u32, u32),
        /// Whether it has deployment slots, auto-scale and per-site scaling.
        pub slots: bool,
    }

    /// The SKUs the standard knows.
    pub const SKUS: Said<[Sku; 4]> = said(
        "Worker Configuration",
        [
            Sku { name: "B1", vcpu: 1, memory_mib: 1_792, workers: (2, 2), slots: false },
            Sku { name: "P1v3", vcpu: 2, memory_mib: 8_192, workers: (2, 3), slots: true },
            Sku { name: "P2v3", vcpu: 4, memory_mib: 16_384, workers: (3, 4), slots: true },
            Sku { name: "P3v3", vcpu: 8, memory_mib: 32_768, workers: (4, 6), slots: true },
        ],
    );

    /// The backend's SKU.
    pub const fn sku(environment: Environment) -> Said<&'static str> {
        said(
            SKU,
            match environment {
                Environment::Dev => "B1",
                Environment::Staging => "P1v3",
                Environment::Prod => "P2v3",
            },
        )
    }

    /// The SKU of the plan that worker and scheduler share.
    pub const fn worker_sku(environment: Environment) -> Said<&'static str> {
        said(
            "Monthly Cost Estimates",
            match environment {
                Environment::Dev => "B1",
                Environment::Staging | Environment::Prod => "P1v3",
            },
        )
    }

    /// Instances of the backend.
    pub const fn instances(environment: Environment) -> Said<u32> {
        let instances = if matches!(environment, Environment::Prod) { 2 } else { 1 };
        said("Environment Configuration", instances)
    }

    /// Whether there is a `staging` slot.
    pub const fn slots(environment: Environment) -> Said<bool> {
        said("Environment Configuration", matches!(environment, Environment::Prod))
    }

    /// The Python version of a manifest that names none.
    pub const PYTHON: Said<&str> = said(RUNTIME, "3.14");
    /// gunicorn workers of a manifest that names no number.
    pub const WORKERS: Said<u32> = said(RUNTIME, 2);
    /// The worker class that uvicorn itself carries. Deprecated there since 0.30.
    pub const WORKER_CLASS: Said<&str> = said(RUNTIME, "uvicorn.workers.UvicornWorker");
    /// The worker class of the package `uvicorn-worker`, which replaces it.
    pub const WORKER_CLASS_PACKAGE: Said<&str> =
        corrected(RUNTIME, 12, "uvicorn_worker.UvicornWorker");
    /// The port an instance answers on.
    pub const PORT: Said<u16> = said(RUNTIME, 8000);
    /// gunicorn's `--timeout`, seconds.
    pub const TIMEOUT: Said<u32> = said(RUNTIME, 35);
    /// gunicorn's `--graceful-timeout`, seconds.
    pub const GRACEFUL_TIMEOUT: Said<u32> = said(RUNTIME, 30);
    /// Always On.
    pub const ALWAYS_ON: Said<bool> = said(RUNTIME, true);
    /// ARR affinity.
    pub const ARR_AFFINITY: Said<bool> = said(RUNTIME, false);
    /// HTTPS only.
    pub const HTTPS_ONLY: Said<bool> = said(RUNTIME, true);
    /// Minimum TLS version.
    pub const MIN_TLS: Said<&str> = said(RUNTIME, "1.2");
    /// FTP state.
    pub const FTPS_STATE: Said<&str> = said(RUNTIME, "Disabled");
    /// Remote debugging. The standard forbids it in production only; nobody needs it elsewhere.
    pub const REMOTE_DEBUGGING: Said<bool> = said(RUNTIME, false);
    /// 64-bit platform.
    pub const USE_32_BIT: Said<bool> = said(RUNTIME, false);
    /// Whether all outbound traffic goes through the VNet.
    pub const ROUTE_ALL: Said<bool> = said("Outbound Traffic", true);
    /// How long an idle connection lives at the front end.
    pub const IDLE_LIMIT: Said<Duration> =
        corrected("WebSocket Support", 9, Duration::from_secs(230));
    /// How long an instance may take until its port answers.
    pub const START_LIMIT: Said<Duration> = said(RUNTIME, Duration::from_secs(230));
    /// Health pings in a row that may fail before an instance leaves the rotation.
    pub const MAX_PING_FAILURES: Said<u32> = said("Alerting", 3);
    /// The slot a release goes to first.
    pub const STAGING_SLOT: Said<&str> = said(SLOTS, "staging");
    /// Settings that never move with a swap.
    pub const STICKY: Said<[&str; 4]> = corrected(
        SLOTS,
        16,
        [
            "APP_ENV",
            "DATABASE_URL",
            "MIGRATION_DATABASE_URL",
            "APPLICATIONINSIGHTS_CONNECTION_STRING",
        ],
    );

    /// The startup command.
    pub fn startup(app: &str, workers: u32, worker_class: &str) -> String {
        format!(
            "gunicorn -w {workers} -k {worker_class} -b 0.0.0.0:{} --timeout {} --graceful-timeout {} {app}",
            *PORT, *TIMEOUT, *GRACEFUL_TIMEOUT
        )
    }
}

/// *Database: Azure Database for PostgreSQL*.
pub mod database {
    use super::{Environment, Said, corrected, said};

    const SERVER: &str = "Standard: Flexible Server";
    const POOLING: &str = "Connection Pooling";
    const PARITY: &str = "Environment Configuration";

    /// A server SKU.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Sku {
        /// Azure's name.
        pub name: &'static str,
        /// `Burstable` or `GeneralPurpose`.
        pub tier: &'static str,
        /// `max_connections` as Azure sets it for the SKU's memory:
        /// <https://learn.microsoft.com/azure/postgresql/flexible-server/concepts-limits>.
        pub max_connections: u32,
        /// Whether the built-in PgBouncer is offered.
        pub pgbouncer: bool,
    }

    const B2MS: Sku =
        Sku { name: "Standard_B2ms", tier: "Burstable", max_connections: 859, pgbouncer: false };
    const D2: Sku = Sku {
        name: "Standard_D2ds_v5",
        tier: "GeneralPurpose",
        max_connections: 859,
        pgbouncer: true,
    };
    const D4: Sku = Sku {
        name: "Standard_D4ds_v5",
        tier: "GeneralPurpose",
        max_connections: 1_718,
        pgbouncer: true,
    };

    /// The server's SKU.
    pub const fn sku(environment: Environment) -> Said<Sku> {
        match environment {
            Environment::Dev => corrected(PARITY, 2, B2MS),
            Environment::Staging => said(PARITY, D2),
            Environment::Prod => said(PARITY, D4),
        }
    }

    /// Whether there is a standby in another zone.
    pub const fn zone_redundant(environment: Environment) -> Said<bool> {
        said(PARITY, matches!(environment, Environment::Prod))
    }

    /// Whether backups are copied to the paired region.
    pub const fn geo_redundant_backup(environment: Environment) -> Said<bool> {
        said(SERVER, matches!(environment, Environment::Prod))
    }

    /// Major version.
    pub const VERSION: Said<&str> = said(SERVER, "16");
    /// Storage in GB.
    pub const STORAGE_GB: Said<u32> = said(SERVER, 128);
    /// Whether storage grows by itself.
    pub const AUTO_GROW: Said<bool> = said(SERVER, true);
    /// Days that backups are kept.
    pub const BACKUP_DAYS: Said<u32> = said("Backup & Recovery", 35);
    /// The port of PostgreSQL itself: migrations, `LISTEN`.
    pub const PORT: Said<u16> = said("Connection Configuration", 5432);
    /// The port of the built-in PgBouncer.
    pub const POOLED_PORT: Said<u16> = corrected(POOLING, 1, 6432);
    /// PgBouncer's parameters.
    pub const PGBOUNCER: Said<[(&str, &str); 5]> = said(
        POOLING,
        [
            ("pgbouncer.enabled", "true"),
            ("pgbouncer.pool_mode", "transaction"),
            ("pgbouncer.default_pool_size", "50"),
            ("pgbouncer.min_pool_size", "10"),
            ("pgbouncer.server_idle_timeout", "600"),
        ],
    );
    /// The administrator's login. The standard names none.
    pub const ADMINISTRATOR: &str = "lazuliadmin";
}

/// *Cache: Azure Cache for Redis*.
pub mod cache {
    use super::{Duration, Environment, Said, corrected, said};

    const STANDARD: &str = "Standard: Azure Cache for Redis (Premium)";

    /// SKU name, family and capacity of Azure Cache for Redis.
    pub const fn premium(environment: Environment) -> Said<(&'static str, &'static str, u32)> {
        said(
            "Environment Configuration",
            match environment {
                Environment::Dev => ("Basic", "C", 1),
                Environment::Staging | Environment::Prod => ("Premium", "P", 1),
            },
        )
    }

    /// The SKU of Azure Managed Redis: the one nearest in memory to what the standard asks for.
    pub const fn managed(environment: Environment) -> Said<&'static str> {
        corrected(
            STANDARD,
            7,
            match environment {
                Environment::Dev => "Balanced_B1",
                Environment::Staging | Environment::Prod => "Balanced_B5",
            },
        )
    }

    /// The TLS port.
    pub const PORT: Said<u16> = said(STANDARD, 6380);
    /// The TLS port of Managed Redis.
    pub const MANAGED_PORT: Said<u16> = corrected(STANDARD, 7, 10_000);
    /// The Redis version that Azure Cache for Redis offers. The standard says 7.x, which only
    /// Managed Redis has.
    pub const VERSION: Said<&str> = said(STANDARD, "6");
    /// Logical databases: purpose, number, time to live where it is fixed.
    pub const DATABASES: Said<[(&str, u8, Option<Duration>); 5]> = said(
        "Use Cases",
        [
            ("Session cache", 0, Some(Duration::from_secs(3600))),
            ("Application state", 1, Some(Duration::from_secs(4 * 3600))),
            ("Taskiq task broker", 2, None),
            ("Rate limiting counters", 3, None),
            ("External API token cache", 4, None),
        ],
    );
}

/// *Secrets: Azure Key Vault* and *Identity: Managed Identities*.
pub mod secrets {
    use super::{Environment, Said, corrected, said};

    const VAULT: &str = "Standard: Key Vault with RBAC Authorization";

    /// Days that what was deleted can be recovered.
    pub const SOFT_DELETE_DAYS: Said<u32> = said(VAULT, 90);

    /// Whether nothing can be purged before that.
    pub const fn purge_protection(environment: Environment) -> Said<bool> {
        said(VAULT, matches!(environment, Environment::Prod))
    }

    /// A secret's name in the vault: `{app-name}-{component}-{purpose}`.
    pub fn name(app: &str, rest: &str) -> String {
        format!("{app}-{rest}")
    }

    /// What the database's connection string is called.
    pub const DATABASE: Said<&str> =
        corrected("Secret Naming Convention", 16, "db-connection-string");
    /// What the cache's connection string is called.
    pub const CACHE: Said<&str> =
        corrected("Secret Naming Convention", 16, "redis-connection-string");
    /// Randomness of a generated secret, bytes.
    pub const GENERATED_BYTES: usize = 48;
    /// Days between rotations.
    pub const ROTATION_DAYS: Said<u32> = said("Secret Rotation", 90);

    /// A role the standard assigns: its name and its definition's ID, the same in every tenant
    /// (<https://learn.microsoft.com/azure/role-based-access-control/built-in-roles>).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Role {
        /// Its name.
        pub name: &'static str,
        /// Its definition's ID.
        pub id: &'static str,
    }

    /// Reads secrets.
    pub const SECRETS_USER: Said<Role> = corrected(
        "Access Control",
        15,
        Role { name: "Key Vault Secrets User", id: "4633458b-17de-408a-b874-0445c86b69e6" },
    );
    /// Everything in a vault: for emergencies.
    pub const ADMINISTRATOR: Said<Role> = said(
        "Access Control",
        Role { name: "Key Vault Administrator", id: "00482a5a-887f-4fb3-b363-3b7fe8e74483" },
    );
    /// Calls Azure OpenAI.
    pub const OPENAI_USER: Said<Role> = said(
        "System-Assigned Managed Identity",
        Role { name: "Cognitive Services OpenAI User", id: "5e0bd9bd-7b93-4f28-af87-19fc36ad61bd" },
    );
    /// Submits telemetry.
    pub const METRICS_PUBLISHER: Said<Role> = said(
        "System-Assigned Managed Identity",
        Role { name: "Monitoring Metrics Publisher", id: "3913510d-42f4-4e42-8a64-420c390055eb" },
    );
}

/// *Networking*.
pub mod network {
    use super::{Said, said};

    const VNET: &str = "VNet Architecture";

    /// The VNet's addresses.
    pub const ADDRESS_SPACE: Said<&str> = said(VNET, "10.0.0.0/16");
    /// App Service's outbound addresses.
    pub const APP: Said<(&str, &str)> = said(VNET, ("app-subnet", "10.0.1.0/24"));
    /// Private endpoints.
    pub const PE: Said<(&str, &str)> = said(VNET, ("pe-subnet", "10.0.2.0/24"));
    /// The database.
    pub const DB: Said<(&str, &str)> = said(VNET, ("db-subnet", "10.0.3.0/24"));
    /// Bastion.
    pub const MGMT: Said<(&str, &str)> = said(VNET, ("mgmt-subnet", "10.0.4.0/24"));
    /// App Service's delegation.
    pub const APP_DELEGATION: Said<&str> = said(VNET, "Microsoft.Web/serverFarms");
    /// The database's delegation.
    pub const DB_DELEGATION: Said<&str> = said(VNET, "Microsoft.DBforPostgreSQL/flexibleServers");
    /// The vault's zone.
    pub const VAULT_ZONE: Said<&str> = said("DNS", "privatelink.vaultcore.azure.net");
    /// The cache's zone.
    pub const REDIS_ZONE: Said<&str> = said("DNS", "privatelink.redis.cache.windows.net");
    /// Managed Redis's zone.
    pub const MANAGED_REDIS_ZONE: Said<&str> =
        super::corrected("DNS", 7, "privatelink.redis.azure.net");
    /// Azure OpenAI's zone.
    pub const OPENAI_ZONE: Said<&str> = said("DNS", "privatelink.openai.azure.com");
    /// The database's zone.
    pub const POSTGRES_ZONE: Said<&str> = said("DNS", "privatelink.postgres.database.azure.com");
}

/// *Frontend: Azure Static Web Apps*.
pub mod frontend {
    use super::{Said, corrected, said};

    /// The SKU.
    pub const SKU: Said<&str> = said("Standard: Static Web Apps (Standard tier)", "Standard");
    /// Regions that Static Web Apps offers; the files are served from everywhere:
    /// <https://learn.microsoft.com/azure/static-web-apps/overview>.
    pub const LOCATIONS: [&str; 5] = ["westus2", "centralus", "eastus2", "westeurope", "eastasia"];
    /// Paths that the linked back end answers.
    pub const API: Said<&str> = corrected("Reverse Proxy Configuration", 8, "/api/*");

    /// Where an app's front end is registered, by its own region.
    pub fn location(app: &str) -> &'static str {
        const AMERICA: [&str; 6] = ["us", "canada", "brazil", "mexico", "chile", "usgov"];
        const ASIA: [&str; 11] = [
            "asia",
            "japan",
            "korea",
            "india",
            "australia",
            "newzealand",
            "indonesia",
            "malaysia",
            "taiwan",
            "qatar",
            "uae",
        ];
        if let Some(same) = LOCATIONS.iter().find(|l| **l == app) {
            return same;
        }
        if app.starts_with("west") && app.contains("us") {
            return "westus2";
        }
        if AMERICA.iter().any(|a| app.contains(a))
            && !app.starts_with("australia")
            && !app.starts_with("austria")
        {
            return if app.contains("central") { "centralus" } else { "eastus2" };
        }
        if ASIA.iter().any(|a| app.contains(a)) {
            return "eastasia";
        }
        "westeurope"
    }
}

/// *Monitoring: Application Insights*.
pub mod monitoring {
    use super::{Duration, Environment, Said, corrected, minutes, said};

    const METRICS: &str = "Key Metrics to Track";
    const ALERTING: &str = "Alerting";

    /// Who is told when a manifest names nobody: the subscription's owners, by e-mail.
    pub const OWNER: super::secrets::Role =
        super::secrets::Role { name: "Owner", id: "8e3af657-a8ff-443c-a75c-2fe8c4bcb635" };

    /// How much monitoring an environment has.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    pub enum Level {
        /// Application Insights.
        Basic,
        /// And the sites' logs.
        Full,
        /// And alerts.
        FullWithAlerts,
    }

    /// How much monitoring an environment has.
    pub const fn level(environment: Environment) -> Said<Level> {
        said(
            "Environment Configuration",
            match environment {
                Environment::Dev => Level::Basic,
                Environment::Staging => Level::Full,
                Environment::Prod => Level::FullWithAlerts,
            },
        )
    }

    /// Percentage of telemetry that is kept on ingestion. The standard's target of 5 events a second
    /// is adaptive sampling, which is the SDK's and not the resource's to set: the resource keeps
    /// what the SDK sends.
    pub const SAMPLING_PERCENTAGE: Said<f64> =
        said("Standard: Application Insights (workspace-based)", 100.0);
    /// Days that telemetry is kept.
    pub const RETENTION_DAYS: Said<u32> =
        said("Standard: Application Insights (workspace-based)", 90);
    /// Log categories of a site that go to the workspace.
    pub const SITE_LOGS: Said<[&str; 4]> = corrected(
        "Integration with structlog",
        14,
        [
            "AppServiceHTTPLogs",
            "AppServiceConsoleLogs",
            "AppServiceAppLogs",
            "AppServicePlatformLogs",
        ],
    );
    /// Log categories of the vault that go to the workspace: the audit log of step 6.
    pub const VAULT_LOGS: Said<[&str; 1]> = said("Secret Rotation", ["AuditEvent"]);

    /// Share of 5xx that is an alert, and over how long.
    pub const ERROR_RATE: Said<(f64, Duration)> = said(ALERTING, (5.0, minutes(5)));
    /// Share of 5xx that is a warning.
    pub const ERROR_RATE_WARNING: Said<f64> = said(METRICS, 1.0);
    /// Response time (95th percentile) that is a warning.
    pub const RESPONSE_P95: Said<Duration> = said(METRICS, Duration::from_secs(5));
    /// External API latency (95th percentile) that is a warning.
    pub const DEPENDENCY_P95: Said<Duration> = said(METRICS, Duration::from_secs(10));
    /// External calls in a row that may fail.
    pub const DEPENDENCY_FAILURES: Said<u32> = said(ALERTING, 5);
    /// CPU percentage that is a warning.
    pub const CPU: Said<f64> = said(METRICS, 80.0);
    /// Memory percentage that is a warning.
    pub const MEMORY: Said<f64> = said(METRICS, 85.0);
    /// Percentage of the database's connections that is a warning.
    pub const CONNECTIONS_WARNING: Said<f64> = said(METRICS, 80.0);
    /// Percentage of the database's connections that is an alert.
    pub const CONNECTIONS: Said<f64> = said(ALERTING, 90.0);
    /// Percentage of the cache's memory that is a warning.
    pub const CACHE_MEMORY: Said<f64> = said(METRICS, 80.0);
}

/// *Scaling*.
pub mod scaling {
    use super::{Duration, Environment, Said, corrected, minutes, said};

    const RULES: &str = "Auto-Scale Rules";

    /// Whether an environment scales by itself.
    pub const fn enabled(environment: Environment) -> Said<bool> {
        said("Environment Configuration", matches!(environment, Environment::Prod))
    }

    /// Fewest and most instances.
    pub const LIMITS: Said<(u32, u32)> = said(RULES, (2, 6));
    /// CPU percentage: out above, in below.
    pub const CPU: Said<(f64, f64)> = said(RULES, (70.0, 30.0));
    /// Requests a minute and instance: out above, in below.
    pub const REQUESTS: Said<(f64, f64)> = corrected(RULES, 22, (500.0, 100.0));
    /// Over how long.
    pub const WINDOW: Said<Duration> = said(RULES, minutes(10));
    /// How long nothing changes after a change.
    pub const COOLDOWN: Said<Duration> = said(RULES, minutes(5));
}

/// *Deployment Checklist*.
pub mod release {
    use super::{Duration, Said, minutes, said};

    /// Share of 5xx that triggers the rollback, percent.
    pub const ROLLBACK_ERROR_RATE: Said<f64> = said("Rollback Trigger", 5.0);
    /// How long after the swap it does.
    pub const ROLLBACK_WINDOW: Said<Duration> = said("Rollback Trigger", minutes(10));
    /// How long production is watched after the swap.
    pub const WATCH: Said<Duration> = said("Post-Deployment", minutes(15));
    /// How often a WebSocket is pinged.
    pub const WEBSOCKET_PING: Said<Duration> = said("WebSocket Support", Duration::from_secs(30));
}

/// *Cost Management*.
pub mod cost {
    use super::{Said, said};

    /// A line of the standard's estimate, in US dollars a month.
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub struct Price {
        /// What is priced.
        pub item: &'static str,
        /// Of which SKU.
        pub sku: &'static str,
        /// For one unit (instance, server, endpoint).
        pub usd: f64,
    }

    /// An App Service plan, an instance.
    pub const PLAN: &str = "App Service plan";
    /// A PostgreSQL server with its storage.
    pub const POSTGRES: &str = "PostgreSQL";
    /// Its standby in another zone. The standard asks for one and leaves it out of its estimate.
    pub const POSTGRES_STANDBY: &str = "PostgreSQL standby";
    /// Azure Cache for Redis.
    pub const REDIS: &str = "Redis";
    /// Azure Managed Redis.
    pub const MANAGED_REDIS: &str = "Managed Redis";
    /// A Key Vault.
    pub const VAULT: &str = "Key Vault";
    /// Application Insights.
    pub const INSIGHTS: &str = "Application Insights";
    /// A private endpoint.
    pub const ENDPOINT: &str = "Private endpoint";
    /// A Static Web App.
    pub const STATIC_WEB_APP: &str = "Static Web App";
    /// All of them.
    pub const ITEMS: [&str; 9] = [
        PLAN,
        POSTGRES,
        POSTGRES_STANDBY,
        REDIS,
        MANAGED_REDIS,
        VAULT,
        INSIGHTS,
        ENDPOINT,
        STATIC_WEB_APP,
    ];
    /// The storage of a PostgreSQL server that the standard's figure holds, GB.
    pub const POSTGRES_STORAGE_GB: f64 = 128.0;
    /// Hours that Azure counts a month as.
    pub const HOURS_A_MONTH: f64 = 730.0;

    const fn price(item: &'static str, sku: &'static str, usd: f64) -> Price {
        Price { item, sku, usd }
    }

    /// The standard's figures, each for one unit: it gives two instances of P2v3 together, and five
    /// endpoints.
    pub const PRICES: Said<[Price; 8]> = said(
        "Monthly Cost Estimates",
        [
            price(PLAN, "P2v3", 250.0),
            price(PLAN, "P1v3", 125.0),
            price(POSTGRES, "Standard_D4ds_v5", 350.0),
            price(REDIS, "Premium P1", 340.0),
            price(VAULT, "Standard", 5.0),
            price(INSIGHTS, "5 GB ingest", 15.0),
            price(ENDPOINT, "Standard", 10.0),
            price(STATIC_WEB_APP, "Standard", 9.0),
        ],
    );
    /// What an environment may cost a month in US dollars, where a manifest does not say: the
    /// standard's total for production; for the others, which it does not price, our reckoning.
    pub const fn budget(environment: super::Environment) -> Said<u32> {
        said(
            "Monthly Cost Estimates",
            match environment {
                super::Environment::Dev => 300,
                super::Environment::Staging => 900,
                super::Environment::Prod => 1_400,
            },
        )
    }

    /// Percentages of the budget at which somebody is told.
    pub const BUDGET_ALERTS: Said<[u32; 2]> = said("Cost Controls", [80, 100]);
}
