"""What reports and people ask by goes by an index, whether or not they say of which company."""

# ruff: noqa: S608 - names and values are ours

import json
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import event

from receiver.database import mirror_of, utc_text
from sync.mirror.schema import CHANGES, CUSTOMERS
from sync.mirror.search import customers_like

MOMENT = "'2026-11-24T12:00:00.000Z'"
ASKED = {
    "SELECT * FROM customers WHERE id = 5": "_customers_by_id",
    "SELECT * FROM all_customers WHERE id = 5": "_customers_by_id",
    "SELECT * FROM customers WHERE email = 'jamie@kounta.example'": "_customers_by_email",
    "SELECT * FROM all_customers WHERE email = 'jamie@kounta.example'": "_customers_by_email",
    "SELECT * FROM customers WHERE lower(email) = 'jamie@kounta.example'": "_customers_by_email_in_any_case",
    "SELECT * FROM customers WHERE phone = '02 8765 4321'": "_customers_by_phone",
    "SELECT * FROM customers WHERE mobile = '0400 000 000'": "_customers_by_mobile",
    "SELECT * FROM customers WHERE reference_id = 'R1'": "_customers_by_reference_id",
    "SELECT * FROM customers WHERE primary_city = 'Sydney'": "_customers_by_city",
    f"SELECT * FROM customers WHERE changed_at >= {MOMENT}": "_customers_by_change",
    f"SELECT * FROM customers WHERE changed_at >= {MOMENT} AND +company_id = 5678": "_customers_by_change",
    f"SELECT * FROM all_customers WHERE deleted_at >= {MOMENT}": "_customers_deleted",
    "SELECT * FROM customer_tags WHERE tag = 'vip'": "_customer_tags_by_tag",
    "SELECT * FROM customer_changes WHERE customer_id = 5": "_changes_by_customer",
    "SELECT * FROM customer_versions WHERE customer_id = 5": "_changes_by_customer",
}
WITHIN = f"company_id = 5678 AND {{}} >= {MOMENT} AND {{}} < '2026-11-25T00:00:00.000Z'"
IN_A_DAY = {
    "SELECT count(*) FROM all_customers WHERE first_seen_by <> 'backfill' AND "
    + WITHIN.replace("{}", "first_seen_at"): "_customers_newly_met",
    "SELECT count(*) FROM customer_changes WHERE kind = 'updated' AND "
    + WITHIN.replace("{}", "applied_at"): "_changes_by_time",
    "SELECT count(*) FROM delivery_verdicts WHERE verdict = 'applied' AND "
    + WITHIN.replace("{}", "received_at"): "_delivery_verdicts_by_time",
}


ROWS = 1_000
Plan = Callable[..., str]


def rows() -> Iterator[dict[str, Any]]:
    for number in range(1, ROWS + 1):
        at = utc_text(datetime(2026, 11, 24, 12, tzinfo=UTC) - timedelta(minutes=number))
        yield {
            "company_id": 5678,
            "id": number,
            "email": f"jamie{number}@kounta.example",
            "phone": f"02 {number}",
            "mobile": f"04 {number}",
            "reference_id": f"R{number}",
            "primary_city": f"City {number}",
            "tags": json.dumps([f"tag {number}"]),
            "deleted_at": at if number % 2 else None,
            "first_seen_by": "webhook",
            "seq": ROWS - number,
            "customer_id": number,
            "kind": "updated",
            "attributes": "[]",
            "source": "webhook",
            **dict.fromkeys(("as_of", "first_seen_at", "changed_at", "settled_at", "applied_at"), at),
            **dict.fromkeys(("partial", "rests_on_arrival"), False),
            **dict.fromkeys(("position", "read_position", "listed_in"), 0),
        }


@pytest.fixture
def plan(house: Any) -> Iterator[Plan]:
    """Say how the database, which holds some rows, would answer."""
    inserts = []
    for table in (CUSTOMERS, CHANGES):
        names = [column.name for column in table.columns if column.name in next(rows())]
        values = [tuple(row[name] for name in names) for row in rows()]
        inserts.append((f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({{}})", values))
    database = mirror_of(house.place)
    if isinstance(database, Path):
        with closing(sqlite3.connect(database)) as file:
            for statement, values in inserts:
                file.executemany(statement.format(", ".join("?" * len(values[0]))), values)
            file.commit()
            yield lambda query, given=(): "\n".join(
                row[-1] for row in file.execute(f"EXPLAIN QUERY PLAN {query}", given)
            )
        return
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute("SET search_path = mirror")
        for statement, values in inserts:
            places = ", ".join(["%s"] * len(values[0]))
            connection.cursor().executemany(statement.format(places).encode(), values)
        connection.execute("VACUUM ANALYZE _customers, _customer_tags, _changes")
        connection.execute("SET enable_seqscan = off")
        yield lambda query, given=(): "\n".join(
            row[0] for row in connection.execute(f"EXPLAIN {query}".encode(), given or None)
        )


def goes_by(index: str, plan: str) -> bool:
    """Whether rows are looked up in this index, rather than all of it read."""
    looked_up = "SEARCH" in plan or "Index Cond" in plan
    return (
        f"{index} " in f"{plan} ".replace("\n", " ") and looked_up and not re.search(r"SCAN|Seq Scan", plan)
    )


@pytest.mark.parametrize("query", ASKED)
async def test_a_report_goes_by_an_index(query: str, plan: Plan) -> None:
    assert goes_by(ASKED[query], plan(query)), plan(query)


@pytest.mark.parametrize("query", [query for query in ASKED if ">=" not in query and " id " not in query])
async def test_it_does_so_for_one_company_too(query: str, plan: Plan) -> None:
    assert goes_by(ASKED[query], plan(f"{query} AND company_id = 5678"))


@pytest.mark.parametrize("query", IN_A_DAY)
async def test_what_was_in_a_day_of_a_company_goes_by_an_index(query: str, plan: Plan) -> None:
    assert goes_by(IN_A_DAY[query], plan(query)), plan(query)


async def test_cities_and_tags_are_counted_in_an_index_alone(plan: Plan, database_kind: str) -> None:
    # SQLite does not call it covering: it forgets that the condition of the index says which rows are live
    only = {"sqlite": "INDEX", "postgresql": "Index Only Scan using"}[database_kind]
    for view, column, index in (
        ("customers", "primary_city", "_customers_by_city"),
        ("customer_tags", "tag", "_customer_tags_by_tag"),
    ):
        told = plan(f"SELECT {column}, count(*) FROM {view} GROUP BY {column}")
        assert f"{only} {index}" in told, told


async def test_each_way_of_the_consoles_search_goes_by_an_index(house: Any, plan: Plan) -> None:
    asked: list[tuple[str, Any]] = []

    def keep(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        asked.append((statement, parameters))

    engine = house.mirror._reading.sync_engine
    event.listen(engine, "before_cursor_execute", keep)
    await customers_like(house.mirror, "1234", 10)
    event.remove(engine, "before_cursor_execute", keep)
    ways = ("email_in_any_case", "phone", "mobile", "reference_id")
    for way, index in zip(asked[-len(ways) :], ways, strict=True):
        assert goes_by(f"_customers_by_{index}", plan(*way)), plan(*way)
