"""The app on SQLite and an in-memory Redis: no services, the same code."""

import os

os.environ |= {
    "APP_ENV": "test",
    "DATABASE_URL": "sqlite+aiosqlite:///file:notes?mode=memory&cache=shared&uri=true",
    "REDIS_URL": "redis://nowhere:6379/0",
    "JWT_SECRET": "test-jwt-secret-0123456789",
    "API_KEY_SALT": "test-api-key-salt-0123456789",
}

import fakeredis
import httpx
import pytest
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.pool import StaticPool

from modules.backend.core import database
from modules.backend.main import app
from modules.backend.notes.models import Base
from modules.backend.tasks.notes import process_note


@pytest.fixture
async def sessions(monkeypatch):
    engine = create_async_engine("sqlite+aiosqlite://", poolclass=StaticPool)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    made = async_sessionmaker(engine, expire_on_commit=False)
    monkeypatch.setattr(database, "_sessions", lambda: made)
    yield made
    await engine.dispose()


@pytest.fixture
async def cache(monkeypatch):
    server = fakeredis.FakeServer()
    clients = {}

    def client(which):
        if which not in clients:
            clients[which] = fakeredis.FakeAsyncRedis(server=server, db=which.value, decode_responses=True)
        return clients[which]

    for module in ("api.health", "api.status", "core.rate_limit", "core.sessions", "core.tokens", "notes.events"):
        monkeypatch.setattr(f"modules.backend.{module}.redis", client)
    monkeypatch.setattr("modules.backend.notes.service.redis", client)
    yield client
    for opened in clients.values():
        await opened.aclose()


@pytest.fixture
def queued(monkeypatch):
    """The notes that a task was queued for."""
    ids = []

    async def kiq(note_id):
        ids.append(note_id)

    monkeypatch.setattr(process_note, "kiq", kiq)
    return ids


@pytest.fixture
async def client(sessions, cache, queued):
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="https://notes.test") as opened:
        yield opened
