"""The demonstration ends with no wrong row, with faults on and with receiver and worker killed meanwhile."""

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from tests.budget import tries


def left_in(directory: Path) -> list[Path]:
    return list(directory.iterdir())


RUNS = {"faults": ["--seed", "3"], "faults and kills": ["--seed", "4", "--kill"]}


@pytest.mark.parametrize("arguments", [*RUNS.values()][tries(1, 0) :], ids=[*RUNS][tries(1, 0) :])
async def test_the_demonstration_ends_with_no_wrong_row(tmp_path: Path, arguments: list[str]) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "sync",
        "demo",
        "--json",
        "--seconds",
        "12",
        "--customers",
        "60",
        *arguments,
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, complaint = await asyncio.wait_for(process.communicate(), 180)
    assert out, complaint.decode()
    report = json.loads(out)
    assert (process.returncode, report["wrong"]) == (0, {})
    webhooks = report["webhooks"]
    assert min(webhooks[fault] for fault in ("lost", "doubled", "disordered")) > 0
    assert sum(report["deliveries"].values()) >= webhooks["answered_200"] > 0
    assert sum(report["repaired"].values()) > 0
    assert bool(sum(report["killed"].values())) == ("--kill" in arguments)
    assert left_in(tmp_path) == []
