"""Notes over HTTP."""

import asyncio
import json
import math
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Path, Query
from fastapi.responses import StreamingResponse
from sqlalchemy.ext.asyncio import AsyncSession

from modules.backend.core.database import session, transaction
from modules.backend.core.rate_limit import limit_writes
from modules.backend.core.sessions import Session, current_session
from modules.backend.notes import repository, service
from modules.backend.notes.schemas import NewNote, NoteOut
from modules.backend.version import VERSION

router = APIRouter(prefix="/api")
Database = Annotated[AsyncSession, Depends(session, scope="function")]
Visitor = Annotated[Session, Depends(current_session)]
BIGINT_MAX = 2**63 - 1


@router.post("/notes", status_code=201, dependencies=[Depends(limit_writes)])
async def write(new: NewNote, visitor: Visitor) -> NoteOut:
    note = await service.write(new)
    await visitor.remember(author=note.author, last_note=note.id)
    return NoteOut.model_validate(note)


@router.get("/notes")
async def latest(
    database: Database,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    before: Annotated[int | None, Query(ge=1, le=BIGINT_MAX)] = None,
) -> list[NoteOut]:
    return [NoteOut.model_validate(note) for note in await repository.latest(database, limit, before)]


@router.get("/notes/{note_id}")
async def read(database: Database, note_id: Annotated[int, Path(ge=1, le=BIGINT_MAX)]) -> NoteOut:
    note = await repository.get(database, note_id)
    if note is None:
        raise HTTPException(404, "no such note")
    return NoteOut.model_validate(note)


@router.get("/export")
async def export(seconds: Annotated[float, Query(ge=0, le=120)] = 0) -> StreamingResponse:
    """All notes, one JSON object a line.

    `seconds` spreads them over a time, so that a release can be rehearsed under a long download.
    """
    async with transaction() as current:
        notes = [NoteOut.model_validate(note) for note in await repository.latest(current, limit=1000)]

    async def lines() -> AsyncIterator[str]:
        yield json.dumps({"type": "start", "version": VERSION, "notes": len(notes)}) + "\n"
        # At least a line a second, so that a slow export of few notes is slow, too.
        pauses = max(len(notes), math.ceil(seconds), 1)
        for number in range(pauses):
            if number < len(notes):
                yield notes[number].model_dump_json() + "\n"
            elif seconds:
                yield "\n"
            if seconds:
                await asyncio.sleep(seconds / pauses)
        yield json.dumps({"type": "end", "version": VERSION}) + "\n"

    return StreamingResponse(lines(), media_type="application/x-ndjson")
