"""Redis as the standard divides it: one database a purpose. Azure Managed Redis has one database for
everything: there the purpose is in the keys alone, where it always is as well.

Keys also carry the environment, because both slots may share one Redis: a task queued by the staging
slot must not reach production's worker, which has another database.
"""

from enum import IntEnum
from functools import lru_cache

from redis.asyncio import Redis

from modules.backend.core.config import settings

HOUR = 3600


class Database(IntEnum):
    SESSIONS = 0  # 1 hour
    STATE = 1  # 4 hours
    TASKS = 2  # Taskiq's broker
    RATE_LIMITS = 3  # as long as the window
    TOKENS = 4  # the token's lifetime less a margin


SESSION_TTL = 1 * HOUR
STATE_TTL = 4 * HOUR


def url(database: Database) -> str:
    base = settings().redis_url.get_secret_value()
    scheme, _, rest = base.partition("://")
    server = rest.partition("/")[0]
    managed = ".redis.azure.net:" in f"{server}:"
    return f"{scheme}://{server}/{0 if managed else database.value}"


@lru_cache
def redis(database: Database) -> Redis:
    return Redis.from_url(
        url(database), decode_responses=True, socket_connect_timeout=5, socket_timeout=35, health_check_interval=30
    )


def key(*parts: object) -> str:
    return ":".join(("notes", settings().app_env, *map(str, parts)))


async def close() -> None:
    for database in Database:
        await redis(database).aclose()
