"""What `status` says in each state: a sentence first, then what needs attention and the command for it."""

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from receiver.inbox import Refusal, Start
from receiver.inbox.store import Spooled
from receiver.integrity import Damage
from sync.concerns import CRITICAL, WARNING
from sync.losses import Owed
from sync.mirror.alerts import Alert
from sync.mirror.figures import Figures
from sync.mirror.gaps import GapRow
from sync.mirror.losses import LOST
from sync.mirror.progress import Progress
from sync.mirror.queue import Problem
from sync.mirror.sweeps import SweepRow
from sync.reconcile.drift import drift_of
from sync.silence import Silence
from sync.status import Pending, Status
from tests.clock import NOON

SWEEP = SweepRow(
    1, "backfill", NOON - timedelta(hours=2), NOON - timedelta(hours=1), True, None, 10_412, None
)
FIGURES = Figures(
    progress=Progress(inbox_id="one", position=7),
    live=10_412,
    deleted=3,
    verified=10_000,
    partial=0,
    verdicts={"applied": 5, "unchanged": 2},
    doubts={"confirmation": 2, "stale": 1},
    held_deletes=0,
    oldest_verified_at=NOON - timedelta(days=2),
    last_quarantined_at=None,
    last_delivery_at=NOON,
    last_sweep_at=NOON,
)
WELL = Status(
    now=NOON,
    company_id=5678,
    running=True,
    has_inbox=True,
    has_mirror=True,
    figures=FIGURES,
    pending=Pending(accepted=(7, 7), newest=NOON - timedelta(seconds=40)),
    newest_sweep=SWEEP,
    complete_sweep=SWEEP,
    requests_per_minute=60.0,
)


GAP = GapRow(
    id=1,
    what="Nobody listened",
    since=NOON - timedelta(hours=1),
    until=NOON - timedelta(minutes=50),
    noticed_at=NOON - timedelta(minutes=49, seconds=50),
    seq=0,
    swept_at=None,
    revision=None,
    mended_at=None,
    created=None,
    updated=None,
    deleted=None,
)
LOST_GAP = replace(GAP, what=LOST, since=None, until=None)
SWEPT = replace(GAP, swept_at=NOON - timedelta(minutes=49), revision=1)
MENDED = replace(SWEPT, mended_at=NOON - timedelta(minutes=48), created=1, updated=2, deleted=3)


def with_progress(**fields: Any) -> Status:
    return replace(WELL, figures=replace(FIGURES, progress=replace(FIGURES.progress, **fields)))


def with_figures(**fields: Any) -> Status:
    return replace(WELL, figures=replace(FIGURES, **fields))


def with_pending(**fields: Any) -> Status:
    return replace(WELL, pending=replace(WELL.pending, **fields))


def ago(**time: float) -> datetime:
    return NOON - timedelta(**time)


def test_all_is_well() -> None:
    assert WELL.concerns() == []
    assert WELL.sentence() == "OK, 10,412 customers, newest delivery 40 s ago."


@pytest.mark.parametrize(
    ("newest", "heard"),
    [
        (None, "no delivery yet"),
        (ago(seconds=-3), "newest delivery 0 s ago"),
        (ago(seconds=119), "newest delivery 119 s ago"),
        (ago(minutes=2), "newest delivery 2 min ago"),
        (ago(hours=3), "newest delivery 3 h ago"),
        (ago(days=9), "newest delivery 9 d ago"),
    ],
)
def test_the_newest_delivery_is_told_by_its_age(newest: datetime | None, heard: str) -> None:
    assert with_pending(newest=newest).sentence() == f"OK, 10,412 customers, {heard}."


NEVER_VERIFIED = (
    "14 refused since 09:12 UTC: signature_invalid. Is the token right? No delivery has ever verified."
)

