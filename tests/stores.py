"""The stores of tests, on both databases, as somebody changes, loses, copies or compares them."""

import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import Engine, NullPool, create_engine, make_url

from receiver.database import Database, Place, Server
from receiver.postgresql import Schema
from sync.mirror.store import Mirror
from tests.databases import asked


def change(database: Database, *statements: str) -> None:
    """Change a store behind the program's back, in one transaction."""
    if isinstance(database, Schema):
        with _connected(database) as connection:
            for statement in statements:
                connection.execute(statement.encode())
        return
    with closing(sqlite3.connect(database)) as file, file:
        for statement in statements:
            file.execute(statement)


def held(database: Database) -> dict[str, list[tuple[Any, ...]]]:
    """Give everything that a store holds: table -> its rows, sorted."""
    if isinstance(database, Schema):
        with _connected(database) as connection:
            return {
                name: sorted(connection.execute(f'TABLE "{name}"'.encode()).fetchall(), key=repr)
                for name in _tables(connection, database)
            }
    with closing(sqlite3.connect(database)) as file:
        names = file.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%' ORDER BY name"
        ).fetchall()
        return {
            name: sorted(file.execute(f"SELECT * FROM {name}").fetchall(), key=repr)  # noqa: S608 - our tables
            for (name,) in names
        }


def lose(database: Database) -> None:
    """Lose a store as a whole; nobody has it open."""
    if isinstance(database, Schema):
        change(database, f'DROP SCHEMA "{database.name}" CASCADE')
        return
    for path in database.parent.glob(f"{database.name}*"):
        path.unlink()


def backup(database: Database) -> Callable[[], None]:
    """Make a consistent copy of a store, and give what puts it in the place of what is there then."""
    if isinstance(database, Schema):
        with _connected(database) as connection:
            copied = {name: _copied(connection, name) for name in _tables(connection, database)}
        return lambda: _put_back(database, copied)
    with closing(sqlite3.connect(database)) as file:
        content = file.serialize()

    def restore() -> None:
        lose(database)
        database.write_bytes(content)

    return restore


def columns(place: Place, table: str) -> dict[str, str]:
    """Give the columns of a table or view of the mirror in their order, each with its declared type."""
    if isinstance(place, Server):
        query = (
            "SELECT column_name AS name, data_type AS type FROM information_schema.columns "
            "WHERE table_schema = 'mirror' AND table_name = ? ORDER BY ordinal_position"
        )
    else:
        query = "SELECT name, type FROM pragma_table_info(?)"
    return {one["name"]: one["type"] for one in asked(place, query, table)}


def relations(place: Place) -> set[str]:
    """Name the tables and views of the mirror."""
    if isinstance(place, Server):
        query = "SELECT table_name AS name FROM information_schema.tables WHERE table_schema = 'mirror'"
    else:
        query = "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite%'"
    return {one["name"] for one in asked(place, query)}


def shape(database: Database) -> list[tuple[Any, ...]]:
    """Give what a store consists of: tables with their columns, indexes, views, triggers."""
    if isinstance(database, Schema):
        with _connected(database) as connection:
            return connection.execute(_SHAPE, {"schema": database.name}).fetchall()
    with closing(sqlite3.connect(database)) as file:
        rows = file.execute(
            "SELECT type, name, tbl_name, sql FROM sqlite_master WHERE name NOT LIKE '%alembic%'"
            " ORDER BY type, name"
        )
        return [tuple(" ".join(str(part).split()) for part in row) for row in rows]


def engine_of(database: Database) -> Engine:
    """Open a store as plain SQLAlchemy does."""
    if isinstance(database, Schema):
        url = make_url(database.url).set(drivername="postgresql+psycopg")
        options = {"options": f"-c search_path={database.name}"}
        return create_engine(url, poolclass=NullPool, connect_args=options)
    return create_engine(f"sqlite:///{database}", poolclass=NullPool)


