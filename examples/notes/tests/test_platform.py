import json
import time

import pytest
from pydantic import ValidationError
from sqlalchemy import make_url

from modules.backend.core import logging, tokens
from modules.backend.core.config import Settings, settings
from modules.backend.core.database import pooled_arguments
from modules.backend.core.redis import Database, key, redis, url
from modules.backend.core.sessions import open_cookie
from modules.backend.notes import text
from modules.backend.version import VERSION


async def test_health_looks_at_nothing_outside(client, monkeypatch):
    monkeypatch.setattr("modules.backend.api.health.transaction", None)
    answer = await client.get("/health")
    assert answer.status_code == 200
    assert answer.json()["version"] == VERSION == answer.headers["x-notes-version"]


async def test_ready_names_what_is_away(client, monkeypatch):
    assert (await client.get("/health/ready")).json()["status"] == "ready"

    async def away():
        raise OSError("no route")

    monkeypatch.setattr("modules.backend.api.health._database", away)
    answer = await client.get("/health/ready")
    assert answer.status_code == 503
    assert answer.json()["checks"] == {"database": "unavailable", "redis": "ok"}


async def test_every_response_carries_the_security_headers(client):
    for path in ("/", "/app.js", "/health", "/missing"):
        headers = (await client.get(path)).headers
        assert "default-src 'self'" in headers["content-security-policy"], path
        assert headers["x-content-type-options"] == "nosniff", path
        assert headers["strict-transport-security"], path


async def test_writing_is_limited_for_each_client(client, monkeypatch):
    monkeypatch.setattr(settings(), "notes_per_minute", 2)
    monkeypatch.setattr("modules.backend.core.rate_limit.time.time", lambda: 1_000_000_030.0)
    answers = [await client.post("/api/notes", json={"body": "again"}) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [201, 201, 429]
    assert 0 < int(answers[2].headers["retry-after"]) <= 60


async def test_a_session_remembers_and_cannot_be_forged(client):
    await client.post("/api/notes", json={"author": "Ada", "body": "hello"})
    assert (await client.get("/api/status")).json()["author"] == "Ada"
    signed = client.cookies["session"]
    assert open_cookie(signed) == signed.partition(".")[0]
    for forged in ("", "abc", "abc.", signed[:-1] + "é", signed.replace(".", "a.")):
        assert open_cookie(forged) is None, forged


async def test_a_token_is_asked_for_once(cache, monkeypatch):
    asked = []

    def ask(address, header):
        asked.append((address, header))
        return {"access_token": "t", "expires_on": str(int(time.time()) + 3600)}

    with pytest.raises(tokens.NoIdentity):
        await tokens.token("https://vault.azure.net")
    monkeypatch.setattr(settings(), "identity_endpoint", "http://identity/msi/token")
    monkeypatch.setattr(settings(), "identity_header", Settings(identity_header="secret").identity_header)
    monkeypatch.setattr(tokens, "_ask", ask)
    first = await tokens.token("https://vault.azure.net")
    assert first == await tokens.token("https://vault.azure.net")
    assert asked == [("http://identity/msi/token?resource=https%3A%2F%2Fvault.azure.net&api-version=2019-08-01", "secret")]
    (name,) = await cache(Database.TOKENS).keys()
    assert 3290 <= await cache(Database.TOKENS).ttl(name) <= 3300


def test_an_unresolved_key_vault_reference_stops_the_start(monkeypatch):
    monkeypatch.setenv("JWT_SECRET", "@Microsoft.KeyVault(VaultName=kv;SecretName=notes-jwt-secret)")
    with pytest.raises(ValidationError, match="not resolved"):
        Settings()


def test_no_secret_is_shown():
    shown = repr(settings()) + str(settings().model_dump())
    assert "test-jwt-secret" not in shown and "nowhere" not in shown


def test_each_purpose_has_its_redis_database(monkeypatch):
    monkeypatch.setenv("REDIS_URL", "rediss://:p%2Fw@notes-redis.redis.cache.windows.net:6380/0")
    monkeypatch.setattr("modules.backend.core.redis.settings", Settings)
    assert url(Database.TOKENS) == "rediss://:p%2Fw@notes-redis.redis.cache.windows.net:6380/4"
    connection = redis.__wrapped__(Database.TASKS).connection_pool.connection_kwargs
    assert (connection["db"], connection["password"]) == (2, "p/w")
    assert key("a", 1) == "notes:test:a:1"


def test_managed_redis_has_one_database(monkeypatch):
    monkeypatch.setenv("REDIS_URL", "rediss://:p%2Fw@notes-redis.westeurope.redis.azure.net:10000/0")
    monkeypatch.setattr("modules.backend.core.redis.settings", Settings)
    assert url(Database.TOKENS) == "rediss://:p%2Fw@notes-redis.westeurope.redis.azure.net:10000/0"


def test_nothing_is_prepared_across_transactions():
    arguments = pooled_arguments(make_url("postgresql+asyncpg://u:p@h:6432/notes?ssl=require"))
    assert arguments["statement_cache_size"] == 0
    assert arguments["prepared_statement_name_func"]() == ""


@pytest.mark.parametrize(
    ("body", "words", "expected"),
    [
        ("One two three", 3, "One two three"),
        ("First. Second.", 2, "First."),
        ("3.14 is pi! Yes", 4, "3.14 is pi!"),
        ("a\n b", 2, "a b"),
        ("word " * 100, 100, ("word " * 27).strip() + "…"),
    ],
)
def test_word_count_and_summary(body, words, expected):
    assert text.word_count(body) == words
    assert text.summary(body) == expected
    assert len(text.summary(body)) <= 200


def test_access_logs_are_json(capsys):
    import logging as std

    handler = std.StreamHandler()
    handler.setFormatter(logging.formatter())
    record = std.LogRecord(
        "uvicorn.access", std.INFO, "", 0, '%s - "%s %s HTTP/%s" %d', ("10.0.1.1:5", "GET", "/", "1.1", 200), None
    )
    line = json.loads(handler.format(record))
    assert (line["event"], line["method"], line["path"], line["status"]) == ("request", "GET", "/", 200)
    assert line["version"] == VERSION
