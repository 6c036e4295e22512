"""Deliveries that an error of ours keeps from being applied, and applying deliveries again."""

import re
import traceback
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from receiver.database import mirror_of
from sync import apply
from sync.merge.decisions import Decision, merge
from sync.mirror.verdicts import newest_rulings
from sync.replay import Replayed, replay
from tests.stores import change


def stumbling(*ids: int, error: str = "an odd tag") -> Callable[..., Decision]:
    """A merge with a fault: it cannot do these customers."""

    def stumble(record: Any, snapshot: Any, *rest: Any) -> Decision:
        if snapshot.customer_id in ids:
            raise KeyError(error)
        return merge(record, snapshot, *rest)

    return stumble


async def replayed(house: Any, *ids: str, verdict: str | None = None) -> Replayed:
    settings = SimpleNamespace(place=house.place, company_id=5678)
    engine: Any = SimpleNamespace(mirror=house.mirror, applier=house.applier, settings=settings)
    return await replay(engine, ids, verdict)


def past(house: Any) -> list[tuple[str, str]]:
    rows = house.rows("SELECT delivery_id, verdict FROM _past_verdicts ORDER BY delivery_id, replaced_at")
    return [(one["delivery_id"], one["verdict"]) for one in rows]


async def test_a_delivery_that_our_code_stumbles_over_is_set_aside_alone(
    house: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [await house.post(house.customer(id_)) for id_ in (1, 2, 3)]
    monkeypatch.setattr(apply, "merge", stumbling(2))
    assert await house.apply() == 3
    assert house.verdicts() == ["applied", "failed", "applied"]
    assert house.verdict(names[1])["reason"] == "KeyError: 'an odd tag'"
    assert house.verdict(names[1])["customer_id"] == 2
    assert house.doubts() == {1: "confirmation", 2: "failed", 3: "confirmation"}
    assert [one["id"] for one in house.rows("SELECT id FROM customers")] == [1, 3]
    assert house.mirror.progress.position == 3


async def test_a_failed_delivery_leaves_the_record_as_it_was_and_in_doubt(
    house: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await house.post(house.customer(1, first_name="Before"))
    await house.apply()
    house.at(60)
    await house.post(house.customer(1, 60, first_name="After"))
    with monkeypatch.context() as broken:
        broken.setattr(apply, "merge", stumbling(1))
        await house.apply()
    assert house.name(1) == "Before"
    assert house.doubts() == {1: "failed"}
    (settled,) = house.rows("SELECT settled_at FROM _customers")
    assert settled["settled_at"] == "2026-11-24T12:01:00.000Z"  # a read that began before says nothing


async def test_a_row_that_cannot_be_read_keeps_none_but_its_own_deliveries_from_being_applied(
    house: Any,
) -> None:
    await house.post(house.customer(1))
    await house.apply()
    change(mirror_of(house.place), "UPDATE _customers SET first_seen_by = 'a dream'")
    await house.post(house.customer(1, first_name="New"))
    await house.post(house.customer(2))
    await house.apply()
    assert house.verdicts() == ["applied", "failed", "applied"]
    assert house.name(2) == "Jamie"


ODD = {
    "sqlite": ["CREATE TRIGGER odd BEFORE INSERT ON _customers BEGIN SELECT RAISE(ABORT, 'odd'); END"],
    "postgresql": ["ALTER TABLE _customers ADD CONSTRAINT odd CHECK (id <> 1)"],  # it shows the whole row
}
"""What keeps a customer from being written."""


async def test_the_reason_of_a_failure_holds_nothing_of_the_people_in_the_statement(
    house: Any, database_kind: str
) -> None:
    change(mirror_of(house.place), *ODD[database_kind])
    delivery = await house.post(house.customer(1, email="secret@kounta.example"))
    with capture_logs() as logged:
        await house.apply()
    ruling = house.verdict(delivery)
    assert ruling["verdict"] == "failed"
    assert re.fullmatch(r'IntegrityError: (odd|new row .* violates check constraint "odd")', ruling["reason"])
    errors = [one["exc_info"] for one in logged if "exc_info" in one]
    assert errors
    assert not any("secret@" in "".join(traceback.format_exception(error)) for error in errors)


async def test_a_replay_gives_a_new_verdict_at_the_old_position(
    house: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(apply, "merge", stumbling(1))
        failed = await house.post(house.customer(1, 0, first_name="Old"))
        await house.apply()
    house.at(60)
    await house.post(house.customer(1, 60, first_name="New"))
    await house.apply()
    house.at(90)
    result = await replayed(house, failed)
    assert (result.verdicts, result.missing) == ({failed: "stale"}, [])
    assert house.name(1) == "New"
    assert house.verdict(failed)["applied_at"] == "2026-11-24T12:01:30.000Z"
    assert past(house) == [(failed, "failed")]
    assert house.counts() == {"stale": 1, "applied": 1}
    assert house.mirror.progress.position == 2


async def test_a_replay_by_verdict_takes_all_that_have_it(
    house: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(apply, "merge", stumbling(*range(1, 121)))
        failed = [await house.post(house.customer(id_)) for id_ in range(1, 121)]
        await house.post(house.customer(300))
        await house.apply()
    assert house.counts() == {"failed": 120, "applied": 1}
    result = await replayed(house, verdict="failed")
    assert result.verdicts == dict.fromkeys(failed, "applied")
    assert house.counts() == {"applied": 121}
    assert len(past(house)) == 120
    assert len(house.rows("SELECT * FROM customers")) == 121


async def test_a_replay_that_fails_again_says_so_and_harms_no_other(
    house: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [await house.post(house.customer(id_)) for id_ in (1, 2)]
    await house.apply()
    monkeypatch.setattr(apply, "merge", stumbling(1))
    house.at(60)
    result = await replayed(house, *names)
    assert result.verdicts == {names[0]: "failed", names[1]: "unchanged"}
    assert house.counts() == {"failed": 1, "unchanged": 1}
    assert past(house) == [(names[0], "applied"), (names[1], "applied")]


async def test_replaying_time_and_again_keeps_every_verdict(house: Any) -> None:
    (name,) = [await house.post(house.customer(1))]
    await house.apply()
    for minute in (1, 2, 3):
        house.at(60 * minute)
        await replayed(house, name)
    assert past(house) == [(name, "applied"), (name, "unchanged"), (name, "unchanged")]
    assert house.counts() == {"unchanged": 1}


async def test_names_that_are_not_there_are_said_and_pending_ones_are_left_to_the_worker(house: Any) -> None:
    known = await house.post(house.customer(1))
    await house.apply()
    pending = await house.post(house.customer(2))
    result = await replayed(house, known, pending, "nonsense")
    assert result.verdicts == {known: "unchanged"}
    assert result.missing == sorted([pending, "nonsense"])
    assert house.counts() == {"unchanged": 1}
    assert await house.apply() == 1
    assert house.counts() == {"unchanged": 1, "applied": 1}


async def test_what_retention_has_removed_cannot_be_replayed(house: Any) -> None:
    gone = await house.post(house.customer(1))
    await house.apply()
    house.now += timedelta(days=2)
    await house.inbox.forget(5678, through=1, before=house.now - timedelta(days=1), keep=())
    result = await replayed(house, gone)
    assert (result.verdicts, result.missing) == ({}, [gone])
    assert house.counts() == {"applied": 1}


async def test_a_replay_does_not_make_the_newest_delivery_an_old_one(house: Any) -> None:
    old = await house.post(house.customer(1))
    house.at(3600)
    await house.post(house.customer(2, 3600))
    await house.apply()
    await replayed(house, old)
    assert house.row("SELECT * FROM mirror_status")["last_delivery_at"] == "2026-11-24T13:00:00.000Z"


async def test_rulings_are_listed_newest_first_and_by_verdict(house: Any) -> None:
    first = await house.post(house.customer(1))
    bad = await house.post(b"no JSON")
    last = await house.post(house.customer(2))
    await house.apply()
    assert [one.delivery_id for one in await newest_rulings(house.mirror, None, 10)] == [last, bad, first]
    assert [one.delivery_id for one in await newest_rulings(house.mirror, None, 1)] == [last]
    (quarantined,) = await newest_rulings(house.mirror, "quarantined", 10)
    assert quarantined.as_json() | {"reason": ""} == {
        "delivery_id": bad,
        "customer_id": None,
        "topic": "customers/updated",
        "verdict": "quarantined",
        "reason": "",
        "received_at": "2026-11-24T12:00:00.000Z",
        "applied_at": "2026-11-24T12:00:00.000Z",
    }
