"""The work for one company: its loops, side by side. One that dies stops the others aloud."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Final, Protocol

import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_random_exponential

from receiver.database import is_unavailable
from receiver.errors import MirrorError
from sync.acquaintance import Acquaintance
from sync.alerts import Pager
from sync.apply import GAP
from sync.console.metrics import StatusCollector
from sync.console.samples import SAMPLE_SECONDS, sample
from sync.engine import Engine
from sync.gaps import Gaps
from sync.inbox import InboxView
from sync.kounta import IncompleteListError, KountaAccessLost, KountaError, KountaThrottled, for_log
from sync.losses import LOSSES, Owed, owed
from sync.merge.doubts import AHEAD, SWEEP, Reason
from sync.mirror.gaps import note_losses_swept
from sync.mirror.queue import bring_back_times, doubt_every_live, due_doubts, unlisted_unread
from sync.mirror.sweeps import newest_sweep
from sync.reconcile.sweep import BACKFILL, ForeignListError, GaveWayError, Swept
from sync.reconcile.verify import IN_FLIGHT
from sync.retention import forget_old
from sync.status import status_of
from sync.watch import Watch

POLL_SECONDS: Final = 5.0
"""Between two looks into the inbox when no bell rings."""
WALK_SHARE: Final = 9
"""After a walk of an incomplete list, so many times as long passes before the next one."""
TICK_SECONDS: Final = 1.0
"""Between two looks for a verification that has become due, for a sweep, and for budget to store."""
RETENTION_SECONDS: Final = 3600.0
"""Between two removals of old deliveries."""
CHECK_SECONDS: Final = 300.0
"""Between two looks whether the webhooks are still registered."""
LOOK_SECONDS: Final = 600.0
"""Between two looks whether the company is to be asked for, and whether its days are all there."""
FIRST_PAUSE: Final = timedelta(seconds=15)
LONGEST_PAUSE: Final = timedelta(minutes=10)

_log = structlog.get_logger()


class Bell(Protocol):
    """What wakes the worker when a delivery has come."""

    async def wait(self, timeout: float | None) -> bool: ...  # noqa: ASYNC109 - as the doorbell has it


class LoopBrokenError(MirrorError):
    """A fault of this program has ended one of the worker's loops."""

    def __init__(self, loop: str, error: Exception) -> None:
        reason = for_log(getattr(error, "orig", None) or error).partition("\n")[0]
        super().__init__(
            f"A fault of this program has ended the worker, in its loop {loop!r} "
            f"({type(error).__name__}: {reason}). The log says where; deliveries stay in the inbox."
        )


