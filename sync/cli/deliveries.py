"""The commands `deliveries …`: what came in, what became of it, and applying it again."""

from __future__ import annotations

import json as json_format
import sys
from contextlib import AsyncExitStack
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final, Literal

from cyclopts import App

from sync.cli.company import Company  # noqa: TC001 - cyclopts reads annotations
from sync.cli.exactness import CustomerId, Positive  # noqa: TC001 - the same
from sync.cli.moments import Moment  # noqa: TC001 - the same
from sync.cli.owner import UsageError, ask, worker_client
from sync.merge.decisions import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from receiver.inbox import InboxReader
    from sync.mirror.reader import MirrorReader
    from sync.settings import MirrorSettings, WorkerSettings

Outcome = Literal[
    "pending", "applied", "unchanged", "stale", "tombstoned", "contradicted", "quarantined", "failed"
]

_SHOWN: Final = ("received_at", "delivery_id", "topic", "customer_id", "verdict", "reason")

deliveries: Final = App(name="deliveries", help="Look at deliveries, and apply them again.")


@deliveries.command(name="list")
async def list_deliveries(
    *,
    verdict: Outcome | None = None,
    customer: CustomerId | None = None,
    since: Moment = None,
    limit: Positive = 20,
    company: Company = None,
    json: bool = False,
) -> None:
    """List the newest deliveries with what became of them; those that wait come first.

    Parameters
    ----------
    verdict
        Only those with this verdict, or those that wait.
    customer
        Only those about the customer with this id.
    since
        Only those that came since then: 15min, 2h, 3d, or 2026-11-24T12:00 (UTC).
    limit
        How many at most.
    json
        Print a JSON array.
    """
    from sync.cli.tables import cell, print_table
    from sync.console.deliveries import listed
    from sync.mirror.deliveries import Wanted
    from sync.settings import MirrorSettings

    settings = MirrorSettings.load(company)
    wanted = Wanted(verdict, customer, since)
    async with AsyncExitStack() as stack:
        mirror, inbox = await _stores(settings, stack)
        rows = await listed(mirror, inbox, settings.company_id, wanted, limit)
    if json:
        sys.stdout.write(json_format.dumps(rows) + "\n")
        return
    print_table(([cell(row[name]) for name in _SHOWN] for row in rows), _SHOWN)


@deliveries.command
async def show(delivery: str, /, *, company: Company = None, json: bool = False) -> int:
    """Show one delivery: what came, what became of it and why, what it changed, its verdicts before replays.

    Ends with 1 when nothing is known of it.

    Parameters
    ----------
    delivery
        Its name, as the receiver answered it.
    json
        Print a JSON object.
    """
    from sync.console.deliveries import shown_delivery
    from sync.settings import MirrorSettings

    settings = MirrorSettings.load(company)
    async with AsyncExitStack() as stack:
        mirror, inbox = await _stores(settings, stack)
        found = await shown_delivery(mirror, inbox, settings.company_id, delivery.strip().lower())
    if found is None:
        sys.stderr.write(f"Neither inbox nor mirror knows a delivery {delivery}.\n")
        return 1
    said = found.as_json()
    if json:
        sys.stdout.write(json_format.dumps(said) + "\n")
    else:
        for line in _lines(said, None if found.delivery is None else found.delivery.body):
            sys.stdout.write(line + "\n")
    return 0


