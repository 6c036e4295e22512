"""The system clock.

Nothing else of the product reads it, but for the client of Kounta and the local Kounta, which stand alone:
they take the time as an argument, or a clock whose default value is this one.
"""

from __future__ import annotations

from datetime import UTC, datetime


def utc_now() -> datetime:
    """Return the time of the system clock, in UTC."""
    return datetime.now(UTC)
