"""Commands as a person types them: one sentence on stderr, the exit code, nothing else."""

import asyncio
import json
import os
import sqlite3
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import pytest

from sync.cli import COMMANDS
from tests import forks

COMPLETE = {
    "KOUNTA_COMPANY_ID": "5678",
    "KOUNTA_SIGNATURE_TOKENS": "token",
    "KOUNTA_CLIENT_ID": "client",
    "KOUNTA_CLIENT_SECRET": "do-not-tell",
    "KOUNTA_API_URL": "http://127.0.0.1:9",
}


async def typed(
    directory: Path, command: str, settings: Mapping[str, str], *, seconds: float = 30
) -> tuple[int, str, str]:
    """Run a command in `directory` with these settings alone; give exit code, stdout, stderr."""
    process = await forks.start(
        *command.split(),
        env=settings,
        cwd=directory,
    )
    try:
        out, complaint = await asyncio.wait_for(process.communicate(), seconds)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    return process.returncode or 0, out.decode(), complaint.decode()


def without(name: str) -> dict[str, str]:
    return {key: value for key, value in COMPLETE.items() if key != name}


def is_one_sentence(complaint: str) -> bool:
    return complaint.count("\n") == 1 and "Traceback" not in complaint and "do-not-tell" not in complaint


async def test_the_version_is_that_of_the_package(tmp_path: Path) -> None:
    assert await typed(tmp_path, "--version", {}) == (0, f"{version('kounta-mirror')}\n", "")


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("receiver", "KOUNTA_COMPANY_ID"),
        ("receiver", "KOUNTA_SIGNATURE_TOKENS"),
        ("worker", "KOUNTA_COMPANY_ID"),
        ("worker", "KOUNTA_CLIENT_ID"),
        ("worker --once", "KOUNTA_CLIENT_SECRET"),
        ("reconcile", "KOUNTA_CLIENT_SECRET"),
        ("status", "KOUNTA_COMPANY_ID"),
        ("deliveries replay --verdict failed", "KOUNTA_CLIENT_ID"),
        ("migrate", "KOUNTA_COMPANY_ID"),
    ],
)
async def test_a_missing_setting_is_named(tmp_path: Path, command: str, name: str) -> None:
    code, out, complaint = await typed(tmp_path, command, without(name))
    assert (code, out) == (2, "")
    assert is_one_sentence(complaint)
    assert complaint.startswith(f"{name} is not set.")


@pytest.mark.parametrize(
    ("command", "name", "value"),
    [
        ("receiver", "KOUNTA_COMPANY_ID", "five"),
        ("receiver", "KOUNTA_COMPANY_ID", "0"),
        ("receiver", "KOUNTA_SIGNATURE_TOKENS", " , "),
        ("receiver", "MIRROR_QUEUE_LIMIT", "-1"),
        ("worker", "KOUNTA_REQUESTS_PER_MINUTE", "many"),
        ("worker", "KOUNTA_REQUESTS_PER_MINUTE", "0"),
        ("worker", "MIRROR_ATTRIBUTES", "name,fax"),
        ("worker", "MIRROR_SWEEP_SECONDS", "soon"),
        ("worker", "MIRROR_READ_LAG_SECONDS", "-1"),
        ("worker", "MIRROR_HOLD_DELETES", "half"),
        ("worker", "MIRROR_RETENTION_DAYS", "0"),
        ("worker", "KOUNTA_API_URL", "api.kounta.com"),
        ("worker", "KOUNTA_API_URL", "http://api.kounta.com"),
        ("status", "DATABASE_URL", "mysql://somewhere"),
    ],
)
async def test_a_malformed_setting_is_named(tmp_path: Path, command: str, name: str, value: str) -> None:
    code, out, complaint = await typed(tmp_path, command, {**COMPLETE, name: value})
    assert (code, out) == (2, "")
    assert is_one_sentence(complaint), complaint
    assert name in complaint


