"""While a batch is written the next one is read: what then is true of it, and what is not any more."""

from typing import Any

import pytest

from receiver.inbox import Delivery, InboxReader
from sync import apply
from sync.merge.snapshots import Lens, Snapshot
from sync.stretch import NOTHING, Stretch


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apply, "AT_ONCE", 3)


class Watched:
    """A reader of the inbox that notes where it was read, and fails once where it is told to."""

    def __init__(self, reader: InboxReader) -> None:
        self._reader = reader
        self.read_behind: list[int] = []
        self.fails_behind: int | None = None

    async def read(self, company_id: int, after: int, limit: int) -> list[Delivery]:
        self.read_behind.append(after)
        if after == self.fails_behind:
            self.fails_behind = None
            raise OSError("the disk is away")
        return await self._reader.read(company_id, after, limit)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)


async def watched(house: Any) -> Any:
    return Watched(await house.view.reader())


async def test_each_stretch_is_read_once_and_each_delivery_has_one_verdict(house: Any) -> None:
    for number in range(10):
        await house.post(house.customer(1 + number % 4, at=10 * number, first_name=f"Name {number}"))
    reader = await watched(house)
    assert await house.applier.apply_pending(reader) == 10
    assert reader.read_behind == [0, 3, 6, 9]
    assert house.verdicts() == ["applied"] * 10
    assert [house.name(id_) for id_ in (1, 2, 3, 4)] == ["Name 8", "Name 9", "Name 6", "Name 7"]


async def test_what_another_worker_has_applied_meanwhile_is_passed_over(
    house: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        await house.post(house.customer(1, at=10 * number, first_name=f"Name {number}"))
    reader = await watched(house)
    stale = await house.applier._look_ahead(reader, 0)
    monkeypatch.setattr(apply, "AT_ONCE", 2)
    monkeypatch.setattr(apply, "IN_A_ROW", 1)
    assert await house.applier.apply_next(reader) == 2
    assert await house.applier._apply_batch(reader, stale, last=True, wait=True) == (1, NOTHING)
    assert house.verdicts() == ["applied"] * 3
    await house.post(house.customer(1, at=40, first_name="Name 3"))
    assert await house.applier._apply_batch(reader, stale, last=True, wait=True) == (1, NOTHING)
    assert (house.verdicts(), house.name(1)) == (["applied"] * 4, "Name 3")


def test_a_stretch_that_begins_behind_a_position_is_no_gap() -> None:
    assert Stretch(5, ()).behind(3) is NOTHING


async def test_a_delivery_that_breaks_when_it_is_read_ahead_is_set_aside_alone(
    house: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for id_ in range(1, 8):
        await house.post(house.customer(id_))
    body = Lens.body

    def breaks(lens: Lens, content: bytes, **given: Any) -> Snapshot:
        if b"jamie5@" in content:
            raise RecursionError("an error of ours")
        return body(lens, content, **given)

    monkeypatch.setattr(Lens, "body", breaks)
    assert await house.apply() == 7
    assert house.verdicts() == [*["applied"] * 4, "failed", *["applied"] * 2]


async def test_a_store_that_fails_while_it_is_read_ahead_fails_no_batch(house: Any) -> None:
    for id_ in range(1, 8):
        await house.post(house.customer(id_))
    reader = await watched(house)
    reader.fails_behind = 3
    assert await house.applier.apply_pending(reader) == 7
    assert reader.read_behind == [0, 3, 3, 6]
    assert house.verdicts() == ["applied"] * 7
