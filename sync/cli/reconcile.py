"""The command `reconcile`: a sweep and the reads it asks for, awaited."""

import json as json_format
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any

from cyclopts import Parameter, validators

from receiver.errors import MirrorError
from sync.cli.owner import follow, worker_client
from sync.cli.progress import Bar


async def reconcile(
    *,
    deep: bool = False,
    customer: Annotated[int | None, Parameter(validator=validators.Number(gte=1))] = None,
    allow_deletes: Annotated[int, Parameter(validator=validators.Number(gte=0))] = 0,
    json: bool = False,
) -> int:
    """Compare the mirror with Kounta's list, and read every customer that may differ.

    Ends with 1 if a customer could not be read or if deletions are held.

    Parameters
    ----------
    deep
        Read every customer, whatever the list says: one call each.
    customer
        Only read this customer.
    allow_deletes
        Let up to this many held deletions go, each read once more.
    json
        Print the report as one JSON object.
    """
    from sync.settings import WorkerSettings

    settings = WorkerSettings.load()
    asked = {"deep": deep, "customer_id": customer, "allow_deletes": allow_deletes}
    client = worker_client(settings.data_dir)
    lines = _by_ourselves(settings, asked) if client is None else follow(client, "/reconcile", asked)
    report: dict[str, int] | None = None
    async with aclosing(lines):
        with Bar() as bar:
            async for line in lines:
                if "error" in line:
                    raise MirrorError(line["error"])
                if "report" in line:
                    report = line["report"]
                else:
                    bar.show(line["stage"], line["done"], line["total"])
    if client is not None:
        await client.aclose()
    if report is None:
        raise MirrorError("The worker ended before the reconciliation did. See its log, and try again.")
    sys.stdout.write(json_format.dumps(report) + "\n" if json else _table(report))
    if report["held_deletes"]:
        sys.stderr.write(
            f"{report['held_deletes']} deletions are held, because they are many at once. If they are right: "
            f"kounta-mirror reconcile --allow-deletes {report['held_deletes']}\n"
        )
    if report["failed"]:
        sys.stderr.write(f"{report['failed']} customers could not be read; the worker's log says why.\n")
    return int(bool(report["failed"] or report["held_deletes"]))


async def _by_ourselves(settings: Any, asked: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
    """Do it in this process, which owns the mirror meanwhile: no worker runs."""
    from sync.console.api import Reconcile, reconciliation
    from sync.engine import open_engine
    from sync.inbox import InboxView

    async with open_engine(settings, "kounta-mirror reconcile") as engine:
        async with InboxView(settings.data_dir) as inbox:
            reader = await inbox.reader()
            if reader is not None:
                await engine.applier.apply_pending(reader)
        async with aclosing(reconciliation(engine, Reconcile.model_validate(asked))) as lines:
            async for line in lines:
                yield line


def _table(report: dict[str, int]) -> str:
    return "".join(f"{name.replace('_', ' '):<14}{number:>10,}\n" for name, number in report.items())
