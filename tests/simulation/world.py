"""The whole system in one process under virtual time: the local Kounta, both processes, their files."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import random
import tempfile
import time
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any
from uuid import UUID

import httpx2
import structlog

from receiver.app import create_app as create_receiver
from receiver.database import is_unavailable, migrate
from receiver.errors import MirrorError
from receiver.inbox import InboxWriter
from receiver.inbox.schema import MIGRATIONS
from receiver.settings import ReceiverSettings
from sync.engine import Engine, open_engine
from sync.inbox import InboxView, inbox_path
from sync.kounta import KountaError, Retries
from sync.mirror.reader import mirror_path
from sync.mirror.store import migrate_mirror
from sync.reconcile.report import Report, Request
from sync.reconcile.sweep import ForeignListError
from sync.replay import replay
from sync.sandbox import AppTransport, Courier, Faults, Sandbox, Settings, create_app, running
from sync.settings import WorkerSettings
from sync.worker import Worker
from tests.simulation.disk import ACTING, inline_sqlite
from tests.simulation.judge import Broken, Judge, only_listed
from tests.simulation.ledger import LEAVING, Ledger
from tests.simulation.loop import VirtualLoop
from tests.simulation.plan import PROCESSES, Plan, Trouble, plan
from tests.simulation.process import Disk, Process

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from starlette.applications import Starlette

COMPANY = 5678
TOKEN = "sandbox-signature-token"
START = datetime(2026, 11, 24, tzinfo=UTC).timestamp()
LOOK_SECONDS = 10.0
"""Between two looks at the files while everything goes on."""
REST_SECONDS = 15.0
"""Before the end, once the budget is open."""
PAGE = 25


@dataclass(slots=True)
class Outcome:
    """What one seed came to; `broken` is the sentence of what did not hold, "" if all did."""

    seed: int
    broken: str = ""
    digest: str = ""
    customers: int = 0
    changes: int = 0
    deliveries: int = 0
    calls: int = 0
    kills: int = 0
    disk_failures: int = 0
    wrong_before: int = 0
    wrong_after: int = 0
    virtual_seconds: float = 0.0
    seconds: float = 0.0
    trace: list[str] = field(default_factory=list)


def simulate(seed: int, *, keep_trace: bool = False) -> Outcome:
    """Run one seed from its beginning to its end."""
    began = time.process_time()
    random.seed(seed)  # what tenacity draws its pauses from
    outcome = Outcome(seed)
    with tempfile.TemporaryDirectory(prefix="simulation-", dir=_quick_directory()) as name, _quiet():
        world = World(plan(seed), Path(name), outcome, keep_trace=keep_trace)
        if not world.plan.from_nothing:
            for file, schema in _schemas().items():
                (Path(name) / file).write_bytes(schema)
        with inline_sqlite(), asyncio.Runner(loop_factory=VirtualLoop) as runner:
            try:
                runner.run(world.play())
            except Broken as broken:
                outcome.broken = str(broken)
        outcome.digest = world.digest()
    outcome.seconds = time.process_time() - began
    return outcome


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
        await asyncio.sleep(self._chance.choice((0.0, 0.5, 2.0)))  # the worker is busy elsewhere
        self._rung.clear()
        return True


class World:
    """One seed: everything that is, and the run through its plan."""

    def __init__(self, given: Plan, directory: Path, outcome: Outcome, *, keep_trace: bool) -> None:
        self.plan = given
        self.outcome = outcome
        self._directory = directory
        self._trace = hashlib.sha256()
        self._keep_trace = keep_trace
        self._chance = Random(f"world {given.seed}")
        self._names = Random(f"names {given.seed}")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._disks = {name: Disk(Random(f"{name} {given.seed}")) for name in PROCESSES}
        self._deaths = {name: list(steps) for name, steps in given.deaths.items()}
        self._processes: dict[str, Process] = {}
        self._receiver: Starlette | None = None
        self._engine: Engine | None = None
        self._up = {name: asyncio.Event() for name in PROCESSES}
        self._bell = Bell(Random(f"bell {given.seed}"))
        self._answered: set[str] = set()
        self._offline = False
        self._ending = False
        self._complaints: list[str] = []
        self._upstream: AppTransport
        self._faults: list[dict[str, Any]] = []
        self._sandbox = Sandbox(
            Settings(edits_per_second=given.edits_per_second, **given.settings),
            Faults(**given.faults),
            seed=given.seed,
            customers=given.customers,
            clock=self.epoch,
        )
        self._ledger = Ledger(self._sandbox.faults, Random(f"outbox {given.seed}"))
        self._sandbox.company.outbox = self._ledger
        self._sandbox.deliver_to("http://receiver")
        self._judge = Judge(directory, self._sandbox, self._ledger, ordered=given.ordered)

    def epoch(self) -> float:
        """Give the time, in epoch seconds."""
        return START + (self._loop.time() if self._loop is not None else 0.0)

    def clock(self) -> datetime:
        """Give the same in UTC and whole milliseconds."""
        return datetime.fromtimestamp(round(self.epoch(), 3), UTC)

    def tell(self, what: str) -> None:
        """Add a line to the trace."""
        now = self._loop.time() if self._loop is not None else 0.0
        line = f"{now:.6f} {what}"
        self._trace.update(line.encode())
        self._trace.update(b"\n")
        if self._keep_trace:
            self.outcome.trace.append(line)

    def digest(self) -> str:
        """Boil the trace down."""
        return self._trace.hexdigest()[:16]

    async def play(self) -> None:
        """Run through the plan, and judge. Raises Broken."""
        self._loop = asyncio.get_running_loop()
        deliveries = httpx2.AsyncClient(transport=_ToReceiver(self))
        try:
            async with AsyncExitStack() as stack:
                await stack.enter_async_context(deliveries)
                courier = await stack.enter_async_context(running(self._sandbox, deliveries))
                self._upstream = AppTransport(create_app(self._sandbox, courier))
                async with asyncio.TaskGroup() as tasks:
                    supervisors = [tasks.create_task(self._supervise(name)) for name in PROCESSES]
                    await self._suffer(tasks)
                    await self._end(courier)
                    for one in supervisors:
                        one.cancel()
        except BaseExceptionGroup as group:
            raise _first(group) from group
        self._judge.check_conservation(self._answered)
        self._judge.check_figures()
        self.tell(f"stored {self._judge.digest()}")
        self._sum_up()

    # the two processes

    async def _supervise(self, name: str) -> None:
        """Start a process again whenever it ends."""
        main = {"receiver": self._be_receiver, "worker": self._be_worker}[name]
        while True:
            deaths = self._deaths[name]
            dies_at = deaths.pop(0) if deaths and not self._ending else None
            process = self._processes[name] = Process(name, self._disks[name], self.tell, dies_at)
            failures = self._disks[name].failures
            self.tell(f"{name} starts")
            try:
                await process.run(main)
            except Exception as error:
                starting = not self._up[name].is_set()
                failed = self._disks[name].failures > failures
                if not (starting and failed and (isinstance(error, MirrorError) or is_unavailable(error))):
                    raise Broken(f"the {name} died: {_words(error)}") from error
            finally:
                self._up[name].clear()
                self.outcome.kills += process.dead
            await asyncio.sleep(self._chance.choice((0.1, 1.0, 5.0, 20.0)))

    async def _be_receiver(self) -> None:
        app = create_receiver(self._receiver_settings(), self._open_inbox)
        try:
            async with app.router.lifespan_context(app):
                self._receiver = app
                self._up["receiver"].set()
                await asyncio.Event().wait()
        finally:
            self._receiver = None

    @asynccontextmanager
    async def _open_inbox(self, settings: ReceiverSettings) -> AsyncIterator[InboxWriter]:
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
                self._engine = engine
                self._up["worker"].set()
                await Worker(engine, tick_seconds=self.plan.tick_seconds).work(inbox, self._bell)
        finally:
            self._engine = None

    def new_name(self) -> str:
        """Name a delivery, in the order of time as the receiver does."""
        milliseconds = int(self.epoch() * 1000)
        number = milliseconds << 80 | 0x7 << 76 | self._names.getrandbits(76)
        name = str(UUID(int=number & ~(0x3 << 62) | 0x2 << 62))
        self._ledger.stored_as[name] = LEAVING.get()
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
        process, app = self._processes.get("receiver"), self._receiver
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
            self._answered.add(response.json()["delivery"])
        return response

    async def call(self, request: httpx2.Request) -> httpx2.Response:
        """Carry a call to upstream. Raises what a network would."""
        acting = ACTING.get()
        if isinstance(acting, Process):
            acting.reach("calls")
        if self._offline:
            raise httpx2.ConnectError("There is no way there.", request=request)
        response = await self._upstream.handle_async_request(request)
        if isinstance(acting, Process):
            acting.reach("is answered")
        self.tell(f"call {request.url.raw_path.decode()} {response.status_code}")
        return response

    # what goes wrong

    async def _suffer(self, tasks: asyncio.TaskGroup) -> None:
        befalling = [tasks.create_task(self._befall(trouble)) for trouble in self.plan.troubles]
        looks = int(self.plan.seconds / LOOK_SECONDS)
        for _ in range(looks):
            await asyncio.sleep(LOOK_SECONDS)
            self._look()
        await asyncio.sleep(self.plan.seconds - looks * LOOK_SECONDS)
        for one in befalling:
            one.cancel()

    async def _befall(self, trouble: Trouble) -> None:
        await asyncio.sleep(trouble.at)
        self.tell(f"{trouble.what} {trouble.values} for {trouble.seconds:.1f} s")
        begin: Callable[[Trouble], Any] = getattr(self, f"_begin_{trouble.what}")
        end = begin(trouble)
        if trouble.seconds:
            await asyncio.sleep(trouble.seconds)
            end()
            self.tell(f"{trouble.what} ends")

    def _begin_faults(self, trouble: Trouble) -> Callable[[], None]:
        self._faults.append(trouble.values)
        self._set_faults()

        def end() -> None:
            if trouble.values in self._faults:
                self._faults.remove(trouble.values)
                self._set_faults()

        return end

    def _set_faults(self) -> None:
        skew = {"clock_skew_seconds": self._sandbox.faults.clock_skew_seconds}
        values = {**self.plan.faults, "lost_access": "no", "next_page": "right", **skew}
        for active in self._faults:
            values |= active
        self._sandbox.change(self._sandbox.faults, values)

    def _begin_skew(self, trouble: Trouble) -> None:
        self._sandbox.change(self._sandbox.faults, trouble.values)

    def _begin_disk(self, trouble: Trouble) -> Callable[[], None]:
        disk = self._disks[trouble.values["process"]]
        disk.share = trouble.values["share"]

        def end() -> None:
            disk.share = 0.0

        return end

    def _begin_offline(self, _trouble: Trouble) -> Callable[[], None]:
        self._offline = True

        def end() -> None:
            self._offline = False

        return end

    def _begin_kill(self, trouble: Trouble) -> None:
        self._processes[trouble.values["process"]].kill()

    def _begin_stop(self, trouble: Trouble) -> None:
        self._processes[trouble.values["process"]].stop()

    def _begin_burst(self, trouble: Trouble) -> None:
        for _ in range(trouble.values["edits"]):
            self._sandbox.editor.edit()
        self._sandbox.wake()

    def _begin_reconcile(self, trouble: Trouble) -> None:
        request = Request(deep=trouble.values["deep"])
        self._ask_worker(lambda engine: engine.reconciler.reconcile(request))

    def _begin_replay(self, _trouble: Trouble) -> None:
        with_verdict = self._chance.choice(("applied", "stale", "unchanged", "tombstoned"))
        self._ask_worker(lambda engine: replay(engine, [], with_verdict))

    def _ask_worker(self, work: Callable[[Engine], Any]) -> None:
        engine = self._engine
        if engine is None:
            return

        async def ask() -> None:
            try:
                answer = await work(engine)
            except (KountaError, ForeignListError) as error:
                answer = error
            except Exception as error:  # noqa: BLE001 - it is judged at the next look
                if not is_unavailable(error):
                    self._complaints.append(f"a request failed: {_words(error)}")
                answer = error
            self.tell(f"a request is answered: {answer}"[:120])

        self._processes["worker"].spawn(ask())

    # the end

    async def _end(self, courier: Courier) -> None:
        """Let upstream stop changing and answer, reconcile, and compare."""
        self._ending = True
        self._sandbox.pause()
        for disk in self._disks.values():
            disk.share = 0.0
        self._offline = False
        skew = self._sandbox.faults.clock_skew_seconds
        stamps = self._sandbox.faults.stamps
        quiet = {**Faults().__dict__, "clock_skew_seconds": skew, "stamps": stamps}
        self._sandbox.change(self._sandbox.faults, quiet)
        for process in self._processes.values():
            process.spare()
        await self._up["receiver"].wait()
        await courier.settle()
        self.tell("upstream is at rest")
        self._look()
        await self._until_applied()
        self.outcome.wrong_before = self._look()
        await asyncio.sleep(self._seconds_closed() + REST_SECONDS)
        await self._up["worker"].wait()
        doubtful = self._judge.doubts() + len(only_listed(self._judge.wrong()))
        await self._reconcile(Request(), most=doubtful)
        wrong = only_listed(self._judge.wrong())
        if wrong:
            raise Broken(f"after a reconciliation {_some(wrong)}")
        await self._reconcile(Request(deep=True), most=self._judge.known())
        wrong = self._judge.wrong()
        self.outcome.wrong_after = len(wrong)
        if wrong:
            raise Broken(f"after a deep reconciliation {_some(wrong)}")

    def _seconds_closed(self) -> float:
        """Say for how long upstream wants no more calls."""
        until = self._engine.kounta.budget.state.closed_until if self._engine is not None else None
        return 0.0 if until is None else max(0.0, (until - self.clock()).total_seconds())

    async def _until_applied(self) -> None:
        for _ in range(300):
            if self._up["worker"].is_set() and not self._judge.pending():
                return
            await asyncio.sleep(1)
        raise Broken(f"{self._judge.pending()} deliveries are not applied after 5 minutes of rest")

    async def _reconcile(self, request: Request, most: int) -> None:
        """Reconcile as a person would, who lets held deletions go. `most`: how many reads it may cost."""
        engine = self._engine
        if engine is None:
            raise Broken("there is no worker after a long rest")
        before = self._calls()
        report = await self._asked(engine, request)
        calls = self._calls() - before
        self.tell(f"reconciled: {report}")
        pages = max(1, -(-len(self._sandbox.company.customers) // PAGE))
        if not report.calls <= min(calls, pages + most + 1):  # the worker may just have made some, too
            raise Broken(f"{report.calls} calls are reported, {calls} came, {pages} + {most} + 1 may be")
        if report.held_deletes:
            report = await self._asked(engine, Request(allow_deletes=report.held_deletes))
        if not report.whole:
            raise Broken(f"the reconciliation left something undone: {report}")

    async def _asked(self, engine: Engine, request: Request) -> Report:
        asking = self._processes["worker"].spawn(engine.reconciler.reconcile(request))
        try:
            report: Report = await asking
        except (KountaError, ForeignListError) as error:
            raise Broken(f"a reconciliation at rest failed: {error}") from error
        return report

    def _calls(self) -> int:
        kinds = self._sandbox.calls.answered_by_kind
        return kinds["list"] + kinds["get"]

    def _look(self) -> int:
        if self._complaints:
            raise Broken(self._complaints[0])
        wrong = self._judge.look()
        self.tell(f"{wrong} rows are wrong: {self._judge.excused}")
        return wrong

    def _sum_up(self) -> None:
        report = self._sandbox.report()
        self.outcome.customers = report["customers"]
        self.outcome.changes = sum(len(changes) for changes in self._ledger.changes.values())
        self.outcome.deliveries = len(self._answered)
        self.outcome.calls = report["calls"]["total"]
        self.outcome.disk_failures = sum(disk.failures for disk in self._disks.values())
        self.outcome.virtual_seconds = self._loop.time() if self._loop is not None else 0.0


class _ToReceiver(httpx2.AsyncBaseTransport):
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


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the logs to themselves, and the collector of garbage from ending things at times of its own."""
    former, collecting = structlog.get_config(), gc.isenabled()
    structlog.configure(processors=[_drop])
    gc.disable()
    try:
        yield
    finally:
        structlog.configure(**former)
        if collecting:
            gc.enable()


def _drop(_logger: Any, _name: str, _line: Any) -> Any:
    raise structlog.DropEvent


@cache
def _schemas() -> dict[str, bytes]:
    """Make both files as they are before the first row: that takes as long as everything else in a seed."""
    with tempfile.TemporaryDirectory(dir=_quick_directory()) as name:
        directory = Path(name)
        migrate_mirror(directory)
        migrate(inbox_path(directory), MIGRATIONS)
        return {path.name: path.read_bytes() for path in (mirror_path(directory), inbox_path(directory))}


def _quick_directory() -> str | None:
    """Choose a directory in memory, where there is one: each commit waits for the disk."""
    memory = Path("/dev/shm")  # noqa: S108 - a fresh directory of our own is made in it
    return str(memory) if memory.is_dir() else None


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Give the one that says what did not hold, if there is one."""
    broken, _ = group.split(Broken)
    while isinstance(broken, BaseExceptionGroup):
        inner = broken.exceptions[0]
        if not isinstance(inner, BaseExceptionGroup):
            return inner
        broken = inner
    return group


def _words(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"


def _some(wrong: dict[int, str]) -> str:
    customer_id, what = next(iter(wrong.items()))
    return f"{len(wrong)} rows are wrong: customer {customer_id}: {what}"
