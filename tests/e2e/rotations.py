"""What scripts about rotations share: the journal of one, the process that waits for its time, and whether a credential
works for somebody who connects now: what is connected already is no proof."""

import json
import subprocess

from support import BINARY, processes


def journals(region):
    """The files of the rotations' journals, the oldest first."""
    return sorted((region.project / ".lazuli/rotations/prod").glob("*.jsonl"))


def journal(region, number=None):
    """The lines of a rotation's journal, the last one's unless told otherwise."""
    files = journals(region)
    if not files:
        return []
    path = files[-1] if number is None else files[number - 1]
    return [json.loads(line)["entry"] for line in path.read_text().splitlines() if line.endswith("}")]


def ended(region):
    return any(entry["type"] == "ended" for entry in journal(region))


def kind(entry):
    """What a line says, without its times and versions."""
    return f"{entry['type']} {entry.get('step', '')} {entry.get('name', '')}".strip()


def left_to_itself(region):
    """The processes that wait for confirmation periods of this project."""
    return [pid for pid, (_, _, command) in processes().items() if "rotate --resume --wait" in command and str(region.project) in command]


def postgres_works(region, url):
    """Whether a connection string of the app logs in to the database, from inside."""
    url = url.replace("postgresql+asyncpg://", "postgresql://").replace("ssl=require", "sslmode=require")
    # By the environment: a value on a command line could be read by anybody.
    return subprocess.run(
        [*inside(region), "sh", "-c", 'psql -Atc "SELECT 1" "$LZ_URL"'], env=region.environment | {"LZ_URL": url},
        capture_output=True, text=True, cwd=region.project, stdin=subprocess.DEVNULL, timeout=60,
    ).stdout.strip() == "1"


REDIS = """
import os, socket, ssl, urllib.parse
url = urllib.parse.urlsplit(os.environ["LZ_URL"])
tls = ssl.create_default_context(); tls.check_hostname = False; tls.verify_mode = ssl.CERT_NONE
with tls.wrap_socket(socket.create_connection((url.hostname, url.port), 10), server_hostname=url.hostname) as redis:
    password = urllib.parse.unquote(url.password)
    redis.sendall(f"*2\\r\\n$4\\r\\nAUTH\\r\\n${len(password)}\\r\\n{password}\\r\\n".encode())
    print(redis.recv(100).decode())
"""


def redis_works(region, url):
    done = subprocess.run(
        [*inside(region), "python3", "-c", REDIS], env=region.environment | {"LZ_URL": url},
        capture_output=True, text=True, cwd=region.project, stdin=subprocess.DEVNULL, timeout=60,
    )
    return done.stdout.startswith("+OK")


def inside(region):
    return [BINARY, "run", "--inside", "--"]
