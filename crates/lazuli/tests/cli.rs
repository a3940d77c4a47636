//! The binary itself, as a person sees it: what it prints, to where, and with which exit code.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

#[path = "../../release/tests/platform/mod.rs"]
mod platform;

use platform::{Fault, Platform};

const MANIFEST: &str = r#"app: notes
location: westeurope
python: "3.14"
backend:
  app: modules.main:app
  health: /health
  readiness: /health/ready
worker:
  run: taskiq worker modules.broker:broker
database:
  migrate: alembic upgrade head
smoke:
  - { path: /health/ready, status: 200, json: { status: ready } }
"#;

struct Fixture {
    dir: tempfile::TempDir,
    platform: Option<Platform>,
    // The gateway's services run on it.
    runtime: tokio::runtime::Runtime,
}

impl Fixture {
    /// A project, and no region.
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let project = dir.path().join("notes");
        std::fs::create_dir_all(project.join("modules")).expect("directories");
        for (name, content) in [
            ("lazuli.yaml", MANIFEST),
            ("requirements.txt", "fastapi\n"),
            ("modules/main.py", "app = 1\n"),
        ] {
            std::fs::write(project.join(name), content).expect("written");
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        Self { dir, platform: None, runtime }
    }

    /// A project, and a region that is the scripted platform.
    fn with_platform() -> Self {
        let mut fixture = Self::new();
        let platform = {
            let _entered = fixture.runtime.enter();
            Platform::start(MANIFEST)
        };
        let region = fixture.region();
        std::fs::create_dir_all(&region).expect("directories");
        std::fs::write(region.join("ca.pem"), &platform.roots).expect("written");
        let environment = serde_json::json!({
            "proxy": platform.proxy,
            "caBundle": region.join("ca.pem"),
            "caCertificate": region.join("ca.pem"),
            "tenantId": "tenant",
            "clientId": "client",
            "clientSecret": "hunter2",
            "developer": "developer@lazuli.onmicrosoft.com",
            "developerPassword": "hunter3",
            "subscriptionId": "00000000-0000-0000-0000-000000000000",
            "corePid": 1,
            "dir": region,
            "azureConfigDir": region.join("azure"),
        });
        std::fs::write(region.join("environment.json"), environment.to_string()).expect("written");
        fixture.platform = Some(platform);
        fixture
    }

    fn platform(&self) -> &Platform {
        self.platform.as_ref().expect("a platform")
    }

    fn region(&self) -> PathBuf {
        self.dir.path().join("state/lazuli/local")
    }

    fn project(&self) -> PathBuf {
        self.dir.path().join("notes")
    }

    fn version(&self, version: u32) {
        std::fs::write(self.project().join("modules/main.py"), format!("app = {version}\n"))
            .expect("written");
    }

    fn manifest(&self, change: impl FnOnce(&str) -> String) {
        std::fs::write(self.project().join("lazuli.yaml"), change(MANIFEST)).expect("written");
    }

    fn lazuli(&self, arguments: &[&str]) -> Output {
        self.lazuli_in(&self.project(), arguments)
    }

    fn lazuli_in(&self, cwd: &Path, arguments: &[&str]) -> Output {
        self.command(cwd, arguments).output().expect("the binary runs")
    }

    fn lazuli_with(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
        let mut command = self.command(&self.project(), arguments);
        command.envs(environment.iter().copied()).output().expect("the binary runs")
    }

    fn command(&self, cwd: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lazuli"));
        command
            .args(arguments)
            .current_dir(cwd)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.dir.path())
            .env("XDG_STATE_HOME", self.dir.path().join("state"))
            .env("SHELL", "/bin/bash")
            .env("TZ", "UTC")
            .env("LAZULI_WATCH", "0")
            // A person's own Git settings must not matter.
            .env("GIT_CEILING_DIRECTORIES", self.dir.path());
        command
    }
}

/// Exit code, standard output and standard error, in one text.
fn seen(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    let code = output.status.code().map_or_else(|| "a signal".to_owned(), |code| code.to_string());
    let mut seen = format!("exit code: {code}\n");
    for (name, bytes) in [("stdout", &output.stdout), ("stderr", &output.stderr)] {
        let text = text(bytes);
        if !text.is_empty() {
            seen = format!("{seen}----- {name} -----\n{text}\n");
        }
    }
    seen
}

