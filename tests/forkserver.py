"""A process that has the whole program imported, and forks a process for each command that a test types.

`python -m tests.forkserver PATH` listens on a Unix socket at PATH until its stdin ends. A request is one JSON
message with three descriptors: stdin, stdout and stderr of the new process. It holds `argv`, `env`, `cwd`,
`session` (whether the process gets a session of its own) and `at` (the time at which its clock stands still,
or null). The answer is the process's pid as a line, with a pidfd; a second line is its exit code, below 0 the
number of a signal. When the client closes the connection, a process that still runs is killed.

A process is what `python -m sync` makes, but for the second that its imports take: it has its own memory,
descriptors, signals, environment and directory, and runs `sync.cli.main`. It ends as an interpreter does up
to the point where modules are taken apart, which would copy all the memory that it shares.
"""

import atexit
import contextlib
import gc
import importlib
import io
import json
import locale
import os
import pkgutil
import selectors
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Final

from receiver.database import migrate
from receiver.inbox.schema import MIGRATIONS as OF_INBOX
from sync.mirror.reader import MIGRATIONS as OF_MIRROR
from tests.at import stop_the_clock
from tests.sharing import share

MOST_BYTES: Final = 1 << 20
"""A request's size; the environment is most of it."""
NOT_IMPORTED: Final = ("migrations", "__main__")
FROM_LIBRARIES: Final = (
    "aiosqlite",
    "alembic.command",
    "alembic.runtime.migration",
    "anyio._backends._asyncio",
    "httpx2",
    "psycopg",
    "sqlalchemy.dialects.postgresql.psycopg",
    "sqlalchemy.dialects.sqlite.aiosqlite",
    "uvicorn.lifespan.on",
    "uvicorn.loops.uvloop",
    "uvicorn.protocols.http.httptools_impl",
)
"""Imported by a process only once it needs them."""


def import_program() -> None:
    """Import all of the program, and what it imports while it runs. Starts no thread."""
    for package in ("receiver", "sync"):
        found = importlib.import_module(package)
        for module in pkgutil.walk_packages(found.__path__, f"{package}."):
            if not any(part in NOT_IMPORTED for part in module.name.split(".")):
                importlib.import_module(module.name)
    for name in FROM_LIBRARIES:
        importlib.import_module(name)
    from sync.cli import COMMANDS, app

    for name in COMMANDS:
        app[name]
    share()
    for migrations, name in ((OF_INBOX, "inbox.db"), (OF_MIRROR, "mirror.db")):
        with tempfile.TemporaryDirectory() as directory:  # the first one, which is copied
            migrate(Path(directory) / name, migrations)
    threads = len(list(Path("/proc/self/task").iterdir()))
    assert threads == 1, f"a process with {threads} threads cannot be forked"


class Server:
    """Forks on request, and reports how each process ended."""

    def __init__(self, listening: socket.socket) -> None:
        self._listening = listening
        self._waiting: dict[int, socket.socket] = {}
        """pid -> who is waiting for its exit code."""
        self._selector = selectors.DefaultSelector()

    def serve(self) -> Callable[[], None] | None:
        """Serve until stdin ends: None. In a process that was forked: what it runs."""
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._selector.register(sys.stdin.fileno(), selectors.EVENT_READ)
        self._selector.register(reading, selectors.EVENT_READ)
        self._selector.register(self._listening, selectors.EVENT_READ)
        while True:
            for key, _ in self._selector.select():
                if key.fd == sys.stdin.fileno():
                    self._end()
                    return None
                if key.fd == reading:
                    os.read(reading, 4096)
                    self._report()
                elif key.fileobj is self._listening:
                    run = self._fork()
                    if run is not None:
                        return run
                else:
                    self._let_go(key.data)

    def _fork(self) -> Callable[[], None] | None:
        client, _ = self._listening.accept()
        message, descriptors, _, _ = socket.recv_fds(client, MOST_BYTES, 3)
        request = json.loads(message)
        pid = os.fork()
        if pid == 0:
            self._selector.close()
            for waiting in self._waiting.values():
                waiting.close()
            self._listening.close()
            client.close()
            return lambda: _run(request, descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        pidfd = os.pidfd_open(pid)
        socket.send_fds(client, [f"{pid}\n".encode()], [pidfd])
        os.close(pidfd)
        self._waiting[pid] = client
        self._selector.register(client, selectors.EVENT_READ, pid)
        return None

    def _report(self) -> None:
        for pid in list(self._waiting):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                client = self._waiting.pop(pid)
                self._selector.unregister(client)
                with contextlib.suppress(OSError):
                    client.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
                client.close()

    def _let_go(self, pid: int) -> None:
        """Kill a process whose client has closed the connection."""
        if pid in self._waiting:
            self._selector.unregister(self._waiting[pid])
            self._waiting.pop(pid).close()
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)

    def _end(self) -> None:
        for pid in list(self._waiting):
            self._let_go(pid)


def _run(request: dict[str, object], descriptors: list[int]) -> None:
    """Be the process that was asked for."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
    os.closerange(3, 256)
    if request["session"]:
        os.setsid()
    if request["at"]:
        stop_the_clock(datetime.fromisoformat(str(request["at"])))
    env, cwd, argv = request["env"], request["cwd"], request["argv"]
    assert isinstance(env, dict)
    assert isinstance(argv, list)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(str(cwd))
    time.tzset()
    locale.setlocale(locale.LC_CTYPE, "")
    encoding = "utf-8" if sys.flags.utf8_mode else locale.getencoding()
    sys.stdin = open(0, encoding=encoding, closefd=False)  # noqa: SIM115 - as long as the process
    sys.stdout = open(1, "w", encoding=encoding, closefd=False)  # noqa: SIM115
    sys.stderr = io.TextIOWrapper(
        open(2, "wb", closefd=False, buffering=0),  # noqa: SIM115
        encoding=encoding,
        errors="backslashreplace",
        line_buffering=True,
        write_through=True,
    )
    sys.argv = ["kounta-mirror", *argv]
    os._exit(_run_to_end())


def _run_to_end() -> int:
    from sync.cli import main

    code = 0
    try:
        main()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:  # noqa: BLE001 - an interpreter prints it, whatever it is
        sys.excepthook(*sys.exc_info())
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]  # as an interpreter does: waits for threads
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    return code


def serve(path: str) -> Callable[[], None] | None:
    """Listen at `path`; say so with a line on stdout."""
    import_program()
    gc.collect()
    gc.freeze()  # a collection in a fork need not copy what all share
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(path)
        listening.listen()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        return Server(listening).serve()


if __name__ == "__main__":
    run = serve(sys.argv[1])
    if run is not None:
        run()
