"""Deliveries that cannot be used: each leaves a doubt on whom it names, or on the gap that all share."""

import json
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from sync.kounta import KountaError, KountaUnavailable
from sync.merge.doubts import MOST_FAILURES
from sync.mirror.gaps import newest_gap
from sync.status import status_of
from sync.worker import Worker
from tests.integration.reconcile.conftest import Shop, answered


@pytest.fixture
def logged() -> Iterator[list[Any]]:
    """The lines that are logged."""

    with capture_logs() as lines:
        yield lines


def cut(customer: dict[str, Any]) -> bytes:
    return json.dumps(customer).encode()[:60]


async def test_an_unreadable_delivery_leaves_a_doubt_on_whom_it_names(quiet: Shop) -> None:
    first, second, third = quiet.ids[:3]
    await quiet.deliver_raw(cut(quiet.update(first, phone="+61400000001")))
    await quiet.deliver_raw(json.dumps(quiet.update(second, phone="+61400000002")).encode()[:-1] + b"\x00}")
    body = json.dumps(quiet.update(third, phone="+61400000003")).encode()
    await quiet.deliver_raw(body.replace(b'"first_name": "', b'"first_name": "\xff'))
    assert set(quiet.wrong) == {first, second, third}
    # bytes that are not UTF-8 cost only their field: what the others say cannot be ordered
    assert (await quiet.figures()).doubts == {"failed": 2, "ambiguous": 1}
    quiet.skip(5)
    report = await quiet.reconcile()
    assert (report.whole, quiet.wrong) == (True, {})
    assert await newest_gap(quiet.engine.mirror) is None


async def test_a_body_of_another_company_is_no_loss(quiet: Shop) -> None:
    customer = quiet.update(quiet.ids[0])
    await quiet.deliver_raw(json.dumps({**customer, "company_id": 999}).encode())
    assert (await quiet.figures()).verdicts["quarantined"] == 1
    assert (await quiet.figures()).doubts == {}
    assert quiet.engine.mirror.progress.lost_at is None


async def test_of_what_a_body_names_only_the_first_may_become_a_tombstone(quiet: Shop) -> None:
    await quiet.deliver_raw(b'{"id": 900001, "company": {"id": 900002, "x": ')
    quiet.skip(5)
    await quiet.reconcile()
    assert await quiet.record(900001) is not None
    assert await quiet.record(900002) is None
    assert (await quiet.figures()).doubts == {}


async def test_bodies_that_name_nobody_share_one_sweep_an_hour_and_one_round_a_day(quiet: Shop) -> None:
    worker = Worker(quiet.engine)
    changed = quiet.ids[40]
    quiet.update(changed, phone="+61400000001")  # no list carries it
    await quiet.deliver_raw(b'{"first_name": "Cut off')
    status = await status_of(quiet.engine.settings, quiet.clock())
    assert "a sweep will find what was lost" in status.as_json()["attention"][-1]["sentence"]
    sweeps = (await quiet.newest_sweep()).id
    quiet.skip(5)
    await worker.once()
    quiet.skip(5)  # the list has shown them all: a read lag follows
    await worker.once()
    assert ((await quiet.newest_sweep()).id, quiet.wrong) == (sweeps + 1, {})
    reads = quiet.engine.kounta.calls_by_kind["read"]
    for number in range(50):
        await quiet.deliver_raw(b'{"first_name": "Another %d' % number)
        quiet.skip(60)
        await worker.once()
    assert (await quiet.newest_sweep()).id == sweeps + 1
    gap = await newest_gap(quiet.engine.mirror)
    assert gap is not None
    assert gap.mended_at is None
    quiet.skip(20 * 60)
    await worker.once()
    assert (await quiet.newest_sweep()).id == sweeps + 2
    assert quiet.engine.kounta.calls_by_kind["read"] == reads  # the next round is due in a day
    quiet.skip(24 * 3600)
    await worker.once()
    assert quiet.engine.kounta.calls_by_kind["read"] >= reads + len(quiet.ids)
    await worker.once()
    gap = await newest_gap(quiet.engine.mirror)
    assert gap is not None
    assert (gap.id, gap.mended_at) == (2, quiet.clock())  # the first ended with the round asked for


async def test_the_same_bytes_again_add_nothing(quiet: Shop) -> None:
    worker = Worker(quiet.engine)
    await quiet.deliver_raw(b"no customer at all")
    quiet.skip(5)
    await worker.once()
    await worker.once()
    lost_at, sweep = quiet.engine.mirror.progress.lost_at, await quiet.newest_sweep()
    quiet.skip(2 * 3600)
    await quiet.deliver_raw(b"no customer at all")
    assert quiet.engine.mirror.progress.lost_at == lost_at
    gap = await newest_gap(quiet.engine.mirror)
    assert gap is not None
    assert gap.mended_at is not None
    quiet.skip(23 * 3600)
    await quiet.deliver_raw(b"no customer at all")
    assert quiet.engine.mirror.progress.lost_at == quiet.clock()
    assert sweep.complete


async def test_what_cannot_be_told_apart_is_a_loss_each_time(quiet: Shop) -> None:
    await quiet.deliver_raw(b'{"id": 1')
    lost_at = quiet.engine.mirror.progress.lost_at
    quiet.skip(5)
    await quiet.deliver_raw(b'{"id": 1')
    assert lost_at is not None
    assert quiet.engine.mirror.progress.lost_at == lost_at + timedelta(seconds=5)


