"""A session is an identifier, signed so that nobody can guess another's, and a hash in Redis."""

import hashlib
import hmac
import secrets
from dataclasses import dataclass

from fastapi import Request, Response

from modules.backend.core.config import settings
from modules.backend.core.redis import SESSION_TTL, Database, key, redis

COOKIE = "session"


@dataclass(frozen=True)
class Session:
    id: str

    async def remember(self, **values: str | int) -> None:
        name = key("session", self.id)
        async with redis(Database.SESSIONS).pipeline(transaction=True) as pipeline:
            pipeline.hset(name, mapping=values)
            pipeline.expire(name, SESSION_TTL)
            await pipeline.execute()

    async def recall(self) -> dict[str, str]:
        return await redis(Database.SESSIONS).hgetall(key("session", self.id))


def _signature(session_id: str) -> str:
    secret = settings().jwt_secret.get_secret_value().encode()
    return hmac.new(secret, session_id.encode(), hashlib.sha256).hexdigest()


def open_cookie(value: str) -> str | None:
    """The identifier, if we signed it."""
    session_id, _, signature = value.partition(".")
    return session_id if hmac.compare_digest(_signature(session_id).encode(), signature.encode()) else None


async def current_session(request: Request, response: Response) -> Session:
    session_id = open_cookie(request.cookies.get(COOKIE, ""))
    if session_id is None:
        session_id = secrets.token_hex(16)
        response.set_cookie(
            COOKIE,
            f"{session_id}.{_signature(session_id)}",
            max_age=SESSION_TTL,
            httponly=True,
            samesite="lax",
            secure=request.url.scheme == "https",
        )
    return Session(session_id)
