"""The commands `deliveries …`: what came in, what became of it, and applying it again."""

from __future__ import annotations

import json as json_format
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from cyclopts import App

from sync.cli.company import Company  # noqa: TC001 - cyclopts reads annotations
from sync.cli.owner import UsageError, ask, worker_client
from sync.merge.decisions import Verdict

if TYPE_CHECKING:
    from sync.settings import WorkerSettings

_SHOWN: Final = ("received_at", "delivery_id", "topic", "customer_id", "verdict", "reason")

deliveries: Final = App(name="deliveries", help="Look at deliveries, and apply them again.")


@deliveries.command(name="list")
async def list_deliveries(
    *, verdict: Verdict | None = None, limit: int = 20, company: Company = None, json: bool = False
) -> None:
    """List the newest deliveries that have a verdict.

    Parameters
    ----------
    verdict
        Only those with this verdict.
    limit
        How many at most.
    json
        Print a JSON array.
    """
    from sync.cli.tables import print_table
    from sync.mirror.reader import MirrorReader
    from sync.mirror.verdicts import newest_rulings
    from sync.settings import MirrorSettings

    settings = MirrorSettings.load(company)
    async with MirrorReader.look(settings.data_dir, settings.company_id) as mirror:
        rulings = await newest_rulings(mirror, verdict, limit)
    rows = [ruling.as_json() for ruling in rulings]
    if json:
        sys.stdout.write(json_format.dumps(rows) + "\n")
        return
    print_table(([row[name] for name in _SHOWN] for row in rows), _SHOWN)


@deliveries.command
async def replay(
    *ids: str, verdict: Verdict | None = None, company: Company = None, json: bool = False
) -> int:
    """Apply deliveries again, at their old place in the order.

    Ends with 1 if one of them is no longer in the inbox, or could not be applied again.

    Parameters
    ----------
    ids
        Names of deliveries, as the receiver answered them.
    verdict
        Every delivery with this verdict, too.
    json
        Print a JSON object: the new verdict of each, and what is missing.
    """
    from sync.settings import WorkerSettings

    if not ids and verdict is None:
        raise UsageError("Say which deliveries: their names, or --verdict failed.")
    settings = WorkerSettings.load(company)
    asked = {"ids": list(ids), "verdict": verdict and verdict.value}
    client = worker_client(settings)
    if client is None:
        replayed = await _by_ourselves(settings, asked)
    else:
        async with client:
            replayed = await ask(client, "/replay", asked)
    if json:
        sys.stdout.write(json_format.dumps(replayed) + "\n")
    else:
        for name, given in replayed["verdicts"].items():
            sys.stdout.write(f"{name}  {given}\n")
    for name in replayed["missing"]:
        sys.stderr.write(f"{name} is not among the applied deliveries of the inbox.\n")
    return int(bool(replayed["missing"]) or Verdict.FAILED in replayed["verdicts"].values())


async def _by_ourselves(settings: WorkerSettings, asked: dict[str, Any]) -> dict[str, Any]:
    """Do it in this process, which owns the mirror meanwhile: no worker runs."""
    from sync.engine import open_engine
    from sync.replay import replay as replay_deliveries

    async with open_engine(settings, "kounta-mirror deliveries replay") as engine:
        return asdict(await replay_deliveries(engine, asked["ids"], asked["verdict"]))
