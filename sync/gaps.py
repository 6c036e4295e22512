"""Gaps: when the receiver did not listen or could not store, and what the sweep after it repaired.

The receiver notes its starts, its last sign of life and the times in which it refused. Whatever of that was
not looked at yet is a gap: it asks for one sweep, in the transaction that marks it as seen, so that a kill
neither forgets the sweep nor asks twice.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

import structlog

from receiver.inbox import OVERLOADS, FailedCommits, InboxReader, Start
from receiver.inbox.writer import HEARTBEAT_SECONDS
from sync.apply import GAP
from sync.concerns import span_of
from sync.losses import Owed
from sync.mirror.gaps import GapRow, is_read, newest_gap, note_gap, note_mended, note_swept
from sync.mirror.store import Mirror

LOOK_SECONDS: Final = 5.0
"""Between two looks at what the receiver has noted."""
LISTENS_AFTER: Final = timedelta(seconds=10)
"""After the start that it notes a receiver opens its port; a sweep that began before might miss a change."""
HEARTBEAT: Final = timedelta(seconds=HEARTBEAT_SECONDS)
LOOKED_BACK: Final = timedelta(days=2)
"""So old may the last sign of a run of several be that is looked at."""
SILENT_AFTER: Final = timedelta(seconds=90)
"""Three heartbeats of a receiver: one of several that gives no sign for longer was killed."""
SEEN_ALL_ALONG: Final = timedelta(seconds=4 * LOOK_SECONDS)
"""Looks no further apart than that are one look that goes on."""
TOGETHER: Final = timedelta(seconds=60)
"""Starts within this time are one gap, and the next one is noticed no sooner: several restarts, one sweep."""

_log = structlog.get_logger()


class Outage(NamedTuple):
    """A time in which deliveries may have been lost; None: nobody knows since when."""

    what: str
    since: datetime | None
    until: datetime
    is_overload: bool = False
    """Whether too much came, and nothing else: what it costs is bounded, as that of losses is."""


def outage_of(known: Start | None, starts: Sequence[Start], failed: Sequence[FailedCommits]) -> Outage | None:
    """Say what was missed; None: nothing.

    `known` is the start that was looked at last (None: it is no longer there), `starts` are those behind it
    and `failed` the times of refusal that were not looked at, each in order. A start at a socket that was
    kept open is none.
    """
    times = [one.first_at for one in failed]
    gone = [one for one in starts if not one.kept]
    if gone:
        what = "Nobody listened"
        before = [known, *starts][starts.index(gone[0])]
        times += [before.last_sign] if before is not None else []
    elif failed:
        what = f"The receiver could not store deliveries ({failed[-1].reason})"
    else:
        return None
    ends = [*(one.started_at for one in gone), *(one.last_at for one in failed)]
    is_overload = not gone and all(one.reason in OVERLOADS for one in failed)
    return Outage(what, min(times, default=None), max(ends), is_overload)


def outage_of_several(
    runs: Sequence[Start], seen: int, mended_until: datetime | None, now: datetime
) -> Outage | None:
    """Say what was missed where several receivers share an inbox; None: nothing, as far as is known yet.

    `runs` are those that gave a sign of life lately, `seen` is the highest number that was looked at, and
    until `mended_until` everything is accounted for. A start is no gap while another receiver listened
    before and after it. One that was killed may have taken requests with it that nobody had answered.
    """
    alone = [
        run
        for run in runs
        if run.number > seen
        and not run.kept
        and not any(other.started_at < run.started_at < other.last_sign for other in runs if other is not run)
    ]
    if alone:
        before = [run.last_sign for run in runs if run.started_at < alone[0].started_at]
        return Outage("Nobody listened", max(before, default=None), alone[-1].started_at)
    killed = [
        run
        for run in runs
        if run.stopped_at is None
        and now - run.last_sign > SILENT_AFTER
        and (mended_until is None or run.last_sign > mended_until)
    ]
    if killed:
        signs = [run.last_sign for run in killed]
        return Outage("A receiver was killed", min(signs), max(signs) + HEARTBEAT)
    return None


class Gaps:
    """What the worker does about gaps."""

    def __init__(
        self,
        mirror: Mirror,
        clock: Callable[[], datetime],
        before_mended: Callable[[], Awaitable[None]],
        *,
        owes: Callable[[], Awaitable[Owed]],
    ) -> None:
        """`before_mended` is done while a gap is still open: whoever is told of gaps looks once more.

        `owes` says what is still owed because of lost deliveries, which keeps their gap open.
        """
        self._owes = owes
        self._mirror = mirror
        self._clock = clock
        self._before_mended = before_mended
        self._looked_at: datetime | None = None
        self._looking_since = clock() - HEARTBEAT
        self._to_mend = True

    async def look(self, inbox: InboxReader) -> Outage | None:
        """Look at what the receiver has noted, unless it was just done; give the gap that was noticed.

        The first look at an inbox only remembers where it begins.
        """
        now = self._clock()
        if self._looked_at is not None and abs(now - self._looked_at) < timedelta(seconds=LOOK_SECONDS):
            return None
        if self._looked_at is not None and abs(now - self._looked_at) > SEEN_ALL_ALONG:
            self._looking_since = now
        self._looked_at = now
        progress = self._mirror.progress
        newest = await inbox.newest_start()
        failed = await inbox.failed_commits(progress.failed_commits_seen)
        if newest is None:
            return None
        seen = {
            "starts_seen": newest.number,
            "failed_commits_seen": failed[-1].number if failed else progress.failed_commits_seen,
        }
        if progress.starts_seen == 0:
            await self._mirror.note(**seen)
            return None
        find = self._among_several if self._mirror.store.is_shared else self._of_the_one
        outage, seen["failed_commits_seen"] = await find(inbox, newest, failed, now)
        if outage is not None:
            await self._note(outage, now, seen, refused=sum(one.refused for one in failed))
        return outage

    async def _of_the_one(
        self, inbox: InboxReader, newest: Start, failed: Sequence[FailedCommits], now: datetime
    ) -> tuple[Outage | None, int]:
        """Find what the one receiver of a file missed, and up to where its refusals were looked at then."""
        progress = self._mirror.progress
        looked = failed[-1].number if failed else progress.failed_commits_seen
        if newest.number == progress.starts_seen and not failed:
            return None, looked
        known, starts = await _starts(inbox, progress.starts_seen)
        if await self._is_too_soon(starts, now):
            return None, looked
        outage = outage_of(known, starts, failed)
        if outage is None and known is not None and starts:
            await self._mirror.note(starts_seen=newest.number)
            return None, looked
        if outage is None:
            return Outage("The inbox is an older copy of the one before", None, newest.started_at), 0
        return outage, looked

    async def _among_several(
        self, inbox: InboxReader, newest: Start, failed: Sequence[FailedCommits], now: datetime
    ) -> tuple[Outage | None, int]:
        """Find what was missed where several receivers share an inbox, once enough of them was heard."""
        progress = self._mirror.progress
        looked = failed[-1].number if failed else progress.failed_commits_seen
        gap = await newest_gap(self._mirror)
        runs = await inbox.runs(now - LOOKED_BACK)
        fresh = [run for run in runs if run.number > progress.starts_seen]
        lately = gap is not None and gap.until is not None and abs(now - gap.noticed_at) < TOGETHER
        ages = [abs(now - run.started_at) for run in fresh]
        resumed = now - self._looking_since < HEARTBEAT  # while PostgreSQL was away nobody could give a sign
        waits = bool(ages) and min(ages) < SILENT_AFTER and max(ages) < SILENT_AFTER + TOGETHER
        if lately or resumed or waits:
            return None, looked  # others may have listened: their next sign will tell
        outage = outage_of_several(runs, progress.starts_seen, gap.until if gap else None, now)
        outage = outage or outage_of(None, (), failed)
        if outage is None and fresh:
            await self._mirror.note(starts_seen=newest.number)
        return outage, looked

    async def _note(self, outage: Outage, now: datetime, seen: Mapping[str, int], *, refused: int) -> None:
        """Note a gap, that a sweep is due for it, and what of the receiver was looked at.

        An overload is a loss like others: one sweep an hour and one round of refresh a day (decision 0069).
        """
        due = {"lost_at": now} if outage.is_overload else {"sweep_due": GAP}
        await note_gap(self._mirror, outage.what, now, since=outage.since, until=outage.until, **due, **seen)
        _log.warning(
            f"{outage.what}{span_of(outage.since, outage.until)}: a sweep will find what was missed.",
            action="gap_noticed",
            refused=refused,
        )

    async def swept(self) -> None:
        """Note that the sweep that was due is complete."""
        self._to_mend |= await note_swept(self._mirror, self._clock())

    def note_open(self) -> None:
        """Note that a gap is open that was swept elsewhere."""
        self._to_mend = True

    async def mend(self) -> GapRow | None:
        """Once everything is read that the sweep found doubtful, say what was repaired."""
        if not self._to_mend:
            return None
        gap = await newest_gap(self._mirror)
        if gap is None or gap.swept_at is None or gap.mended_at is not None:
            self._to_mend = False
            return None
        if not await is_read(self._mirror, gap) or (await self._owes()).is_anything:
            return None
        await self._before_mended()
        repaired = await note_mended(self._mirror, gap, self._clock())
        self._to_mend = False
        said = ", ".join(f"{count} {what}" for what, count in repaired.items())
        _log.info(
            f"{gap.what}{span_of(gap.since, gap.until)}; what was missed is repaired: {said}.",
            action="gap_mended",
            **repaired,
        )
        return gap

    async def _is_too_soon(self, starts: Sequence[Start], now: datetime) -> bool:
        """Say whether to wait: for a receiver that has just started, or for more restarts in a row."""
        if (
            starts
            and abs(now - starts[-1].started_at) < LISTENS_AFTER  # a clock may have stepped back since
            and abs(now - starts[0].started_at) < TOGETHER
        ):
            return True
        newest = await newest_gap(self._mirror)
        return newest is not None and newest.until is not None and abs(now - newest.noticed_at) < TOGETHER


async def _starts(inbox: InboxReader, seen: int) -> tuple[Start | None, list[Start]]:
    """Give the start that was seen last, if it is there, and those behind it."""
    starts = await inbox.starts(seen - 1)
    if starts and starts[0].number == seen:
        return starts[0], starts[1:]
    return None, starts
