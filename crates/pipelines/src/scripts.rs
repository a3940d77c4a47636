//! The scripts that the pipelines run: each can be run by hand, and is.

use serde_json::{Value, json};

use crate::{HEADER, Source, fill};
use lazuli_standard::data::{compute, release};

pub(crate) fn render(source: &Source<'_>) -> Vec<(&'static str, String)> {
    let manifest = source.manifest;
    let mut files = vec![
        ("scripts/package.sh", script(PACKAGE, &[])),
        ("scripts/smoke.sh", script(SMOKE, &[])),
        ("scripts/terraform.sh", script(TERRAFORM, &[])),
        (
            "scripts/watch.sh",
            script(
                WATCH,
                &[
                    ("SECONDS", &release::WATCH.as_secs().to_string()),
                    ("RATE", &release::ROLLBACK_ERROR_RATE.to_string()),
                    ("WINDOW", &(release::ROLLBACK_WINDOW.as_secs() / 60).to_string()),
                    ("FAILURES", &compute::MAX_PING_FAILURES.to_string()),
                    ("HEALTH", &single(&manifest.backend.health)),
                ],
            ),
        ),
        ("smoke.json", smoke(source)),
        ("package.exclude", exclude(source)),
    ];
    if manifest.database.migrate.is_some() {
        files.push(("scripts/migrate.sh", script(MIGRATE, &[])));
    }
    files
}

fn script(body: &str, values: &[(&str, &str)]) -> String {
    format!("#!/usr/bin/env bash\n{HEADER}\n{}", fill(body.trim_start_matches('\n'), values))
}

/// A text in single quotes: nothing in it means anything to the shell.
fn single(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// What is asked of the staging slot before the swap: health, readiness, and the manifest's own.
fn smoke(source: &Source<'_>) -> String {
    let backend = &source.manifest.backend;
    let mut checks: Vec<Value> = Vec::new();
    for path in [&backend.health, &backend.readiness] {
        if !source.manifest.smoke.iter().any(|c| c.path == *path) {
            checks.push(json!({"path": path, "status": 200}));
        }
    }
    for check in &source.manifest.smoke {
        let mut item = json!({"path": check.path, "status": check.status});
        if let Some(members) = &check.json {
            item["json"] = Value::Object(members.clone());
        }
        checks.push(item);
    }
    let text = serde_json::to_string_pretty(&checks).unwrap_or_default();
    format!("{text}\n")
}

/// What is left out of the package, as in a `.gitignore`.
fn exclude(source: &Source<'_>) -> String {
    let mut out = format!("{HEADER}\n# Left out of the package, as in a .gitignore.\n");
    if !source.place.is_empty() {
        out.push_str(&format!("/{}/\n", source.place));
    }
    out.push_str("/lazuli.yaml\n.env\n.env.*\n");
    for pattern in &source.manifest.package.exclude {
        out.push_str(pattern);
        out.push('\n');
    }
    out
}

const PACKAGE: &str = r#"
# package.sh DIRECTORY ZIP: packs what git tracks, less package.exclude, plus the WebJobs of the
# manifest. The platform builds the dependencies. The same commit gives the same bytes.
set -euo pipefail
directory=$(realpath "$1") zip=$(realpath -m "$2")
root=$(git rev-parse --show-toplevel)
cd "$root"
app=$(mktemp -d)
trap 'rm -rf "$app"' EXIT
git archive HEAD | tar -x -C "$app"
git ls-files -z --cached --ignored --exclude-from="$directory/azure-pipelines/package.exclude" |
  (cd "$app" && xargs -0 -r rm -f --)
# What a step before this built: the front end that the web app serves.
if [ -n "${BUILT:-}" ]; then
  mkdir -p "$app/$BUILT"
  cp -R "$BUILT/." "$app/$BUILT/"
fi
if [ -d "$directory/azure-pipelines/package" ]; then
  cp -R "$directory/azure-pipelines/package/." "$app/"
  find "$app/App_Data" -name run.sh -exec chmod 755 {} +
fi
find "$app" -type d -empty -delete
find "$app" -exec touch -h -d '1980-01-02T00:00:00Z' {} +
mkdir -p "$(dirname "$zip")"
rm -f "$zip"
(cd "$app" && find . -type f -o -type l | LC_ALL=C sort | TZ=UTC zip -X -q "$zip" -@)
echo "$(sha256sum "$zip" | cut -d' ' -f1) $(stat -c %s "$zip") bytes, $(unzip -l "$zip" | tail -n1 | awk '{print $2}') files"
"#;

const SMOKE: &str = r#"
# smoke.sh URL: asks what smoke.json says, and fails unless it comes back. A site that has just been
# deployed may take its time to start: the first check waits up to four minutes for it.
set -euo pipefail
url=${1%/}
checks=$(dirname "$0")/../smoke.json
body=$(mktemp)
trap 'rm -f "$body"' EXIT
failed=0 wait=${SMOKE_WAIT:-240}
count=$(jq length "$checks")
for ((i = 0; i < count; i++)); do
  path=$(jq -r ".[$i].path" "$checks")
  want=$(jq -r ".[$i].status" "$checks")
  end=$((SECONDS + wait))
  while :; do
    got=$(curl -sS -o "$body" -w '%{http_code}' --max-time 60 "$url$path") || got=000
    [ "$got" != "$want" ] && [ "$SECONDS" -lt "$end" ] || break
    sleep 5
  done
  wait=0
  if [ "$got" != "$want" ]; then
    echo "FAILED $path: $got instead of $want"
    failed=1
  elif ! jq -e --slurpfile checks "$checks" ". as \$got | \$checks[0][$i].json // {} | to_entries | all(.value == \$got[.key])" "$body" >/dev/null 2>&1 &&
    jq -e ".[$i].json" "$checks" >/dev/null; then
    echo "FAILED $path: the answer is not $(jq -c ".[$i].json" "$checks")"
    failed=1
  else
    echo "ok $path: $got"
  fi
done
exit $failed
"#;

const MIGRATE: &str = r#"
# migrate.sh APP SLOT DATABASE: runs the slot's WebJob `migrate` (the manifest's database.migrate)
# inside the VNet and waits for its end. DATABASE is `staging` (the slot's own) or `production`.
set -euo pipefail
app=$1 slot=$2 database=$3
scm=https://$app-$slot.scm.azurewebsites.net
ask() { az rest --resource https://management.core.windows.net/ "$@"; }
before=$(ask --method get --url "$scm/api/triggeredwebjobs/migrate/history" --query 'runs[0].id' --output tsv)
ask --method post --url "$scm/api/triggeredwebjobs/migrate/run?arguments=$database" >/dev/null
for ((i = 0; i < 360; i++)); do
  sleep 5
  read -r id status log < <(ask --method get --url "$scm/api/triggeredwebjobs/migrate/history" \
    --query 'runs[0].[id,status,output_url]' --output tsv | paste -s -d ' ') || continue
  [ "$id" != "$before" ] || continue
  case $status in
    Success)
      ask --method get --url "$log"
      exit 0
      ;;
    Failed | Aborted)
      ask --method get --url "$log"
      echo "the migration of $database ended as $status: nothing was swapped" >&2
      exit 1
      ;;
  esac
