"""What was recorded of the simulation on SQLite ends the same on PostgreSQL."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from receiver.database import Server
from tests.budget import tries
from tests.simulation.replay import Flush, record, replay

if TYPE_CHECKING:
    from pathlib import Path

SEEDS = range(101, 101 + tries(8, 50))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_trace_ends_on_postgresql_as_it_ended_on_sqlite(seed: int, postgresql: Any, tmp_path: Path) -> None:
    trace = record(seed)

    assert sum(isinstance(step, Flush) for steps in trace.transactions for step in steps) > 10
    assert asyncio.run(replay(trace, Server(tmp_path, postgresql.fresh()))) == trace.tables


def test_a_replay_that_reads_something_else_is_found(postgresql: Any, tmp_path: Path) -> None:
    trace = record(101)
    flushes = [number for number, steps in enumerate(trace.transactions) if isinstance(steps[-1], Flush)]
    del trace.transactions[flushes[1]]

    with pytest.raises(AssertionError, match="transaction"):
        asyncio.run(replay(trace, Server(tmp_path, postgresql.fresh())))