NAMED = {
    "the mirror's file is damaged": (
        replace(WELL, damage=(Damage("mirror.db", "malformed", NOON),)),
        (
            CRITICAL,
            "mirror.db is damaged (malformed). Nothing is applied. Stop the worker, then rebuild.",
            "kounta-mirror rebuild",
        ),
    ),
    "the inbox's file is damaged": (
        replace(WELL, damage=(Damage("inbox.db", "cut off", NOON),)),
        (
            CRITICAL,
            "inbox.db is damaged (cut off). Deliveries are refused. Stop receiver and worker, then rebuild.",
            "kounta-mirror rebuild",
        ),
    ),
    "the inbox's file was removed": (
        replace(WELL, damage=(Damage("inbox.db", "was removed while it was open", NOON, is_replaced=True),)),
        (
            CRITICAL,
            (
                "inbox.db was removed while it was open. "
                "Deliveries are refused until it is put back, or the receiver restarted."
            ),
            None,
        ),
    ),
    "the worker is stopped": (
        replace(WELL, running=False),
        (CRITICAL, "The worker does not run.", "kounta-mirror worker"),
    ),
    "there is no inbox": (
        replace(WELL, has_inbox=False, pending=Pending()),
        (WARNING, "No receiver has run yet.", "kounta-mirror receiver"),
    ),
    "the disk is nearly full": (
        replace(WELL, disk_left=2_400_000),
        (
            CRITICAL,
            "Only 2.4 MB are left on the disk of the data directory.",
            "kounta-mirror doctor",
        ),
    ),
    "the mirror is another company's": (
        replace(WELL, figures=None),
        (CRITICAL, "The mirror holds nothing of company 5678. Is KOUNTA_COMPANY_ID right?", None),
    ),
    "deliveries wait": (
        with_pending(count=1, accepted=(8, 8), oldest=ago(seconds=61)),
        (WARNING, "1 delivery waits, the oldest for 61 s.", None),
    ),
    "deliveries wait long": (
        with_pending(count=1200, accepted=(1207, 1207), oldest=ago(minutes=11)),
        (CRITICAL, "1,200 deliveries wait, the oldest for 11 min.", None),
    ),
    "a delivery failed": (
        with_figures(verdicts={"applied": 6, "failed": 1}),
        (
            WARNING,
            "1 delivery could not be applied.",
            "kounta-mirror deliveries replay --verdict failed",
        ),
    ),
    "deliveries were unreadable": (
        with_figures(verdicts={"applied": 5, "quarantined": 2}, last_quarantined_at=ago(hours=23)),
        (
            WARNING,
            "2 deliveries could not be read.",
            "kounta-mirror deliveries list --verdict quarantined",
        ),
    ),
    "deliveries are lost": (
        with_pending(accepted=(9, 12)),
        (CRITICAL, "2 deliveries have no verdict: a fault of this program.", None),
    ),
    "verdicts are too many": (
        with_pending(accepted=(3, 5)),
        (
            CRITICAL,
            (
                "2 deliveries that the mirror knows were never accepted: "
                "this inbox is an older copy of the one it read."
            ),
            "kounta-mirror worker",
        ),
    ),
    "the inbox has a hole": (
        replace(with_progress(sweep_due="gap", missing=3), pending=replace(WELL.pending, accepted=(10, 10))),
        (
            WARNING,
            "3 deliveries are missing from the inbox; a sweep will find what they said.",
            "kounta-mirror reconcile",
        ),
    ),
    "deliveries were lost that name nobody": (
        replace(WELL, gap=LOST_GAP, owes=Owed(sweep_at=ago(seconds=1), refresh_at=ago(seconds=1))),
        (
            WARNING,
            "Deliveries that name no customer could not be read; a sweep will find what was lost.",
            "kounta-mirror reconcile --deep",
        ),
    ),
    "they were lost again on the same day": (
        replace(WELL, gap=LOST_GAP, owes=Owed(refresh_at=NOON + timedelta(hours=2))),
        (
            WARNING,
            (
                "Deliveries that name no customer could not be read; "
                "a read of every customer will find what was lost, from 14:00 UTC on."
            ),
            "kounta-mirror reconcile --deep",
        ),
    ),
    "customers cannot be read": (
        replace(WELL, problem_count=2, problems=(Problem(7, "answered 500 broken.", 6, None),)),
        (
            WARNING,
            "2 customers could not be read again and again: customer 7: answered 500 broken.",
            "kounta-mirror explain 7",
        ),
    ),
    "a deletion is for a person to decide": (
        replace(WELL, figures=replace(FIGURES, held_deletes=1, held_for_person=1)),
        (
            WARNING,
            ("1 deletion is held: for 1 Kounta answers another customer, and its list leaves them out."),
            "kounta-mirror reconcile --allow-deletes 1",
        ),
    ),
    "the inbox is another one": (
        with_progress(sweep_due="gap"),
        (
            WARNING,
            "Deliveries may be missing; a sweep will find what they said.",
            "kounta-mirror reconcile",
        ),
    ),
    "nobody listened": (
        replace(with_progress(sweep_due="gap"), gap=GAP),
        (
            WARNING,
            "Nobody listened from 2026-11-24 11:00:00 to 11:10:00 UTC; a sweep will find what they said.",
            "kounta-mirror reconcile",
        ),
    ),
    "what the sweep after a gap found is not read yet": (
        replace(WELL, gap=SWEPT),
        (
            WARNING,
            "Nobody listened from 2026-11-24 11:00:00 to 11:10:00 UTC; what the sweep found is being read.",
            None,
        ),
    ),
    "the receiver was killed": (
        with_pending(receiver=Start(1, ago(days=2), None, ago(minutes=30))),
        (
            CRITICAL,
            "The receiver has given no sign of life since 11:30 UTC: what Kounta sends now may be lost.",
            "kounta-mirror receiver",
        ),
    ),
    "the receiver was stopped": (
        with_pending(receiver=Start(1, ago(days=2), ago(minutes=3), ago(minutes=3))),
        (
            CRITICAL,
            "The receiver stopped at 11:57 UTC: what Kounta sends now may be lost.",
            "kounta-mirror receiver",
        ),
    ),
    "nothing comes": (
        replace(WELL, silence=Silence(ago(hours=3), 40.2)),
        (
            WARNING,
            "No delivery since 09:00 UTC; at this hour of the week there would usually have been 40.",
            "kounta-mirror webhooks test",
        ),
    ),
    "nothing comes because nobody listens": (
        replace(
            with_pending(receiver=Start(1, ago(days=2), None, ago(minutes=30))),
            silence=Silence(ago(minutes=30), 40.2),
        ),
        (
            CRITICAL,
            "The receiver has given no sign of life since 11:30 UTC: what Kounta sends now may be lost.",
            "kounta-mirror receiver",
        ),
    ),
    "the worker hangs": (
        with_progress(alive_at=ago(minutes=11)),
        (
            CRITICAL,
            "The worker runs and has not got on since 11:49 UTC. Its log says why.",
            None,
        ),
    ),
    "the receiver's disk was full": (
        with_pending(failed_commits_at=ago(hours=3)),
        (WARNING, "The receiver could not store deliveries at 09:00 UTC.", "df -h"),
    ),
    "upstream refuses": (
        with_progress(
            upstream_failure="the credentials\nare wrong (401)", upstream_failure_since=ago(days=1)
        ),
        (CRITICAL, "Kounta refuses since 2026-11-23 12:00 UTC: the credentials are wrong (401)", None),
    ),
    "deletions are held": (
        with_figures(held_deletes=1200, held_since=ago(minutes=2)),
        (
            WARNING,
            "1,200 deletions are held: many at once.",
            "kounta-mirror reconcile --allow-deletes 1200",
        ),
    ),
    "the first sweep goes on": (
        replace(WELL, complete_sweep=None, newest_sweep=replace(SWEEP, finished_at=None, listed=4_000)),
        (WARNING, "The first sweep has not ended; 4,000 customers were listed.", None),
    ),
    "no signature has ever verified": (
        replace(
            with_pending(refused=(Refusal("signature_invalid", 14, ago(hours=2.8), ago(hours=1)),)),
            heard=False,
        ),
        (
            WARNING,
            NEVER_VERIFIED,
            "kounta-mirror webhooks capture --minutes 10",
        ),
    ),
    "deliveries could not be taken": (
        with_pending(refused=(Refusal("unavailable", 3, ago(hours=2.8), ago(hours=1)),)),
        (WARNING, "3 refused since 09:12 UTC: unavailable.", "kounta-mirror reconcile"),
    ),
}

