"""The receiver did not listen, or could not store: the worker sweeps by itself, and says what it found."""

import asyncio
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog

from receiver.database import inbox_of
from receiver.inbox import CONNECTIONS_FULL, InboxReader, InboxWriter
from receiver.inbox.transactions import KEPT_SECONDS
from sync.gaps import LISTENS_AFTER, SILENT_AFTER, TOGETHER
from sync.mirror.gaps import newest_gap
from sync.mirror.store import Mirror
from sync.worker import Worker

STEP = 5.0


async def receive(shop: Any, at_socket: str | None = None) -> InboxWriter:
    """Run a receiver from now on, perhaps at a socket that its parent keeps open."""
    return await InboxWriter.open(inbox_of(shop.place), clock=shop.clock, socket=at_socket)


async def restart(shop: Any, down: float, at_socket: str | None = None) -> None:
    """A receiver has stopped; another one starts so many seconds later, runs, and stops."""
    shop.skip(down)
    await (await receive(shop, at_socket)).close()


async def look(shop: Any, worker: Worker | None = None) -> Worker:
    """Let a worker apply what is pending and look at what the receiver has noted, once it may."""
    worker = worker or Worker(shop.engine)
    async with InboxReader.open(inbox_of(shop.place)) as inbox:
        for _ in range(int(shop.patience // LISTENS_AFTER.total_seconds())):
            shop.skip(LISTENS_AFTER.total_seconds())
            await shop.engine.applier.apply_pending(inbox)
            await worker._gaps.look(inbox)
    return worker


async def work(shop: Any, worker: Worker) -> None:
    """Let it do what sweep and verification are due, until all of it is done."""
    for _ in range(12):
        while await worker._sweep_if_due():
            pass
        while await worker._verify_some():
            pass
        await worker._gaps.mend()
        shop.skip(STEP)


def sweeps(shop: Any) -> list[str]:
    """Why each sweep was made, in order."""
    return [row["reason"] for row in shop.rows("SELECT reason FROM _sweeps ORDER BY id")]


def due(shop: Any) -> str | None:
    reason: str | None = shop.engine.mirror.progress.sweep_due
    return reason


@pytest.fixture
async def listening(quiet: Any) -> Any:
    """A quiet mirror whose worker knows the first run of the receiver, which has stopped."""
    await (await receive(quiet)).close()
    await look(quiet)
    assert due(quiet) is None
    return quiet


async def test_the_first_look_at_an_inbox_is_no_gap(quiet: Any) -> None:
    for _ in range(3):
        await restart(quiet, 60)
    await look(quiet)
    assert due(quiet) is None
    assert quiet.engine.mirror.progress.starts_seen == 3


async def test_a_receiver_that_runs_on_is_no_gap(listening: Any) -> None:
    for _ in range(3):
        listening.skip(600)
        await look(listening)
    assert due(listening) is None


async def test_what_was_lost_while_nobody_listened_is_found_and_told(listening: Any) -> None:
    began = listening.clock()
    changed, gone, *_ = listening.ids
    listening.update(changed, first_name="Unheard")
    listening.delete(gone)
    new = listening.create()
    await restart(listening, 600)
    ended = listening.clock()
    with structlog.testing.capture_logs() as log:
        worker = await look(listening)
        await work(listening, worker)
    assert listening.wrong == {}
    assert new in listening.ids
    assert sweeps(listening) == ["backfill", "gap"]
    assert due(listening) is None
    said = {line["action"]: line for line in log}
    noticed, mended = said["gap_noticed"]["event"], said["gap_mended"]
    assert noticed.startswith("Nobody listened from ")
    assert f"{ended:%H:%M:%S} UTC" in noticed
    assert mended["event"].endswith("what was missed is repaired: 1 created, 1 updated, 1 deleted.")
    gap = await newest_gap(listening.engine.mirror)
    assert gap is not None
    assert (gap.since, gap.until) == (began - timedelta(seconds=listening.patience), ended)
    assert (gap.created, gap.updated, gap.deleted) == (1, 1, 1)


async def test_after_a_kill_the_gap_begins_at_the_last_sign_of_life(quiet: Any) -> None:
    writer = await receive(quiet)
    await look(quiet)
    quiet.skip(30)
    await writer._write_notes()
    seen = quiet.clock()
    quiet.skip(20)
    writer._broken = True  # from here on it notes nothing, as one that was killed
    await writer.close()
    await restart(quiet, 100)
    await look(quiet)
    gap = await newest_gap(quiet.engine.mirror)
    assert gap is not None
    assert (gap.since, gap.until) == (seen, seen + timedelta(seconds=120))


async def test_several_restarts_in_a_row_are_one_gap_and_one_sweep(listening: Any) -> None:
    worker = Worker(listening.engine)
    for _ in range(4):
        await restart(listening, 2)
        async with InboxReader.open(inbox_of(listening.place)) as inbox:
            await worker._gaps.look(inbox)
        assert due(listening) is None  # it may start anew any moment
    await look(listening, worker)
    await work(listening, worker)
    await look(listening, worker)
    await work(listening, worker)
    assert sweeps(listening) == ["backfill", "gap"]


@pytest.mark.parametrize("database_kind", ["sqlite"])  # elsewhere a start is looked at later than that anyway
async def test_a_restart_just_after_a_gap_waits_and_is_not_forgotten(listening: Any) -> None:
    await restart(listening, 60)
    worker = await look(listening)
    while await worker._sweep_if_due():
        pass
    await restart(listening, 1)
    await look(listening, worker)
    assert due(listening) is None
    listening.skip(TOGETHER.total_seconds())
    await look(listening, worker)
    assert due(listening) == "gap"
    await work(listening, worker)
    assert sweeps(listening) == ["backfill", "gap", "gap"]


async def test_a_receiver_that_starts_again_and_again_is_noticed_before_it_is_at_rest(listening: Any) -> None:
    worker = Worker(listening.engine)
    for _ in range(int((TOGETHER.total_seconds() + listening.patience) // STEP) + 2):
        await restart(listening, STEP)
        async with InboxReader.open(inbox_of(listening.place)) as inbox:
            await worker._gaps.look(inbox)
    assert due(listening) == "gap"


@pytest.mark.parametrize("database_kind", ["sqlite"])  # its clock would jump as far as if it had stood still
async def test_deliveries_that_could_not_be_stored_are_a_gap(quiet: Any) -> None:
    writer = await receive(quiet)
    await look(quiet)
    writer._notes.failed(3, "disk full", quiet.clock())
    began = quiet.clock()
    quiet.skip(40)
    writer._notes.failed(2, "disk full", quiet.clock())
    ended = quiet.clock()
    await writer._write_notes()
    changed = quiet.ids[0]
    quiet.update(changed, last_name="Refused")
    with structlog.testing.capture_logs() as log:
        worker = await look(quiet)
        await look(quiet, worker)
    assert [line["refused"] for line in log if line["action"] == "gap_noticed"] == [5]
    gap = await newest_gap(quiet.engine.mirror)
    assert gap is not None
    assert (gap.what, gap.since, gap.until) == (
        "The receiver could not store deliveries (disk full)",
        began,
        ended,
    )
    await work(quiet, worker)
    assert sweeps(quiet) == ["backfill", "gap"]
    assert quiet.wrong == {}
    await writer.close()


@pytest.mark.parametrize("transactions", [0, 1])
async def test_a_gap_is_noticed_once_whenever_the_worker_is_killed(
    listening: Any, monkeypatch: pytest.MonkeyPatch, transactions: int
) -> None:
    """Killed after so many transactions, the next worker notices what this one did not, and not twice."""
    await restart(listening, 60)
    noting, left = Mirror.noting, transactions

    def die(self: Mirror, **fields: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise asyncio.CancelledError
        return noting(self, **fields)

    with monkeypatch.context() as patch, suppress(asyncio.CancelledError):
        patch.setattr(Mirror, "noting", die)
        await look(listening)
    for _ in range(2):
        await listening.reopen()
        await look(listening)
        assert due(listening) == "gap"
    worker = await look(listening)
    await work(listening, worker)
    listening.skip(TOGETHER.total_seconds())
    await look(listening, worker)
    await work(listening, worker)
    assert sweeps(listening) == ["backfill", "gap"]


async def test_what_was_repaired_is_told_by_the_next_worker_too(listening: Any) -> None:
    listening.update(listening.ids[0], first_name="Unheard")
    await restart(listening, 60)
    worker = await look(listening)
    assert await worker._sweep_if_due()
    await listening.reopen()
    with structlog.testing.capture_logs() as log:
        await work(listening, Worker(listening.engine))
    (mended,) = [line for line in log if line["action"] == "gap_mended"]
    assert (mended["created"], mended["updated"], mended["deleted"]) == (0, 1, 0)


@pytest.mark.parametrize("database_kind", ["sqlite"])  # a file takes the place of another one
async def test_another_inbox_is_one_gap_and_begins_anew(listening: Any, tmp_path: Path) -> None:
    other, here = tmp_path / "other" / "inbox.db", tmp_path / "inbox.db"
    for _ in range(5):
        listening.skip(60)
        await (await InboxWriter.open(other, clock=listening.clock)).close()
    here.unlink()
    other.rename(here)
    worker = await look(listening)
    gap = await newest_gap(listening.engine.mirror)
    assert gap is not None
    assert (gap.what, gap.until) == ("The inbox was replaced", None)  # and its starts were none beside it
    assert due(listening) == "gap"
    await work(listening, worker)
    listening.skip(600)
    await look(listening, worker)
    await work(listening, worker)
    assert sweeps(listening) == ["backfill", "gap"]
    assert listening.engine.mirror.progress.starts_seen == 5


async def test_a_clock_that_stepped_back_hides_no_gap(listening: Any) -> None:
    worker = Worker(listening.engine)
    await look(listening, worker)
    await restart(listening, 60)
    listening.skip(-3600)
    await look(listening, worker)
    assert due(listening) == "gap"
    await work(listening, worker)
    listening.skip(-3600)
    await restart(listening, 60)
    await look(listening, worker)
    assert due(listening) == "gap"


async def test_once_sees_a_gap_too(listening: Any) -> None:
    listening.update(listening.ids[0], first_name="Unheard")
    await restart(listening, 60)
    listening.skip(listening.patience)
    await Worker(listening.engine).once()
    assert sweeps(listening) == ["backfill", "gap"]


@pytest.mark.parametrize("quietly", [True, False])
async def test_a_look_costs_no_write_unless_there_is_something_new(
    listening: Any, monkeypatch: pytest.MonkeyPatch, *, quietly: bool
) -> None:
    writes: list[datetime] = []
    noting = Mirror.noting

    def counted(self: Mirror, **fields: Any) -> Any:
        writes.append(listening.clock())
        return noting(self, **fields)

    if not quietly:
        await restart(listening, 60)
    monkeypatch.setattr(Mirror, "noting", counted)
    worker = await look(listening)
    await look(listening, worker)
    assert len(writes) == (0 if quietly else 1)


@pytest.fixture
async def at_socket(quiet: Any) -> Any:
    """A quiet mirror whose worker knows the first run of the receiver, which has just stopped."""
    await (await receive(quiet, "boot:1")).close()
    await look(quiet)
    quiet.skip(-quiet.patience)
    return quiet


async def test_restarts_at_a_socket_that_stayed_open_are_no_gap(at_socket: Any) -> None:
    for _ in range(3):
        await restart(at_socket, KEPT_SECONDS, "boot:1")
    worker = await look(at_socket)
    assert due(at_socket) is None
    assert at_socket.engine.mirror.progress.starts_seen == 4
    await restart(at_socket, 600)
    ended = at_socket.clock()
    await look(at_socket, worker)
    gap = await newest_gap(at_socket.engine.mirror)
    assert gap is not None
    assert (gap.id, gap.since, gap.until) == (1, ended - timedelta(seconds=600 + at_socket.patience), ended)


@pytest.mark.parametrize(
    ("down", "socket"),
    [(10.0, "boot:2"), (10.0, None), (KEPT_SECONDS + 1, "boot:1")],
    ids=["another socket", "a socket of its own", "for longer than a sender waits"],
)
async def test_a_restart_is_a_gap_when_what_waited_may_have_been_lost(
    at_socket: Any, down: float, socket: str | None
) -> None:
    await restart(at_socket, down, socket)
    await look(at_socket)
    assert due(at_socket) == "gap"


async def test_a_kill_is_a_gap_though_the_socket_stayed_open(quiet: Any) -> None:
    writer = await receive(quiet, "boot:1")
    await look(quiet)
    writer._broken = True  # from here on it notes nothing, as one that was killed
    await writer.close()
    await restart(quiet, 1, "boot:1")
    await look(quiet)
    quiet.skip(2 * SILENT_AFTER.total_seconds())
    await look(quiet)
    assert due(quiet) == "gap"


@pytest.mark.parametrize("database_kind", ["sqlite"])  # its clock would jump as far as if it had stood still
async def test_an_overload_that_goes_on_is_one_gap_one_sweep_an_hour_and_one_round_a_day(quiet: Any) -> None:
    writer = await receive(quiet)
    worker = await look(quiet)
    reads = quiet.engine.kounta.calls_by_kind["read"]
    for _ in range(70):
        for _ in range(2):
            writer.overloaded(CONNECTIONS_FULL)
            await writer._write_notes()
            quiet.skip(10)
        async with InboxReader.open(inbox_of(quiet.place)) as inbox:
            await worker._gaps.look(inbox)
        quiet.skip(40)  # a read lag
        await worker.once()
    async with InboxReader.open(inbox_of(quiet.place)) as inbox:
        assert len(await inbox.failed_commits()) <= 75  # one a minute, not one a second
    assert sweeps(quiet) == ["backfill", "losses", "losses"]
    assert quiet.engine.kounta.calls_by_kind["read"] - reads <= len(quiet.ids)
    gap = await newest_gap(quiet.engine.mirror)
    assert gap is not None
    assert (gap.id, gap.what) == (2, f"The receiver could not store deliveries ({CONNECTIONS_FULL})")
    await writer.close()
