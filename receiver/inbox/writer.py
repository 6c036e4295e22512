"""The inbox as a receiver writes it: whoever waits shares one commit, and is answered after it."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Self

import structlog
import uuid_utils
from prometheus_client import Histogram

from receiver.clock import utc_now
from receiver.database import is_unavailable, utc_text
from receiver.errors import MirrorError
from receiver.inbox.notes import QUEUE_FULL, Notes
from receiver.inbox.store import InboxStore
from receiver.inbox.transactions import Row
from receiver.integrity import FIRST_SECONDS, FileCheck

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from datetime import datetime
    from types import TracebackType

    from receiver.database import Database
    from receiver.inbox.erasure import Dropped
    from receiver.inbox.store import Spooled


log = structlog.get_logger("receiver")

COMMIT_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
QUEUE_BYTES = 64 * 1024 * 1024
HEARTBEAT_SECONDS = 30.0  # between two notes that the receiver still stores what comes
STANDSTILL = 4  # heartbeats missed by a process that lives: it was not running meanwhile
TRIED_IN_VAIN = 3  # single commits that the store refuses before the rest of a batch is given up


class QueueFull(MirrorError):  # noqa: N818 - it says what is the case
    """More deliveries wait for a commit than may."""


class CommitFailed(MirrorError):  # noqa: N818 - it says what is the case
    """The delivery is not on disk."""


@dataclass(slots=True)
class _Waiting:
    row: Row
    stored: asyncio.Future[None]

    @property
    def size(self) -> int:
        """Bytes that it holds: a sender chooses the headers as freely as the body."""
        return len(self.row.headers) + len(self.row.body)


def _new_id() -> str:
    return str(uuid_utils.uuid7())


class InboxWriter:
    """One writing connection and the queue before the commit; a file has no other writer."""

    def __init__(
        self,
        store: InboxStore,
        *,
        queue_limit: int,
        clock: Callable[[], datetime],
        new_id: Callable[[], str],
        committed: Callable[[], None],
        heartbeat_seconds: float,
        socket: str | None,
    ) -> None:
        self._socket = socket
        self.commit_seconds = Histogram(
            "kounta_mirror_receiver_commit_seconds",
            "How long a commit takes, with all the deliveries that share it.",
            buckets=COMMIT_BUCKETS,
            registry=None,
        )
        self._notes = Notes()
        self._store = store
        self._queue_limit = queue_limit
        self._clock = clock
        self._new_id = new_id
        self._committed = committed
        self._heartbeat_seconds = heartbeat_seconds
        self._seen_at = clock()
        self._waiting: deque[_Waiting] = deque()
        self._held = 0  # waiting, or in the commit that runs
        self._bytes = 0
        self._something = asyncio.Event()
        self._noting = asyncio.Lock()
        self._closing = False
        self._broken = False
        self._told = False
        self._stored_since = True
        """Whether a delivery was stored since one could not be."""
        self._check = None if store.file is None else FileCheck(store.file, owns=True, clock=clock)
        self._committer: asyncio.Task[None] | None = None
        self._noter: asyncio.Task[None] | None = None
        self._checker: asyncio.Task[None] | None = None

    @classmethod
    async def open(
        cls,
        database: Database,
        *,
        queue_limit: int = 10_000,
        clock: Callable[[], datetime] = utc_now,
        new_id: Callable[[], str] = _new_id,
        committed: Callable[[], None] = lambda: None,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
        socket: str | None = None,
    ) -> Self:
        """Open the inbox, made or migrated if need be; `committed` is called after each commit.

        Every `heartbeat_seconds` it is noted that the receiver still stores what comes. `socket`
        identifies one that the parent of this process keeps open while it restarts.

        Raises `OwnedElsewhere`, `NewerDatabase`, `MigrationFailed`, or `MirrorError` for a directory or disk
        that cannot serve.
        """
        store = await InboxStore.open(database)
        return await cls.over(
            store,
            queue_limit=queue_limit,
            clock=clock,
            new_id=new_id,
            committed=committed,
            heartbeat_seconds=heartbeat_seconds,
            socket=socket,
        )

    @classmethod
    async def over(
        cls,
        store: InboxStore,
        *,
        queue_limit: int = 10_000,
        clock: Callable[[], datetime] = utc_now,
        new_id: Callable[[], str] = _new_id,
        committed: Callable[[], None] = lambda: None,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
        socket: str | None = None,
    ) -> Self:
        """Begin a run over a store that is open, and is closed with this, also when it cannot begin."""
        writer = cls(
            store,
            queue_limit=queue_limit,
            clock=clock,
            new_id=new_id,
            committed=committed,
            heartbeat_seconds=heartbeat_seconds,
            socket=socket,
        )
        try:
            await writer._begin()
        except BaseException as error:
            await store.close()
            if is_unavailable(error):
                raise MirrorError(f"{store.database} cannot be written: {_reason(error)}.") from error
            raise
        return writer

    async def _begin(self) -> None:
        await self._store.begin(self._clock(), self._socket)
        if self._check is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(FIRST_SECONDS):
                    await self._check.check()
        self._committer = asyncio.create_task(self._commit_for_ever(), name="inbox commits")
        self._noter = asyncio.create_task(self._note_for_ever(), name="inbox notes")
        checking = [] if self._check is None else [self._start_checking(self._check)]
        for task in (self._committer, self._noter, *checking, *self._store.tasks):
            task.add_done_callback(self._watch)

    def _start_checking(self, check: FileCheck) -> asyncio.Task[None]:
        self._checker = asyncio.create_task(check.run(), name="inbox check")
        return self._checker

    async def close(self) -> None:
        """Commit what waits, note the stop, give up the lock. Later appends raise `CommitFailed`."""
        if self._closing:
            return
        self._closing = True
        self._something.set()
        if self._committer is not None:
            await asyncio.wait([self._committer])
        if self._noter is not None:
            async with self._noting:  # cancelled in the middle it would lose what it had taken
                self._noter.cancel()
            with suppress(asyncio.CancelledError):
                await self._noter
        await self._write_notes(stopping=True)
        self._tell_recovery()
        if self._checker is not None:
            self._checker.cancel()
            with suppress(asyncio.CancelledError):
                await self._checker
        await self._store.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def append(self, company_id: int, topic: str, headers: Mapping[str, str], body: bytes) -> str:
        """Store one delivery and give its name, once it is on disk.

        Raises `QueueFull` at once, or `CommitFailed` when the store did not take it.
        """
        if self._full:
            self._notes.turned_away(self._clock(), QUEUE_FULL)
            raise QueueFull(f"{self._held} deliveries wait for a commit, as many as may.")
        if self._closing:
            raise CommitFailed("The receiver is stopping.")
        if self._broken:
            raise CommitFailed("The receiver has failed and has to be started anew.")
        self._require_file()
        name = self._new_id()
        waiting = _Waiting(
            row=Row(name, company_id, topic, utc_text(self._clock()), json.dumps(headers), body),
            stored=asyncio.get_running_loop().create_future(),
        )
        self._waiting.append(waiting)
        self._held += 1
        self._bytes += waiting.size
        self._something.set()
        await waiting.stored
        return name

    def _require_file(self) -> None:
        """Refuse a delivery, and note that, if the file is damaged, or another one is at its path."""
        if self._check is None:
            return
        try:
            self._check.require()
        except MirrorError as error:
            self._failed(1, error)
            raise CommitFailed(f"The delivery could not be stored: {error}") from error

    def note_token(self, company_id: int, fingerprint: str) -> None:
        """Note which of a company's tokens has verified a delivery; see receiver.signature.fingerprint."""
        self._notes.verified(company_id, fingerprint, self._clock())

    def refuse(self, company_id: int, reason: str) -> None:
        """Count a refused request; written within a second or so."""
        self._notes.refuse(company_id, reason, self._clock())

    def overloaded(self, reason: str) -> None:
        """Note that deliveries may have been turned away before they were read."""
        self._notes.turned_away(self._clock(), reason)

    @property
    def ready(self) -> bool:
        """Whether a delivery would be stored now, as far as the last commit tells.

        After a failed one, the notes of it are the next try, within a second.
        """
        damaged = self._check is not None and self._check.damage is not None
        return not (self._closing or self._broken or self._full or self._notes.failing or damaged)

    @property
    def waiting(self) -> int:
        """How many deliveries wait for a commit, or are in the one that runs."""
        return self._held

    @property
    def spooled(self) -> Spooled | None:
        """What waits on this machine for PostgreSQL; None: nothing ever does."""
        return self._store.spooled

    @property
    def _full(self) -> bool:
        return self._held >= self._queue_limit or self._bytes >= QUEUE_BYTES

    async def forget(self, company_id: int, *, through: int, before: datetime, keep: Collection[str]) -> int:
        """Remove a company's deliveries at or before position `through` that came before `before`.

        Those named in `keep` stay. A file: small transactions, between which deliveries are committed; stops
        at the first stretch in which none is old enough. A schema: whole partitions. Gives how many went.
        """
        return await self._store.forget(company_id, through=through, before=before, keep=keep)

    async def drop_bodies(self, company_id: int, names: Collection[str]) -> Dropped:
        """Drop what these deliveries of a company say, because of whom they are about; each stays as a row.

        Beside PostgreSQL: of what waits here for it.
        """
        return await self._store.drop_bodies(company_id, names, self._clock())

    async def _commit_for_ever(self) -> None:
        while True:
            await self._something.wait()
            self._something.clear()
            while self._waiting:
                batch = list(self._waiting)
                self._waiting.clear()
                await self._commit(batch)
            if self._closing:
                return

    async def _commit(self, batch: Sequence[_Waiting]) -> None:
        error = await self._try(batch)
        if error is None or len(batch) == 1:
            self._settle(batch, error)
            return
        in_vain = 0  # one bad row must not fail its neighbours, nor a full disk keep them waiting
        for waiting in batch:
            if in_vain < TRIED_IN_VAIN:
                error = await self._try([waiting], tried=True)
                in_vain = in_vain + 1 if error is not None and is_unavailable(error) else 0
            self._settle([waiting], error)

    async def _try(self, batch: Sequence[_Waiting], *, tried: bool = False) -> Exception | None:
        rows = [waiting.row for waiting in batch]
        try:
            with self.commit_seconds.time():
                await self._store.append(rows, tried=tried)
        except Exception as error:  # noqa: BLE001 - whatever it is, each request of the batch is answered with it
            return error
        return None

    def _settle(self, batch: Sequence[_Waiting], error: Exception | None) -> None:
        if error is None:
            self._notes.committed()
            if self._told and not self._stored_since:
                self._notes.wake()  # soon it is said
            self._stored_since = True
        else:
            self._failed(len(batch), error)
        self._answer(batch, error)
        if error is None:
            self._committed()

    def _answer(self, batch: Sequence[_Waiting], error: BaseException | None) -> None:
        for waiting in batch:
            self._held -= 1
            self._bytes -= waiting.size
            if waiting.stored.done():
                continue  # its request was cancelled
            if error is None:
                waiting.stored.set_result(None)
            else:
                failure = CommitFailed(f"The delivery could not be stored: {_reason(error)}.")
                failure.__cause__ = error
                waiting.stored.set_exception(failure)

    def _watch(self, task: asyncio.Task[None]) -> None:
        """Refuse everything once one of our own tasks has died: silence would look like health."""
        error = None if task.cancelled() else task.exception()
        if error is None:
            return
        log.error(
            "The receiver has failed and has to be started anew.",
            action="receiver_failed",
            task=task.get_name(),
            exc_info=error,
        )
        self._broken = True
        waiting, self._waiting = list(self._waiting), deque()
        self._answer(waiting, error)

    def _failed(self, refused: int, error: Exception) -> None:
        self._notes.failed(refused, _reason(error), self._clock())
        self._stored_since = False
        if self._check is not None:
            self._check.suspect(error)
        if not self._told:  # and not again while small rows succeed and large ones fail
            self._told = True
            log.error(
                "Deliveries cannot be stored; they are refused with 503 until they can.",
                reason=_reason(error),
                action="commit_failed",
            )

    async def _note_for_ever(self) -> None:
        while True:
            await self._notes.wait(self._heartbeat_seconds)
            await self._write_notes()
            self._tell_recovery()
            await asyncio.sleep(1)

    def _tell_recovery(self) -> None:
        """Say that deliveries are stored again, once one is."""
        if self._told and self._stored_since and not self._notes.failing:
            self._told = False
            log.info("Deliveries are stored again.", action="commits_recovered")

    async def _write_notes(self, *, stopping: bool = False) -> None:
        async with self._noting:
            now = self._clock()
            if now - self._seen_at > STANDSTILL * timedelta(seconds=self._heartbeat_seconds):
                self._notes.stood_still(self._seen_at, now)
            page = self._notes.take(now, last=stopping)
            # one that has failed no longer stores, and gives no sign of life, not even that it stops
            try:
                if self._check is not None:
                    self._check.require()
                written = await self._store.note(page, now, alive=not self._broken, last=stopping)
            except Exception as error:
                self._notes.put_back(page)
                if not is_unavailable(error):
                    raise
                self._failed(0, error)
            else:
                if not written:
                    self._notes.put_back(page)
                self._seen_at = now
                self._notes.committed()


def _reason(error: BaseException) -> str:
    return str(getattr(error, "orig", None) or error)