STRANGERS = (
    *("unknown_company", "unknown_topic", "method_not_allowed", "body_too_large", "body_too_slow"),
    *("signature_missing", "signature_invalid", "upgrade_unsupported", "bad_request", "not_found"),
)


@pytest.mark.parametrize("reason", STRANGERS)
def test_requests_of_strangers_are_shown_and_are_no_problem(reason: str) -> None:
    status = with_pending(refused=(Refusal(reason, 20_000, ago(hours=2), ago(seconds=1)),))
    assert status.concerns() == []
    assert status.sentence().startswith("OK, 10,412 customers")
    assert status.as_json()["refused"][reason]["count"] == 20_000


@pytest.mark.parametrize("reason", [reason for reason in STRANGERS if reason != "signature_invalid"])
def test_nor_are_they_before_the_first_delivery_or_in_a_silence(reason: str) -> None:
    refused = (Refusal(reason, 20_000, ago(hours=2), ago(seconds=1)),)
    assert replace(with_pending(refused=refused), heard=False).concerns() == []
    silent = replace(with_pending(refused=refused), silence=Silence(ago(hours=3), 40.2))
    assert [one.alert for one in silent.concerns()] == ["silence"]


def test_signatures_that_do_not_verify_are_the_likely_cause_of_a_silence() -> None:
    refused = (Refusal("signature_invalid", 14, ago(hours=2.8), ago(hours=1)),)
    status = replace(with_pending(refused=refused), silence=Silence(ago(hours=3), 40.2))
    silence, cause = status.concerns()
    assert silence.alert == "silence"
    assert cause.sentence == (
        "14 refused since 09:12 UTC: signature_invalid. Is the token right? "
        "It is the likely cause of the silence."
    )
    before = (Refusal("signature_invalid", 14, ago(hours=9), ago(hours=4)),)
    assert len(replace(status, pending=replace(status.pending, refused=before)).concerns()) == 1


