"""The command `demo`: the main job on this machine, with everything that goes wrong in it."""

from __future__ import annotations

import json as json_format
import sys
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console

from sync.cli.owner import UsageError
from sync.cli.tables import print_table

if TYPE_CHECKING:
    from sync.demo import Demonstration

_TOLD: Final = ("announced", "lost", "doubled", "disordered", "delayed", "sent", "answered_200", "refused")


async def demo(
    *,
    seconds: int = 30,
    customers: int = 200,
    seed: int = 0,
    kill: bool = False,
    keep: bool = False,
    json: bool = False,
) -> int:
    """Run a local Kounta, the receiver and the worker, and see whether the mirror ends right.

    The local Kounta changes its customers, loses, doubles, disorders and delays its webhooks, and throttles,
    fails and cuts its answers. Ends with 1 if any row of the mirror is wrong after a deep reconciliation.

    Parameters
    ----------
    seconds
        How long all of it takes, about.
    customers
        How many customers there are at the start.
    seed
        What all chance comes from.
    kill
        Kill the receiver and the worker again and again meanwhile, as kill -9 does.
    keep
        Leave everything running afterwards, until Ctrl+C.
    json
        Print the report as one JSON object.
    """
    from sync.demo import Demonstration, Plan

    if seconds < 1 or customers < 0:
        raise UsageError("--seconds is at least 1, --customers at least 0.")
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    async with Demonstration(Plan(seconds, customers, seed, kill=kill)) as demonstration:
        with console.status("Starting the local Kounta, the receiver and the worker") as line:
            report = await demonstration.run(line.update)
        if json:
            sys.stdout.write(json_format.dumps(report) + "\n")
        else:
            _print(report)
        if keep:
            _invite(console, demonstration)
            await demonstration.wait_for_interrupt()
    return int(report["wrong_rows"] > 0)


def _print(report: dict[str, Any]) -> None:
    webhooks = report["webhooks"]
    rows = [
        (
            "customers",
            f"{report['customers_upstream']:,} upstream, {report['customers_mirrored']:,} mirrored",
        ),
        ("webhooks", _listed({name: webhooks[name] for name in _TOLD})),
        ("deliveries", _listed(report["deliveries"])),
        ("repaired", _listed(report["repaired"]) or "nothing"),
        ("killed", _listed(report["killed"]) if any(report["killed"].values()) else "nobody"),
        ("calls", f"{report['calls']:,}"),
        ("reconcile --deep", _listed(report["reconciliation"])),
        ("wrong before it", f"{report['wrong_rows_before_reconciliation']:,}"),
    ]
    print_table(rows)
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"[bold]wrong rows: {report['wrong_rows']}[/bold]")
    for id_, what in report["wrong"].items():
        console.print(f"  {id_}: {what}", markup=False)


def _listed(figures: dict[str, int]) -> str:
    return ", ".join(f"{number:,} {name.replace('_', ' ')}" for name, number in figures.items())


def _invite(console: Console, demonstration: Demonstration) -> None:
    if url := demonstration.console_url():
        console.print(f"The console: {url}")
    database = demonstration.data_dir / "mirror.db"
    query = "SELECT id, first_name, email, primary_city, verified_at FROM customers LIMIT 5"
    report = f"{demonstration.kounta_url}/sandbox/report"
    console.print(f"Everything goes on running; Ctrl+C ends it. Kounta: {report}")
    console.print(f"Try: sqlite3 -readonly {database} '{query}'", markup=False)
