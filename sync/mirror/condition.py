"""How the databases are by themselves: which version, how large, whole or damaged."""

import asyncio
import sqlite3
from typing import NamedTuple

from sqlalchemy import text

from receiver import postgresql
from receiver.database import Place, Server, mirror_of
from receiver.postgresql import Schema
from sync.mirror.reader import MIGRATIONS
from sync.mirror.versions import require_version


class Condition(NamedTuple):
    """What runs the stores."""

    version: str
    """Name and version, as in "SQLite 3.46.1"."""
    size: int | None
    """Bytes of the whole database on a server; None: files say theirs themselves."""


async def condition_of(place: Place) -> Condition:
    """Look at what runs the stores.

    Raises StoreMissing while there is no mirror of this version, NewerDatabase, and what `is_unavailable`
    knows while a server is away.
    """
    await asyncio.to_thread(require_version, mirror_of(place), MIGRATIONS)
    if not isinstance(place, Server):
        return Condition(f"SQLite {sqlite3.sqlite_version}{_caution(sqlite3.sqlite_version_info)}", None)
    return await asyncio.to_thread(_of_server, Schema(place.url, "mirror"))


def _caution(version: tuple[int, ...]) -> str:
    """Say what the design rests on where SQLite has the WAL-reset race (3.7.0 to 3.51.2)."""
    if version > (3, 51, 2):
        return ""
    return ", with which a file that two connections write can be damaged: let none but its owner write it"


def _of_server(schema: Schema) -> Condition:
    with postgresql.looking(schema) as connection:
        size = connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one()
        version = connection.execute(text("SHOW server_version")).scalar_one()
    return Condition(f"PostgreSQL {version}", int(size))
