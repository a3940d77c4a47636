//! WebJobs that a package carries: what must run inside the app's own network, because nothing
//! else reaches the database (ERRATA 21), and background processes of low volume.
//!
//! <https://learn.microsoft.com/azure/app-service/webjobs-create>

use crate::manifest::Manifest;

/// A file of a WebJob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebJobFile {
    /// Where it lies in the package.
    pub path: &'static str,
    /// What it holds.
    pub content: String,
    /// Whether it is run.
    pub executable: bool,
}

/// Where the migration lies in a package.
pub const MIGRATE: &str = "App_Data/jobs/triggered/migrate/run.sh";

/// The files of an app's WebJobs, in the order of their paths.
pub fn files(manifest: &Manifest) -> Vec<WebJobFile> {
    let script = |path, content| WebJobFile { path, content, executable: true };
    let mut files = Vec::new();
    if let Some(process) = manifest.scheduler.as_ref().filter(|p| p.webjob) {
        let path = "App_Data/jobs/continuous/scheduler/run.sh";
        files.push(script(path, continuous_script(&process.run)));
        files.push(WebJobFile {
            path: "App_Data/jobs/continuous/scheduler/settings.job",
            // ERRATA 25: that is where the platform looks for it.
            content: "{\n  \"is_singleton\": true\n}\n".to_owned(),
            executable: false,
        });
    }
    if let Some(process) = manifest.worker.as_ref().filter(|p| p.webjob) {
        let path = "App_Data/jobs/continuous/worker/run.sh";
        files.push(script(path, continuous_script(&process.run)));
    }
    if let Some(command) = &manifest.database.migrate {
        files.push(script(MIGRATE, migrate_script(command)));
        files.push(WebJobFile {
            path: "App_Data/jobs/triggered/migrate/trial.py",
            // Tries the migrations on a copy of the slot's database.
            content: include_str!("trial.py").to_owned(),
            executable: false,
        });
    }
    files
}

/// A continuous WebJob. The staging slot has the same content and the same Redis: a second worker
/// there would take production's tasks with code that nobody has released, so it waits.
fn continuous_script(command: &str) -> String {
    format!(
        r#"#!/usr/bin/env bash
# Written by lazuli: a background process of the manifest, as a WebJob.
set -euo pipefail
if [ -n "${{WEBSITE_SLOT_NAME:-}}" ] && [ "${{WEBSITE_SLOT_NAME,,}}" != production ]; then
  echo "not started: this is the slot $WEBSITE_SLOT_NAME"
  exec sleep infinity
fi
cd "${{WEBROOT_PATH:-/home/site/wwwroot}}"
# Where the platform's build put the dependencies, unless it activated them already.
if [ -z "${{VIRTUAL_ENV:-}}" ]; then
  for environment in antenv .venv; do
    if [ -f "$environment/bin/activate" ]; then
      . "$environment/bin/activate"
      break
    fi
  done
fi
exec {command}
"#
    )
}

/// The WebJob that migrates the database its argument names.
///
/// It runs in the slot's own environment, where `MIGRATION_DATABASE_URL` is that slot's database;
/// the staging slot also holds production's, under a name of its own, because production is migrated
/// by the new code before the swap.
pub fn migrate_script(command: &str) -> String {
    let quoted = ["'", &command.replace('\'', r"'\''"), "'"].concat();
    format!(
        r#"#!/usr/bin/env bash
# Written by lazuli: the manifest's database.migrate, run inside the app's network.
# Argument: staging (this slot's database), production, or trial (a copy of this slot's database).
set -euo pipefail
case "${{1:-}}" in
  "" | staging | slot | trial) ;;
  production)
    # Without a staging slot this is the production database already.
    if [ -n "${{PRODUCTION_MIGRATION_DATABASE_URL:-}}" ]; then
      export MIGRATION_DATABASE_URL="$PRODUCTION_MIGRATION_DATABASE_URL"
    elif [ -n "${{WEBSITE_SLOT_NAME:-}}" ] && [ "${{WEBSITE_SLOT_NAME,,}}" != production ]; then
      echo "migrate: this slot has no PRODUCTION_MIGRATION_DATABASE_URL" >&2
      exit 64
    fi
    ;;
  *) echo "migrate: unknown database '$1': expected staging, production or trial" >&2; exit 64 ;;
esac
case "${{MIGRATION_DATABASE_URL:-}}" in
  "") echo "migrate: MIGRATION_DATABASE_URL is not set" >&2; exit 64 ;;
  @Microsoft.KeyVault*) echo "migrate: the Key Vault reference in MIGRATION_DATABASE_URL was not resolved" >&2; exit 65 ;;
esac
here=$(cd "$(dirname "$0")" && pwd)
cd "${{WEBROOT_PATH:-/home/site/wwwroot}}"
# Where the platform's build put the dependencies, unless it activated them already.
if [ -z "${{VIRTUAL_ENV:-}}" ]; then
  for environment in antenv .venv; do
    if [ -f "$environment/bin/activate" ]; then
      . "$environment/bin/activate"
      break
    fi
  done
fi
echo "migrate: ${{1:-staging}}"
if [ "${{1:-}}" = trial ]; then
  LAZULI_MIGRATE={quoted} exec python "$here/trial.py"
fi
{command}
"#
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_without_webjobs_has_none_and_the_others_come_in_order() {
        let with = |more: &str| {
            let source =
                format!("app: notes\nlocation: westeurope\nbackend: {{ app: a:b }}\n{more}");
            files(&Manifest::parse(&source, "x").unwrap())
        };
        assert!(with("worker: { run: w }\n").is_empty());
        let all = with(
            "worker: { run: w, webjob: true }\nscheduler: { run: s, webjob: true }\ndatabase: { migrate: m }\n",
        );
        assert!(all.is_sorted_by_key(|f| f.path));
        // Two continuous jobs with their settings, the migration and its trial.
        assert_eq!(all.len(), 5);
        assert!(all[0].content.ends_with("exec s\n"), "{}", all[0].content);
        assert!(all[1].content.contains("is_singleton"));
    }
}
