"""Many rows in one statement: SQLAlchemy compiles it once, the rows go to the driver as they are.

SQLAlchemy's own executemany converts each row anew through its type system, which took more than half of the
time of applying a delivery (measured with scripts/bench apply). So rows are tuples in the table's order of
columns here, and times and JSON are written with `time_text` and `json_text`. SQLite takes them one by one;
PostgreSQL takes all of them as one JSON array, of eight ways tried the one that costs least (decision 0030).
"""

import json
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

from pydantic_core import to_json
from sqlalchemy import (
    BindParameter,
    Column,
    ColumnElement,
    Select,
    Table,
    bindparam,
    cast,
    literal_column,
    select,
    text,
    update,
)
from sqlalchemy.dialects import registry, sqlite
from sqlalchemy.dialects.postgresql import Insert, insert  # the ON CONFLICT is SQLite's, too
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import ClauseElement
from sqlalchemy.sql.functions import FunctionElement

from receiver.database import utc_text
from sync.mirror.schema import SCHEMA

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


class _JsonItems(FunctionElement[str]):
    """The items of a JSON array, as rows of one column."""

    name = "json_items"
    inherit_cache = True


@compiles(_JsonItems, "sqlite")
def _on_sqlite(element: _JsonItems, compiler: SQLCompiler, **options: Any) -> str:
    return f"json_each({compiler.process(element.clauses, **options)})"


@compiles(_JsonItems, "postgresql")
def _on_postgresql(element: _JsonItems, compiler: SQLCompiler, **options: Any) -> str:
    return f"jsonb_array_elements_text(CAST({compiler.process(element.clauses, **options)} AS JSONB))"


def among(column: ColumnElement[Any], values: BindParameter[str]) -> ColumnElement[bool]:
    """Say that `column` is one of `values`, a JSON array: one parameter however many they are."""
    items = _JsonItems(values).table_valued("value")
    return column.in_(select(cast(items.c.value, column.type)))


def json_array(values: Iterable[int] | Iterable[str]) -> str:
    """Write numbers or names as the JSON array that `among` takes."""
    return json.dumps(sorted(values))


class Bulk:
    """One statement, compiled once for each database, that takes many rows: tuples of the same order."""

    def __init__(self, on_sqlite: str, on_postgresql: str) -> None:
        self._on_sqlite = on_sqlite
        self._on_postgresql = on_postgresql

    async def run(self, connection: AsyncConnection, rows: list[tuple[Any, ...]]) -> None:
        """Execute it for all rows; nothing at all when there is none."""
        if not rows:
            return
        if connection.dialect.name == "sqlite":
            await connection.exec_driver_sql(self._on_sqlite, rows)
        else:
            await connection.exec_driver_sql(self._on_postgresql, {_ROWS: to_json(rows).decode()})


class Lookup:
    """One statement that selects, compiled once for each database, whose parameters are `names`."""

    def __init__(self, statement: ClauseElement, names: Sequence[str]) -> None:
        self._names = names
        self._on_sqlite = _sql_of_sqlite(statement, names)
        self._on_postgresql = _sql_of_postgresql(statement)

    async def rows(self, connection: AsyncConnection, *parameters: Any) -> Sequence[Sequence[Any]]:
        """Give what it selects, as the driver gives it."""
        if connection.dialect.name == "sqlite":
            return (await connection.exec_driver_sql(self._on_sqlite, parameters)).all()
        named = dict(zip(self._names, parameters, strict=True))
        return (await connection.exec_driver_sql(self._on_postgresql, named)).all()


def inserting(table: Table) -> Bulk:
    """Add rows."""
    return _insertion(table, lambda statement: statement)


def keeping(table: Table) -> Bulk:
    """Add rows, but for those whose key is there."""
    return _insertion(table, lambda statement: statement.on_conflict_do_nothing())


def upserting(table: Table) -> Bulk:
    """Add rows, or replace those with the same key."""
    names = [column.name for column in table.columns if not column.primary_key]
    return _insertion(
        table,
        lambda statement: statement.on_conflict_do_update(
            index_elements=list(table.primary_key), set_={name: statement.excluded[name] for name in names}
        ),
    )


def adding(table: Table) -> Bulk:
    """Add rows, or add their count to that of the row with the same key."""
    return _insertion(
        table,
        lambda statement: statement.on_conflict_do_update(
            index_elements=list(table.primary_key),
            set_={"count": table.c["count"] + statement.excluded["count"]},
        ),
    )


def updating(table: Table, name: str) -> Bulk:
    """Change `name` of the rows with these keys: tuples of the new value and the key."""
    columns = [table.c[name], *table.primary_key]
    statement = update(table).values({name: bindparam("new")})
    for column in table.primary_key:
        statement = statement.where(column == bindparam(f"of_{column.name}"))
    given = _from_json(columns)
    key = " AND ".join(
        f"{table.name}.{column.name} = {value}" for column, value in zip(columns[1:], given[1:], strict=True)
    )
    return Bulk(
        _sql_of_sqlite(statement, ["new", *(f"of_{column.name}" for column in table.primary_key)]),
        f"UPDATE {SCHEMA}.{table.name} SET {name} = {given[0]} FROM {_SOURCE % f'%({_ROWS})s'} WHERE {key}",  # noqa: S608 - names only
    )


def _insertion(table: Table, conflict: Callable[[Insert], Insert]) -> Bulk:
    names = table.columns.keys()
    columns: list[ColumnElement[Any]] = [literal_column(one) for one in _from_json(list(table.columns))]
    given: Select[*tuple[Any, ...]] = select(*columns).select_from(text(_SOURCE % f":{_ROWS}"))
    return Bulk(
        _sql_of_sqlite(conflict(insert(table)), names),
        _sql_of_postgresql(conflict(insert(table).from_select(names, given))),
    )


def _from_json(columns: Sequence[Column[Any]]) -> list[str]:
    """Give the values of a row of PostgreSQL's JSON array, each as its column's type."""
    return [
        f"CAST(given ->> {place} AS {column.type.compile(dialect=_POSTGRESQL)})"
        for place, column in enumerate(columns)
    ]


def _sql_of_sqlite(statement: ClauseElement, names: Sequence[str]) -> str:
    compiled = statement.compile(dialect=_SQLITE)
    if not isinstance(compiled, SQLCompiler) or compiled.positiontup != list(names):
        raise TypeError(f"{statement} takes other parameters than {names}")
    return str(compiled)


def _sql_of_postgresql(statement: ClauseElement) -> str:
    schema: dict[str | None, str | None] = {None: SCHEMA}
    compiled = statement.compile(
        dialect=_POSTGRESQL, schema_translate_map=schema, render_schema_translate=True
    )
    return str(compiled)


_ROWS: Final = "rows"
_SOURCE: Final = "jsonb_array_elements(CAST(%s AS JSONB)) AS given"
_SQLITE: Final = sqlite.dialect()
_POSTGRESQL: Final[Dialect] = registry.load("postgresql.psycopg")()
