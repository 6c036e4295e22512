"""Sweeps: a walk of upstream's list, which finds what no webhook said."""

from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

import structlog

from sync.kounta import Customer, Kounta, KountaError, KountaThrottled, KountaUnavailable, Page
from sync.merge.decisions import Decision, Kind, accept, compare_listed, compare_unlisted, merge
from sync.merge.doubts import SWEEP, Timing, is_fenced
from sync.merge.snapshots import Lens, Snapshot, Source, UnreadableError
from sync.mirror.batch import Batch
from sync.mirror.deletions import live_customers
from sync.mirror.progress import Progress
from sync.mirror.store import Mirror
from sync.mirror.sweeps import (
    SweepRow,
    begin_sweep,
    end_sweep,
    newest_sweep,
    note_failure,
    note_page,
    unlisted,
)
from sync.reconcile.deletions import Brake

BACKFILL: Final = "backfill"
AT_ONCE: Final = 500

_log = structlog.get_logger()


class ForeignListError(Exception):
    """A list that is mostly of customers this mirror does not know: another company's, it seems."""


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


@dataclass(frozen=True, slots=True)
class _Item:
    """One customer of a page: what was listed, when the page was asked for, the newest doubt at that time."""

    snapshot: Snapshot
    asked_at: datetime
    revision: int


@dataclass(slots=True)
class _Walk:
    """A sweep under way. Unknown customers are held back until most of the list is known to be ours."""

    row: SweepRow
    swept: Swept
    source: Source
    most_unknown: int | None
    """How many unknown customers are taken over unseen; None: any number, in the first sweep."""
    unknown: list[_Item] = field(default_factory=list)
    known: int = 0
    added: int = 0


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

    async def sweep(
        self, reason: str, *, priority: int = SWEEP, met: Callable[[Swept], None] = lambda _: None
    ) -> Swept:
        """Walk the whole list, from where an interrupted sweep stopped if there is one.

        Raises KountaError or ForeignListError when it could not be completed. Where upstream was only
        unavailable, the next sweep goes on at the page that failed; else it starts anew.
        """
        walk = await self._begin(reason)
        try:
            await self._walk(walk, priority, met)
        except (KountaUnavailable, KountaThrottled) as error:
            await note_failure(self._mirror, walk.row, str(error))
            raise
        except (KountaError, ForeignListError) as error:
            await end_sweep(self._mirror, walk.row, self._clock(), str(error))
            raise
        await self._doubt_unlisted(walk)
        await end_sweep(self._mirror, walk.row, self._clock(), None)
        return walk.swept

    async def _begin(self, reason: str) -> _Walk:
        row = await newest_sweep(self._mirror)
        if row is None or row.finished_at is not None:
            first = await newest_sweep(self._mirror, complete=True) is None
            row = await begin_sweep(self._mirror, BACKFILL if first else reason, self._clock())
        if row.reason == BACKFILL:
            return _Walk(row, Swept(row.listed), Source.BACKFILL, None)
        most_unknown = self._brake.allows(await live_customers(self._mirror))
        return _Walk(row, Swept(row.listed), Source.SWEEP, most_unknown)

    async def _walk(self, walk: _Walk, priority: int, met: Callable[[Swept], None]) -> None:
        async with aclosing(self._kounta.pages(walk.row.next_page, priority=priority)) as pages:
            progress = self._mirror.progress
            async for page in pages:
                await self._take(walk, page, progress)
                met(walk.swept)
                progress = self._mirror.progress  # as the next call begins
        await self._add_unknown(walk, None)

    async def _take(self, walk: _Walk, page: Page, progress: Progress) -> None:
        now = self._clock()
        async with self._mirror.batch([customer.id for customer in page.customers], now) as batch:
            for customer in page.customers:
                self._take_item(walk, batch, page, customer, progress)
            walk.swept.pages = page.pages
            walk.swept.listed += len(page.customers)
            if not walk.unknown:
                walk.row = replace(walk.row, next_page=page.next, listed=walk.swept.listed)
                await note_page(batch, walk.row)
        if walk.most_unknown is not None and len(walk.unknown) > walk.most_unknown:
            if walk.added + len(walk.unknown) > walk.known:
                raise ForeignListError(
                    f"{walk.added + len(walk.unknown)} of {walk.swept.listed} listed customers are unknown: "
                    "this looks like another company's list, and nothing of it was taken over. "
                    "Check KOUNTA_COMPANY_ID and the credentials."
                )
            await self._add_unknown(walk, page)

    def _take_item(
        self, walk: _Walk, batch: Batch, page: Page, customer: Customer, progress: Progress
    ) -> None:
        try:
            snapshot = self._lens.customer(
                customer,
                arrived_at=page.answered_at,
                position=progress.position,
                source=walk.source,
                listed=True,
            )
        except UnreadableError as error:
            _log.warning(
                f"Customer {customer.id} of the list cannot be stored: {error}", action="listed_unreadable"
            )
            walk.swept.failed += 1
            if customer.id in batch.records:
                batch.listed(customer.id, walk.row.id)
            return
        item = _Item(snapshot, page.asked_at, progress.revision)
        known = customer.id in batch.records
        walk.known += known
        if known or walk.most_unknown is None:
            self._decide(walk, batch, item)
        else:
            walk.unknown.append(item)

    def _decide(self, walk: _Walk, batch: Batch, item: _Item) -> None:
        snapshot, customer_id = item.snapshot, item.snapshot.customer_id
        record = batch.records.get(customer_id)
        if record is not None and not snapshot.complete:
            decision = compare_listed(record, snapshot)
        elif snapshot.complete and not self._is_fenced(batch, item):
            decision = accept(record, snapshot, self._lens.subscription)
            batch.settle(customer_id)
        else:
            decision = merge(record, snapshot, self._lens.subscription, self._lens.window)
        self._leave(batch, decision, walk.source)
        walk.swept.created += decision.kind is Kind.CREATED
        walk.swept.updated += decision.kind in {Kind.UPDATED, Kind.RESTORED}
        batch.listed(customer_id, walk.row.id)

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

    async def _add_unknown(self, walk: _Walk, page: Page | None) -> None:
        """Take over the customers that were held back; `page` is the last one met, None at the end."""
        while walk.unknown:
            items, walk.unknown = walk.unknown[:AT_ONCE], walk.unknown[AT_ONCE:]
            async with self._mirror.batch(
                [one.snapshot.customer_id for one in items], self._clock()
            ) as batch:
                for item in items:
                    self._decide(walk, batch, item)
                walk.added += len(items)
                if page is not None and not walk.unknown:
                    walk.row = replace(walk.row, next_page=page.next, listed=walk.swept.listed)
                    await note_page(batch, walk.row)

    async def _doubt_unlisted(self, walk: _Walk) -> None:
        after = 0
        while ids := await unlisted(self._mirror, walk.row, after, AT_ONCE):
            now = self._clock()
            async with self._mirror.batch(ids, now) as batch:
                for customer_id in ids:
                    self._leave(batch, compare_unlisted(batch.records[customer_id], now), walk.source)
            walk.swept.unlisted += len(ids)
            after = ids[-1]
