"""The command `explain`."""

from __future__ import annotations

import json as json_format
import sys
from typing import TYPE_CHECKING, Any, Final

from receiver.errors import MirrorError
from sync.cli.company import Company  # noqa: TC001 - cyclopts reads annotations
from sync.cli.exactness import CustomerId  # noqa: TC001 - the same

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sync.kounta import Customer
    from sync.settings import WorkerSettings

_RULING: Final = ("received_at", "delivery_id", "topic", "verdict", "reason")


async def explain(
    customer_id: CustomerId, /, *, upstream: bool = False, company: Company = None, json: bool = False
) -> int:
    """Say why a customer looks as it does: a sentence first, then the row and what it rests on.

    Changes nothing. Ends with 1 when neither the mirror nor (with --upstream) Kounta has such a customer.

    Parameters
    ----------
    customer_id
        Kounta's id of the customer.
    upstream
        Ask Kounta, in one call, and show where it has the customer otherwise.
    company
        Which of several companies.
    json
        Print one JSON object.
    """
    from receiver.database import utc_text
    from sync.console.explanation import compared
    from sync.console.explanation import explain as look
    from sync.engine import utc_now
    from sync.merge.snapshots import Lens, UnreadableError
    from sync.mirror.erased import erased_at
    from sync.mirror.reader import MirrorReader
    from sync.settings import MirrorSettings, WorkerSettings

    settings = WorkerSettings.load(company) if upstream else MirrorSettings.load(company)
    answer = await _asked(settings, customer_id) if isinstance(settings, WorkerSettings) else None
    async with MirrorReader.look(settings.place, settings.company_id) as mirror:
        found = await look(mirror, customer_id, timing=settings.timing, now=utc_now())
        erased = await erased_at(mirror, settings.marker, customer_id)
    if upstream:
        lens = Lens(settings.company_id, settings.subscription, settings.timing.window)
        try:
            found = compared(found, answer, lens)
        except UnreadableError as error:
            raise MirrorError(f"Kounta's answer cannot be compared with the row: {error}.") from error
    if not found.is_known and erased is not None:
        sys.stderr.write(f"Customer {customer_id} was erased at {utc_text(erased)}, and is kept out.\n")
        return 1
    if not found.is_known and answer is None:
        also = ", and Kounta has none" if upstream else ""
        sys.stderr.write(f"The mirror knows nothing of a customer {customer_id}{also}.\n")
        return 1
    said = found.as_json()
    if json:
        sys.stdout.write(json_format.dumps(said) + "\n")
    else:
        for line in _lines(said):
            sys.stdout.write(line + "\n")
    return 0


async def _asked(settings: WorkerSettings, customer_id: int) -> Customer | None:
    """Have the worker ask Kounta, or ask in this process, which owns the mirror meanwhile."""
    from sync.cli.owner import ask, worker_client
    from sync.kounta import Customer

    client = worker_client(settings)
    if client is not None:
        async with client:
            answer = (await ask(client, "/customers/get", {"id": customer_id}))["customer"]
        return None if answer is None else Customer.model_validate(answer)

    from sync.engine import open_engine

    async with open_engine(settings, "kounta-mirror explain --upstream") as engine:
        return await engine.kounta.customer(customer_id)


def _lines(said: Mapping[str, Any]) -> Iterator[str]:
    from sync.cli.history import lines_of, value_of
    from sync.cli.tables import cell

    yield said["sentence"]
    if said["upstream"] is not None:
        yield said["upstream"]["sentence"]
        for one in said["upstream"]["differences"]:
            for name, here in one["mirror"].items():
                yield f"    {name}: {value_of(here)} here, {value_of(one['kounta'][name])} there"
    if said["customer"] is not None:
        yield ""
        width = max(map(len, said["customer"]))
        for name, value in said["customer"].items():
            yield f"{name:{width}}  {cell(value)}".rstrip()
    yield from _unread_lines(said["unread"])
    if said["changes"]:
        yield ""
        yield "The last changes:"
        yield from lines_of(said["changes"])
    if said["deliveries"]:
        yield ""
        yield "The last deliveries:"
        for ruling in said["deliveries"]:
            yield "  ".join(cell(ruling[name]) for name in _RULING).rstrip()


def _unread_lines(unread: Mapping[str, str | None]) -> Iterator[str]:
    from sync.cli.tables import cell

    if unread:
        yield ""
        yield "Not known, because Kounta sent nothing, or what cannot be read:"
        for name, raw in unread.items():
            if raw != "":  # a whole address stands at its street
                yield f"    {name}: {'nothing' if raw is None else cell(raw)}"