@deliveries.command
async def replay(
    *ids: str,
    verdict: Verdict | None = None,
    since: Moment = None,
    until: Moment = None,
    dry_run: bool = False,
    company: Company = None,
    json: bool = False,
) -> int:
    """Apply deliveries again, at their old place in the order.

    Ends with 1 if one of them is no longer in the inbox, or could not be applied again.

    Parameters
    ----------
    ids
        Names of deliveries, as the receiver answered them.
    verdict
        Every delivery with this verdict, too; with a time, only those of that time.
    since
        Every delivery that came since then: 15min, 2h, 3d, or 2026-11-24T12:00 (UTC).
    until
        Every delivery that came before then.
    dry_run
        Show the verdicts that they would get, and change nothing.
    json
        Print a JSON object: the new verdict of each, the one before, and what is missing.
    """
    from sync.settings import WorkerSettings

    if not ids and verdict is None and since is None and until is None:
        raise UsageError("Say which deliveries: their names, --verdict failed, or --since 2h.")
    settings = WorkerSettings.load(company)
    asked = {
        "ids": list(ids),
        "verdict": verdict and verdict.value,
        "since": since and since.isoformat(),
        "until": until and until.isoformat(),
    }
    client = worker_client(settings)
    if client is None:
        replayed = await _by_ourselves(settings, asked, dry_run=dry_run)
    else:
        async with client:
            replayed = await ask(client, "/rehearse" if dry_run else "/replay", asked)
    if json:
        sys.stdout.write(json_format.dumps(replayed) + "\n")
    else:
        for name, given in replayed["verdicts"].items():
            before = replayed["before"][name]
            sys.stdout.write(f"{name}  {given}{f'  (was {before})' if before != given else ''}\n")
    for name in replayed["missing"]:
        sys.stderr.write(f"{name} is not among the applied deliveries of the inbox.\n")
    if dry_run and not json:
        sys.stderr.write("Nothing was changed.\n")
    return int(bool(replayed["missing"]) or Verdict.FAILED in replayed["verdicts"].values())


async def _by_ourselves(settings: WorkerSettings, asked: dict[str, Any], *, dry_run: bool) -> dict[str, Any]:
    """Do it in this process, which owns the mirror meanwhile: no worker runs."""
    from sync.console.api import Replay
    from sync.engine import open_engine, utc_now
    from sync.mirror.store import Mirror
    from sync.replay import rehearse
    from sync.replay import replay as replay_deliveries

    what = Replay.model_validate(asked)
    if not dry_run:
        async with open_engine(settings, "kounta-mirror deliveries replay") as engine:
            return asdict(await replay_deliveries(engine, what.ids, what.wanted))
    purpose = "kounta-mirror deliveries replay --dry-run"  # without the engine, which does what is due
    mirror = await Mirror.open(
        settings.place, settings.company_id, settings.subscription, purpose, marker=settings.marker
    )
    async with mirror:
        return asdict(await rehearse(settings, mirror, utc_now, what.ids, what.wanted))


async def _stores(
    settings: MirrorSettings, stack: AsyncExitStack
) -> tuple[MirrorReader | None, InboxReader | None]:
    """Open both stores to look at them. One may be missing, not both."""
    from receiver.database import StoreMissing
    from sync.inbox import InboxView
    from sync.mirror.reader import MirrorReader

    inbox = await (await stack.enter_async_context(InboxView(settings.place))).reader()
    try:
        mirror = MirrorReader.look(settings.place, settings.company_id)
    except StoreMissing:
        if inbox is None:
            raise
        return None, inbox
    return await stack.enter_async_context(mirror), inbox


def _lines(said: Mapping[str, Any], body: bytes | None) -> Iterator[str]:
    from sync.cli.history import lines_of
    from sync.cli.tables import cell
    from sync.console.deliveries import text_of

    for name in ("delivery_id", "topic", "received_at", "customer_id", "verdict", "reason", "applied_at"):
        yield f"{name:12} {cell(said[name])}".rstrip()
    for past in said["past_verdicts"]:
        why = f" ({cell(past['reason'])})" if past["reason"] else ""
        yield f"{'before':12} {past['verdict']}{why}, until it was replayed at {past['replaced_at']}"
    if said["changes"]:
        yield ""
        yield from lines_of(said["changes"])
    if body is None:
        yield ""
        yield "Headers and body have left the inbox (MIRROR_RETENTION_DAYS)."
        return
    if said["headers"]:
        yield ""
        yield from (f"{cell(name)}: {cell(value)}" for name, value in said["headers"].items())
    yield ""
    if said["body_base64"] is None:
        body = json_format.dumps(said["body"], indent=2, ensure_ascii=False).encode(errors="backslashreplace")
    yield text_of(body)
