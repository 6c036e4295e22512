"""Where both stores of a test lie, as the settings say it, and what is wrong with the mirror there."""

import json
import sqlite3
from collections.abc import Callable, Collection
from contextlib import closing

import psycopg

from receiver.database import Place, Server, directory_of
from sync.demo.comparison import wrong_among
from sync.mirror.reader import mirror_path
from sync.sandbox import Sandbox
from tests.databases import asked


def settings_of(place: Place) -> dict[str, str]:
    """Give the settings, by the names of their variables, of a process that has both stores there."""
    directory = {"MIRROR_DATA_DIR": str(directory_of(place))}
    return directory | {"DATABASE_URL": place.url} if isinstance(place, Server) else directory


def wrong_in(place: Place, sandbox: Sandbox, subscribed: Collection[str]) -> dict[int, str]:
    """Say for each customer whose row is wrong what is wrong with it."""
    company = sandbox.company
    truth = json.loads(json.dumps(list(company.truth()), default=str))
    rows = asked(place, "SELECT * FROM all_customers")
    return wrong_among(rows, truth, list(company.customers.deleted), subscribed)


def kept(place: Place) -> Callable[[Place], None]:
    """Keep the mirror that lies there, and give what puts a copy of it into another such place.

    Nobody has either of them open; on a server the other one is empty.
    """
    if not isinstance(place, Server):
        with closing(sqlite3.connect(mirror_path(place))) as file:
            content = file.serialize()
        return lambda other: _write(other, content)
    with _connected(place) as connection:
        tables = {name: _copied(connection, name) for name in _tables(connection)}
    return lambda other: _fill(other, {name: rows for name, rows in tables.items() if rows})


def empty(place: Server) -> None:
    """Let a mirror that nobody has open be as it was before its first use."""
    with _connected(place) as connection:
        emptied = "; ".join(f'DELETE FROM "{name}"' for name in _tables(connection))  # noqa: S608 - our names
        connection.execute(emptied.encode())


def _write(place: Place, content: bytes) -> None:
    path = mirror_path(directory_of(place))
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)


def _connected(place: Place) -> psycopg.Connection[tuple[str, ...]]:
    assert isinstance(place, Server)
    connection = psycopg.connect(place.url)
    # what triggers make is in a copy as it is
    connection.execute("SET search_path = mirror; SET session_replication_role = replica")
    return connection


def _tables(connection: psycopg.Connection[tuple[str, ...]]) -> list[str]:
    found = connection.execute(
        "SELECT tablename FROM pg_tables WHERE schemaname = 'mirror' AND tablename <> 'alembic_version'"
    )
    return [name for (name,) in found]


def _copied(connection: psycopg.Connection[tuple[str, ...]], table: str) -> bytes:
    with connection.cursor().copy(f'COPY (TABLE "{table}") TO STDOUT'.encode()) as copy:
        return b"".join(bytes(part) for part in copy)


def _fill(place: Place, tables: dict[str, bytes]) -> None:
    with _connected(place) as connection:
        for name, rows in tables.items():
            with connection.cursor().copy(f'COPY "{name}" FROM STDIN'.encode()) as copy:
                copy.write(rows)
