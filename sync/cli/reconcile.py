"""The command `reconcile`: a sweep and the reads it asks for, awaited."""

from __future__ import annotations

import json as json_format
import sys
from contextlib import AsyncExitStack, aclosing
from typing import TYPE_CHECKING, Any

from receiver.errors import MirrorError
from sync.cli.company import Company  # noqa: TC001 - cyclopts reads annotations
from sync.cli.exactness import CustomerId  # noqa: TC001 - the same
from sync.cli.owner import follow, worker_client
from sync.cli.progress import Bar

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator, Sequence

    import httpx2

    from sync.engine import Engine


async def reconcile(
    *,
    deep: bool = False,
    customer: CustomerId | None = None,
    allow_deletes: int = 0,
    company: Company = None,
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

    settings = WorkerSettings.load(company)
    asked = {"deep": deep, "customer_id": customer, "allow_deletes": allow_deletes}
    client = worker_client(settings)
    lines = _by_ourselves(settings, asked) if client is None else follow(client, "/reconcile", asked)
    report, why = await awaited(client, lines)
    return print_report(report, list(_complaints(report, why, customer)), json=json)


async def awaited(
    client: httpx2.AsyncClient | None, lines: AsyncGenerator[dict[str, Any], None]
) -> tuple[dict[str, int], str]:
    """Show how far a reconciliation has come, and give its report and why the first that failed did."""
    async with AsyncExitStack() as stack:
        if client is not None:
            await stack.enter_async_context(client)
        await stack.enter_async_context(aclosing(lines))
        bar = stack.enter_context(Bar())
        async for line in lines:
            if "error" in line:
                raise MirrorError(line["error"])
            if "report" in line:
                return line["report"], line["why"]
            bar.show(line["stage"], line["done"], line["total"])
    raise MirrorError("The worker ended before the reconciliation did. See its log, and try again.")


async def apply_what_waits(engine: Engine) -> None:
    """Apply what is pending, as a worker would have done by now."""
    from sync.inbox import InboxView

    async with InboxView(engine.settings.place) as inbox:
        reader = await inbox.reader()
        if reader is not None:
            await engine.applier.apply_pending(reader)


def print_report(report: dict[str, int], complaints: Sequence[str], *, json: bool) -> int:
    """Print a report and what was left undone; give the exit code."""
    sys.stdout.write(json_format.dumps(report) + "\n" if json else _table(report))
    sys.stderr.write("".join(f"{complaint}\n" for complaint in complaints))
    return int(bool(complaints))


def complaints_of(report: dict[str, int], why: str) -> Iterator[str]:
    """Say what was left undone, a sentence each, and what to do."""
    if held := report["held_deletes"]:
        yield (
            f"Deletions held, because they are many at once: {held}. "
            f"If they are right: kounta-mirror reconcile --allow-deletes {held}"
        )
    if failed := report["failed"]:
        yield f"Customers that could not be read: {failed}. The first one: {why}"


def _complaints(report: dict[str, int], why: str, customer: int | None) -> Iterator[str]:
    yield from complaints_of(report, why)
    if customer is not None and not any(report[name] for name in _KNOWN):
        yield f"Neither Kounta nor the mirror knows a customer {customer}."


async def _by_ourselves(settings: Any, asked: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
    """Do it in this process, which owns the mirror meanwhile: no worker runs."""
    from sync.console.api import Reconcile, reconciliation
    from sync.engine import open_engine

    async with open_engine(settings, "kounta-mirror reconcile") as engine:
        await apply_what_waits(engine)
        async with aclosing(reconciliation(engine, Reconcile.model_validate(asked))) as lines:
            async for line in lines:
                yield line


_KNOWN = ("created", "updated", "deleted", "unchanged", "failed", "held_deletes")


def _table(report: dict[str, int]) -> str:
    return "".join(f"{name.replace('_', ' '):<14}{number:>10,}\n" for name, number in report.items())
