"""Everything behind the log, put together for the process that owns the mirror: the worker, or a command."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from random import Random

import httpx2
import structlog

from receiver import clock
from receiver.database import is_unavailable
from sync.apply import Applier
from sync.budget import keep_budget, kept_budget
from sync.concerns import to_read
from sync.credentials import Credentials, credentials
from sync.erasure import Eraser
from sync.kounta import Auth, Kounta, Retries
from sync.login import Login
from sync.merge.snapshots import Lens
from sync.mirror.lease import held
from sync.mirror.queue import await_nobody
from sync.mirror.resubscription import Resubscription, resubscribe
from sync.mirror.store import LeaseLostError, Mirror, MirrorStore
from sync.observations import keep_observations, recall_observations
from sync.reconcile.deletions import Deletions
from sync.reconcile.reconciler import Reconciler
from sync.reconcile.refresh import Refresher
from sync.reconcile.sweep import Sweeper
from sync.reconcile.verify import Verifier
from sync.registration.registrar import Registrar
from sync.settings import WorkerSettings
from sync.writes import Writer

_log = structlog.get_logger()


def utc_now() -> datetime:
    """Give the time now, in UTC and whole milliseconds: what is compared must survive being stored."""
    now = clock.utc_now()
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


@dataclass(frozen=True, slots=True)
class Engine:
    """The parts of one company's mirror, ready to work. Only who holds the company's lease has one."""

    settings: WorkerSettings
    clock: Callable[[], datetime]
    mirror: Mirror
    kounta: Kounta
    applier: Applier
    sweeper: Sweeper
    verifier: Verifier
    deletions: Deletions
    refresher: Refresher
    reconciler: Reconciler
    registrar: Registrar
    writer: Writer
    credentials: Credentials
    login: Login
    eraser: Eraser

    async def keep_budget(self) -> None:
        """Store how much of the call budget is used, so that a restart does not begin it anew."""
        await keep_budget(self.mirror, self.kounta.budget)


@asynccontextmanager
async def open_engine(
    settings: WorkerSettings,
    purpose: str,
    *,
    store: MirrorStore | None = None,
    clock: Callable[[], datetime] = utc_now,
    transport: httpx2.AsyncBaseTransport | None = None,
    retries: Retries | None = None,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    random: Random | None = None,
) -> AsyncIterator[Engine]:
    """Hold the company's lease and make the parts; `purpose` is what another would-be owner is told.

    In the open `store` of a worker it waits for the lease. Without a store it opens one and asks whoever
    holds the lease to let it go, for one thing that a person wants done.
    `clock`, `transport`, `retries`, `sleep` and `random` are for those who keep time, carry calls or draw
    lots themselves.

    Raises OwnedElsewhere and whatever else keeps the mirror from being opened, each one sentence.
    """
    async with AsyncExitStack() as stack:
        if store is None:
            mirror = await Mirror.open(
                settings.place,
                settings.company_id,
                settings.subscription,
                purpose,
                marker=settings.marker,
            )
        else:
            mirror = await Mirror.of(
                store, settings.company_id, settings.subscription, marker=settings.marker
            )
        stack.push_async_callback(mirror.close)
        await stack.enter_async_context(held(mirror, insist=store is None))
        await mirror.refresh()
        async with (
            credentials(settings, mirror, clock, transport) as auth,
            Kounta(
                settings.company_id,
                auth=auth,
                api_url=settings.api_url,
                budget=kept_budget(mirror, _rate(settings, auth), clock),
                read_only=settings.read_only,
                retries=retries or Retries(read_lag=settings.read_lag_seconds),
                transport=transport,
                clock=clock,
            ) as kounta,
        ):
            login = Login(
                settings, kounta.budget, auth.adopt, clock=clock, transport=transport, retries=kounta.retries
            )
            engine = _assemble(settings, mirror, kounta, auth, login, clock, sleep, random or Random())  # noqa: S311 - a sample, no secret
            await recall_observations(mirror, kounta.observations)
            await engine.eraser.take_over()
            await await_nobody(mirror)  # whoever waited for a process that was killed has gone
            changed = await resubscribe(mirror, clock())
            if changed is not None:
                _log.info(_told(changed, _rate(settings, auth)), action="attributes_changed")
            try:
                yield engine
            finally:
                await _keep_budget_if_it_can_be(engine)


async def _keep_budget_if_it_can_be(engine: Engine) -> None:
    """Store it before the end; a full disk must not turn a stop into a failure for a second of budget."""
    try:
        await engine.keep_budget()
        await keep_observations(engine.mirror, engine.kounta.observations)
    except Exception as error:
        if not (is_unavailable(error) or isinstance(error, LeaseLostError)):
            raise
        _log.warning(f"The call budget could not be stored: {error}", action="budget_not_stored")


def _rate(settings: WorkerSettings, auth: Auth) -> float:
    return settings.requests_per_minute or auth.calls_per_minute


def _told(changed: Resubscription, calls_per_minute: float) -> str:
    said = ["MIRROR_ATTRIBUTES has changed."]
    if changed.blanked:
        said.append(f"No longer kept, and blanked in the history too: {', '.join(changed.blanked)}.")
    if changed.new:
        said.append(f"New: {', '.join(changed.new)}. {to_read(changed.to_read, calls_per_minute)}")
    return " ".join(said)


def _assemble(
    settings: WorkerSettings,
    mirror: Mirror,
    kounta: Kounta,
    auth: Credentials,
    login: Login,
    clock: Callable[[], datetime],
    sleep: Callable[[float], Awaitable[None]],
    random: Random,
) -> Engine:
    timing = settings.timing
    lens = Lens(settings.company_id, settings.subscription, timing.window)
    deletions = Deletions(
        mirror, kounta, settings.brake, subscription=settings.subscription, timing=timing, clock=clock
    )
    sweeper = Sweeper(mirror, kounta, settings.brake, lens=lens, timing=timing, clock=clock)
    verifier = Verifier(mirror, kounta, deletions, lens=lens, timing=timing, clock=clock)
    return Engine(
        settings=settings,
        clock=clock,
        mirror=mirror,
        kounta=kounta,
        applier=Applier(mirror, lens, timing, clock, kounta.observations),
        sweeper=sweeper,
        verifier=verifier,
        deletions=deletions,
        refresher=Refresher(mirror, verifier, clock=clock, random=random),
        reconciler=Reconciler(
            mirror, kounta, sweeper, verifier, deletions, timing=timing, clock=clock, sleep=sleep
        ),
        registrar=Registrar(mirror, kounta, clock=clock),
        writer=Writer(mirror, kounta, lens=lens, timing=timing, clock=clock),
        credentials=auth,
        login=login,
        eraser=Eraser(settings, mirror, clock, sleep=sleep),
    )
