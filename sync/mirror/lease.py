"""The lease of a company: of all workers on a PostgreSQL, its holder alone asks upstream for the company.

It is taken for TTL at a time, by the server's clock, and renewed; who takes it raises the epoch, which every
effect of a holder checks in its own transaction (`Mirror.lease`). So a holder that stood still, or whose last
call was under way when it lost the lease, writes nothing any more. On SQLite the file's lock is the lease.
"""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from enum import Enum, auto
from typing import Final
from uuid import uuid4

import structlog
from sqlalchemy import ColumnElement, and_, func, or_, select, update

from receiver.database import is_unavailable
from receiver.errors import MirrorError
from sync.mirror.reader import MirrorReader
from sync.mirror.schema import PROGRESS
from sync.mirror.store import Holding, Mirror

TTL: Final = timedelta(seconds=15)
"""For how long a lease is taken: after the death of its holder it is free no later than that."""
RENEW_SECONDS: Final = 4.0
LOOK_SECONDS: Final = 5.0
"""Between two looks of a worker whether a lease is free."""
INSISTING_LOOK_SECONDS: Final = 0.5
INSIST_SECONDS: Final = 60.0
"""For how long a command waits for the lease before it gives up."""

_P: Final = PROGRESS.c
_log = structlog.get_logger()


class State(Enum):
    """What a holder finds when it renews its lease."""

    HELD = auto()
    WANTED = auto()
    """Somebody waits for it: a command, which needs it for a moment."""
    LOST = auto()


def holder_name() -> str:
    """Name this process as a holder, uniquely and so that a person finds it."""
    return f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"


@asynccontextmanager
async def held(
    mirror: Mirror, *, insist: bool = False, ttl: timedelta = TTL, renew_seconds: float = RENEW_SECONDS
) -> AsyncIterator[None]:
    """Wait for the company's lease, and hold it: `mirror.lease` is what it writes under meanwhile.

    With `insist`, whoever holds it is asked to let it go, and it is kept whoever else asks; a MirrorError is
    raised when that is in vain for a minute.
    """
    if not mirror.store.is_shared:
        yield
        return
    lease = Lease(mirror, holder_name(), ttl)
    mirror.lease = holding = Holding(await (_insisted(lease) if insist else _waited(lease)))
    renewing = asyncio.create_task(_renew(lease, holding, renew_seconds, insist=insist), name="lease")
    try:
        yield
    finally:
        renewing.cancel()
        await asyncio.wait([renewing])
        mirror.lease = None
        await _give_up_if_it_can_be(lease)


async def lease_over(mirror: Mirror) -> None:
    """Wait until somebody wants the lease, or it is lost: never, where there is none."""
    await (asyncio.Event() if mirror.lease is None else mirror.lease.over).wait()


class Lease:
    """One process's view of the lease of a company."""

    def __init__(self, mirror: Mirror, holder: str, ttl: timedelta = TTL) -> None:
        self.company_id = mirror.company_id
        self._mirror = mirror
        self._holder = holder
        self._ttl = ttl

    async def take(self) -> int | None:
        """Take it if it is free and nobody else waits for it; give the epoch, None: it is not to be had."""
        wanted_by_nobody_else = or_(
            _P.lease_wanted_by.is_(None),
            _P.lease_wanted_by == self._holder,
            _P.lease_wanted_at < func.now() - self._ttl,  # who wanted it has died
        )
        free = or_(_P.lease_until.is_(None), _P.lease_until < func.now(), _P.lease_holder == self._holder)
        statement = (
            update(PROGRESS)
            .where(_P.company_id == self._mirror.company_id, free, wanted_by_nobody_else)
            .values(
                epoch=_P.epoch + 1,
                lease_holder=self._holder,
                lease_until=func.now() + self._ttl,
                lease_wanted_by=None,
                lease_wanted_at=None,
            )
            .returning(_P.epoch)
        )
        async with self._mirror.store.begin() as connection:
            epoch: int | None = (await connection.execute(statement)).scalar_one_or_none()
        return epoch

    async def want(self) -> None:
        """Ask whoever holds it to let it go."""
        async with self._mirror.store.begin() as connection:
            await connection.execute(
                update(PROGRESS)
                .where(_P.company_id == self._mirror.company_id)
                .values(lease_wanted_by=self._holder, lease_wanted_at=func.now())
            )

    async def keep(self) -> State:
        """Renew it, and say how it stands."""
        statement = (
            update(PROGRESS)
            .where(self._is_ours())
            .values(lease_until=func.now() + self._ttl)
            .returning(_P.lease_wanted_by)
        )
        async with self._mirror.store.begin() as connection:
            row = (await connection.execute(statement)).one_or_none()
        if row is None:
            return State.LOST
        return State.HELD if row.lease_wanted_by is None else State.WANTED

    async def give_up(self) -> None:
        """Let it go at once, if it is still ours."""
        async with self._mirror.store.begin() as connection:
            await connection.execute(update(PROGRESS).where(self._is_ours()).values(lease_until=None))

    def _is_ours(self) -> ColumnElement[bool]:
        return and_(_P.company_id == self._mirror.company_id, _P.lease_holder == self._holder)


async def holder_of(mirror: MirrorReader) -> str | None:
    """Name who holds the lease of a company now; None: nobody."""
    statement = select(_P.lease_holder).where(
        _P.company_id == mirror.company_id, _P.lease_until >= func.now()
    )
    async with mirror.reading() as connection:
        found: str | None = (await connection.execute(statement)).scalar_one_or_none()
    return found


async def _waited(lease: Lease) -> int:
    while True:
        try:
            epoch = await lease.take()
        except Exception as error:
            if not is_unavailable(error):
                raise
            _log.warning(f"The lease could not be looked at: {error}", action="lease_not_seen")
        else:
            if epoch is not None:
                return epoch
        await asyncio.sleep(LOOK_SECONDS)


async def _insisted(lease: Lease) -> int:
    try:
        async with asyncio.timeout(INSIST_SECONDS):
            while True:
                await lease.want()
                epoch = await lease.take()
                if epoch is not None:
                    return epoch
                await asyncio.sleep(INSISTING_LOOK_SECONDS)
    except TimeoutError:
        raise MirrorError(
            f"Another process asks Kounta for this company, and has not let go for {INSIST_SECONDS:g} s. "
            "Try again, or stop it."
        ) from None


async def _renew(lease: Lease, holding: Holding, seconds: float, *, insist: bool) -> None:
    """Renew it until it is lost, or wanted and not insisted on. While the server is away, try again."""
    while not holding.over.is_set():
        await asyncio.sleep(seconds)
        try:
            state = await lease.keep()
        except Exception as error:
            if not is_unavailable(error):
                holding.over.set()
                raise
            _log.warning(f"The lease could not be renewed: {error}", action="lease_not_renewed")
            continue
        if state is State.LOST:
            _log.warning(
                f"Another worker asks Kounta for company {lease.company_id} now: this one had stood still.",
                action="lease_lost",
                company_id=lease.company_id,
            )
        if state is State.LOST or (state is State.WANTED and not insist):
            holding.over.set()


async def _give_up_if_it_can_be(lease: Lease) -> None:
    try:
        await lease.give_up()
    except Exception as error:
        if not is_unavailable(error):
            raise
        _log.warning(
            f"The lease could not be given up: it ends by itself ({error})", action="lease_not_given_up"
        )
