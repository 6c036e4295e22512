"""What `status` says: a sentence first, what needs attention and the command for it, then the figures."""

import asyncio
import shutil
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from receiver.database import StoreMissing, files_of, utc_text
from receiver.inbox import InboxReader, Refusal, Start
from receiver.inbox.store import Spooled
from receiver.integrity import Damage, damages_in, is_damage
from receiver.local import connect_locally
from receiver.spool import look
from sync.concerns import RECEIVER_LATE, Concern, ago, concerns_of, many, seconds_of
from sync.inbox import InboxView
from sync.kounta import BasicAuth, OAuth
from sync.losses import Owed, owed
from sync.merge.decisions import Verdict
from sync.mirror.alerts import Alert, open_alerts
from sync.mirror.counts import recent_counts
from sync.mirror.figures import Figures, figures_of
from sync.mirror.gaps import GapRow, newest_gap
from sync.mirror.hours import deliveries_by_hour, ever_delivered
from sync.mirror.lease import holder_of
from sync.mirror.queue import Problem, problems_of
from sync.mirror.reader import MirrorReader
from sync.mirror.registration import registration_of
from sync.mirror.store import OWNER
from sync.mirror.sweeps import SweepRow, newest_sweep
from sync.mirror.tokens import sealed_tokens
from sync.reconcile.drift import NO_DRIFT, Drift, drift_of
from sync.registration.plan import Registration
from sync.settings import MirrorSettings
from sync.silence import WEEK, WEEKS, Silence, silence_of

PROBLEMS_SHOWN: Final = 10
"""Customers whose reads fail that are named, each with the reason."""
LOOK_SECONDS: Final = 1.0
"""For so long a command reads the files through by itself, beside what their owners have noted."""
LONG_LOOK_SECONDS: Final = 20.0
"""The same once damage has been met."""


@dataclass(frozen=True, slots=True)
class Pending:
    """Deliveries without a verdict, and what the receiver has counted."""

    count: int = 0
    oldest: datetime | None = None
    accepted: tuple[int, int] | None = None
    """Deliveries accepted, counted before and after the pending ones; None: not of this inbox's mirror."""
    newest: datetime | None = None
    refused: tuple[Refusal, ...] = ()
    failed_commits_at: datetime | None = None
    receiver: Start | None = None
    """The newest run of the receiver, with its last sign of life."""