async def test_any_complete_sweep_serves_a_loss_and_deep_is_its_round(quiet: Shop) -> None:
    worker = Worker(quiet.engine)
    quiet.update(quiet.ids[3], phone="+61400000001")
    await quiet.deliver_raw(b"no customer at all")
    quiet.skip(5)
    await quiet.reconcile(deep=True)
    assert quiet.wrong == {}
    sweeps = (await quiet.newest_sweep()).id
    await worker.once()
    gap = await newest_gap(quiet.engine.mirror)
    assert gap is not None
    assert (gap.mended_at, (await quiet.newest_sweep()).id) == (quiet.clock(), sweeps)


async def test_a_failed_delivery_that_names_nobody_is_a_loss(
    quiet: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(*_: object, **__: object) -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(type(quiet.engine.applier), "_read", break_down)
    await quiet.deliver_raw(b'{"first_name": "Nobody"}')
    await quiet.deliver_raw(b'{"id": 1, "first_name": "Somebody"}')
    figures = await quiet.figures()
    assert (figures.verdicts["failed"], figures.doubts) == (2, {"failed": 1})
    assert quiet.engine.mirror.progress.lost_at == quiet.clock()


@pytest.mark.parametrize("status", [500, 418])
async def test_a_customer_that_can_never_be_read_is_a_problem_and_no_longer_verified(
    quiet: Shop, status: int
) -> None:
    worker, customer_id = Worker(quiet.engine), quiet.ids[5]
    quiet.twist.reads[customer_id] = answered(status, {"error": "broken"})
    await quiet.deliver_raw(b'{"id": %d, "x' % customer_id)
    await quiet.deliver(quiet.update(quiet.ids[6], phone="+61400000001"))  # so that others are answered
    for _ in range(MOST_FAILURES + 2):
        quiet.skip(3600)
        await quiet.deliver(quiet.update(quiet.ids[6], phone=f"+614000000{quiet.delivered:02}"))
        quiet.skip(30)
        with suppress(KountaError):  # the only one that is read may look like an outage
            await worker.once()
    record, doubt = await quiet.record(customer_id), await quiet.doubt(customer_id)
    assert record is not None
    assert doubt is not None
    assert (record.verified_at, doubt.is_problem) == (None, True)
    told = (await status_of(quiet.engine.settings, quiet.clock())).as_json()
    assert not told["sentence"].startswith("OK")
    assert told["verifications"]["failing"] == 1
    assert str(status) in told["verifications"]["problems"][0]["reason"]
    assert any(str(customer_id) in one["sentence"] for one in told["attention"])


async def test_a_problem_keeps_no_gap_open_and_is_tried_once_a_day(quiet: Shop) -> None:
    worker, customer_id = Worker(quiet.engine), quiet.ids[5]
    quiet.twist.reads[customer_id] = answered(418, {"error": "broken"})
    await quiet.deliver_raw(b'{"id": %d, "x' % customer_id)
    for _ in range(14):
        quiet.skip(24 * 3600 + 60)
        await worker.once()
        quiet.skip(5)  # the sweep has shown it: a read lag follows
        await worker.once()
    doubt = await quiet.doubt(customer_id)
    assert doubt is not None
    assert doubt.not_before == quiet.clock() + timedelta(days=1)
    calls = quiet.engine.kounta.calls_by_kind["read"]
    quiet.skip(23 * 3600)
    await worker.once()
    quiet.skip(5)
    await worker.once()
    assert quiet.engine.kounta.calls_by_kind["read"] == calls
    await quiet.deliver_raw(b"no customer at all")
    quiet.skip(5)
    await worker.once()
    await worker.once()
    gap = await newest_gap(quiet.engine.mirror)
    assert gap is not None
    assert gap.mended_at is not None
    del quiet.twist.reads[customer_id]
    quiet.skip(24 * 3600)
    await worker.once()
    quiet.skip(5)
    await worker.once()
    assert await quiet.doubt(customer_id) is None
    assert (await status_of(quiet.engine.settings, quiet.clock())).problem_count == 0


async def test_an_outage_makes_no_problem(quiet: Shop) -> None:
    customer_id = quiet.ids[5]
    await quiet.deliver_raw(b'{"id": %d, "x' % customer_id)
    quiet.break_down(server_errors=1.0)
    for _ in range(2 * MOST_FAILURES):
        quiet.skip(3 * 3600)
        with pytest.raises(Exception, match="answered 5"):
            await Worker(quiet.engine).once()
    doubt = await quiet.doubt(customer_id)
    assert doubt is not None
    assert doubt.failures == 0


async def test_what_upstream_says_of_a_person_reaches_no_log(quiet: Shop, logged: list[Any]) -> None:
    customer_id = quiet.ids[0]
    said = {"error": "invalid", "message": "Jamie <jamie@shop.example> cannot be shown"}
    quiet.twist.reads[customer_id] = answered(422, said)
    await quiet.deliver_raw(cut(quiet.update(customer_id)))
    quiet.skip(5)
    report = await quiet.reconcile()
    doubt = await quiet.doubt(customer_id)
    assert doubt is not None
    assert "jamie@shop.example" in (doubt.failure or "")
    assert "jamie@shop.example" in report.why
    assert any("answered 422 invalid (…)" in line["event"] for line in logged)
    assert not any("amie" in str(line) for line in logged)


async def test_what_upstream_says_of_a_person_reaches_no_log_of_a_loop(
    quiet: Shop, logged: list[Any]
) -> None:
    worker = Worker(quiet.engine)
    said = KountaUnavailable(503, None, "answered 503 (Jamie)", "Wait").quoting({" (Jamie)": " (…)"})
    await worker._note_refusal("verify", said)
    assert [line["event"] for line in logged] == ["answered 503 (…). Wait."]
    assert quiet.engine.mirror.progress.upstream_failure == "answered 503 (Jamie). Wait."
