"""Each canned query, on both databases, with the answer that a person would count by hand."""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from receiver.database import Server, mirror_of
from sync.merge.decisions import accept
from sync.merge.snapshots import Source
from sync.mirror.companies import KnownCompany, keep_company, keep_days
from sync.mirror.queries import QUERIES, Query
from sync.mirror.samples import keep_sample
from tests.databases import asked
from tests.stores import change

NAMED = {query.name: query for query in QUERIES}
EVENING = datetime(2026, 11, 24, 13, 30, tzinfo=UTC)
"""In Sydney half past midnight of the next day."""
Rows = list[dict[str, Any]]
Ask = Callable[..., Rows]


def as_given(query: Query, place: Any, given: dict[str, Any]) -> tuple[str, list[Any]]:
    """Write named parameters as `asked` takes them."""
    values: list[Any] = []

    def put(found: re.Match[str]) -> str:
        values.append(given[found[1]])
        return "?"

    text = query.on_postgresql if isinstance(place, Server) else query.on_sqlite
    names = "|".join(name for name, _ in query.parameters)
    return (re.sub(rf":({names})\b", put, text) if names else text), values


@pytest.fixture
async def ask(house: Any) -> Ask:
    """A mirror of a company in Sydney with some history, and what asks it."""
    await keep_company(house.mirror, KnownCompany("Cafe", "Australia/Sydney", house.now))
    await keep_days(house.mirror, house.now)
    async with house.mirror.batch([1, 2], house.now) as batch:  # who was there before the mirror was
        for id_ in (1, 2):
            body = json.dumps(
                house.customer(id_, email="Shared@kounta.example", tags=["vip", "gold"])
            ).encode()
            seen = house.applier._lens.body(body, deleted=False, arrived_at=house.now, position=0)
            batch.decide(accept(None, seen, house.attributes), source=Source.BACKFILL, at=house.now)
    change(mirror_of(house.place), "UPDATE _customers SET first_seen_by = 'backfill'")
    house.at(60)
    await house.post(house.customer(3, 60, email="shared@kounta.example", primary_address=None))
    await house.post(house.customer(4, 60, tags=None), "created")
    await house.apply()
    house.now = EVENING
    seconds = (EVENING - datetime(2026, 11, 24, 12, tzinfo=UTC)).total_seconds()
    await house.post(house.customer(5, seconds))
    await house.post(
        house.customer(
            3, seconds, phone="1", tags=["new"], email="shared@kounta.example", primary_address=None
        )
    )
    await house.post(house.customer(4, seconds), "deleted")
    await house.post(b"no JSON")
    await house.apply()

    def ask(name: str, **given: Any) -> Rows:
        text, values = as_given(NAMED[name], house.place, given)
        return asked(house.place, text, *values)

    return ask


def of(rows: Rows, *names: str) -> list[tuple[Any, ...]]:
    return [tuple(row[name] for name in names) for row in rows]


async def test_customers_by_city(ask: Ask) -> None:
    assert of(ask("customers_by_city"), "city", "customers") == [("Sydney", 3), (None, 1)]


async def test_newly_met_by_local_day_without_the_backfill(ask: Ask) -> None:
    found = of(ask("newly_met_by_day"), "company_id", "day", "customers")
    assert found == [(5678, "2026-11-25", 1), (5678, "2026-11-24", 2), (5678, "2026-11-23", 0)]


async def test_changes_by_attribute(ask: Ask) -> None:
    found = of(ask("changes_by_attribute"), "day", "attribute", "changes")
    assert found == [("2026-11-25", "phone", 1), ("2026-11-25", "tags", 1)]


async def test_unconfirmed(ask: Ask) -> None:
    found = of(ask("unconfirmed"), "company", "id", "partial")
    assert found == [("Cafe", 3, 0), ("Cafe", 5, 0)]


async def test_duplicate_emails_in_whatever_case(ask: Ask) -> None:
    found = of(ask("duplicate_emails"), "company_id", "email", "customers")
    assert found == [(5678, "shared@kounta.example", 3)]


async def test_tags(ask: Ask) -> None:
    assert of(ask("tags"), "tag", "customers") == [("vip", 3), ("gold", 2), ("new", 1)]


async def test_deleted_customers(ask: Ask) -> None:
    assert of(ask("deleted_customers"), "id", "first_name", "deleted_at") == [
        (4, "Jamie", "2026-11-24T13:30:00.000Z")
    ]


async def test_a_customer_at_a_time(ask: Ask) -> None:
    def phone(id_: int, at: str) -> list[Any]:
        return [row["phone"] for row in ask("customer_at", customer_id=id_, at=at)]

    assert phone(3, "2026-11-24T12:00:00.000Z") == []
    assert phone(3, "2026-11-24T13:29:59.999Z") == ["02 8765 4321"]
    assert phone(3, "2026-11-24T13:30:00.000Z") == ["1"]
    assert phone(4, "2026-11-24T13:00:00.000Z") == ["02 8765 4321"]
    assert phone(4, "2026-11-25T00:00:00.000Z") == []


async def test_the_share_confirmed_over_time(house: Any, ask: Ask) -> None:
    change(mirror_of(house.place), "UPDATE _status SET live = 8, verified = 6")
    await keep_sample(house.mirror, house.now, 0, 0)
    change(mirror_of(house.place), "UPDATE _status SET live = 0, verified = 0")
    await keep_sample(house.mirror, house.now + timedelta(minutes=1), 0, 0)
    first, second = ask("share_confirmed")
    assert (first["live"], first["verified"], float(first["percent_confirmed"])) == (8, 6, 75.0)
    assert second["percent_confirmed"] is None


async def test_deliveries_by_verdict_and_local_day(ask: Ask) -> None:
    found = of(ask("deliveries_by_verdict"), "day", "verdict", "deliveries")
    assert [one for one in found if one[2]] == [
        ("2026-11-25", "applied", 2),
        ("2026-11-25", "quarantined", 1),
        ("2026-11-25", "tombstoned", 1),
        ("2026-11-24", "applied", 2),
    ]


def test_each_query_has_a_test_and_a_name_of_its_own() -> None:
    assert len(NAMED) == len(QUERIES) == 10
    assert all(query.on_sqlite.endswith(query.on_sqlite.strip()) for query in QUERIES)
    assert [query.name for query in QUERIES if not query.is_one_text] == ["changes_by_attribute"]