class Worker:
    """Applies, verifies and sweeps with the parts of an Engine."""

    def __init__(
        self,
        engine: Engine,
        *,
        check_seconds: float = CHECK_SECONDS,
        first_pause: timedelta = FIRST_PAUSE,
        tick_seconds: float = TICK_SECONDS,
        applies: bool = True,
    ) -> None:
        """Make it; `applies`: it applies the deliveries, too, which elsewhere workers take turns at."""
        self.engine = engine
        self._pager = Pager(engine.settings.alert_url, engine.settings.heartbeat_url)
        self._watch = Watch(
            engine.settings,
            engine.mirror,
            self._pager,
            answers=lambda: engine.kounta.successes,
            observations=engine.kounta.observations,
            clock=engine.clock,
        )
        self._gaps = Gaps(engine.mirror, engine.clock, self._watch.look, owes=self._owes)
        self._acquaintance = Acquaintance(engine.mirror, engine.kounta, clock=engine.clock)
        self._applies = applies
        self._check_seconds = check_seconds
        self._tick_seconds = tick_seconds
        self._first_pause = first_pause
        self._refusals: Counter[str] = Counter()
        self._failures: dict[str, str] = {}
        """Loop -> what upstream said to it last; status shows the oldest, until that loop gets on."""
        self._incomplete: IncompleteListError | None = None
        self._sweeps_again_at: datetime | None = None
        """When a list is walked unasked after an incomplete one; they take a tenth of the time at most."""
        self._asks: int | None = None
        """`Progress.sweeps_asked` when the sweep began that is under way; None: not in this process."""

    async def once(self) -> None:
        """Apply all that is pending, do what sweep and verification are due, and return.

        Raises KountaError or ForeignListError when upstream kept some of it from being done.
        """
        async with InboxView(self.engine.settings.place) as inbox:
            reader = await inbox.reader()
            if reader is not None:
                await self.engine.applier.apply_pending(reader)
                await self._gaps.look(reader)
        await self.engine.eraser.go_on()
        await self.engine.registrar.check()
        await self._do_once("sweep", self._sweep_if_due)
        while await self._do_once("verify", self._verify_some):
            pass
        await self._gaps.mend()
        await self._acquaintance.look()

    async def _do_once(self, name: str, work: Callable[[], Awaitable[bool]]) -> bool:
        try:
            busy = await work()
        except (KountaError, ForeignListError) as error:
            await self._note_refusal(name, error)
            raise
        if busy:
            await self._note_answer(name)
        return busy

    @property
    def gets_on(self) -> bool:
        """Whether its work makes progress."""
        return self._watch.gets_on

    async def look(self) -> StatusCollector:
        """Look at how the company's mirror is, for the metrics."""
        engine = self.engine
        status = await status_of(engine.settings, engine.clock())
        return StatusCollector(status, engine.kounta.tries_by_outcome, gets_on=self.gets_on)

    async def work(self, inbox: InboxView, bell: Bell) -> None:
        """Run the loops, side by side, until cancelled."""
        async with self._pager, asyncio.TaskGroup() as loops:
            apply = self._apply if self._applies else self._look_for_gaps
            loops.create_task(lasting("apply", lambda: apply(inbox, bell)))
            verify, sweep = self._verify_or_refresh, self._sweep_if_due
            loops.create_task(lasting("verify", lambda: self._each_tick("verify", verify)))
            loops.create_task(lasting("sweep", lambda: self._each_tick("sweep", sweep)))
            loops.create_task(lasting("budget", self._keep_budget))
            loops.create_task(lasting("retention", self._forget))
            loops.create_task(lasting("erasure", self._keep_out))
            loops.create_task(lasting("registration", self._watch_registration))
            loops.create_task(lasting("heartbeat", self._watch.keep_alive))
            loops.create_task(lasting("alerts", self._watch.keep_telling))
            loops.create_task(lasting("samples", lambda: self._sample(inbox)))
            loops.create_task(lasting("company", self._know_company))

    async def _apply(self, inbox: InboxView, bell: Bell) -> None:
        while True:
            reader = await inbox.reader()
            if reader is not None:
                await self.engine.applier.apply_pending(reader)
                await self._gaps.look(reader)
            self._watch.moved("apply")
            await bell.wait(POLL_SECONDS)

    async def _look_for_gaps(self, inbox: InboxView, _bell: Bell) -> None:
        while True:
            reader = await inbox.reader()
            if reader is not None:
                await self._gaps.look(reader)
            self._watch.moved("apply")
            await asyncio.sleep(POLL_SECONDS)

    async def _each_tick(self, name: str, work: Callable[[], Awaitable[bool]]) -> None:
        """Do `work` again at once while it finds something to do; pause while upstream refuses.

        A person who logs in ends the pause: it may have been the credentials that were refused.
        """
        credentials = self.engine.credentials
        while True:
            logins = credentials.logins
            try:
                busy = await work()
            except (KountaError, ForeignListError) as error:
                pause = await self._note_refusal(name, error)
                await credentials.changed(logins, within=pause.total_seconds())
                continue
            self._watch.moved(name)
            if busy:
                await self._note_answer(name)
            else:
                await asyncio.sleep(self._tick_seconds)

    async def _verify_some(self) -> bool:
        """Read the most urgent customers that may be read now; settle deletions once a sweep's are read."""
        engine = self.engine
        async with engine.reconciler.reading:
            due = await due_doubts(engine.mirror, engine.clock(), engine.settings.timing, IN_FLIGHT)
            if not due:
                await bring_back_times(engine.mirror, engine.clock(), engine.settings.timing)
            if due:
                await engine.verifier.verify_all(due)
            if (not due or due[-1].priority > SWEEP) and not await unlisted_unread(engine.mirror):
                await engine.deletions.settle()
        return bool(due)

    async def _verify_or_refresh(self) -> bool:
        if await self._verify_some():
            return True
        await self._gaps.mend()
        async with self.engine.reconciler.reading:
            return await self.engine.refresher.refresh()

    async def _sweep_if_due(self) -> bool:
        engine = self.engine
        if engine.sweeper.is_awaited:
            return False  # what looks interrupted is under way, and may be all that is due
        if await self._settle_losses():
            return True
        reason = await self._reason_to_sweep()
        if reason is None:
            self._incomplete = None
            return False
        asked = engine.mirror.progress.sweep_due
        newest = await newest_sweep(engine.mirror)
        if newest is None or newest.finished_at is not None:
            self._asks = engine.mirror.progress.sweeps_asked
        swept = await self._sweep(reason)
        if swept is None:
            return False
        if asked == GAP:
            await self._doubt_every_live()
        await engine.mirror.refresh()
        asks = engine.mirror.progress.sweeps_asked
        if asked is not None and asks == self._asks:  # else: asked for meanwhile
            await self._gaps.swept()
        await self._settle_losses()
        _log.info(
            f"A sweep met {swept.listed} customers: {swept.created} new ones, {swept.unlisted} not listed.",
            action="sweep_complete",
            reason=reason,
        )
        return True

    async def _sweep(self, reason: str) -> Swept | None:
        """Sweep the list; None: a person's sweep comes first.

        A list that was incomplete is left alone for WALK_SHARE times as long as its walk took, and its
        error is raised again meanwhile.
        """
        engine = self.engine
        if self._incomplete is not None and self._sweeps_again_at is not None:
            if engine.clock() < self._sweeps_again_at:
                raise self._incomplete.with_traceback(None)
            self._incomplete = None
        began_at = engine.clock()
        try:
            return await engine.sweeper.sweep(reason)
        except GaveWayError:
            return None
        except IncompleteListError as error:
            took = engine.clock() - began_at
            pause = min(took * WALK_SHARE, timedelta(seconds=engine.settings.sweep_seconds))
            self._incomplete, self._sweeps_again_at = error, engine.clock() + pause
            raise

    async def _owes(self) -> Owed:
        """Say what is owed because of lost deliveries that name no customer."""
        engine = self.engine
        progress = await engine.mirror.refresh()
        complete = await newest_sweep(engine.mirror, complete=True)
        return owed(progress, complete, engine.clock(), engine.settings.timing)

    async def _settle_losses(self) -> bool:
        """Note that a sweep has looked for what was lost, and ask for a read of every row if that is due."""
        engine = self.engine
        owes = await self._owes()
        progress = engine.mirror.progress
        if progress.lost_at is None or owes.sweep_at is not None:
            return False
        complete = await newest_sweep(engine.mirror, complete=True)
        is_noted = progress.lost_swept_at is not None and progress.lost_swept_at > progress.lost_at
        if complete is not None and progress.sweep_due is None and not is_noted:
            await note_losses_swept(engine.mirror, complete.started_at, engine.clock())
            self._gaps.note_open()
        if owes.refresh_at is None or owes.refresh_at > engine.clock():
            return False
        await self._doubt_every_live()
        return True

    async def _doubt_every_live(self) -> None:
        engine = self.engine
        now = engine.clock()
        await doubt_every_live(engine.mirror, Reason.REFRESH, now, asked=False)
        await engine.mirror.note(lost_refreshed_at=now)

    async def _reason_to_sweep(self) -> str | None:
        engine = self.engine
        await engine.mirror.refresh()
        newest = await newest_sweep(engine.mirror)
        complete = await newest_sweep(engine.mirror, complete=True)
        if complete is None or complete.finished_at is None:
            return BACKFILL
        if newest is not None and newest.finished_at is None:
            return newest.reason
        if engine.mirror.progress.sweep_due is not None:
            return engine.mirror.progress.sweep_due
        owes = await self._owes()
        if owes.sweep_at is not None and owes.sweep_at <= engine.clock():
            return LOSSES
        age = engine.clock() - complete.finished_at
        is_old = age >= timedelta(seconds=engine.settings.sweep_seconds) or age < -AHEAD
        return "schedule" if is_old else None

    async def _keep_budget(self) -> None:
        while True:
            await self.engine.keep_budget()
            await asyncio.sleep(self._tick_seconds)

    async def _forget(self) -> None:
        while True:
            await forget_old(self.engine)
            await asyncio.sleep(RETENTION_SECONDS)

    async def _keep_out(self) -> None:
        """Drop what came of erased people, and complete erasures."""
        while True:
            await self.engine.eraser.go_on()
            await asyncio.sleep(POLL_SECONDS)

    async def _sample(self, inbox: InboxView) -> None:
        while True:
            await sample(self.engine, inbox)
            await asyncio.sleep(SAMPLE_SECONDS)

    async def _know_company(self) -> None:
        while True:
            await self._acquaintance.look()
            await asyncio.sleep(LOOK_SECONDS)

    async def _watch_registration(self) -> None:
        while True:
            await self.engine.registrar.check()
            await asyncio.sleep(self._check_seconds)

    async def _note_refusal(self, name: str, error: KountaError | ForeignListError) -> timedelta:
        """Keep what upstream said for `status`, and say how long to leave it alone."""
        engine = self.engine
        if isinstance(error, KountaAccessLost):
            await engine.deletions.distrust()
        self._failures[name] = str(error)
        since = engine.mirror.progress.upstream_failure_since or engine.clock()
        shown = next(iter(self._failures.values()))
        await engine.mirror.note(upstream_failure=shown, upstream_failure_since=since)
        _log.warning(for_log(error), action="upstream_refused", loop=name)
        if isinstance(error, KountaThrottled) and error.retry_at is not None:
            return min(max(error.retry_at - engine.clock(), timedelta(seconds=1)), LONGEST_PAUSE)
        self._refusals[name] += 1
        return min(self._first_pause * (1 << min(self._refusals[name] - 1, 10)), LONGEST_PAUSE)

    async def _note_answer(self, name: str) -> None:
        """Take the failure of this loop back; another's stays, and is shown until that one gets on."""
        self._refusals[name] = 0
        self._failures.pop(name, None)
        shown = next(iter(self._failures.values()), None)
        progress = self.engine.mirror.progress
        if progress.upstream_failure != shown:
            since = progress.upstream_failure_since if shown else None
            await self.engine.mirror.note(upstream_failure=shown, upstream_failure_since=since)


async def lasting(name: str, work: Callable[[], Awaitable[None]]) -> None:
    """Go on with `work` when the store could not be used for a while: a full disk, a lock.

    Raises LoopBrokenError for what no code expects, and MirrorError as it is: the other loops stop with this
    one, and the process ends, so that nobody takes a worker for whole that does half of its work.
    """

    def tell(state: RetryCallState) -> None:
        error = state.outcome and state.outcome.exception()
        _log.warning(f"The store cannot be used: {error}", action="store_unavailable", loop=name)

    policy = AsyncRetrying(
        retry=retry_if_exception(is_unavailable),
        wait=wait_random_exponential(multiplier=0.5, max=15),
        before_sleep=tell,
    )
    try:
        async for attempt in policy:
            with attempt:
                await work()
    except MirrorError:
        raise
    except Exception as error:
        _log.exception("A loop of the worker broke.", action="loop_broken", loop=name)
        raise LoopBrokenError(name, error) from error
