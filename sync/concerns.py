"""What needs attention, and the command for it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from sync.apply import GAP
from sync.merge.decisions import Verdict

if TYPE_CHECKING:
    from receiver.inbox import Refusal
    from receiver.inbox.store import Spooled
    from sync.mirror.figures import Figures
    from sync.status import Status

WARNING: Final = 1
CRITICAL: Final = 2
"""As monitors know them, from Nagios on."""

LATE: Final = timedelta(minutes=1)
VERY_LATE: Final = timedelta(minutes=10)
RECENTLY: Final = timedelta(hours=24)
RECEIVER_LATE: Final = timedelta(minutes=2)
"""A receiver notes every half minute that it can store."""
TOO_LITTLE_BYTES: Final = 100 << 20
"""Bytes left on the disk below which somebody is told, before deliveries have to be refused."""
UNAVAILABLE: Final = "unavailable"
SIGNATURE_INVALID: Final = "signature_invalid"
FOR_LONG: Final = timedelta(minutes=15)
"""For so long Kounta may refuse before somebody is told: the worker tries again by itself."""


@dataclass(frozen=True, slots=True)
class Concern:
    """Something that needs attention: how bad, what it is, and what to do."""

    severity: int
    sentence: str
    action: str | None = None
    alert: str | None = None
    """The name under which somebody is told, an anchor of the runbook; None: it is only shown."""
    since: datetime | None = None
    is_told: bool = True
    """False: it may be over in a moment, and nobody is told yet."""

    @property
    def is_critical(self) -> bool:
        return self.severity == CRITICAL


def concerns_of(status: Status) -> list[Concern]:
    """Say what needs attention, the worst first."""
    return sorted(
        [
            *_of_files(status),
            *_of_processes(status),
            *_of_deliveries(status),
            *_of_listening(status),
            *_of_upstream(status),
            *_of_registration(status),
            *_of_refusals(status),
        ],
        key=lambda concern: -concern.severity,
    )


def _of_files(status: Status) -> list[Concern]:
    """Say which store's file is damaged, or is not the one that its owner has open."""
    found = []
    for one in status.damage:
        owner = "receiver" if one.file == "inbox.db" else "worker"
        stops = "Deliveries are refused" if owner == "receiver" else "Nothing is applied"
        if one.is_replaced:
            sentence = f"{one.file} {one.finding}. {stops} until it is put back, or the {owner} restarted."
            action = None
        else:
            both = "receiver and worker" if owner == "receiver" else "the worker"
            finding = one.finding.rstrip(".")
            sentence = f"{one.file} is damaged ({finding}). {stops}. Stop {both}, then rebuild."
            action = "kounta-mirror rebuild"
        found.append(Concern(CRITICAL, sentence, action, "damaged", one.noticed_at))
    return found


def _of_processes(status: Status) -> list[Concern]:
    found = []
    if not status.running:
        found.append(Concern(CRITICAL, "The worker does not run.", "kounta-mirror worker"))
    if not status.has_inbox:
        found.append(Concern(WARNING, "No receiver has run yet.", "kounta-mirror receiver"))
    alive_at = status.figures.progress.alive_at if status.figures else None
    if status.running and alive_at is not None and status.now - alive_at > VERY_LATE:
        sentence = (
            f"The worker runs and has not got on since {_clock(alive_at, status.now)}. Its log says why."
        )
        found.append(Concern(CRITICAL, sentence))
    if status.disk_left is not None and status.disk_left < TOO_LITTLE_BYTES:
        sentence = f"Only {status.disk_left / 1_000_000:.1f} MB are left on the disk of the data directory."
        found.append(Concern(CRITICAL, sentence, "kounta-mirror doctor", "disk"))
    if (
        status.has_mirror
        and status.figures is None
        and not any(one.file == "mirror.db" for one in status.damage)
    ):
        sentence = f"The mirror holds nothing of company {status.company_id}. Is KOUNTA_COMPANY_ID right?"
        found.append(Concern(CRITICAL, sentence))
    return found


