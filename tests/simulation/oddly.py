"""Which behaviours of the catalogue a seed brings: none, one alone, or several at once."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from random import Random
from typing import TYPE_CHECKING, Any

from sync.sandbox import Faults
from sync.sandbox.catalogue import CATALOGUE, SHAPES

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from sync.sandbox.catalogue import Behaviour

ALONE, MIXED = 0.35, 0.35
"""Shares of the seeds with one behaviour, and with several."""
OF_MIXED = 0.12
"""How likely each behaviour is in a mixed seed."""
OUT_OF_ORDER = frozenset({"stamps", "clock_skew_seconds", "replayed_elsewhere", "disordered", "delayed"})
"""Options after which stamps no longer tell the order of changes, or a delivery is not what it says."""

_FAULTS = frozenset(one.name for one in fields(Faults))
_SHAPES = frozenset(one.name for one in SHAPES)


@dataclass(frozen=True, slots=True)
class Chosen:
    """What may be drawn. `only`: these, in every seed, each value in turn. `without`: none of these."""

    only: tuple[str, ...] = ()
    without: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class Odd:
    """The behaviours of one seed."""

    names: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    faults: Mapping[str, Any] = field(default_factory=dict)
    """For as long as the course lasts."""
    lasting: Mapping[str, Any] = field(default_factory=dict)
    """Those of the faults that are how upstream is, so that they stay when it is at rest."""


USUAL = Chosen()
PLAIN = Chosen(without=frozenset(CATALOGUE))
"""Nothing of the catalogue: upstream as the plan alone has it."""
NOTHING = Odd()


def drawn(seed: int, chosen: Chosen, *, ordered: bool) -> Odd:
    """Draw the behaviours of a seed. Where stamps tell the order, what would break that is left out."""
    chance = Random(f"odd {seed}")
    known = [one for one in CATALOGUE.values() if one.draws and one.name not in chosen.without]
    if chosen.only:
        behaviours = [CATALOGUE[name] for name in chosen.only]
    else:
        if ordered:
            known = [one for one in known if one.option not in OUT_OF_ORDER]
        behaviours = _chosen(chance, known)
    settings: dict[str, Any] = {}
    faults: dict[str, Any] = {}
    lasting: dict[str, Any] = {}
    for one in behaviours:
        value = one.draws[-1 - seed % len(one.draws)] if chosen.only else chance.choice(one.draws)
        (faults if one.option in _FAULTS else settings)[one.option] = value
        if one.lasts and one.option in _FAULTS:
            lasting[one.option] = value
    if any(one.name in _SHAPES for one in behaviours):
        settings.setdefault("oddities_per", chance.choice(("answer", "customer")))
    return Odd(tuple(one.name for one in behaviours), settings, faults, lasting)


def _chosen(chance: Random, known: list[Behaviour]) -> list[Behaviour]:
    draw = chance.random()
    if draw < ALONE and known:
        return [chance.choice(known)]
    if draw < ALONE + MIXED:
        return [one for one in known if chance.random() < OF_MIXED]
    return []
