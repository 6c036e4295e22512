"""The worker as a process: one store, one socket, one console, and each company's work beside the others'.

On SQLite it owns the file and does everything. On PostgreSQL any number of processes apply the deliveries of
every company, taking turns; what is asked of upstream for a company is done by the holder of its lease alone.
One company's trouble ends nobody else's work: it is told, and tried again.
"""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from time import monotonic
from typing import Final

import structlog
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    retry_never,
    wait_random_exponential,
)

from receiver.database import Server, inbox_of, is_unavailable, mirror_of
from receiver.errors import MirrorError
from receiver.following import Companies
from receiver.inbox import InboxReader
from receiver.integrity import FIRST_SECONDS, FileCheck
from receiver.local import serve_locally
from receiver.ownership import OwnedElsewhere, Ownership
from sync.apply import Applier
from sync.bells import Bells
from sync.console.app import create_console
from sync.console.desks import Desks, store_failed
from sync.console.metrics import exposition
from sync.console.pages.office import Office
from sync.console.pages.routes import page_routes
from sync.console.serving import serving
from sync.engine import open_engine, utc_now
from sync.inbox import InboxView
from sync.kounta import KountaError, for_log
from sync.merge.snapshots import Lens
from sync.mirror.lease import lease_over
from sync.mirror.store import OWNER, BusyElsewhere, LeaseLostError, Mirror, MirrorStore
from sync.reconcile.sweep import ForeignListError
from sync.settings import SHORTEST_PASSWORD, ProcessSettings, WorkerSettings, is_short
from sync.worker import POLL_SECONDS, TICK_SECONDS, Worker, lasting

PURPOSE: Final = "kounta-mirror worker"
FIRST_PAUSE: Final = timedelta(seconds=5)
LONGEST_PAUSE: Final = timedelta(minutes=5)
LONGEST_OUTAGE_PAUSE: Final = timedelta(seconds=5)
"""While PostgreSQL is away; the pauses of a company that fails by itself grow further."""
WELL_AFTER: Final = timedelta(minutes=5)
"""Work that lasted so long was well: what ends it then is a new trouble, after which the pause is short."""
APPLYING_AT_ONCE: Final = 3
"""Companies of which one process applies at once: fewer than its connections; the others keep leases."""
FIRST_BUSY_SECONDS: Final = 0.02
LONGEST_BUSY_SECONDS: Final = 0.5
"""Between two tries to apply of a company of which somebody else writes just now."""
AWAY_SECONDS: Final = 12.0
"""When nothing came round for so long, PostgreSQL is away: a company is looked at every POLL_SECONDS."""
HAND_OVER_SECONDS: Final = 8.0
"""For how long a command is waited for before the lease goes to who wants it; it is not renewed meanwhile."""
COMPANIES_A_TICK: Final = 20
"""With more companies, each looks less often for what is due: the looks of many cost more than work."""
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)

_log = structlog.get_logger()


