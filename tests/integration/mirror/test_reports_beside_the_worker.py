"""Reports in another process while deliveries are applied: scripts/bench report, in short."""

from receiver.database import Place, Server
from sync.mirror.overgrown import LARGE_BYTES
from tests.bench.report import run


async def test_no_lock_fails_on_either_side_and_the_log_stays_small(place: Place) -> None:
    figures = await run(place, customers=500, batch=3_000, seconds=0, turns=1)
    assert (figures.locked_reports, figures.locked_worker) == (0, 0)
    assert figures.asked > 10
    assert figures.seen > 400
    if not isinstance(place, Server):
        assert figures.largest_log < 2 * LARGE_BYTES
