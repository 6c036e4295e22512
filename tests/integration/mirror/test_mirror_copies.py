"""A `deleted` whose very bytes came before at another topic: the path is not signed."""

import json

from sync.copied import COPIED
from tests.integration.mirror.conftest import House


def body(house: House, id_: int = 7, at: float = 0) -> bytes:
    return json.dumps(house.customer(id_, at)).encode()


async def test_it_deletes_nobody_before_a_read_has_confirmed_it(house: House) -> None:
    await house.post(body(house), "created")
    await house.apply()
    house.at(600)
    deleted = await house.post(body(house), "deleted")
    await house.apply()
    assert house.name(7) == "Jamie"
    verdict = house.verdict(deleted)
    assert (verdict["verdict"], verdict["reason"]) == ("contradicted", COPIED)
    assert house.doubts() == {7: "contradicted"}


async def test_also_in_one_batch_and_by_replay(house: House) -> None:
    await house.post(body(house), "updated")
    deleted = await house.post(body(house), "deleted")
    await house.apply()
    assert house.verdict(deleted)["reason"] == COPIED
    reader = await house.view.reader()
    assert reader is not None
    await house.applier.apply(await reader.find(5678, [deleted]), again=True, inbox=reader)
    assert (house.name(7), house.verdict(deleted)["reason"]) == ("Jamie", COPIED)


async def test_after_a_restart_it_is_found_in_the_inbox(house: House) -> None:
    await house.post(body(house), "updated")
    await house.apply()
    await house.reopen()
    deleted = await house.post(body(house), "deleted")
    await house.apply()
    assert house.verdict(deleted)["reason"] == COPIED


async def test_other_bytes_delete_as_ever(house: House) -> None:
    await house.post(body(house), "updated")
    await house.post(body(house, 8), "updated")
    house.at(60)
    for id_ in (7, 8):
        await house.post(body(house, id_, at=60), "deleted")
    await house.apply()
    assert house.verdicts()[-2:] == ["tombstoned", "tombstoned"]


async def test_the_same_deletion_again_and_a_later_copy_are_no_copies(house: House) -> None:
    await house.post(body(house, at=-60), "created")
    first = await house.post(body(house), "deleted")
    await house.post(body(house), "deleted")
    await house.post(body(house), "updated")  # came later: says nothing of the deletion
    await house.apply()
    reader = await house.view.reader()
    assert reader is not None
    assert house.verdict(first)["verdict"] == "tombstoned"
    await house.applier.apply(await reader.find(5678, [first]), again=True, inbox=reader)
    assert house.verdict(first)["verdict"] != "contradicted"


async def test_the_same_bytes_about_another_company_are_no_copy(house: House) -> None:
    await house.post(body(house, at=-60), "created")
    await house.post(body(house), "updated", company=999)
    deleted = await house.post(body(house), "deleted")
    await house.apply()
    assert house.verdict(deleted)["verdict"] == "tombstoned"
