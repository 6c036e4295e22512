"""What a check has found."""

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Outcome(StrEnum):
    """How it is with one thing."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"
    """It could not be looked at, because of something else that is told."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what was looked at, how it is, a sentence, and what to do about it."""

    check: str
    outcome: Outcome
    sentence: str
    action: str | None = None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def ok(check: str, sentence: str) -> Finding:
    return Finding(check, Outcome.OK, sentence)


def warning(check: str, sentence: str, action: str | None = None) -> Finding:
    return Finding(check, Outcome.WARNING, sentence, action)


def failed(check: str, sentence: str, action: str | None = None) -> Finding:
    return Finding(check, Outcome.FAILED, sentence, action)


def skipped(check: str, sentence: str) -> Finding:
    return Finding(check, Outcome.SKIPPED, sentence)
