"""What can be done with notes. Routes and tasks call this; it calls the repository."""

from datetime import UTC, datetime

from redis.exceptions import RedisError
from sqlalchemy.ext.asyncio import AsyncSession

from modules.backend.core.database import transaction
from modules.backend.core.logging import log
from modules.backend.core.redis import STATE_TTL, Database, key, redis
from modules.backend.notes import events, repository, text
from modules.backend.notes.models import Note
from modules.backend.notes.schemas import NewNote


async def write(new: NewNote) -> Note:
    from modules.backend.tasks.notes import process_note

    async with transaction() as session:
        note = await repository.add(session, new.author, new.body)
    # Only after the commit: the worker reads what it is told about.
    try:
        await events.publish("written", note)
        await process_note.kiq(note.id)
    except (RedisError, OSError) as error:
        # The note is safe. `process_forgotten` finds what no task was queued for.
        log(__name__).error("note written, but no task queued", note=note.id, error=str(error))
    return note


async def process(note_id: int) -> bool:
    """Does the worker's part. Doing it again changes nothing."""
    async with transaction() as session:
        note = await repository.get(session, note_id)
        if note is None:
            return False
        note.word_count = text.word_count(note.body)
        note.summary = text.summary(note.body)
        note.processed_at = datetime.now(UTC)
    await events.publish("processed", note)
    counter = key("processed")
    async with redis(Database.STATE).pipeline(transaction=True) as pipeline:
        pipeline.incr(counter)
        pipeline.expire(counter, STATE_TTL)
        await pipeline.execute()
    return True


async def forgotten(session: AsyncSession, older_than: datetime) -> list[int]:
    return [note.id for note in await repository.unprocessed(session, older_than, limit=100)]
