from datetime import UTC, datetime, timedelta

from taskiq import Context, TaskiqDepends

from modules.backend.core.database import transaction
from modules.backend.core.logging import log
from modules.backend.notes import repository, service
from modules.backend.tasks.broker import broker


@broker.task(timeout=30)
async def process_note(note_id: int) -> None:
    if await service.process(note_id):
        log(__name__).info("note processed", note=note_id)
    else:
        log(__name__).warning("note is gone", note=note_id)


@broker.task(timeout=30, schedule=[{"cron": "* * * * *"}])
async def heartbeat(minute: str, scheduler: str, context: Context = TaskiqDepends()) -> None:
    """One row a minute: what a scheduler that runs exactly once leaves behind."""
    async with transaction() as session:
        when = datetime.fromisoformat(minute)
        await repository.record_heartbeat(session, context.message.task_id, when, scheduler)


@broker.task(timeout=30, schedule=[{"cron": "*/5 * * * *"}])
async def process_forgotten(minute: str, scheduler: str) -> None:
    """Queues again what was written while Redis was away."""
    async with transaction() as session:
        old = await service.forgotten(session, datetime.now(UTC) - timedelta(minutes=2))
    for note_id in old:
        await process_note.kiq(note_id)
    if old:
        log(__name__).warning("forgotten notes queued", count=len(old), minute=minute, scheduler=scheduler)
