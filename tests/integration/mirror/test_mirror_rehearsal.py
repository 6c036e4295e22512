"""Trying a replay out: the verdicts that it would give, and a mirror that stays as it was."""

from types import SimpleNamespace
from typing import Any

import pytest

from sync.mirror.deliveries import Wanted, newest, past_verdicts
from sync.mirror.feed import changes_of
from sync.replay import Replayed, rehearse, replay

TABLES = (
    "_customers",
    "_changes",
    "delivery_verdicts",
    "_past_verdicts",
    "_verdict_counts",
    "_verifications",
    "_progress",
    "mirror_status",
)


def engine_of(house: Any) -> Any:
    settings = SimpleNamespace(
        place=house.place, company_id=5678, subscription=house.attributes, timing=house.timing
    )
    return SimpleNamespace(mirror=house.mirror, applier=house.applier, settings=settings)


async def rehearsed(house: Any, *ids: str, wanted: Wanted | None = None) -> Replayed:
    engine = engine_of(house)
    return await rehearse(engine.settings, house.mirror, lambda: house.now, ids, wanted)


def everything(house: Any) -> dict[str, list[dict[str, Any]]]:
    return {table: house.rows(f"SELECT * FROM {table}") for table in TABLES}  # noqa: S608 - names above


async def three_lives(house: Any) -> list[str]:
    """Three customers: one renamed, one deleted, one unreadable, ten seconds apart."""
    names = []
    for seconds, event, body in (
        (0, "created", house.customer(1, 0, first_name="Ann")),
        (10, "updated", house.customer(1, 10, first_name="Anna")),
        (20, "created", house.customer(2, 20)),
        (30, "deleted", house.customer(2, 30)),
        (40, "updated", b"no JSON"),
    ):
        house.at(seconds)
        names.append(await house.post(body, event))
        await house.apply()
    house.at(100)
    return names


async def test_a_rehearsal_gives_what_the_replay_gives_and_changes_nothing(house: Any) -> None:
    names = await three_lives(house)
    before = everything(house)
    expected = await rehearsed(house, *names)
    assert everything(house) == before
    assert list(expected.before.values()) == ["applied", "applied", "applied", "tombstoned", "quarantined"]
    assert expected.verdicts != expected.before

    replayed = await replay(engine_of(house), names)
    assert replayed == expected
    assert everything(house) != before


async def test_deliveries_of_a_rehearsal_see_each_other_across_transactions(
    house: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = await three_lives(house)
    together = await rehearsed(house, *names)
    monkeypatch.setattr("sync.replay.AT_ONCE", 1)
    assert await rehearsed(house, *names) == together


async def test_a_mirror_goes_on_after_a_rehearsal_as_if_there_had_been_none(house: Any) -> None:
    names = await three_lives(house)
    await rehearsed(house, *names)
    house.at(200)
    await house.post(house.customer(1, 200, first_name="Later"))
    await house.apply()
    assert house.name(1) == "Later"
    assert [row["seq"] for row in house.rows("SELECT seq FROM customer_changes ORDER BY seq")] == [
        1,
        2,
        3,
        4,
        5,
    ]


async def test_what_would_fail_is_told_and_the_others_are_tried_all_the_same(
    house: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = await three_lives(house)
    before = everything(house)
    monkeypatch.setattr(house.attributes.__class__, "carried_in", stumbling)
    expected = await rehearsed(house, *names)
    assert set(expected.verdicts.values()) == {"failed", "quarantined"}
    assert everything(house) == before


def stumbling(*_: Any) -> Any:
    raise KeyError("an odd tag")


async def test_deliveries_are_chosen_by_the_time_at_which_they_came(house: Any) -> None:
    names = await three_lives(house)
    house.at(10)
    since = house.now
    house.at(30)
    until = house.now
    chosen = await rehearsed(house, wanted=Wanted(since=since, until=until))
    assert sorted(chosen.verdicts) == sorted(names[1:3])
    tombstoned = await rehearsed(house, wanted=Wanted("tombstoned", since=since))
    assert list(tombstoned.verdicts) == [names[3]]
    assert (await rehearsed(house, "unknown")).missing == ["unknown"]


async def test_the_newest_are_found_page_by_page(house: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sync.mirror.deliveries._AT_ONCE", 2)
    names = await three_lives(house)
    found = await newest(house.mirror, Wanted(), 10)
    assert [one.delivery_id for one in found] == names[::-1]
    assert [one.delivery_id for one in await newest(house.mirror, Wanted(customer_id=1), 10)] == names[1::-1]
    house.at(30)
    since = await newest(house.mirror, Wanted(since=house.now), 10)
    assert [one.delivery_id for one in since] == names[:2:-1]
    assert len(await newest(house.mirror, Wanted(), 3)) == 3


async def test_a_replay_leaves_the_verdict_before_it_and_the_change_it_had_made(house: Any) -> None:
    names = await three_lives(house)
    await replay(engine_of(house), names[1:2])
    (past,) = await past_verdicts(house.mirror, names[1])
    assert (past.verdict, past.as_json()["replaced_at"]) == ("applied", "2026-11-24T12:01:40.000Z")
    (change,) = await changes_of(house.mirror, 1, delivery_id=names[1])
    assert (change.before, change.after) == ({"first_name": "Ann"}, {"first_name": "Anna"})