@pytest.mark.parametrize("name", NAMED)
def test_what_needs_attention_is_told_with_the_command_for_it(name: str) -> None:
    status, (severity, sentence, action) = NAMED[name]
    (concern,) = status.concerns()
    assert (concern.severity, concern.sentence, concern.action) == (severity, sentence, action)
    assert status.sentence() == (f"{sentence} → {action}" if action else sentence)


@pytest.mark.parametrize(
    "status",
    [
        with_pending(count=3, accepted=(10, 10), oldest=ago(seconds=59)),
        with_pending(accepted=(6, 9)),  # two came and were applied while status looked
        with_pending(accepted=None),  # this inbox is not the one that the mirror read
        with_figures(verdicts={"quarantined": 7}, last_quarantined_at=ago(hours=25)),
        with_pending(failed_commits_at=ago(hours=25)),
        replace(
            with_pending(refused=(Refusal("signature_invalid", 14, ago(days=3), ago(days=2)),)), heard=False
        ),
        with_pending(refused=(Refusal("unavailable", 14, ago(days=3), ago(days=2)),)),
        replace(WELL, gap=MENDED),
        with_pending(receiver=Start(1, ago(days=2), None, ago(seconds=59))),
        with_pending(receiver=Start(2, ago(days=2), ago(seconds=59), ago(seconds=59))),
        with_progress(alive_at=ago(minutes=5)),
        with_progress(missing=3, position=10, ruled_elsewhere=3),  # a sweep has mended it
    ],
)
def test_what_is_over_or_not_yet_so_is_not_told(status: Status) -> None:
    assert status.concerns() == []


def test_the_worst_comes_first_and_the_rest_is_counted() -> None:
    status = replace(with_figures(held_deletes=20), running=False)
    assert status.sentence() == "The worker does not run. → kounta-mirror worker (1 more below)"
    assert [one.severity for one in status.concerns()] == [CRITICAL, WARNING]


