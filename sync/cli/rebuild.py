"""The command `rebuild`: the mirror made anew, awaited."""

from __future__ import annotations

import sys
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sync.cli.company import Company  # noqa: TC001 - cyclopts reads annotations

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from sync.settings import WorkerSettings


async def rebuild(*, company: Company = None, json: bool = False) -> int:
    """Make the mirror anew, from the inbox and from Kounta.

    Every live row is emptied, and stays, known in part only, until it is known again: the deliveries that the
    inbox still holds are applied again, then Kounta's list is swept, and every customer is read, one call
    each. The worker goes on with that if this command is ended. History and verdicts stay; the feed goes on,
    and tells what differs.

    A file that is damaged is put aside first and begun anew; that takes the worker to be stopped, and for the
    inbox the receiver, too. The history then begins with the oldest delivery of the inbox.

    Ends with 1 if a customer could not be read or if deletions are held.

    Parameters
    ----------
    json
        Print the report as one JSON object, as `reconcile` does.
    """
    from sync.cli.owner import follow, worker_client
    from sync.cli.reconcile import awaited, complaints_of, print_report
    from sync.settings import WorkerSettings

    settings = WorkerSettings.load(company)
    client = worker_client(settings)
    if client is None:
        _put_aside(settings)
    lines = _by_ourselves(settings) if client is None else follow(client, "/rebuild", {})
    report, why = await awaited(client, lines)
    return print_report(report, list(complaints_of(report, why)), json=json)


def _put_aside(settings: WorkerSettings) -> None:
    """Begin another file in the place of one that is damaged, and say so."""
    from receiver.integrity import damage_of
    from sync.engine import utc_now
    from sync.mirror.damage import put_aside, put_inbox_aside

    if not isinstance(settings.place, Path):
        return
    if damage_of(settings.place / "inbox.db") is not None:
        inbox = put_inbox_aside(settings.place, utc_now())
        if inbox is not None:
            sys.stderr.write(
                f"The inbox is damaged ({inbox.finding}): it lies in {inbox.file} now, and the receiver will "
                "make another one. Deliveries that were not applied are lost with it; the reads of this "
                "command, and a sweep once the receiver runs, find what they said.\n"
            )
    aside = put_aside(settings.place, utc_now())
    if aside is None:
        return
    sys.stderr.write(
        f"The mirror is damaged ({aside.finding}): it lies in {aside.file} now, and another one is made. "
        "Its history is in that file alone.\n"
    )
    if aside.lost:
        sys.stderr.write(
            f"What could not be read of it and nobody gives again: {', '.join(aside.lost)}. "
            "Look at: kounta-mirror webhooks list, kounta-mirror login.\n"
        )


async def _by_ourselves(settings: WorkerSettings) -> AsyncGenerator[dict[str, Any], None]:
    """Do it in this process, which owns the mirror meanwhile: no worker runs."""
    from sync.cli.reconcile import apply_what_waits
    from sync.console.api import Reconcile, reconciliation
    from sync.engine import open_engine
    from sync.rebuild import rebuilding

    async with open_engine(settings, "kounta-mirror rebuild") as engine:
        await apply_what_waits(engine)
        async with aclosing(rebuilding(engine, reconciliation(engine, Reconcile(deep=True)))) as lines:
            async for line in lines:
                yield line
