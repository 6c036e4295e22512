"""What `status` says: a sentence first, what needs attention and the command for it, then the figures."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from receiver.database import StoreMissing, utc_text
from receiver.inbox import InboxReader, Refusal
from receiver.local import connect_locally
from sync.apply import GAP
from sync.inbox import InboxView
from sync.merge.decisions import Verdict
from sync.mirror.figures import Figures, figures_of
from sync.mirror.reader import MirrorReader
from sync.mirror.registration import registration_of
from sync.mirror.store import OWNER
from sync.mirror.sweeps import SweepRow, newest_sweep
from sync.registration.plan import Registration
from sync.settings import MirrorSettings

WARNING: Final = 1
CRITICAL: Final = 2
"""As monitors know them, from Nagios on."""

LATE: Final = timedelta(minutes=1)
VERY_LATE: Final = timedelta(minutes=10)
RECENTLY: Final = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Concern:
    """Something that needs attention: how bad, what it is, and what to do."""

    severity: int
    sentence: str
    action: str | None = None


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

    def concerns(self) -> list[Concern]:
        """Say what needs attention, the worst first."""
        return sorted(
            [
                *self._of_processes(),
                *self._of_deliveries(),
                *self._of_upstream(),
                *self._of_registration(),
                *self._of_refusals(),
            ],
            key=lambda concern: -concern.severity,
        )

    def sentence(self) -> str:
        """Say in one line how the mirror is."""
        concerns = self.concerns()
        if concerns:
            worst = concerns[0]
            more = f" ({len(concerns) - 1} more below)" if len(concerns) > 1 else ""
            return f"{worst.sentence}{f' → {worst.action}' if worst.action else ''}{more}"
        figures = self.figures
        live = _many(figures.live if figures else 0, "customer", "customers")
        newest = self.pending.newest
        heard = f"newest delivery {_ago(self.now - newest)} ago" if newest else "no delivery yet"
        return f"OK, {live}, {heard}."

    def as_json(self) -> dict[str, Any]:
        """Give the whole as the command prints it with --json; times are ISO 8601 in UTC."""
        figures = self.figures
        verdicts = figures.verdicts if figures else {}
        doubts = figures.doubts if figures else {}
        progress = figures.progress if figures else None
        oldest = self.pending.oldest
        return {
            "sentence": self.sentence(),
            "attention": [
                {"severity": one.severity, "sentence": one.sentence, "action": one.action}
                for one in self.concerns()
            ],
            "worker_running": self.running,
            "deliveries": {
                "pending": self.pending.count,
                **{verdict.value: verdicts.get(verdict.value, 0) for verdict in Verdict},
            },
            "customers": {
                name: getattr(figures, name) if figures else 0
                for name in ("live", "deleted", "verified", "partial")
            },
            "verifications": {"due": sum(doubts.values()), "by_reason": doubts},
            "held_deletes": figures.held_deletes if figures else 0,
            "sweep": {
                "last_at": _text(self.complete_sweep.finished_at if self.complete_sweep else None),
                "running": self.newest_sweep is not None and self.newest_sweep.finished_at is None,
                "complete": self.newest_sweep is not None and self.newest_sweep.complete,
            },
            "drift": {"rate": None, "low": None, "high": None},
            "webhook_loss": None,
            "freshness": {
                "oldest_pending_seconds": (self.now - oldest).total_seconds() if oldest else 0.0,
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
            "refused": {
                one.reason: {"count": one.count, "since": _text(one.first_at), "last_at": _text(one.last_at)}
                for one in self.pending.refused
            },
        }

    def _of_processes(self) -> list[Concern]:
        found = []
        if not self.running:
            found.append(Concern(CRITICAL, "The worker does not run.", "kounta-mirror worker"))
        if not self.has_inbox:
            found.append(Concern(WARNING, "No receiver has run yet.", "kounta-mirror receiver"))
        if self.has_mirror and self.figures is None:
            sentence = f"The mirror holds nothing of company {self.company_id}. Is KOUNTA_COMPANY_ID right?"
            found.append(Concern(CRITICAL, sentence))
        return found

    def _of_deliveries(self) -> list[Concern]:
        found = []
        if self.pending.oldest is not None and (late := self.now - self.pending.oldest) > LATE:
            severity = CRITICAL if late > VERY_LATE else WARNING
            waiting = f"{_many(self.pending.count, 'delivery waits', 'deliveries wait')}, the oldest for"
            found.append(Concern(severity, f"{waiting} {_ago(late)}."))
        if self.figures is not None:
            found += self._of_verdicts(self.figures)
        failed_at = self.pending.failed_commits_at
        if failed_at is not None and self.now - failed_at < RECENTLY:
            sentence = f"The receiver could not store deliveries at {_clock(failed_at, self.now)}."
            found.append(Concern(WARNING, sentence, "df -h"))
        return found

    def _of_verdicts(self, figures: Figures) -> list[Concern]:
        found = []
        if failed := figures.verdicts.get(Verdict.FAILED, 0):
            action = "kounta-mirror deliveries replay --verdict failed"
            found.append(
                Concern(WARNING, f"{_many(failed, 'delivery', 'deliveries')} could not be applied.", action)
            )
        if quarantined := figures.verdicts.get(Verdict.QUARANTINED, 0):
            action = "kounta-mirror deliveries list --verdict quarantined"
            found.append(
                Concern(WARNING, f"{_many(quarantined, 'delivery', 'deliveries')} could not be read.", action)
            )
        lost = self._without_verdict(figures)
        if lost > 0:
            sentence = (
                f"{_many(lost, 'delivery has', 'deliveries have')} no verdict: a fault of this program."
            )
            found.append(Concern(CRITICAL, sentence))
        if lost < 0:
            sentence = (
                f"{_many(-lost, 'delivery', 'deliveries')} that the mirror knows were never accepted: "
                "this inbox is an older copy of the one it read."
            )
            found.append(Concern(CRITICAL, sentence, "kounta-mirror worker"))
        if figures.progress.sweep_due == GAP:
            missing = figures.progress.missing
            what = (
                f"{_many(missing, 'delivery is', 'deliveries are')} missing from the inbox"
                if missing
                else "Deliveries may be missing"
            )
            sentence = f"{what}; a sweep will find what they said."
            found.append(Concern(WARNING, sentence, "kounta-mirror reconcile"))
        return found

    def _without_verdict(self, figures: Figures) -> int:
        """Count the deliveries that were accepted and neither wait nor have a verdict: always 0.

        Below 0: verdicts that no delivery accounts for. Deliveries that came while we looked are neither.
        """
        if self.pending.accepted is None:
            return 0
        progress = figures.progress
        given = sum(figures.verdicts.values()) - progress.ruled_elsewhere
        known = self.pending.count + progress.missing + given
        before, after = self.pending.accepted
        return max(before - known, 0) or min(after - known, 0)

    def _of_upstream(self) -> list[Concern]:
        figures = self.figures
        if figures is None:
            return []
        found = []
        if figures.progress.upstream_failure is not None:
            since = figures.progress.upstream_failure_since
            when = f" since {_clock(since, self.now)}" if since else ""
            found.append(Concern(CRITICAL, f"Kounta refuses{when}: {figures.progress.upstream_failure}"))
        if held := figures.held_deletes:
            sentence = f"{_many(held, 'deletion is', 'deletions are')} held: many at once."
            found.append(Concern(WARNING, sentence, f"kounta-mirror reconcile --allow-deletes {held}"))
        if self.complete_sweep is None and not figures.progress.upstream_failure:
            listed = self.newest_sweep.listed if self.newest_sweep else 0
            sentence = (
                f"The first sweep has not ended; {_many(listed, 'customer was', 'customers were')} listed."
            )
            found.append(Concern(WARNING, sentence))
        return found

    def _of_registration(self) -> list[Concern]:
        asked = self.registration
        if asked is None:
            return []
        found = []
        if asked.failure is not None:
            since = f" since {_clock(asked.failure_since, self.now)}" if asked.failure_since else ""
            sentence = f"The webhooks could not be kept registered{since}: {asked.failure}"
            found.append(Concern(WARNING, sentence, "kounta-mirror webhooks list"))
        if self.public_url is not None and self.public_url != asked.public_url:
            sentence = f"The webhooks are registered at {asked.public_url}, not at MIRROR_PUBLIC_URL."
            found.append(Concern(WARNING, sentence, "kounta-mirror webhooks ensure"))
        return found

    def _of_refusals(self) -> list[Concern]:
        return [
            Concern(
                WARNING,
                f"{one.count:,} refused since {_clock(one.first_at, self.now)}: {one.reason}."
                + (" Is the token right?" if one.reason == "signature_invalid" else ""),
            )
            for one in self.pending.refused
            if self.now - one.last_at < RECENTLY
        ]


async def status_of(settings: MirrorSettings, now: datetime) -> Status:
    """Look at both files, as they are. A file that is missing is told, one that cannot be read raises."""
    figures = newest = complete = registration = None
    has_mirror = True
    try:
        async with MirrorReader.look(settings.data_dir, settings.company_id) as mirror:
            figures = await figures_of(mirror)
            newest = await newest_sweep(mirror)
            complete = await newest_sweep(mirror, complete=True)
            registration = await registration_of(mirror)
    except StoreMissing:
        has_mirror = False
    async with InboxView(settings.data_dir) as inbox:
        reader = await inbox.reader()
        pending = Pending() if reader is None else await _pending(reader, settings.company_id, figures)
    client = connect_locally(settings.data_dir, OWNER)
    if client is not None:
        await client.aclose()
    return Status(
        now=now,
        company_id=settings.company_id,
        running=client is not None,
        has_inbox=reader is not None,
        has_mirror=has_mirror,
        figures=figures,
        pending=pending,
        newest_sweep=newest,
        complete_sweep=complete,
        requests_per_minute=settings.requests_per_minute,
        registration=registration,
        public_url=settings.public_url,
    )


async def _pending(reader: InboxReader, company_id: int, figures: Figures | None) -> Pending:
    """Look at what came behind `figures`; while they are of another inbox, all of this one is pending."""
    known = figures is not None and figures.progress.inbox_id in {None, await reader.identity()}
    position = figures.progress.position if figures is not None and known else 0
    before = await reader.accepted(company_id)
    count, oldest = await reader.pending(company_id, position)
    after = await reader.accepted(company_id)
    failed = await reader.failed_commits()
    return Pending(
        count,
        oldest,
        (before, after) if known else None,
        await reader.newest(company_id),
        tuple(await reader.refusals(company_id)),
        failed[-1].last_at if failed else None,
    )


def _many(number: int, one: str, several: str) -> str:
    return f"{number:,} {one if number == 1 else several}"


def _ago(age: timedelta) -> str:
    seconds = max(0, int(age.total_seconds()))
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


def _clock(moment: datetime, now: datetime) -> str:
    """Say when it was; the day only when it was another one."""
    day = "" if moment.date() == now.date() else f"{moment:%Y-%m-%d} "
    return f"{day}{moment:%H:%M} UTC"


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else utc_text(moment)
