"""Sweeps: a walk of upstream's list, which finds what no webhook said."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

import structlog

from sync.kounta import Customer, Kounta, KountaError, KountaRefused, KountaThrottled, KountaUnavailable, Page
from sync.merge.contested import doubt_said_deleted, is_listed_later
from sync.merge.decisions import Decision, Kind, accept, compare_listed, compare_unlisted, merge
from sync.merge.differences import UNSET
from sync.merge.doubts import ASKED, SWEEP, Reason, Timing, is_fenced
from sync.merge.snapshots import Lens, Snapshot, Source, UnreadableError
from sync.mirror.batch import Batch
from sync.mirror.deletions import live_customers
from sync.mirror.progress import Progress
from sync.mirror.queue import unknown_in_doubt
from sync.mirror.store import Mirror
from sync.mirror.sweeps import (
    END,
    SweepRow,
    begin_sweep,
    end_sweep,
    newest_sweep,
    note_failure,
    note_page,
    unlisted,
)
from sync.reconcile.deletions import Brake
from sync.reconcile.drift import count_repair
from sync.reconcile.report import NoteItem, Outcome, outcome_of

BACKFILL: Final = "backfill"
AT_ONCE: Final = 500
RESUMABLE: Final = timedelta(hours=6)
"""A sweep that began longer ago starts anew: what it listed first is old, or its page will never come."""
_TEXTS: Final = frozenset({"first_name", "last_name", "email", "image"})
"""Listed texts that may be unset; an unset reference_id is "" by the seed."""
MOST_HELD_BACK: Final = 20_000
"""Unknown customers kept in memory until it is known whose list it is: about 30 MB."""

_log = structlog.get_logger()


class ForeignListError(Exception):
    """A list that is mostly of customers this mirror does not know: another company's, it seems."""


class GaveWayError(Exception):
    """A sweep stopped between two pages because a person asked for one of their own."""


@dataclass(slots=True)
class Swept:
    """What a sweep met."""

    listed: int = 0
    created: int = 0
    updated: int = 0
    unlisted: int = 0
    failed: int = 0
    pages: int | None = None
    """Upstream's count of pages, None when it gives none."""


Listener = Callable[[Swept], None]


@dataclass(frozen=True, slots=True)
class _Item:
    """One customer of a page: what was listed, when the page was asked for, the newest doubt at that time."""

    snapshot: Snapshot
    asked_at: datetime
    revision: int


@dataclass(slots=True)
class _Walk:
    """A sweep under way. Unknown customers are held back until the list is known to be ours."""

    row: SweepRow
    swept: Swept
    source: Source
    note: NoteItem
    live: int
    """Customers that the mirror showed when it began."""
    most_unknown: int | None
    """How many unknown customers are taken over unseen; None: any number, in the first sweep."""
    known: int = 0
    added: int = 0
    pages: int | None = 0
    """Pages met so far; None: it is not known how many there were before it was interrupted."""
    unreadable: set[int] = field(default_factory=set)
    """Listed customers of whom nothing could be taken."""
    unknown: dict[int, _Item] = field(default_factory=dict)

    @property
    def is_ours(self) -> bool:
        """Whether what was listed so far is known well enough: mostly ours, or most of ours."""
        if len(self.unknown) <= (self.most_unknown or 0):
            return True
        return self.known >= self.added + len(self.unknown) or 2 * self.known >= self.live

    def refuse(self) -> ForeignListError:
        """Give the error for a list that is another's."""
        return ForeignListError(
            f"{self.added + len(self.unknown)} of {self.swept.listed} listed customers are unknown, and of "
            f"{self.live} known ones {self.known} are listed: this looks like another company's list, and "
            "none of the unknown ones was taken over. Check KOUNTA_COMPANY_ID and the credentials."
        )


