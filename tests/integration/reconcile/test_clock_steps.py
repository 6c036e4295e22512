"""A clock that stepped back: what lies ahead of now is brought back once, and a full read lag follows."""

from datetime import timedelta

from sync.merge.doubts import AHEAD
from sync.worker import Worker
from tests.integration.reconcile.conftest import Shop

DAY = 24 * 3600


async def test_verification_goes_on_after_a_clock_stepped_back_by_a_day(quiet: Shop) -> None:
    customer_id = quiet.ids[0]
    shown = await quiet.seen(customer_id)
    quiet.skip(DAY)
    await quiet.deliver({**shown, "phone": "+61400000001"})  # which it never was
    quiet.skip(-DAY)
    assert set(quiet.wrong) == {customer_id}
    report = await quiet.reconcile(customer_id=customer_id)
    assert (report.whole, report.why, quiet.wrong) == (True, "", {})
    record = await quiet.record(customer_id)
    assert record is not None
    assert max(record.settled_at, record.as_of, record.read_at or record.as_of) <= quiet.clock() + AHEAD


async def test_a_full_read_lag_follows(quiet: Shop) -> None:
    customer_id = quiet.ids[0]
    quiet.skip(DAY)
    await quiet.deliver(quiet.update(customer_id, phone="+61400000001"))
    quiet.skip(-DAY)
    worker, stepped_at = Worker(quiet.engine), quiet.clock()
    reads = quiet.engine.kounta.calls_by_kind["read"]
    await worker.once()
    record = await quiet.record(customer_id)
    assert record is not None
    assert record.settled_at == stepped_at
    quiet.skip(1.9)  # the lag is 2 s
    await worker.once()
    assert quiet.engine.kounta.calls_by_kind["read"] == reads
    quiet.skip(0.1)
    await worker.once()
    assert quiet.engine.kounta.calls_by_kind["read"] > reads
    assert await quiet.doubt(customer_id) is None


async def test_it_is_stored_once(quiet: Shop) -> None:
    customer_id = quiet.ids[0]
    quiet.skip(DAY)
    await quiet.deliver(quiet.update(customer_id, phone="+61400000001"))
    quiet.skip(-DAY)
    stepped_at = quiet.clock()
    async with quiet.engine.mirror.batch([customer_id], quiet.clock()):
        pass
    quiet.skip(30)
    async with quiet.engine.mirror.batch([customer_id], quiet.clock()):
        pass
    record = await quiet.record(customer_id)
    assert record is not None
    assert (record.settled_at, record.as_of, record.rests_on_arrival) == (stepped_at, stepped_at, True)


async def test_a_time_a_little_ahead_stays(quiet: Shop) -> None:
    customer_id = quiet.ids[0]
    quiet.skip(50)
    await quiet.deliver(quiet.update(customer_id, phone="+61400000001"))
    quiet.skip(-50)
    async with quiet.engine.mirror.batch([customer_id], quiet.clock()):
        pass
    record = await quiet.record(customer_id)
    assert record is not None
    assert record.settled_at == quiet.clock() + timedelta(seconds=50)


async def test_the_refresh_and_the_sweeps_go_on(quiet: Shop) -> None:
    quiet.skip(DAY)
    await quiet.reconcile(deep=True)
    quiet.skip(-DAY)
    sweeps = (await quiet.newest_sweep()).id
    await Worker(quiet.engine).once()
    assert (await quiet.newest_sweep()).id == sweeps + 1
    quiet.skip(60)
    assert await quiet.engine.refresher.refresh()
