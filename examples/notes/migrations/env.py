"""Migrations run before a release is swapped in, never when the app starts.

They connect directly (port 5432), not through PgBouncer, because they hold a lock for as long as
they run, and they read MIGRATION_DATABASE_URL alone: the app's other secrets are not needed here.
"""

import asyncio
import logging
import os
import sys

from alembic import context
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from modules.backend.notes.models import Base

# Two releases may migrate at the same time; the second waits for the first and finds nothing to do.
MIGRATION_LOCK = 0x6E6F746573  # "notes"


def migrate(connection: Connection) -> None:
    context.configure(connection=connection, target_metadata=Base.metadata, compare_type=True)
    with context.begin_transaction():
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
            # The old version still serves. Better to fail here than to queue its queries behind us.
            connection.execute(text("SET LOCAL lock_timeout = '5s'"))
        context.run_migrations()


async def main(url: str) -> None:
    engine = create_async_engine(url, poolclass=NullPool)
    try:
        async with engine.connect() as connection:
            await connection.run_sync(migrate)
    finally:
        await engine.dispose()


logging.basicConfig(stream=sys.stdout, format="%(message)s")
logging.getLogger("alembic").setLevel("INFO")
if context.is_offline_mode():
    sys.exit("migrations need a database: `alembic upgrade head` without --sql")
database_url = os.environ.get("MIGRATION_DATABASE_URL")
if not database_url:
    sys.exit("MIGRATION_DATABASE_URL is not set: the direct (5432) URL of the database to migrate")
asyncio.run(main(database_url))
