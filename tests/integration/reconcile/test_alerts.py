"""What needs attention is told once when it begins and once when it is over, whatever fails on the way."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import structlog
import uvicorn
from sqlalchemy.exc import DBAPIError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from receiver.database import inbox_of, mirror_of
from receiver.inbox import InboxReader, InboxWriter
from receiver.integrity import FileCheck, StoreDamagedError
from sync.alerts import Pager
from sync.kounta import KountaError
from sync.merge.doubts import Reason
from sync.mirror.alerts import open_alerts, untold_alerts
from sync.mirror.queue import doubt_every_live
from sync.watch import BEAT, MOVES, Watch
from sync.worker import Worker
from tests.stores import change, take_writes

HOUR = 3600.0


@dataclass
class OnCall:
    """Somebody who is told, and the status with which they answer."""

    url: str = ""
    told: list[dict[str, Any]] = field(default_factory=list)
    beats: int = 0
    status: int = 200

    @property
    def heard(self) -> list[tuple[str, str]]:
        return [(one["name"], one["state"]) for one in self.told]

    async def alert(self, request: Request) -> Response:
        if self.status < 300:
            self.told.append(await request.json())
        return Response(status_code=self.status)

    async def beat(self, _request: Request) -> Response:
        self.beats += 1
        return Response(status_code=self.status)


@asynccontextmanager
async def listening(on_call: OnCall) -> AsyncIterator[None]:
    app = Starlette(
        routes=[
            Route("/secret-path/alert", on_call.alert, methods=["POST"]),
            Route("/secret-path/beat", on_call.beat),
        ]
    )
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, lifespan="off"))
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - the server tells nobody
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    on_call.url = f"http://127.0.0.1:{port}/secret-path"
    try:
        yield
    finally:
        server.should_exit = True
        await serving


@pytest.fixture
async def on_call() -> AsyncIterator[OnCall]:
    person = OnCall()
    async with listening(person):
        yield person


def addresses(on_call: OnCall) -> dict[str, str]:
    return {"MIRROR_ALERT_URL": f"{on_call.url}/alert", "MIRROR_HEARTBEAT_URL": f"{on_call.url}/beat"}


def watch_of(shop: Any) -> Watch:
    engine = shop.engine
    pager = Pager(engine.settings.alert_url, engine.settings.heartbeat_url)
    shop.stack.push_async_exit(pager)
    return Watch(
        engine.settings,
        engine.mirror,
        pager,
        answers=lambda: engine.kounta.successes,
        observations=engine.kounta.observations,
        clock=engine.clock,
    )


async def pass_on(watch: Watch) -> None:
    """One round of the loop."""
    await watch.look()
    await watch.tell()


@pytest.fixture
async def watched(quiet: Any, on_call: OnCall) -> Any:
    """A quiet mirror whose worker has somebody to tell."""
    quiet.settings |= addresses(on_call)
    await quiet.reopen()
    return quiet


async def refuse(shop: Any, *, since: float | None) -> None:
    """Let upstream have refused for so many seconds, or answer again."""
    failure = None if since is None else "the credentials are wrong (401)"
    began = None
    if since is not None:
        shop.skip(since)
        began = shop.clock().fromtimestamp(shop.now - since, shop.clock().tzinfo)
    await shop.engine.mirror.note(upstream_failure=failure, upstream_failure_since=began)


async def test_an_alert_is_told_once_when_it_opens_and_once_when_it_closes(
    watched: Any, on_call: OnCall
) -> None:
    watch = watch_of(watched)
    await pass_on(watch)
    assert on_call.told == []
    began = watched.clock()
    await refuse(watched, since=HOUR)
    for _ in range(3):
        await pass_on(watch)
        watched.skip(15)
    (told,) = on_call.told
    assert told["sentence"] == "Kounta refuses since 12:01 UTC: the credentials are wrong (401)"
    assert told == {
        "id": told["id"],
        "name": "upstream",
        "state": "open",
        "severity": "critical",
        "sentence": told["sentence"],
        "text": told["sentence"],
        "company_id": 5678,
        "since": began.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "closed_at": None,
        "runbook": "docs/how-to/troubles.md#upstream",
    }
    await refuse(watched, since=None)
    for _ in range(3):
        await pass_on(watch)
        watched.skip(15)
    assert on_call.heard == [("upstream", "open"), ("upstream", "closed")]
    assert on_call.told[1]["id"] == told["id"]
    assert on_call.told[1]["closed_at"] is not None
    assert await untold_alerts(watched.engine.mirror) == []


async def test_a_restart_neither_repeats_nor_forgets(watched: Any, on_call: OnCall) -> None:
    await refuse(watched, since=HOUR)
    await watch_of(watched).look()
    await watched.reopen()  # before anybody was told
    await pass_on(watch_of(watched))
    await watched.reopen()
    await pass_on(watch_of(watched))
    assert on_call.heard == [("upstream", "open")]
    await refuse(watched, since=None)
    await watch_of(watched).look()
    await watched.reopen()
    await pass_on(watch_of(watched))
    await pass_on(watch_of(watched))
    assert on_call.heard == [("upstream", "open"), ("upstream", "closed")]


async def test_who_does_not_answer_is_told_later_in_order(watched: Any, on_call: OnCall) -> None:
    watch = watch_of(watched)
    on_call.status = 500
    await refuse(watched, since=HOUR)
    with structlog.testing.capture_logs() as log:
        await pass_on(watch)
        await pass_on(watch)  # too soon: not tried
    (untold,) = [line["event"] for line in log if line["action"] == "alert_untold"]
    assert untold == "An alert was not told, and will be: 127.0.0.1 answered 500."
    await refuse(watched, since=None)
    await watch.look()
    on_call.status = 200
    watched.skip(60)
    await pass_on(watch)
    assert on_call.heard == [("upstream", "open"), ("upstream", "closed")]


async def test_a_mirror_that_cannot_be_written_keeps_nobody_from_being_told(
    watched: Any, on_call: OnCall
) -> None:
    watch = watch_of(watched)
    await refuse(watched, since=HOUR)
    await take_writes(watched.engine.mirror, "off")
    for _ in range(3):
        with pytest.raises(DBAPIError, match=r"read-?only"):
            await watch.look()
        watched.skip(15)
    assert on_call.heard == [("upstream", "open")]
    await take_writes(watched.engine.mirror, "on")
    await pass_on(watch)
    assert on_call.heard == [("upstream", "open")]
    await refuse(watched, since=None)
    await pass_on(watch)
    await pass_on(watch)
    assert on_call.heard == [("upstream", "open"), ("upstream", "closed")]
    assert on_call.told[0]["id"] == on_call.told[1]["id"]
    assert await untold_alerts(watched.engine.mirror) == []


async def test_what_is_over_before_the_mirror_can_be_written_again_is_told_to_be_over(
    watched: Any, on_call: OnCall, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = watch_of(watched)
    await take_writes(watched.engine.mirror, "off")
    monkeypatch.setattr("sync.status.left_on_disk", lambda _: 1_000_000)
    with pytest.raises(DBAPIError, match=r"read-?only"):
        await watch.look()
    assert on_call.heard == [("disk", "open")]
    assert on_call.told[0]["sentence"] == "Only 1.0 MB are left on the disk of the data directory."
    monkeypatch.undo()
    with pytest.raises(DBAPIError, match=r"read-?only"):
        await watch.look()
    await take_writes(watched.engine.mirror, "on")
    await pass_on(watch)
    await pass_on(watch)
    assert on_call.heard == [("disk", "open"), ("disk", "closed")]
    assert on_call.told[0]["id"] == on_call.told[1]["id"]


async def test_a_database_that_is_away_is_told_once_it_lasts(
    watched: Any, on_call: OnCall, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = watch_of(watched)

    async def away(*_: object) -> None:
        raise OSError(111, "Connection refused")

    monkeypatch.setattr("sync.watch.status_of", away)
    heard = []
    for _ in range(4):
        with pytest.raises(OSError, match="refused"):
            await watch.look()
        heard.append(len(on_call.told))
        watched.skip(59)
    assert heard == [0, 0, 0, 1]
    assert on_call.told[0]["sentence"].startswith(
        "The database cannot be used: [Errno 111] Connection refused."
    )
    monkeypatch.undo()
    await pass_on(watch)
    await pass_on(watch)
    assert on_call.heard == [("database", "open"), ("database", "closed")]
    assert await untold_alerts(watched.engine.mirror) == []


@pytest.mark.parametrize("database_kind", ["sqlite"])  # a server looks after its files by itself
@pytest.mark.parametrize("unreadable", [False, True])
async def test_a_damaged_mirror_is_told_at_once_though_nothing_can_be_written(
    watched: Any,
    on_call: OnCall,
    unreadable: bool,  # noqa: FBT001 - a parameter
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = mirror_of(watched.place)
    assert isinstance(path, Path)
    check = FileCheck(path, owns=True, clock=watched.clock)
    watched.engine.mirror.store.check = check
    malformed = sqlite3.DatabaseError("database disk image is malformed")
    malformed.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    check.suspect(malformed)
    if unreadable:

        async def unread(*_: object) -> None:
            raise DBAPIError("SELECT", None, malformed)

        monkeypatch.setattr("sync.watch.open_alerts", unread)
    watch = watch_of(watched)
    for _ in range(3):
        with pytest.raises((StoreDamagedError, DBAPIError)):
            await watch.look()
        watched.skip(15)
    assert on_call.heard == [("damaged", "open")]
    assert on_call.told[0]["sentence"].startswith("mirror.db is damaged (database disk image is malformed)")


async def test_an_alert_whose_note_fails_is_told_once(watched: Any, on_call: OnCall) -> None:
    watch = watch_of(watched)
    await refuse(watched, since=HOUR)
    await watch.look()
    await take_writes(watched.engine.mirror, "off")
    for _ in range(3):
        with pytest.raises(DBAPIError, match=r"read-?only"):
            await watch.tell()
        watched.skip(15)
    await take_writes(watched.engine.mirror, "on")
    await watch.tell()
    assert on_call.heard == [("upstream", "open")]
    assert await untold_alerts(watched.engine.mirror) == []


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("http://127.0.0.1:9/secret-path", "127.0.0.1 could not be reached (ConnectError)"),
        ("http://\u00ad/secret-path", "the address could not be reached (InvalidURL)"),
    ],
)
async def test_an_address_that_nobody_has_is_told_without_its_path(
    watched: Any, address: str, why: str
) -> None:
    await watched.reopen(MIRROR_ALERT_URL=address)
    await refuse(watched, since=HOUR)
    with structlog.testing.capture_logs() as log:
        await pass_on(watch_of(watched))
    (untold,) = [line["event"] for line in log if line["action"] == "alert_untold"]
    assert untold == f"An alert was not told, and will be: {why}."
    assert "secret-path" not in repr(watched.engine.settings)


async def test_deletions_are_told_once_they_are_held_for_more_than_a_moment(
    watched: Any, on_call: OnCall
) -> None:
    gone = watched.ids[0]
    at = watched.clock().isoformat(timespec="milliseconds").replace("+00:00", "Z")
    change(
        mirror_of(watched.place),
        f"INSERT INTO _held_deletes (company_id, customer_id, missing_at) VALUES (5678, {gone}, '{at}')",  # noqa: S608 - ours
    )
    watch = watch_of(watched)
    await pass_on(watch)
    assert on_call.told == []
    watched.skip(61)
    await pass_on(watch)
    assert on_call.heard == [("held-deletes", "open")]


async def test_one_that_begins_again_is_another_one(watched: Any, on_call: OnCall) -> None:
    watch = watch_of(watched)
    for _ in range(2):
        await refuse(watched, since=HOUR)
        await pass_on(watch)
        await refuse(watched, since=None)
        await pass_on(watch)
    assert on_call.heard == [("upstream", "open"), ("upstream", "closed")] * 2
    assert on_call.told[0]["id"] != on_call.told[2]["id"]


async def test_without_an_address_nothing_is_kept(quiet: Any) -> None:
    await refuse(quiet, since=HOUR)
    await pass_on(watch_of(quiet))
    assert await open_alerts(quiet.engine.mirror) == []


async def test_nobody_speaks_for_far_longer_than_usual(watched: Any, on_call: OnCall) -> None:
    """Every day at noon twenty changes come within the hour; on the tenth day none."""
    customer = watched.update(watched.ids[0], first_name="Daily")
    noon = watched.now
    for day in range(10):
        for minutes in range(0, 60, 3):
            watched.now = noon + day * 24 * HOUR + minutes * 60
            await watched.deliver(customer)
    watch = watch_of(watched)
    watched.now = noon + 9 * 24 * HOUR + 23 * HOUR
    await pass_on(watch)
    assert on_call.told == []
    watched.now = noon + 10 * 24 * HOUR + 12 * HOUR
    await pass_on(watch)
    assert on_call.told == []  # in the first weeks it must be clearer than that
    watched.now = noon + 13 * 24 * HOUR
    await pass_on(watch)
    assert on_call.heard == [("silence", "open")]
    assert on_call.told[0]["sentence"].startswith("No delivery since 2026-12-03 12:58 UTC; ")
    await watched.deliver(customer)
    await pass_on(watch)
    assert on_call.heard == [("silence", "open"), ("silence", "closed")]


@pytest.mark.parametrize("database_kind", ["sqlite"])  # its clock would jump as far as if it had stood still
async def test_a_receiver_that_is_gone_is_told_and_so_is_its_gap(watched: Any, on_call: OnCall) -> None:
    worker, watch = Worker(watched.engine), watch_of(watched)
    writer = await InboxWriter.open(inbox_of(watched.place), clock=watched.clock)
    async with InboxReader.open(inbox_of(watched.place)) as inbox:
        await watched.engine.applier.apply_pending(inbox)
        await worker._gaps.look(inbox)
        await writer.close()
        watched.skip(HOUR)
        await pass_on(watch)
        assert on_call.heard == [("receiver", "open")]
        watched.update(watched.ids[0], first_name="Unheard")
        async with await InboxWriter.open(inbox_of(watched.place), clock=watched.clock):
            watched.skip(watched.patience)
            await worker._gaps.look(inbox)
            while await worker._sweep_if_due():
                pass
            watched.skip(60)
            while await worker._verify_some():
                pass
            await worker._gaps.mend()  # it was never open while anybody looked
            await pass_on(watch)
    assert on_call.heard == [
        ("receiver", "open"),
        ("receiver", "closed"),
        ("gap", "open"),
        ("gap", "closed"),
    ]
    assert watched.wrong == {}


async def test_the_heartbeat_is_called_once_a_minute_while_work_gets_on(
    watched: Any, on_call: OnCall
) -> None:
    watch = watch_of(watched)
    for _ in range(10):
        for loop in MOVES:
            watch.moved(loop)
        await watch.beat()
        watched.skip(30)
    assert on_call.beats == 10 * 30 / BEAT.total_seconds()
    assert watched.engine.mirror.progress.alive_at == watched.clock().fromtimestamp(
        watched.now - 30, watched.clock().tzinfo
    )


@pytest.mark.parametrize("stuck", MOVES)
async def test_no_heartbeat_for_a_worker_whose_loop_is_stuck(
    watched: Any, on_call: OnCall, stuck: str
) -> None:
    watch = watch_of(watched)
    for _ in range(20):
        for loop in MOVES.keys() - {stuck}:
            watch.moved(loop)
        await watch.beat()
        watched.skip(60)
    assert on_call.beats == MOVES[stuck] / BEAT + 1
    alive_at = watched.engine.mirror.progress.alive_at
    assert (watched.clock() - alive_at) > MOVES[stuck]


async def test_deliveries_that_are_applied_and_reads_that_are_answered_are_progress(
    watched: Any, on_call: OnCall
) -> None:
    """However long one round of a loop takes: a full inbox, every customer to be read."""
    watch = watch_of(watched)
    customer = watched.update(watched.ids[0], first_name="Busy")
    await doubt_every_live(watched.engine.mirror, Reason.ASKED, watched.clock(), asked=True)
    for _ in range(20):
        await watched.deliver(customer)
        await watched.engine.kounta.read(watched.ids[0])
        await watch.beat()
        watched.skip(60)
    assert on_call.beats == 20


async def test_a_heartbeat_that_nobody_hears_harms_nothing(watched: Any, on_call: OnCall) -> None:
    on_call.status = 503
    with structlog.testing.capture_logs() as log:
        await watch_of(watched).beat()
    assert [line["action"] for line in log] == ["heartbeat_unheard"]
    assert watched.engine.mirror.progress.alive_at == watched.clock()


async def test_the_heartbeat_stores_what_upstream_has_shown(quiet: Any) -> None:
    quiet.break_down(redirects_same=1)
    with suppress(KountaError):
        await quiet.engine.kounta.read(quiet.ids[0])
    assert quiet.rows("SELECT * FROM _observations") == []
    await watch_of(quiet).beat()
    (seen,) = quiet.rows("SELECT name, count FROM _observations")
    assert (seen["name"], seen["count"] > 0) == ("redirects-same", True)
    await watch_of(quiet).beat()
    assert quiet.rows("SELECT name, count FROM _observations") == [seen]
