"""What a seed brings: a company, its edits, and everything that goes wrong and when."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from random import Random
from typing import TYPE_CHECKING, Any

from tests.simulation.oddly import NOTHING, OUT_OF_ORDER, USUAL, Chosen, Odd, drawn

if TYPE_CHECKING:
    from collections.abc import Iterator

PROCESSES = ("receiver", "worker")
CALL_FAULTS = ("too_many", "server_errors", "hangs", "cut_bodies", "html_answers", "wrong_answers")


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that begins at a time (seconds) and, unless it is a blow, ends after a while.

    `what`: faults (of upstream, `values` as the local Kounta takes them), skew (for good), disk, offline,
    kill, stop, burst (many edits at once), reconcile, replay, write (a new customer, by the mirror).
    """

    what: str
    seconds: float = 0.0
    values: dict[str, Any] = field(default_factory=dict)
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Plan:
    """One seed, spelled out."""

    seed: int
    ordered: bool
    """Whether stamps tell the order of changes: made at the change, by a clock that does not step, no lag."""
    from_nothing: bool
    """Whether the files are made, too; else their schema is there."""
    customers: int
    seconds: float
    edits_per_second: float
    read_lag: float
    """What the mirror believes; the real lag is never longer."""
    sweep_seconds: float
    tick_seconds: float
    settings: dict[str, Any]
    faults: dict[str, Any]
    """Of upstream, all the time."""
    troubles: tuple[Trouble, ...]
    deaths: dict[str, tuple[int, ...]]
    """Process -> after how many steps of each of its first runs it is killed."""
    odd: Odd = NOTHING
    """What it brings of the catalogue; `settings` and `faults` have it too."""


def plan(seed: int, chosen: Chosen = USUAL) -> Plan:
    """Draw everything from the seed; of the catalogue's behaviours those that may be drawn."""
    chance = Random(f"plan {seed}")
    ordered = chance.random() < 0.45
    seconds = chance.uniform(25, 60)
    read_lag = chance.choice((0, 2, 5, 10))
    odd = drawn(seed, chosen, ordered=ordered)
    ordered = ordered and not OUT_OF_ORDER & {*odd.settings, *odd.faults}
    return Plan(
        seed=seed,
        ordered=ordered,
        from_nothing=seed % 20 == 0,
        customers=chance.randint(3, 32),
        seconds=seconds,
        edits_per_second=chance.randint(12, 45) / seconds,
        read_lag=read_lag,
        sweep_seconds=chance.choice((40, 90, 21_600)),
        tick_seconds=chance.choice((5.0, 10.0, 15.0)),
        settings={**_settings(chance), **odd.settings},
        faults={**_faults(chance, read_lag, ordered=ordered), **odd.faults},
        troubles=tuple(
            sorted(
                [*_troubles(chance, seconds, ordered=ordered), *_writes(seed, seconds)],
                key=lambda one: one.at,
            )
        ),
        odd=odd,
        deaths={
            name: tuple(int(chance.lognormvariate(4.5, 1.5)) + 1 for _ in range(chance.choice((0, 0, 1, 2))))
            for name in PROCESSES
        },
    )


def _settings(chance: Random) -> dict[str, Any]:
    return {
        "list_shape": chance.choice(("abridged", "abridged", "legacy", "complete")),
        "list_order": chance.choice(("id", "newest", "name")),
        "limit_headers": chance.choice(("none", "retry-after", "reset", "both")),
        "last_next_page": chance.choice(("absent", "empty")),
        "error_shape": chance.choice(("error", "message", "text", "html")),
        "unknown_extras": chance.random() < 0.2,
        "page_base": chance.choice((0, 1)),
        "requests_per_minute": 120,
    }


def _faults(chance: Random, read_lag: float, *, ordered: bool) -> dict[str, Any]:
    def share(most: float) -> float:
        return chance.choice((0.0, most * chance.random()))

    return {
        "lost": share(0.3),
        "doubled": share(0.3),
        "disordered": share(0.4),
        "delayed": share(0.4),
        "max_delay_seconds": chance.choice((2.0, 8.0, 25.0)),
        "garbled": share(0.05),
        "badly_signed": share(0.05),
        "delivery_retries": chance.choice((0, 0, 2)),
        "retry_seconds": 4.0,
        "stamps": "change" if ordered else chance.choice(("change", "departure", "departure", "absent")),
        "read_lag_seconds": 0.0 if ordered else chance.choice((0.0, read_lag, read_lag * chance.random())),
        "clock_skew_seconds": _skew(chance, ordered=ordered),
        "shifted_rows": chance.choice((0.0, 0.0, 0.5)),
        "hang_seconds": chance.choice((3.0, 15.0, 30.0)),
        **{name: share(0.06) for name in CALL_FAULTS},
    }


def _skew(chance: Random, *, ordered: bool) -> float:
    if ordered:
        return chance.choice((0.0, chance.uniform(0, 1), chance.uniform(-200, 0)))
    return chance.choice((0.0, chance.uniform(-5, 5), chance.uniform(-300, 300)))


def _troubles(chance: Random, seconds: float, *, ordered: bool) -> list[Trouble]:
    drawn = [*_of_upstream(chance, ordered=ordered), *_of_processes(chance), *_of_people(chance)]
    return [replace(trouble, at=chance.uniform(0, seconds)) for trouble in drawn]


def _of_upstream(chance: Random, *, ordered: bool) -> Iterator[Trouble]:
    for _ in range(chance.choice((0, 1, 1, 2))):
        access = {"lost_access": chance.choice(("401", "403", "404", "404"))}
        yield Trouble("faults", chance.uniform(1, 30), access)
    if chance.random() < 0.4:
        failing = {name: chance.random() * 0.5 for name in chance.sample(CALL_FAULTS, 2)}
        yield Trouble("faults", chance.uniform(2, 30), failing)
    if chance.random() < 0.15:
        following = {"next_page": chance.choice(("repeated", "foreign"))}
        yield Trouble("faults", chance.uniform(5, 60), following)
    if chance.random() < 0.2:
        yield Trouble("offline", chance.uniform(1, 30))
    if not ordered:
        for _ in range(chance.choice((0, 1, 2))):
            yield Trouble("skew", values={"clock_skew_seconds": _skew(chance, ordered=False)})


def _of_processes(chance: Random) -> Iterator[Trouble]:
    for name in PROCESSES:
        who = {"process": name}
        if chance.random() < 0.3:
            share = chance.choice((0.05, 0.3, 1.0))
            yield Trouble("disk", chance.uniform(0.5, 15), {**who, "share": share})
        if chance.random() < 0.3:
            yield Trouble("kill", values=who)
        if chance.random() < 0.2:
            yield Trouble("stop", values=who)


def _of_people(chance: Random) -> Iterator[Trouble]:
    for _ in range(chance.choice((0, 1, 3))):
        yield Trouble("burst", values={"edits": chance.randint(3, 12)})
    if chance.random() < 0.25:
        yield Trouble("reconcile", values={"deep": chance.random() < 0.3})
    if chance.random() < 0.2:
        yield Trouble("replay")


def _writes(seed: int, seconds: float) -> Iterator[Trouble]:
    """Draw what people write through the mirror, from lots of its own."""
    chance = Random(f"writes {seed}")
    for number in range(chance.choice((0, 0, 1, 2))):
        yield Trouble("write", values={"reference_id": f"made-{number}"}, at=chance.uniform(0, seconds))
