"""Erasing a person: from the mirror at once, from the inbox and the spool, and out of every old page.

The first transaction marks the person and removes their rows; whatever is committed later keeps them out. All
that follows (finding their deliveries, dropping what these say, emptying logs) can be done again by whoever
comes next: the command said once more, or the worker, which needs no id for it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterator
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import httpx2
import structlog

from receiver.database import Server, StoreMissing, directory_of, inbox_of, schema_revision, utc_text
from receiver.errors import MirrorError, SettingsError
from receiver.inbox import InboxReader
from receiver.inbox.erasure import Dropped, drop_in_schema
from receiver.inbox.store import InboxStore
from receiver.local import connect_locally
from receiver.postgresql import Schema
from receiver.spool import spool_path
from sync.inbox import InboxView
from sync.merge.doubts import Reason
from sync.merge.mentions import mentioned
from sync.mirror.erasure import (
    Gone,
    Mark,
    allow_return,
    bodies_to_drop,
    erase_rows,
    forget_deliveries,
    incomplete,
    known_ids,
    mark_of,
    marks_of,
    note_complete,
    note_dropped,
)
from sync.mirror.marks import Marker
from sync.mirror.marks_file import MarksFile, is_later
from sync.mirror.store import KeyDiffersError, Mirror
from sync.mirror.vacuum import horizon, vacuum
from sync.settings import MirrorSettings

RECEIVER: Final = "receiver"
CAPTURED: Final = "captured.jsonl"
"""Where `webhooks capture` keeps refused requests."""
READ_AT_ONCE: Final = 1000
DROPPED_AT_ONCE: Final = 1000
TRIES: Final = 40
"""Looks whether old pages are gone, PAUSE_SECONDS between them, before a person is told that they are not."""
PAUSE_SECONDS: Final = 0.25

_log = structlog.get_logger()


class NoKeyError(SettingsError):
    """Nobody can be erased without a key: without it nobody could be kept out."""

    def __init__(self) -> None:
        super().__init__(
            "MIRROR_SECRET_KEY is not set. Erased people are kept out by a hash that it keys: set it to at "
            "least 32 random characters, the same for every process, and keep it."
        )


class ReceiverGoneError(MirrorError):
    """The receiver, which alone writes the file, could not do it."""


class NotErasedError(MirrorError):
    """A person is to come back who was not erased."""


@dataclass(slots=True)
class Receipt:
    """What left where, and what a person has to see to by themselves."""

    company_id: int
    customer_id: int
    erased_at: datetime
    mirror: Gone = field(default_factory=Gone)
    bodies: int = 0
    """Deliveries of the inbox that say nothing any more."""
    spooled: int = 0
    """The same of those that wait on this machine for PostgreSQL."""
    completed_at: datetime | None = None
    """None: not everything is gone yet."""
    why: str = ""
    """Why it is not complete."""
    remains: list[str] = field(default_factory=list)
    """Sentences: what this program cannot erase."""

    def as_json(self) -> dict[str, Any]:
        """Give it as the command prints it with --json; times are ISO 8601 in UTC."""
        return {
            "company_id": self.company_id,
            "customer_id": self.customer_id,
            "erased_at": utc_text(self.erased_at),
            "completed_at": None if self.completed_at is None else utc_text(self.completed_at),
            "complete": self.completed_at is not None,
            "why": self.why or None,
            "mirror": asdict(self.mirror),
            "inbox": {"bodies": self.bodies},
            "spool": {"bodies": self.spooled},
            "remains": self.remains,
        }


class Eraser:
    """Erases people of one company, and keeps them out."""

    def __init__(
        self,
        settings: MirrorSettings,
        mirror: Mirror,
        clock: Callable[[], datetime],
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._place = settings.place
        self._directory = directory_of(settings.place)
        self._company_id = settings.company_id
        self._mirror = mirror
        self._clock = clock
        self._sleep = sleep
        self._file = MarksFile(self._directory, settings.company_id)
        self._turn = asyncio.Lock()
        self._since: str | None = None
        """PostgreSQL: the moment at which the last row had gone."""

    async def erase(self, customer_id: int) -> Receipt:
        """Erase a customer, and say what left where. Again: complete what was begun.

        Raises NoKeyError, or KeyDiffersError when others were erased under another key.
        """
        marker, now = self._marker(), self._clock()
        async with self._turn:
            mark = await mark_of(self._mirror, marker.mark(self._company_id, customer_id))
            erased_at = now if mark is None or mark.returned_at is not None else mark.erased_at
            mark = Mark(marker.mark(self._company_id, customer_id), marker.key_id, erased_at)
            receipt = Receipt(self._company_id, customer_id, erased_at)
            self._since = None
            receipt.mirror = await erase_rows(self._mirror, marker, [mark], [customer_id], now)
            self._file.keep([mark])
            _log.info("A customer was erased.", action="customer_erased", company_id=self._company_id)
            for tried in range(TRIES):
                receipt.why = await self._go_on(marker, receipt, may_own=True)
                if not receipt.why:
                    receipt.completed_at = self._clock()
                    break
                if tried < TRIES - 1:
                    await self._sleep(PAUSE_SECONDS)
        receipt.remains = list(_remains(self._place, self._directory))
        return receipt

    async def allow_return(self, customer_id: int) -> datetime:
        """Let a customer come back, and ask for a read of it; give when it was erased.

        Raises NotErasedError, or NoKeyError.
        """
        marker, now = self._marker(), self._clock()
        async with self._turn:
            mark = await mark_of(self._mirror, marker.mark(self._company_id, customer_id))
            if mark is None or not await allow_return(self._mirror, mark.mark, now):
                raise NotErasedError(f"Customer {customer_id} is not kept out: it was not erased.")
            self._file.keep([mark._replace(returned_at=now)])
            async with self._mirror.batch([customer_id], now) as batch:
                batch.doubt(customer_id, Reason.ASKED, now)
        return mark.erased_at

    async def take_over(self) -> None:
        """Bring the marks of the mirror and of the file beside it to the same, after a backup was restored.

        Whoever the mirror has again is erased again. Raises KeyDiffersError when it cannot tell who that is.
        """
        here = {mark.mark: mark for mark in await marks_of(self._mirror)}
        beside = self._file.read()
        marker = self._mirror.marker
        in_force = [one for one in (*here.values(), *beside.values()) if one.returned_at is None]
        if any(marker is None or one.key_id != marker.key_id for one in in_force):
            raise KeyDiffersError(self._company_id)
        self._file.keep(one for one in here.values() if is_later(one, beside.get(one.mark)))
        new = [one for one in beside.values() if is_later(one, here.get(one.mark))]
        if not new or marker is None:
            return
        marks = {one.mark for one in new if one.returned_at is None}
        again = [
            customer_id
            for customer_id in await known_ids(self._mirror)
            if marker.mark(self._company_id, customer_id) in marks
        ]
        await erase_rows(self._mirror, marker, new, again, self._clock())
        _log.warning(
            f"{len(new)} marks of erased people were missing from the mirror, as after restoring a backup; "
            f"{len(again)} of them were there again, and are erased.",
            action="marks_taken_over",
        )

    async def go_on(self) -> bool:
        """Do what is left of erasures, and drop what came of erased people since; False: nothing was."""
        marker = self._mirror.marker
        if marker is None:
            return False
        async with self._turn:
            if not await bodies_to_drop(self._mirror, 1) and not await incomplete(self._mirror):
                return False
            receipt = Receipt(self._company_id, 0, self._clock())
            try:
                return not await self._go_on(marker, receipt, may_own=False)
            except ReceiverGoneError as error:
                _log.warning(str(error), action="bodies_not_dropped", company_id=self._company_id)
                return False

    def _marker(self) -> Marker:
        if self._mirror.marker is None:
            raise NoKeyError
        return self._mirror.marker

    async def _go_on(self, marker: Marker, receipt: Receipt, *, may_own: bool) -> str:
        """Do what is left; say what keeps it from being complete, "": nothing."""
        unfinished = await incomplete(self._mirror)
        marks = {one.mark for one in unfinished if one.searched_at is None}
        if marks:

            def wanted(customer_id: int) -> bool:
                return marker.mark(self._company_id, customer_id) in marks

            spooled = await self._drop_spooled(wanted, may_own=may_own)
            receipt.spooled += spooled.number
            if not spooled.clean:
                return _busy(spool_path(self._directory))
            found = await self._search(wanted)
            _add(receipt.mirror, await forget_deliveries(self._mirror, found, marks, self._clock()))
        while names := await bodies_to_drop(self._mirror, DROPPED_AT_ONCE):
            dropped = await self._drop(names, may_own=may_own)
            receipt.bodies += dropped.number
            if not dropped.clean:
                return _busy(self._directory / "inbox.db")
            await note_dropped(self._mirror, names)
        return await self._clean(may_own=may_own) if unfinished else ""

    async def _clean(self, *, may_own: bool) -> str:
        """See to it that no old page is left; say what keeps some, "": nothing."""
        if isinstance(self._place, Server):
            self._since = self._since or await horizon(self._mirror.store)
            if not await vacuum(self._mirror.store, self._since):
                return (
                    "Another session of PostgreSQL still sees what was there before: its transaction has "
                    "been open since then (pg_stat_activity). End it, and say the command again."
                )
        else:
            if not (await self._drop([], may_own=may_own)).clean:
                return _busy(self._directory / "inbox.db")
            if not await self._mirror.store.truncate_log():
                return _busy(self._directory / "mirror.db")
        await note_complete(self._mirror, self._clock())
        return ""

    async def _search(self, wanted: Callable[[int], bool]) -> set[str]:
        """Name the deliveries of the inbox that are about these customers and still say something."""
        async with InboxView(self._place) as view:
            reader = await view.reader()
            return set() if reader is None else await _about(reader, self._company_id, wanted)

    async def _drop(self, names: Collection[str], *, may_own: bool) -> Dropped:
        """Have the inbox drop what these deliveries say."""
        inbox = inbox_of(self._place)
        if isinstance(inbox, Schema):
            count = await drop_in_schema(inbox, self._company_id, names, self._clock()) if names else 0
            return Dropped(count, clean=True)
        return await self._drop_in_file(inbox, names, ask=True, may_own=may_own)

    async def _drop_spooled(self, wanted: Callable[[int], bool], *, may_own: bool) -> Dropped:
        """Do the same with what waits on this machine for PostgreSQL."""
        path = spool_path(self._directory)
        try:
            if await asyncio.to_thread(schema_revision, path) is None:
                return Dropped(0, clean=True)
        except StoreMissing:
            return Dropped(0, clean=True)
        async with InboxReader.open(path) as reader:
            names = await _about(reader, self._company_id, wanted)
        return await self._drop_in_file(path, names, ask=isinstance(self._place, Server), may_own=may_own)

    async def _drop_in_file(self, path: Path, names: Collection[str], *, ask: bool, may_own: bool) -> Dropped:
        """Ask the receiver, which alone writes the file; with `may_own` be it when none runs."""
        client = connect_locally(self._directory, RECEIVER) if ask else None
        if client is not None:
            async with client:
                return await _asked(client, self._company_id, names)
        if not await asyncio.to_thread(path.is_file):
            return Dropped(0, clean=True)
        if not may_own:
            return Dropped(0, clean=False)  # a receiver that starts meanwhile must find nobody in its place
        store = await InboxStore.open(path)
        try:
            return await store.drop_bodies(self._company_id, names, self._clock())
        finally:
            await store.close()


async def _about(reader: InboxReader, company_id: int, wanted: Callable[[int], bool]) -> set[str]:
    names: set[str] = set()
    position = 0
    while deliveries := await reader.read(company_id, position, READ_AT_ONCE):
        names.update(
            one.id
            for one in deliveries
            if not one.is_erased and any(wanted(customer_id) for customer_id in mentioned(one.body))
        )
        position = deliveries[-1].position
        await asyncio.sleep(0)
    return names


async def _asked(client: httpx2.AsyncClient, company_id: int, names: Collection[str]) -> Dropped:
    what = {"company_id": company_id, "deliveries": sorted(names)}
    try:
        answer = await client.post("/erase", json=what)
    except httpx2.TransportError as error:
        raise ReceiverGoneError(f"The receiver ended before it had answered ({error}). Try again.") from error
    if answer.is_error:
        raise ReceiverGoneError(
            f"The receiver that runs could not drop bodies ({answer.status_code}): it may be of another "
            "version. Start it again, and try again."
        )
    said = answer.json()
    return Dropped(int(said["dropped"]), bool(said["clean"]))


def _add(sum_: Gone, more: Gone) -> None:
    for one in fields(Gone):
        setattr(sum_, one.name, getattr(sum_, one.name) + getattr(more, one.name))


def _busy(path: Path) -> str:
    return (
        f"A reader keeps old pages of {path} alive: the person can be found in them until it ends. Close it "
        "(a long query, an open sqlite3), and say the command again."
    )


def _remains(place: Path | Server, directory: Path) -> Iterator[str]:
    yield "Backups and copies that were made before still hold the person."
    if (directory / CAPTURED).is_file():
        yield (
            f"{directory / CAPTURED} holds refused requests, which may be about them: "
            "kounta-mirror webhooks capture --discard."
        )
    for path in sorted(directory.glob("*.damaged-*")):
        yield f"{path} was put aside as damaged and may hold them: remove it."
    if isinstance(place, Server):
        yield (
            "PostgreSQL overwrites the place of removed rows as it reuses it (VACUUM FULL does at once), and "
            "archived WAL holds them until it is let go."
        )
        for name in ("inbox.db", "mirror.db"):
            if (directory / name).is_file():
                yield f"{directory / name} was copied to PostgreSQL and still holds them: remove it."
