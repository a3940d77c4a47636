//! Manifest → blueprint. Pure; every figure comes from [`crate::data`].

use std::collections::BTreeMap;

use super::{
    ActionGroup, AlertScope, Autoscale, AutoscaleRule, Blueprint, Budget, DnsZone, EndpointTarget,
    Holder, MetricAlert, Monitoring, OpenAi, Plan, Postgres, PrivateEndpoint, QueryAlert, Redis,
    RoleAssignment, RoleScope, STAGING_SLOT, Secret, SecretOrigin, Setting, Site, SiteRole, Slot,
    StaticWebApp, Tells, Vault, network,
};
use crate::data::{
    cache, compute, cost, database, frontend, monitoring, network as net, scaling, secrets,
};
use crate::environment::Environment;
use crate::manifest::{Access, Cache, Hosting, Manifest};

/// What the standard gives an app in an environment.
pub(super) fn blueprint(manifest: &Manifest, environment: Environment) -> Blueprint {
    let names = Names::new(manifest, environment);
    let cache = cache(&names, manifest.cache, environment);
    let postgres = postgres(&names, environment);
    let monitoring = monitoring(&names, manifest, &postgres);
    let sites = sites(&names, manifest);
    let mut tags = BTreeMap::new();
    tags.insert("app".to_owned(), manifest.app.clone());
    tags.insert("environment".to_owned(), environment.app_env().to_owned());
    tags.insert("managed-by".to_owned(), "lazuli".to_owned());
    Blueprint {
        app: manifest.app.clone(),
        environment,
        location: manifest.location.clone(),
        resource_group: format!("rg-{}-{environment}", manifest.app),
        tags,
        network: network::network(names.of("vnet"), cache.port),
        dns_zones: dns_zones(manifest),
        vault: Vault {
            name: names.of("kv"),
            soft_delete_days: *secrets::SOFT_DELETE_DAYS,
            purge_protection: *secrets::purge_protection(environment),
        },
        secrets: secret_list(&names, manifest, &postgres),
        private_endpoints: private_endpoints(&names, manifest, &cache),
        plans: plans(&names, manifest, environment),
        role_assignments: role_assignments(&sites, &names, manifest),
        autoscale: scaling::enabled(environment).then(|| autoscale(&names)),
        openai: manifest.openai.as_ref().map(|o| OpenAi {
            name: names.of("openai"),
            model: o.model.clone(),
            version: o.version.clone(),
            capacity: o.capacity,
        }),
        frontend: manifest.frontend.as_ref().filter(|f| f.hosting == Hosting::StaticWebApp).map(
            |_| StaticWebApp {
                name: names.of("web"),
                location: frontend::location(&manifest.location).to_owned(),
                sku: frontend::SKU.to_string(),
            },
        ),
        domain: manifest.domain.clone().filter(|_| environment == Environment::Prod),
        budget: Budget {
            name: names.of("budget"),
            amount: match environment {
                Environment::Dev => manifest.budget.dev,
                Environment::Staging => manifest.budget.staging,
                Environment::Prod => manifest.budget.prod,
            },
            thresholds: cost::BUDGET_ALERTS.to_vec(),
        },
        sites,
        postgres,
        cache,
        monitoring,
    }
}

/// Names in one environment.
struct Names {
    environment: Environment,
    app: String,
    /// The app's name with the environment's suffix: `notes`, `notes-dev`.
    stem: String,
    slot: bool,
}

impl Names {
    fn new(manifest: &Manifest, environment: Environment) -> Self {
        Self {
            environment,
            app: manifest.app.clone(),
            stem: format!("{}{}", manifest.app, environment.suffix()),
            slot: *compute::slots(environment),
        }
    }

    fn of(&self, what: &str) -> String {
        format!("{}-{what}", self.stem)
    }

    fn secret(&self, rest: &str) -> String {
        secrets::name(&self.app, rest)
    }

    /// The production database; hyphens would have to be quoted in SQL.
    fn database(&self) -> String {
        self.app.replace('-', "_")
    }

    fn staging_database(&self) -> String {
        format!("{}_staging", self.database())
    }

