"""Everything that two places hold, compared as `kounta-mirror migrate` compares what it has copied."""

from typing import Any

from sqlalchemy import Table, select
from sqlalchemy.engine import Connection

from receiver import postgresql, sqlite
from receiver.database import Database, Place, inbox_of, mirror_of
from receiver.digest import digest
from receiver.inbox.schema import metadata as inbox_tables
from receiver.postgresql import Schema
from sync.mirror.schema import METADATA


def differences(one: Place, other: Place) -> dict[str, tuple[Any, Any]]:
    """Give the tables that differ: name -> the rows that only one has, and those that only the other has."""
    return {
        **differing(inbox_of(one), inbox_of(other), list(inbox_tables.tables.values())),
        **differing(mirror_of(one), mirror_of(other), list(METADATA.tables.values())),
    }


def differing(one: Database, other: Database, tables: list[Table]) -> dict[str, tuple[Any, Any]]:
    """Give those of these tables that differ, as `differences` does."""
    found = {}
    with _looking(one) as here, _looking(other) as there:
        for table in tables:
            if digest(here, table) != digest(there, table):
                mine, theirs = _rows(here, table), _rows(there, table)
                found[table.name] = (
                    [row for row in mine if row not in theirs],
                    [row for row in theirs if row not in mine],
                )
    return found


def _rows(connection: Connection, table: Table) -> list[dict[str, Any]]:
    return [dict(row) for row in connection.execute(select(table)).mappings()]


def _looking(database: Database) -> Any:
    return postgresql.looking(database) if isinstance(database, Schema) else sqlite.looking(database)
