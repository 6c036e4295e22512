"""Which behaviours of the reference of upstream this company's Kounta has shown. Pure."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from sync.concerns import ago
from sync.doctor.finding import Finding, ok
from sync.kounta.observations import BEHAVIOURS
from sync.mirror.observations import Observation


def of_observations(seen: Sequence[Observation], now: datetime) -> Iterator[Finding]:
    """Say of each behaviour what it is, how often it was seen, and when last."""
    check = "upstream"
    if not seen:
        yield ok(check, "No unusual behaviour of Kounta was seen so far.")
    for one in seen:
        what = BEHAVIOURS.get(one.name, "of another version of this program")
        times = f"{one.count:,} times, the last" if one.count > 1 else "once,"
        yield ok(check, f"{one.name}: {what}; {times} {ago(now - one.last_at)} ago.")