    fn insights(&self) -> String {
        self.of("ai")
    }

    fn staging_insights(&self) -> String {
        self.of("staging-ai")
    }
}

fn postgres(names: &Names, environment: Environment) -> Postgres {
    let sku = *database::sku(environment);
    let mut databases = vec![names.database()];
    if names.slot {
        databases.push(names.staging_database());
    }
    let parameters: &[(&str, &str)] = if sku.pgbouncer { &*database::PGBOUNCER } else { &[] };
    Postgres {
        name: names.of("pg"),
        version: database::VERSION.to_string(),
        sku: sku.name.to_owned(),
        tier: sku.tier.to_owned(),
        storage_gb: *database::STORAGE_GB,
        auto_grow: *database::AUTO_GROW,
        zone_redundant: *database::zone_redundant(environment),
        backup_retention_days: *database::BACKUP_DAYS,
        geo_redundant_backup: *database::geo_redundant_backup(environment),
        administrator: database::ADMINISTRATOR.to_owned(),
        dns_zone: net::POSTGRES_ZONE.to_string(),
        databases,
        parameters: parameters.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
        pgbouncer: sku.pgbouncer,
    }
}

fn cache(names: &Names, kind: Cache, environment: Environment) -> Redis {
    let (sku, family, capacity, port) = match kind {
        Cache::Premium => {
            let (sku, family, capacity) = *cache::premium(environment);
            (sku, family, capacity, *cache::PORT)
        }
        Cache::Managed => (*cache::managed(environment), "", 0, *cache::MANAGED_PORT),
    };
    Redis {
        name: names.of("redis"),
        kind,
        sku: sku.to_owned(),
        family: family.to_owned(),
        capacity,
        port,
    }
}

fn cache_zone(kind: Cache) -> &'static str {
    match kind {
        Cache::Premium => *net::REDIS_ZONE,
        Cache::Managed => *net::MANAGED_REDIS_ZONE,
    }
}

fn dns_zones(manifest: &Manifest) -> Vec<DnsZone> {
    let mut zones = vec![
        (*net::VAULT_ZONE, "kv"),
        (cache_zone(manifest.cache), "redis"),
        (*net::POSTGRES_ZONE, "pg"),
    ];
    if manifest.openai.is_some() {
        zones.push((*net::OPENAI_ZONE, "openai"));
    }
    zones
        .into_iter()
        .map(|(name, what)| DnsZone { name: name.to_owned(), link: format!("link-{what}") })
        .collect()
}

fn private_endpoints(names: &Names, manifest: &Manifest, cache: &Redis) -> Vec<PrivateEndpoint> {
    let group = match cache.kind {
        Cache::Premium => "redisCache",
        Cache::Managed => "redisEnterprise",
    };
    let mut endpoints = vec![
        PrivateEndpoint {
            name: names.of("kv-pe"),
            target: EndpointTarget::Vault,
            group: "vault".to_owned(),
            dns_zone: net::VAULT_ZONE.to_string(),
        },
        PrivateEndpoint {
            name: names.of("redis-pe"),
            target: EndpointTarget::Cache,
            group: group.to_owned(),
            dns_zone: cache_zone(cache.kind).to_owned(),
        },
    ];
    if manifest.openai.is_some() {
        endpoints.push(PrivateEndpoint {
            name: names.of("openai-pe"),
            target: EndpointTarget::OpenAi,
            group: "account".to_owned(),
            dns_zone: net::OPENAI_ZONE.to_string(),
        });
    }
    endpoints
}

/// The pooled port where there is a pool.
fn app_port(postgres: &Postgres) -> u16 {
    if postgres.pgbouncer { *database::POOLED_PORT } else { *database::PORT }
}

const DATABASE_PASSWORD: &str = "db-password";
const MIGRATION: &str = "db-migration-connection-string";
const STAGING: &str = "db-staging-connection-string";
const STAGING_MIGRATION: &str = "db-staging-migration-connection-string";

