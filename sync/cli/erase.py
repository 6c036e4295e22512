"""The command `erase`."""

from __future__ import annotations

import json as json_format
import sys
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from sync.cli.company import Company  # noqa: TC001 - cyclopts reads annotations
from sync.cli.exactness import CustomerId  # noqa: TC001 - the same
from sync.cli.owner import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sync.settings import WorkerSettings

Flag = Annotated[bool, Parameter(negative="")]

_MIRROR = {
    "customers": "rows",
    "changes": "changes",
    "tags": "tags",
    "doubts": "doubts",
    "held_deletes": "held deletes",
    "verdicts": "verdicts (what they say of the person)",
    "past_verdicts": "verdicts before replays",
}


async def erase(
    customer_id: CustomerId,
    /,
    *,
    yes: Flag = False,
    allow_return: Flag = False,
    company: Company = None,
    json: bool = False,
) -> int:
    """Erase a person from mirror, history, quarantine, inbox and spool, and keep them out from then on.

    Kounta is not asked to do anything. Ends with 1 while a reader keeps old pages alive: say it again. What
    was begun is completed by saying it again, whatever broke it off.

    Parameters
    ----------
    customer_id
        Kounta's id of the customer.
    yes
        Do not ask whether it is meant.
    allow_return
        Let a person come back who was erased: nothing is erased, and the customer is read again.
    company
        Which of several companies.
    json
        Print a JSON object.
    """
    from sync.erasure import NoKeyError
    from sync.settings import WorkerSettings

    settings = WorkerSettings.load(company)
    if settings.secret_key is None:
        raise NoKeyError
    if not yes and not allow_return:
        await _confirm(settings, customer_id)
    said = await _asked(settings, {"customer_id": customer_id, "allow_return": allow_return})
    if json:
        sys.stdout.write(json_format.dumps(said) + "\n")
    else:
        for line in [_returns(said)] if allow_return else _lines(said):
            sys.stdout.write(line + "\n")
    if allow_return or said["complete"]:
        return 0
    sys.stderr.write(f"The erasure is not complete. {said['why']}\n")
    return 1


async def _asked(settings: WorkerSettings, what: dict[str, Any]) -> dict[str, Any]:
    """Have the worker do it, or do it in this process, which owns the mirror meanwhile."""
    from sync.cli.owner import ask, worker_client

    client = worker_client(settings)
    if client is not None:
        async with client:
            return await ask(client, "/erase", what)

    from sync.console.api import Erase, erasure
    from sync.engine import utc_now
    from sync.erasure import Eraser
    from sync.mirror.store import Mirror

    mirror = await Mirror.open(
        settings.place,
        settings.company_id,
        settings.subscription,
        "kounta-mirror erase",
        marker=settings.marker,
    )
    async with mirror:
        eraser = Eraser(settings, mirror, utc_now)
        await eraser.take_over()
        return await erasure(eraser, Erase.model_validate(what))


async def _confirm(settings: WorkerSettings, customer_id: int) -> None:
    """Ask a person to type the id. Raises UsageError when there is nobody to ask, or it is another one."""
    if not sys.stdin.isatty():
        raise UsageError("Nobody can be asked whether it is meant: say --yes. Nothing was erased.")
    from rich.console import Console

    who = await _named(settings, customer_id)
    asks = f"Erase customer {customer_id} ({who}) for good? Type the id: "
    try:
        typed = Console(stderr=True).input(asks, markup=False)
    except EOFError:
        typed = ""
    if typed.strip() != str(customer_id):
        raise UsageError("That is not the id. Nothing was erased.")


async def _named(settings: WorkerSettings, customer_id: int) -> str:
    """Say enough of a customer for a person to see that it is the right one."""
    from receiver.database import StoreMissing
    from sync.mirror.known import known_of
    from sync.mirror.reader import MirrorReader

    try:
        async with MirrorReader.look(settings.place, settings.company_id) as mirror:
            record = (await known_of(mirror, customer_id)).record
    except StoreMissing:
        record = None
    if record is None:
        return "the mirror has no such customer"
    first, last = record.values.get("first_name"), record.values.get("last_name")
    initial = f"{str(last)[:1]}…" if last else ""
    return f"{first or ''} {initial}".strip() or "without a name"


def _returns(said: Mapping[str, Any]) -> str:
    return (
        f"Customer {said['customer_id']}, erased at {said['erased_at']}, may come back; "
        "a read of the customer is asked for."
    )


def _lines(said: Mapping[str, Any]) -> Iterator[str]:
    done = f"complete at {said['completed_at']}" if said["complete"] else "not complete yet"
    yield f"Customer {said['customer_id']} was erased at {said['erased_at']}, {done}."
    for name, meaning in _MIRROR.items():
        yield f"  mirror  {said['mirror'][name]:>8,} {meaning}"
    yield f"  inbox   {said['inbox']['bodies']:>8,} bodies of deliveries"
    yield f"  spool   {said['spool']['bodies']:>8,} bodies of deliveries"
    yield "Left: a keyed hash of the id, which keeps the person out."
    yield from said["remains"]
