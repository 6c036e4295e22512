"""Deletions whose very bytes came before at another topic: the path names the topic, and is not signed."""

from collections.abc import Sequence
from typing import Final

from receiver.inbox import Delivery, InboxReader
from sync.merge.snapshots import Snapshot
from sync.mirror.batch import Batch
from sync.mirror.verdicts import named_about
from sync.stretch import Reading

COPIED: Final = "the same bytes came before at another topic"
"""Why such a delivery deletes nobody before a read has confirmed it."""
AT_ONCE: Final = 500
"""Deliveries whose bodies are in memory at once."""


async def copied_deletions(
    batch: Batch, inbox: InboxReader | None, deliveries: Sequence[Delivery], readings: Sequence[Reading]
) -> frozenset[str]:
    """Name the deletions among these whose body came before, at another topic.

    It is looked for among these deliveries and, in the inbox, among all that had a verdict about the same
    customers. What retention has removed is not found: it is older than what reads have shown since.
    """
    deletions = {
        delivery.id: delivery
        for delivery, reading in zip(deliveries, readings, strict=True)
        if isinstance(reading, Snapshot) and reading.deleted and _is_live(batch, reading)
    }
    if not deletions:
        return frozenset()
    found = _among(deletions, deliveries)
    if inbox is not None:
        about = {
            reading.customer_id
            for delivery, reading in zip(deliveries, readings, strict=True)
            if isinstance(reading, Snapshot) and delivery.id in deletions
        }
        names = await named_about(batch.connection, batch.company_id, about)
        for start in range(0, len(names), AT_ONCE):
            earlier = await inbox.find(batch.company_id, names[start : start + AT_ONCE])
            found |= _among(deletions, earlier)
    return frozenset(found)


def _is_live(batch: Batch, reading: Snapshot) -> bool:
    """Return whether the customer is shown, or may be once the deliveries before this one are applied."""
    record = batch.records.get(reading.customer_id)
    return record is None or record.deleted_at is None


def _among(deletions: dict[str, Delivery], others: Sequence[Delivery]) -> set[str]:
    """Name the deletions whose body one of the others had before, at another topic."""
    first: dict[tuple[bytes, str], int] = {}
    for other in others:
        key = other.body, other.topic
        first[key] = min(first.get(key, other.position), other.position)
    topics = {topic for _, topic in first}
    return {
        name
        for name, deletion in deletions.items()
        if any(
            first.get((deletion.body, topic), deletion.position) < deletion.position
            for topic in topics - {deletion.topic}
        )
    }