@dataclass(frozen=True, slots=True)
class Status:
    """The state of one company's mirror."""

    now: datetime
    company_id: int
    running: bool
    has_inbox: bool
    has_mirror: bool
    figures: Figures | None
    pending: Pending
    newest_sweep: SweepRow | None
    complete_sweep: SweepRow | None
    requests_per_minute: float
    registration: Registration | None = None
    """The webhooks that a person has asked for; None: nobody has."""
    public_url: str | None = None
    drift: Drift = NO_DRIFT
    gap: GapRow | None = None
    """The newest one, mended or not."""
    silence: Silence | None = None
    heard: bool = True
    """Whether a delivery of Kounta's own has ever verified; pings of `webhooks test` are none."""
    alerts: tuple[Alert, ...] = ()
    """Those that are open, as somebody was told or will be."""
    spooled: Spooled | None = None
    """What waits on this machine for PostgreSQL; None: nothing ever did."""
    problem_count: int = 0
    """Customers whose reads have failed again and again."""
    problems: tuple[Problem, ...] = ()
    """Some of them."""
    owes: Owed = Owed()  # noqa: RUF009 - it never changes
    """What is owed because of lost deliveries that name no customer."""
    damage: tuple[Damage, ...] = ()
    """Files of stores that are damaged or were replaced; nothing of those was read."""
    disk_left: int | None = None
    """Bytes that the disk of the data directory still takes; None: there is no such directory."""

    def concerns(self) -> list[Concern]:
        """Say what needs attention, the worst first."""
        return concerns_of(self)

    def sentence(self) -> str:
        """Say in one line how the mirror is."""
        concerns = self.concerns()
        if concerns:
            worst = concerns[0]
            more = f" ({len(concerns) - 1} more below)" if len(concerns) > 1 else ""
            return f"{worst.sentence}{f' → {worst.action}' if worst.action else ''}{more}"
        figures = self.figures
        live = many(figures.live if figures else 0, "customer", "customers")
        newest = self.pending.newest
        heard = f"newest delivery {ago(self.now - newest)} ago" if newest else "no delivery yet"
        return f"OK, {live}, {heard}."

    def as_json(self) -> dict[str, Any]:
        """Give the whole as the command prints it with --json; times are ISO 8601 in UTC."""
        figures = self.figures
        verdicts = figures.verdicts if figures else {}
        doubts = figures.doubts if figures else {}
        progress = figures.progress if figures else None
        oldest, receiver = self.pending.oldest, self.pending.receiver
        return {
            "sentence": self.sentence(),
            "attention": [
                {"severity": one.severity, "sentence": one.sentence, "action": one.action}
                for one in self.concerns()
            ],
            "worker_running": self.running,
            "disk_left_bytes": self.disk_left,
            "damage": [
                {"file": one.file, "finding": one.finding, "noticed_at": _text(one.noticed_at)}
                for one in self.damage
            ],
            "deliveries": {
                "pending": self.pending.count,
                **{verdict.value: verdicts.get(verdict.value, 0) for verdict in Verdict},
            },
            "customers": {
                name: getattr(figures, name) if figures else 0
                for name in ("live", "deleted", "verified", "partial")
            },
            "verifications": {
                "due": sum(doubts.values()),
                "by_reason": doubts,
                "failing": self.problem_count,
                "problems": [
                    {
                        "customer_id": one.customer_id,
                        "reason": one.failure,
                        "tries": one.failures,
                        "next_try_at": _text(one.not_before),
                    }
                    for one in self.problems
                ],
            },
            "held_deletes": figures.held_deletes if figures else 0,
            "held_for_decision": figures.held_for_person if figures else 0,
            "sweep": {
                "last_at": _text(self.complete_sweep.finished_at if self.complete_sweep else None),
                "running": self.newest_sweep is not None and self.newest_sweep.finished_at is None,
                "complete": self.newest_sweep is not None and self.newest_sweep.complete,
            },
            "receiver": None if receiver is None else _receiver_json(receiver),
            "worker_alive_at": _text(progress.alive_at if progress else None),
            "gap": None if self.gap is None else _gap_json(self.gap),
            "silence": None
            if self.silence is None
            else {"since": _text(self.silence.since), "usual": round(self.silence.usual, 1)},
            "alerts": [{"name": one.name, "since": _text(one.since)} for one in self.alerts],
            "drift": self.drift.as_json(),
            "webhook_loss": self.drift.webhook_loss,
            "freshness": {
                "oldest_pending_seconds": seconds_of(self.now - oldest) if oldest else 0.0,
                "oldest_verified_at": _text(figures.oldest_verified_at if figures else None),
            },
            "budget": {
                "requests_per_minute": self.requests_per_minute,
                "last_call_at": _text(progress.last_call_at if progress else None),
                "closed_until": _text(progress.closed_until if progress else None),
            },
            "registration": None
            if self.registration is None
            else {
                "public_url": self.registration.public_url,
                "checked_at": _text(self.registration.checked_at),
                "failure": self.registration.failure,
            },
            "spooled": None
            if self.spooled is None
            else {"count": self.spooled.count, "since": _text(self.spooled.since)},
            "refused": {
                one.reason: {"count": one.count, "since": _text(one.first_at), "last_at": _text(one.last_at)}
                for one in self.pending.refused
            },
        }


async def status_of(settings: MirrorSettings, now: datetime) -> Status:
    """Look at both files, as they are. One that is missing or damaged is reported; other failures raise."""
    client = connect_locally(settings.data_dir, OWNER)
    if client is not None:
        await client.aclose()
    running = client is not None
    files = files_of(settings.place)
    damage = await asyncio.to_thread(damages_in, files, now, seconds=LOOK_SECONDS)
    try:
        return await _status_of(settings, now, running=running, damage=damage)
    except Exception as error:
        if not is_damage(error):
            raise
        found = await asyncio.to_thread(damages_in, files, now, seconds=LONG_LOOK_SECONDS)
        if len(found) <= len(damage):
            raise
        return await _status_of(settings, now, running=running, damage=found)


async def _status_of(
    settings: MirrorSettings, now: datetime, *, running: bool, damage: tuple[Damage, ...]
) -> Status:
    async with AsyncExitStack() as stack:
        mirror = None
        if not _is_of("mirror.db", damage):
            with suppress(StoreMissing):
                reading = MirrorReader.look(settings.place, settings.company_id)
                mirror = await stack.enter_async_context(reading)
        inbox = await stack.enter_async_context(InboxView(settings.place))
        return await status_in(mirror, inbox, settings, now, running=running, damage=damage)


