"""The mirror knows its company: name, time zone and local days, as the local Kounta tells them."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from receiver.database import directory_of, mirror_of
from sync.acquaintance import Acquaintance
from sync.engine import open_engine
from sync.settings import WorkerSettings
from sync.worker import Worker
from tests.databases import asked
from tests.places import settings_of
from tests.stores import change
from tests.working import working

Look = Callable[[], Awaitable[list[str]]]


@pytest.fixture
def look(shop: Any, site: Any) -> Look:
    """Look once, and give the actions that were logged."""
    acquaintance = Acquaintance(site.mirror, site.kounta, clock=lambda: shop.now)

    async def look() -> list[str]:
        with capture_logs() as logs:
            await acquaintance.look()
        return [line["action"] for line in logs]

    return look


def company(shop: Any) -> dict[str, Any]:
    (row,) = asked(shop.place, "SELECT name, time_zone, read_at FROM companies WHERE company_id = 5678")
    return row


def days(shop: Any) -> list[dict[str, Any]]:
    return asked(shop.place, "SELECT day, begins_at, ends_at FROM company_days ORDER BY day")


def calls(shop: Any) -> int:
    return int(shop.sandbox.calls.total)


async def test_it_is_asked_once_a_day(shop: Any, look: Look) -> None:
    assert company(shop) == {"name": None, "time_zone": None, "read_at": None}
    assert await look() == []
    settings = shop.sandbox.settings
    assert company(shop) == {
        "name": settings.company_name,
        "time_zone": "Australia/Sydney",
        "read_at": "2026-11-24T12:00:00.000Z",
    }
    before = calls(shop)
    shop.now += timedelta(hours=23)
    await look()
    assert calls(shop) == before
    shop.now += timedelta(hours=1)
    await look()
    assert calls(shop) == before + 1
    assert company(shop)["read_at"] == "2026-11-25T12:00:00.000Z"


async def test_days_go_from_before_the_first_change_to_over_a_year_ahead(shop: Any, look: Look) -> None:
    change(
        mirror_of(shop.place),
        "INSERT INTO _changes (company_id, seq, customer_id, kind, attributes, source, applied_at) "
        "VALUES (5678, 1, 1, 'created', '[]', 'backfill', '2026-10-03T13:30:00.000Z')",
    )
    await look()
    found = days(shop)
    assert found[0]["day"] == "2026-10-02"
    assert found[2] == {
        "day": found[2]["day"],
        "begins_at": "2026-10-03T14:00:00.000Z",
        "ends_at": "2026-10-04T13:00:00.000Z",
    }
    assert found[2]["day"] == "2026-10-04"
    assert found[-1]["day"] == "2027-12-29"
    shop.now += timedelta(days=3)
    await look()
    assert days(shop)[-1]["day"] == "2028-01-01"
    assert days(shop)[: len(found)] == found


async def test_days_are_made_anew_when_the_zone_changes(shop: Any, look: Look) -> None:
    await look()
    shop.sandbox.settings.time_zone = "Europe/Berlin"
    shop.now += timedelta(days=1)
    await look()
    noon = [one for one in days(shop) if one["day"] == "2026-11-24"]
    assert noon == [
        {
            "day": noon[0]["day"],
            "begins_at": "2026-11-23T23:00:00.000Z",
            "ends_at": "2026-11-24T23:00:00.000Z",
        }
    ]


async def test_a_zone_that_nobody_knows_is_kept_and_makes_no_days(shop: Any, look: Look) -> None:
    await look()
    shop.sandbox.settings.time_zone = "Nowhere/City"
    shop.now += timedelta(days=1)
    assert await look() == ["company_zone_unknown"]
    assert company(shop)["time_zone"] == "Nowhere/City"
    assert days(shop) == []


async def test_a_failure_is_tried_again_at_the_next_look(shop: Any, look: Look) -> None:
    shop.sandbox.faults.lost_access = "403"
    assert await look() == ["company_not_read"]
    assert company(shop)["read_at"] is None
    shop.sandbox.faults.lost_access = "no"
    assert await look() == []
    assert company(shop)["time_zone"] == "Australia/Sydney"


async def test_another_company_is_not_kept_and_not_asked_for_again_today(shop: Any, look: Look) -> None:
    shop.sandbox.settings.company_id = 77
    assert await look() == ["company_differs"]
    before = calls(shop)
    assert await look() == []
    assert calls(shop) == before
    assert company(shop) == {"name": None, "time_zone": None, "read_at": None}
    assert days(shop) == []


async def test_a_worker_gets_to_know_its_company(shop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(directory_of(shop.place))
    given = {
        **settings_of(shop.place),
        "KOUNTA_COMPANY_ID": "5678",
        "KOUNTA_CLIENT_ID": "sandbox-client",
        "KOUNTA_CLIENT_SECRET": "sandbox-secret",
        "KOUNTA_API_URL": shop.url,
        "KOUNTA_REQUESTS_PER_MINUTE": "100000",
    }
    async with (
        open_engine(WorkerSettings.model_validate(given), "the test") as engine,
        working(Worker(engine)),
        asyncio.timeout(20),
    ):
        while not days(shop):  # noqa: ASYNC110 - it comes true in a loop that tells nobody
            await asyncio.sleep(0.01)
    today = datetime.now(UTC).isoformat()
    (now,) = asked(
        shop.place, "SELECT day FROM company_days WHERE begins_at <= ? AND ends_at > ?", today, today
    )
    assert now
