"""What runs at which time. Exactly one process of this runs in production.

    taskiq scheduler modules.backend.tasks.scheduler:scheduler
"""

import asyncio
import os
import signal
from datetime import UTC, datetime

from taskiq import ScheduledTask, ScheduleSource, TaskiqScheduler
from taskiq.exceptions import ScheduledTaskCancelledError
from taskiq.schedule_sources import LabelScheduleSource

from modules.backend.core import health_listener, logging
from modules.backend.core.config import settings
from modules.backend.core.redis import Database, close, key, redis
from modules.backend.tasks.broker import broker

NAME = f"{settings().website_instance_id[:16]}/{os.getpid()}"


class OncePerMinute(LabelScheduleSource):
    """The schedules written beside the tasks, each started once for each minute.

    taskiq runs whatever is due when it starts, so a scheduler restarted within a minute would start
    that minute's tasks again. Redis remembers what was started.
    """

    async def pre_send(self, task: ScheduledTask) -> None:
        minute = datetime.now(UTC).replace(second=0, microsecond=0).isoformat()
        started = key("started", task.task_name, minute)
        if not await redis(Database.STATE).set(started, NAME, nx=True, ex=600):
            raise ScheduledTaskCancelledError
        task.kwargs = {"minute": minute, "scheduler": NAME}


class Scheduler(TaskiqScheduler):
    _listener: asyncio.Server | None = None

    async def startup(self) -> None:
        logging.configure(settings().log_level)
        # taskiq stops cleanly on Ctrl-C only; App Service asks with SIGTERM.
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asyncio.current_task().cancel)
        await super().startup()
        self._listener = await health_listener.listen("scheduler")
        logging.log(__name__).info("scheduler started", scheduler=NAME)

    async def shutdown(self) -> None:
        if self._listener is not None:
            self._listener.close()
        await close()
        await super().shutdown()
        logging.log(__name__).info("scheduler stopped", scheduler=NAME)


sources: list[ScheduleSource] = [OncePerMinute(broker)]
scheduler = Scheduler(broker, sources)
