"""Processes of the demonstration: started with their own environment, started anew when they die."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from receiver.errors import MirrorError

STOP_SECONDS: Final = 5
MOST_FAILURES: Final = 3
"""Ends of its own accord after which a process is not started anew; a killed one always is."""


class ProcessFailedError(MirrorError):
    """A process ended before it could do what it was started for; the sentence holds the end of its log."""


class Service:
    """One command of this program as a process that lives as long as the block; its log goes to a file."""

    def __init__(
        self, name: str, arguments: Sequence[str], environment: Mapping[str, str], directory: Path
    ) -> None:
        self.name = name
        self.deaths = 0
        self._arguments = arguments
        self._environment = {**os.environ, **environment}
        self._directory = directory
        self._process: Process | None = None
        self._lives = asyncio.Event()
        self._watch: asyncio.Task[None] | None = None

    @property
    def log(self) -> Path:
        """Give the file that holds what the process says."""
        return self._directory / f"{self.name}.log"

    async def __aenter__(self) -> Self:
        await self._start()
        self._watch = asyncio.create_task(self._keep_alive(), name=f"watch {self.name}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._watch is not None:
            self._watch.cancel()
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()

    async def until_alive(self) -> None:
        """Wait until it was started, after whatever has ended it."""
        await self._lives.wait()

    def kill(self) -> None:
        """End the process as `kill -9` does; it is started anew."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGKILL)

    def last_words(self) -> str:
        """Give the end of its log."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return " ".join(lines[-3:])

    async def _start(self) -> None:
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "sync",
                *self._arguments,
                env=self._environment,
                cwd=self._directory,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._lives.set()

    async def _keep_alive(self) -> None:
        failures = 0
        while self._process is not None and failures < MOST_FAILURES:
            failures += await self._process.wait() != -signal.SIGKILL
            self._lives.clear()
            self.deaths += 1
            await asyncio.sleep(0.2)
            await self._start()


async def run(
    arguments: Sequence[str], environment: Mapping[str, str], directory: Path
) -> tuple[int, str, str]:
    """Run one command of this program to its end; give its exit code, what it printed and its complaints."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "sync",
        *arguments,
        env={**os.environ, **environment},
        cwd=directory,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
    )
    try:
        out, complaints = await process.communicate()
    except BaseException:
        if process.returncode is None:
            process.kill()
            await process.wait()
        raise
    return process.returncode or 0, out.decode(), complaints.decode()
