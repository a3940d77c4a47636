#!/usr/bin/env bash
# Written by lazuli: makes and forgets the app's database logins, inside the app's network, where
# alone the server can be reached. Arguments:
#   login ROLE DATABASE VERIFIER   ROLE may log in and work with DATABASE's rows
#   forget DATABASE KEEP           every login of DATABASE made here but KEEP is gone
#   drop ROLE                      this one is gone
# VERIFIER is a SCRAM-SHA-256 verifier in URL-safe base64: no password comes here.
set -euo pipefail
case "${MIGRATION_DATABASE_URL:-}" in
  "") echo "rotate: MIGRATION_DATABASE_URL is not set" >&2; exit 64 ;;
  @Microsoft.KeyVault*) echo "rotate: the Key Vault reference in MIGRATION_DATABASE_URL was not resolved" >&2; exit 65 ;;
esac
cd "${WEBROOT_PATH:-/home/site/wwwroot}"
if [ -z "${VIRTUAL_ENV:-}" ]; then
  for environment in antenv .venv; do
    if [ -f "$environment/bin/activate" ]; then
      . "$environment/bin/activate"
      break
    fi
  done
fi
exec python3 - "$@" <<'PYTHON'
import asyncio, base64, os, re, ssl, sys, urllib.parse

try:
    import asyncpg
except ImportError:
    sys.exit("rotate: the app's environment has no asyncpg, which the connection strings are for")

NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}\Z")


def quoted(name):
    return '"' + name.replace('"', '""') + '"'


def checked(name):
    return name if NAME.match(name) else sys.exit(f"rotate: `{name}` is no name for a login or database")


async def connect(database=None):
    url = urllib.parse.urlsplit(os.environ["MIGRATION_DATABASE_URL"])
    return await asyncpg.connect(
        host=url.hostname, port=url.port or 5432, user=urllib.parse.unquote(url.username),
        password=urllib.parse.unquote(url.password), database=database or url.path.lstrip("/"),
        ssl=ssl.create_default_context(), timeout=15, command_timeout=60,
    )


async def login(role, database, verifier):
    verifier = base64.urlsafe_b64decode(verifier + "=" * (-len(verifier) % 4)).decode()
    if not re.fullmatch(r"SCRAM-SHA-256\$[0-9]+:[A-Za-z0-9+/=]+\$[A-Za-z0-9+/=]+:[A-Za-z0-9+/=]+", verifier):
        sys.exit("rotate: that is no SCRAM-SHA-256 verifier")
    group = checked(f"{database}_app")
    connection = await connect(database)
    async with connection.transaction():
        # Two rotations at once would trip over each other's roles.
        await connection.execute("SELECT pg_advisory_xact_lock(hashtext('lazuli rotate'))")
        known = {row["rolname"] for row in await connection.fetch("SELECT rolname FROM pg_roles")}
        if group not in known:
            await connection.execute(f"CREATE ROLE {quoted(group)} NOLOGIN")
        if role not in known:
            await connection.execute(f"CREATE ROLE {quoted(role)} NOLOGIN IN ROLE {quoted(group)}")
        await connection.execute(f"ALTER ROLE {quoted(role)} LOGIN PASSWORD '{verifier}'")
        await connection.execute(f"GRANT CONNECT, TEMPORARY ON DATABASE {quoted(database)} TO {quoted(group)}")
        schemas = await connection.fetch(
            "SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'"
        )
        for schema in (quoted(row["nspname"]) for row in schemas):
            for grant in (
                f"USAGE ON SCHEMA {schema}",
                f"SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema}",
                f"USAGE, SELECT, UPDATE ON ALL SEQUENCES IN SCHEMA {schema}",
                f"EXECUTE ON ALL FUNCTIONS IN SCHEMA {schema}",
            ):
                await connection.execute(f"GRANT {grant} TO {quoted(group)}")
            # What later migrations make.
            for what in ("SELECT, INSERT, UPDATE, DELETE ON TABLES", "USAGE, SELECT, UPDATE ON SEQUENCES", "EXECUTE ON FUNCTIONS"):
                await connection.execute(f"ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT {what} TO {quoted(group)}")
    await connection.close()
    print(f"rotate: {role} may log in to {database}")


async def drop(connection, role):
    await connection.execute(f"ALTER ROLE {quoted(role)} NOLOGIN PASSWORD NULL")
    await connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1 AND pid <> pg_backend_pid()", role
    )
    try:
        await connection.execute(f"DROP ROLE {quoted(role)}")
        print(f"rotate: {role} is gone")
    except asyncpg.DependentObjectsStillExistError:
        # It made something of its own: it stays, and nobody can log in as it.
        print(f"rotate: {role} owns something and stays, without a login")


async def forget(database, keep):
    connection = await connect(database)
    pattern = f"^{database}_r[0-9]+$"
    old = await connection.fetch("SELECT rolname FROM pg_roles WHERE rolname ~ $1 AND rolname <> $2", pattern, keep)
    for row in old:
        await drop(connection, row["rolname"])
    await connection.close()
    print(f"rotate: {len(old)} old logins of {database} were forgotten")


async def drop_one(role):
    connection = await connect()
    if await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", role):
        await drop(connection, role)
    await connection.close()
    print(f"rotate: {role} is not there")


match sys.argv[1:]:
    case ["login", role, database, verifier]:
        asyncio.run(login(checked(role), checked(database), verifier))
    case ["forget", database, keep]:
        asyncio.run(forget(checked(database), checked(keep)))
    case ["drop", role]:
        asyncio.run(drop_one(checked(role)))
    case _:
        sys.exit("rotate: expected login ROLE DATABASE VERIFIER, forget DATABASE KEEP or drop ROLE")
PYTHON
