//! The standard's environment table for an app, and every difference between environments: which
//! are allowed, and why.

use serde::Serialize;

use crate::blueprint::{Blueprint, Setting};
use crate::environment::Environment;
use crate::manifest::Manifest;

/// A row of the standard's *Environment Configuration* table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// What is compared.
    pub setting: &'static str,
    /// Its value in development, staging and production.
    pub values: [String; 3],
    /// Why the values may differ; none: they may not.
    pub allowed: Option<&'static str>,
}

impl Row {
    /// Whether the environments differ.
    pub fn differs(&self) -> bool {
        self.values.iter().any(|v| *v != self.values[0])
    }

    /// Whether they differ though they may not.
    pub fn breaks_parity(&self) -> bool {
        self.differs() && self.allowed.is_none()
    }
}

/// The table for an app.
pub fn table(manifest: &Manifest) -> Vec<Row> {
    compare(&Environment::ALL.map(|e| Blueprint::new(manifest, e)))
}

/// The table for three blueprints: development, staging, production.
pub fn compare(environments: &[Blueprint; 3]) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut row = |setting, allowed, value: &dyn Fn(&Blueprint) -> String| {
        rows.push(Row { setting, values: [0, 1, 2].map(|i| value(&environments[i])), allowed });
    };
    let yes = |on: bool| if on { "yes" } else { "no" }.to_owned();

    // What the standard lets differ.
    row("App Service SKU", Some("cheaper SKUs, same architecture"), &|b| b.plans[0].sku.clone());
    row("Instances", Some("availability counts in production"), &|b| match &b.autoscale {
        Some(a) => format!("{} (min)", a.minimum),
        None => b.plans[0].instances.to_string(),
    });
    row("PostgreSQL SKU", Some("cheaper SKUs, same architecture"), &|b| b.postgres.sku.clone());
    row("PostgreSQL HA", Some("availability counts in production"), &|b| {
        if b.postgres.zone_redundant { "Zone-redundant" } else { "Disabled" }.to_owned()
    });
    row("Geo-redundant backup", Some("only production's data has to survive a region"), &|b| {
        yes(b.postgres.geo_redundant_backup)
    });
    row(
        "PgBouncer",
        Some("not offered on Burstable; pooling stays in the app (erratum 2)"),
        &|b| yes(b.postgres.pgbouncer),
    );
    row("Redis SKU", Some("cheaper SKUs, same architecture"), &|b| {
        format!(
            "{} {}{}",
            b.cache.sku,
            b.cache.family,
            if b.cache.capacity == 0 { String::new() } else { b.cache.capacity.to_string() }
        )
        .trim()
        .to_owned()
    });
    row("Purge protection", Some("a vault of development must be removable"), &|b| {
        yes(b.vault.purge_protection)
    });
    row("Deployment slots", Some("only production is swapped"), &|b| {
        yes(b.backend().staging().is_some())
    });
    row("Databases", Some("production's staging slot has its own"), &|b| {
        b.postgres.databases.len().to_string()
    });
    row("Auto-scale", Some("only production's load varies"), &|b| yes(b.autoscale.is_some()));
    row("Monitoring", Some("alerts are for what somebody gets up for"), &|b| {
        if !b.monitoring.action_groups.is_empty() {
            "Full + Alerts"
        } else if b.monitoring.site_logs.is_empty() {
            "Basic"
        } else {
            "Full"
        }
        .to_owned()
    });

    row("Custom domain", Some("users know production alone"), &|b| {
        b.domain.clone().unwrap_or_else(|| "no".to_owned())
    });
    row("Budget (USD a month)", Some("what is cheaper may cost less"), &|b| {
        b.budget.amount.to_string()
    });

    // What must be the same: the architecture.
    row("Azure OpenAI", None, &|b| match &b.openai {
        Some(o) => format!("{} {}", o.model, o.version),
        None => "no".to_owned(),
    });
    row("Front end", None, &|b| match &b.frontend {
        Some(f) => format!("Static Web App {}", f.sku),
        None => "App Service".to_owned(),
    });
    row("Runtime", None, &|b| b.backend().linux_fx_version.clone());
    row("Startup command", None, &|b| b.backend().startup.clone());
    row("Sites", None, &|b| {
        b.sites.iter().map(|s| format!("{:?}", s.role)).collect::<Vec<_>>().join(", ")
    });
    row("Subnets", None, &|b| {
        b.network.subnets.iter().map(|s| s.prefix.clone()).collect::<Vec<_>>().join(", ")
    });
    row("Security rules", None, &|b| {
        let rules: Vec<String> = b
            .network
            .subnets
            .iter()
            .map(|s| format!("{} {}", s.security_group.name, s.security_group.rules.len()))
            .collect();
        rules.join(", ")
    });
    row("Private endpoints", None, &|b| {
        b.private_endpoints.iter().map(|e| e.group.clone()).collect::<Vec<_>>().join(", ")
    });
    row("PostgreSQL version", None, &|b| b.postgres.version.clone());
    row("Kind of Redis", None, &|b| format!("{:?}, port {}", b.cache.kind, b.cache.port));
    row("Settings the app reads", None, &|b| {
        b.backend().settings.keys().cloned().collect::<Vec<_>>().join(" ")
    });
    row("Settings from the vault", None, &|b| {
        let secret = |(name, value): (&String, &Setting)| {
            matches!(value, Setting::Secret(_)).then(|| name.clone())
        };
        b.backend().settings.iter().filter_map(secret).collect::<Vec<_>>().join(" ")
    });
    row("WebSockets", None, &|b| yes(b.backend().websockets));
    row("Health check", None, &|b| b.backend().health_check_path.clone().unwrap_or_default());
    rows
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn manifest(cache: &str) -> Manifest {
        let source = format!(
            "app: notes\nlocation: westeurope\nbackend: {{ app: a:b, settings: {{ X: y }} }}\nworker: {{ run: w }}\nscheduler: {{ run: s }}\ncache: {cache}\nsecrets: [jwt-secret]\n"
        );
        Manifest::parse(&source, "x").unwrap()
    }

    #[test]
    fn environments_differ_only_where_they_may() {
        for cache in ["premium", "managed"] {
            let broken: Vec<_> =
                table(&manifest(cache)).into_iter().filter(Row::breaks_parity).collect();
            assert!(broken.is_empty(), "{broken:?}");
        }
    }

    /// The standard's own table.
    #[test]
    fn the_standards_table() {
        let rows = table(&manifest("premium"));
        for (setting, values) in [
            ("App Service SKU", ["B1", "P1v3", "P2v3"]),
            ("Instances", ["1", "1", "2 (min)"]),
            ("PostgreSQL SKU", ["Standard_B2ms", "Standard_D2ds_v5", "Standard_D4ds_v5"]),
            ("PostgreSQL HA", ["Disabled", "Disabled", "Zone-redundant"]),
            ("Redis SKU", ["Basic C1", "Premium P1", "Premium P1"]),
            ("Deployment slots", ["no", "no", "yes"]),
            ("Auto-scale", ["no", "no", "yes"]),
            ("Monitoring", ["Basic", "Full", "Full + Alerts"]),
        ] {
            let row = rows.iter().find(|r| r.setting == setting).unwrap();
            assert_eq!(row.values, values, "{setting}");
        }
    }

    #[test]
    fn a_feature_that_only_one_environment_has_breaks_parity() {
        let mut environments = Environment::ALL.map(|e| Blueprint::new(&manifest("premium"), e));
        environments[0].sites[0].settings.remove("REDIS_URL");
        environments[1].sites[0].startup.push_str(" --reload");
        let broken: Vec<_> = compare(&environments)
            .into_iter()
            .filter(Row::breaks_parity)
            .map(|r| r.setting)
            .collect();
        assert_eq!(
            broken,
            ["Startup command", "Settings the app reads", "Settings from the vault"]
        );
    }
}