def end_sessions(place: Server) -> None:
    """End all sessions of the database, as a restart of the server does."""
    with psycopg.connect(place.url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


async def take_writes(mirror: Mirror, answer: str) -> None:
    """Let the mirror take writes, or not: a file is read-only then, a server stands by."""
    place = mirror.store.place
    if isinstance(place, Path):
        await set_pragma(mirror, f"query_only = {'OFF' if answer == 'on' else 'ON'}")
        return
    refused = {"on": "off", "off": "on"}[answer]
    writable = "-c default_transaction_read_only=off"
    with psycopg.connect(place.url, autocommit=True, options=writable) as connection:
        name = connection.info.dbname
        connection.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = {refused}'.encode())
    end_sessions(place)


async def set_pragma(mirror: Mirror, pragma: str) -> None:
    """Set it on the one writing connection, outside a transaction."""
    connection = await mirror.store.engine.raw_connection()
    driver: Any = connection.driver_connection
    await driver.execute(f"PRAGMA {pragma}")
    connection.close()


def sessions(place: Place) -> int:
    """Count those who are connected to a database on the server; a file has none."""
    if not isinstance(place, Server):
        return 0
    with psycopg.connect(place.url) as connection:
        counted = connection.execute(
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid() "
            "AND backend_type = 'client backend'"
        )
        ((number,),) = counted.fetchall()
        return int(number)


def _connected(schema: Schema) -> psycopg.Connection[tuple[Any, ...]]:
    connection = psycopg.connect(schema.url)
    connection.execute(f'SET search_path = "{schema.name}"'.encode())
    return connection


def _tables(connection: psycopg.Connection[tuple[Any, ...]], schema: Schema) -> list[str]:
    found = connection.execute(
        "SELECT relname FROM pg_class WHERE relnamespace = %s::regnamespace "
        "AND relkind IN ('r', 'p') AND NOT relispartition ORDER BY relname",
        (schema.name,),
    )
    return [name for (name,) in found]


def _copied(connection: psycopg.Connection[tuple[Any, ...]], table: str) -> bytes:
    with connection.cursor().copy(f'COPY (TABLE "{table}") TO STDOUT'.encode()) as copy:
        return b"".join(bytes(part) for part in copy)


def _put_back(schema: Schema, copied: Mapping[str, bytes]) -> None:
    with _connected(schema) as connection:
        connection.execute("SET session_replication_role = replica")  # what triggers make is in the copy
        emptied = "; ".join(f'DELETE FROM "{table}"' for table in copied)  # noqa: S608 - our names
        connection.execute(emptied.encode())
        for table, content in copied.items():
            if not content:
                continue
            with connection.cursor().copy(f'COPY "{table}" FROM STDIN'.encode()) as copy:
                copy.write(content)
        counted = connection.execute(_COUNTED, {"schema": schema.name}).fetchall()
        for table, column in counted:
            connection.execute(
                f"SELECT setval(pg_get_serial_sequence('{table}', '{column}'), "  # noqa: S608 - our names
                f"coalesce(max({column}), 1), count(*) > 0) FROM {table}".encode()
            )


_COUNTED = """
SELECT table_name, column_name FROM information_schema.columns
WHERE table_schema = %(schema)s AND column_default LIKE 'nextval%%'
"""
_SHAPE = """
SELECT 'column', table_name::text, column_name::text, data_type::text, is_nullable::text, column_default::text
FROM information_schema.columns WHERE table_schema = %(schema)s
UNION ALL
SELECT 'index', tablename, indexname, indexdef, '', '' FROM pg_indexes WHERE schemaname = %(schema)s
UNION ALL
SELECT 'view', viewname, definition, '', '', '' FROM pg_views WHERE schemaname = %(schema)s
UNION ALL
SELECT 'trigger', tgrelid::regclass::text, tgname::text, pg_get_triggerdef(oid), '', '' FROM pg_trigger
WHERE NOT tgisinternal AND tgrelid IN (
  SELECT oid FROM pg_class WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = %(schema)s)
)
ORDER BY 1, 2, 3, 4
"""
