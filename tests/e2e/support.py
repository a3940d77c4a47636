"""What the end-to-end scripts share. Python's standard library alone.

Every script makes regions of its own, below a temporary XDG_STATE_HOME and under names of its own,
and takes them away again whatever happens. Traffic goes to loopback only.
"""

import asyncio
import atexit
import base64
import contextlib
import http.client
import json
import os
import random
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.parse
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = Path(os.environ.get("LAZULI_EXAMPLE", ROOT / "examples/notes"))
BINARY = Path(os.environ.get("LAZULI_BIN", ROOT / "target/debug/lazuli"))
SLOW = bool(os.environ.get("LAZULI_SLOW_TESTS"))
PRODUCTION = "https://notes.azurewebsites.net"
STAGING = "https://notes-staging.azurewebsites.net"

passed = failed = skipped = 0


class Stop(Exception):
    """The script cannot go on; the check that says why has been counted."""


def check(name, holds, detail="", fatal=False):
    """One thing that must hold."""
    global passed, failed
    if holds:
        passed += 1
        print(f"ok      {name}", flush=True)
    else:
        failed += 1
        print(f"FAILED  {name}" + (f"\n        {str(detail).strip()}".replace("\n", "\n        ") if detail else ""), flush=True)
        if fatal:
            raise Stop(name)
    return holds


def skip(name, reason):
    global skipped
    skipped += 1
    print(f"SKIPPED {name}: {reason}", flush=True)


def note(text):
    print(f"        {text}", flush=True)


def main(script):
    """Runs a script's function and ends the process as the runner expects."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that `finally` runs
    if not BINARY.exists():
        print(f"{BINARY} is not built: cargo build --workspace", file=sys.stderr)
        sys.exit(2)
    global failed
    began = time.monotonic()
    try:
        script()
    except Stop:
        pass
    except Exception as error:  # whatever went wrong, the other scripts still run
        import traceback

        traceback.print_exc(file=sys.stdout)
        failed += 1
        print(f"FAILED  the script itself: {error!r}")
    print(f"{passed} passed, {failed} failed, {skipped} skipped in {time.monotonic() - began:.0f} s")
    sys.exit(1 if failed else 0 if passed else 77)


def wait_for(condition, timeout, every=0.2):
    """The condition's first true value, or its last false one."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value or time.monotonic() > deadline:
            return value
        time.sleep(every)


# Processes ---------------------------------------------------------------------------------------


