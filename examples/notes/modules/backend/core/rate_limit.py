"""A fixed window a minute, counted in Redis so that all instances share it."""

import time

from fastapi import HTTPException, Request

from modules.backend.core.config import settings
from modules.backend.core.redis import Database, key, redis
from modules.backend.core.security import pseudonym

WINDOW = 60


async def limit_writes(request: Request) -> None:
    client = request.client.host if request.client else "unknown"
    now = int(time.time())
    counter = key("writes", pseudonym(client), now // WINDOW)
    async with redis(Database.RATE_LIMITS).pipeline(transaction=True) as pipeline:
        pipeline.incr(counter)
        pipeline.expire(counter, WINDOW)
        count, _ = await pipeline.execute()
    if count > settings().notes_per_minute:
        retry = str(WINDOW - now % WINDOW)
        raise HTTPException(429, "too many notes; try again in a minute", headers={"Retry-After": retry})
