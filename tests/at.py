"""Runs a command while the clock stands still: `python -m tests.at 2026-11-24T12:00:00Z status --json`.

With `-c PROGRAM` instead of a command it runs a Python program that uses the package.
"""

import sys
from datetime import datetime, tzinfo

import receiver.clock
from sync.cli import main


class Stopped:
    """Takes the place of `datetime` where the product reads the system clock."""

    def __init__(self, at: datetime) -> None:
        self._at = at

    def now(self, zone: tzinfo) -> datetime:
        return self._at.astimezone(zone)


def stop_the_clock(at: datetime) -> None:
    """Let the product's clock stand still from now on, in this process."""
    setattr(receiver.clock, "datetime", Stopped(at))  # noqa: B010 - of another type


if __name__ == "__main__":
    stop_the_clock(datetime.fromisoformat(sys.argv.pop(1)))
    if sys.argv[1:2] == ["-c"]:
        exec(compile(sys.argv[2], "-c", "exec"), {"__name__": "__main__"})  # noqa: S102 - a text of a test
    else:
        main()
