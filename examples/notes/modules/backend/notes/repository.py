"""Every query about notes."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from modules.backend.notes.models import Heartbeat, Note


async def add(session: AsyncSession, author: str, body: str) -> Note:
    note = Note(author=author, body=body)
    session.add(note)
    await session.flush()
    await session.refresh(note)
    return note


async def get(session: AsyncSession, note_id: int) -> Note | None:
    return await session.get(Note, note_id)


async def latest(session: AsyncSession, limit: int, before: int | None = None) -> Sequence[Note]:
    query = select(Note).order_by(Note.id.desc()).limit(limit)
    if before is not None:
        query = query.where(Note.id < before)
    return (await session.scalars(query)).all()


async def unprocessed(session: AsyncSession, older_than: datetime, limit: int) -> Sequence[Note]:
    query = select(Note).where(Note.processed_at.is_(None), Note.created_at < older_than)
    return (await session.scalars(query.order_by(Note.id).limit(limit))).all()


async def count(session: AsyncSession) -> int:
    return await session.scalar(select(func.count()).select_from(Note)) or 0


async def record_heartbeat(session: AsyncSession, task_id: str, minute: datetime, scheduler: str) -> None:
    """A task that is delivered twice leaves one row; two schedulers would leave two."""
    row = insert(Heartbeat).values(task_id=task_id, minute=minute, scheduler=scheduler)
    await session.execute(row.on_conflict_do_nothing(index_elements=[Heartbeat.task_id]))
