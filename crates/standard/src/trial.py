"""Tries the migrations on a copy of this slot's database: written by lazuli, run inside the app's network.

Copies the database, runs the migration on the copy, looks meanwhile at what it locks and for how long,
compares the schema before and after, runs it a second time (which must change nothing), and deletes the
copy. The last line says what was found, as JSON. Nothing else is touched.
"""

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from urllib.parse import unquote, urlsplit, urlunsplit

MARK = "LAZULI-TRIAL "
# Modes that make writers, or everybody, wait: https://www.postgresql.org/docs/16/explicit-locking.html
MODES = ("AccessExclusiveLock", "ExclusiveLock", "ShareRowExclusiveLock", "ShareLock")
COLUMNS = """
    SELECT c.table_name, c.column_name, c.data_type, c.is_nullable,
           coalesce(c.character_maximum_length, c.numeric_precision, -1)
    FROM information_schema.columns c
    JOIN information_schema.tables t USING (table_schema, table_name)
    WHERE c.table_schema = 'public' AND t.table_type = 'BASE TABLE' ORDER BY 1, 2
"""
LOCKS = """
    SELECT r.relname, l.mode FROM pg_locks l JOIN pg_class r ON r.oid = l.relation
    JOIN pg_database d ON d.oid = l.database
    WHERE d.datname = current_database() AND l.granted AND r.relkind IN ('r', 'p') AND l.pid <> pg_backend_pid()
"""


def done(**report):
    print(MARK + json.dumps(report), flush=True)
    sys.exit(0)


class Session:
    """A connection by whichever driver the app has."""

    def __init__(self, url):
        try:
            import asyncpg

            self.loop = asyncio.new_event_loop()
            plain = re.sub(r"([?&])ssl=", r"\1sslmode=", url)
            self.connection = self.loop.run_until_complete(asyncpg.connect(plain, timeout=30))
        except ModuleNotFoundError:
            import psycopg

            self.loop = None
            self.connection = psycopg.connect(url, autocommit=True, connect_timeout=30)

    def rows(self, sql):
        if self.loop:
            return [tuple(row) for row in self.loop.run_until_complete(self.connection.fetch(sql))]
        return self.connection.execute(sql).fetchall()

    def run(self, sql):
        if self.loop:
            self.loop.run_until_complete(self.connection.execute(sql))
        else:
            self.connection.execute(sql)

    def close(self):
        if self.loop:
            self.loop.run_until_complete(self.connection.close())
            self.loop.close()
        else:
            self.connection.close()


def quoted(name):
    return '"' + name.replace('"', '""') + '"'


def literal(text):
    return "'" + text.replace("'", "''") + "'"


def schema(url):
    session = Session(url)
    try:
        return {(row[0], row[1]): tuple(row[2:]) for row in session.rows(COLUMNS)}
    finally:
        session.close()


def gone(before, after):
    """What the old version may miss."""
    lost = []
    tables = {table for table, _ in after}
    for table in sorted({table for table, _ in before} - tables):
        lost.append(f"table {table}")
    for (table, column), was in sorted(before.items()):
        if table not in tables or table == "alembic_version":
            continue
        now = after.get((table, column))
        if now is None:
            lost.append(f"column {table}.{column}")
        elif now[0] != was[0] or (0 <= now[2] < was[2]):
            lost.append(f"type of {table}.{column} ({was[0]} to {now[0]})")
        elif was[1] == "YES" and now[1] == "NO":
            lost.append(f"{table}.{column} may not be empty any more")
    for (table, column), now in sorted(after.items()):
        if (table, column) not in before and any(t == table for t, _ in before) and now[1] == "NO":
            session_default = column in DEFAULTED.get(table, ())
            if not session_default:
                lost.append(f"{table}.{column} is new, must be filled and has no default")
    return lost


DEFAULTED = {}


def defaults(url):
    session = Session(url)
    try:
        for table, column in session.rows(
            "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public' "
            "AND (column_default IS NOT NULL OR is_identity = 'YES' OR is_generated <> 'NEVER')"
        ):
            DEFAULTED.setdefault(table, set()).add(column)
    finally:
        session.close()


class Sampler(threading.Thread):
    """Looks at what is locked, again and again."""

    def __init__(self, url, tables):
        super().__init__(daemon=True)
        self.url, self.tables, self.ended = url, tables, threading.Event()
        self.seen = {}

    def run(self):
        session = Session(self.url)
        try:
            while not self.ended.wait(0.02):
                now = time.monotonic()
                for relation, mode in set(map(tuple, session.rows(LOCKS))):
                    if relation in self.tables and mode in MODES:
                        first, _ = self.seen.get((relation, mode), (now, now))
                        self.seen[relation, mode] = (first, now)
        finally:
            session.close()


