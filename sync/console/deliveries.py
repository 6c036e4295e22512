"""What became of deliveries: those that wait, and one of them with all that is known of it."""

import json
from base64 import b64encode
from dataclasses import dataclass
from typing import Any, Final

from receiver.database import utc_text
from receiver.inbox import Delivery, InboxReader
from sync.mirror.deliveries import (
    PastVerdict,
    Wanted,
    applied_through,
    newest,
    past_verdicts,
    ruling_of,
)
from sync.mirror.feed import Change, changes_of
from sync.mirror.reader import MirrorReader
from sync.mirror.verdicts import Ruling

PENDING: Final = "pending"
"""What a delivery is that has no verdict yet."""
_SEARCHED: Final = 1000
"""Of the deliveries that wait, so many are looked through for a customer or a time."""


@dataclass(frozen=True, slots=True)
class Shown:
    """One delivery: what came, what became of it, and what it changed."""

    delivery: Delivery | None
    """None: it has left the inbox."""
    ruling: Ruling | None
    """None: it waits."""
    changes: tuple[Change, ...] = ()
    past: tuple[PastVerdict, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Give it as the command prints it with --json: `body` if it is JSON, else `body_base64`."""
        delivery = self.delivery
        said = _waiting(delivery) if self.ruling is None and delivery else {}
        if self.ruling is not None:
            said = self.ruling.as_json()
        body = None if delivery is None else json_of(delivery.body)
        is_json = body is not None or (delivery is not None and delivery.body.strip() == b"null")
        return said | {
            "headers": None if delivery is None else dict(delivery.headers),
            "body": body,
            "body_base64": None if is_json or delivery is None else b64encode(delivery.body).decode(),
            "in_inbox": delivery is not None,
            "changes": [change.as_json() for change in self.changes],
            "past_verdicts": [one.as_json() for one in self.past],
        }


async def shown_delivery(
    mirror: MirrorReader | None, inbox: InboxReader | None, company_id: int, delivery_id: str
) -> Shown | None:
    """Find a delivery of a company; None when neither store knows it. Stores that are not there are None."""
    ruling = None if mirror is None else await ruling_of(mirror, delivery_id)
    found = [] if inbox is None else await inbox.find(company_id, [delivery_id])
    if ruling is None and not found:
        return None
    changes: list[Change] = []
    past: list[PastVerdict] = []
    if mirror is not None and ruling is not None:
        past = await past_verdicts(mirror, delivery_id)
        if ruling.customer_id is not None:
            changes = await changes_of(mirror, ruling.customer_id, delivery_id=delivery_id)
    return Shown(found[0] if found else None, ruling, tuple(changes), tuple(past))


async def listed(
    mirror: MirrorReader | None, inbox: InboxReader | None, company_id: int, wanted: Wanted, limit: int
) -> list[dict[str, Any]]:
    """Give the newest deliveries that are wanted, with what became of them; those that wait come first."""
    rows: list[dict[str, Any]] = []
    if inbox is not None and wanted.verdict in {None, PENDING}:
        rows = [_waiting(one) for one in await _pending(mirror, inbox, company_id, wanted, limit)]
    if mirror is not None and wanted.verdict != PENDING and len(rows) < limit:
        known = {row["delivery_id"] for row in rows}
        found = await newest(mirror, wanted, limit)
        rows += [ruling.as_json() for ruling in found if ruling.delivery_id not in known]
    return rows[:limit]


async def _pending(
    mirror: MirrorReader | None, inbox: InboxReader, company_id: int, wanted: Wanted, limit: int
) -> list[Delivery]:
    known, position = (None, 0) if mirror is None else await applied_through(mirror)
    if known not in {None, await inbox.identity()}:
        position = 0
    searching = wanted.customer_id is not None or wanted.since is not None
    most = max(limit, _SEARCHED) if searching else limit
    head = await inbox.head(company_id)
    found = await inbox.read(company_id, max(position, head - most), most)
    return [
        one
        for one in reversed(found)
        if (wanted.since is None or one.received_at >= wanted.since)
        and wanted.customer_id in {None, customer_of(one.body)}
    ][:limit]


def _waiting(delivery: Delivery) -> dict[str, Any]:
    return {
        "delivery_id": delivery.id,
        "customer_id": customer_of(delivery.body),
        "topic": delivery.topic,
        "verdict": PENDING,
        "reason": None,
        "received_at": utc_text(delivery.received_at),
        "applied_at": None,
    }


def customer_of(body: bytes) -> int | None:
    """Say which customer a body is about, as far as it says so; what that is worth, only a verdict tells."""
    value = json_of(body)
    number = value.get("id") if isinstance(value, dict) else None
    return number if isinstance(number, int) and not isinstance(number, bool) else None


def json_of(body: bytes) -> Any:
    """Read a body as JSON that can be printed again; None when it is none."""
    try:
        value = json.loads(body)
        json.dumps(value, allow_nan=False)
    except (ValueError, RecursionError):
        return None
    return value


def text_of(body: bytes, most: int = 4000) -> str:
    """Write what is no JSON so that it does nothing to a terminal; at most so many of its bytes."""
    text = body[:most].decode(errors="backslashreplace")
    shown = "".join(sign if sign.isprintable() or sign == "\n" else _escaped(sign) for sign in text)
    return f"{shown}\n… and {len(body) - most:,} bytes more" if len(body) > most else shown


def _escaped(sign: str) -> str:
    return sign.encode("unicode_escape", "surrogatepass").decode()