def test_the_json_has_every_key_that_others_rely_on() -> None:
    progress = replace(
        FIGURES.progress,
        last_call_at=ago(seconds=1),
        closed_until=NOON + timedelta(seconds=30),
        alive_at=ago(seconds=10),
    )
    status = replace(
        WELL,
        figures=replace(FIGURES, progress=progress),
        drift=drift_of({"sampled": 100, "announced": 3, "unannounced": 1}),
        pending=replace(
            WELL.pending,
            count=2,
            oldest=ago(seconds=2),
            accepted=(9, 9),
            refused=(Refusal("signature_missing", 1, ago(days=2), ago(days=2)),),
            receiver=Start(1, ago(hours=2), None, ago(seconds=20)),
        ),
        gap=MENDED,
        disk_left=5_000_000_000,
        alerts=(Alert(1, "late", WARNING, "2 deliveries wait …", ago(hours=1), ago(minutes=1)),),
    )
    said = status.as_json()
    assert said.pop("registration", None) is None
    assert said == {
        "sentence": "OK, 10,412 customers, newest delivery 40 s ago.",
        "attention": [],
        "worker_running": True,
        "disk_left_bytes": 5_000_000_000,
        "damage": [],
        "spooled": None,
        "deliveries": {
            "pending": 2,
            "applied": 5,
            "unchanged": 2,
            "stale": 0,
            "tombstoned": 0,
            "contradicted": 0,
            "quarantined": 0,
            "failed": 0,
        },
        "customers": {"live": 10_412, "deleted": 3, "verified": 10_000, "partial": 0},
        "verifications": {
            "due": 3,
            "by_reason": {"confirmation": 2, "stale": 1},
            "failing": 0,
            "problems": [],
        },
        "held_deletes": 0,
        "held_for_decision": 0,
        "sweep": {"last_at": "2026-11-24T11:00:00.000Z", "running": False, "complete": True},
        "receiver": {
            "started_at": "2026-11-24T10:00:00.000Z",
            "stopped_at": None,
            "last_sign_at": "2026-11-24T11:59:40.000Z",
        },
        "worker_alive_at": "2026-11-24T11:59:50.000Z",
        "gap": {
            "what": "Nobody listened",
            "since": "2026-11-24T11:00:00.000Z",
            "until": "2026-11-24T11:10:00.000Z",
            "noticed_at": "2026-11-24T11:10:10.000Z",
            "swept_at": "2026-11-24T11:11:00.000Z",
            "mended_at": "2026-11-24T11:12:00.000Z",
            "created": 1,
            "updated": 2,
            "deleted": 3,
        },
        "silence": None,
        "alerts": [{"name": "late", "since": "2026-11-24T11:00:00.000Z"}],
        "drift": {
            "rate": 0.0,
            "low": 0.0,
            "high": pytest.approx(0.0370, abs=0.0001),
            "sampled": 100,
            "by_attribute": {},
        },
        "webhook_loss": 0.25,
        "freshness": {
            "oldest_pending_seconds": 2.0,
            "oldest_verified_at": "2026-11-22T12:00:00.000Z",
        },
        "budget": {
            "requests_per_minute": 60.0,
            "last_call_at": "2026-11-24T11:59:59.000Z",
            "closed_until": "2026-11-24T12:00:30.000Z",
        },
        "refused": {
            "signature_missing": {
                "count": 1,
                "since": "2026-11-22T12:00:00.000Z",
                "last_at": "2026-11-22T12:00:00.000Z",
            }
        },
    }


def test_the_json_has_the_same_keys_when_nothing_has_run_yet() -> None:
    nothing = Status(NOON, 5678, False, False, False, None, Pending(), None, None, 60.0)
    said, well = nothing.as_json(), WELL.as_json()
    assert said.keys() == well.keys()
    nested = {"deliveries", "customers", "verifications", "sweep", "drift", "freshness", "budget"}
    assert {name: said[name].keys() for name in nested} == {name: well[name].keys() for name in nested}
    assert set(said["deliveries"].values()) == set(said["customers"].values()) == {0}
    assert said["sweep"] == {"last_at": None, "running": False, "complete": False}


