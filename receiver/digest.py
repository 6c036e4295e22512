"""A table's rows in one figure, the same whichever database holds them."""

from __future__ import annotations

import hashlib
import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pydantic_core import to_json
from sqlalchemy import JSON, LargeBinary, String, select

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import ColumnElement, Table
    from sqlalchemy.engine import Connection

INSTEAD: Final = "\N{REPLACEMENT CHARACTER}"
_UNSTORABLE: Final = re.compile("[\x00\ud800-\udfff]")


class Digest(NamedTuple):
    """How many rows, and a hash over them in the order of their keys."""

    rows: int
    sha256: str


def digest(
    connection: Connection,
    table: Table,
    schema: str | None = None,
    passed: Callable[[int], None] = lambda _: None,
) -> Digest:
    """Read `table`, of `schema` on PostgreSQL, once through; `passed` is told of so many rows more.

    Both databases give the same, though PostgreSQL keeps no order in an object of JSON, and no difference
    between 1.0 and 1. Text is taken as PostgreSQL can store it (see `storable`).
    """
    statement = select(*table.columns).order_by(*key_order(connection, table))
    options = {"schema_translate_map": {None: schema}} if schema else {}
    ways = [_way_of(column) for column in table.columns]
    sha256, rows = hashlib.sha256(), 0
    found = connection.execute(
        statement, execution_options={**options, "stream_results": True, "yield_per": at_once(table)}
    )
    for part in found.partitions():
        for row in part:
            values = [
                value if way is None or value is None else way(value)
                for way, value in zip(ways, row, strict=True)
            ]
            sha256.update(to_json(values, bytes_mode="hex"))
        rows += len(part)
        passed(len(part))
    return Digest(rows, sha256.hexdigest())


def key_order(connection: Connection, table: Table) -> Sequence[ColumnElement[Any]]:
    """Give the columns of the key, so that both databases order by them alike: text by its bytes."""
    if connection.dialect.name == "sqlite":
        return list(table.primary_key)
    return [
        column.collate("C") if isinstance(column.type, String) else column for column in table.primary_key
    ]


def at_once(table: Table) -> int:
    """Give how many rows of `table` are held in memory together: few of those with a body of up to 1 MiB."""
    return 50 if any(isinstance(column.type, LargeBinary) for column in table.columns) else 1_000


def storable(text: str) -> str:
    """Give `text` with a replacement character for each NUL or lone surrogate: PostgreSQL has none."""
    return _UNSTORABLE.sub(INSTEAD, text)


def _way_of(column: ColumnElement[Any]) -> Callable[[Any], Any] | None:
    if isinstance(column.type, JSON):
        return canonical
    return storable if isinstance(column.type, String) else None


def canonical(value: Any) -> Any:
    """Give a value of JSON in the one form that all its spellings have."""
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, dict):
        return {storable(name): canonical(value[name]) for name in sorted(value)}
    if isinstance(value, list):
        return [canonical(one) for one in value]
    if isinstance(value, float) and value.is_integer():
        return int(
            Decimal(repr(value))
        )  # 1e23 as PostgreSQL gives it back: with all the digits it stands for
    return value
