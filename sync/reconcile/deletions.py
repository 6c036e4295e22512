"""The brake: deletions that nothing but a 404 says are proven, gathered, and held when they are too many."""

import asyncio
import re
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import floor
from typing import Final, Self

import structlog

from sync.kounta import Kounta, KountaAccessLost, Page
from sync.merge.contested import STILL_LISTED, keep_listed
from sync.merge.customers import Subscription
from sync.merge.decisions import accept_missing, accept_missing_unknown
from sync.merge.deleted import says_deleted
from sync.merge.doubts import Reason, Timing, is_fenced
from sync.merge.snapshots import Source
from sync.mirror.batch import Batch
from sync.mirror.deletions import HeldDelete, deletions_since, held_deletes, live_customers
from sync.mirror.store import Mirror
from sync.reconcile.drift import count_repair

PERIOD: Final = timedelta(hours=24)
AT_LEAST: Final = 11
AT_ONCE: Final = 500
OTHER_CUSTOMER: Final = "reads answer another customer, and the list has left it out"
"""Why a person has to decide on a deletion."""
_BRAKE: Final = re.compile(r"(\d{1,9})\s*(%?)")

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Brake:
    """How many deletions by 404 may happen in 24 h: a share of the live customers, or a number."""

    amount: int = 5
    is_share: bool = True

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read "5%" or "20"; raises ValueError with a sentence for anything else."""
        match = _BRAKE.fullmatch(text.strip())
        if match is None or (match[2] and int(match[1]) > 100):  # noqa: PLR2004 - of a hundred
            raise ValueError(f"expected a share such as 5% or a number such as 20, not {text!r}")
        return cls(int(match[1]), is_share=bool(match[2]))

    def allows(self, live: int) -> int:
        """Say how many of `live` customers may go; never fewer than AT_LEAST."""
        return max(AT_LEAST, floor(live * self.amount / 100) if self.is_share else self.amount)


@dataclass(frozen=True, slots=True)
class Missing:
    """A read that was answered 404: when it began and ended, what was known then, which call it was."""

    began_at: datetime
    answered_at: datetime
    position: int
    revision: int
    sent: int
    first_at: datetime | None = None
    """When the first of the reads was answered that say so; None: this one."""
    bears: bool = False
    """Of a customer without a record: whether a delivery proves that there was such a customer."""


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of the gathered deletions of live customers, by their ids."""

    deleted: frozenset[int] = frozenset()
    held: frozenset[int] = frozenset()


