"""Runs the rendered pipelines: stage by stage, step by step, as an agent would, with `az`, `curl`,
`terraform` and the Python tools replaced by a recorder on PATH. What is asserted is what a release rests
on: the order of calls, that a failing command fails its step, that a breach swaps back, and that no
secret is printed or passed on a command line.
"""

import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import ruamel.yaml

SECRET = "S3cret-0f-the-platform"
MANIFEST = """app: notes
location: westeurope
backend: { app: modules.backend.main:app }
worker: { run: w }
scheduler: { run: s, webjob: true }
database: { migrate: alembic upgrade head }
cache: managed
frontend: { connect: ['https://t.example.com'] }
smoke: [{ path: /api/notes, status: 200, json: { ok: true } }]
"""
TOOLS = ["az", "curl", "terraform", "python", "uv", "pytest", "black", "isort", "flake8", "mypy", "pip-audit",
         "bandit", "checkov", "npm", "sleep"]
# Writes down who was called with what, then answers what the scenario says.
RECORDER = r'''#!/usr/bin/env python3
import json, os, re, sys
name, call = os.path.basename(sys.argv[0]), " ".join([os.path.basename(sys.argv[0]), *sys.argv[1:]])
place = os.environ["RECORDER"]
if name != "sleep":
    with open(f"{place}/calls", "a") as calls:
        calls.write(json.dumps(call) + "\n")
if name == "uv" and sys.argv[1:2] == ["venv"]:
    os.makedirs(".venv/bin", exist_ok=True)
    open(".venv/bin/activate", "w").close()
state = json.load(open(f"{place}/scenario"))
for rule in state:
    if re.search(rule["call"], call) and rule.get("times", 1) > 0:
        if "times" in rule:
            rule["times"] -= 1
            json.dump(state, open(f"{place}/scenario", "w"))
        for flag in ("-o", "--output-file"):
            if name == "curl" and flag in sys.argv and "body" in rule:
                open(sys.argv[sys.argv.index(flag) + 1], "w").write(rule["body"])
        sys.stdout.write(rule.get("out", ""))
        sys.exit(rule.get("code", 0))
'''
HEALTHY = [
    {"call": r"^curl .*/api/notes$", "out": "200", "body": '{"ok": true, "more": 1}'},
    {"call": r"^curl .*https://", "out": "200", "body": "{}"},
    {"call": r"^az rest .*runs\[0\]\.id", "out": "1\n"},
    {"call": r"^az rest .*runs\[0\]\.\[id,status", "out": "2\nSuccess\nhttps://log.example\n"},
    {"call": r"^az rest .*log\.example", "out": "migrated\n"},
    {"call": r"^az webapp show", "out": "/subscriptions/s/sites/notes\n"},
    {"call": r"^az monitor .*Requests", "out": "100\n"},
    {"call": r"^az monitor .*Http5xx", "out": "1\n"},
    {"call": r"^az staticwebapp secrets", "out": SECRET + "\n"},
    {"call": r"^az account show", "out": "00000000-0000-0000-0000-000000000001\n"},
]


class Failed(Exception):
    """A step ended with something else than 0."""


