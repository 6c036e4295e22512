"""The whole system under virtual time, with faults, seed by seed: scripts/simulate COUNT | --seed N."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
from contextlib import closing, suppress
from functools import partial
from typing import TYPE_CHECKING

from sync.sandbox.catalogue import CATALOGUE
from tests.simulation.oddly import Chosen
from tests.simulation.seed import Outcome, simulate

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence


def main() -> int:
    """Run the seeds and say what came of them; 1 when something did not hold."""
    parser = argparse.ArgumentParser(prog="scripts/simulate", description=__doc__)
    parser.add_argument("count", nargs="?", type=int, default=100, help="how many seeds (100)")
    parser.add_argument("--seed", type=int, help="this one alone")
    parser.add_argument("--first", type=int, default=1, help="the first of the seeds (1)")
    parser.add_argument("--stop", action="store_true", help="stop at the first that does not hold")
    parser.add_argument("--trace", action="store_true", help="print every step")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (one a core)")
    for flag, meaning in (("--only", "in every seed this behaviour"), ("--without", "never this behaviour")):
        parser.add_argument(
            flag,
            action="append",
            metavar="NAME",
            choices=sorted(CATALOGUE),
            default=[],
            help=f"{meaning} of the catalogue; may be repeated",
        )
    given = parser.parse_args()
    seeds = [given.seed] if given.seed is not None else range(given.first, given.first + given.count)
    chosen = Chosen(tuple(given.only), given.without)
    outcomes: list[Outcome] = []
    with suppress(KeyboardInterrupt), closing(_outcomes(seeds, chosen, given)) as found:
        for outcome in found:  # what was run until an interruption is summed up
            outcomes.append(outcome)
            tell(outcome, alone=given.seed is not None)
            if outcome.broken and given.stop:
                break
            if sys.stderr.isatty():
                print(f"\r{len(outcomes)}", end="", file=sys.stderr)  # noqa: T201 - how far it is
    print(summary(outcomes))  # noqa: T201 - a command's answer
    return 1 if any(outcome.broken for outcome in outcomes) or not outcomes else 0


def _outcomes(
    seeds: Sequence[int], chosen: Chosen, given: argparse.Namespace
) -> Generator[Outcome, None, None]:
    """Run the seeds, in their order, on as many processes as are asked for."""
    run = partial(simulate, chosen=chosen, keep_trace=given.trace)
    if given.jobs < 2 or len(seeds) == 1:
        yield from map(run, seeds)
        return
    with multiprocessing.get_context("spawn").Pool(given.jobs) as pool:
        yield from pool.imap(run, seeds, chunksize=4)


def tell(outcome: Outcome, *, alone: bool) -> None:
    """Print the trace, if it was kept, and what was broken."""
    if outcome.trace:
        print("\n".join(outcome.trace))  # noqa: T201 - it is what was asked for
    if outcome.broken:
        brings = f" ({', '.join(outcome.odd)})" if outcome.odd else ""
        print(f"scripts/simulate --seed {outcome.seed}: {outcome.broken}{brings}", flush=True)  # noqa: T201 - a command's answer
    elif alone:
        print(f"seed {outcome.seed}: trace {outcome.digest}")  # noqa: T201 - a command's answer


def summary(outcomes: list[Outcome]) -> str:
    """Say in a few lines what was run."""
    seconds = sum(one.seconds for one in outcomes)
    return (
        f"{len(outcomes)} seeds, {sum(bool(one.broken) for one in outcomes)} broken; "
        f"{sum(one.changes for one in outcomes)} changes, "
        f"{sum(one.deliveries for one in outcomes)} deliveries, "
        f"{sum(one.calls for one in outcomes)} calls, {sum(one.kills for one in outcomes)} kills, "
        f"{sum(one.disk_failures for one in outcomes)} failures of a disk; "
        f"{sum(one.wrong_before for one in outcomes)} rows were wrong before the end, "
        f"{sum(one.wrong_after for one in outcomes)} after it; {seconds / max(1, len(outcomes)):.2f} s a seed"
    )


if __name__ == "__main__":
    sys.exit(main())
