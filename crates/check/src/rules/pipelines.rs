//! Azure Pipelines.

use lazuli_hcl::{Span, Value};

use crate::project::{Job, Pipeline, Step};
use crate::rule::{
    Check, Rule,
    Severity::{Error, Note, Warning},
};

const CI: &str = "CI Pipeline";
const CD: &str = "CD Pipeline";

fn is_swap(s: &Step) -> bool {
    s.task() == Some("AzureAppServiceManage")
        && s.input("Action").is_none_or(|a| a.known_text().eq_ignore_ascii_case("Swap Slots"))
        || s.script().is_some_and(|(v, _)| v.known_text().contains("deployment slot swap"))
}

fn is_deploy(s: &Step) -> bool {
    matches!(s.task(), Some("AzureWebApp" | "AzureRmWebAppDeployment"))
        || s.script().is_some_and(|(v, _)| {
            let t = v.known_text();
            t.contains("az webapp deploy ") || t.contains("config-zip")
        })
}

fn slot_of(s: &Step) -> Option<String> {
    s.input("slotName").map(Value::known_text).or_else(|| {
        let (v, _) = s.script()?;
        let t = v.known_text();
        let after = t.split("--slot").nth(1)?;
        Some(after.trim_start_matches(['=', ' ']).split_whitespace().next()?.to_owned())
    })
}

fn migrates(t: &str) -> bool {
    ["alembic upgrade", "flask db upgrade", "manage.py migrate"].iter().any(|w| t.contains(w))
}

/// Every step with its job, in the order they run.
pub(super) fn steps(p: &Pipeline) -> impl Iterator<Item = (&Job, &Step)> {
    p.jobs.iter().flat_map(|j| j.steps.iter().map(move |s| (j, s)))
}

pub(super) fn scripts(p: &Pipeline) -> impl Iterator<Item = (&Job, &Step, &Value, bool)> {
    steps(p).filter_map(|(j, s)| s.script().map(|(v, bash)| (j, s, v, bash)))
}

fn line_of(p: &Pipeline, v: &Value, needle: &str) -> Span {
    p.lines(v).into_iter().find(|l| l.text.contains(needle)).map_or(v.span, |l| l.span)
}

const GOOD_CD: &str = r"trigger:
  branches:
    include: [main]
pool:
  vmImage: ubuntu-latest
stages:
  - stage: Deploy
    jobs:
      - deployment: Deploy
        environment: staging
        strategy:
          runOnce:
            deploy:
              steps:
                - task: AzureWebApp@1
                  inputs:
                    appName: notes
                    deployToSlotOrASE: true
                    slotName: staging
                    package: app.zip
  - stage: Smoke
    jobs:
      - job: Smoke
        steps:
          - script: curl -fsS https://notes-staging.azurewebsites.net/health
  - stage: Swap
    jobs:
      - deployment: Swap
        environment: production
        strategy:
          runOnce:
            deploy:
              steps:
                - task: AzureAppServiceManage@0
                  inputs:
                    Action: Swap Slots
                    WebAppName: notes
                    SourceSlot: staging
  - stage: Watch
    jobs:
      - job: Watch
        steps:
          - script: python scripts/watch.py --minutes 15 --rollback
";

macro_rules! steps {
    ($s:literal) => {
        concat!("trigger: [main]\npool:\n  vmImage: ubuntu-latest\nsteps:\n", $s)
    };
}

