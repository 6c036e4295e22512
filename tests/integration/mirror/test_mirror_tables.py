"""What reporting tools rely on: names, order and types of columns, and what they hold."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from receiver.database import mirror_of
from sync.merge.customers import ATTRIBUTES, COLUMNS, Subscription
from sync.merge.decisions import accept, accept_missing
from sync.merge.snapshots import Source
from tests.stores import columns, held, relations

CUSTOMER = [
    *["company_id", "id", "first_name", "last_name", "email", "phone", "mobile", "image", "reference_id"],
    *["accepts_marketing", "tags"],
    *["primary_address", "primary_city", "primary_state", "primary_postal_code", "primary_country"],
    *["shipping_address", "shipping_city", "shipping_state", "shipping_postal_code", "shipping_country"],
    *["other", "as_of", "first_seen_at", "first_seen_by", "changed_at", "verified_at", "partial"],
]
RELIED_ON = {
    "customers": CUSTOMER,
    "all_customers": [*CUSTOMER, "deleted_at"],
    "customer_tags": ["company_id", "customer_id", "tag"],
    "customer_versions": ["company_id", "customer_id", *COLUMNS, "as_of", "valid_from", "valid_to", "seq"],
    "customer_changes": [
        *["company_id", "seq", "customer_id", "kind", "attributes", "before", "after", "as_of", "source"],
        *["delivery_id", "applied_at"],
    ],
    "mirror_status": [
        *["company_id", "live", "deleted", "verified", "partial", "listed_complete", "attributes"],
        *["oldest_verified_at", "last_delivery_at", "last_applied_at", "last_sweep_at"],
        *["verifications_due", "drift_rate"],
    ],
    "delivery_verdicts": [
        *["company_id", "delivery_id", "customer_id", "topic", "verdict", "reason", "received_at"],
        "applied_at",
    ],
    "companies": ["company_id", "name", "time_zone", "read_at"],
    "company_days": ["company_id", "day", "begins_at", "ends_at"],
    "mirror_samples": [
        *["company_id", "at", "live", "verified", "verifications_due", "pending", "oldest_pending_seconds"],
    ],
}


@pytest.mark.parametrize("name", RELIED_ON)
async def test_tables_and_views_have_the_columns_that_others_rely_on(house: Any, name: str) -> None:
    found = columns(house.place, name)
    assert list(found) == RELIED_ON[name]
    assert all(found.values())  # a view's column that is an expression has no type on SQLite: tools then fail


async def test_all_other_tables_are_marked_as_the_mirrors_own(house: Any) -> None:
    others = relations(house.place) - RELIED_ON.keys()
    assert {name for name in others if not name.startswith("_")} == {"alembic_version"}


@pytest.mark.parametrize("database_kind", ["postgresql"])
async def test_on_postgresql_values_have_types_of_their_own(house: Any) -> None:
    customers = columns(house.place, "customers")
    assert {customers[name] for name in ("accepts_marketing", "partial")} == {"boolean"}
    assert {customers[name] for name in ("tags", "other")} == {"jsonb"}
    times = ("as_of", "first_seen_at", "changed_at", "verified_at")
    assert {customers[name] for name in times} == {"timestamp with time zone"}
    assert {customers[name] for name in ("company_id", "id")} == {"bigint"}
    changes = columns(house.place, "customer_changes")
    assert {changes[name] for name in ("attributes", "before", "after")} == {"jsonb"}


async def test_times_are_utc_with_milliseconds_and_on_sqlite_booleans_are_numbers_and_json_is_text(
    house: Any,
) -> None:
    house.now = datetime(2026, 11, 24, 12, 0, 0, 7000, UTC)
    await house.post(
        house.customer(1, None, updated_at="2026-11-24T22:00:00+10:00", tags=["ü"], loyalty={"points": 1})
    )
    await house.apply()
    row = house.row("SELECT * FROM customers")
    assert (row["accepts_marketing"], row["partial"]) == (1, 0)
    assert (row["tags"], json.loads(row["other"])) == ('["ü"]', {"loyalty": {"points": 1}})
    assert (row["as_of"], row["changed_at"]) == ("2026-11-24T12:00:00.000Z", "2026-11-24T12:00:00.007Z")
    status = house.row("SELECT * FROM mirror_status")
    assert (status["listed_complete"], json.loads(status["attributes"])) == (0, list(ATTRIBUTES))


async def test_null_and_unset_are_null_but_for_the_reference_id(house: Any) -> None:
    nothing = dict.fromkeys(
        ["first_name", "last_name", "email", "phone", "tags", "primary_address", "accepts_marketing"]
    )
    await house.post(house.customer(1, reference_id=None, **nothing))
    await house.apply()
    row = house.row("SELECT * FROM customers")
    assert {name for name in COLUMNS if row[name] is not None} == {"reference_id"}
    assert row["reference_id"] == ""


async def test_the_feed_tells_what_changed_and_into_what(house: Any) -> None:
    first = await house.post(house.customer(1, tags=None), "created")
    await house.apply()
    house.at(60)
    second = await house.post(house.customer(1, 60, tags=["gold"], phone="1", mobile="2", loyalty=3))
    await house.apply()
    house.at(120)
    third = await house.post(house.customer(1, 120), "deleted")
    await house.apply()
    house.at(180)
    async with house.mirror.batch([1], house.now) as batch:
        seen = house.applier._lens.body(
            json.dumps(house.customer(1, 180)).encode(), deleted=False, arrived_at=house.now, position=3
        )
        batch.decide(
            accept(batch.records[1], seen, house.attributes), source=Source.VERIFICATION, at=house.now
        )
    created, updated, deleted, restored = house.rows("SELECT * FROM customer_changes ORDER BY seq")
    assert [one["seq"] for one in (created, updated, deleted, restored)] == [1, 2, 3, 4]
    assert [one["kind"] for one in (created, updated, deleted, restored)] == [
        *["created", "updated", "deleted", "restored"]
    ]
    assert [one["delivery_id"] for one in (created, updated, deleted, restored)] == [
        *[first, second, third, None]
    ]
    assert (updated["source"], restored["source"]) == ("webhook", "verification")
    assert (updated["as_of"], updated["applied_at"]) == ("2026-11-24T12:01:00.000Z",) * 2
    assert (
        json.loads(created["before"]) == json.loads(deleted["after"]) == json.loads(restored["before"]) == {}
    )
    assert json.loads(created["after"])["first_name"] == "Jamie"
    assert "tags" not in json.loads(created["after"])
    assert json.loads(created["attributes"]) == [
        *["name", "phone", "email", "address", "accepts_marketing", "other"]
    ]
    assert json.loads(updated["attributes"]) == ["phone", "tags", "other"]
    assert json.loads(updated["before"]) == {
        "phone": "02 8765 4321",
        "mobile": None,
        "tags": None,
        "other": None,
    }
    assert json.loads(updated["after"]) == {
        "phone": "1",
        "mobile": "2",
        "tags": ["gold"],
        "other": {"loyalty": 3},
    }
    assert json.loads(deleted["before"])["tags"] == ["gold"]


async def test_versions_are_every_state_and_until_when_it_lasted(house: Any) -> None:
    await house.post(house.customer(1, first_name="A"))
    await house.post(house.customer(1, first_name="B"))
    await house.apply()
    house.at(60)
    await house.post(house.customer(1, 60, first_name="C"))
    await house.apply()
    house.at(120)
    await house.post(house.customer(1, 120), "deleted")
    await house.apply()
    noon, later, end = (f"2026-11-24T12:0{minute}:00.000Z" for minute in range(3))
    versions = house.rows("SELECT first_name, valid_from, valid_to FROM customer_versions ORDER BY seq")
    assert [tuple(one.values()) for one in versions] == [
        ("A", noon, noon),
        ("B", noon, later),
        ("C", later, end),
    ]
    then = house.rows(
        "SELECT first_name FROM customer_versions"
        " WHERE valid_from <= ? AND (valid_to > ? OR valid_to IS NULL)",
        *["2026-11-24T12:00:30.000Z"] * 2,
    )
    assert [one["first_name"] for one in then] == ["B"]


async def test_tags_are_rows_of_live_customers(house: Any) -> None:
    await house.post(house.customer(1, tags=["vip", "gold", "vip"]))
    await house.post(house.customer(2, tags=["gold"]))
    await house.apply()
    counted = "SELECT tag, count(*) AS n FROM customer_tags GROUP BY tag ORDER BY tag"
    assert house.rows(counted) == [{"tag": "gold", "n": 2}, {"tag": "vip", "n": 2}]
    house.at(60)
    await house.post(house.customer(1, 60, tags=["silver"]))
    await house.post(house.customer(2, 60), "deleted")
    await house.apply()
    assert house.rows(counted) == [{"tag": "silver", "n": 1}]


async def test_proof_is_shown_on_the_row_and_in_the_figures(house: Any) -> None:
    for id_ in (1, 2, 3):
        await house.post(house.customer(id_))
    await house.apply()
    house.at(60)
    async with house.mirror.batch([1, 2], house.now) as batch:
        body = json.dumps(house.customer(1, 60)).encode()
        seen = house.applier._lens.body(body, deleted=False, arrived_at=house.now, position=3)
        batch.decide(
            accept(batch.records[1], seen, house.attributes), source=Source.VERIFICATION, at=house.now
        )
        batch.settle(1)
        gone = accept_missing(batch.records[2], arrived_at=house.now, position=3)
        batch.decide(gone, source=Source.VERIFICATION, at=house.now)
        batch.settle(2)
    verified = house.rows("SELECT id, verified_at FROM customers ORDER BY id")
    assert [one["verified_at"] for one in verified] == ["2026-11-24T12:01:00.000Z", None]
    status = house.row("SELECT * FROM mirror_status")
    assert (status["live"], status["deleted"], status["verified"]) == (2, 1, 1)
    assert (status["oldest_verified_at"], status["verifications_due"]) == ("2026-11-24T12:01:00.000Z", 1)


@pytest.mark.parametrize("kept", [["name"], ["email", "image"], ["tags"], ["address", "accepts_marketing"]])
async def test_what_is_not_subscribed_is_null_and_leaves_no_trace(empty_house: Any, kept: list[str]) -> None:
    house = empty_house
    house.attributes = Subscription.of(kept)
    await house.open()
    await house.post(house.customer(1, reference_id="R1", loyalty="secret-other", image="https://i.example"))
    await house.apply()
    house.at(60)
    await house.post(
        house.customer(1, 60, first_name="Ann", email="new@kounta.example", phone="1", tags=["new"])
    )
    await house.post(house.customer(1, 60, loyalty="secret-new"))
    await house.apply()
    row = house.row("SELECT * FROM customers")
    may_be_set = {name for name, attribute in COLUMNS.items() if attribute in kept} | {"reference_id"}
    assert {name for name in COLUMNS if row[name] is not None} <= may_be_set
    assert row["reference_id"] in {"R1", ""}
    for change in house.rows("SELECT * FROM customer_changes"):
        assert json.loads(change["before"]).keys() | json.loads(change["after"]).keys() <= may_be_set
        assert set(json.loads(change["attributes"])) <= {*kept, "other"}
    for version in house.rows("SELECT * FROM customer_versions"):
        assert {name for name in COLUMNS if version[name] is not None} <= may_be_set
    await house.mirror.close()
    mirror = mirror_of(house.place)
    content = mirror.read_bytes() if isinstance(mirror, Path) else repr(held(mirror)).encode()
    assert b"secret-" not in content
    assert (b"jamie1@" in content) is ("email" in kept)
    house.mirror = await house.new_mirror()