class Deletions:
    """Turns proven 404s into tombstones, all of them or, above the brake, none."""

    def __init__(
        self,
        mirror: Mirror,
        kounta: Kounta,
        brake: Brake,
        *,
        subscription: Subscription,
        timing: Timing,
        clock: Callable[[], datetime],
    ) -> None:
        self._mirror = mirror
        self._kounta = kounta
        self._brake = brake
        self._subscription = subscription
        self._timing = timing
        self._clock = clock
        self._missing: dict[int, Missing] = {}
        """What this process was told; a 404 of an earlier one holds, but is asked for again to delete."""
        self._told = (0, 0)
        self._proving = asyncio.Lock()

    def note_missing(self, customer_id: int, missing: Missing) -> None:
        """Remember the call that was answered 404: only a later 200 proves that access was not lost."""
        self._missing[customer_id] = missing

    async def settle(self, allowed: int = 0, since: datetime | None = None) -> Settled:
        """Apply what was gathered if the brake lets it.

        `allowed` is how many a person lets go in any case, of those that were read after `since`. Raises
        KountaError when the call that would prove access is refused, too: then nothing is deleted.
        """
        waiting = await held_deletes(self._mirror)
        names = {one.customer_id for one in waiting}
        self._missing = {key: missing for key, missing in self._missing.items() if key in names}
        if not waiting:
            self._told = (0, 0)
            return Settled()
        page = await self._prove_access()
        if page is not None:
            listed = await self._keep_listed(page, waiting)
            waiting = [one for one in waiting if one.customer_id not in listed]
        live = [one for one in waiting if one.live]
        braked = [one for one in live if one.why is None]
        recent = await deletions_since(self._mirror, self._counted_from())
        limit = self._brake.allows(await live_customers(self._mirror))
        going, left = braked, allowed
        if len(braked) + recent > limit:
            going = [one for one in braked if self._was_read(one, since)][:allowed]
            left -= len(going)
        for_person = [one for one in live if one.why is not None]
        going = going + [one for one in for_person if self._was_read(one, since)][:left]
        confirmed = [one for one in waiting if not one.live]
        await self._read_again([one for one in going + confirmed if one.customer_id not in self._missing])
        deleted = await self._apply([one for one in going + confirmed if one.customer_id in self._missing])
        if allowed and deleted:
            await self._mirror.note(deletes_allowed_at=self._clock())
        held = frozenset(one.customer_id for one in live) - frozenset(one.customer_id for one in going)
        undecided = sum(one.customer_id in held for one in for_person)
        self._tell(len(held) - undecided, undecided, recent, limit)
        return Settled(deleted, held)

    async def ask_again(self, number: int) -> None:
        """Ask for another read of up to `number` held deletions, the oldest."""
        oldest = [one for one in await held_deletes(self._mirror) if one.live][:number]
        for start in range(0, len(oldest), AT_ONCE):
            part = oldest[start : start + AT_ONCE]
            now = self._clock()
            async with self._mirror.batch([one.customer_id for one in part], now) as batch:
                for one in part:
                    batch.doubt(one.customer_id, Reason.UNLISTED, now, asked=True)
                    if one.why is not None:
                        batch.remember_other(one.customer_id, one.missing_at)

    async def distrust(self) -> None:
        """Doubt every 404 that no later 200 has proven: access is lost, and it may have been lost then."""
        waiting = await held_deletes(self._mirror)
        await self._read_again(
            [one for one in waiting if one.why is None and self._is_unproven(one.customer_id)]
        )

    def _counted_from(self) -> datetime:
        """Say from when deletions count for the brake: a day back, or when a person last let some go."""
        allowed_at = self._mirror.progress.deletes_allowed_at
        day = self._clock() - PERIOD
        return day if allowed_at is None else max(day, allowed_at)

    def _is_unproven(self, customer_id: int) -> bool:
        missing = self._missing.get(customer_id)
        return missing is not None and not self._kounta.proven_after(missing.sent)

    def _was_read(self, one: HeldDelete, since: datetime | None) -> bool:
        missing = self._missing.get(one.customer_id)
        return missing is not None and since is not None and missing.began_at >= since

    async def _prove_access(self) -> Page | None:
        """Prove access by a later call of the same company and credentials; return it if it was made."""
        async with self._proving:
            if not any(self._is_unproven(customer_id) for customer_id in self._missing):
                return None
            return await self._ask_for_proof()

    async def prove_access_since(self, sent: int) -> None:
        """See to it that a call begun after `Read.sent` gave 200: one serves all that wait for one.

        Raises KountaError when none does.
        """
        async with self._proving:
            if not self._kounta.proven_after(sent):
                await self._ask_for_proof()

    async def _ask_for_proof(self) -> Page:
        try:
            async with aclosing(self._kounta.pages()) as pages:
                return await anext(pages)
        except KountaAccessLost:
            await self.distrust()
            raise

    async def _keep_listed(self, page: Page, waiting: Sequence[HeldDelete]) -> frozenset[int]:
        """Keep whom this page, asked for after reads said that they are gone, still lists; return their ids.

        A page that lags may show what was: who was first missed within the read lag before it is read again.
        """
        listed = {one.id for one in page.customers if not says_deleted(one.model_extra)}
        kept = [one.customer_id for one in waiting if one.live and one.customer_id in listed]
        if kept:
            now = self._clock()
            async with self._mirror.batch(kept, now) as batch:
                for customer_id in kept:
                    record, missing = batch.records.get(customer_id), self._missing.get(customer_id)
                    if record is None:
                        continue
                    first_at = None if missing is None else missing.first_at or missing.answered_at
                    if first_at is None or page.asked_at < first_at + self._timing.read_after:
                        batch.doubt(customer_id, Reason.CONTRADICTED, now + self._timing.read_after)
                        continue
                    batch.decide(keep_listed(record, now), source=Source.VERIFICATION, at=now)
                    why = f"customer {customer_id}: {STILL_LISTED}"
                    batch.make_problem(customer_id, Reason.STILL_LISTED, why, now, self._timing)
        return frozenset(kept)

    async def _read_again(self, waiting: Sequence[HeldDelete]) -> None:
        for start in range(0, len(waiting), AT_ONCE):
            part = waiting[start : start + AT_ONCE]
            now = self._clock()
            async with self._mirror.batch([one.customer_id for one in part], now) as batch:
                for one in part:
                    batch.doubt(
                        one.customer_id, _reason_to_read(one, self._missing.get(one.customer_id)), now
                    )

    async def _apply(self, going: Sequence[HeldDelete]) -> frozenset[int]:
        deleted: set[int] = set()
        for start in range(0, len(going), AT_ONCE):
            ids = [one.customer_id for one in going[start : start + AT_ONCE]]
            now = self._clock()
            async with self._mirror.batch(ids, now) as batch:
                for customer_id in ids:
                    record = batch.records.get(customer_id)
                    missing = self._missing[customer_id]
                    if customer_id in batch.doubts:
                        continue  # it is to be read again in any case
                    if record is None:
                        self._settle_unknown(batch, customer_id, missing)
                        continue
                    if is_fenced(
                        record,
                        None,
                        began_at=missing.began_at,
                        seen_revision=missing.revision,
                        timing=self._timing,
                    ):
                        batch.doubt(customer_id, Reason.CONTRADICTED, now + self._timing.read_after)
                        continue
                    decision = accept_missing(
                        record, arrived_at=missing.answered_at, position=missing.position
                    )
                    count_repair(batch, decision, record, None)
                    batch.decide(decision, source=Source.VERIFICATION, at=now)
                    batch.settle(customer_id)
                    if decision.kind is not None:
                        deleted.add(customer_id)
        return frozenset(deleted)

    def _settle_unknown(self, batch: Batch, customer_id: int, missing: Missing) -> None:
        """Let go of a customer without a record; a tombstone stays of one that a delivery has proven."""
        if missing.bears:
            decision = accept_missing_unknown(
                customer_id, self._subscription, arrived_at=missing.answered_at, position=missing.position
            )
            batch.decide(decision, source=Source.VERIFICATION, at=self._clock())
        batch.settle(customer_id)

    def _tell(self, held: int, undecided: int, recent: int, limit: int) -> None:
        """Say how many are held, once for each number; `undecided`: those that a person has to decide on."""
        if held and held != self._told[0]:
            _log.warning(
                f"{held} deletions are held: with {recent} in the last 24 h they are more than {limit}. "
                f"If they are right: kounta-mirror reconcile --allow-deletes {held}",
                action="deletes_held",
            )
        if undecided and undecided != self._told[1]:
            _log.warning(
                f"{undecided} deletions need a decision: {OTHER_CUSTOMER}. "
                f"If they are right: kounta-mirror reconcile --allow-deletes {held + undecided}",
                action="deletes_held",
            )
        self._told = (held, undecided)


def _reason_to_read(one: HeldDelete, missing: Missing | None) -> Reason:
    if one.known:
        return Reason.CONTRADICTED if one.live else Reason.CONFIRMATION
    return Reason.FAILED if missing is not None and missing.bears else Reason.UNREADABLE