def processes():
    """Every process of the machine: pid → (parent, start time, command line)."""
    found = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        with contextlib.suppress(OSError, IndexError, ValueError):
            fields = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
            if fields[0] == "Z":
                continue
            command = Path(f"/proc/{entry}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            found[int(entry)] = (int(fields[1]), int(fields[19]), command.strip())
    return found


def below(root, table=None):
    """A process and everything it started: {(pid, start time): command line}."""
    table = table or processes()
    children = {}
    for pid, (parent, _, _) in table.items():
        children.setdefault(parent, []).append(pid)
    found, todo = {}, [root]
    while todo:
        pid = todo.pop()
        if pid in table:
            found[pid, table[pid][1]] = table[pid][2]
        todo += children.get(pid, [])
    return found


def alive(tree):
    """Those of `tree` that still run (a pid used again by another process does not count)."""
    table = processes()
    return {key: command for key, command in tree.items() if key[0] in table and table[key[0]][1] == key[1]}


# Regions -----------------------------------------------------------------------------------------


class Result:
    def __init__(self, args, code, out, err, seconds):
        self.args, self.code, self.out, self.err, self.seconds = args, code, out, err, seconds

    def __str__(self):
        text = (self.out + self.err)[-3000:]
        return f"lazuli {' '.join(self.args)} ended with {self.code} after {self.seconds:.1f} s\n{text}"


class Region:
    """A region of this script's own, with a copy of the example."""

    def __init__(self, state=None):
        self.dir = Path(tempfile.mkdtemp(prefix="lz-", dir="/tmp"))  # short: Unix sockets live below
        self.state = state or self.dir
        self.name = f"e2e-{os.getpid()}-{random.randrange(16**4):04x}"
        self.project = self.dir / "notes"
        self.restore()
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if not name.lower().endswith("_proxy") and not name.startswith(("LAZULI_", "AZURE_", "ARM_"))
        } | {"XDG_STATE_HOME": str(self.state), "LAZULI_REGION": self.name, "NO_COLOR": "1", "LAZULI_WATCH": "0"}
        self._settings = None

    def __enter__(self):
        self._cleanup = atexit.register(self.remove)
        return self

    def __exit__(self, kind, *_):
        if kind is not None or failed:
            self.show_log()
        self.remove()
        atexit.unregister(self._cleanup)

    # the command line

    def lazuli(self, *args, timeout=900, cwd=None, stdin=None):
        began = time.monotonic()
        process = subprocess.run(
            [BINARY, *args], cwd=cwd or self.project, env=self.environment, capture_output=True, text=True,
            timeout=timeout, input=stdin, stdin=None if stdin is not None else subprocess.DEVNULL, errors="replace",
        )
        return Result(args, process.returncode, process.stdout, process.stderr, time.monotonic() - began)

    def must(self, *args, **more):
        """A command that everything after it stands on."""
        result = self.lazuli(*args, **more)
        check(f"lazuli {' '.join(args[:4])}", result.code == 0, result, fatal=True)
        return result

    def background(self, *args):
        log = open(self.dir / "background.log", "a")
        return subprocess.Popen(
            [BINARY, *args], cwd=self.project, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )

    def background_log(self):
        """The end of what commands in the background have written."""
        log = self.dir / "background.log"
        return log.read_text(errors="replace")[-3000:] if log.exists() else ""

    def up(self):
        result = self.must("up", str(self.project))
        note(f"up took {result.seconds:.1f} s")
        return result

    def restore(self):
        """The example as it is in the repository, with the journal of what was released here."""
        for entry in self.project.iterdir() if self.project.exists() else ():
            if entry.is_dir() and entry.name != ".lazuli":
                shutil.rmtree(entry)
            elif entry.is_file():
                entry.unlink()
        ignored = shutil.ignore_patterns("__pycache__", ".venv", ".lazuli", ".pytest_cache")
        shutil.copytree(EXAMPLE, self.project, ignore=ignored, dirs_exist_ok=True)

    def version(self, version):
        (self.project / "VERSION").write_text(version + "\n")

    @property
    def settings(self):
        """`lazuli env`, asked once for each start of the region."""
        if self._settings is None:
            self._settings = json.loads(self.must("env", "--output", "json").out)
        return self._settings

    def status(self):
        return json.loads(self.lazuli("region", "status", "--output", "json").out)

    @property
    def directory(self):
        return self.state / "lazuli" / self.name

    @property
    def port(self):
        return urllib.parse.urlsplit(self.settings["HTTPS_PROXY"]).port

    def edge(self):
        return self.status().get("pid")

    def core(self):
        """Core's pid as the machine sees it: a grandchild of edge, below init."""
        return next(pid for (pid, _), command in self.tree().items() if " __core " in f"{command} ")

    def tree(self):
        pid = self.edge()
        return below(pid) if pid else {}

    def remove(self):
        if not self.dir.exists():
            return
        tree = {}
        with contextlib.suppress(Exception):
            tree = self.tree()
        with contextlib.suppress(Exception):
            self.lazuli("region", "reset", "--yes", timeout=120)
        for (pid, _), _command in alive(tree).items():
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.dir, ignore_errors=True)

    def show_log(self):
        with contextlib.suppress(OSError):
            lines = (self.directory / "logs/region.log").read_text(errors="replace").splitlines()
            print("        the region's log ends:")
            for line in lines[-30:]:
                print(f"          {line[:300]}")

    # requests, with certificate verification, through the gateway

    def tls(self):
        return ssl.create_default_context(cafile=self.settings["SSL_CERT_FILE"])

    def request(self, method, url, body=None, headers=None, timeout=60):
        parts = urllib.parse.urlsplit(url)
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, context=self.tls(), timeout=timeout)
        connection.set_tunnel(parts.hostname, 443)
        try:
            payload = json.dumps(body).encode() if isinstance(body, dict) else body
            kind = {"Content-Type": "application/json"} if isinstance(body, dict) else {}
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            connection.request(method, path, payload, kind | (headers or {}))
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()

    def token(self):
        """The deployer's token for Resource Manager and SCM."""
        settings = self.settings
        form = urllib.parse.urlencode({
            "grant_type": "client_credentials",
            "client_id": settings["AZURE_CLIENT_ID"],
            "client_secret": settings["AZURE_CLIENT_SECRET"],
            "scope": "https://management.azure.com/.default",
        })
        url = f"https://login.microsoftonline.com/{settings['AZURE_TENANT_ID']}/oauth2/v2.0/token"
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        status, _, answer = self.request("POST", url, form.encode(), kind)
        assert status == 200, (status, answer)
        return json.loads(answer)["access_token"]

    def arm(self, method, path, body=None, version="2024-08-01"):
        """A request to Resource Manager for something in the app's resource group."""
        group = f"/subscriptions/{self.settings['AZURE_SUBSCRIPTION_ID']}/resourceGroups/rg-notes-prod"
        url = f"https://management.azure.com{group}/providers/{path}?api-version={version}"
        return self.request(method, url, body, {"Authorization": f"Bearer {self.token()}"})

    def get(self, url, **more):
        """Status and text; 0 and the error where there was no answer."""
        try:
            status, _, body = self.request("GET", url, **more)
            return status, body.decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            return 0, repr(error)

    def serving(self, url=PRODUCTION):
        """The version that answers, or None."""
        status, text = self.get(url + "/health", timeout=10)
        return json.loads(text)["version"] if status == 200 else None

    def write_note(self, body):
        status, _, text = self.request("POST", PRODUCTION + "/api/notes", {"author": "e2e", "body": body})
        assert status == 201, (status, text)
        return json.loads(text)

    def app_processes(self, command, tree=None):
        """Processes of the region whose command line holds `command`, less those another one started."""
        tree = self.tree() if tree is None else tree
        table = processes()
        found = [pid for (pid, _), line in tree.items() if command in line]
        return [pid for pid in found if pid in table and table[pid][0] not in found]

    def instances(self, command="gunicorn"):
        """The environment, as App Service made it, of a process of each instance that runs `command`."""
        found = {}
        for (pid, _), line in self.tree().items():
            if command not in line:
                continue
            with contextlib.suppress(OSError):
                pairs = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
                variables = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
                if "WEBSITE_INSTANCE_ID" in variables:
                    network = os.readlink(f"/proc/{pid}/ns/net")
                    found[network] = variables | {"pid": str(pid)}
        return list(found.values())

    def app_environment(self):
        """That of an instance of production."""
        for variables in self.instances():
            if variables.get("WEBSITE_SLOT_NAME", "").lower() == "production":
                return variables
        return {}