macro_rules! assert_seen {
    ($output:expr, @$expected:literal) => {{
        let mut settings = insta::Settings::clone_current();
        for (pattern, shown) in [
            (r"\b(\d+ min )?\d+(\.\d)? m?s\b", "[TIME]"),
            // A column is as wide as its widest time.
            (r" +\[TIME\]", " [TIME]"),
            (r"PACKAGE +TOOK", "PACKAGE TOOK"),
            // This step goes on beside another, and is told whenever it is over.
            (r"✓ Migrations on a copy of the staging database: .*\n", ""),
            // It starts a job, or was cut short before it did.
            (r"\(run \d+\)", "(run [NUMBER])"),
            (r"\b[0-9a-f]{64}\b", "[DIGEST]"),
            (r"\b[0-9a-f]{12}\b", "[SHORT]"),
            (r"127\.0\.0\.1:\d+", "127.0.0.1:[PORT]"),
            (r"localhost:\d+", "localhost:[PORT]"),
            (r"/tmp/\.tmp\w+", "[DIR]"),
            (r"\d{4}-\d\d-\d\d \d\d:\d\d(:\d\d UTC)?", "[DATE]"),
            (r"\d\d:\d\d:\d\d\.\d{3}", "[CLOCK]"),
            (r"by \S+ on \S+, ", "by [USER] on [HOST], "),
            (r"lock of .*, which", "lock of [HOLDER], which"),
            (r"by \w+@\S+", "by [USER]@[HOST]"),
            (r"\d+ KiB", "[SIZE]"),
            (r"\d+ bytes", "[SIZE]"),
            (r"lazuli \d+\.\d+\.\d+", "lazuli [VERSION]"),
        ] {
            settings.add_filter(pattern, shown);
        }
        settings.bind(|| insta::assert_snapshot!(seen(&$output), @$expected));
    }};
}