fn secret_list(names: &Names, manifest: &Manifest, postgres: &Postgres) -> Vec<Secret> {
    let secret = |rest: &str, origin| Secret { name: names.secret(rest), origin };
    let url = |database: String, port| SecretOrigin::DatabaseUrl { database, port };
    let pooled = app_port(postgres);
    let mut list = vec![
        secret(DATABASE_PASSWORD, SecretOrigin::DatabasePassword),
        secret(&secrets::DATABASE, url(names.database(), pooled)),
        secret(MIGRATION, url(names.database(), *database::PORT)),
    ];
    if names.slot {
        list.push(secret(STAGING, url(names.staging_database(), pooled)));
        list.push(secret(STAGING_MIGRATION, url(names.staging_database(), *database::PORT)));
    }
    list.push(secret(&secrets::CACHE, SecretOrigin::RedisUrl));
    list.extend(
        manifest
            .secrets
            .iter()
            .map(|s| secret(&s.name, SecretOrigin::Generated { bytes: secrets::GENERATED_BYTES })),
    );
    list
}

fn plans(names: &Names, manifest: &Manifest, environment: Environment) -> Vec<Plan> {
    let mut plans = vec![Plan {
        name: names.of("plan"),
        sku: compute::sku(environment).to_string(),
        instances: *compute::instances(environment),
        per_site_scaling: false,
    }];
    let own_site = |p: &Option<crate::manifest::Process>| p.as_ref().is_some_and(|p| !p.webjob);
    if own_site(&manifest.worker) || own_site(&manifest.scheduler) {
        let sku = *compute::worker_sku(environment);
        let slots = compute::SKUS.iter().any(|s| s.name == sku && s.slots);
        plans.push(Plan {
            name: names.of("worker-plan"),
            sku: sku.to_owned(),
            instances: 1,
            // Whoever scales the workers out must not get a second scheduler.
            per_site_scaling: slots,
        });
    }
    plans
}

/// Settings that every site of an app has in one slot.
fn settings(
    names: &Names,
    manifest: &Manifest,
    app_env: &str,
    database: &str,
    insights: String,
) -> BTreeMap<String, Setting> {
    let plain = |v: &str| Setting::Plain(v.to_owned());
    let mut settings: BTreeMap<String, Setting> =
        manifest.backend.settings.iter().map(|(n, v)| (n.clone(), plain(v))).collect();
    settings.extend(
        manifest
            .secrets
            .iter()
            .map(|s| (s.setting.clone(), Setting::Secret(names.secret(&s.name)))),
    );
    let limit = compute::START_LIMIT.as_secs().to_string();
    settings.extend([
        ("APP_ENV".to_owned(), plain(app_env)),
        ("DATABASE_URL".to_owned(), Setting::Secret(names.secret(database))),
        ("REDIS_URL".to_owned(), Setting::Secret(names.secret(&secrets::CACHE))),
        ("APPLICATIONINSIGHTS_CONNECTION_STRING".to_owned(), Setting::Insights(insights)),
        ("SCM_DO_BUILD_DURING_DEPLOYMENT".to_owned(), plain("true")),
        ("WEBSITES_CONTAINER_START_TIME_LIMIT".to_owned(), plain(&limit)),
    ]);
    if let Some(openai) = &manifest.openai {
        settings.extend([
            (
                "AZURE_OPENAI_ENDPOINT".to_owned(),
                plain(&format!("https://{}.openai.azure.com/", names.of("openai"))),
            ),
            ("AZURE_OPENAI_DEPLOYMENT".to_owned(), plain(&openai.model)),
        ]);
    }
    settings
}

fn backend_settings(
    names: &Names,
    manifest: &Manifest,
    app_env: &str,
    (database, migration): (&str, &str),
    insights: String,
) -> BTreeMap<String, Setting> {
    let mut settings = settings(names, manifest, app_env, database, insights);
    let plain = |v: String| Setting::Plain(v);
    settings.extend([
        ("MIGRATION_DATABASE_URL".to_owned(), Setting::Secret(names.secret(migration))),
        (
            "WEBSITE_HEALTHCHECK_MAXPINGFAILURES".to_owned(),
            plain(compute::MAX_PING_FAILURES.to_string()),
        ),
        ("WEBSITE_SWAP_WARMUP_PING_PATH".to_owned(), plain(manifest.backend.readiness.clone())),
        ("WEBSITE_SWAP_WARMUP_PING_STATUSES".to_owned(), plain("200".to_owned())),
    ]);
    settings
}

