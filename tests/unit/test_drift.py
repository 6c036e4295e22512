from collections import Counter
from random import Random

import pytest

from sync.reconcile.drift import NO_DRIFT, drift_of, estimate


@pytest.mark.parametrize(
    ("differed", "sampled", "low", "high"),
    [
        (0, 10, 0.0, 0.2775),  # Wilson score intervals as tables and other programs give them
        (1, 10, 0.0179, 0.4042),
        (5, 100, 0.0215, 0.1118),
        (10, 10, 0.7225, 1.0),
    ],
)
def test_the_interval_is_wilsons(differed: int, sampled: int, low: float, high: float) -> None:
    found = estimate(differed, sampled)
    assert (round(found.low, 4), round(found.high, 4)) == (low, high)
    assert found.low <= found.rate <= found.high


@pytest.mark.parametrize("rate", [0.005, 0.03, 0.2])
def test_the_interval_holds_the_true_rate_in_about_95_of_100_samples(rate: float) -> None:
    random = Random(7)
    held = 0
    for _ in range(1000):
        found = estimate(sum(random.random() < rate for _ in range(400)), 400)
        held += found.low <= rate <= found.high
    assert 930 <= held <= 985


def test_attributes_have_an_interval_each_over_all_that_were_sampled() -> None:
    drift = drift_of(Counter({"sampled": 200, "differed": 3, "differed_in:phone": 2, "differed_in:tags": 1}))
    assert drift.whole == estimate(3, 200)
    assert drift.by_attribute == {"phone": estimate(2, 200), "tags": estimate(1, 200)}


def test_webhook_loss_is_the_share_of_changes_that_nothing_announced() -> None:
    assert drift_of(Counter(announced=90, unannounced=10)).webhook_loss == 0.1


def test_without_samples_and_changes_nothing_is_said() -> None:
    assert drift_of(Counter()) == NO_DRIFT