def migrate(command, url):
    began = time.monotonic()
    # Two slots' pools must not meet: the app itself does not run here.
    environment = dict(os.environ, MIGRATION_DATABASE_URL=url, LAZULI_TRIAL="1")
    run = subprocess.run(["bash", "-c", command], env=environment, capture_output=True, text=True, timeout=3000)
    lines = (run.stdout + run.stderr).strip().splitlines()
    for line in lines[-20:]:
        print(line, flush=True)
    return {"status": run.returncode, "ms": round((time.monotonic() - began) * 1000), "output": lines[-8:]}


def dump(admin, copy, to, database):
    """Copies the database from outside, as any client may."""
    admin.run(f"CREATE DATABASE {quoted(copy)}")
    urls = [re.sub(r"([?&])ssl=", r"\1sslmode=", to(name)) for name in (database, copy)]
    # In the environment, not on a command line that others could read.
    told = [os.environ | {"PGPASSWORD": unquote(urlsplit(url).password or "")} for url in urls]
    plain = [re.sub(r"(//[^:@/]*):[^@]*@", r"\1@", url) for url in urls]
    source = subprocess.Popen(
        ["pg_dump", "--no-owner", "--no-privileges", "--dbname", plain[0]], env=told[0], stdout=subprocess.PIPE
    )
    target = subprocess.run(
        ["psql", "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--dbname", plain[1]],
        env=told[1], stdin=source.stdout, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )
    source.stdout.close()
    if source.wait() or target.returncode:
        raise RuntimeError(f"pg_dump ended with {source.returncode}, psql with {target.returncode}: {target.stderr[-300:]}")


def main():
    url, command = os.environ["MIGRATION_DATABASE_URL"], os.environ["LAZULI_MIGRATE"]
    parts = urlsplit(url)
    database = parts.path.lstrip("/")
    copy = f"{database[:40]}_lazuli_trial"
    plain = parts._replace(scheme="postgresql")
    to = lambda name, base=plain: urlunsplit(base._replace(path="/" + name))  # noqa: E731
    try:
        admin = Session(to("postgres"))
    except ModuleNotFoundError:
        done(error="the app has neither asyncpg nor psycopg to look with", unable=True)
    began = time.monotonic()
    try:
        admin.run(f"DROP DATABASE IF EXISTS {quoted(copy)} WITH (FORCE)")
        for attempt in range(3):
            # A database is copied whole only while nobody is connected to it. This is the staging database:
            # its pools connect again.
            sessions = (
                f"FROM pg_stat_activity WHERE datname = {literal(database)} "
                "AND pid <> pg_backend_pid() AND backend_type = 'client backend' AND usename"
            )
            admin.rows(f"SELECT pg_terminate_backend(pid) {sessions} = current_user")
            # Others' sessions, a pooler's own among them, are not ours to end.
            others = admin.rows(f"SELECT count(*) {sessions} <> current_user")[0][0]
            try:
                if others and shutil.which("pg_dump"):
                    dump(admin, copy, to, database)
                else:
                    admin.run(f"CREATE DATABASE {quoted(copy)} TEMPLATE {quoted(database)}")
                break
            except Exception as error:
                if "being accessed" not in str(error) or attempt == 2:
                    raise
                time.sleep(0.1)
        size = admin.rows(f"SELECT pg_database_size({literal(copy)})")[0][0]
        copied = round((time.monotonic() - began) * 1000)
        before = schema(to(copy))
        sampler = Sampler(to(copy), {table for table, _ in before})
        sampler.start()
        first = migrate(command, to(copy, parts))
        sampler.ended.set()
        sampler.join(10)
        after = schema(to(copy))
        defaults(to(copy))
        second = {"status": None}
        if first["status"] == 0:
            second = migrate(command, to(copy, parts))
            second["changed"] = schema(to(copy)) != after
        done(
            database=database,
            bytes=size,
            copiedMs=copied,
            first=first,
            second=second,
            gone=gone(before, after),
            added=sorted({f"{t}.{c}" for t, c in after} - {f"{t}.{c}" for t, c in before})[:50],
            locks=[
                {"relation": relation, "mode": mode, "ms": round((last - since) * 1000)}
                for (relation, mode), (since, last) in sorted(sampler.seen.items())
            ],
        )
    except SystemExit:
        raise
    except Exception as error:
        text = str(error).replace(parts.password or "\0", "***")
        done(error=f"the trial could not be made: {text}", unable=True)
    finally:
        try:
            admin.run(f"DROP DATABASE IF EXISTS {quoted(copy)} WITH (FORCE)")
        except Exception as error:
            print(f"the copy {copy} was not deleted: {error}", file=sys.stderr)


main()