# WebSocket (RFC 6455), as much as a test needs ------------------------------------------------------


class WebSocket:
    def __init__(self, region, url, answer_pings=True):
        self.region, self.url, self.answer_pings = region, urllib.parse.urlsplit(url), answer_pings

    async def __aenter__(self):
        host = self.url.hostname
        self.reader, self.writer = await tunnel(self.region.port, host, self.region.tls())
        key = base64.b64encode(os.urandom(16)).decode()
        self.writer.write(
            f"GET {self.url.path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 30)
        assert head.startswith(b"HTTP/1.1 101"), head
        return self

    async def __aexit__(self, *_):
        self.writer.close()

    def _send(self, opcode, payload):
        mask = os.urandom(4)
        assert len(payload) < 126
        masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
        self.writer.write(bytes((0x80 | opcode, 0x80 | len(payload))) + mask + masked)

    async def receive(self):
        """The next text, or None at the end; answers the protocol's pings in between."""
        while True:
            try:
                first, second = await self.reader.readexactly(2)
                length = second & 0x7F
                if length == 126:
                    length = int.from_bytes(await self.reader.readexactly(2), "big")
                elif length == 127:
                    length = int.from_bytes(await self.reader.readexactly(8), "big")
                payload = await self.reader.readexactly(length)
            except (EOFError, OSError):
                return None
            opcode = first & 0x0F
            if opcode == 8:
                return None
            if opcode == 9 and self.answer_pings:
                self._send(10, payload)
            if opcode == 1:
                return json.loads(payload)


async def tunnel(port, host, tls):
    """A TLS connection to `host` through the gateway's CONNECT."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    try:
        writer.write(f"CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        if b" 200 " not in head.split(b"\r\n")[0]:
            raise ConnectionError(head.split(b"\r\n")[0].decode())
        await writer.start_tls(tls, server_hostname=host)
    except BaseException:
        writer.close()
        raise
    return reader, writer
