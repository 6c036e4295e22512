"""What there is in one seed: the local Kounta, the two processes, their files, and the way between them."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from random import Random
from typing import TYPE_CHECKING
from uuid import UUID

import httpx2

from receiver.app import create_app as create_receiver
from receiver.database import is_unavailable
from receiver.errors import MirrorError
from receiver.inbox import InboxWriter
from receiver.settings import ReceiverSettings
from sync.engine import Engine, open_engine
from sync.inbox import InboxView, inbox_path
from sync.kounta import Retries
from sync.sandbox import AppTransport, Courier, Faults, Sandbox, Settings, create_app
from sync.settings import WorkerSettings
from sync.worker import Worker
from tests.simulation.disk import ACTING
from tests.simulation.judge import Broken, Judge
from tests.simulation.ledger import LEAVING, Ledger
from tests.simulation.plan import PROCESSES, Plan
from tests.simulation.process import Disk, Process
from tests.simulation.witness import Witness

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from starlette.applications import Starlette

    from receiver.capture import Capture

COMPANY = 5678
NOT_FOUND = 404
TOKEN = "sandbox-signature-token"
START = datetime(2026, 11, 24, tzinfo=UTC).timestamp()


class Bell:
    """What wakes the worker, without a socket."""

    def __init__(self, chance: Random) -> None:
        self._rung = asyncio.Event()
        self._chance = chance

    def ring(self) -> None:
        self._rung.set()

    async def wait(self, timeout: float | None) -> bool:  # noqa: ASYNC109 - as the doorbell has it
        try:
            async with asyncio.timeout(timeout):
                await self._rung.wait()
        except TimeoutError:
            return False
        await asyncio.sleep(self._chance.choice((0.0, 1.0, 4.0)))  # the worker is busy elsewhere
        self._rung.clear()
        return True


class World:
    """Everything that is. It is made before its loop runs; `seconds` is that loop's time."""

    def __init__(
        self, given: Plan, directory: Path, seconds: Callable[[], float], tell: Callable[[str], None]
    ) -> None:
        self.plan = given
        self.tell = tell
        self.kills = 0
        self.offline = False
        """Whether there is no way to upstream."""
        self.sparing = False
        """Whether nobody is killed any more."""
        self.engine: Engine | None = None
        """The worker's, while it runs."""
        self.processes: dict[str, Process] = {}
        self.up = {name: asyncio.Event() for name in PROCESSES}
        self.disks = {name: Disk(Random(f"{name} {given.seed}")) for name in PROCESSES}
        self.answered: set[str] = set()
        """The deliveries that were answered 200."""
        self._directory = directory
        self._seconds = seconds
        self._chance = Random(f"world {given.seed}")
        self._names = Random(f"names {given.seed}")
        self._deaths = {name: list(steps) for name, steps in given.deaths.items()}
        self._receiver: Starlette | None = None
        self._upstream: AppTransport | None = None
        self._bell = Bell(Random(f"bell {given.seed}"))
        self.sandbox = Sandbox(
            Settings(edits_per_second=given.edits_per_second, **given.settings),
            Faults(**given.faults),
            seed=given.seed,
            customers=given.customers,
            clock=self.epoch,
        )
        self.ledger = Ledger(self.sandbox.faults, Random(f"outbox {given.seed}"))
        self.sandbox.company.outbox = self.ledger
        self.sandbox.deliver_to("http://receiver")
        company = self.sandbox.company
        self.witness = Witness(self.ledger, company.customers, self.sandbox.settings.client_id)
        self.judge = Judge(directory, self.sandbox, self.ledger, self.witness, given)

    def epoch(self) -> float:
        """Give the time, in epoch seconds."""
        return START + self._seconds()

    def clock(self) -> datetime:
        """Give the same in UTC and whole milliseconds."""
        return datetime.fromtimestamp(round(self.epoch(), 3), UTC)

    def open_upstream(self, courier: Courier) -> None:
        """Let upstream answer calls."""
        self._upstream = AppTransport(create_app(self.sandbox, courier))

    # the two processes

    async def supervise(self, name: str) -> None:
        """Start a process again whenever it ends."""
        main = {"receiver": self._be_receiver, "worker": self._be_worker}[name]
        while True:
            deaths = self._deaths[name]
            dies_at = deaths.pop(0) if deaths and not self.sparing else None
            process = self.processes[name] = Process(name, self.disks[name], self.tell, dies_at)
            failures = self.disks[name].failures
            self.tell(f"{name} starts")
            try:
                await process.run(main)
            except Exception as error:
                starting = not self.up[name].is_set()
                failed = self.disks[name].failures > failures
                if not (starting and failed and (isinstance(error, MirrorError) or is_unavailable(error))):
                    raise Broken(f"the {name} died: {words(error)}") from error
            finally:
                self.up[name].clear()
                self.kills += process.dead
            await asyncio.sleep(self._chance.choice((0.1, 1.0, 5.0, 20.0)))

    async def _be_receiver(self) -> None:
        app = create_receiver(self._receiver_settings(), self._open_inbox)
        try:
            async with app.router.lifespan_context(app):
                self._receiver = app
                self.up["receiver"].set()
                await asyncio.Event().wait()
        finally:
            self._receiver = None

    @asynccontextmanager
    async def _open_inbox(self, settings: ReceiverSettings, _: Capture) -> AsyncIterator[InboxWriter]:
        opened = await InboxWriter.open(
            inbox_path(settings.data_dir),
            queue_limit=settings.queue_limit,
            clock=self.clock,
            new_id=self.new_name,
            committed=self._bell.ring,
        )
        async with opened as inbox:
            yield inbox

    async def _be_worker(self) -> None:
        settings = self._worker_settings()
        retries = Retries(
            read_lag=settings.read_lag_seconds, random=Random(f"retries {self.plan.seed}").random
        )
        try:
            async with (
                open_engine(
                    settings,
                    "the worker",
                    clock=self.clock,
                    transport=_ToUpstream(self),
                    retries=retries,
                    sleep=_slowly,
                    random=Random(f"refresh {self.plan.seed}"),
                ) as engine,
                InboxView(self._directory) as inbox,
            ):
                self.engine = engine
                self.up["worker"].set()
                await Worker(engine, tick_seconds=self.plan.tick_seconds).work(inbox, self._bell)
        finally:
            self.engine = None

    def new_name(self) -> str:
        """Name a delivery, in the order of time as the receiver does."""
        milliseconds = int(self.epoch() * 1000)
        number = milliseconds << 80 | 0x7 << 76 | self._names.getrandbits(76)
        name = str(UUID(int=number & ~(0x3 << 62) | 0x2 << 62))
        self.ledger.stored_as[name] = LEAVING.get()
        return name

    def _receiver_settings(self) -> ReceiverSettings:
        return ReceiverSettings.model_validate(
            {
                "MIRROR_DATA_DIR": str(self._directory),
                "KOUNTA_COMPANY_ID": str(COMPANY),
                "KOUNTA_SIGNATURE_TOKENS": TOKEN,
            }
        )

    def _worker_settings(self) -> WorkerSettings:
        return WorkerSettings.model_validate(
            {
                "MIRROR_DATA_DIR": str(self._directory),
                "KOUNTA_COMPANY_ID": str(COMPANY),
                "KOUNTA_API_URL": "http://127.0.0.1:1",
                "KOUNTA_CLIENT_ID": "sandbox-client",
                "KOUNTA_CLIENT_SECRET": "sandbox-secret",
                "KOUNTA_REQUESTS_PER_MINUTE": "60",
                "MIRROR_READ_LAG_SECONDS": str(self.plan.read_lag),
                "MIRROR_SWEEP_SECONDS": str(self.plan.sweep_seconds),
            }
        )

    # the network

    async def deliver(self, request: httpx2.Request) -> httpx2.Response:
        """Carry a delivery to the receiver that runs now. Raises what a network would."""
        process, app = self.processes.get("receiver"), self._receiver
        if process is None or app is None or process.dead:
            raise httpx2.ConnectError("Nobody listens.", request=request)
        context = process.context.copy()
        context.run(LEAVING.set, LEAVING.get())
        carrying = process.spawn(AppTransport(app).handle_async_request(request), context)
        try:
            await asyncio.wait([carrying])
        except asyncio.CancelledError:
            carrying.cancel()
            raise
        try:
            process.reach("answers")
        except httpx2.ConnectError as error:
            raise httpx2.RemoteProtocolError("The receiver has gone.", request=request) from error
        if carrying.cancelled():
            raise httpx2.RemoteProtocolError("The receiver has stopped.", request=request)
        response: httpx2.Response = carrying.result()
        self.tell(f"delivery {request.url.path} {response.status_code}")
        if response.status_code == httpx2.codes.OK:
            self.answered.add(response.json()["delivery"])
        return response

    async def call(self, request: httpx2.Request) -> httpx2.Response:
        """Carry a call to upstream. Raises what a network would."""
        acting = ACTING.get()
        if isinstance(acting, Process):
            acting.reach("calls")
        if self.offline:
            raise httpx2.ConnectError("There is no way there.", request=request)
        if self._upstream is None:
            raise httpx2.ConnectError("Upstream has not begun.", request=request)
        asked_at, lost = self.epoch(), self.sandbox.faults.lost_access
        response = await self._upstream.handle_async_request(request)
        if response.is_success:
            self.witness.note(request.url.path, response.content, asked_at, self.epoch())
        # a slow answer comes when access may be back
        if response.status_code == NOT_FOUND and str(NOT_FOUND) in (lost, self.sandbox.faults.lost_access):
            self.judge.note_denied(request.url.path)
        if isinstance(acting, Process):
            acting.reach("is answered")
        self.tell(f"call {request.url.raw_path.decode()} {response.status_code}")
        return response


class ToReceiver(httpx2.AsyncBaseTransport):
    def __init__(self, world: World) -> None:
        self._world = world

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        return await self._world.deliver(request)


class _ToUpstream(httpx2.AsyncBaseTransport):
    def __init__(self, world: World) -> None:
        self._world = world

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        return await self._world.call(request)


async def _slowly(seconds: float) -> None:
    """Look again less often than a person would want: each look costs time, and time is virtual."""
    await asyncio.sleep(8 * seconds)


def words(error: BaseException) -> str:
    """Say in one line what it was."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}".partition("\n")[0]
