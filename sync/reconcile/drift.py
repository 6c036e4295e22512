"""Drift and loss: how wrong the mirror is without knowing it, estimated, and how many webhooks never came.

Drift is the share of customers that differ from upstream though nothing is known against them. It comes from
customers drawn uniformly at random and read; other reads are of customers more likely to differ, and tell
nothing of the rest.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist
from typing import Any, Final

from sync.merge.customers import attributes_of
from sync.merge.decisions import Decision, is_change
from sync.merge.doubts import Doubt, Reason
from sync.merge.records import Record
from sync.mirror.batch import Batch
from sync.mirror.counts import Counted, differed_by_attribute, differed_in

CONFIDENCE: Final = 0.95
_ANNOUNCED: Final = frozenset(
    {Reason.CONTRADICTED, Reason.AMBIGUOUS, Reason.STALE, Reason.FAILED, Reason.UNREADABLE}
)
"""Doubts that a delivery has raised by what it said: what a read finds then was announced."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A rate, from `differed` of `sampled`, and the interval that holds the true one in 95 of 100 cases."""

    differed: int
    sampled: int
    rate: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Drift:
    """What the last seven days say; None: nobody was sampled, nothing has changed."""

    whole: Estimate | None
    by_attribute: dict[str, Estimate]
    webhook_loss: float | None
    """The share of changes that no delivery had announced when a read or a list showed them."""

    def as_json(self) -> dict[str, Any]:
        """Give it as `status` prints it."""
        shares = {name: _shown(one) for name, one in self.by_attribute.items()}
        return {**_shown(self.whole), "by_attribute": shares}


NO_DRIFT: Final = Drift(None, {}, None)


def drift_of(counts: Mapping[str, int]) -> Drift:
    """Estimate from the counts of a period."""
    sampled, differed = counts.get(Counted.SAMPLED, 0), counts.get(Counted.DIFFERED, 0)
    announced, unannounced = counts.get(Counted.ANNOUNCED, 0), counts.get(Counted.UNANNOUNCED, 0)
    changes = announced + unannounced
    return Drift(
        estimate(differed, sampled) if sampled else None,
        {name: estimate(count, sampled) for name, count in sorted(differed_by_attribute(counts).items())},
        unannounced / changes if changes else None,
    )


def estimate(differed: int, sampled: int) -> Estimate:
    """Give the rate and its Wilson score interval (E. B. Wilson, 1927): right for rates near 0 as well."""
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    rate = differed / sampled
    middle = (rate + z * z / (2 * sampled)) / (1 + z * z / sampled)
    reach = z * sqrt(rate * (1 - rate) / sampled + (z / (2 * sampled)) ** 2) / (1 + z * z / sampled)
    low, high = max(0.0, middle - reach), min(1.0, middle + reach)
    return Estimate(differed, sampled, rate, min(low, rate), max(high, rate))  # 0 and 1 were rounded


def count_repair(batch: Batch, decision: Decision, known: Record | None, doubt: Doubt | None) -> None:
    """Count a change that a read or a list brought and no delivery; completing a partial record is none."""
    if not is_change(decision, known):
        return
    if doubt is None or doubt.reason not in _ANNOUNCED:
        batch.counts[Counted.UNANNOUNCED] += 1


def count_sampled(batch: Batch, *, differs: bool, columns: Collection[str] = ()) -> None:
    """Count a customer drawn at random, whether it differs, and in what."""
    batch.counts[Counted.SAMPLED] += 1
    batch.counts[Counted.DIFFERED] += differs
    batch.counts.update(map(differed_in, attributes_of(frozenset(columns))))


def _shown(one: Estimate | None) -> dict[str, Any]:
    if one is None:
        return {"rate": None, "low": None, "high": None, "sampled": 0}
    return {"rate": one.rate, "low": one.low, "high": one.high, "sampled": one.sampled}
