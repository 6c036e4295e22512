"""Many rows in one statement: SQLAlchemy compiles it once, the rows go to the driver as they are.

SQLAlchemy's own executemany converts each row anew through its type system, which took more than half of the
time of applying a delivery (measured with scripts/bench apply). So rows are tuples in the table's order of
columns here, and times and JSON are written with `time_text` and `json_text`.
"""

import json
import sqlite3
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

from pydantic_core import to_json
from sqlalchemy import BindParameter, ColumnElement, Table, func, select
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import ClauseElement

from receiver.database import utc_text

# The driver adapts what is no number, text or bytes, and takes eight times as long to find that it need not.
sqlite3.register_adapter(type(None), lambda _: None)
sqlite3.register_adapter(bool, int)


@lru_cache(maxsize=16_384)  # the rows of a batch share most of their times
def time_text(moment: datetime | None) -> str | None:
    """Write a time as SQLite stores it."""
    return None if moment is None else utc_text(moment)


def json_text(value: object) -> str | None:
    """Write a JSON value as text; None is NULL."""
    return None if value is None else to_json(value).decode()


def among(column: ColumnElement[Any], values: BindParameter[str]) -> ColumnElement[bool]:
    """Say that `column` is one of `values`, a JSON array: one parameter however many they are."""
    return column.in_(select(func.json_each(values).table_valued("value").c.value))


def json_array(values: Iterable[int] | Iterable[str]) -> str:
    """Write numbers or names as the JSON array that `among` takes."""
    return json.dumps(sorted(values))


class Bulk:
    """One statement, compiled once, whose parameters are tuples of `names`."""

    def __init__(self, statement: ClauseElement, names: Sequence[str]) -> None:
        compiled = statement.compile(dialect=sqlite.dialect())
        if not isinstance(compiled, SQLCompiler) or compiled.positiontup != list(names):
            raise TypeError(f"{statement} takes other parameters than {names}")
        self._sql = str(compiled)

    async def run(self, connection: AsyncConnection, rows: list[tuple[Any, ...]]) -> None:
        """Execute it once for each row; nothing at all when there is none."""
        if rows:
            await connection.exec_driver_sql(self._sql, rows)

    async def rows(self, connection: AsyncConnection, *parameters: Any) -> Sequence[Sequence[Any]]:
        """Give what it selects, as the driver gives it."""
        return (await connection.exec_driver_sql(self._sql, parameters)).all()


def inserting(table: Table) -> Bulk:
    """Add rows."""
    return Bulk(insert(table), table.columns.keys())


def upserting(table: Table) -> Bulk:
    """Add rows, or replace those with the same key."""
    statement = insert(table)
    names, keys = table.columns.keys(), {column.name for column in table.primary_key}
    replaced = {name: statement.excluded[name] for name in names if name not in keys}
    return Bulk(statement.on_conflict_do_update(index_elements=sorted(keys), set_=replaced), names)
