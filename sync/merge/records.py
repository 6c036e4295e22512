"""The mirror's record of a customer, as the merge sees it."""

from dataclasses import dataclass, field
from datetime import datetime

from sync.merge.customers import Values
from sync.merge.snapshots import Source


@dataclass(slots=True)
class Record:
    """One customer in the mirror: live, or a tombstone once `deleted_at` is set.

    `values` holds every kept column; None is null upstream or, while `partial`, perhaps only not known yet.
    """

    customer_id: int
    values: Values
    as_of: datetime
    rests_on_arrival: bool
    position: int
    """Inbox position of the snapshot that stands; breaks ties of `as_of`."""
    settled_at: datetime
    """The latest as_of or arrival of any snapshot of it: no read before that plus the read lag counts."""
    first_seen_at: datetime
    first_seen_by: Source
    changed_at: datetime
    verified_at: datetime | None = None
    """When a read or a self-verifying list item last confirmed it; None: it rests on a webhook alone."""
    read_at: datetime | None = None
    """When it was last read, whether or not that settled anything."""
    read_as_of: datetime | None = None
    """as_of of the last authoritative read; None when there was none."""
    read_position: int = 0
    """Deliveries up to this position were applied when the last authoritative read began."""
    partial: bool = False
    """True while not all that is subscribed is known."""
    deleted_at: datetime | None = None
    unread: dict[str, str | None] = field(default_factory=dict)
    """Columns that the last read, or a later body, left unknown, as in `Snapshot.unread`; they are None."""