class Agent:
    """A repository with rendered pipelines, and an agent that runs them."""

    def __init__(self, lazuli, place):
        self.place, self.repository = place, place / "repository"
        self.repository.mkdir()
        (self.repository / "lazuli.yaml").write_text(MANIFEST)
        for name in ("requirements.txt", "modules/backend/main.py", "modules/frontend/dist/index.html", "tests/test_a.py"):
            path = self.repository / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("# x\n")
        subprocess.run([lazuli, "render", "--quiet"], cwd=self.repository, check=True, stdout=subprocess.DEVNULL)
        for command in (["init", "-q", "."], ["add", "-A", "-f"],
                        ["-c", "user.name=a", "-c", "user.email=a@example.com", "commit", "-qm", "all"]):
            subprocess.run(["git", *command], cwd=self.repository, check=True)
        (place / "bin").mkdir()
        recorder = place / "bin/recorder"
        recorder.write_text(RECORDER)
        recorder.chmod(0o755)
        for tool in TOOLS:
            (place / "bin" / tool).symlink_to(recorder)
        self.out, self.watch = "", 1

    def scenario(self, *rules):
        """Begins anew; the rules come before those of a healthy world."""
        (self.place / "scenario").write_text(json.dumps([*rules, *HEALTHY]))
        (self.place / "calls").write_text("")
        self.out = ""

    def calls(self):
        return [json.loads(line) for line in (self.place / "calls").read_text().splitlines()]

    def pipeline(self, name):
        directory = self.repository / "infrastructure/azure-pipelines"
        yaml = ruamel.yaml.YAML(typ="safe")
        whole = yaml.load((directory / name).read_text())
        variables = {"Build.ArtifactStagingDirectory": str(self.place / "staging"), "Pipeline.Workspace": str(self.place),
                     "Build.SourcesDirectory": str(self.repository), **(whole.get("variables") or {})}
        stages = whole.get("stages") or [{"stage": "", "jobs": whole["jobs"]}]
        for stage in stages:
            for job in stage["jobs"]:
                steps = job.get("steps") or job["strategy"]["runOnce"]["deploy"]["steps"]
                job["steps"] = [s for step in steps for s in self.unfolded(step, directory)]
        return stages, variables

    def unfolded(self, step, directory):
        if "template" not in step:
            return [step]
        text = (directory / step["template"]).read_text()
        for key, value in (step.get("parameters") or {}).items():
            text = text.replace("${{ parameters.%s }}" % key, str(value))
        return ruamel.yaml.YAML(typ="safe").load(text)["steps"]

    def step(self, step, variables):
        """Runs what is a script, writes down what is a task."""
        def filled(text):
            return re.sub(r"\$\(([A-Za-z][\w.]*)\)", lambda m: str(variables.get(m[1], m[0])), str(text))

        inputs, environment = step.get("inputs") or {}, {}
        script = step.get("bash") or step.get("script") or (inputs.get("inlineScript") if step.get("task", "").startswith("AzureCLI@") else None)
        if script is None:
            with open(self.place / "calls", "a") as calls:
                what = step.get("task") or next(k for k in ("checkout", "download", "publish") if k in step)
                calls.write(json.dumps("task " + what + "".join(f" {k}={filled(v)}" for k, v in sorted(inputs.items()))) + "\n")
            return
        if inputs.get("addSpnToEnvironment"):
            environment = {"idToken": SECRET, "servicePrincipalId": "app", "tenantId": "tenant"}
        environment |= {k: filled(v) for k, v in (step.get("env") or {}).items()}
        file = self.place / "step.sh"
        file.write_text(filled(script))
        directory = self.repository / filled(step.get("workingDirectory", "."))
        run = subprocess.run(
            ["bash", "--noprofile", "--norc", file], cwd=directory, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL,
            env={"PATH": f"{self.place}/bin:/usr/local/bin:/usr/bin:/bin", "HOME": str(self.place), "RECORDER": str(self.place),
                 "SMOKE_WAIT": "0", "WATCH_SECONDS": str(self.watch), "TMPDIR": str(self.place), **environment})
        self.out += run.stdout + run.stderr
        for name, value in re.findall(r"##vso\[task\.setvariable variable=(\w+);issecret=true\](.*)", run.stdout):
            variables[name] = value
        if run.returncode != 0:
            raise Failed(f"{step.get('displayName')}: {run.returncode}: {run.stderr[-300:]}")

    def run(self, name):
        """All stages in the order of their dependencies; what depends on one that failed does not begin.
        The names of those that failed."""
        stages, variables = self.pipeline(name)
        failed, done, previous = [], set(), None
        for stage in stages:
            needs = stage.get("dependsOn", previous)
            needs = [needs] if isinstance(needs, str) else needs or []
            previous = stage["stage"]
            if not set(needs) <= done:
                continue
            try:
                for job in stage["jobs"]:
                    for step in job["steps"]:
                        self.step(step, variables)
                done.add(stage["stage"])
            except Failed as error:
                failed.append((stage["stage"], str(error)))
        return failed


SWAP = r"^task AzureAppServiceManage@0 Action=Swap Slots"
BACK = r"^az webapp deployment slot swap .*--slot staging --target-slot production"
MIGRATE = r"^az rest .*--method post .*/migrate/run\?arguments=%s"


def first(calls, pattern, after=-1):
    return next((n for n, call in enumerate(calls) if n > after and re.search(pattern, call)), None)


def ordered(calls, *patterns):
    """What of the patterns does not come, one after another."""
    at, problems = -1, []
    for pattern in patterns:
        found = first(calls, pattern, at)
        if found is None:
            problems.append(f"{pattern} does not come after call {at} of {len(calls)}")
        else:
            at = found
    return problems


def printed(agent):
    """A secret where it must not be."""
    shown = re.sub(r"##vso\[task\.setvariable variable=\w+;issecret=true\].*", "", agent.out)
    problems = [f"printed: {line}" for line in shown.splitlines() if SECRET in line]
    # The task that deploys the front end takes its token as an input; the agent masks it.
    return problems + [f"on a command line: {call}" for call in agent.calls() if SECRET in call and not call.startswith("task ")]


def fails_with_its_commands(agent, name, tolerated):
    """Each call of a healthy run once more, failing: its stage must fail, unless it may be asked again."""
    agent.scenario()
    agent.run(name)
    # By pattern, so that a call whose arguments differ from run to run is found again.
    distinct = list(dict.fromkeys(re.sub(r"/[\w./-]*(tmp\.\w+|tmp\w+)[\w./-]*", "…", c) for c in agent.calls() if not c.startswith("task ")))
    problems = []
    for call in distinct:
        if any(re.search(pattern, call) for pattern in tolerated):
            continue
        pattern = "^" + ".*".join(re.escape(part) for part in call.split("…"))
        agent.scenario({"call": pattern, "code": 7, "out": ""})
        if not agent.run(name):
            problems.append(f"{name}: {call} fails, and nothing else does")
    return problems, len(distinct)