#[test]
fn help_shows_every_command_with_examples() {
    let fixture = Fixture::new();
    assert_seen!(fixture.lazuli(&["--help"]), @r#"
exit code: 0
----- stdout -----
The Azure deployment standard as one binary: a local region, and the release process that ships to
it and to Azure alike

Usage: lazuli [OPTIONS] <COMMAND>

Commands:
  up           Start the region, provision and make the first release: the one command to begin with
  init         Look at a Python project and write its first manifest
  provision    Create or update the Azure resources the manifest asks for
  deploy       Release this directory: gates, staging slot, migrations, checks, swap, watch
  swap         Exchange the staging slot and production, without a new deployment
  rollback     Put the previous version back into production
  releases     List the releases, or tell the story of one
  status       Show sites, slots, instances, health and what is deployed
  logs         Show the logs of an app
  secrets      List, audit and rotate the app's secrets
  run          Run a command inside the region's environment
  env          Print the region's environment for a shell
  render       Write Terraform, pipelines and the front end's configuration from the manifest
  cost         Estimate what each environment costs a month
  parity       Show how the environments differ, and why they may
  region       Start, stop and look after the local region
  check        Judge Terraform, pipelines, settings and Python projects by the standard
  completions  Print a completion script for a shell
  help         Print this message or the help of the given subcommand(s)

Options:
  -h, --help     Print help
  -V, --version  Print version

Global options:
      --region <NAME>    The local region: a name, or a directory when it contains a `/` [env:
                         LAZULI_REGION=] [default: local]
      --env <ENV>        Which environment of the app [default: prod; render: all] [possible values:
                         dev, staging, prod]
      --target <TARGET>  Where it runs: the region on this machine, or Azure [default: local]
                         [possible values: local, azure]
      --output <FORMAT>  How to print: for people, or JSON for programs [default: text] [possible
                         values: text, json]
      --color <WHEN>     When to use colour (`NO_COLOR` is honoured) [default: auto] [possible
                         values: auto, always, never]
  -v, --verbose...       Say more about what happens; twice for every request
  -q, --quiet            Say nothing but results and errors
  -C, --directory <DIR>  The project: where `lazuli.yaml` is (default: here, or the nearest
                         directory above)

Examples:
  lazuli up examples/notes         start a local region, provision, make the first release
  lazuli deploy                    release what is in this directory through the staging slot
  lazuli rollback                  put the previous version back, in under a second
  lazuli run -- az webapp list     run any Azure client against the local region
  eval "$(lazuli env)"             the same for the rest of this shell

Exit codes: 0 done, 3 wrong project, 4 target unreachable, 5 provisioning failed, 6 release failed
before production was touched, 7 production affected, 8 locked, 9 nothing to roll back to.
`lazuli help COMMAND` says more about each command.
"#);
    assert_seen!(fixture.lazuli(&["deploy", "-h"]), @r#"
exit code: 0
----- stdout -----
Release this directory: gates, staging slot, migrations, checks, swap, watch

Usage: lazuli deploy [OPTIONS]

Options:
      --resume            Go on with a release that was interrupted
      --abort             Give an interrupted release up; everything as it was before it
      --allow-dirty       Release a tree that differs from its commit
      --watch <DURATION>  How long to watch production after the swap; 0 for not at all [env:
                          LAZULI_WATCH=0] [default: 15m]
      --canary <PERCENT>  Shares of the traffic, in percent, that the new version gets before the
                          swap
      --accept <GATE>     Release although this gate fails; who did is recorded [possible values:
                          tests, review, migrations, settings, secrets, drift, rollback, trial]
      --dry-run           Say what would be done and what the gates say; do nothing
      --take-over         Also when somebody elsewhere began a release and is gone
      --force             Release although production runs this very package
  -h, --help              Print help
  -V, --version           Print version

Global options:
      --region <NAME>    The local region: a name, or a directory when it contains a `/` [env:
                         LAZULI_REGION=] [default: local]
      --env <ENV>        Which environment of the app [default: prod; render: all] [possible values:
                         dev, staging, prod]
      --target <TARGET>  Where it runs: the region on this machine, or Azure [default: local]
                         [possible values: local, azure]
      --output <FORMAT>  How to print: for people, or JSON for programs [default: text] [possible
                         values: text, json]
      --color <WHEN>     When to use colour (`NO_COLOR` is honoured) [default: auto] [possible
                         values: auto, always, never]
  -v, --verbose...       Say more about what happens; twice for every request
  -q, --quiet            Say nothing but results and errors
  -C, --directory <DIR>  The project: where `lazuli.yaml` is (default: here, or the nearest
                         directory above)

Examples:
  lazuli deploy                    release this directory to production, watch it for 15 minutes
  lazuli deploy --dry-run          what it would do, and what the gates say
  lazuli deploy --watch 2m         watch for two minutes
  lazuli deploy --canary 1,10,50   a growing share of the traffic before the swap
  lazuli deploy --env dev          to the development environment, which has no slots
  lazuli deploy --resume           after an interruption: go on to the end
  lazuli deploy --abort            after an interruption: all as it was before
"#);
}

#[test]
fn a_region_that_does_not_run_is_said_with_the_way_to_start_it() {
    let fixture = Fixture::new();
    assert_seen!(fixture.lazuli(&["status"]), @r#"
exit code: 4
----- stderr -----
error: the region `local` is not running

help: start it: lazuli region start
help: or do everything at once: lazuli up PATH
"#);
    assert_seen!(fixture.lazuli(&["run", "--region", "two", "true"]), @r#"
exit code: 4
----- stderr -----
error: the region `two` is not running

help: start it: lazuli region start --region two
help: or do everything at once: lazuli up PATH
"#);
}

#[test]
fn without_a_subscription_nothing_is_sent_to_azure() {
    let fixture = Fixture::with_platform();
    for command in ["provision", "deploy", "swap", "rollback", "status", "logs"] {
        let output = fixture.lazuli(&[command, "--target", "azure"]);
        assert_eq!(output.status.code(), Some(4), "{command}: {}", seen(&output));
    }
    let output = fixture.lazuli(&["up", "--target", "azure"]);
    assert_eq!(output.status.code(), Some(2), "{}", seen(&output));
    assert_eq!(fixture.platform().seen(), "", "something was sent");
    assert_seen!(fixture.lazuli(&["deploy", "--target", "azure"]), @r#"
exit code: 4
----- stderr -----
error: AZURE_SUBSCRIPTION_ID is not set

help: name it: export AZURE_SUBSCRIPTION_ID=$(az account show --query id -o tsv)
"#);
}

/// The same binary, the same scenarios; endpoint and credential differ, and nothing else does.
#[test]
fn the_same_release_goes_to_azure() {
    let fixture = Fixture::with_platform();
    let ca = fixture.region().join("ca.pem");
    let proxy = &fixture.platform().proxy;
    let environment = [
        ("HTTPS_PROXY", proxy.as_str()),
        ("SSL_CERT_FILE", ca.to_str().expect("a path")),
        ("AZURE_SUBSCRIPTION_ID", "00000000-0000-0000-0000-000000000000"),
        ("AZURE_TENANT_ID", "tenant"),
        ("AZURE_CLIENT_ID", "client"),
        ("AZURE_CLIENT_SECRET", "hunter2"),
    ];
    let azure = |arguments: &[&str]| {
        let mut arguments = arguments.to_vec();
        arguments.extend(["--target", "azure"]);
        fixture.lazuli_with(&arguments, &environment)
    };
    fixture.platform().fault(Fault::Throttled);
    fixture.platform().fault(Fault::Stale);
    let released = azure(&["deploy"]);
    assert_eq!(released.status.code(), Some(0), "{}", seen(&released));
    fixture.version(2);
    fixture.platform().fault(Fault::TokenExpired);
    let released = azure(&["deploy"]);
    assert_eq!(released.status.code(), Some(0), "{}", seen(&released));
    let text = seen(&released);
    assert!(
        !text.contains("in a browser") && text.contains("https://notes.azurewebsites.net"),
        "{text}"
    );
    fixture.platform().fault(Fault::Unready);
    fixture.version(3);
    let undone = azure(&["deploy", "--watch", "60s"]);
    assert_eq!(undone.status.code(), Some(7), "{}", seen(&undone));
    fixture.platform().heal();
    let back = azure(&["rollback"]);
    assert_eq!(back.status.code(), Some(0), "{}", seen(&back));
    let story = seen(&azure(&["releases", "show", "1"]));
    assert!(story.contains("to prod (azure)"), "{story}");
    let all = format!("{}{}", seen(&released), seen(&undone));
    assert!(!all.contains("hunter2"), "a secret is shown");
}

#[test]
fn a_mistake_in_the_manifest_is_shown_where_it_is() {
    let fixture = Fixture::with_platform();
    fixture.manifest(|manifest| manifest.replace("readiness:", "rediness:"));
    assert_seen!(fixture.lazuli(&["deploy"]), @r#"
exit code: 3
----- stderr -----
error: unknown key `rediness` in `backend`
 --> [DIR]/notes/lazuli.yaml:7:3
  |
7 |   rediness: /health/ready
  |   ^^^^^^^^ did you mean `readiness`?

  Nothing was created or changed.
"#);
    fixture.manifest(|manifest| manifest.replace("status: 200", "status: \"no\""));
    assert_seen!(fixture.lazuli(&["deploy"]), @r#"
exit code: 3
----- stderr -----
error: `status` must be a whole number
  --> [DIR]/notes/lazuli.yaml:13:36
   |
13 |   - { path: /health/ready, status: "no", json: { status: ready } }
   |                                    ^^^^ this is text

  Nothing was created or changed.
"#);
    assert_eq!(fixture.platform().seen(), "", "something was sent");
}

#[test]
fn a_project_without_a_manifest_or_with_a_missing_module_is_refused() {
    let fixture = Fixture::with_platform();
    assert_seen!(fixture.lazuli_in(fixture.dir.path(), &["deploy"]), @r#"
exit code: 3
----- stderr -----
error: there is no lazuli.yaml in [DIR] or above it

help: go to the project, or name it with --directory
help: examples/notes/lazuli.yaml shows what a manifest looks like
"#);
    fixture.manifest(|manifest| manifest.replace("modules.main:app", "modules.mian:app"));
    assert_seen!(fixture.lazuli(&["deploy"]), @r#"
exit code: 3
----- stderr -----
✗ Package: `modules.mian` is not in the package: neither modules/mian.py nor modules/mian/__init__.py is there ([TIME])
error: the package cannot be made
  because `modules.mian` is not in the package: neither modules/mian.py nor modules/mian/__init__.py is there

  Nothing was deployed.

help: correct backend.app in lazuli.yaml, or package.exclude if it leaves the file out
"#);
}

#[test]
fn a_release_reads_from_package_to_scheduler_and_its_story_can_be_told() {
    let fixture = Fixture::with_platform();
    let output = fixture.lazuli(&["deploy"]);
    assert_eq!(
        seen(&output).matches("✓ Migrations on a copy of the staging database: ").count(),
        1,
        "{}",
        seen(&output)
    );
    assert_seen!(output, @r#"
exit code: 0
----- stdout -----
Done: release 1 of notes is in prod: package [SHORT] ([TIME])
  production  https://notes.azurewebsites.net  in a browser: http://notes.localhost:[PORT]
  staging     https://notes-staging.azurewebsites.net  in a browser: http://notes-staging.localhost:[PORT]
----- stderr -----
✓ Package: 6 files, [SIZE], [SHORT] ([TIME])
✓ Gates: 3 passed, 4 not checked ([TIME])
✓ Deploy to notes-staging.azurewebsites.net: deployment d000000001 ([TIME])
✓ Migrate the staging database: 0001 -> 0002 ([TIME])
✓ Health of notes-staging.azurewebsites.net: /health answers in [TIME] ([TIME])
✓ Readiness of notes-staging.azurewebsites.net: /health/ready answers in [TIME] ([TIME])
✓ Smoke checks on notes-staging.azurewebsites.net: 1 check passed ([TIME])
✓ Migrate the production database: 0001 -> 0002 ([TIME])
✓ Swap staging and production ([TIME])
✓ Verify notes.azurewebsites.net: 1 check passed ([TIME])
✓ Worker notes-worker.azurewebsites.net: deployment d000000002 ([TIME])
✓ The same version to notes-staging.azurewebsites.net: deployment d000000003 ([TIME])
"#);
    assert_seen!(fixture.lazuli(&["deploy"]), @r#"
exit code: 0
----- stderr -----
✓ Package: 6 files, [SIZE], [SHORT] ([TIME])
  production already runs this very package, since release 1: nothing to release (--force releases it again)
"#);
    fixture.version(2);
    let output = fixture.lazuli(&["deploy", "--quiet"]);
    assert_eq!(output.status.code(), Some(0), "{}", seen(&output));
    assert_eq!(seen(&output).matches("stderr").count(), 0, "{}", seen(&output));
    assert_seen!(fixture.lazuli(&["rollback"]), @r#"
exit code: 0
----- stdout -----
Done: notes in prod is back at package [SHORT] ([TIME])
  routing switched [TIME] after the command began
  production  https://notes.azurewebsites.net  in a browser: http://notes.localhost:[PORT]
  staging     https://notes-staging.azurewebsites.net  in a browser: http://notes-staging.localhost:[PORT]
----- stderr -----
✓ Swap staging and production: routing switched [TIME] after the command began ([TIME])
✓ Verify notes.azurewebsites.net: 1 check passed ([TIME])
✓ Worker notes-worker.azurewebsites.net: deployment d000000006 ([TIME])
"#);
    assert_seen!(fixture.lazuli(&["rollback"]), @r#"
exit code: 9
----- stderr -----
error: there is nothing to roll back to: release 3 was itself a rollback to release 1, and rolling it back would bring back what it was to be rid of; if that is wanted, name the release: --to NUMBER

help: what was released: lazuli releases
help: to exchange the slots as they are: lazuli swap
"#);
    assert_seen!(fixture.lazuli(&["releases"]), @r#"
exit code: 0
----- stdout -----
      KIND      WHEN              PACKAGE TOOK  OUTCOME
   3  rollback  [DATE]  [SHORT] [TIME]  succeeded by [USER]@[HOST]
   2  deploy    [DATE]  [SHORT] [TIME]  succeeded by [USER]@[HOST]
   1  deploy    [DATE]  [SHORT] [TIME]  succeeded by [USER]@[HOST]
"#);
    assert_seen!(fixture.lazuli(&["releases", "show", "3"]), @r#"
exit code: 0
----- stdout -----
Release 3: rollback of notes to prod (local), by [USER] on [HOST], [DATE], lazuli [VERSION]
  back to the version of release 1
  package  [DIGEST] ([SIZE], 6 files)
  before   production d000000004, staging d000000001
  [CLOCK] deploy: deployment d000000001
  [CLOCK] swap begins
  [CLOCK] swap: operation https://management.azure.com/operations/3
  [CLOCK] ✓ swap: routing switched [TIME] after the command began ([TIME])
  [CLOCK] verify begins
  [CLOCK] ✓ verify: 1 check passed ([TIME])
  [CLOCK] worker begins
  [CLOCK] worker: deployment d000000006
  [CLOCK] ✓ worker: deployment d000000006 ([TIME])
  [CLOCK] succeeded after [TIME]
"#);
    assert_seen!(fixture.lazuli(&["releases", "show", "9"]), @r#"
exit code: 2
----- stderr -----
error: there is no release 9
"#);
}

#[test]
fn a_region_that_is_not_there_has_no_key_to_change() {
    let fixture = Fixture::new();
    assert_seen!(fixture.lazuli(&["region", "rotate-key"]), @r#"
exit code: 2
----- stderr -----
error: the region `local` has no key yet

help: its first start makes one: lazuli region start
"#);
}

#[test]
fn a_failing_step_says_what_why_and_what_now() {
    let fixture = Fixture::with_platform();
    assert_eq!(fixture.lazuli(&["deploy"]).status.code(), Some(0));
    fixture.version(2);
    fixture.platform().fault(Fault::Start);
    assert_seen!(fixture.lazuli(&["deploy"]), @r#"
exit code: 6
----- stderr -----
✓ Package: 6 files, [SIZE], [SHORT] ([TIME])
✓ Gates: 5 passed, 2 not checked ([TIME])
✗ Deploy to notes-staging.azurewebsites.net: notes-staging.azurewebsites.net did not start: the container exited ([TIME])
error: release 2 failed at step `deploy`
  because notes-staging.azurewebsites.net did not start: the container exited

  last lines of the app's log on notes-staging.azurewebsites.net:
  │ Traceback (most recent call last):
  │ RuntimeError: the lapis is broken

  Production was not touched: it serves what it served.
  The failed version is left on https://notes-staging.azurewebsites.net to be looked at.

help: correct what the log shows, then release again
help: the story of this release: lazuli releases show 2
"#);
    fixture.platform().heal();
    fixture.platform().fault(Fault::MigrateProduction);
    assert_seen!(fixture.lazuli(&["deploy"]), @r#"
exit code: 6
----- stderr -----
✓ Package: 6 files, [SIZE], [SHORT] ([TIME])
✓ Gates: 5 passed, 2 not checked ([TIME])
✓ Deploy to notes-staging.azurewebsites.net: deployment d000000005 ([TIME])
✓ Migrate the staging database: 0001 -> 0002 ([TIME])
✓ Health of notes-staging.azurewebsites.net: /health answers in [TIME] ([TIME])
✓ Readiness of notes-staging.azurewebsites.net: /health/ready answers in [TIME] ([TIME])
✓ Smoke checks on notes-staging.azurewebsites.net: 1 check passed ([TIME])
✗ Migrate the production database: the job `migrate production` on notes-staging.azurewebsites.net: Failed ([TIME])
error: release 3 failed at step `migrate-production`
  because the job `migrate production` on notes-staging.azurewebsites.net: Failed

  last lines of the job's output (run [NUMBER]):
  │ relation "no_such_table" does not exist

  Production was not touched: it serves what it served.
  The failed version is left on https://notes-staging.azurewebsites.net to be looked at.

help: the migration passed on the staging database: look at what differs in production's data
help: the story of this release: lazuli releases show 3
"#);
    fixture.platform().heal();
    fixture.platform().fault(Fault::Worker);
    assert_seen!(fixture.lazuli(&["deploy"]), @r#"
exit code: 7
----- stderr -----
✓ Package: 6 files, [SIZE], [SHORT] ([TIME])
✓ Gates: 5 passed, 2 not checked ([TIME])
✓ Deploy to notes-staging.azurewebsites.net: deployment d000000006 ([TIME])
✓ Migrate the staging database: 0001 -> 0002 ([TIME])
✓ Health of notes-staging.azurewebsites.net: /health answers in [TIME] ([TIME])
✓ Readiness of notes-staging.azurewebsites.net: /health/ready answers in [TIME] ([TIME])
✓ Smoke checks on notes-staging.azurewebsites.net: 1 check passed ([TIME])
✓ Migrate the production database: 0001 -> 0002 ([TIME])
✓ Swap staging and production ([TIME])
✓ Verify notes.azurewebsites.net: 1 check passed ([TIME])
✗ Worker notes-worker.azurewebsites.net: the build on notes-worker.azurewebsites.net failed: the build ended with 1 ([TIME])
✓ Swap back: notes.azurewebsites.net serves what it served before ([TIME])
error: release 4 failed at step `worker`
  because the build on notes-worker.azurewebsites.net failed: the build ended with 1

  last lines of the deployment log:
  │ no such package: fastapi==0.0.0

  Production was put back: it serves what it served before the release.
  Its database has the new version's migrations; the old version goes on with it.

help: its whole log: lazuli logs --app worker
help: the story of this release: lazuli releases show 4
"#);
}

#[test]
fn json_is_one_object_a_line_to_the_end_of_a_failure() {
    let fixture = Fixture::with_platform();
    let events = |output: &Output| -> Vec<serde_json::Value> {
        let text = String::from_utf8(output.stdout.clone()).expect("UTF-8");
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    };
    let good = events(&fixture.lazuli(&["deploy", "--output", "json"]));
    assert_eq!(good.first().map(|event| &event["event"]), Some(&"started".into()));
    let last = good.last().expect("a result");
    assert_eq!(
        (&last["event"], &last["outcome"], &last["number"]),
        (&"result".into(), &"succeeded".into(), &1.into())
    );
    fixture.version(2);
    fixture.platform().fault(Fault::Build);
    let output = fixture.lazuli(&["deploy", "--output", "json"]);
    let bad = events(&output);
    let last = bad.last().expect("an error");
    assert_eq!((&last["event"], &last["exitCode"]), (&"error".into(), &6.into()));
    assert_eq!(output.status.code(), Some(6));
}

/// `kill -9` of the command at a moment of the release; what a person does then works.
#[test]
fn a_killed_release_is_refused_resumed_and_told() {
    let fixture = Fixture::with_platform();
    assert_eq!(fixture.lazuli(&["deploy"]).status.code(), Some(0));
    fixture.version(2);
    // After the swap was asked for.
    fixture.platform().cut_on(Some("/operations/"));
    let mut child = Command::new(env!("CARGO_BIN_EXE_lazuli"))
        .args(["deploy", "--quiet"])
        .current_dir(fixture.project())
        .env("XDG_STATE_HOME", fixture.dir.path().join("state"))
        .env("LAZULI_WATCH", "0")
        .spawn()
        .expect("the binary runs");
    fixture.runtime.block_on(fixture.platform().cut.notified());
    child.kill().expect("killed");
    child.wait().expect("reaped");
    fixture.platform().cut_on(None);
    assert_seen!(fixture.lazuli(&["deploy"]), @r#"
exit code: 8
----- stderr -----
  took over the lock of [HOLDER], which is gone
error: release 2 (deploy) was interrupted and has not been brought to an end

help: go on with it: lazuli deploy --resume
help: or put everything back as it was: lazuli rollback
help: what it did: lazuli releases show
"#);
    assert_seen!(fixture.lazuli(&["deploy", "--resume"]), @r#"
exit code: 0
----- stdout -----
Done: release 2 of notes is in prod: package [SHORT] ([TIME])
  production  https://notes.azurewebsites.net  in a browser: http://notes.localhost:[PORT]
  staging     https://notes-staging.azurewebsites.net  in a browser: http://notes-staging.localhost:[PORT]
----- stderr -----
  release 2 (deploy) was interrupted; asking the platform how far it came
✓ Swap that was under way: nothing is under way any more ([TIME])
= Swap staging and production: done before the interruption ([TIME])
✓ Verify notes.azurewebsites.net: 1 check passed ([TIME])
✓ Worker notes-worker.azurewebsites.net: deployment d000000005 ([TIME])
"#);
    assert_eq!(fixture.lazuli(&["rollback"]).status.code(), Some(0));
}

#[test]
fn env_never_prints_a_secret_where_it_was_not_asked_to() {
    let fixture = Fixture::with_platform();
    let output = fixture.lazuli(&["env"]);
    assert!(seen(&output).contains("export AZURE_CLIENT_SECRET='hunter2'"));
    for command in [&["deploy", "-vv"][..], &["status", "-vv"], &["releases", "show", "-vv"]] {
        let output = fixture.lazuli(command);
        assert!(!seen(&output).contains("hunter2"), "{command:?}: {}", seen(&output));
    }
}

#[test]
fn run_takes_the_commands_place() {
    let fixture = Fixture::with_platform();
    let output = fixture.lazuli(&["run", "--", "sh", "-c", "echo $AZURE_TENANT_ID; exit 7"]);
    assert_eq!(
        (output.status.code(), String::from_utf8_lossy(&output.stdout).trim()),
        (Some(7), "tenant")
    );
    assert_seen!(fixture.lazuli(&["run", "--", "no-such-program"]), @r#"
exit code: 2
----- stderr -----
error: cannot run no-such-program
  because No such file or directory (os error 2)
"#);
}