class Process:
    """Works for every company of the configuration, as long as it runs."""

    def __init__(self, companies: Companies[ProcessSettings]) -> None:
        self._companies = companies
        self._workers: dict[int, Worker] = {}
        """Of the companies whose lease this process holds."""
        self._desks = Desks(companies, PURPOSE)
        self._failed: set[int] = set()
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._checks: list[FileCheck] = []
        """Of the files of both stores; on PostgreSQL none."""
        self._broken: asyncio.Future[None] | None = None
        self._came_round_at: float | None = None
        """When it has looked last for what to apply, by `monotonic`; None: what its leases do says enough."""
        self._applying = asyncio.Semaphore(APPLYING_AT_ONCE)
        """In turn, a batch each: a company with many deliveries keeps nobody waiting for longer than one."""

    async def run(self) -> None:
        """Work until SIGTERM or SIGINT. What is under way is committed whole or not at all.

        From then on the process ignores both: another one must not break off the clearing up. Raises
        OwnedElsewhere and whatever else keeps the store from being opened; of a company alone, what ends its
        work.
        """
        loop = asyncio.get_running_loop()
        working = asyncio.ensure_future(self._work())

        def stop() -> None:
            for number in _SIGNALS:
                loop.remove_signal_handler(number)
                signal.signal(number, signal.SIG_IGN)
            working.cancel()

        for number in _SIGNALS:
            loop.add_signal_handler(number, stop)
        try:
            await working
        except asyncio.CancelledError:
            _log.info("The worker stops.", action="worker_stopping")
        finally:
            for number in _SIGNALS:
                loop.remove_signal_handler(number)

    async def _work(self) -> None:
        settings = self._companies.first
        self._broken = asyncio.get_running_loop().create_future()
        async with (
            _opened(settings) as store,
            self._checking(store),
            self._showing(settings, store),
            Bells(settings.place, settings.listen_url) as bells,
            self._answering(settings, store),
            InboxView(settings.place) as inbox,
        ):
            for one in self._companies.settings.values():
                await Mirror.of(store, one.company_id, one.subscription)  # whoever looks finds its rows
            _log.info("The worker works.", action="worker_started", data_dir=str(settings.data_dir))
            try:
                for one in self._companies.settings.values():
                    self._start(one, store, inbox, bells)
                following = asyncio.ensure_future(self._follow(store, inbox, bells))
                self._tasks[0] = following
                following.add_done_callback(self._ended)
                await self._broken
            finally:
                await asyncio.gather(*map(self._stop, list(self._tasks)))

    @asynccontextmanager
    async def _checking(self, store: MirrorStore) -> AsyncIterator[None]:
        """Check the files of both stores again and again; the first time before anything is served."""
        files = [(mirror_of(store.place), True), (inbox_of(store.place), False)]
        self._checks = [FileCheck(file, owns=owns) for file, owns in files if isinstance(file, Path)]
        store.check = next(iter(self._checks), None)
        with suppress(TimeoutError):
            async with asyncio.timeout(FIRST_SECONDS):
                await asyncio.gather(*(check.check() for check in self._checks))
        tasks = [asyncio.ensure_future(check.run()) for check in self._checks]
        for task in tasks:
            task.add_done_callback(self._ended)
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    @asynccontextmanager
    async def _showing(self, settings: ProcessSettings, store: MirrorStore) -> AsyncIterator[None]:
        """Serve the console; its pages have a view of the inbox of their own."""
        async with InboxView(settings.place) as inbox:
            office = Office(self._companies, self._desks, store, inbox, utc_now)
            host = settings.console_host
            if settings.console_password is not None and is_short(settings.console_password):
                sentence = f"MIRROR_CONSOLE_PASSWORD is short: it should have {SHORTEST_PASSWORD} characters."
                _log.warning(sentence, action="console_password_short")
            console = create_console(
                self._scrape,
                self._gets_on,
                settings.console_password,
                host=host,
                pages=page_routes(office),
            )
            async with serving(console, host, settings.console_port, self._ended), office.open():
                yield

    @asynccontextmanager
    async def _answering(self, settings: WorkerSettings, store: MirrorStore) -> AsyncIterator[None]:
        """Answer the commands of this machine; of several processes on PostgreSQL the first one does."""
        async with AsyncExitStack() as stack:
            if not store.is_shared or _owns(settings, stack):
                await stack.enter_async_context(serve_locally(self._desks, settings.data_dir, OWNER))
            yield

    async def _follow(self, store: MirrorStore, inbox: InboxView, bells: Bells) -> None:
        """Take up what changes in mirror.toml; the others' work goes on."""
        async for change in self._companies.changes():
            await asyncio.gather(*map(self._stop, (*change.gone, *change.changed)))
            for company_id in (*change.added, *change.changed):
                self._start(change.settings[company_id], store, inbox, bells)

    def _start(self, settings: WorkerSettings, store: MirrorStore, inbox: InboxView, bells: Bells) -> None:
        task = asyncio.ensure_future(self._work_for(settings, store, inbox, bells))
        self._tasks[settings.company_id] = task
        task.add_done_callback(self._ended)

    async def _stop(self, company_id: int) -> None:
        """End the work for a company; whoever waits for a reconciliation is told while the socket answers."""
        worker = self._workers.get(company_id)
        if worker is not None:
            worker.engine.reconciler.stop()
        task = self._tasks.pop(company_id, None)
        if task is not None:
            task.remove_done_callback(self._ended)
            task.cancel()
            await asyncio.wait([task])
        self._failed.discard(company_id)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        """End the process with what ended one of its tasks: none of them ends by itself."""
        if self._broken is not None and not self._broken.done() and not task.cancelled():
            error = task.exception()
            if error is not None:
                self._broken.set_exception(error)

    async def _work_for(
        self, settings: WorkerSettings, store: MirrorStore, inbox: InboxView, bells: Bells
    ) -> None:
        """Work for one company; beside others, begin anew after whatever ended it."""
        clock = asyncio.get_running_loop()
        pause = FIRST_PAUSE
        while True:
            began_at = clock.time()
            try:
                await self._work_once_for(settings, store, inbox, bells)
            except LeaseLostError as error:
                _log.warning(str(error), action="lease_lost", company_id=settings.company_id)
                continue
            except Exception as error:
                longest = LONGEST_PAUSE
                if store_failed(error) and store.is_shared:
                    longest = LONGEST_OUTAGE_PAUSE
                elif len(self._companies.settings) == 1:
                    raise
                if clock.time() - began_at > WELL_AFTER.total_seconds():
                    pause = FIRST_PAUSE
                self._failed.add(settings.company_id)
                _tell_failure(settings.company_id, error)
                await asyncio.sleep(min(pause, longest).total_seconds())
                pause = min(2 * pause, longest)

    async def _work_once_for(
        self, settings: WorkerSettings, store: MirrorStore, inbox: InboxView, bells: Bells
    ) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                if store.is_shared:
                    group.create_task(self._apply_turn_by_turn(settings, store, inbox, bells))
                group.create_task(self._hold(settings, store, inbox, bells))
        except ExceptionGroup as errors:
            raise _first(errors) from None

    async def _apply_turn_by_turn(
        self, settings: WorkerSettings, store: MirrorStore, inbox: InboxView, bells: Bells
    ) -> None:
        """Apply what comes for a company, beside other processes that do."""
        bell = bells.of(settings.company_id)

        async def apply() -> None:
            applier = await _applier_of(settings, store)
            while True:
                reader = await inbox.reader()
                if reader is None or not await self._apply_some(applier, reader):
                    await bell.wait(POLL_SECONDS)

        await lasting("apply", apply)

    async def _apply_some(self, applier: Applier, reader: InboxReader) -> int:
        """Apply a batch once nobody else writes of the company: who does may be no applier at all."""
        pause = FIRST_BUSY_SECONDS
        count: int | None = None
        while count is None:
            async with self._applying:
                with suppress(BusyElsewhere):
                    count = await applier.apply_next(reader, wait=False)
            self._came_round_at = monotonic()
            if count is None:
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_BUSY_SECONDS)
        return count

    async def _hold(
        self, settings: WorkerSettings, store: MirrorStore, inbox: InboxView, bells: Bells
    ) -> None:
        """Wait for the company's lease, and do what only its holder does; again once it was wanted."""
        company_id = settings.company_id
        tick = TICK_SECONDS * max(1, len(self._companies.settings) / COMPANIES_A_TICK)
        while True:
            async with open_engine(settings, PURPOSE, store=store) as engine:
                worker = Worker(engine, applies=not store.is_shared, tick_seconds=tick)
                self._workers[company_id] = worker
                desk = self._desks.open(engine)
                self._failed.discard(company_id)
                working = asyncio.ensure_future(worker.work(inbox, bells.of(company_id)))
                over = asyncio.ensure_future(lease_over(engine.mirror))
                try:
                    await asyncio.wait([working, over], return_when=asyncio.FIRST_COMPLETED)
                finally:
                    del self._workers[company_id]
                    self._desks.close(company_id)
                    engine.reconciler.stop()
                    for task in (working, over):
                        task.cancel()
                    await asyncio.wait([working, over])
                if not working.cancelled():
                    await working
                await desk.emptied(HAND_OVER_SECONDS)

    def _gets_on(self) -> bool:
        away = self._came_round_at is not None and monotonic() - self._came_round_at > AWAY_SECONDS
        damaged = any(check.damage is not None for check in self._checks)
        if away or damaged or self._failed:
            return False
        return all(worker.gets_on for worker in self._workers.values())

    async def _scrape(self) -> bytes:
        looks = [await worker.look() for worker in list(self._workers.values())]
        return exposition(looks, sorted(self._failed - self._workers.keys()))


