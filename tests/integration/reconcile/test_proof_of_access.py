"""One proof of access serves all 404s that wait for it."""

import httpx2
import pytest

from sync.merge.doubts import Reason
from sync.worker import Worker
from tests.integration.reconcile.conftest import Shop, answered


async def test_one_proof_serves_all_second_looks_and_one_all_deletions(quiet: Shop) -> None:
    gone = quiet.ids[30:38]
    quiet.delete(*gone)
    async with quiet.engine.mirror.batch(gone, quiet.clock()) as batch:
        for customer_id in gone:
            batch.doubt(customer_id, Reason.CONTRADICTED, quiet.clock())
    worker, before = Worker(quiet.engine), quiet.engine.kounta.calls_by_kind
    await worker.once()  # the first looks: nobody was answered 200 behind them
    quiet.skip(60)
    await worker.once()
    assert quiet.wrong == {}
    made = quiet.engine.kounta.calls_by_kind - before
    assert (made["read"], made["list"]) == (2 * len(gone), 2)


@pytest.mark.parametrize("swept", [False, True])
async def test_a_moment_without_access_settles_no_doubt_of_an_unknown_customer(
    quiet: Shop, *, swept: bool
) -> None:
    worker, customer_id = Worker(quiet.engine), quiet.create(phone="+61400000001")
    if swept:
        quiet.twist.items[customer_id] = None  # the list does not show it yet
        await quiet.engine.sweeper.sweep("test")
    await quiet.deliver_raw(b'{"id":%d,"first_name":"Cut' % customer_id)
    answers = iter([answered(404)])

    def once(request: httpx2.Request) -> httpx2.Response | None:
        answer = next(answers, None)
        return answer and answer(request)

    quiet.twist.reads[customer_id] = once
    quiet.skip(5)
    await worker.once()
    assert await quiet.record(customer_id) is None
    assert await quiet.doubt(customer_id) is not None
    quiet.skip(60)
    await worker.once()
    assert quiet.wrong == {}


async def test_an_unknown_customer_that_is_gone_costs_one_read_after_a_sweep_and_two_before(
    quiet: Shop,
) -> None:
    worker = Worker(quiet.engine)
    for number, expected in (
        (900_001, {"read": 1, "list": 1 + quiet.pages()}),
        (900_002, {"read": 2, "list": 2}),
    ):
        await quiet.deliver_raw(b'{"id":%d,"first_name":"Cut' % number)
        quiet.skip(5)
        before = quiet.engine.kounta.calls_by_kind
        if "1" in str(number)[-1]:
            await quiet.reconcile()
        else:
            await worker.once()
            quiet.skip(60)
            await worker.once()
        made = quiet.engine.kounta.calls_by_kind - before
        assert {kind: made[kind] for kind in expected} == expected
        record = await quiet.record(number)
        assert record is not None
        assert record.deleted_at is not None
        assert await quiet.doubt(number) is None
