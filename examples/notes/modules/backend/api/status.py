"""What the page shows about the release and the platform below it."""

from fastapi import APIRouter

from modules.backend.api.notes import Database as NotesDatabase
from modules.backend.api.notes import Visitor
from modules.backend.core.config import settings
from modules.backend.core.redis import Database, key, redis
from modules.backend.core.tokens import NoIdentity, token
from modules.backend.notes import repository
from modules.backend.version import VERSION

router = APIRouter(prefix="/api")


@router.get("/status")
async def status(database: NotesDatabase, visitor: Visitor) -> dict[str, object]:
    current = settings()
    try:
        _, expires_on = await token("https://vault.azure.net")
        identity: dict[str, object] = {"available": True, "expires_on": expires_on}
    except NoIdentity as reason:
        identity = {"available": False, "reason": str(reason)}
    return {
        "version": VERSION,
        "environment": current.app_env,
        "slot": current.website_slot_name,
        "instance": current.website_instance_id[:8],
        "notes": await repository.count(database),
        "processed_lately": int(await redis(Database.STATE).get(key("processed")) or 0),
        "author": (await visitor.recall()).get("author"),
        "identity": identity,
    }