fn sites(names: &Names, manifest: &Manifest) -> Vec<Site> {
    let app_env = names.environment.app_env();
    let backend = &manifest.backend;
    let linux_fx_version = format!("PYTHON|{}", manifest.python);
    let mut slots = Vec::new();
    let mut sticky = Vec::new();
    if names.slot {
        let mut settings = backend_settings(
            names,
            manifest,
            Environment::Staging.app_env(),
            (STAGING, STAGING_MIGRATION),
            names.staging_insights(),
        );
        // The release migrates production's database from here, before the swap: the staging slot
        // has the new code, and its network reaches the database (erratum 21).
        settings.insert(PRODUCTION_MIGRATION.to_owned(), Setting::Secret(names.secret(MIGRATION)));
        slots.push(Slot { name: STAGING_SLOT.to_owned(), settings });
        sticky = compute::STICKY.iter().map(|s| (*s).to_owned()).collect();
        sticky.push(PRODUCTION_MIGRATION.to_owned());
    }
    let mut sites = vec![Site {
        name: names.stem.clone(),
        role: SiteRole::Backend,
        plan: names.of("plan"),
        linux_fx_version: linux_fx_version.clone(),
        startup: compute::startup(&backend.app, backend.workers, &backend.worker_class),
        websockets: backend.websockets,
        health_check_path: Some(backend.health.clone()),
        instances: None,
        settings: backend_settings(
            names,
            manifest,
            app_env,
            (&secrets::DATABASE, MIGRATION),
            names.insights(),
        ),
        sticky,
        slots,
    }];
    let background = [
        (SiteRole::Worker, "worker", &manifest.worker),
        (SiteRole::Scheduler, "scheduler", &manifest.scheduler),
    ];
    for (role, what, process) in background {
        let Some(process) = process.as_ref().filter(|p| !p.webjob) else { continue };
        let mut settings = settings(names, manifest, app_env, &secrets::DATABASE, names.insights());
        if role == SiteRole::Scheduler {
            // Restarting starts the new instance before the old one stops, unless told otherwise:
            // for a moment there would be two schedulers.
            // <https://learn.microsoft.com/azure/app-service/reference-app-settings>
            settings.insert(
                "WEBSITE_DISABLE_OVERLAPPED_RECYCLING".to_owned(),
                Setting::Plain("1".to_owned()),
            );
        }
        sites.push(Site {
            name: names.of(what),
            role,
            plan: names.of("worker-plan"),
            linux_fx_version: linux_fx_version.clone(),
            startup: process.run.clone(),
            websockets: false,
            health_check_path: None,
            instances: (role == SiteRole::Scheduler).then_some(1),
            settings,
            sticky: Vec::new(),
            slots: Vec::new(),
        });
    }
    sites
}

const PRODUCTION_MIGRATION: &str = "PRODUCTION_MIGRATION_DATABASE_URL";

fn role_assignments(sites: &[Site], names: &Names, manifest: &Manifest) -> Vec<RoleAssignment> {
    let mut assignments = Vec::new();
    for site in sites {
        let slots = std::iter::once(None).chain(site.slots.iter().map(|s| Some(s.name.clone())));
        for slot in slots {
            let insights = if slot.is_some() { names.staging_insights() } else { names.insights() };
            let mut roles = vec![
                (secrets::SECRETS_USER, RoleScope::Vault),
                (secrets::METRICS_PUBLISHER, RoleScope::Insights(insights)),
            ];
            if manifest.openai.is_some() {
                roles.push((secrets::OPENAI_USER, RoleScope::OpenAi));
            }
            for (role, scope) in roles {
                assignments.push(RoleAssignment {
                    holder: Holder::Identity { site: site.name.clone(), slot: slot.clone() },
                    role: role.name.to_owned(),
                    role_id: role.id.to_owned(),
                    scope,
                });
            }
        }
    }
    let Access { ci_cd, break_glass } = manifest.access.clone();
    let people = [
        (ci_cd.map(Holder::CiCd), secrets::SECRETS_USER),
        (break_glass.map(Holder::BreakGlass), secrets::ADMINISTRATOR),
    ];
    for (holder, role) in people {
        assignments.extend(holder.map(|holder| RoleAssignment {
            holder,
            role: role.name.to_owned(),
            role_id: role.id.to_owned(),
            scope: RoleScope::Vault,
        }));
    }
    assignments
}

