"""What upstream shows of the catalogue is counted where it is met, and `doctor` says it."""

import json
from contextlib import suppress
from typing import Any

import pytest

from receiver.inbox import Delivery
from sync.doctor.behaviours import of_observations
from sync.kounta import KountaError
from sync.kounta.observations import Observations
from sync.mirror.observations import observations
from sync.observations import keep_observations, recall_observations
from tests.integration.reconcile.conftest import COMPANY, Shop, answered


async def shown(shop: Shop) -> dict[str, int]:
    await keep_observations(shop.engine.mirror, shop.engine.kounta.observations)
    seen = await observations(shop.engine.mirror)
    sentences = [one.sentence for one in of_observations(seen, shop.clock())]
    assert [sentence.partition(":")[0] for sentence in sentences] == [one.name for one in seen]
    return {one.name: one.count for one in seen}


async def test_the_next_process_knows_what_was_shown(quiet: Shop) -> None:
    quiet.engine.kounta.observations.see("none-as-text")
    await keep_observations(quiet.engine.mirror, quiet.engine.kounta.observations)
    later = Observations(quiet.clock)
    await recall_observations(quiet.engine.mirror, later)
    assert (later.has_seen("none-as-text"), later.has_seen("gone"), later.unstored()) == (True, False, {})


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"phone": 61400000000}, "numbers-for-text"),
        ({"accepts_marketing": "1"}, "text-for-numbers"),
        ({"primary_address": []}, "empty-object-as-list"),
        ({"tags": {"0": "vip", "2": "new"}}, "holes-as-object"),
        ({"phone": False}, "none-as-text"),
        ({"phone": {"x": 1}}, "strange-fields"),
        ({"deleted": True}, "deleted-flags"),
        ({"deleted": False}, "false-flags"),
        ({"deleted": "perhaps"}, "strange-flags"),
        ({"id": 999_999}, "answers-another"),
    ],
)
async def test_what_a_read_shows_is_counted(quiet: Shop, fields: dict[str, Any], name: str) -> None:
    customer_id = quiet.ids[0]
    before = await quiet.seen(customer_id)
    quiet.twist.reads[customer_id] = answered(200, {**before, **fields})

    with suppress(KountaError):
        await quiet.engine.kounta.read(customer_id)

    assert (await shown(quiet))[name] == 1


async def test_what_a_list_shows_is_counted(quiet: Shop) -> None:
    quiet.twist.items[quiet.ids[0]] = {"is_deleted": 1}
    quiet.twist.items[quiet.ids[1]] = {"first_name": 7}
    await quiet.reconcile()
    assert {"listed-deleted": 1, "numbers-for-text": 1}.items() <= (await shown(quiet)).items()


@pytest.mark.parametrize(
    ("faults", "name"), [({"cut_walks": 1.0}, "cut-walks"), ({"next_page": "endless"}, "endless-pages")]
)
async def test_a_walk_that_does_not_end_well_is_counted(
    quiet: Shop, faults: dict[str, Any], name: str
) -> None:
    quiet.break_down(**faults)
    with pytest.raises(KountaError):
        await quiet.engine.sweeper.sweep("test")
    assert (await shown(quiet))[name] == 1


async def test_what_a_delivery_shows_is_counted(quiet: Shop) -> None:
    customer = quiet.update(quiet.ids[0])
    await quiet.deliver_raw(b'{"id": 7, "first_na')
    await quiet.deliver_raw(b'{"first_na')
    await quiet.deliver({**customer, "tags": {"0": "vip"}})
    await quiet.deliver({"id": customer["id"]}, "customers/deleted")
    seen = await shown(quiet)
    assert seen == {"garbled-bodies": 2, "nameless-bodies": 1, "holes-as-object": 1, "bare-deletions": 1}


async def test_a_deletion_with_the_bytes_of_another_topic_is_counted(quiet: Shop) -> None:
    body = json.dumps(quiet.update(quiet.ids[0])).encode()
    topics = ("customers/updated", "customers/deleted")
    await quiet.engine.applier.apply(
        [
            Delivery(place, f"copy-{place}", COMPANY, topic, quiet.clock(), {}, body)
            for place, topic in enumerate(topics, start=1)
        ]
    )
    assert (await shown(quiet))["replayed-elsewhere"] == 1
