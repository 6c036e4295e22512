"""Processes of the program as tests start them: forked from one that has everything imported."""

import asyncio
import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Final

from tests.secrecy import WATCH
from tests.timekeeping import note_process

CHECKOUT: Final = Path(__file__).parent.parent
PIPE: Final = subprocess.PIPE
DEVNULL: Final = subprocess.DEVNULL
STDOUT: Final = subprocess.STDOUT
READ_LIMIT: Final = 1 << 20
INHERITED: Final = ("PATH", "HOME", "LANG", "PYTHONPATH")


class Fork:
    """A process, with the methods of `asyncio.subprocess.Process`."""

    def __init__(self, pid: int, pidfd: int, said: asyncio.StreamReader, line: asyncio.StreamWriter) -> None:
        self.pid = pid
        self.returncode: int | None = None
        """The exit code, below 0 the number of a signal; None while it runs."""
        self.stdin: asyncio.StreamWriter | None = None
        self.stdout: asyncio.StreamReader | None = None
        self.stderr: asyncio.StreamReader | None = None
        self._pidfd = pidfd
        self._ended = asyncio.create_task(self._hear(said, line))

    async def wait(self) -> int:
        """Wait for its end; give the exit code."""
        return await asyncio.shield(self._ended)

    async def communicate(self, content: bytes | None = None) -> tuple[bytes, bytes]:
        """Write to stdin and close it; give stdout and stderr once both have ended, and the process."""
        if self.stdin is not None:
            with suppress(BrokenPipeError, ConnectionResetError):
                self.stdin.write(content or b"")
                await self.stdin.drain()
            self.stdin.close()
        out, complaint = await asyncio.gather(_all_of(self.stdout), _all_of(self.stderr))
        await self.wait()
        return out, complaint

    def send_signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    async def _hear(self, said: asyncio.StreamReader, line: asyncio.StreamWriter) -> int:
        try:
            code = int(await said.readline())
        finally:
            line.close()
            os.close(self._pidfd)
            self._pidfd = -1
        self.returncode = code
        return code


async def _all_of(stream: asyncio.StreamReader | None) -> bytes:
    return b"" if stream is None else await stream.read()


async def start(
    *argv: str,
    env: Mapping[str, str],
    cwd: Path,
    stdin: int | None = DEVNULL,
    stdout: int | None = PIPE,
    stderr: int | None = PIPE,
    start_new_session: bool = False,
    at: datetime | None = None,
) -> Fork:
    """Start `kounta-mirror` with these arguments; of the tests' own environment it has INHERITED alone.

    It goes by the system clock, or its clock stands still `at` a time.
    """
    if at is None:
        note_process(["kounta-mirror", *argv])
    WATCH.plant_environment(env, cwd)
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    ours: list[int] = []
    theirs: list[int] = []
    for number, given in enumerate((stdin, stdout, stderr)):
        if given == PIPE:
            reading, writing = os.pipe()
            theirs.append(writing if number else reading)
            ours.append(reading if number else writing)
        elif given == STDOUT:
            theirs.append(os.dup(theirs[1]))
        elif given == DEVNULL:
            theirs.append(os.open(os.devnull, os.O_RDWR))
        else:
            theirs.append(os.dup(number if given is None else given))
    line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    line.connect(_server())
    request = {
        "argv": argv,
        "env": inherited | dict(env),
        "cwd": str(cwd),
        "session": start_new_session,
        "at": at and at.isoformat(),
    }
    socket.send_fds(line, [json.dumps(request).encode()], theirs)
    for descriptor in theirs:
        os.close(descriptor)
    said, descriptors, _, _ = await asyncio.to_thread(socket.recv_fds, line, 100, 1)
    first, _, rest = said.partition(b"\n")
    reader, writer = await asyncio.open_unix_connection(sock=line)
    reader.feed_data(rest)
    fork = Fork(int(first), descriptors[0], reader, writer)
    waiting = iter(ours)
    if stdin == PIPE:
        fork.stdin = await _writer(next(waiting))
    if stdout == PIPE:
        fork.stdout = await _reader(next(waiting))
    if stderr == PIPE:
        fork.stderr = await _reader(next(waiting))
    return fork


async def _reader(descriptor: int) -> asyncio.StreamReader:
    reader = asyncio.StreamReader(READ_LIMIT)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), open(descriptor, "rb"))  # noqa: ASYNC230, SIM115 - the transport closes it
    return reader


async def _writer(descriptor: int) -> asyncio.StreamWriter:
    loop = asyncio.get_running_loop()
    protocol = asyncio.StreamReaderProtocol(asyncio.StreamReader())
    transport, _ = await loop.connect_write_pipe(lambda: protocol, open(descriptor, "wb"))  # noqa: ASYNC230, SIM115
    return asyncio.StreamWriter(transport, protocol, None, loop)


@cache
def _server() -> str:
    """Start the server, which ends with this process; give its path."""
    path = str(Path(tempfile.mkdtemp(prefix="forks")) / "socket")
    server = subprocess.Popen(  # noqa: S603 - of these tests
        [sys.executable, "-m", "tests.forkserver", path], cwd=CHECKOUT, stdin=PIPE, stdout=PIPE
    )
    assert server.stdout is not None
    assert server.stdout.readline() == b"ready\n", "the server has not started"
    atexit.register(server.communicate)  # its stdin ends, and so does it
    return path
