"""The real `az`, run as often as a suite wants.

`az` takes seconds to start, nearly all of it in importing. So it is imported once, and every command is
a fork of that process which then runs the unmodified client's own entry point, `azure.cli.__main__`:
its own arguments, environment, standard output, standard error and exit code, as from a shell.
"""

import contextlib
import importlib
import io
import json
import os
import runpy
import shlex
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "e2e"))
import support  # noqa: E402
from support import check, note, skip, wait_for  # noqa: E402, F401

# What is slow to import, and what most commands import.
WARM = (
    "azure.cli.core", "azure.cli.core.util", "azure.cli.core.commands.arm", "azure.cli.core.auth.msal_credentials",
    "azure.cli.core.auth.identity", "azure.cli.core.azclierror", "azure.cli.core.extension.operations",
    "azure.cli.command_modules.resource.custom", "azure.mgmt.resource", "azure.mgmt.core.tools", "msal", "requests",
    "jmespath", "tabulate",
)  # fmt: skip

seconds_in_az = 0.0
commands = 0


class Ran:
    """What a command did."""

    def __init__(self, line, code, out, err, seconds):
        self.line, self.code, self.out, self.err, self.seconds = line, code, out, err, seconds

    @property
    def json(self):
        return json.loads(self.out) if self.out.strip() else None

    def __str__(self):
        return f"{self.line}\nended with {self.code} after {self.seconds:.1f} s\n{(self.out + self.err)[-2500:]}"


def warm(*modules):
    """Imports what the script's commands will need, once for all of them."""
    for module in (*WARM, *modules):
        with contextlib.suppress(ImportError):
            importlib.import_module(module)


def start(line, stdin=None):
    """Starts a command: `finish` waits for it."""
    arguments = shlex.split(line) if isinstance(line, str) else list(line)
    assert arguments[0] == "az", line
    out, err = tempfile.TemporaryFile(), tempfile.TemporaryFile()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            os.dup2(os.open("/dev/null", os.O_RDONLY) if stdin is None else stdin, 0)
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            sys.stdin = io.TextIOWrapper(io.FileIO(0, closefd=False))
            sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), encoding="utf-8", write_through=True)
            sys.stderr = io.TextIOWrapper(io.FileIO(2, "w", closefd=False), encoding="utf-8", write_through=True)
            sys.argv = arguments
            try:
                runpy.run_module("azure.cli.__main__", run_name="__main__")
                code = 0
            except SystemExit as ended:
                code = ended.code if isinstance(ended.code, int) else 1 if ended.code else 0
            except BaseException:
                import traceback

                traceback.print_exc()
                code = 70
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(Exception):
                    stream.flush()
        finally:
            os._exit(code)
    shown = line if isinstance(line, str) else shlex.join(line)
    return pid, shown, out, err, time.monotonic()


def so_far(started):
    """What a started command has said by now."""
    _, _, out, err, _ = started
    return "".join(os.pread(stream.fileno(), 1 << 20, 0).decode(errors="replace") for stream in (out, err))


def finish(started, timeout=180):
    global seconds_in_az, commands
    pid, line, out, err, began = started
    deadline = began + timeout
    code = None
    while code is None:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            code = os.waitstatus_to_exitcode(status)
        elif time.monotonic() > deadline:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
            code = 124
        else:
            time.sleep(0.01)
    texts = []
    for stream in (out, err):
        stream.seek(0)
        texts.append(stream.read().decode(errors="replace"))
        stream.close()
    seconds = time.monotonic() - began
    seconds_in_az += seconds
    commands += 1
    if os.environ.get("AZ_TRACE"):
        print(f"        {seconds:5.1f} s  {code}  {line}", flush=True)
    return Ran(line, code, *texts, seconds)


def az(line, timeout=180, **more):
    """Runs `az …` and says how it went."""
    return finish(start(line, **more), timeout)


def does(line, timeout=180, name=None):
    """Runs a command that must succeed; its JSON, or its text where it prints none."""
    ran = az(line, timeout)
    check(name or short(ran.line), ran.code == 0, ran, fatal=not os.environ.get("AZ_KEEP_GOING"))
    try:
        return ran.json
    except ValueError:
        return ran.out


def refused(line, *words, timeout=180, name=None):
    """Runs a command that must fail, and say so in these words; never with a traceback."""
    ran = az(line, timeout)
    said = ran.err + ran.out
    plain = ran.code not in (0, 70, 124) and "Traceback" not in said
    missing = [word for word in words if word.lower() not in said.lower()]
    return check(name or f"refused: {short(ran.line)}", plain and not missing, f"{ran}\nmissing: {missing}")


def wear(variables):
    """The environment that `lazuli env --output json` names: null is what must not be set."""
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def short(line):
    words = line.split()
    return " ".join(words)[:140]


class Here:
    """The region that the runner started, as its environment describes it."""

    def __init__(self):
        self.environment = dict(os.environ)
        self.settings = {name: os.environ[name] for name in ("HTTPS_PROXY", "SSL_CERT_FILE", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET", "AZURE_TENANT_ID", "AZURE_SUBSCRIPTION_ID")}  # fmt: skip
        self.subscription = os.environ["AZURE_SUBSCRIPTION_ID"]

    port = support.Region.port
    tls = support.Region.tls
    request = support.Region.request
    get = support.Region.get
    token = support.Region.token

    def arm(self, method, path, body=None, version="2024-04-01", headers=None):
        """A request to Resource Manager as any client may make it: status, headers, body."""
        join = "&" if "?" in path else "?"
        url = f"https://management.azure.com{path}{join}api-version={version}" if version else f"https://management.azure.com{path}"
        headers = {"Authorization": f"Bearer {self.bearer()}"} | (headers or {})
        status, answered, text = self.request(method, url, body, headers)
        try:
            return status, answered, json.loads(text) if text else None
        except ValueError:
            return status, answered, text

    def bearer(self):
        if not hasattr(self, "_bearer"):
            self._bearer = self.token()
        return self._bearer


def main(script, *modules):
    """Signs in, gives the script a resource group of its own, and takes both away."""
    name = Path(sys.argv[0]).name.replace("_", "-")
    configuration = tempfile.mkdtemp(prefix=f"az-{name}-")
    os.environ["AZURE_CONFIG_DIR"] = configuration
    os.environ.setdefault("AZURE_CORE_COLLECT_TELEMETRY", "false")
    os.environ.setdefault("AZURE_CORE_NO_COLOR", "true")
    os.environ.setdefault("AZURE_CORE_ONLY_SHOW_ERRORS", "true")
    os.environ.setdefault("AZURE_CORE_LOGIN_EXPERIENCE_V2", "off")
    os.environ.setdefault("AZURE_EXTENSION_USE_DYNAMIC_INSTALL", "no")

    def body():
        warm(*modules)
        here = Here()
        group = f"rg-{name}"
        client, secret, tenant = (here.settings[f"AZURE_{it}"] for it in ("CLIENT_ID", "CLIENT_SECRET", "TENANT_ID"))
        signed = az(f"az login --service-principal --username {client} --password={secret} --tenant {tenant}")
        check("az login --service-principal", signed.code == 0, signed, fatal=not os.environ.get("AZ_KEEP_GOING"))
        does(f"az group create --name {group} --location westeurope")
        try:
            script(here, group)
        finally:
            note(f"{commands} commands, {seconds_in_az:.0f} s in az")

    support.BINARY = Path("/")  # the runner has looked already
    try:
        support.main(body)
    finally:
        import shutil

        shutil.rmtree(configuration, ignore_errors=True)
