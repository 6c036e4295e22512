"""Retention: old deliveries leave the inbox. The worker knows their verdicts; the receiver removes them."""

from datetime import timedelta
from typing import Final

import httpx2
import structlog

from receiver.database import utc_text
from receiver.local import connect_locally
from sync.engine import Engine
from sync.merge.decisions import Verdict
from sync.mirror.verdicts import deliveries_with

RECEIVER: Final = "receiver"
KEPT: Final = (Verdict.FAILED, Verdict.QUARANTINED)

_log = structlog.get_logger()


async def forget_old(engine: Engine) -> int | None:
    """Ask the receiver to remove old deliveries that have a verdict; None when it does not run.

    Failed and quarantined ones stay: they are the only record of what they said.
    """
    client = connect_locally(engine.settings.data_dir, RECEIVER)
    if client is None:
        return None
    keep = [name for verdict in KEPT for name in await deliveries_with(engine.mirror, verdict)]
    before = engine.clock() - timedelta(days=engine.settings.retention_days)
    what = {
        "company_id": engine.settings.company_id,
        "through": (await engine.mirror.refresh()).position,
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
    forgotten = int(answer.json()["forgotten"])
    if forgotten:
        _log.info(f"{forgotten} old deliveries left the inbox.", action="deliveries_forgotten")
    return forgotten
