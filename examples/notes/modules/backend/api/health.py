"""Whether the process lives, and whether it can do its work."""

import asyncio
from collections.abc import Awaitable

from fastapi import APIRouter, Response
from sqlalchemy import text

from modules.backend.core.config import settings
from modules.backend.core.database import transaction
from modules.backend.core.logging import log
from modules.backend.core.redis import Database, redis
from modules.backend.version import VERSION

router = APIRouter()
TIMEOUT = 5


@router.get("/health")
async def alive() -> dict[str, str]:
    """Looks at nothing outside: a database that is away is no reason to restart the app."""
    current = settings()
    return {
        "status": "ok",
        "version": VERSION,
        "environment": current.app_env,
        "slot": current.website_slot_name,
        "instance": current.website_instance_id,
    }


async def _database() -> None:
    async with transaction() as session:
        await session.execute(text("SELECT 1"))


async def _cache() -> None:
    await redis(Database.STATE).ping()


async def _check(name: str, probe: Awaitable[None]) -> tuple[str, str]:
    try:
        await asyncio.wait_for(probe, TIMEOUT)
    except Exception as error:  # whatever it is, it is the answer
        log(__name__).error("not ready", dependency=name, error=f"{type(error).__name__}: {error}")
        return name, "unavailable"
    return name, "ok"


@router.get("/health/ready")
async def ready(response: Response) -> dict[str, str | dict[str, str]]:
    checks = dict(await asyncio.gather(_check("database", _database()), _check("redis", _cache())))
    status = "ready" if set(checks.values()) == {"ok"} else "unavailable"
    if status != "ready":
        response.status_code = 503
    return {"status": status, "version": VERSION, "checks": checks}