fn monitoring(names: &Names, manifest: &Manifest, postgres: &Postgres) -> Monitoring {
    let level = *monitoring::level(names.environment);
    let mut insights = vec![names.insights()];
    if names.slot {
        insights.push(names.staging_insights());
    }
    let alerts = level == monitoring::Level::FullWithAlerts;
    let site_logs = if level >= monitoring::Level::Full {
        monitoring::SITE_LOGS.iter().map(|s| (*s).to_owned()).collect()
    } else {
        Vec::new()
    };
    Monitoring {
        workspace: names.of("law"),
        retention_days: *monitoring::RETENTION_DAYS,
        insights,
        site_logs,
        vault_logs: monitoring::VAULT_LOGS.iter().map(|s| (*s).to_owned()).collect(),
        action_groups: if alerts {
            [("oncall", &manifest.alerts.oncall), ("team", &manifest.alerts.team)]
                .map(|(name, receivers)| ActionGroup {
                    name: names.of(name),
                    short_name: name.to_owned(),
                    receivers: receivers.clone(),
                })
                .into()
        } else {
            Vec::new()
        },
        metric_alerts: if alerts {
            metric_alerts(names, postgres, manifest.cache)
        } else {
            Vec::new()
        },
        query_alerts: if alerts { query_alerts(names) } else { Vec::new() },
    }
}

fn metric_alerts(names: &Names, postgres: &Postgres, kind: Cache) -> Vec<MetricAlert> {
    use std::time::Duration;
    let minutes = |n: u64| Duration::from_secs(n * 60);
    let max_connections = f64::from(database::sku(names.environment).max_connections);
    let redis = match kind {
        Cache::Premium => "Microsoft.Cache/redis",
        Cache::Managed => "Microsoft.Cache/redisEnterprise",
    };
    let alert = |name: &str,
                 description: String,
                 severity,
                 scope,
                 metric: (&str, &str),
                 operator: &str,
                 threshold| {
        MetricAlert {
            name: names.of(name),
            description,
            severity,
            scope,
            // The standard's table: down, PagerDuty; connections, Teams. What is only a
            // threshold of its metrics table wakes nobody.
            tells: if severity == 0 { Tells::OnCall } else { Tells::Team },
            namespace: metric.0.to_owned(),
            metric: metric.1.to_owned(),
            aggregation: "Average".to_owned(),
            operator: operator.to_owned(),
            threshold,
            frequency: minutes(1),
            window: minutes(5),
        }
    };
    let site = ("Microsoft.Web/sites", "HealthCheckStatus");
    let plan = |metric| ("Microsoft.Web/serverfarms", metric);
    let server = ("Microsoft.DBforPostgreSQL/flexibleServers", "active_connections");
    let percent = |part: f64| (max_connections * part / 100.0).floor();
    vec![
        alert(
            "app-service-down",
            // Three failed pings of the five in the window leave 40 %.
            "App Service down: 3 of the last 5 health checks failed".to_owned(),
            0,
            AlertScope::Site,
            site,
            "LessThan",
            50.0,
        ),
        alert(
            "database-connections",
            format!(
                "Database connection exhaustion: more than {} % of the {max_connections} connections of {}",
                *monitoring::CONNECTIONS,
                postgres.sku
            ),
            1,
            AlertScope::Postgres,
            server,
            "GreaterThan",
            percent(*monitoring::CONNECTIONS),
        ),
        alert(
            "database-connections-high",
            format!(
                "More than {} % of the database's connections",
                *monitoring::CONNECTIONS_WARNING
            ),
            2,
            AlertScope::Postgres,
            server,
            "GreaterThan",
            percent(*monitoring::CONNECTIONS_WARNING),
        ),
        alert(
            "cpu-high",
            format!("CPU above {} %", *monitoring::CPU),
            2,
            AlertScope::Plan,
            plan("CpuPercentage"),
            "GreaterThan",
            *monitoring::CPU,
        ),
        alert(
            "memory-high",
            format!("Memory above {} %", *monitoring::MEMORY),
            2,
            AlertScope::Plan,
            plan("MemoryPercentage"),
            "GreaterThan",
            *monitoring::MEMORY,
        ),
        alert(
            "cache-memory-high",
            format!("Redis memory above {} %", *monitoring::CACHE_MEMORY),
            2,
            AlertScope::Cache,
            (redis, "usedmemorypercentage"),
            "GreaterThan",
            *monitoring::CACHE_MEMORY,
        ),
    ]
}

