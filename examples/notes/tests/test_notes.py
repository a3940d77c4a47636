import json

from redis.exceptions import ConnectionError

from modules.backend.core.redis import Database, key
from modules.backend.notes import service
from modules.backend.version import VERSION


async def write(client, body="Buy milk. And bread.", **more):
    return await client.post("/api/notes", json={"body": body, **more})


async def test_a_written_note_can_be_read_and_is_queued(client, queued):
    answer = await write(client, author="Ada")
    assert answer.status_code == 201
    note = answer.json()
    assert (note["author"], note["processed_at"]) == ("Ada", None)
    assert queued == [note["id"]]
    assert (await client.get(f"/api/notes/{note['id']}")).json() == note


async def test_the_worker_fills_in_the_rest(client, cache):
    note_id = (await write(client)).json()["id"]
    assert await service.process(note_id)
    note = (await client.get(f"/api/notes/{note_id}")).json()
    assert (note["word_count"], note["summary"]) == (4, "Buy milk.")
    assert await cache(Database.STATE).get(key("processed")) == "1"
    assert not await service.process(note_id + 1)


async def test_the_list_is_newest_first_in_pages(client):
    ids = [(await write(client, f"note {number}")).json()["id"] for number in range(5)]
    page = (await client.get("/api/notes?limit=2")).json()
    assert [note["id"] for note in page] == ids[:-3:-1]
    rest = (await client.get(f"/api/notes?before={page[-1]['id']}")).json()
    assert [note["id"] for note in rest] == ids[2::-1]


async def test_a_note_is_kept_when_redis_is_away(client, monkeypatch):
    async def away(*_):
        raise ConnectionError("away")

    monkeypatch.setattr("modules.backend.notes.events.publish", away)
    assert (await write(client)).status_code == 201


async def test_input_is_checked(client):
    for wrong in ({}, {"body": "  "}, {"body": "x" * 10_001}, {"body": "nul \0"}, {"body": "a", "id": 1}):
        assert (await client.post("/api/notes", json=wrong)).status_code == 422, wrong
    assert (await client.get("/api/notes/0")).status_code == 422
    assert (await client.get(f"/api/notes/{2**63}")).status_code == 422
    assert (await client.get("/api/notes/999")).status_code == 404
    assert (await client.post("/api/notes", content=b"x" * 70_000)).status_code == 413


async def test_the_export_streams_every_note(client):
    for number in range(3):
        await write(client, f"note {number}")
    lines = [json.loads(line) for line in (await client.get("/api/export")).text.splitlines()]
    assert [line.get("type") for line in lines] == ["start", None, None, None, "end"]
    assert lines[0] == {"type": "start", "version": VERSION, "notes": 3}