def _of_deliveries(status: Status) -> list[Concern]:
    found = []
    if status.pending.oldest is not None and (late := status.now - status.pending.oldest) > LATE:
        severity = CRITICAL if late > VERY_LATE else WARNING
        waiting = f"{many(status.pending.count, 'delivery waits', 'deliveries wait')}, the oldest for"
        late_for_long = "late" if severity == CRITICAL else None
        found.append(
            Concern(severity, f"{waiting} {ago(late)}.", alert=late_for_long, since=status.pending.oldest)
        )
    if status.spooled is not None and status.spooled.since is not None:
        since = status.spooled.since
        for_long = "spooled" if status.now - since > VERY_LATE else None
        sentence = spooled_sentence(status.spooled, status.now)
        found.append(Concern(WARNING, sentence, alert=for_long, since=since))
    if status.figures is not None:
        found += _of_verdicts(status, status.figures)
    failed_at = status.pending.failed_commits_at
    if failed_at is not None and status.now - failed_at < RECENTLY:
        sentence = f"The receiver could not store deliveries at {_clock(failed_at, status.now)}."
        found.append(Concern(WARNING, sentence, "df -h", "not-stored", failed_at))
    return found


def _of_listening(status: Status) -> list[Concern]:
    """Say that nobody listens now, or that nobody speaks: one of them, the other would follow from it."""
    receiver = status.pending.receiver
    if receiver is not None and status.now - receiver.last_sign > RECEIVER_LATE:
        last, ended = receiver.last_sign, receiver.stopped_at is not None
        what = "The receiver stopped at" if ended else "The receiver has given no sign of life since"
        sentence = f"{what} {_clock(last, status.now)}: what Kounta sends now may be lost."
        return [Concern(CRITICAL, sentence, "kounta-mirror receiver", "receiver", last)]
    silence = status.silence
    if silence is None:
        return []
    sentence = (
        f"No delivery since {_clock(silence.since, status.now)}; "
        f"at this hour of the week there would usually have been {silence.usual:,.0f}."
    )
    return [Concern(WARNING, sentence, "kounta-mirror webhooks test", "silence", silence.since)]


def _of_verdicts(status: Status, figures: Figures) -> list[Concern]:
    found = []
    if failed := figures.verdicts.get(Verdict.FAILED, 0):
        action = "kounta-mirror deliveries replay --verdict failed"
        found.append(
            Concern(
                WARNING, f"{many(failed, 'delivery', 'deliveries')} could not be applied.", action, "failed"
            )
        )
    quarantined = figures.verdicts.get(Verdict.QUARANTINED, 0)
    newest = figures.last_quarantined_at
    if quarantined and newest is not None and status.now - newest < RECENTLY:
        action = "kounta-mirror deliveries list --verdict quarantined"
        found.append(
            Concern(
                WARNING,
                f"{many(quarantined, 'delivery', 'deliveries')} could not be read.",
                action,
                "quarantined",
            )
        )
    begun_at = figures.erasure_begun_at
    if begun_at is not None and status.now - begun_at > LATE:
        sentence = (
            f"An erasure, begun at {_clock(begun_at, status.now)}, is not complete: "
            "a reader keeps old pages alive, or no receiver runs."
        )
        found.append(Concern(WARNING, sentence, "kounta-mirror erase ID"))
    lost = _without_verdict(status, figures)
    if lost > 0:
        sentence = f"{many(lost, 'delivery has', 'deliveries have')} no verdict: a fault of this program."
        found.append(Concern(CRITICAL, sentence, alert="no-verdict"))
    if lost < 0:
        sentence = (
            f"{many(-lost, 'delivery', 'deliveries')} that the mirror knows were never accepted: "
            "this inbox is an older copy of the one it read."
        )
        found.append(Concern(CRITICAL, sentence, "kounta-mirror worker"))
    return found + _of_gaps(status, figures)


