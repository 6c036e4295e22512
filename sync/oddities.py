"""What a delivery shows of upstream's habits, by names of docs/reference/upstream.md. Pure."""

from collections.abc import Iterator

from receiver.inbox import Delivery
from sync.merge.reading import ESCAPED_NUL
from sync.merge.snapshots import Snapshot
from sync.stretch import Reading, Unread


def oddities_of(delivery: Delivery, reading: Reading) -> Iterator[str]:
    """Name what is odd in a delivery and in what could be read of it; nothing of an ordinary one."""
    if isinstance(reading, Unread):
        if reading.is_loss:
            yield from _of_loss(delivery.body, reading)
        return
    yield from reading.oddities
    if reading.unread:
        yield from _of_bytes(delivery.body)
    if _is_bare(reading):
        yield "bare-deletions"


def _of_loss(body: bytes, reading: Unread) -> Iterator[str]:
    yield next(_of_bytes(body), "garbled-bodies")
    if not reading.ids:
        yield "nameless-bodies"


def _of_bytes(body: bytes) -> Iterator[str]:
    if b"\x00" in body or ESCAPED_NUL in body:
        yield "nul-bodies"
    try:
        body.decode()
    except UnicodeDecodeError:
        yield "not-utf8"


def _is_bare(reading: Snapshot) -> bool:
    return reading.deleted and not any(value is not None for value in reading.values.values())