@pytest.mark.parametrize(
    "command",
    [
        "nonsense",
        "reconcile --customer abc",
        "reconcile --customer 0",
        "reconcile --allow-deletes -1",
        "reconcile --wide",
        "deliveries replay",
        "deliveries list --verdict odd",
        "demo --seconds 0",
    ],
)
async def test_wrong_usage_is_one_sentence_and_2(tmp_path: Path, command: str) -> None:
    code, out, complaint = await typed(tmp_path, command, COMPLETE)
    assert (code, out) == (2, "")
    assert is_one_sentence(complaint), complaint


@pytest.mark.parametrize("command", ["receiver --port 0", "worker --once", "reconcile", "migrate"])
async def test_a_data_directory_that_cannot_serve_is_named(tmp_path: Path, command: str) -> None:
    (tmp_path / "file").write_text("")
    settings = {**COMPLETE, "MIRROR_DATA_DIR": str(tmp_path / "file")}
    code, _, complaint = await typed(tmp_path, command, settings)
    assert code == 1
    assert is_one_sentence(complaint), complaint
    assert "MIRROR_DATA_DIR" in complaint


@pytest.mark.parametrize("command", ["worker --once", "reconcile", "migrate", "status", "deliveries list"])
async def test_a_mirror_of_a_newer_version_is_left_alone(tmp_path: Path, command: str) -> None:
    assert (await typed(tmp_path, "migrate", COMPLETE))[0] == 0
    with sqlite3.connect(tmp_path / "data" / "mirror.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    code, _, complaint = await typed(tmp_path, command, COMPLETE)
    assert code == 1
    assert is_one_sentence(complaint), complaint
    assert "9999" in complaint


async def test_a_second_owner_is_told_who_the_first_is(tmp_path: Path) -> None:
    from receiver.ownership import Ownership

    with Ownership.take(tmp_path / "data", "worker", "the first worker"):
        code, _, complaint = await typed(tmp_path, "worker", COMPLETE)
    assert code == 1
    assert is_one_sentence(complaint), complaint
    assert "the first worker" in complaint
    assert str(os.getpid()) in complaint


async def test_an_upstream_that_does_not_answer_ends_a_reconciliation_with_one_sentence(
    tmp_path: Path,
) -> None:
    code, out, complaint = await typed(tmp_path, "reconcile --json", COMPLETE, seconds=120)
    assert (code, out) == (1, "")
    assert is_one_sentence(complaint), complaint


async def test_status_of_nothing_says_what_to_start(tmp_path: Path) -> None:
    code, out, complaint = await typed(tmp_path, "status --json", COMPLETE)
    assert (code, complaint) == (0, "")
    assert json.loads(out)["sentence"].startswith("The worker does not run.")
    assert (await typed(tmp_path, "status --check", COMPLETE))[0] == 2


@pytest.mark.parametrize("command", ["", *COMMANDS])
async def test_help_of_every_command_is_on_stdout(tmp_path: Path, command: str) -> None:
    process = await asyncio.create_subprocess_exec(  # as typed: it imports what it needs, and no more
        *[sys.executable, "-m", "sync", *command.split(), "--help"],
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, complaint = await asyncio.wait_for(process.communicate(), 60)
    assert (process.returncode, complaint) == (0, b"")
    assert b"Usage:" in out


async def test_a_shell_completes_commands(tmp_path: Path) -> None:
    code, script, _ = await typed(tmp_path, "completion bash", {})
    assert code == 0
    asked = 'COMP_WORDS=(kounta-mirror deliveries ""); COMP_CWORD=2; _kounta_mirror; echo "${COMPREPLY[@]}"'
    shell = await asyncio.create_subprocess_exec(
        *("bash", "-c", f"{script}\n{asked}"), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await asyncio.wait_for(shell.communicate(), 30)
    assert out.decode().split() == ["list", "show", "replay"]


async def test_whoever_reads_no_more_ends_a_command_in_silence(tmp_path: Path) -> None:
    typing = f'"{sys.executable}" -m sync completion bash | true'
    shell = await asyncio.create_subprocess_exec(
        *("bash", "-c", f"set -o pipefail; {typing}"),
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, complaint = await asyncio.wait_for(shell.communicate(), 30)
    assert (out, complaint) == (b"", b"")
