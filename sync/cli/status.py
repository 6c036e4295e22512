"""The command `status`."""

import json as json_format
import sys
from typing import Any

from rich.console import Console
from rich.table import Table


async def status(*, json: bool = False, check: bool = False) -> int:
    """Say how the mirror is: a sentence first, then what needs attention and the figures.

    Parameters
    ----------
    json
        Print one JSON object instead.
    check
        End as monitors expect: 0 all is well, 1 warning, 2 critical.
    """
    from sync.engine import utc_now
    from sync.settings import MirrorSettings
    from sync.status import status_of

    settings = MirrorSettings.load()
    found = await status_of(settings, utc_now())
    said = found.as_json()
    if json:
        sys.stdout.write(json_format.dumps(said) + "\n")
    else:
        _print(said)
    return max((concern.severity for concern in found.concerns()), default=0) if check else 0


def _print(said: dict[str, Any]) -> None:
    console = Console(soft_wrap=True, highlight=False)
    console.print(said["sentence"], markup=False)
    for concern in said["attention"][1:]:
        action = f" → {concern['action']}" if concern["action"] else ""
        console.print(f"  {concern['sentence']}{action}", markup=False)
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name in ("deliveries", "customers"):
        table.add_row(name, ", ".join(f"{number:,} {what}" for what, number in said[name].items()))
    doubts = said["verifications"]
    reasons = ", ".join(f"{number:,} {what}" for what, number in doubts["by_reason"].items())
    table.add_row("to be read", f"{doubts['due']:,}" + (f" ({reasons})" if reasons else ""))
    sweep = said["sweep"]
    table.add_row(
        "last sweep", (sweep["last_at"] or "none yet") + (", one is running" if sweep["running"] else "")
    )
    table.add_row("oldest proof", said["freshness"]["oldest_verified_at"] or "none yet")
    console.print()
    console.print(table)
