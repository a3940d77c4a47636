"""PostgreSQL through PgBouncer in transaction mode."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import lru_cache

from sqlalchemy import URL, make_url
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)

from modules.backend.core.config import settings


def pooled_arguments(url: URL) -> dict[str, object]:
    if url.drivername != "postgresql+asyncpg":
        return {}
    return {
        "statement_cache_size": 0,
        # In transaction mode the next transaction may be on another server connection, where a named
        # statement prepared in this one does not exist. An unnamed one lives within its transaction.
        "prepared_statement_name_func": lambda: "",
        "timeout": 10,
        "command_timeout": 30,
    }


@lru_cache
def engine() -> AsyncEngine:
    url = make_url(settings().database_url.get_secret_value())
    return create_async_engine(
        url,
        connect_args=pooled_arguments(url),
        pool_size=10,  # for each gunicorn worker
        max_overflow=5,
        pool_timeout=30,
        pool_recycle=1800,
        pool_pre_ping=True,
    )


@lru_cache
def _sessions() -> async_sessionmaker[AsyncSession]:
    return async_sessionmaker(engine(), expire_on_commit=False)


@asynccontextmanager
async def transaction() -> AsyncIterator[AsyncSession]:
    async with _sessions().begin() as session:
        yield session


async def session() -> AsyncIterator[AsyncSession]:
    """One transaction for a request; FastAPI closes it before the response is sent."""
    async with transaction() as current:
        yield current