def test_a_clock_that_is_ahead_makes_no_negative_age() -> None:
    status = with_pending(count=1, accepted=(8, 8), oldest=ago(seconds=-5))
    assert status.as_json()["freshness"]["oldest_pending_seconds"] == 0.0


ALERTS = {
    "the mirror's file is damaged": "damaged",
    "the inbox's file is damaged": "damaged",
    "the inbox's file was removed": "damaged",
    "the disk is nearly full": "disk",
    "deliveries wait long": "late",
    "a delivery failed": "failed",
    "deliveries were unreadable": "quarantined",
    "deliveries are lost": "no-verdict",
    "the inbox has a hole": "gap",
    "nobody listened": "gap",
    "what the sweep after a gap found is not read yet": "gap",
    "the receiver was killed": "receiver",
    "nothing comes": "silence",
    "the receiver's disk was full": "not-stored",
    "upstream refuses": "upstream",
    "deletions are held": "held-deletes",
    "a deletion is for a person to decide": "held-deletes",
    "customers cannot be read": "unread",
    "deliveries were lost that name nobody": "gap",
}


@pytest.mark.parametrize("name", NAMED)
def test_somebody_is_told_of_what_the_worker_can_see_and_a_person_must_mend(name: str) -> None:
    (concern,) = NAMED[name][0].concerns()
    if name in ALERTS:
        assert concern.alert == ALERTS[name]
    else:
        assert concern.alert in {None, *ALERTS.values()}


@pytest.mark.parametrize(("minutes", "told"), [(14, None), (15, "upstream")])
def test_nobody_is_told_that_upstream_refuses_for_a_moment(minutes: int, told: str | None) -> None:
    (concern,) = with_progress(
        upstream_failure="HTTP 503", upstream_failure_since=ago(minutes=minutes)
    ).concerns()
    assert concern.alert == told


@pytest.mark.parametrize(("seconds", "told"), [(60, False), (61, True)])
def test_nobody_is_told_of_deletions_that_wait_for_the_next_call(seconds: int, told: bool) -> None:  # noqa: FBT001 - a parameter
    (concern,) = with_figures(held_deletes=1, held_since=ago(seconds=seconds)).concerns()
    assert (concern.alert, concern.is_told) == ("held-deletes", told)


def test_each_alert_has_its_place_in_the_runbook() -> None:
    runbook = Path(__file__).parents[2].joinpath("docs/how-to/troubles.md").read_text(encoding="utf-8")
    for alert in {*ALERTS.values(), "registration", "spooled", "database"}:
        assert f'<a id="{alert}"></a>' in runbook


def test_a_silence_is_in_the_json() -> None:
    said = replace(WELL, silence=Silence(ago(hours=1), 40.23)).as_json()
    assert said["silence"] == {"since": "2026-11-24T11:00:00.000Z", "usual": 40.2}


@pytest.mark.parametrize(("minutes", "told"), [(10, None), (11, "spooled")])
def test_what_waits_on_this_machine_is_said_at_once_and_told_when_it_does_for_long(
    minutes: int, told: str | None
) -> None:
    waits = replace(WELL, spooled=Spooled(12, ago(minutes=minutes)))
    (concern,) = waits.concerns()
    since = f"11:{60 - minutes} UTC"
    assert concern.sentence == f"12 deliveries wait on this machine for PostgreSQL, since {since}."
    assert (concern.severity, concern.alert) == (WARNING, told)
    assert waits.as_json()["spooled"] == {"count": 12, "since": f"2026-11-24T11:{60 - minutes}:00.000Z"}


def test_a_spool_in_which_nothing_waits_is_no_concern() -> None:
    assert replace(WELL, spooled=Spooled(0, None)).concerns() == []
    assert WELL.as_json()["spooled"] is None


@pytest.mark.parametrize(("seconds", "times"), [(60, 0), (61, 1)])
def test_an_erasure_that_is_not_complete_is_said_after_a_while(seconds: int, times: int) -> None:
    begun = replace(WELL, figures=replace(FIGURES, erasure_begun_at=ago(seconds=seconds)))
    assert sum("is not complete" in concern.sentence for concern in begun.concerns()) == times
