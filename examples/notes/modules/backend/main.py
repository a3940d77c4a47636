"""The web application: `gunicorn -k uvicorn_worker.UvicornWorker modules.backend.main:app`."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles

from modules.backend.api import events, health, notes, status
from modules.backend.core import logging, vault
from modules.backend.core import redis as cache
from modules.backend.core.config import settings
from modules.backend.core.database import engine
from modules.backend.core.security import SecurityMiddleware
from modules.backend.notes.events import hub
from modules.backend.tasks.broker import broker
from modules.backend.version import VERSION

FRONTEND = Path(__file__).parents[1] / "frontend"


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    log = logging.log(__name__)
    loop = type(asyncio.get_running_loop()).__module__.partition(".")[0]
    log.info(f"Using {loop} event loop implementation", environment=settings().app_env)
    # Not awaited: the app also starts, and says so on /health/ready, while Redis is away.
    background = [asyncio.create_task(hub.relay()), asyncio.create_task(vault.check_signing_secret())]
    yield
    for task in background:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    await broker.connection_pool.disconnect()
    await cache.close()
    await engine().dispose()
    log.info("stopped")


def create_app() -> FastAPI:
    logging.configure(settings().log_level)
    production = settings().app_env == "production"
    app = FastAPI(
        title="Notes",
        version=VERSION,
        lifespan=lifespan,
        docs_url=None,  # loads scripts from elsewhere, which the content security policy forbids
        redoc_url=None,
        openapi_url=None if production else "/openapi.json",
    )
    app.add_middleware(SecurityMiddleware)
    for module in (health, notes, status, events):
        app.include_router(module.router)
    app.mount("/", StaticFiles(directory=FRONTEND, html=True), name="frontend")
    return app


app = create_app()
