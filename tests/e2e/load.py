"""An open-loop load: requests begin at a steady rate, whether or not earlier ones have been answered.

A closed loop would slow down with the server and so hide a pause; here every request has its time,
and its latency counts from then.
"""

import asyncio
import contextlib
import itertools
import json
import threading
import time
from dataclasses import dataclass, field

from support import tunnel

HOST = "notes.azurewebsites.net"
TIMEOUT = 30


@dataclass
class Sample:
    kind: str
    due: float
    began: float
    ended: float = 0.0
    status: int = 0
    version: str = ""
    problem: str = ""

    @property
    def latency(self):
        return self.ended - self.due


@dataclass
class Load:
    """`with Load(region, rate=30) as load: …` and then `load.samples`."""

    region: object
    rate: float = 30
    stream_every: float = 4
    stream_seconds: float = 10
    samples: list = field(default_factory=list)
    notes: list = field(default_factory=list)  # identifiers that were answered with 201

    def __enter__(self):
        self._stop = threading.Event()
        self._tls = self.region.tls()
        self._port = self.region.port
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join(TIMEOUT + self.stream_seconds + 10)

    @property
    def bad(self):
        return [sample for sample in self.samples if sample.problem]

    async def _run(self):
        self._idle = []
        tasks = set()
        kinds = itertools.cycle(["keep", "new", "keep", "post", "keep", "new-post", "keep", "new"])
        began = time.monotonic()
        next_stream = began
        for number in itertools.count():
            due = began + number / self.rate
            await asyncio.sleep(max(0, due - time.monotonic()))
            if self._stop.is_set():
                break
            tasks.add(task := asyncio.create_task(self._one(next(kinds), due)))
            task.add_done_callback(tasks.discard)
            if due >= next_stream:
                next_stream += self.stream_every
                tasks.add(task := asyncio.create_task(self._one("stream", due)))
                task.add_done_callback(tasks.discard)
        if tasks:
            await asyncio.wait(tasks)
        for _, writer in self._idle:
            writer.close()

    async def _one(self, kind, due):
        sample = Sample(kind, due, time.monotonic())
        try:
            limit = TIMEOUT + (self.stream_seconds if kind == "stream" else 0)
            await asyncio.wait_for(self._request(sample), limit)
        except Exception as error:
            sample.problem = f"{type(error).__name__}: {error}"
        sample.ended = time.monotonic()
        self.samples.append(sample)

    async def _connection(self, fresh):
        while self._idle and not fresh:
            reader, writer = self._idle.pop()
            if not reader.at_eof() and not writer.is_closing():
                return reader, writer
            writer.close()  # the server ended it while nobody used it, as it may
        return await tunnel(self._port, HOST, self._tls)

    async def _request(self, sample):
        fresh = sample.kind.startswith("new") or sample.kind == "stream"
        reader, writer = await self._connection(fresh)
        kept = False
        try:
            if sample.kind.endswith("post"):
                body = json.dumps({"author": "load", "body": f"note at {sample.due:.3f}"}).encode()
                head = f"POST /api/notes HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
            else:
                path = f"/api/export?seconds={self.stream_seconds}" if sample.kind == "stream" else "/health"
                body, head = b"", f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\n"
            head += "Connection: close\r\n\r\n" if fresh else "\r\n"
            writer.write(head.encode() + body)
            await writer.drain()
            status, headers, payload = await self._response(reader)
            sample.status = status
            sample.version = headers.get("x-notes-version", "")
            if status != (201 if body else 200):
                sample.problem = f"{status} {payload[:200]!r}"
            elif sample.kind == "stream":
                lines = [json.loads(line) for line in payload.splitlines() if line.strip()]
                if lines[-1].get("type") != "end" or lines[-1]["version"] != lines[0]["version"]:
                    sample.problem = f"the stream was cut or mixed: {payload[-200:]!r}"
            elif body:
                self.notes.append(json.loads(payload)["id"])
            if not fresh and headers.get("connection", "").lower() != "close":
                self._idle.append((reader, writer))
                kept = True
        finally:
            if not kept:
                writer.close()
                with contextlib.suppress(Exception):
                    await asyncio.wait_for(writer.wait_closed(), 1)

    @staticmethod
    async def _response(reader):
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        status = int(head[0].split()[1])
        headers = {}
        for line in head[1:]:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        if "chunked" in headers.get("transfer-encoding", ""):
            body = b""
            while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
                body += await reader.readexactly(size)
                await reader.readexactly(2)
            await reader.readuntil(b"\r\n")
        elif "content-length" in headers:
            body = await reader.readexactly(int(headers["content-length"]))
        else:
            body = await reader.read()
        return status, headers, body


def switch(samples, old, new):
    """When `new` took over from `old`, and the requests that contradict it.

    Two requests under way at the same time may be answered in either order. But one that began after
    another had been answered by the new version must be answered by the new one, too.
    """
    answered = [sample for sample in samples if sample.version and sample.kind != "stream"]
    first = min((sample.ended for sample in answered if sample.version == new), default=None)
    if first is None:
        return None, []
    back = [sample for sample in samples if sample.version == old and sample.began > first]
    strange = [sample for sample in samples if sample.version not in (old, new, "")]
    return first, back + strange


def summary(samples):
    latencies = sorted(sample.latency for sample in samples if sample.kind != "stream")
    streams = [sample for sample in samples if sample.kind == "stream"]
    if not latencies:
        return "no requests"
    middle, late = latencies[len(latencies) // 2], latencies[int(len(latencies) * 0.99)]
    return (
        f"{len(latencies)} requests and {len(streams)} streams: p50 {middle * 1000:.0f} ms, "
        f"p99 {late * 1000:.0f} ms, longest {latencies[-1] * 1000:.0f} ms"
    )