def _of_gaps(status: Status, figures: Figures) -> list[Concern]:
    gap, missing = status.gap, figures.progress.missing
    if gap is not None and gap.mended_at is not None:
        gap = None
    since = None if gap is None else gap.since or gap.noticed_at
    if figures.progress.sweep_due != GAP:
        if gap is not None and (at := status.owes.sweep_at or status.owes.refresh_at) is not None:
            what = "a sweep" if status.owes.sweep_at is not None else "a read of every customer"
            when = f", from {_clock(at, status.now)} on" if at > status.now else ""
            sentence = f"{gap.what}; {what} will find what was lost{when}."
            return [Concern(WARNING, sentence, "kounta-mirror reconcile --deep", "gap", since)]
        if gap is None or gap.swept_at is None:
            return []
        sentence = f"{gap.what}{span_of(gap.since, gap.until)}; what the sweep found is being read."
        return [Concern(WARNING, sentence, alert="gap", since=since)]
    if missing:
        what = f"{many(missing, 'delivery is', 'deliveries are')} missing from the inbox"
    elif gap is not None and gap.until is not None:
        what = f"{gap.what}{span_of(gap.since, gap.until)}"
    else:
        what = "Deliveries may be missing"
    sentence = f"{what}; a sweep will find what they said."
    return [Concern(WARNING, sentence, "kounta-mirror reconcile", "gap", since)]


def spooled_sentence(spooled: Spooled, now: datetime) -> str:
    """Say how many deliveries wait on this machine; at least one does."""
    since = f", since {_clock(spooled.since, now)}" if spooled.since else ""
    waiting = many(spooled.count, "delivery waits", "deliveries wait")
    return f"{waiting} on this machine for PostgreSQL{since}."


def _without_verdict(status: Status, figures: Figures) -> int:
    """Count the deliveries that were accepted and neither wait nor have a verdict: always 0.

    Below 0: verdicts that no delivery accounts for. Deliveries that came while we looked are neither.
    """
    if status.pending.accepted is None:
        return 0
    progress = figures.progress
    given = sum(figures.verdicts.values()) - progress.ruled_elsewhere
    known = status.pending.count + progress.missing + given
    before, after = status.pending.accepted
    return max(before - known, 0) or min(after - known, 0)


def _of_upstream(status: Status) -> list[Concern]:
    figures = status.figures
    if figures is None:
        return []
    found = []
    if figures.progress.upstream_failure is not None:
        since = figures.progress.upstream_failure_since
        when = f" since {_clock(since, status.now)}" if since else ""
        why = " ".join(figures.progress.upstream_failure.split())  # one line, whatever Kounta said
        for_long = since is not None and status.now - since >= FOR_LONG
        alert = "upstream" if for_long else None
        found.append(Concern(CRITICAL, f"Kounta refuses{when}: {why}", alert=alert, since=since))
    if held := figures.held_deletes:
        why = "many at once."
        if undecided := figures.held_for_person:
            why = f"for {undecided:,} Kounta answers another customer, and its list leaves them out."
        sentence = f"{many(held, 'deletion is', 'deletions are')} held: {why}"
        action = f"kounta-mirror reconcile --allow-deletes {held}"
        since = figures.held_since
        # a few are held for a moment only: until a later call has shown that there is access
        is_told = since is not None and status.now - since > LATE
        found.append(Concern(WARNING, sentence, action, "held-deletes", since, is_told))
    found += _of_problems(status)
    unread = min(figures.partial, sum(figures.doubts.values()))  # others were read, as far as they can be
    if unread > status.requests_per_minute:
        found.append(Concern(WARNING, to_read(unread, status.requests_per_minute)))
    if status.complete_sweep is None and not figures.progress.upstream_failure:
        listed = status.newest_sweep.listed if status.newest_sweep else 0
        sentence = f"The first sweep has not ended; {many(listed, 'customer was', 'customers were')} listed."
        found.append(Concern(WARNING, sentence))
    return found


