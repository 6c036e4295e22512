"""The durable log of deliveries. One process writes it (`InboxWriter`), any may read it (`InboxReader`)."""

from receiver.inbox.delivery import Delivery, FailedCommits, Refusal, Start
from receiver.inbox.notes import CONNECTIONS_FULL, OVERLOADS
from receiver.inbox.notices import notices
from receiver.inbox.reader import InboxReader
from receiver.inbox.writer import CommitFailed, InboxWriter, QueueFull

__all__ = [
    "CONNECTIONS_FULL",
    "OVERLOADS",
    "CommitFailed",
    "Delivery",
    "FailedCommits",
    "InboxReader",
    "InboxWriter",
    "QueueFull",
    "Refusal",
    "Start",
    "notices",
]
