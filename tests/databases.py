"""The databases of tests as a reporting tool sees them."""

import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from datetime import datetime
from typing import Any

import psycopg
from psycopg.rows import dict_row

from receiver.database import Place, Server, utc_text
from sync.mirror.reader import mirror_path


def asked(place: Place, query: str, *parameters: object) -> list[dict[str, Any]]:
    """Ask the mirror in SQL, with `?` for parameters. PostgreSQL's values are given as SQLite's come."""
    if isinstance(place, Server):
        with psycopg.connect(place.url, row_factory=dict_row) as connection:
            connection.execute("SET search_path = mirror")
            rows = connection.execute(query.replace("?", "%s").encode(), parameters).fetchall()
            return [_as_on_sqlite(row) for row in rows]
    uri = mirror_path(place).absolute().as_uri() + "?mode=ro"
    with closing(sqlite3.connect(uri, uri=True)) as reading:
        reading.row_factory = sqlite3.Row
        return [dict(row) for row in reading.execute(query, parameters)]


def _as_on_sqlite(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _value(value) for name, value in row.items()}


def _value(value: Any) -> Any:
    match value:
        case bool():
            return int(value)
        case datetime():
            return utc_text(value)
        case list() | dict():
            return json.dumps(value)
    return value
