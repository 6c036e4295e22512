"""Accepting while PostgreSQL is away: deliveries are kept in a file of this machine, and forwarded later.

A delivery has one name and one arrival on both ways. One whose commit to PostgreSQL was never answered is
spooled too; whoever forwards finds out by its name whether it is there. It leaves the file when PostgreSQL
has committed it, so a kill at any moment at most lets it be looked up once more.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Final, Self

import structlog
from tenacity import AsyncRetrying, retry_if_exception, wait_random_exponential

from receiver.breaker import Breaker
from receiver.clock import utc_now
from receiver.database import NewerDatabase, StoreMissing, is_unavailable, migrate, schema_revision
from receiver.errors import MirrorError
from receiver.inbox import InboxReader, transactions
from receiver.inbox.notes import Page
from receiver.inbox.retention import release
from receiver.inbox.schema import MIGRATIONS
from receiver.inbox.store import InboxStore, Spooled, owned
from receiver.inbox.transactions import Row, Sign, is_refused
from receiver.ownership import make_directory
from receiver.remote import RemoteThread, alone

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Sequence
    from pathlib import Path

    from tenacity import RetryCallState

    from receiver.ownership import Ownership
    from receiver.postgresql import Schema

ANSWER_SECONDS: Final = 1.5
"""How long a webhook waits for PostgreSQL."""
FORWARD_SECONDS: Final = 10.0
"""The same for a transaction that nobody waits for."""
START_SECONDS: Final = 3.0
"""How long a start waits for PostgreSQL before it goes on without."""
CATCH_UP_SECONDS: Final = 60.0
"""How long new deliveries queue up behind older ones, so that all arrive in their order."""
ROWS_AT_ONCE: Final = 500
BYTES_AT_ONCE: Final = 4 * 1024 * 1024
FEW: Final = 100
"""So many are forwarded while new ones wait."""
LONGEST_WAIT: Final = 2.0
"""Between two tries to reach PostgreSQL, in seconds."""

_log = structlog.get_logger("receiver")


def spool_path(directory: Path) -> Path:
    """Give the file of the spool in a data directory.

    Not the directory's own `inbox.db`: that may be the inbox of an installation that was on SQLite before.
    """
    return directory / "spool" / "inbox.db"


async def look(directory: Path, company_id: int) -> Spooled | None:
    """Look at what of a company waits in a data directory; None: nothing ever did."""
    path = spool_path(directory)
    try:
        if await asyncio.to_thread(schema_revision, path) is None:
            return None
        async with InboxReader.open(path) as spool:
            return Spooled(*await spool.pending(company_id, 0))
    except StoreMissing:
        return None


class Spool(InboxStore):
    """The inbox on PostgreSQL, with a file that takes its place while it is away."""

    def __init__(
        self,
        path: Path,
        ownership: Ownership | None,
        schema: Schema,
        *,
        clock: Callable[[], datetime],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        super().__init__(path, ownership)
        self._schema = schema
        self._clock = clock
        self._remote = RemoteThread(schema)
        self._remote_run = 0
        self._breaker = Breaker(clock())
        self._turn = asyncio.Lock()  # the way of a delivery is chosen, or changed, by one at a time
        self._opening: asyncio.Task[None] | None = None
        self._began_at = clock()
        self._socket: str | None = None
        self._count = 0
        self._oldest: datetime | None = None
        self._refused: set[str] = set()  # of what is in the file
        self._complaint: str | None = None
        self._something = asyncio.Event()
        self._retrying = AsyncRetrying(
            retry=retry_if_exception(_may_pass),
            wait=wait_random_exponential(multiplier=0.2, max=LONGEST_WAIT),
            after=self._note_failure,
            sleep=sleep,
        )

    @classmethod
    async def beside(
        cls,
        schema: Schema,
        directory: Path,
        *,
        clock: Callable[[], datetime] = utc_now,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> Self:
        """Open the file of a data directory beside a schema, which need not be there.

        Raises as `InboxStore.open` does.
        """
        make_directory(directory)
        path = spool_path(directory)
        return cls(path, await owned(path), schema, clock=clock, sleep=sleep)

    @property
    def spooled(self) -> Spooled:
        """What waits."""
        away = self._breaker.away_since
        return Spooled(self._count, self._oldest or away, not self._breaker.closed)

    @property
    def file(self) -> Path | None:
        """None: while the file cannot be used PostgreSQL still takes deliveries."""
        return None

    async def begin(self, now: datetime, socket: str | None = None) -> None:
        """Begin a run, with PostgreSQL or without; `socket` identifies one that its parent keeps open.

        Raises `NewerDatabase`, or `MigrationFailed` when it is there and refuses.
        """
        await super().begin(now, socket)
        self._began_at, self._socket = now, socket
        await self._look()
        self._opening = asyncio.create_task(self._open())
        done, _ = await asyncio.wait({self._opening}, timeout=START_SECONDS)
        error = self._opening.exception() if done else TimeoutError(f"{self._schema} does not answer")
        if isinstance(error, NewerDatabase) or (error is not None and not _is_away(error)):
            raise error
        if error is not None:
            self._failed(error)
        elif not self._count:
            self._breaker.close()
        self.tasks = (asyncio.create_task(self._forward_for_ever(), name="inbox forwarding"),)

    async def append(self, rows: Sequence[Row], *, tried: bool = False) -> None:
        """Store deliveries in PostgreSQL, or in the file; raises what the last of them said."""
        async with self._turn:
            asked = self._breaker.closed
            refusal = None
            try:
                if asked and await self._stored(rows, tried=tried):
                    return
            except Exception as error:
                if len(rows) > 1:
                    raise  # the writer tries them one by one
                refusal = error
            try:
                await super().append(rows, tried=tried)
            except Exception as error:
                if asked or not is_unavailable(error) or not self._is_open:
                    raise
                if await self._stored(rows, tried=True):
                    return
                raise
            self._oldest = self._oldest or datetime.fromisoformat(rows[0].received_at)
            self._count += len(rows)
            if refusal is not None:
                self._set_aside(rows[0], refusal)
            self._something.set()

    async def note(self, page: Page, now: datetime, *, alive: bool, last: bool) -> bool:
        """Write notes to PostgreSQL; while it is away, only that this run lives, into the file."""
        async with self._turn:
            if self._breaker.closed:
                sign = Sign(self._remote_run, now, last) if alive else None
                try:
                    await self._remote.transact(
                        partial(transactions.note, page=page, sign=sign), ANSWER_SECONDS
                    )
                except Exception as error:
                    if is_refused(error):
                        raise
                    self._failed(error)
                else:
                    return True
            await super().note(Page(), now, alive=alive, last=last)
            return False

    async def forget(self, company_id: int, *, through: int, before: datetime, keep: Collection[str]) -> int:
        """Remove deliveries from PostgreSQL, on another connection: it may take long."""
        return await release(self._schema, company_id, through=through, before=before, keep=keep)

    async def close(self) -> None:
        """Leave PostgreSQL at once; what is in the file stays there for the next run."""
        for task in (*self.tasks, *([self._opening] if self._opening else [])):
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await task
        self._remote.close()
        await super().close()

    @property
    def _is_open(self) -> bool:
        """Whether the schema is there and this run is noted in it."""
        opening = self._opening
        return (
            opening is not None and opening.done() and not opening.cancelled() and opening.exception() is None
        )

    async def _open(self) -> None:
        await alone(partial(migrate, self._schema, MIGRATIONS))
        began = partial(transactions.begin, now=self._began_at, socket=self._socket)
        self._remote_run = await self._remote.transact(began, FORWARD_SECONDS)

    async def _stored(self, rows: Sequence[Row], *, tried: bool) -> bool:
        """Store deliveries in PostgreSQL; False: it is away. Raises when it refuses one of them."""
        try:
            await self._send(rows, ANSWER_SECONDS, tried=tried)
        except Exception as error:
            if is_refused(error):
                raise
            self._failed(error)
            return False
        return True

    async def _send(self, rows: Sequence[Row], seconds: float, *, tried: bool = True) -> None:
        await self._remote.transact(partial(transactions.append, rows=rows, tried=tried), seconds)

    def _note_failure(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome is not None else None
        if error is None:
            return
        self._failed(error)
        if not _is_away(error) and str(error) != self._complaint:
            self._complaint = str(error)
            _log.error(
                "PostgreSQL is there and cannot be used: deliveries stay on this machine until it can.",
                action="forwarding_refused",
                reason=_reason(error),
            )

    def _failed(self, error: BaseException) -> None:
        """PostgreSQL does not store: open the breaker."""
        if self._is_open and not is_unavailable(error):
            self._opening = None  # it is there and not as it was: what is missing is made
        if self._breaker.failed(_reason(error), self._clock()):
            _log.warning(
                "PostgreSQL does not take deliveries: they are kept on this machine until it does.",
                action="spooling_began",
                reason=_reason(error),
                spooled=self._count,
            )
        self._something.set()

    def _set_aside(self, row: Row, error: BaseException) -> None:
        self._refused.add(row.id)
        _log.error(
            "PostgreSQL refuses a delivery: it stays on this machine, and is tried again at the next start.",
            action="delivery_not_forwarded",
            delivery=row.id,
            reason=type(getattr(error, "orig", None) or error).__name__,  # its text may hold the row's
        )

    async def _forward_for_ever(self) -> None:
        while True:
            self._something.clear()
            if not self._breaker.closed or self._count > len(self._refused):
                await self._retrying(self._forward)
                self._tell_the_end()
            await self._something.wait()

    def _tell_the_end(self) -> None:
        if not self._breaker.closed:
            return
        outage = self._breaker.ended(self._clock())
        if outage is not None:
            _log.info(
                f"PostgreSQL takes deliveries again; {outage.forwarded:,} that waited here are forwarded.",
                action="spooling_ended",
                forwarded=outage.forwarded,
                since=outage.since.isoformat(timespec="seconds"),
                spooled=self._count,
            )

    async def _forward(self) -> None:
        """Forward what waits; new deliveries queue up behind it until little is left, then go directly."""
        if self._opening is None or (self._opening.done() and not self._is_open):
            self._opening = asyncio.create_task(self._open())
        await asyncio.shield(self._opening)
        await self._give_sign()  # at once: workers take whoever gives none for long for killed
        await self._look()
        until = asyncio.get_running_loop().time() + CATCH_UP_SECONDS
        while await self._forward_once(FORWARD_SECONDS) > FEW:
            if asyncio.get_running_loop().time() > until:
                break
        if not self._breaker.closed:
            async with self._turn, asyncio.timeout(ANSWER_SECONDS):
                if self._count - len(self._refused) <= FEW:
                    await self._forward_once(ANSWER_SECONDS)
                await self._give_sign()
                self._breaker.close()
        while await self._forward_once(FORWARD_SECONDS):
            pass
        if not self._count:
            await self.truncate_log()  # what has left is nowhere in the file

    async def _give_sign(self) -> None:
        """Note in PostgreSQL that this run lives."""
        sign = Sign(self._remote_run, self._clock(), last=False)
        await self._remote.transact(partial(transactions.note, page=Page(), sign=sign), ANSWER_SECONDS)

    async def _forward_once(self, seconds: float) -> int:
        """Go once through what is in the file now, from the oldest on; give how many were forwarded."""
        forwarded = 0
        for company_id, head in await self.transact(transactions.heads):
            position = 0
            while True:
                some = partial(
                    transactions.oldest,
                    company_id=company_id,
                    after=position,
                    through=head,
                    limit=ROWS_AT_ONCE,
                    most_bytes=BYTES_AT_ONCE,
                )
                rows, position = await self.transact(some)
                if not rows:
                    break
                forwarded += await self._forward_rows(company_id, rows, seconds)
        await self._look()
        return forwarded

    async def _forward_rows(self, company_id: int, rows: Sequence[Row], seconds: float) -> int:
        stored = [row for row in rows if row.id not in self._refused]
        if not stored:
            return 0
        try:
            await self._send(stored, seconds)
        except Exception as error:
            if not is_refused(error):
                raise
            stored = [row for row in stored if await self._is_taken(row, seconds)]
        await self.transact(
            partial(transactions.remove, company_id=company_id, names=[row.id for row in stored])
        )
        self._breaker.forwarded(len(stored))
        self._count -= len(stored)
        return len(stored)

    async def _is_taken(self, row: Row, seconds: float) -> bool:
        """Forward one alone: a bad one does not stop those behind it."""
        try:
            await self._send([row], seconds)
        except Exception as error:
            if not is_refused(error):
                raise
            self._set_aside(row, error)
            return False
        return True

    async def _look(self) -> None:
        """Look at what the file holds: a try that was broken off may have left another number."""
        self._count, self._oldest = await self.transact(transactions.waiting)


def _is_away(error: BaseException) -> bool:
    """Whether PostgreSQL itself failed, perhaps in the middle of being brought to this version."""
    return is_unavailable(error) or (error.__cause__ is not None and is_unavailable(error.__cause__))


def _may_pass(error: BaseException) -> bool:
    """Whether another try may go better: anything but a fault of ours."""
    return isinstance(error, MirrorError) or not is_refused(error)


def _reason(error: BaseException) -> str:
    if isinstance(error, MirrorError) and error.__cause__ is not None and is_unavailable(error.__cause__):
        error = error.__cause__  # a migration that found nobody
    return " ".join(str(getattr(error, "orig", None) or error).split())
