"""Dozens of seeds of the whole system under virtual time; scripts/simulate runs as many as one likes."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from receiver.inbox import InboxWriter
from receiver.ownership import OwnedElsewhere, Ownership
from sync.reconcile import verify
from tests.simulation.disk import inline_sqlite
from tests.simulation.loop import VirtualLoop
from tests.simulation.oddly import PLAIN
from tests.simulation.process import Disk, Process
from tests.simulation.seed import Outcome, simulate

if TYPE_CHECKING:
    from collections.abc import Coroutine

Result = TypeVar("Result")

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
    assert trace_elsewhere(seed=2) == f"seed 2: trace {ended(2).digest}"


def test_a_mirror_without_a_fence_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any, **__: Any) -> bool:
        return False

    monkeypatch.setattr(verify, "is_fenced", never)

    assert "silently wrong" in simulate(2, PLAIN).broken


def test_a_receiver_that_is_killed_while_it_stops_leaves_no_lock(tmp_path: Path) -> None:
    async def stop_and_kill() -> None:
        told: list[str] = []
        opened = asyncio.Event()

        def tell(what: str) -> None:
            told.append(what)
            if "stop" in told and what == "receiver begin":
                process.kill()

        async def receive() -> None:
            async with await InboxWriter.open(tmp_path / "inbox.db"):
                opened.set()
                await asyncio.Event().wait()

        process = Process("receiver", Disk(Random(0)), tell, dies_at=None)
        running = asyncio.create_task(process.run(receive))
        await opened.wait()
        told.append("stop")
        process.stop()
        await running
        assert told[-2:] == ["receiver begin", "receiver is killed"]

    simulated(stop_and_kill())

    Ownership.take(tmp_path, "inbox", "the next receiver").close()


def test_a_process_that_is_stopped_gives_up_its_lock_itself_or_keeps_it(tmp_path: Path) -> None:
    async def stop() -> Ownership:
        taken: list[Ownership] = []
        started = asyncio.Event()

        async def forget() -> None:
            taken.append(Ownership.take(tmp_path, "inbox", "a forgetful receiver"))
            started.set()
            await asyncio.Event().wait()

        process = Process("receiver", Disk(Random(0)), print, dies_at=None)
        running = asyncio.create_task(process.run(forget))
        await started.wait()
        process.stop()
        await running
        return taken[0]

    with simulated(stop()), pytest.raises(OwnedElsewhere, match="a forgetful receiver"):
        Ownership.take(tmp_path, "inbox", "the next receiver")


def simulated(work: Coroutine[Any, Any, Result]) -> Result:
    with inline_sqlite(), asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(work)


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
