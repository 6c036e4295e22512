"""What figures of PostgreSQL stand on: a server as an operator sets it up, inboxes, workers as processes."""

import asyncio
import json
import os
import random
import subprocess
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import psycopg
import uuid_utils

from receiver import postgresql
from receiver.database import Server, inbox_of, migrate, mirror_of, utc_text
from receiver.inbox import transactions
from receiver.inbox.schema import MIGRATIONS as OF_INBOX
from receiver.inbox.transactions import Row
from receiver.postgresql import Schema
from sync.mirror.reader import MIGRATIONS as OF_MIRROR
from tests.databases import END_SECONDS, Cluster

SETTINGS = {
    "fsync": "on",
    "synchronous_commit": "on",
    "shared_buffers": "1GB",
    "effective_cache_size": "4GB",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "15min",
    "random_page_cost": "1.1",
    "max_connections": "200",
}
FIRST_COMPANY = 5001
START = datetime(2026, 1, 1, tzinfo=UTC)


class Durable(Cluster):
    """A server that loses nothing of what it has committed, with the memory of a small machine."""

    def start(self) -> None:
        given = [part for name, value in SETTINGS.items() for part in ("-c", f"{name}={value}")]
        with (self.directory / "log").open("ab") as log:
            self._postmaster = subprocess.Popen(  # noqa: S603 - the server that is measured
                [self._program, "-D", self.directory, "-k", self.directory, "-h", "", *given],
                user=self._user,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + END_SECONDS
        while True:
            try:
                self.ask("SELECT 1")
            except psycopg.OperationalError:
                if self._postmaster.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit((self.directory / "log").read_text()) from None
                time.sleep(0.02)
            else:
                return

    def at(self, database: str) -> str:
        """Give the URL of a database."""
        return f"postgresql://postgres@/{database}?host={self.directory}"

    def ask(self, statement: str, database: str = "postgres", **settings: str) -> list[tuple[Any, ...]]:
        """Execute a statement by itself, under these settings."""
        with psycopg.connect(self.at(database), autocommit=True) as connection:
            for name, value in settings.items():
                connection.execute(f"SET {name} = {value}".encode())
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def make(self, database: str, like: str | None = None) -> str:
        """Make a database with both schemas, or a copy of another one; give its URL."""
        if like is not None:
            self.ask(f"CREATE DATABASE {database} TEMPLATE {like} STRATEGY FILE_COPY")
            return self.at(database)
        self.ask(f"CREATE DATABASE {database}")
        place = Server(Path(), self.at(database))
        migrate(inbox_of(place), OF_INBOX)
        migrate(mirror_of(place), OF_MIRROR)
        return place.url

    def drop(self, database: str) -> None:
        self.ask(f"DROP DATABASE {database} WITH (FORCE)")

    def processor_seconds(self) -> float:
        """Give the processor's time of all its processes, those that have ended too."""
        return sum(_seconds(process) for process in self._processes())


def _seconds(process: int) -> float:
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def bodies(
    count: int, customers: int, chance: random.Random, *, first: int = 0, apart: int = 1
) -> Iterator[tuple[str, bytes]]:
    """Give topic and body of each delivery, as upstream sends them; the customers' ids lie so far apart.

    Those from a higher `first` on are later and different.
    """
    known: set[int] = set()
    for number in range(first, first + count):
        id_ = apart * chance.randrange(1, customers + 1)
        topic = "customers/updated" if id_ in known else "customers/created"
        known.add(id_)
        stamp = (START + timedelta(seconds=number * 3)).isoformat()
        customer = {
            "id": id_,
            "first_name": f"Jamie {chance.randrange(10_000)}",
            "last_name": "McDonald",
            "email": f"jamie+{number}@kounta.example",
            "phone": "02 8765 4321",
            "mobile": None,
            "tags": ["vip", "gold"],
            "image": None,
            "primary_address": {
                "address": f"{number} George Street",
                "city": "Sydney",
                "state": "NSW",
                "postal_code": "2000",
                "country": "AU",
            },
            "shipping_address": None,
            "reference_id": "",
            "accepts_marketing": bool(number % 2),
            "created_at": stamp,
            "updated_at": stamp,
        }
        yield topic, json.dumps(customer).encode()


def fill(url: str, companies: int, count: int, customers: int, *, first: int = 0, apart: int = 1) -> float:
    """Store so many deliveries, of these companies in turn, as a receiver does; give how long that took."""
    engine = postgresql.open_sync_engine(Schema(url, "inbox"))
    now = datetime.now(UTC)
    with engine.begin() as connection:
        transactions.begin(connection, now)
    rows = (
        Row(str(uuid_utils.uuid7()), FIRST_COMPANY + number % companies, topic, utc_text(now), "{}", body)
        for number, (topic, body) in enumerate(
            bodies(count, customers, random.Random(0), first=first, apart=apart)
        )
    )
    took = 0.0
    while part := list(islice(rows, 500)):
        began = time.perf_counter()
        with engine.begin() as connection:
            transactions.append(connection, part)
        took += time.perf_counter() - began
    engine.dispose()
    return took


@dataclass(frozen=True, slots=True)
class Drained:
    """What workers needed for an inbox."""

    seconds: float
    of_workers: float
    """Processor's time in seconds."""
    of_server: float


async def drain(server: Durable, database: str, companies: int, workers: int, checkout: Path) -> Drained:
    """Let so many workers apply everything; they run the code of `checkout`."""
    (count,) = server.ask("SELECT sum(head) FROM inbox.accepted", database)[0]
    (before,) = server.ask("SELECT coalesce(sum(position), 0) FROM mirror._progress", database)[0]
    assert count > before, "there is nothing to apply"
    async with _working(server.at(database), companies, workers, checkout) as processes:
        used = server.processor_seconds()
        own = sum(_seconds(process.pid) for process in processes)
        began = time.perf_counter()
        for process in processes:
            assert process.stdin is not None
            process.stdin.write(b"\n")
        with psycopg.connect(server.at(database), autocommit=True) as watching:
            while _applied(watching) < count:
                ended = [process.returncode for process in processes if process.returncode is not None]
                if ended:
                    raise SystemExit(f"A worker has ended by itself: {ended}")
                await asyncio.sleep(0.02)
        seconds = time.perf_counter() - began
        own = sum(_seconds(process.pid) for process in processes) - own
        return Drained(seconds, own, server.processor_seconds() - used)


def _applied(connection: psycopg.Connection[tuple[Any, ...]]) -> int:
    row = connection.execute("SELECT coalesce(sum(position), 0) FROM mirror._progress").fetchone()
    return 0 if row is None else int(row[0])


@asynccontextmanager
async def _working(url: str, companies: int, workers: int, checkout: Path) -> AsyncIterator[list[Process]]:
    worker = Path(__file__).with_name("applying.py")
    processes: list[Process] = []
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    command = [sys.executable, str(worker), url, str(companies)]
    try:
        while len(processes) < workers:
            process = await asyncio.create_subprocess_exec(
                *command, env=environment, cwd=checkout, stdin=PIPE, stdout=PIPE
            )
            processes.append(process)
        for process in processes:
            assert process.stdout is not None
            if await process.stdout.readline() != b"ready\n":
                raise SystemExit("A worker could not start.")
        yield processes
    finally:
        for process in processes:
            if process.returncode is None:
                process.terminate()
            await process.wait()