done
echo "the migration of $database has not ended within 30 minutes" >&2
exit 1
"#;

const WATCH: &str = r#"
# watch.sh APP GROUP: watches production after a swap, and swaps back when it fails: 5xx above <<RATE>> %
# within <<WINDOW>> minutes, or <<FAILURES>> failed health checks in a row.
set -euo pipefail
app=$1 group=$2
health=<<HEALTH>>
site=$(az webapp show --name "$app" --resource-group "$group" --query id --output tsv)
total() {
  az monitor metrics list --resource "$site" --metric "$1" --aggregation Total --interval PT1M \
    --start-time "$from" --query 'sum(value[0].timeseries[0].data[].total || `[0]`)' --output tsv
}
rollback() {
  echo "$1: swapping back" >&2
  az webapp deployment slot swap --name "$app" --resource-group "$group" --slot staging --target-slot production
  echo "the previous version is back in production" >&2
  exit 1
}
began=$(date -u +%s) failures=0 unread=0
while [ $(($(date -u +%s) - began)) -lt "${WATCH_SECONDS:-<<SECONDS>>}" ]; do
  status=$(curl -sS -o /dev/null -w '%{http_code}' --max-time 30 "https://$app.azurewebsites.net$health") || status=000
  if [ "$status" = 200 ]; then failures=0; else failures=$((failures + 1)); fi
  echo "$(date -u +%H:%M:%S) health $status"
  [ "$failures" -lt <<FAILURES>> ] || rollback "<<FAILURES>> health checks in a row failed"
  # Only what came after the swap, and of that the last <<WINDOW>> minutes.
  oldest=$(($(date -u +%s) - <<WINDOW>> * 60))
  from=$(date -u -d "@$((oldest > began ? oldest : began))" +%Y-%m-%dT%H:%M:%SZ)
  # An answer that does not come is no answer of zero: a few may fail, and then somebody must look.
  if requests=$(total Requests) && errors=$(total Http5xx); then
    unread=0
  else
    requests=0 errors=0 unread=$((unread + 1))
    [ "$unread" -lt 5 ] || { echo "the metrics of production cannot be read: nobody watches it" >&2; exit 1; }
  fi
  if awk -v r="${requests:-0}" -v e="${errors:-0}" 'BEGIN { exit !(r >= 20 && 100 * e / r > <<RATE>>) }'; then
    rollback "${errors} of ${requests} requests failed"
  fi
  sleep 30
done
echo "production is healthy"
"#;

const TERRAFORM: &str = r#"
# terraform.sh plan|apply ENVIRONMENT DIRECTORY. Authenticates with the service connection's federated
# token, which the task puts into idToken, servicePrincipalId and tenantId.
set -euo pipefail
action=$1 environment=$2 directory=$3
if [ -n "${idToken:-}" ]; then
  export ARM_USE_OIDC=true ARM_OIDC_TOKEN=$idToken ARM_CLIENT_ID=$servicePrincipalId ARM_TENANT_ID=$tenantId
  ARM_SUBSCRIPTION_ID=$(az account show --query id --output tsv)
  export ARM_SUBSCRIPTION_ID
fi
export TF_IN_AUTOMATION=true TF_INPUT=0
terraform -chdir="$directory" fmt -check -recursive
terraform -chdir="$directory" init -reconfigure -backend-config="environments/$environment.tfbackend"
terraform -chdir="$directory" validate
plan=$(mktemp)
# A plan may hold what is sensitive: it does not leave the agent.
trap 'rm -f "$plan"' EXIT
terraform -chdir="$directory" plan -var-file="environments/$environment.tfvars" -lock-timeout=10m -out="$plan"
if [ "$action" = apply ]; then
  terraform -chdir="$directory" apply -lock-timeout=10m "$plan"
fi
"#;
