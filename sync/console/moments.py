"""Times as people write them."""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

_UNITS: Final = {"s": "seconds", "min": "minutes", "h": "hours", "d": "days"}
_AGE: Final = re.compile(r"(\d{1,9}) ?(s|min|h|d)")


def moment_of(text: str, now: datetime) -> datetime:
    """Read a time: an age (90s, 15min, 2h, 3d) or ISO 8601, which is UTC when it names no zone.

    Raises ValueError with a sentence.
    """
    age = _AGE.fullmatch(text.strip())
    try:
        if age is not None:
            return now - timedelta(**{_UNITS[age[2]]: int(age[1])})
        moment = datetime.fromisoformat(text.strip())
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(
            f"A time should be an age such as 15min, 2h or 3d, or like 2026-11-24T12:00 (UTC); came {text!r}."
        ) from None