class Sweeper:
    """Walks the list of one company and leaves a doubt wherever the mirror may differ from it."""

    def __init__(
        self,
        mirror: Mirror,
        kounta: Kounta,
        brake: Brake,
        *,
        lens: Lens,
        timing: Timing,
        clock: Callable[[], datetime],
    ) -> None:
        self._mirror = mirror
        self._kounta = kounta
        self._brake = brake
        self._lens = lens
        self._timing = timing
        self._clock = clock
        self._nones: set[str | None] = set()
        """How lists have said that a text is unset: none, ""."""
        self._walking = asyncio.Lock()
        self._awaited = 0
        """Sweeps that people wait for: one that nobody waits for gives way."""

    async def sweep(self, reason: str) -> Swept:
        """Walk the whole list, from where an interrupted sweep stopped if there is one.

        Raises KountaError or ForeignListError when it could not be completed. Where upstream was only
        unavailable, the next sweep goes on at the page that failed; else it starts anew. Raises GaveWayError
        when a person asks for the calls meanwhile, or has asked already.
        """
        if self._awaited:
            raise GaveWayError
        async with self._walking:
            return await self._sweep(reason, SWEEP, lambda _: None, lambda *_: None)

    @property
    def is_awaited(self) -> bool:
        """Whether a person waits for a sweep, or for the reads that it has asked for."""
        return self._awaited > 0

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Keep every other sweep away, as long as a person waits; one under way stops after its page."""
        self._awaited += 1
        try:
            async with self._walking:
                yield
        finally:
            self._awaited -= 1

    async def sweep_now(self, met: Listener, note: NoteItem) -> Swept:
        """Walk the whole list from its beginning, within `alone`: nothing older than that will do.

        `met` is told after each page; `note` is told of each listed customer what became of it. Raises
        KountaError and ForeignListError as `sweep` does.
        """
        return await self._sweep("asked", ASKED, met, note)

    async def _sweep(self, reason: str, priority: int, met: Listener, note: NoteItem) -> Swept:
        walk = await self._begin(reason, note, anew=priority == ASKED)
        try:
            await self._walk(walk, priority, met)
        except (KountaUnavailable, KountaThrottled) as error:
            await note_failure(self._mirror, walk.row, str(error))
            raise
        except (KountaError, ForeignListError) as error:
            await end_sweep(self._mirror, walk.row, self._clock(), str(error))
            if isinstance(error, KountaRefused) and walk.row.next_page:  # stored under another address
                return await self._sweep(reason, priority, met, note)
            raise
        await self._doubt_unlisted(walk)
        await self._doubt_unknown(walk)
        await end_sweep(self._mirror, walk.row, self._clock(), None)
        return walk.swept

    async def _begin(self, reason: str, note: NoteItem, *, anew: bool) -> _Walk:
        row = await newest_sweep(self._mirror)
        now = self._clock()
        if row is not None and row.finished_at is None and (anew or now - row.started_at > RESUMABLE):
            await end_sweep(self._mirror, row, now, "Another one was begun before it had met every page.")
            row = None
        if row is None or row.finished_at is not None:
            first = await newest_sweep(self._mirror, complete=True) is None
            row = await begin_sweep(self._mirror, BACKFILL if first else reason, now)
        live = await live_customers(self._mirror)
        first = row.reason == BACKFILL
        return _Walk(
            row,
            Swept(row.listed),
            Source.BACKFILL if first else Source.SWEEP,
            note,
            live=live,
            most_unknown=None if first else self._brake.allows(live),
            known=row.listed,  # each of those has a record by now
            pages=row.pages,
        )

    async def _walk(self, walk: _Walk, priority: int, met: Listener) -> None:
        if walk.row.next_page == END:
            return
        listed = self._kounta.pages(walk.row.next_page, before=walk.pages, priority=priority)
        async with aclosing(listed) as pages:
            progress = await self._mirror.refresh()
            async for page in pages:
                await self._take(walk, page, progress)
                met(walk.swept)
                if priority != ASKED and self._awaited:
                    raise GaveWayError
                progress = await self._mirror.refresh()  # as the next call begins
        if not walk.is_ours:
            raise walk.refuse()
        await self._add_unknown(walk, END)

    async def _take(self, walk: _Walk, page: Page, progress: Progress) -> None:
        following = page.url if page.is_short else page.next or END  # a short list was not met to its end
        if walk.pages is not None and not page.is_short:
            walk.pages += 1
        ids = {customer.id for customer in page.customers}
        ids.update(item.customer_id for item in page.unreadable if item.customer_id is not None)
        async with self._mirror.batch(ids, self._clock()) as batch:
            self._nones.update(_nones_of(page.customers))
            for customer in page.customers:
                self._take_item(walk, batch, page, customer, progress)
            for item in page.unreadable:
                self._fail(walk, batch, item.customer_id, str(item.error))
            walk.swept.pages = page.pages
            walk.swept.listed += len(page.customers) + len(page.unreadable)
            if not walk.unknown:
                await self._note_page(walk, batch, following)
        if len(walk.unknown) > (walk.most_unknown or 0):
            if walk.is_ours:
                await self._add_unknown(walk, following)
            elif len(walk.unknown) > MOST_HELD_BACK:
                raise walk.refuse()

    async def _note_page(self, walk: _Walk, batch: Batch, following: str) -> None:
        walk.row = replace(walk.row, next_page=following, listed=walk.swept.listed, pages=walk.pages)
        await note_page(batch, walk.row)

    def _take_item(
        self, walk: _Walk, batch: Batch, page: Page, customer: Customer, progress: Progress
    ) -> None:
        if customer.id in batch.erased:  # nothing is taken of it, but it is one of ours
            walk.known += 1
            walk.note(customer.id, Outcome.UNCHANGED, "")
            return
        known = customer.id in batch.records
        try:
            snapshot = self._lens.customer(
                customer,
                arrived_at=page.answered_at,
                position=progress.position,
                source=walk.source,
                listed=True,
                mobile=progress.mobile_read,
            )
        except UnreadableError as error:
            self._fail(walk, batch, customer.id, f"customer {customer.id} cannot be stored: {error}")
            return
        item = _Item(snapshot, page.asked_at, progress.revision)
        walk.known += known
        if not known and snapshot.says_deleted:
            batch.doubt(customer.id, Reason.SAID_DELETED, self._clock() + self._timing.read_after)
            walk.note(customer.id, Outcome.UNKNOWN, "")
        elif known or walk.most_unknown is None:
            self._decide(walk, batch, item)
        else:
            walk.unknown[customer.id] = item

    def _fail(self, walk: _Walk, batch: Batch, customer_id: int | None, why: str) -> None:
        """Pass over an item that cannot be used; perhaps a read of the customer can."""
        if customer_id in batch.erased:
            walk.known += 1
            walk.note(customer_id, Outcome.UNCHANGED, "")
            return
        _log.warning(f"An item of the list cannot be used: {why}", action="listed_unreadable")
        walk.swept.failed += 1
        walk.note(customer_id, Outcome.FAILED, why)
        if customer_id is None:
            return
        walk.unreadable.add(customer_id)
        batch.doubt(customer_id, Reason.FAILED, self._clock() + self._timing.read_after)
        if customer_id in batch.records:
            walk.known += 1
            batch.listed(customer_id, walk.row.id)

    def _decide(self, walk: _Walk, batch: Batch, item: _Item) -> None:
        snapshot, customer_id = item.snapshot, item.snapshot.customer_id
        if customer_id in batch.erased:
            walk.note(customer_id, Outcome.UNCHANGED, "")
            return
        record, doubt = batch.records.get(customer_id), batch.doubts.get(customer_id)
        contested = self._contested(batch, item)
        if record is not None and snapshot.says_deleted:
            decision = doubt_said_deleted(record, snapshot)
        elif record is not None and contested is not None:
            decision = replace(compare_listed(record, snapshot), doubt=contested)
        elif record is not None and not snapshot.complete:
            decision = compare_listed(record, snapshot, none_is_empty=self._none_is_empty)
        elif snapshot.complete and not self._is_fenced(batch, item):
            decision = accept(record, snapshot, self._lens.subscription)
            batch.settle(customer_id)
        else:
            decision = merge(record, snapshot, self._lens.subscription, self._lens.window)
        if walk.source is Source.SWEEP:
            count_repair(batch, decision, record, doubt)
        self._leave(batch, decision, walk.source)
        walk.swept.created += decision.kind is Kind.CREATED
        walk.swept.updated += decision.kind in {Kind.UPDATED, Kind.RESTORED}
        walk.note(customer_id, outcome_of(decision, record), "")
        batch.listed(customer_id, walk.row.id)

    @property
    def _none_is_empty(self) -> bool:
        """Whether "" in a list may be none: no list has said both, or upstream says false or "" for none."""
        return len(self._nones) < len(UNSET) or self._kounta.observations.has_seen("none-as-text")

    def _contested(self, batch: Batch, item: _Item) -> Reason | None:
        """Return the doubt of a customer that this page lists though reads say that it is gone, else None."""
        customer_id = item.snapshot.customer_id
        record, doubt = batch.records.get(customer_id), batch.doubts.get(customer_id)
        held = batch.held.get(customer_id)
        if record is None:
            return None
        if held is not None and held.why is not None:
            return Reason.CONTRADICTED
        after = self._timing.read_after
        is_later = held is not None and item.asked_at >= held.missing_at + after
        if is_later or is_listed_later(record, item.asked_at, after):
            return Reason.STILL_LISTED
        return Reason.STILL_LISTED if doubt is not None and doubt.reason is Reason.STILL_LISTED else None

    def _leave(self, batch: Batch, decision: Decision, source: Source) -> None:
        now = self._clock()
        batch.decide(decision, source=source, at=now)
        if decision.doubt is not None:
            batch.doubt(decision.record.customer_id, decision.doubt, now + self._timing.read_after)

    def _is_fenced(self, batch: Batch, item: _Item) -> bool:
        customer_id = item.snapshot.customer_id
        return is_fenced(
            batch.records.get(customer_id),
            batch.doubts.get(customer_id),
            began_at=item.asked_at,
            seen_revision=item.revision,
            timing=self._timing,
        )

    async def _add_unknown(self, walk: _Walk, following: str) -> None:
        """Take over the customers that were held back; the walk goes on at `following`."""
        items = list(walk.unknown.values())
        for start in range(0, len(items), AT_ONCE):
            part = items[start : start + AT_ONCE]
            ids = [item.snapshot.customer_id for item in part]
            async with self._mirror.batch(ids, self._clock()) as batch:
                for item in part:
                    self._decide(walk, batch, item)
                if start + AT_ONCE >= len(items):
                    await self._note_page(walk, batch, following)
        walk.added += len(items)
        walk.unknown.clear()

    async def _doubt_unlisted(self, walk: _Walk) -> None:
        after = 0
        shows = walk.row.started_at - self._timing.read_after  # a list lags as a read does
        while ids := await unlisted(self._mirror, walk.row, after, AT_ONCE):
            now = self._clock()
            async with self._mirror.batch(ids, now) as batch:
                for customer_id in ids:
                    if customer_id not in batch.records:
                        continue  # it was erased meanwhile
                    decision = compare_unlisted(batch.records[customer_id], now, shows=shows)
                    held = batch.held.get(customer_id)
                    if held is not None and held.why is not None:
                        continue  # a person decides
                    batch.decide(decision, source=walk.source, at=now)
                    if decision.doubt is not None:  # this says more than what was known against it so far
                        batch.doubt_instead(customer_id, decision.doubt, now + self._timing.read_after)
                    walk.swept.unlisted += decision.doubt is not None
            after = ids[-1]

    async def _doubt_unknown(self, walk: _Walk) -> None:
        """Doubt again who is in doubt without a record and was not listed: nothing else fences a read.

        One that was due before the list was asked for is due now, which says that this list bears out that
        it is gone; of another, something was heard so late that the list may not have shown it.
        """
        ids = [id_ for id_ in await unknown_in_doubt(self._mirror) if id_ not in walk.unreadable]
        for start in range(0, len(ids), AT_ONCE):
            part = ids[start : start + AT_ONCE]
            now = self._clock()
            async with self._mirror.batch(part, now) as batch:
                for customer_id in part:
                    doubt = batch.doubts.get(customer_id)
                    if doubt is None or customer_id in batch.records:
                        continue
                    shown = doubt.due_at <= walk.row.started_at
                    due_at = now if shown else now + self._timing.read_after
                    batch.doubt(customer_id, Reason.UNLISTED, due_at)


def _nones_of(customers: Iterable[Customer]) -> set[str | None]:
    """Return how the texts of these list items say that they are unset: none, ""."""
    return {
        value
        for customer in customers
        for name in _TEXTS & customer.model_fields_set
        if (value := getattr(customer, name)) in UNSET
    }