pub(crate) static RULES: &[Rule] = &[
    Rule {
        id: "LZ-PIP-001",
        section: "Migrations",
        erratum: None,
        severity: Error,
        title: "Migrations run before the swap",
        why: "After the swap the new version already serves on the old schema; a migration that fails then is an outage.",
        fix: "Move the migration before the deployment to the staging slot.",
        bad: &[(
            "azure-pipelines/cd.yml",
            steps!(
                "  - task: AzureAppServiceManage@0\n    inputs:\n      Action: Swap Slots\n  - script: alembic upgrade head\n"
            ),
        )],
        good: &[(
            "azure-pipelines/cd.yml",
            steps!(
                "  - script: alembic upgrade head\n  - task: AzureAppServiceManage@0\n    inputs:\n      Action: Swap Slots\n"
            ),
        )],
        check: Check::Pipeline(|p, o| {
            let mut swapped = None;
            for (_, s) in steps(p) {
                if is_swap(s) {
                    swapped.get_or_insert(s.span);
                }
                if let Some((v, _)) = s.script().filter(|(v, _)| migrates(&v.known_text())) {
                    match swapped {
                        Some(at) => {
                            o.at(line_of(p, v, "upgrade"), "this migration runs after the swap")
                                .label(at, "the swap");
                        }
                        None => o.judged(),
                    }
                }
            }
        }),
    },
    Rule {
        id: "LZ-PIP-002",
        section: CD,
        erratum: Some(17),
        severity: Error,
        title: "A deployment job that needs the repository checks it out",
        why: "Deployment jobs check nothing out: `requirements.txt` and `alembic.ini` are not there.",
        fix: "Add `- checkout: self`, or unpack the artifact.",
        bad: &[(
            "azure-pipelines/cd.yml",
            "pool:\n  vmImage: ubuntu-latest\njobs:\n  - deployment: Migrate\n    environment: staging\n    strategy:\n      runOnce:\n        deploy:\n          steps:\n            - script: pip install -r requirements.txt\n",
        )],
        good: &[(
            "azure-pipelines/cd.yml",
            "pool:\n  vmImage: ubuntu-latest\njobs:\n  - deployment: Migrate\n    environment: staging\n    strategy:\n      runOnce:\n        deploy:\n          steps:\n            - checkout: self\n            - script: pip install -r requirements.txt\n",
        )],
        check: Check::Pipeline(|p, o| {
            for j in p.jobs.iter().filter(|j| j.deployment && !j.partial) {
                let mut here = false;
                for s in &j.steps {
                    here |= s.kind == "checkout" && s.value.as_str() != Some("none");
                    let Some((v, _)) = s.script() else {
                        here |= matches!(s.task(), Some("ExtractFiles"));
                        continue;
                    };
                    let t = v.known_text();
                    here |= t.contains("unzip ") || t.contains("git clone") || t.contains("tar x");
                    let needs = [
                        "-r requirements",
                        "alembic ",
                        "pytest",
                        "terraform -chdir",
                        "python scripts/",
                        "bash scripts/",
                        "./scripts/",
                    ]
                    .into_iter()
                    .find(|w| t.contains(w));
                    match needs {
                        Some(w) if !here => {
                            o.at(
                                line_of(p, v, w),
                                "a deployment job checks nothing out: this file is not there",
                            )
                            .label(j.span, "the deployment job");
                        }
                        Some(_) => o.judged(),
                        None => {}
                    }
                }
            }
        }),
    },
    Rule {
        id: "LZ-PIP-003",
        section: CD,
        erratum: Some(20),
        severity: Warning,
        title: "A script stops at its first failure",
        why: "Bash in a multi-line `script:` goes on after a failing command: the step's result is the last one's alone.",
        fix: "Begin it with `set -euo pipefail`.",
        bad: &[(
            "azure-pipelines/ci.yml",
            steps!("  - script: |\n      black --check .\n      flake8 .\n"),
        )],
        good: &[(
            "azure-pipelines/ci.yml",
            steps!(
                "  - script: |\n      set -euo pipefail\n      black --check .\n      flake8 .\n"
            ),
        )],
        check: Check::Pipeline(|p, o| {
            for (_, s, v, bash) in scripts(p) {
                if !bash {
                    continue;
                }
                // `bash:` steps and the Bash task run with the same shell, and the same gap.
                let mut commands = 0;
                let mut joined = false;
                let mut depth = 0i32;
                let lines = p.lines(v);
                for l in &lines {
                    if l.text.starts_with('#') {
                        continue;
                    }
                    let continued = joined;
                    joined = l.text.ends_with('\\')
                        || l.text.ends_with("&&")
                        || l.text.ends_with("||")
                        || l.text.ends_with('|');
                    let first = l.text.split_whitespace().next().unwrap_or("");
                    if matches!(first, "fi" | "done" | "esac") {
                        depth -= 1;
                    }
                    if !continued && depth == 0 {
                        commands += 1;
                    }
                    if matches!(first, "if" | "for" | "while" | "until" | "case")
                        && !l.text.contains("; fi")
                        && !l.text.ends_with(" done")
                        && !l.text.ends_with(" fi")
                    {
                        depth += 1;
                    }
                }
                let safe = lines.iter().any(|l| {
                    let t = l.text;
                    t.starts_with("set -")
                        && t.split_whitespace().nth(1).is_some_and(|f| f.contains('e'))
                        || t == "set -o errexit"
                });
                if commands < 2 || safe {
                    o.judged();
                    continue;
                }
                // Only echoes before the last command: nothing can be swallowed.
                let all: Vec<&str> = lines.iter().map(|l| l.text).collect();
                if all.len() > 1
                    && all[..all.len() - 1].iter().all(|t| {
                        t.starts_with("echo ")
                            || t.starts_with("export ")
                            || t.starts_with('#')
                            || t.starts_with("source ")
                    })
                    && !all[..all.len() - 1].iter().any(|t| t.starts_with("source "))
                {
                    o.judged();
                    continue;
                }
                let at = lines.first().map_or(s.span, |l| l.span);
                let indent = " ".repeat(
                    lines
                        .first()
                        .map_or(0, |l| p.sources.get(l.span.file).line_column(l.span.start).1 - 1),
                );
                let block = p.sources.text(v.span).trim_start().starts_with('|');
                let f = o.at(at, "a failing command here does not fail the step: no `set -e`");
                if block {
                    f.edit(Span { end: at.start, ..at }, format!("set -euo pipefail\n{indent}"));
                }
            }
        }),
    },
    Rule {
        id: "LZ-PIP-004",
        section: CI,
        erratum: Some(18),
        severity: Warning,
        title: "Test results that are published are also written",
        why: "pytest writes JUnit XML only with `--junitxml`: the step publishes nothing, and with `condition: always()` says so in a warning nobody reads.",
        fix: "Add `--junitxml=test-results.xml` to pytest.",
        bad: &[(
            "azure-pipelines/ci.yml",
            steps!(
                "  - script: pytest\n  - task: PublishTestResults@2\n    inputs:\n      testResultsFiles: '**/test-results.xml'\n"
            ),
        )],
        good: &[(
            "azure-pipelines/ci.yml",
            steps!(
                "  - script: pytest --junitxml=test-results.xml\n  - task: PublishTestResults@2\n    inputs:\n      testResultsFiles: '**/test-results.xml'\n"
            ),
        )],
        check: Check::Pipeline(|p, o| {
            for (j, s) in steps(p) {
                if s.task() != Some("PublishTestResults") || j.partial {
                    continue;
                }
                let tests: Vec<&Value> = j
                    .steps
                    .iter()
                    .filter_map(|s| s.script())
                    .map(|(v, _)| v)
                    .filter(|v| runs(&v.known_text(), "pytest"))
                    .collect();
                if tests.is_empty() {
                    continue;
                }
                let written = tests.iter().any(|v| {
                    let t = v.known_text();
                    t.contains("junit") || t.contains("--config") || t.contains(" -c ")
                });
                if written {
                    o.judged();
                } else {
                    o.at(s.value.span, "nothing writes this file: pytest needs `--junitxml`")
                        .label(line_of(p, tests[0], "pytest"), "the tests")
                        .absent();
                }
            }
        }),
    },
    Rule {
        id: "LZ-PIP-005",
        section: CD,
        erratum: Some(19),
        severity: Warning,
        title: "The package holds the app alone",
        why: "The build directory after `uv venv` holds a `.venv` with the agent's absolute paths, tests and VCS data: none of it works on App Service, all of it is shipped.",
        fix: "Archive a directory that holds the app alone, and let the platform build (`SCM_DO_BUILD_DURING_DEPLOYMENT=true`).",
        bad: &[(
            "azure-pipelines/cd.yml",
            steps!(
                "  - script: uv venv\n  - task: ArchiveFiles@2\n    inputs:\n      rootFolderOrFile: '$(Build.SourcesDirectory)'\n      archiveFile: '$(Build.ArtifactStagingDirectory)/app.zip'\n"
            ),
        )],
        good: &[(
            "azure-pipelines/cd.yml",
            steps!(
                "  - script: uv venv\n  - task: ArchiveFiles@2\n    inputs:\n      rootFolderOrFile: '$(Build.ArtifactStagingDirectory)/app'\n      archiveFile: '$(Build.ArtifactStagingDirectory)/app.zip'\n"
            ),
        )],
        check: Check::Pipeline(|p, o| {
            for j in &p.jobs {
                let mut venv = None;
                for s in &j.steps {
                    if let Some((v, _)) = s.script() {
                        let t = v.known_text();
                        if t.contains("uv venv")
                            || t.contains("-m venv")
                            || t.contains("uv sync")
                            || t.contains("virtualenv")
                        {
                            venv.get_or_insert(line_of(p, v, "venv"));
                        }
                    }
                    if s.task() == Some("ArchiveFiles") {
                        let Some(v) = s.input("rootFolderOrFile") else { continue };
                        let whole = matches!(
                            v.known_text().trim_end_matches('/'),
                            "$(Build.SourcesDirectory)"
                                | "$(System.DefaultWorkingDirectory)"
                                | "."
                                | "$(Pipeline.Workspace)/s"
                        );
                        match venv {
                            Some(at) if whole => {
                                o.at(v.span, "the package carries the agent's virtual environment")
                                    .label(at, "made here");
                            }
                            _ => o.judged(),
                        }
                    }
                }
            }
        }),
    },
    Rule {
        id: "LZ-PIP-006",
        section: CD,
        erratum: Some(21),
        severity: Error,
        title: "No Microsoft-hosted agent reads the vault or the database",
        why: "Both have private endpoints only: an agent on the internet cannot reach them.",
        fix: "Run it inside the VNet: on the app itself (a triggered WebJob), or on a self-hosted agent.",
        bad: &[(
            "azure-pipelines/cd.yml",
            steps!(
                "  - task: AzureCLI@2\n    inputs:\n      scriptType: bash\n      scriptLocation: inlineScript\n      inlineScript: az keyvault secret show --vault-name notes-kv --name notes-db-connection-string\n"
            ),
        )],
        good: &[(
            "azure-pipelines/cd.yml",
            "trigger: [main]\npool: notes-vnet-agents\nsteps:\n  - task: AzureCLI@2\n    inputs:\n      scriptType: bash\n      scriptLocation: inlineScript\n      inlineScript: az keyvault secret show --vault-name notes-kv --name notes-db-connection-string\n",
        )],
        check: Check::Pipeline(|p, o| {
            for (j, s) in steps(p) {
                let hosted = j.pool.as_ref().is_some_and(|v| {
                    v.as_map().is_some_and(|m| m.get("vmImage").is_some())
                        || v.as_str().is_some_and(|t| t == "Azure Pipelines")
                });
                let hit = match s.script() {
                    Some((v, _)) if v.known_text().contains("az keyvault secret ") => {
                        Some(line_of(p, v, "az keyvault secret "))
                    }
                    _ if s.task() == Some("AzureKeyVault") => Some(s.value.span),
                    _ => None,
                };
                match hit {
                    Some(at) if hosted => {
                        o.at(at, "a Microsoft-hosted agent does not reach a vault that has a private endpoint only");
                    }
                    Some(_) => o.judged(),
                    None => {}
                }
            }
        }),
    },
    Rule {
        id: "LZ-PIP-007",
        section: "Secrets: Azure Key Vault",
        erratum: None,
        severity: Error,
        title: "No secret is printed",
        why: "Logs are kept, searched and shared; masking covers only what Azure DevOps knows to be secret, and only as it is.",
        fix: "Remove the `echo`; do not run `set -x` or `printenv` where secrets are.",
        bad: &[("azure-pipelines/cd.yml", steps!("  - script: echo \"using $(DB_PASSWORD)\"\n"))],
        good: &[("azure-pipelines/cd.yml", steps!("  - script: echo \"using the database\"\n"))],
        check: Check::Pipeline(|p, o| {
            for (_, _, v, _) in scripts(p) {
                for l in p.lines(v) {
                    // The command of the line that prints: the first, or one after `&&`.
                    let prints = |t: &str| {
                        ["echo ", "printf ", "Write-Host "].iter().any(|w| t.starts_with(w))
                    };
                    let printed = if prints(l.text) {
                        Some(l.text)
                    } else {
                        l.text.split("&&").map(str::trim_start).find(|t| prints(t))
                    };
                    let printing = printed.is_some();
                    // Into a file or another command it is not printed; a logging command sets a secret.
                    let elsewhere = l.text.contains('>')
                        || l.text.contains('|')
                        || l.text.contains("##vso[task.setvariable");
                    let names = printed.unwrap_or(l.text).split(|c: char| {
                        !(c.is_ascii_alphanumeric() || c == '_' || c == '$' || c == '(' || c == '{')
                    });
                    let secret = names
                        .filter_map(|w| w.strip_prefix('$'))
                        .map(|w| w.trim_start_matches(['(', '{']))
                        .find(|w| {
                            super::vault::secret_name(w)
                                || w.to_ascii_uppercase().ends_with("CONNECTION_STRING")
                        });
                    match secret {
                        Some(w) if printing && !elsewhere => {
                            o.at(l.span, format!("`{w}` is printed into the log"));
                        }
                        Some(_) => o.judged(),
                        None if matches!(
                            l.text,
                            "printenv" | "env" | "env | sort" | "printenv | sort"
                        ) =>
                        {
                            o.at(l.span, "every variable is printed into the log");
                        }
                        None => {}
                    }
                }
            }
        }),
    },
    Rule {
        id: "LZ-PIP-008",
        section: "Pre-Deployment",
        erratum: None,
        severity: Error,
        title: "Production is changed by a deployment job with an environment",
        why: "Approvals, checks and the history of who released what hang on the `environment`; a plain `job` has none.",
        fix: "Use `deployment:` with `environment: production`, and put the approval on that environment.",
        bad: &[(
            "azure-pipelines/cd.yml",
            "pool:\n  vmImage: ubuntu-latest\njobs:\n  - job: Swap\n    steps:\n      - task: AzureAppServiceManage@0\n        inputs:\n          Action: Swap Slots\n",
        )],
        good: &[("azure-pipelines/cd.yml", GOOD_CD)],
        check: Check::Pipeline(|p, o| {
            for (j, s) in steps(p) {
                if !is_swap(s) || p.partial {
                    continue;
                }
                if j.environment.is_some() {
                    o.judged();
                } else {
                    o.at(s.value.span, "production is changed without an `environment`: nobody is asked to approve").label(j.span, "in this job").absent();
                }
            }
        }),
    },
    Rule {
        id: "LZ-PIP-009",
        section: "Deployment Slots",
        erratum: None,
        severity: Error,
        title: "Staging is tested before the swap",
        why: "The swap is the moment of no return for users; the smoke test is what makes it safe.",
        fix: "Ask `/health` and `/health/ready` of the staging slot between deployment and swap, and fail on anything but 200.",
        bad: &[(
            "azure-pipelines/cd.yml",
            steps!(
                "  - task: AzureWebApp@1\n    inputs:\n      slotName: staging\n      deployToSlotOrASE: true\n  - task: AzureAppServiceManage@0\n    inputs:\n      Action: Swap Slots\n"
            ),
        )],
        good: &[("azure-pipelines/cd.yml", GOOD_CD)],
        check: Check::Pipeline(|p, o| {
            let mut deployed = None;
            for (_, s) in steps(p) {
                if is_deploy(s) {
                    deployed = Some(s.value.span);
                }
                if s.script().is_some_and(|(v, _)| tests_http(&v.known_text())) {
                    deployed = None;
                }
                if is_swap(s) {
                    match deployed {
                        Some(at) => {
                            o.at(
                                s.value.span,
                                "nothing tests staging between its deployment and this swap",
                            )
                            .label(at, "the deployment")
                            .absent();
                        }
                        None => o.judged(),
                    }
                }
            }
        }),
    },
    Rule {
        id: "LZ-PIP-010",
        section: "Rollback Trigger",
        erratum: Some(27),
        severity: Warning,
        title: "Something watches after the swap, and rolls back",
        why: "The checklist's triggers (5xx above 5 % within 10 minutes, failing health) need somebody who looks: a pipeline that ends with the swap looks at nothing.",
        fix: "Add a stage that watches for 15 minutes and swaps back (`lazuli deploy` does).",
        bad: &[(
            "azure-pipelines/cd.yml",
            steps!(
                "  - script: curl -fsS https://notes-staging.azurewebsites.net/health\n  - task: AzureAppServiceManage@0\n    inputs:\n      Action: Swap Slots\n"
            ),
        )],
        good: &[("azure-pipelines/cd.yml", GOOD_CD)],
        check: Check::Pipeline(|p, o| {
            if p.partial {
                return;
            }
            let all: Vec<(&Job, &Step)> = steps(p).collect();
            let Some(at) = all.iter().rposition(|(_, s)| is_swap(s)) else { return };
            if all[at + 1..].iter().any(|(_, s)| {
                s.script().is_some_and(|(v, _)| {
                    let t = v.known_text();
                    tests_http(&t)
                        || t.contains("watch")
                        || t.contains("monitor")
                        || t.contains("app-insights query")
                        || t.contains("rollback")
                })
            }) {
                o.judged();
            } else {
                o.at(
                    all[at].1.value.span,
                    "nothing watches after this swap: no failure triggers the rollback",
                )
                .absent();
            }
        }),
    },
    Rule {
        id: "LZ-PIP-011",
        section: "Deployment Slots",
        erratum: None,
        severity: Error,
        title: "A release goes to the staging slot",
        why: "Deployed straight to production it restarts what serves, untested, and the way back is another deployment.",
        fix: "Set `deployToSlotOrASE: true`, `slotName: staging`, then swap.",
        bad: &[(
            "azure-pipelines/cd.yml",
            "trigger: [main]\nstages:\n  - stage: Production\n    jobs:\n      - deployment: Deploy\n        environment: production\n        strategy:\n          runOnce:\n            deploy:\n              steps:\n                - task: AzureWebApp@1\n                  inputs:\n                    appName: notes\n                    package: app.zip\n",
        )],
        good: &[("azure-pipelines/cd.yml", GOOD_CD)],
        check: Check::Pipeline(|p, o| {
            for (j, s) in steps(p) {
                if !is_deploy(s) {
                    continue;
                }
                let where_to = format!(
                    "{} {}",
                    j.stage,
                    j.environment
                        .as_ref()
                        .map(|e| e
                            .as_map()
                            .and_then(|m| m.get("name"))
                            .map_or_else(|| e.known_text(), Value::known_text))
                        .unwrap_or_default()
                );
                let prod =
                    crate::project::environment_of(&where_to.replace(char::is_uppercase, " "))
                        .or_else(|| crate::project::environment_of(&where_to))
                        == Some(lazuli_standard::Environment::Prod);
                // Workers and schedulers have no slot: they answer no users.
                let worker = s.input("appName").map(Value::known_text).unwrap_or_default();
                let worker = worker.contains("worker") || worker.contains("scheduler");
                match slot_of(s) {
                    Some(n) if n != "production" => o.judged(),
                    _ if prod && !worker => {
                        o.at(s.value.span, "this deploys straight into production: no slot, no smoke test, no swap back");
                    }
                    _ => {}
                }
            }
        }),
    },
    Rule {
        id: "LZ-PIP-012",
        section: CI,
        erratum: None,
        severity: Error,
        title: "A failing check fails the pipeline",
        why: "`|| true` and `continueOnError` turn a gate into a decoration.",
        fix: "Remove it; make the check pass, or remove the check.",
        bad: &[("azure-pipelines/ci.yml", steps!("  - script: pytest || true\n"))],
        good: &[("azure-pipelines/ci.yml", steps!("  - script: pytest --junitxml=r.xml\n"))],
        check: Check::Pipeline(|p, o| {
            for (_, s, v, _) in scripts(p) {
                let t = v.known_text();
                let gate = [
                    "pytest",
                    "mypy",
                    "flake8",
                    "black",
                    "ruff",
                    "isort",
                    "alembic upgrade",
                    "pip-audit",
                    "bandit",
                    "terraform plan",
                    "lazuli check",
                ]
                .into_iter()
                .find(|g| runs(&t, g));
                let Some(gate) = gate else { continue };
                for l in p.lines(v) {
                    if runs(l.text, gate)
                        && (l.text.ends_with("|| true")
                            || l.text.ends_with("|| exit 0")
                            || l.text.ends_with("|| :"))
                    {
                        o.at(l.span, format!("{gate} cannot fail"));
                    }
                }
                match s.body.entry("continueOnError") {
                    Some(e) if e.value.as_bool() == Some(true) => {
                        o.entry(e, format!("{gate} cannot fail the pipeline"));
                    }
                    _ => o.judged(),
                }
            }
        }),
    },
    Rule {
        id: "LZ-PIP-013",
        section: "Terraform in CI/CD",
        erratum: None,
        severity: Error,
        title: "Terraform is planned on pull requests and applied after the merge",
        why: "An apply without review changes production from a branch.",
        fix: "Plan on `pr`, apply on `main` in a deployment job with an environment.",
        bad: &[(
            "azure-pipelines/infra.yml",
            "pr: [main]\ntrigger: none\nsteps:\n  - script: terraform apply -auto-approve\n",
        )],
        good: &[(
            "azure-pipelines/infra.yml",
            "pr: [main]\ntrigger: none\nsteps:\n  - script: terraform plan\n",
        )],
        check: Check::Pipeline(|p, o| {
            let Some(m) = p.document.as_map() else { return };
            let off = |k: &str| m.get(k).and_then(Value::as_str) == Some("none");
            let pull_only = m.get("pr").is_some() && !off("pr") && off("trigger");
            for (_, s, v, _) in scripts(p) {
                let t = v.known_text();
                if t.contains("terraform plan") {
                    o.judged();
                }
                if !(t.contains("terraform apply") || t.contains("terraform destroy")) {
                    continue;
                }
                let conditional = s.body.get("condition").is_some();
                if pull_only && !conditional {
                    o.at(line_of(p, v, "terraform "), "this applies what nobody has merged yet");
                } else if t.contains("terraform destroy")
                    && t.contains("-auto-approve")
                    && m.get("trigger").is_some()
                    && !off("trigger")
                    && !conditional
                {
                    o.at(line_of(p, v, "terraform destroy"), "every merge destroys what was built");
                } else {
                    o.judged();
                }
            }
        }),
    },
    Rule {
        id: "LZ-PIP-014",
        section: CI,
        erratum: None,
        severity: Note,
        title: "CI runs on the standard's Python",
        why: "Tests that pass on another version say nothing about production.",
        fix: "Set `versionSpec: '3.14'`.",
        bad: &[(
            "azure-pipelines/ci.yml",
            steps!("  - task: UsePythonVersion@0\n    inputs:\n      versionSpec: '3.10'\n"),
        )],
        good: &[(
            "azure-pipelines/ci.yml",
            steps!("  - task: UsePythonVersion@0\n    inputs:\n      versionSpec: '3.14'\n"),
        )],
        check: Check::Pipeline(|p, o| {
            let judge = |v: &Value, o: &mut crate::rule::Sink<'_>| {
                let t = v.known_text();
                let t = t.rsplit('|').next().unwrap_or(&t);
                if t.contains('$') {
                    return;
                }
                match super::app::minor(t) {
                    Some(m)
                        if m < super::app::minor(&lazuli_standard::data::compute::PYTHON)
                            .unwrap_or(14) =>
                    {
                        o.at(
                            v.span,
                            format!(
                                "Python {t}: production runs {}",
                                *lazuli_standard::data::compute::PYTHON
                            ),
                        );
                    }
                    Some(_) => o.judged(),
                    None => {}
                }
            };
            for (_, s) in steps(p) {
                if s.task() == Some("UsePythonVersion")
                    && let Some(v) = s.input("versionSpec")
                {
                    judge(v, o);
                }
                if let Some(v) =
                    s.input("runtimeStack").filter(|v| v.known_text().starts_with("PYTHON"))
                {
                    judge(v, o);
                }
            }
        }),
    },
    Rule {
        id: "LZ-PIP-015",
        section: "Deployment",
        erratum: None,
        severity: Warning,
        title: "A smoke test fails when the app does",
        why: "`curl` without `--fail` exits 0 for a 500.",
        fix: "Write `curl -fsS`, or compare `%{http_code}`.",
        bad: &[(
            "azure-pipelines/cd.yml",
            steps!("  - script: curl -s https://notes-staging.azurewebsites.net/health\n"),
        )],
        good: &[(
            "azure-pipelines/cd.yml",
            steps!("  - script: curl -fsS https://notes-staging.azurewebsites.net/health\n"),
        )],
        check: Check::Pipeline(|p, o| {
            for (_, _, v, _) in scripts(p) {
                let whole = v.known_text();
                for l in p.lines(v) {
                    if !(runs(l.text, "curl")
                        && (l.text.contains("/health") || l.text.contains(".azurewebsites.net")))
                    {
                        continue;
                    }
                    let flags = l.text.split_whitespace().any(|w| {
                        w == "--fail"
                            || w == "--fail-with-body"
                            || (w.starts_with('-') && !w.starts_with("--") && w.contains('f'))
                    });
                    if flags
                        || whole.contains("http_code")
                        || l.text.contains("| grep")
                        || l.text.contains("| jq -e")
                    {
                        o.judged();
                    } else {
                        o.at(l.span, "curl exits 0 for a 500: add `--fail`");
                    }
                }
            }
        }),
    },
    Rule {
        id: "LZ-PIP-016",
        section: "CI/CD: Azure DevOps Pipelines",
        erratum: None,
        severity: Warning,
        title: "Production is released from main",
        why: "A release from a branch is a release nobody merged.",
        fix: "Trigger on `main` alone.",
        bad: &[(
            "azure-pipelines/cd.yml",
            "trigger:\n  branches:\n    include: ['*']\nsteps:\n  - task: AzureAppServiceManage@0\n    inputs:\n      Action: Swap Slots\n",
        )],
        good: &[("azure-pipelines/cd.yml", GOOD_CD)],
        check: Check::Pipeline(|p, o| {
            if !steps(p).any(|(_, s)| is_swap(s)) {
                return;
            }
            let Some(t) = p.document.as_map().and_then(|m| m.get("trigger")) else { return };
            let list: Vec<&Value> = match t.as_map() {
                Some(m) => m
                    .get("branches")
                    .and_then(|b| b.as_map().and_then(|b| b.get("include")).or(Some(b)))
                    .and_then(Value::as_list)
                    .unwrap_or_default()
                    .iter()
                    .collect(),
                None => t.as_list().unwrap_or_default().iter().collect(),
            };
            for b in list {
                let n = b.known_text();
                if matches!(n.trim_start_matches("refs/heads/"), "main" | "master")
                    || n.contains("release")
                    || n.contains('$')
                {
                    o.judged();
                } else {
                    o.at(b.span, format!("production is released from \"{n}\" as well"));
                }
            }
        }),
    },
    Rule {
        id: "LZ-PIP-017",
        section: CI,
        erratum: None,
        severity: Note,
        title: "CI lints and checks types, too",
        why: "What a linter and a type checker find before the merge is found by nobody else before the users.",
        fix: "Add steps as the standard has them: `black --check`, `isort --check`, `flake8` (or `ruff`), and `mypy`.",
        bad: &[(
            "azure-pipelines/ci.yml",
            "trigger: [develop]\npr: [develop, main]\nsteps:\n  - script: pytest --junitxml=test-results.xml\n",
        )],
        good: &[(
            "azure-pipelines/ci.yml",
            "trigger: [develop]\npr: [develop, main]\nsteps:\n  - script: ruff check .\n  - script: mypy app\n  - script: pytest --junitxml=test-results.xml\n",
        )],
        check: Check::Pipeline(|p, o| {
            // What runs for pull requests and tests in plain words; what a tool of the project's runs
            // (make, tox, a script) cannot be seen.
            let asked = p
                .document
                .as_map()
                .and_then(|m| m.get("pr"))
                .is_some_and(|v| v.as_str() != Some("none"));
            let texts: Vec<String> = scripts(p).map(|(.., v, _)| v.known_text()).collect();
            let any = |words: &[&str]| texts.iter().any(|t| words.iter().any(|w| runs(t, w)));
            let opaque = [
                "make",
                "tox",
                "nox",
                "pre-commit",
                "invoke",
                "just",
                "poe",
                "hatch",
                "task",
                "pdm",
                "npm",
            ];
            let hidden = p.partial
                || any(&opaque)
                || texts.iter().any(|t| t.contains(".sh") || t.contains("scripts/"));
            let Some((.., v, _)) = scripts(p).find(|(.., v, _)| runs(&v.known_text(), "pytest"))
            else {
                return;
            };
            if !asked || hidden {
                return;
            }
            let lints = any(&["ruff", "flake8", "black", "isort", "pylint"]);
            let types = any(&["mypy", "pyright", "basedpyright", "ty", "pytype"]);
            let missing = match (lints, types) {
                (true, true) => return o.judged(),
                (true, false) => "checks no types",
                (false, true) => "does not lint",
                (false, false) => "neither lints nor checks types",
            };
            o.at(line_of(p, v, "pytest"), format!("this pipeline tests, and {missing}")).absent();
        }),
    },
];

/// Whether a command is run, not merely mentioned in another word.
fn runs(text: &str, command: &str) -> bool {
    text.match_indices(command).any(|(i, _)| {
        let before = text[..i].chars().next_back();
        let after = text[i + command.len()..].chars().next();
        before.is_none_or(|c| c.is_whitespace() || "/;&|(`\"'".contains(c))
            && after.is_none_or(|c| c.is_whitespace() || ";&|)`\"'".contains(c))
    })
}

fn tests_http(t: &str) -> bool {
    [
        "curl",
        "wget",
        "http",
        "Invoke-WebRequest",
        "Invoke-RestMethod",
        "pytest",
        "smoke",
        "newman",
        "k6",
    ]
    .iter()
    .any(|w| runs(t, w))
        || t.contains("smoke")
        || t.contains("/health")
}
