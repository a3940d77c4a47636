"""Changes to notes, told to every open page.

Whoever changes a note publishes to a Redis channel; each web process listens to it once and hands
what it hears to its WebSockets. A page that missed something reads the list again when it reconnects.
"""

import asyncio
import json
from typing import Any

from redis.exceptions import RedisError

from modules.backend.core.logging import log
from modules.backend.core.redis import Database, key, redis
from modules.backend.notes.models import Note
from modules.backend.notes.schemas import NoteOut

QUEUE_LENGTH = 100


def _channel() -> str:
    return key("events")


async def publish(kind: str, note: Note) -> None:
    event = {"type": kind, "note": NoteOut.model_validate(note).model_dump(mode="json")}
    await redis(Database.STATE).publish(_channel(), json.dumps(event))


class Hub:
    """The WebSockets of this process."""

    def __init__(self) -> None:
        self._queues: set[asyncio.Queue[dict[str, Any]]] = set()

    def __len__(self) -> int:
        return len(self._queues)

    def join(self) -> asyncio.Queue[dict[str, Any]]:
        queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue(QUEUE_LENGTH)
        self._queues.add(queue)
        return queue

    def leave(self, queue: asyncio.Queue[dict[str, Any]]) -> None:
        self._queues.discard(queue)

    def tell(self, event: dict[str, Any]) -> None:
        for queue in self._queues:
            if queue.full():
                queue.get_nowait()  # a page that does not keep up loses the oldest, not the newest
            queue.put_nowait(event)

    async def relay(self) -> None:
        """Runs as long as the process; a lost Redis is waited for."""
        while True:
            try:
                async with redis(Database.STATE).pubsub() as subscription:
                    await subscription.subscribe(_channel())
                    while True:
                        message = await subscription.get_message(ignore_subscribe_messages=True, timeout=30)
                        if message is not None:
                            self.tell(json.loads(message["data"]))
            except (RedisError, OSError) as error:
                log(__name__).warning("event relay lost Redis, trying again", error=str(error))
                await asyncio.sleep(1)


hub = Hub()
