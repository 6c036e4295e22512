"""The tutorial with a plot: every command of it is run, and every output compared.

KEEP_PICTURE=docs/pictures/first-report.png makes the picture in it anew.
"""

import asyncio
import os
import re
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

BLOCK = re.compile(
    r"^```(?P<kind>sh|text|python)(?: (?P<file>\S+))?\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
OVER = "-- this block is over --"
PATIENCE_SECONDS = 180


def blocks(page: Path) -> list[tuple[str, str | None, str]]:
    """Give what the page shows: its kind, the file it goes to, its text."""
    found = [
        (one["kind"], one["file"], one["text"]) for one in BLOCK.finditer(page.read_text(encoding="utf-8"))
    ]
    assert len(found) > 10
    return found


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


class Shell:
    """A shell in which one command is typed after another."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def type(self, commands: str) -> str:
        """Run these, and give what they print."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{commands}\necho '{OVER}' $?\n".encode())
        printed = b""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not (line := await self._process.stdout.readline()).startswith(OVER.encode()):
                assert line, f"the shell ended: {printed.decode()}"
                printed += line
        assert line.split()[-1] == b"0", printed.decode()
        return printed.decode()


@pytest.fixture
async def shell(tmp_path: Path) -> AsyncIterator[Shell]:
    for program in ("bash", "curl", "sqlite3"):
        assert shutil.which(program), f"The tutorial needs {program}; on Debian: apt-get install {program}"
    kept = {name: os.environ[name] for name in ("HOME", "LANG") if name in os.environ}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    process = await asyncio.create_subprocess_exec(
        "bash",
        cwd=tmp_path,
        env={**kept, "PATH": path, "MIRROR_CONSOLE_PORT": "0"},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,  # so that whatever it began ends with it
    )
    try:
        yield Shell(process)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


def expected(text: str) -> re.Pattern[str]:
    """Make a pattern of an output; "…" stands for what differs from run to run."""
    return re.compile(re.escape(text.strip()).replace("…", r"[\d.,]+"))


async def test_every_command_of_the_first_report_does_what_the_page_says(
    shell: Shell, pytestconfig: pytest.Config, tmp_path: Path
) -> None:
    port = str(free_port())
    printed, compared = "", 0
    directory = tmp_path / "first-report"
    for kind, file, text in blocks(pytestconfig.rootpath / "docs/tutorial/first-report.md"):
        if kind == "python":
            assert file is not None
            (directory / file).write_text(text, encoding="utf-8")
        elif kind == "text":
            assert expected(text).fullmatch(printed.strip()), printed
            compared += 1
        else:
            commands = text.replace(":8000", f":{port}").replace(
                "kounta-mirror receiver", f"kounta-mirror receiver --port {port}"
            )
            printed = await shell.type(commands.rstrip())
    assert compared == 6
    drawn = (directory / "report.png").read_bytes()
    assert drawn.startswith(b"\x89PNG")
    shares = [float(line.split(",")[1]) for line in (directory / "confirmed.csv").read_text().splitlines()]
    assert shares[0] == 1
    assert min(shares) < 0.95 < shares[-1]
    if keep := os.environ.get("KEEP_PICTURE"):
        (pytestconfig.rootpath / keep).write_bytes(drawn)
