"""The command `history`."""

from __future__ import annotations

import json as json_format
import sys
from typing import TYPE_CHECKING, Any

from sync.cli.company import Company  # noqa: TC001 - cyclopts reads annotations
from sync.cli.exactness import CustomerId  # noqa: TC001 - the same

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


async def history(customer_id: CustomerId, /, *, company: Company = None, json: bool = False) -> int:
    """Show one customer's past, the newest last: each change, where it came from, and what it changed.

    Ends with 1 when the mirror has never had this customer.

    Parameters
    ----------
    customer_id
        Kounta's id of the customer.
    json
        Print a JSON array.
    """
    from receiver.database import utc_text
    from sync.mirror.erased import erased_at
    from sync.mirror.feed import changes_of
    from sync.mirror.reader import MirrorReader
    from sync.settings import MirrorSettings

    settings = MirrorSettings.load(company)
    async with MirrorReader.look(settings.place, settings.company_id) as mirror:
        changes = await changes_of(mirror, customer_id)
        erased = await erased_at(mirror, settings.marker, customer_id)
    if erased is not None:
        sys.stderr.write(f"Customer {customer_id} was erased at {utc_text(erased)}, and is kept out.\n")
    elif not changes:
        sys.stderr.write(f"The mirror has no history of customer {customer_id}.\n")
    if not changes:
        return 1
    rows = [change.as_json() for change in changes]
    if json:
        sys.stdout.write(json_format.dumps(rows) + "\n")
    else:
        for line in lines_of(rows):
            sys.stdout.write(line + "\n")
    return 0


def lines_of(changes: list[dict[str, Any]]) -> Iterator[str]:
    """Say each change in a line, and below it each field: before -> after."""
    for change in changes:
        delivery = f", delivery {change['delivery_id']}" if change["delivery_id"] else ""
        what = f"{change['kind']} by {change['source']}{delivery}"
        yield f"{change['applied_at']}  {what}  (seq {change['seq']})"
        yield from fields_of(change)


def fields_of(change: Mapping[str, Any]) -> Iterator[str]:
    """Say each changed field in a line, before -> after."""
    before, after = change["before"] or {}, change["after"] or {}
    for name in {**before, **after}:
        yield f"    {name}: {value_of(before.get(name))} -> {value_of(after.get(name))}"


def value_of(value: Any) -> str:
    """Say a field's value in one line."""
    from sync.cli.tables import cell

    return "(none)" if value is None else cell(value) or '""'
