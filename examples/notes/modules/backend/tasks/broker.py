"""The queue between the web processes and the worker.

    taskiq worker modules.backend.tasks.broker:broker

A Redis stream, not a list: a task is acknowledged when it is done, so that one whose worker was
killed is given to another worker. Tasks must therefore bear being run twice.
"""

import asyncio

from taskiq import TaskiqEvents, TaskiqState
from taskiq_redis import RedisStreamBroker

from modules.backend.core import health_listener, logging
from modules.backend.core.config import settings
from modules.backend.core.database import engine
from modules.backend.core.redis import Database, close, key, url

broker = RedisStreamBroker(
    url(Database.TASKS),
    queue_name=key("tasks"),
    consumer_group_name=key("workers"),
    consumer_id="0",  # tasks queued before the first worker ever started count, too
    maxlen=10_000,
    idle_timeout=60_000,  # no task takes a minute
    unacknowledged_lock_timeout=30,
    max_connection_pool_size=20,
)


@broker.on_event(TaskiqEvents.WORKER_STARTUP)
async def _start(state: TaskiqState) -> None:
    logging.configure(settings().log_level)
    uses_uvloop = type(asyncio.get_running_loop()).__module__.startswith("uvloop")
    logging.log(__name__).info("worker started", uvloop=uses_uvloop)
    state.listener = await health_listener.listen("worker")


@broker.on_event(TaskiqEvents.WORKER_SHUTDOWN)
async def _stop(state: TaskiqState) -> None:
    if state.listener is not None:
        state.listener.close()
    await close()
    await engine().dispose()
    logging.log(__name__).info("worker stopped")


# Registers the tasks with the broker.
from modules.backend.tasks import notes as notes  # noqa: E402