fn query_alerts(names: &Names) -> Vec<QueryAlert> {
    let (rate, window) = *monitoring::ERROR_RATE;
    let share = |limit: f64| {
        format!(
            "requests\n| summarize failed = countif(toint(resultCode) >= 500), total = count()\n| where total > 0 and 100.0 * failed / total > {limit}"
        )
    };
    let p95 = |table: &str, limit: std::time::Duration| {
        format!(
            "{table}\n| summarize p95 = percentile(duration, 95)\n| where p95 > {}",
            limit.as_millis()
        )
    };
    let alert = |name: &str, description: String, severity, query| QueryAlert {
        name: names.of(name),
        description,
        severity,
        tells: if name == "error-rate" { Tells::Both } else { Tells::Team },
        query,
        frequency: window,
        window,
    };
    vec![
        alert(
            "error-rate",
            format!("High error rate: 5xx above {rate} % for 5 minutes"),
            1,
            share(rate),
        ),
        alert(
            "dependency-unreachable",
            format!(
                "External API unreachable: the last {} calls failed",
                *monitoring::DEPENDENCY_FAILURES
            ),
            1,
            format!(
                "dependencies\n| where type startswith \"HTTP\"\n| order by target asc, timestamp desc\n| extend nth = row_number(1, prev(target) != target)\n| where nth <= {n}\n| summarize failed = countif(success == false) by target\n| where failed == {n}",
                n = *monitoring::DEPENDENCY_FAILURES
            ),
        ),
        alert(
            "error-rate-high",
            format!("5xx above {} % of requests", *monitoring::ERROR_RATE_WARNING),
            2,
            share(*monitoring::ERROR_RATE_WARNING),
        ),
        alert(
            "response-time",
            format!(
                "95th percentile of response time above {} s",
                monitoring::RESPONSE_P95.as_secs()
            ),
            2,
            p95("requests", *monitoring::RESPONSE_P95),
        ),
        alert(
            "dependency-latency",
            format!(
                "95th percentile of external API latency above {} s",
                monitoring::DEPENDENCY_P95.as_secs()
            ),
            2,
            p95("dependencies", *monitoring::DEPENDENCY_P95),
        ),
    ]
}

fn autoscale(names: &Names) -> Autoscale {
    let (minimum, maximum) = *scaling::LIMITS;
    let rule = |metric: &str, of_site, (out_above, in_below): (f64, f64)| AutoscaleRule {
        metric: metric.to_owned(),
        of_site,
        aggregation: if of_site { "Total" } else { "Average" }.to_owned(),
        per_instance: of_site,
        out_above,
        in_below,
        window: *scaling::WINDOW,
        cooldown: *scaling::COOLDOWN,
    };
    Autoscale {
        name: names.of("autoscale"),
        plan: names.of("plan"),
        minimum,
        maximum,
        rules: vec![
            rule("CpuPercentage", false, *scaling::CPU),
            rule("Requests", true, *scaling::REQUESTS),
        ],
    }
}
