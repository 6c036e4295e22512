"""Retention: old deliveries leave the inbox once the worker has given them their verdicts; samples thin."""

from datetime import datetime, timedelta
from typing import Final

import httpx2
import structlog

from receiver.database import inbox_of, utc_text
from receiver.inbox.retention import release
from receiver.local import connect_locally
from receiver.postgresql import Schema
from sync.engine import Engine
from sync.merge.decisions import Verdict
from sync.mirror.erasure import forget_ids_of_erased
from sync.mirror.samples import thin_samples
from sync.mirror.verdicts import deliveries_with

RECEIVER: Final = "receiver"
KEPT: Final = (Verdict.FAILED, Verdict.QUARANTINED)

_log = structlog.get_logger()


async def forget_old(engine: Engine) -> int | None:
    """Have old deliveries removed that have a verdict; None when the receiver that owns them does not run.

    Failed and quarantined ones stay: they are the only record of what they said. The feed forgets whom it
    said `erased` of before, and of old samples one an hour is left.
    """
    await thin_samples(engine.mirror, engine.clock())
    keep = [name for verdict in KEPT for name in await deliveries_with(engine.mirror, verdict)]
    before = engine.clock() - timedelta(days=engine.settings.retention_days)
    await forget_ids_of_erased(engine.mirror, before)
    through = (await engine.mirror.refresh()).position
    inbox = inbox_of(engine.settings.place)
    if isinstance(inbox, Schema):
        if through == 0:
            return None  # nothing has a verdict yet; perhaps no receiver has made the inbox
        company_id = engine.settings.company_id
        forgotten: int | None = await release(inbox, company_id, through=through, before=before, keep=keep)
    else:
        forgotten = await _forgotten_by_receiver(engine, through, before, keep)
    if forgotten:
        _log.info(f"{forgotten} old deliveries left the inbox.", action="deliveries_forgotten")
    return forgotten


async def _forgotten_by_receiver(
    engine: Engine, through: int, before: datetime, keep: list[str]
) -> int | None:
    """Ask the receiver, which alone writes a file."""
    client = connect_locally(engine.settings.data_dir, RECEIVER)
    if client is None:
        return None
    what = {
        "company_id": engine.settings.company_id,
        "through": through,
        "before": utc_text(before),
        "keep": keep,
    }
    try:
        async with client:
            answer = await client.post("/forget", json=what)
    except httpx2.TransportError:
        return None  # it stopped meanwhile; there will be another hour
    if answer.is_error:
        _log.warning(f"The receiver keeps old deliveries: {answer.text}", action="retention_failed")
        return 0
    return int(answer.json()["forgotten"])
