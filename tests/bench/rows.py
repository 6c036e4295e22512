"""Eight ways of writing many rows of 40 columns to PostgreSQL: microseconds a row, and parts of the dearest.

Each way upserts the same rows into a table like the mirror's customers, in a transaction that is undone; the
ways take turns. What a row costs at the least of all rounds is shown: others may use the machine meanwhile.
"""

import argparse
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from pydantic_core import to_json

from tests.scaling import Durable

TYPES = {
    **{f"text{number}": "text" for number in range(24)},
    **{f"number{number}": "bigint" for number in range(6)},
    **{f"time{number}": "timestamptz" for number in range(6)},
    **{f"flag{number}": "boolean" for number in range(3)},
}
NAMES = ["id", *TYPES]
KINDS = ["bigint", *TYPES.values()]
COLUMNS = ", ".join(NAMES)
SET = ", ".join(f"{name} = excluded.{name}" for name in TYPES)
INSERT = f"INSERT INTO wide ({COLUMNS}) "
UPSERT = f" ON CONFLICT (id) DO UPDATE SET {SET}"
RECORD = ", ".join(f"{name} {kind}" for name, kind in zip(NAMES, KINDS, strict=True))
CAST = ", ".join(f"CAST(given ->> {place} AS {kind})" for place, kind in enumerate(KINDS))
PARAMETERS = 65_535

Cursor = psycopg.Cursor[Any]
Rows = list[tuple[Any, ...]]


def executemany(cursor: Cursor, rows: Rows) -> None:
    run(cursor, f"VALUES ({', '.join(['%s'] * len(NAMES))})", rows, many=True)


def values(cursor: Cursor, rows: Rows) -> None:
    row = f"({', '.join(['%s'] * len(NAMES))})"
    most = PARAMETERS // len(NAMES)
    for start in range(0, len(rows), most):
        part = rows[start : start + most]
        run(cursor, f"VALUES {', '.join([row] * len(part))}", [value for one in part for value in one])


def arrays(cursor: Cursor, rows: Rows) -> None:
    places = ", ".join(f"%s::{kind}[]" for kind in KINDS)
    run(cursor, selected("*", f"unnest({places})"), [list(column) for column in zip(*rows, strict=True)])


def json_recordset(cursor: Cursor, rows: Rows) -> None:
    objects = to_json([dict(zip(NAMES, row, strict=True)) for row in rows]).decode()
    run(cursor, selected(COLUMNS, f"json_to_recordset(%s::json) AS given ({RECORD})"), [objects])


def jsonb_recordset(cursor: Cursor, rows: Rows) -> None:
    objects = to_json([dict(zip(NAMES, row, strict=True)) for row in rows]).decode()
    run(cursor, selected(COLUMNS, f"jsonb_to_recordset(%s::jsonb) AS given ({RECORD})"), [objects])


def json_elements(cursor: Cursor, rows: Rows) -> None:
    run(cursor, selected(CAST, "json_array_elements(%s::json) AS given"), [to_json(rows).decode()])


def jsonb_elements(cursor: Cursor, rows: Rows) -> None:
    run(cursor, selected(CAST, "jsonb_array_elements(%s::jsonb) AS given"), [to_json(rows).decode()])


def copy(cursor: Cursor, rows: Rows) -> None:
    cursor.execute("CREATE TEMPORARY TABLE given (LIKE wide) ON COMMIT DROP")
    with cursor.copy(f"COPY given ({COLUMNS}) FROM STDIN (FORMAT BINARY)".encode()) as copying:
        copying.set_types(["int8" if kind == "bigint" else kind for kind in KINDS])
        for row in rows:
            copying.write_row(row)
    run(cursor, selected(COLUMNS, "given"), [])


def selected(columns: str, source: str) -> str:
    return f"SELECT {columns} FROM {source}"  # noqa: S608 - names and places only


def run(cursor: Cursor, source: str, given: list[Any], *, many: bool = False) -> None:
    statement = f"{INSERT}{source}{UPSERT}".encode()
    if many:
        cursor.executemany(statement, given)
    else:
        cursor.execute(statement, given)


WAYS: dict[str, Callable[[Cursor, Rows], None]] = {
    "jsonb array elements": jsonb_elements,
    "COPY, temporary table": copy,
    "json_to_recordset": json_recordset,
    "jsonb_to_recordset": jsonb_recordset,
    "arrays": arrays,
    "json array elements": json_elements,
    "multi-row VALUES": values,
    "executemany": executemany,
}


def made(count: int) -> Rows:
    noon = datetime(2026, 11, 24, 12, tzinfo=UTC)
    return [
        (
            number,
            *(None if place % 3 == 0 else f"{place} George Street {number}" for place in range(24)),
            *(number * place for place in range(6)),
            *(noon + timedelta(seconds=number * place) for place in range(6)),
            *(number % 2 == 0 for _ in range(3)),
        )
        for number in range(count)
    ]


def main(count: int, rounds: int) -> None:
    rows = made(count)
    least = dict.fromkeys(WAYS, float("inf"))
    with Durable() as server, psycopg.connect(server.at("postgres")) as connection:
        connection.execute(f"CREATE TABLE wide (id bigint PRIMARY KEY, {RECORD.partition(', ')[2]})".encode())
        with connection.cursor() as cursor:
            jsonb_elements(cursor, rows)
        connection.commit()
        for _ in range(rounds):
            for name, way in WAYS.items():
                began = time.perf_counter()
                with connection.cursor() as cursor:
                    way(cursor, rows)
                least[name] = min(least[name], time.perf_counter() - began)
                connection.rollback()
    dearest = max(least.values())
    for name, seconds in sorted(least.items(), key=lambda item: item[1]):
        sys.stdout.write(f"{name:<24}{seconds / count * 1e6:>8.1f} us a row {seconds / dearest:>7.2f}\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=3_000)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    main(options.count, options.rounds)
