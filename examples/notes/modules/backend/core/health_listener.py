"""Answers on $PORT in processes that serve no requests.

App Service starts a site by waiting for its port to answer, and stops one that stays silent for
230 seconds (WEBSITES_CONTAINER_START_TIME_LIMIT). A worker or scheduler on a site of its own must
therefore answer, too. It answers from the event loop that runs the tasks: blocked loop, no answer.
"""

import asyncio
import json
import os

from modules.backend.version import VERSION


async def listen(role: str) -> asyncio.Server | None:
    """Does nothing where no port is given, as on a developer's machine."""
    if not (port := os.environ.get("PORT")):
        return None
    body = json.dumps({"status": "ok", "role": role, "version": VERSION}).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), timeout=5)
            writer.write(head.encode() + body)
            await writer.drain()
        except (TimeoutError, OSError, EOFError, asyncio.LimitOverrunError):
            pass  # a port probe that says nothing, or too much
        finally:
            writer.close()

    # taskiq runs several worker processes; the kernel spreads the probes over them.
    return await asyncio.start_server(answer, "0.0.0.0", int(port), reuse_port=True)
