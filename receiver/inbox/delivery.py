from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from receiver.database import utc_text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime


_ERASED = "erased"  # among the headers of a delivery; a request's own header of that name is never kept


def blank_headers(now: datetime) -> str:
    """Give what stands for the headers of a delivery about a person who was erased, as it is stored."""
    return json.dumps({_ERASED: utc_text(now)})


@dataclass(frozen=True, slots=True)
class Delivery:
    """One accepted webhook POST, as it lies in the inbox."""

    position: int  # among its company's in this inbox, rising by 1, never used again
    id: str  # UUIDv7: its public name
    company_id: int
    topic: str  # "customers/updated"
    received_at: datetime  # UTC
    headers: Mapping[str, str]  # lower-case names; only those that carry no secret
    body: bytes  # as it came: signed, not parsed

    @property
    def is_erased(self) -> bool:
        """Whether it says nothing any more, because it was about a person who was erased."""
        return not self.body and _ERASED in self.headers


@dataclass(frozen=True, slots=True)
class Refusal:
    """How often, and when, requests were refused for one reason."""

    reason: str  # the error code of the answer
    count: int
    first_at: datetime
    last_at: datetime


@dataclass(frozen=True, slots=True)
class Start:
    """One run of the receiver; `stopped_at` is None while it runs, and for good after a kill.

    `seen_at` is its heartbeat: when it last could store; None: a version before heartbeats wrote it.
    """

    number: int
    started_at: datetime
    stopped_at: datetime | None
    seen_at: datetime | None = None
    kept: bool = False
    """Whether connections waited in a socket, which stayed open, since the run before had stopped: no gap."""

    @property
    def last_sign(self) -> datetime:
        """The last moment at which this run is known to have listened."""
        return self.stopped_at or self.seen_at or self.started_at


@dataclass(frozen=True, slots=True)
class FailedCommits:
    """A time in which the inbox could not be written and verified deliveries were refused."""

    number: int
    first_at: datetime
    last_at: datetime
    refused: int
    reason: str