async def once_for(companies: Iterable[WorkerSettings]) -> None:
    """Do for each company what is pending and due, and return.

    Raises what kept some of it from being done, after the others' is done; of several the sentences together.
    """
    failed: dict[int, Exception] = {}
    for settings in companies:
        try:
            async with open_engine(settings, PURPOSE) as engine:
                await Worker(engine).once()
        except (MirrorError, KountaError, ForeignListError) as error:
            failed[settings.company_id] = error
    if len(failed) == 1:
        raise next(iter(failed.values()))
    if failed:
        raise MirrorError(" ".join(f"Company {company_id}: {error}" for company_id, error in failed.items()))


def _owns(settings: WorkerSettings, stack: AsyncExitStack) -> bool:
    """Say whether this process is the one of its data directory, until the stack is closed."""
    try:
        stack.callback(Ownership.take(settings.data_dir, OWNER, PURPOSE).close)
    except OwnedElsewhere as error:
        _log.info(f"Another process answers commands here: {error}", action="commands_elsewhere")
        return False
    return True


@asynccontextmanager
async def _opened(settings: WorkerSettings) -> AsyncIterator[MirrorStore]:
    """Open the store; a server that is away is waited for, as the receiver does."""
    policy = AsyncRetrying(
        retry=retry_if_exception(is_unavailable) if isinstance(settings.place, Server) else retry_never,
        wait=wait_random_exponential(multiplier=0.5, max=LONGEST_OUTAGE_PAUSE.total_seconds()),
        before_sleep=_tell_of_waiting,
    )
    store: MirrorStore = await policy(asyncio.to_thread, MirrorStore.open, settings.place, PURPOSE)
    try:
        yield store
    finally:
        await store.close()


def _tell_of_waiting(state: RetryCallState) -> None:
    error = state.outcome and state.outcome.exception()
    _log.warning(f"The database cannot be used yet, and is waited for: {error}", action="store_unavailable")


async def _applier_of(settings: WorkerSettings, store: MirrorStore) -> Applier:
    """Give what applies under no lease."""
    mirror = await Mirror.of(store, settings.company_id, settings.subscription, marker=settings.marker)
    timing = settings.timing
    lens = Lens(settings.company_id, settings.subscription, timing.window)
    return Applier(mirror, lens, timing, utc_now)


def _tell_failure(company_id: int, error: Exception) -> None:
    sentence = f"The work for company {company_id} has ended; it begins anew: {for_log(error)}"
    told = _log.warning if store_failed(error) else _log.exception
    told(sentence, action="company_failed", company_id=company_id)


def _first(errors: ExceptionGroup[Exception]) -> Exception:
    """Give the error that ended the others; the gravest where several did."""
    found = [_first(error) if isinstance(error, ExceptionGroup) else error for error in errors.exceptions]
    return min(found, key=lambda error: isinstance(error, LeaseLostError))
