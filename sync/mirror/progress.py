"""How far the mirror of a company has come."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Progress:
    """A row of `_progress`: stored in the transaction that made it true."""

    inbox_id: str | None = None
    position: int = 0
    """Deliveries up to this position of the inbox have their verdict."""
    missing: int = 0
    """Deliveries that the inbox had lost before they were read."""
    seq: int = 0
    """The newest change of the feed."""
    revision: int = 0
    """The newest doubt."""
    last_call_at: datetime | None = None
    closed_until: datetime | None = None
    upstream_failure: str | None = None
    upstream_failure_since: datetime | None = None
    ruled_elsewhere: int = 0
    """Verdicts of deliveries of earlier inboxes."""
    sweep_due: str | None = None
    """Why a sweep is due beside the schedule; None when it is not."""
    deletes_allowed_at: datetime | None = None
    """When a person last let deletions go: those up to then do not count for the brake."""
    starts_seen: int = 0
    """The newest start of the receiver that was looked at: whatever lies before it was missed."""
    failed_commits_seen: int = 0
    """The same for the times in which the receiver could not store."""
    alive_at: datetime | None = None
    """When the worker last noted that it lives."""
    sweeps_asked: int = 0
    """How often a sweep was asked for beside the schedule."""
    epoch: int = 0
    """How often the company's lease has gone to another holder (sync.mirror.lease)."""
    mobile_read: bool | None = None
    """Whether any read carried `mobile`, which is newer than the seed; None: there was no read yet."""
    lost_at: datetime | None = None
    """When a delivery was lost last that named no customer (decision 0062); None: none was."""
    lost_swept_at: datetime | None = None
    """When the last sweep began that was for such losses alone."""
    lost_refreshed_at: datetime | None = None
    """When a read of every row was last asked for because of lost deliveries."""
