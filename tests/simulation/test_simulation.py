"""Dozens of seeds of the whole system under virtual time; scripts/simulate runs as many as one likes."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from sync.reconcile import verify
from tests.simulation.seed import Outcome, simulate

ROOT = Path(__file__).parents[2]
SEEDS = range(1, 25)


@cache
def ended(seed: int) -> Outcome:
    return simulate(seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_happened_it_ends_right(seed: int) -> None:
    outcome = ended(seed)

    assert not outcome.broken, f"scripts/simulate --seed {seed}: {outcome.broken}"
    assert outcome.wrong_after == 0


def test_enough_goes_wrong_in_these_seeds() -> None:
    outcomes = [ended(seed) for seed in SEEDS]

    assert sum(one.kills for one in outcomes) > 20
    assert sum(one.disk_failures for one in outcomes) > 20
    assert sum(one.wrong_before for one in outcomes) > 30
    assert sum(one.deliveries for one in outcomes) > 400


def test_the_same_seed_gives_the_same_trace() -> None:
    assert simulate(3).digest == ended(3).digest != ended(4).digest


def test_the_same_seed_gives_the_same_trace_in_another_process() -> None:
    assert trace_elsewhere(seed=2) == trace_elsewhere(seed=2)


def test_a_mirror_without_a_fence_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any, **__: Any) -> bool:
        return False

    monkeypatch.setattr(verify, "is_fenced", never)

    assert "silently wrong" in simulate(2).broken


def trace_elsewhere(seed: int) -> str:
    run = subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-m", "tests.simulation", "--seed", str(seed)],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    return run.stdout.splitlines()[0]
