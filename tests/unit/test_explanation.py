"""The sentence of `explain`, for every way in which a customer can stand."""

from datetime import timedelta
from typing import Any

import pytest

from sync.console.explanation import Explanation, Upstream, compared
from sync.kounta import Customer
from sync.merge.customers import Subscription
from sync.merge.doubts import Doubt, Reason, Timing
from sync.merge.records import Record
from sync.merge.snapshots import Lens, Source
from sync.mirror.feed import Change
from sync.mirror.known import Known
from tests.clock import NOON

LENS = Lens(5678, Subscription(), timedelta(seconds=2))


def record(**fields: Any) -> Record:
    given: dict[str, Any] = {
        "customer_id": 42,
        "values": {"first_name": "Ann", "email": "ann@shop.example", "reference_id": ""},
        "as_of": NOON - timedelta(hours=1),
        "rests_on_arrival": False,
        "position": 1,
        "settled_at": NOON - timedelta(hours=1),
        "first_seen_at": NOON - timedelta(days=1),
        "first_seen_by": Source.BACKFILL,
        "changed_at": NOON - timedelta(hours=1),
        "verified_at": NOON - timedelta(minutes=3),
    }
    return Record(**given | fields)


def doubt(reason: Reason, seconds: int = 3, **fields: Any) -> Doubt:
    return Doubt(42, reason, NOON + timedelta(seconds=seconds), revision=1, born=1, **fields)


def explained(*known: Any, **fields: Any) -> Explanation:
    return Explanation(42, NOON, Timing(read_lag=timedelta(seconds=5)), Known(*known), **fields)


def erased() -> Change:
    return Change(5678, 9, 42, "erased", [], None, None, None, "write", None, NOON)


BECAUSE = {
    Reason.AMBIGUOUS: "two words of it came too close to each other to be ordered",
    Reason.STALE: "an older word of it came later than a newer one",
    Reason.UNLISTED: "Kounta's list did not name it",
    Reason.LISTED_DIFFERENTLY: "Kounta's list shows it otherwise",
    Reason.FAILED: "a delivery about it could not be applied",
}


@pytest.mark.parametrize(
    ("explanation", "sentence"),
    [
        (explained(record()), "Customer 42 is live and verified 3 min ago."),
        (
            explained(record(verified_at=None), doubt(Reason.CONFIRMATION)),
            (
                "Customer 42 is live and rests on a webhook alone; "
                "the read that completes or confirms it is due at 2026-11-24 12:00:03 UTC."
            ),
        ),
        (
            explained(record(partial=True, verified_at=None), doubt(Reason.PARTIAL, 0)),
            "Customer 42 is live and known in part only; the read that completes or confirms it is due now.",
        ),
        (
            explained(record(), doubt(Reason.REFRESH, 0)),
            (
                "Customer 42 is live and verified 3 min ago; a read is due now, "
                "because its proof is old enough to be renewed."
            ),
        ),
        (
            explained(record(deleted_at=NOON - timedelta(minutes=10))),
            "Customer 42 is deleted since 2026-11-24 11:50:00 UTC, confirmed 3 min ago.",
        ),
        (
            explained(record(), None, NOON - timedelta(minutes=1)),
            (
                "Customer 42 is shown as live, though Kounta answered at 2026-11-24 11:59:00 UTC "
                "that it has no such customer: many deletions came at once, and they are held until a "
                "person allows them "
                "(kounta-mirror reconcile --allow-deletes N)."
            ),
        ),
        (explained(changes=(erased(),)), "Customer 42 was erased at 2026-11-24 12:00:00 UTC."),
        (
            explained(None, doubt(Reason.FAILED, tries=2)),
            (
                "Customer 42 is unknown to the mirror; in doubt since 2026-11-24 11:59:58 UTC because "
                "a delivery about it could not be applied, a read is due at 2026-11-24 12:00:03 UTC; "
                "2 before it settled nothing."
            ),
        ),
        *(
            (
                explained(record(), doubt(reason)),
                (
                    "Customer 42 is live and verified 3 min ago; in doubt since 2026-11-24 11:59:58 UTC "
                    f"because {because}, a read is due at 2026-11-24 12:00:03 UTC."
                ),
            )
            for reason, because in BECAUSE.items()
        ),
    ],
)
def test_a_sentence_says_how_it_stands(explanation: Explanation, sentence: str) -> None:
    assert explanation.sentence() == sentence


@pytest.mark.parametrize("reason", list(Reason))
def test_every_doubt_has_its_words(reason: Reason) -> None:
    said = explained(record(), doubt(reason)).as_json()
    assert said["doubt"]["because"]
    assert "due at 2026-11-24 12:00:03 UTC" in said["sentence"]


def test_what_nobody_knows_is_unknown() -> None:
    assert not explained().is_known
    assert explained(record()).is_known


def test_kounta_has_it_as_the_mirror_shows_it_but_for_what_it_does_not_carry() -> None:
    customer = Customer.model_validate({"id": 42, "first_name": "Ann", "updated_at": "2026-11-24T12:00:00Z"})
    found = compared(explained(record()), customer, LENS)
    assert found.upstream == Upstream(found=True)
    assert found.upstream.sentence(found.known.record) == (
        "Kounta has the customer exactly as the mirror shows it."
    )


def test_differences_are_told_by_attribute() -> None:
    customer = Customer.model_validate({"id": 42, "first_name": "Anna", "email": None, "phone": "1"})
    found = compared(explained(record()), customer, LENS).as_json()["upstream"]
    assert found == {
        "sentence": "Kounta has it otherwise: name, email, phone.",
        "found": True,
        "differences": [
            {"attribute": "name", "mirror": {"first_name": "Ann"}, "kounta": {"first_name": "Anna"}},
            {"attribute": "email", "mirror": {"email": "ann@shop.example"}, "kounta": {"email": None}},
            {"attribute": "phone", "mirror": {"phone": None}, "kounta": {"phone": "1"}},
        ],
    }


@pytest.mark.parametrize(
    ("known", "customer", "sentence"),
    [
        (record(), None, "Kounta has no such customer, and the mirror shows one."),
        (None, None, "Kounta has no such customer either."),
        (record(deleted_at=NOON), None, "Kounta has no such customer either."),
        (None, Customer(id=42), "Kounta has this customer, and the mirror shows none."),
        (record(deleted_at=NOON), Customer(id=42), "Kounta has this customer, and the mirror shows none."),
    ],
)
def test_whether_there_is_such_a_customer_at_all(
    known: Record | None, customer: Customer | None, sentence: str
) -> None:
    found = compared(explained(known), customer, LENS)
    assert found.upstream is not None
    assert found.upstream.sentence(known) == sentence
