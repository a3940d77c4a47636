"""The app that the suite deploys: it shows what reached its process."""

import io
import zipfile

APP = '''
import json, os, time, urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

VERSION = "%(version)s"

def token(resource):
    url = os.environ["IDENTITY_ENDPOINT"] + "?api-version=2019-08-01&resource=" + resource
    asked = urllib.request.Request(url, headers={"X-IDENTITY-HEADER": os.environ["IDENTITY_HEADER"]})
    with urllib.request.urlopen(asked, timeout=20) as answer:
        return json.load(answer)["access_token"]

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        status, said = 200, {"version": VERSION, "instance": os.environ.get("WEBSITE_INSTANCE_ID"), "slot": os.environ.get("WEBSITE_SLOT_NAME")}
        if self.path == "/env":
            said = dict(os.environ)
        elif self.path == "/burn":
            until = time.process_time() + 2
            while time.process_time() < until:
                pass
        elif self.path in ("/headers", "/api/headers"):
            said = dict(self.headers)
        elif self.path.startswith("/say/"):
            print("said", self.path[5:], flush=True)
        elif self.path.startswith("/secret/"):
            _, _, vault, name = self.path.split("/")
            asked = urllib.request.Request(f"https://{vault}.vault.azure.net/secrets/{name}?api-version=7.4")
            try:
                asked.add_header("Authorization", "Bearer " + token("https://vault.azure.net"))
                with urllib.request.urlopen(asked, timeout=20) as answer:
                    said = json.load(answer)
            except urllib.error.HTTPError as error:
                status, said = error.code, {"error": error.read().decode()}
        self.answer(status, said)

    def do_POST(self):
        sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.answer(200, {"path": self.path, "sent": sent.decode()})

    def answer(self, status, said):
        body = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

print("starting version", VERSION, flush=True)
ThreadingHTTPServer(("0.0.0.0", int(os.environ["PORT"])), Handler).serve_forever()
'''

COMMAND = "python3 app.py"


def package(path, version="1", extra=None):
    """Writes the app as a zip that needs no build."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("app.py", APP % {"version": version})
        for name, content in (extra or {}).items():
            archive.writestr(name, content)
    return path


def archive(entries):
    """A zip in memory: [(name, bytes)], names as they are, however bad."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as made:
        for name, content in entries:
            made.writestr(zipfile.ZipInfo(name), content)
    return held.getvalue()
