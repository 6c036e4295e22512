"""One proof of access serves all 404s that wait for it."""

from sync.merge.doubts import Reason
from sync.worker import Worker
from tests.integration.reconcile.conftest import Shop


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
