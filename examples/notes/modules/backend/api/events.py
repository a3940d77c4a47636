"""/ws: the page hears of changes as they happen."""

import asyncio

from fastapi import APIRouter, WebSocket, WebSocketDisconnect

from modules.backend.core.config import settings
from modules.backend.notes.events import hub
from modules.backend.version import VERSION

router = APIRouter()

PING_INTERVAL = 30  # App Service cuts a connection on which nothing passes for 230 seconds
MAX_CONNECTIONS = 1000  # for each process


async def _drain(socket: WebSocket) -> None:
    """Clients have nothing to tell us but pong; reading is how a closed connection is noticed."""
    while True:
        await socket.receive_text()


async def _send(socket: WebSocket) -> None:
    queue = hub.join()
    try:
        while True:
            try:
                event = await asyncio.wait_for(queue.get(), PING_INTERVAL)
            except TimeoutError:
                event = {"type": "ping"}
            await socket.send_json(event)
    finally:
        hub.leave(queue)


@router.websocket("/ws")
async def events(socket: WebSocket) -> None:
    if len(hub) >= MAX_CONNECTIONS:
        await socket.close(1013, "too many connections")
        return
    await socket.accept()
    await socket.send_json({"type": "hello", "version": VERSION, "slot": settings().website_slot_name})
    tasks = [asyncio.create_task(_drain(socket)), asyncio.create_task(_send(socket))]
    done, running = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    for task in done:
        if (error := task.exception()) and not isinstance(error, (WebSocketDisconnect, RuntimeError)):
            raise error