def _of_problems(status: Status) -> list[Concern]:
    """Say which customers cannot be read: their rows are not verified."""
    if not status.problem_count:
        return []
    first = status.problems[0] if status.problems else None
    failure = "" if first is None else " ".join((first.failure or "").split())
    sentence = f"{many(status.problem_count, 'customer', 'customers')} could not be read again and again"
    if first is None:
        return [Concern(WARNING, f"{sentence}.", alert="unread")]
    named = failure if str(first.customer_id) in failure else f"customer {first.customer_id}: {failure}"
    action = f"kounta-mirror explain {first.customer_id}"
    return [Concern(WARNING, f"{sentence}: {named.rstrip('.')}.", action, "unread")]


def _of_registration(status: Status) -> list[Concern]:
    asked = status.registration
    if asked is None:
        return []
    found = []
    if asked.failure is not None:
        since = f" since {_clock(asked.failure_since, status.now)}" if asked.failure_since else ""
        sentence = f"The webhooks could not be kept registered{since}: {asked.failure}"
        action = "kounta-mirror webhooks list"
        found.append(Concern(WARNING, sentence, action, "registration", asked.failure_since))
    if status.public_url is not None and status.public_url != asked.public_url:
        sentence = f"The webhooks are registered at {asked.public_url}, not at MIRROR_PUBLIC_URL."
        found.append(Concern(WARNING, sentence, "kounta-mirror webhooks ensure"))
    return found


def _of_refusals(status: Status) -> list[Concern]:
    """Say which refusals are a problem of ours; those of strangers are shown, and are none.

    Anyone on the internet can be refused, so a refusal alone changes nothing (decision 0071).
    """
    found = []
    for one in status.pending.refused:
        if status.now - one.last_at >= RECENTLY:
            continue
        sentence = refused_sentence(one, status.now)
        if one.reason == UNAVAILABLE:
            found.append(Concern(WARNING, sentence, "kounta-mirror reconcile"))
        elif one.reason == SIGNATURE_INVALID and (why := _likely_cause(status, one)) is not None:
            action = "kounta-mirror webhooks capture --minutes 10"
            found.append(Concern(WARNING, f"{sentence} {why}", action))
    return found


def _likely_cause(status: Status, refused: Refusal) -> str | None:
    """Say what signatures that do not verify are the likely cause of; None: of nothing, as some verify."""
    if not status.heard:
        return "No delivery has ever verified."
    if status.silence is not None and refused.last_at >= status.silence.since:
        return "It is the likely cause of the silence."
    return None


def refused_sentence(refused: Refusal, now: datetime) -> str:
    """Say how many requests were refused for one reason, and since when."""
    asked = " Is the token right?" if refused.reason == SIGNATURE_INVALID else ""
    return f"{refused.count:,} refused since {_clock(refused.first_at, now)}: {refused.reason}.{asked}"


def to_read(customers: int, calls_per_minute: float) -> str:
    """Say how long it takes until these customers are known in full."""
    are = many(customers, "customer is", "customers are")
    takes = ago(timedelta(minutes=customers / calls_per_minute))
    return f"{are} known in part only; to read them takes {takes} at {calls_per_minute:g} calls a minute."


def span_of(since: datetime | None, until: datetime | None) -> str:
    """Say from when to when: " from 2026-11-24 12:00:00 to 12:10:30 UTC", as far as it is known."""
    if since is None and until is None:
        return ""
    if since is None or until is None:
        known = since or until
        return f" {'since' if since else 'until'} {known:%Y-%m-%d %H:%M:%S} UTC"
    day = "" if since.date() == until.date() else "%Y-%m-%d "
    return f" from {since:%Y-%m-%d %H:%M:%S} to {until.strftime(f'{day}%H:%M:%S')} UTC"


def many(number: int, one: str, several: str) -> str:
    return f"{number:,} {one if number == 1 else several}"


def seconds_of(age: timedelta) -> float:
    """Give an age in seconds; the receiver's clock may be a little ahead of ours."""
    return max(0.0, age.total_seconds())


def ago(age: timedelta) -> str:
    seconds = int(seconds_of(age))
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


def _clock(moment: datetime, now: datetime) -> str:
    """Say when it was; the day only when it was another one."""
    day = "" if moment.date() == now.date() else f"{moment:%Y-%m-%d} "
    return f"{day}{moment:%H:%M} UTC"
