"""Access tokens of the site's managed identity, cached until shortly before they expire.

App Service answers on IDENTITY_ENDPOINT to whoever shows IDENTITY_HEADER:
https://learn.microsoft.com/azure/app-service/overview-managed-identity#rest-endpoint-reference
An app that calls Azure services takes `azure.identity.DefaultAzureCredential` instead, which asks
the same endpoint; this one needs a single token and starts faster without it.
"""

import asyncio
import hashlib
import json
import time
import urllib.parse
import urllib.request
from typing import Any

from modules.backend.core.config import settings
from modules.backend.core.redis import Database, key, redis

MARGIN = 300  # seconds before expiry at which a new token is asked for


class NoIdentity(Exception):
    """The site has no managed identity, or its endpoint refused."""


def _ask(url: str, header: str) -> dict[str, Any]:
    request = urllib.request.Request(url, headers={"X-IDENTITY-HEADER": header})
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(request, timeout=5) as response:
        return json.load(response)


async def token(resource: str) -> tuple[str, int]:
    """A token for `resource` and the Unix time at which it expires."""
    endpoint, header = settings().identity_endpoint, settings().identity_header
    if not endpoint or not header:
        raise NoIdentity("this site has no managed identity")
    # Another slot has another identity, and its endpoint another header.
    owner = hashlib.sha256(header.get_secret_value().encode()).hexdigest()[:16]
    name = key("token", owner, resource)
    cache = redis(Database.TOKENS)
    if cached := await cache.get(name):
        found = json.loads(cached)
        return found["token"], found["expires_on"]
    query = urllib.parse.urlencode({"resource": resource, "api-version": "2019-08-01"})
    try:
        answer = await asyncio.to_thread(_ask, f"{endpoint}?{query}", header.get_secret_value())
        value, expires_on = str(answer["access_token"]), int(answer["expires_on"])
    except (OSError, KeyError, ValueError) as error:
        raise NoIdentity(f"the identity endpoint gave no token: {error}") from error
    if (lifetime := expires_on - int(time.time()) - MARGIN) > 0:
        await cache.set(name, json.dumps({"token": value, "expires_on": expires_on}), ex=lifetime)
    return value, expires_on