async def status_in(
    mirror: MirrorReader | None,
    inbox: InboxView,
    settings: MirrorSettings,
    now: datetime,
    *,
    running: bool,
    damage: tuple[Damage, ...] | None = None,
) -> Status:
    """Look at stores that are open; None: there is no mirror. `running`: a worker is known to run.

    `damage` is what is wrong with their files; None: what is noted of it.
    """
    if damage is None:
        damage = await asyncio.to_thread(damages_in, files_of(settings.place), now)
    no_mirror, no_inbox = (_is_of(name, damage) for name in ("mirror.db", "inbox.db"))
    if no_mirror:
        mirror = None
    figures = newest = complete = registration = tokens = holder = gap = None
    drift = NO_DRIFT
    heard = False
    counts: dict[datetime, int] = {}
    alerts: list[Alert] = []
    failing: tuple[int, list[Problem]] = (0, [])
    owes = Owed()
    if mirror is not None:
        figures = await figures_of(mirror)
        newest = await newest_sweep(mirror)
        complete = await newest_sweep(mirror, complete=True)
        registration = await registration_of(mirror)
        tokens = await sealed_tokens(mirror)
        drift = drift_of(await recent_counts(mirror, now))
        gap = await newest_gap(mirror)
        alerts = await open_alerts(mirror)
        holder = await holder_of(mirror)
        failing = await problems_of(mirror, PROBLEMS_SHOWN)
        heard = await ever_delivered(mirror)
        if figures is not None:
            owes = owed(figures.progress, complete, now, settings.timing)
        if figures is not None and figures.last_delivery_at is not None:
            counts = await deliveries_by_hour(mirror, figures.last_delivery_at - (WEEKS + 1) * WEEK)
    reader = None if no_inbox else await inbox.reader()
    pending = Pending() if reader is None else await _pending(reader, settings.company_id, figures, now)
    heard = heard or (reader is not None and await reader.has_deliveries(settings.company_id))
    auth = BasicAuth if tokens is None else OAuth
    return Status(
        now=now,
        company_id=settings.company_id,
        running=running or holder is not None,
        has_inbox=reader is not None or no_inbox,
        has_mirror=mirror is not None or no_mirror,
        figures=figures,
        pending=pending,
        newest_sweep=newest,
        complete_sweep=complete,
        requests_per_minute=settings.requests_per_minute or auth.calls_per_minute,
        registration=registration,
        public_url=settings.public_url,
        drift=drift,
        gap=gap,
        silence=silence_of(counts, pending.newest or (figures.last_delivery_at if figures else None), now),
        heard=heard,
        alerts=tuple(alerts),
        spooled=await look(settings.data_dir, settings.company_id),
        problem_count=failing[0],
        problems=tuple(failing[1]),
        owes=owes,
        disk_left=left_on_disk(settings.data_dir),
        damage=damage,
    )


def _is_of(name: str, damage: tuple[Damage, ...]) -> bool:
    return any(one.file == name for one in damage)


async def _pending(reader: InboxReader, company_id: int, figures: Figures | None, now: datetime) -> Pending:
    """Look at what came behind `figures`; while they are of another inbox, all of this one is pending."""
    known = figures is not None and figures.progress.inbox_id in {None, await reader.identity()}
    position = figures.progress.position if figures is not None and known else 0
    before = await reader.accepted(company_id)
    count, oldest = await reader.pending(company_id, position)
    after = await reader.accepted(company_id)
    failed = await reader.failed_commits()
    listening = [run for run in await reader.runs(now - RECEIVER_LATE) if run.stopped_at is None]
    return Pending(
        count,
        oldest,
        (before, after) if known else None,
        await reader.newest(company_id),
        tuple(await reader.refusals(company_id)),
        failed[-1].last_at if failed else None,
        listening[-1] if listening else await reader.newest_start(),
    )


def _receiver_json(start: Start) -> dict[str, Any]:
    return {
        "started_at": _text(start.started_at),
        "stopped_at": _text(start.stopped_at),
        "last_sign_at": _text(start.last_sign),
    }


def _gap_json(gap: GapRow) -> dict[str, Any]:
    times = ("since", "until", "noticed_at", "swept_at", "mended_at")
    repaired = {name: getattr(gap, name) for name in ("created", "updated", "deleted")}
    return {"what": gap.what, **{name: _text(getattr(gap, name)) for name in times}, **repaired}


def left_on_disk(directory: Path) -> int | None:
    """Give the bytes that the disk of a directory still takes; None: it cannot be looked at."""
    try:
        return shutil.disk_usage(directory).free
    except OSError:
        return None


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else utc_text(moment)