def run(lazuli, judged):
    if missing := [tool for tool in ("git", "zip", "unzip", "jq") if not shutil.which(tool)]:
        print(f"SKIPPED the pipelines' scripts: {', '.join(missing)} not on this machine")
        return
    with tempfile.TemporaryDirectory() as place:
        agent = Agent(lazuli, Path(place))

        agent.scenario()
        failed = agent.run("cd.yml")
        calls = agent.calls()
        problems = [str(f) for f in failed] + ordered(
            calls, r"^pytest ", r"^task publish", r"^task AzureWebApp@1 .*slotName=staging", MIGRATE % "staging",
            r"^curl .*notes-staging\.azurewebsites\.net/health$", r"^curl .*notes-staging\.azurewebsites\.net/health/ready$",
            r"^curl .*notes-staging\.azurewebsites\.net/api/notes$", MIGRATE % "production", SWAP)
        swap = first(calls, SWAP) or 0
        problems += ordered(calls[swap:], r"^task AzureWebApp@1 .*appName=notes-worker", r"^task AzureStaticWebApp@0")
        problems += ordered(calls[swap:], r"^az webapp show", r"^curl .*https://notes\.azurewebsites\.net/health$", r"^az monitor .*Requests", r"^az monitor .*Http5xx")
        problems += [f"swapped back: {c}" for c in calls if re.search(BACK, c)]
        judged("cd.yml: staging, migration, smoke test, migration, swap, watch, in that order", problems)
        judged("cd.yml: no secret is printed", printed(agent))

        problems = []
        for what, rules, stage, swapped, back in (
            ("tests fail", [{"call": "^pytest", "code": 1}], "Build", False, False),
            ("the staging migration fails", [{"call": r"runs\[0\]\.\[id,status", "out": "2\nFailed\nhttps://log.example\n"}], "DeployStaging", False, False),
            ("readiness answers 503", [{"call": "/health/ready$", "out": "503", "body": ""}], "SmokeTest", False, False),
            ("a critical path answers something else", [{"call": "^curl .*/api/notes$", "out": "200", "body": '{"ok": false}'}], "SmokeTest", False, False),
            ("the staging slot cannot be reached", [{"call": "^curl", "code": 7, "out": "000"}], "SmokeTest", False, False),
            ("production's migration cannot be begun", [{"call": r"migrate/run\?arguments=production", "code": 1}], "SwapToProduction", False, False),
            ("a tenth of requests fail", [{"call": "^az monitor .*Http5xx", "out": "10\n"}], "Watch", True, True),
            ("health fails", [{"call": r"notes\.azurewebsites\.net/health$", "out": "500"}], "Watch", True, True),
            ("the worker cannot be deployed: the watch goes on", [{"call": "^az staticwebapp", "code": 1}, {"call": "^az monitor .*Http5xx", "out": "10\n"}], "Watch", True, True),
            ("metrics cannot be read", [{"call": "^az monitor", "code": 1}], "Watch", True, False),
        ):
            agent.scenario(*rules)
            # Long enough for every count to be reached; what breaches ends it.
            agent.watch = 90 if stage == "Watch" else 1
            failed = agent.run("cd.yml")
            calls = agent.calls()
            if stage not in [name for name, _ in failed]:
                problems.append(f"{what}: {stage} did not fail, but {failed}")
            if (first(calls, SWAP) is not None) != swapped:
                problems.append(f"{what}: swapped is not {swapped}")
            if (first(calls, BACK) is not None) != back:
                problems.append(f"{what}: swapped back is not {back}: {agent.out[-300:]}")
            problems += printed(agent)
        judged("cd.yml: what goes wrong stops before the swap, or swaps back", problems)

        agent.watch = 1
        # Asked again by the scripts: one failure is none.
        again = [r"^curl .*https://notes\.azurewebsites", r"^az monitor", r"^az rest .*runs\[0\]\.\[id,status"]
        problems, count = [], 0
        for name in ("cd.yml", "ci.yml", "infrastructure.yml"):
            # The scan of the infrastructure reports; it does not decide.
            found, tried = fails_with_its_commands(agent, name, again)
            problems, count = problems + found, count + tried
        judged(f"{count} commands of the pipelines: one that fails fails its step", problems)

        agent.scenario()
        problems = [str(f) for f in agent.run("infrastructure.yml")]
        calls = [c.split(" ", 2)[2] for c in agent.calls() if c.startswith("terraform ")]
        kinds = [c.split()[0] for c in calls]
        plan, apply = ["fmt", "init", "validate", "plan"], ["fmt", "init", "validate", "plan", "apply"]
        if kinds != (plan + apply) * 3:
            problems.append(f"terraform is called as {kinds}")
        for environment in ("dev", "staging", "prod"):
            for kind, file in (("init", "tfbackend"), ("plan", "tfvars")):
                if sum(c.startswith(kind) and f"environments/{environment}.{file}" in c for c in calls) != 2:
                    problems.append(f"{kind} of {environment}")
        judged("infrastructure.yml: plan, then apply, environment by environment; no secret is printed", problems + printed(agent))
