"""A shop's directory, in which commands are typed and processes run, and a local Kounta they can reach."""

import asyncio
import json
import shlex
import signal
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest

from receiver.doorbell import DoorbellButton
from receiver.inbox import InboxWriter
from receiver.signature import sign
from sync.inbox import inbox_path
from sync.mirror.store import OWNER
from sync.sandbox import Faults, Sandbox, Settings, serving
from tests import forks
from tests.forks import Fork

TOKEN = "sandbox-signature-token"
START_SECONDS = 30
END_SECONDS = 30


@dataclass
class Process:
    """A process of the program, and all that it has said so far."""

    child: Fork
    out: str = ""
    log: list[dict[str, Any]] = field(default_factory=list)
    """The lines of stderr that are log lines: an `event`, a `message` …"""
    sentences: list[str] = field(default_factory=list)
    """The other lines of stderr."""
    _heard: asyncio.Event = field(default_factory=asyncio.Event)
    _hearing: asyncio.Future[Any] = field(init=False)

    def __post_init__(self) -> None:
        self._hearing = asyncio.gather(self._hear_log(), self._hear_output())
        self._hearing.add_done_callback(lambda _: self._heard.set())

    async def _hear_log(self) -> None:
        assert self.child.stderr is not None
        async for line in self.child.stderr:
            text = line.decode().rstrip("\n")
            if text.startswith("{"):
                self.log.append(json.loads(text))
            else:
                self.sentences.append(text)
            self._heard.set()

    async def _hear_output(self) -> None:
        assert self.child.stdout is not None
        self.out = (await self.child.stdout.read()).decode()

    async def says(self, event: str) -> dict[str, Any]:
        """Wait until a line of the log tells of this event, and give it."""
        async with asyncio.timeout(START_SECONDS):
            while True:
                self._heard.clear()
                for line in self.log:
                    if line["event"] == event:
                        return line
                assert not self._hearing.done(), f"it ended without {event}: {self.log} {self.sentences}"
                await self._heard.wait()

    async def ends(self, seconds: float = END_SECONDS) -> int:
        """Wait for its end, and give the exit code: below 0 the number of the signal that ended it."""
        async with asyncio.timeout(seconds):
            await self.child.wait()
            await self._hearing
        assert self.child.returncode is not None
        return self.child.returncode

    async def stops(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, float]:
        """Send a signal; give the exit code and after how many seconds it came."""
        loop = asyncio.get_running_loop()
        sent_at = loop.time()
        self.child.send_signal(number)
        return await self.ends(), loop.time() - sent_at

    async def is_killed(self) -> None:
        self.child.kill()
        await self.ends()

    @property
    def lives(self) -> bool:
        return self.child.returncode is None


@dataclass
class Shell:
    """Commands typed in a shop's directory; each begins with `subject`."""

    subject: tuple[str, ...]
    directory: Path
    sandbox: Sandbox
    settings: dict[str, str]

    async def start(self, *command: str) -> Fork:
        return await forks.start(
            *command,
            env={"MIRROR_CONSOLE_PORT": "0", **self.settings},
            cwd=self.directory,
        )

    async def type(self, command: str) -> tuple[int, str, str]:
        """Give exit code, stdout and stderr."""
        process = await self.start(*self.subject, *shlex.split(command))
        out, complaint = await asyncio.wait_for(process.communicate(), 60)
        return process.returncode or 0, out.decode(), complaint.decode()

    async def json(self, command: str) -> Any:
        code, out, complaint = await self.type(f"{command} --json")
        assert (code, complaint) == (0, "")
        return json.loads(out)

    @asynccontextmanager
    async def running(self, *command: str) -> AsyncIterator[tuple[Fork, dict[str, Any]]]:
        """Run a process of the Procfile; give it, and the line in which it says that it has started."""
        process = await self.start(*command)
        try:
            assert process.stderr is not None
            async with asyncio.timeout(START_SECONDS):
                line = json.loads(await process.stderr.readline())
                while line["event"] != f"{command[0]}_started":
                    line = json.loads(await process.stderr.readline())
            yield process, line
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
            await asyncio.wait_for(process.communicate(), 20)


@dataclass
class Shop:
    """The directory with its settings. Processes that still live when a test is over are killed."""

    directory: Path
    stack: AsyncExitStack
    sandbox: Sandbox = field(init=False)
    settings: dict[str, str] = field(default_factory=dict)
    processes: list[Process] = field(default_factory=list)
    """All that were started, also those that have ended."""
    _hung: int = 0

    async def open(self, customers: int, **settings: Any) -> None:
        """Open a local Kounta with so many customers. Its lists are complete: a sweep leaves no doubt."""
        given = {"requests_per_minute": 100_000, "list_shape": "complete", **settings}
        self.sandbox = Sandbox(Settings(**given), Faults(), 7, customers)
        url = await self.stack.enter_async_context(serving(self.sandbox))
        self.settings |= {
            "KOUNTA_COMPANY_ID": "5678",
            "KOUNTA_SIGNATURE_TOKENS": TOKEN,
            "KOUNTA_CLIENT_ID": "sandbox-client",
            "KOUNTA_CLIENT_SECRET": "sandbox-secret",
            "KOUNTA_API_URL": url,
            "KOUNTA_REQUESTS_PER_MINUTE": "100000",
            "MIRROR_READ_LAG_SECONDS": "0",
            "MIRROR_PUBLIC_URL": "https://mirror.example/shop",
        }

    async def start(self, command: str, **settings: str) -> Process:
        child = await forks.start(
            *command.split(),
            env={"MIRROR_CONSOLE_PORT": "0", **self.settings, **settings},
            cwd=self.directory,
        )
        process = Process(child)
        self.processes.append(process)
        self.stack.push_async_callback(_end, process)
        return process

    async def type(self, command: str, **settings: str) -> Process:
        """Run a command to its end."""
        process = await self.start(command, **settings)
        await process.ends(60)
        return process

    async def worker(self, **settings: str) -> Process:
        """Start the worker, and wait until it works."""
        process = await self.start("worker", **settings)
        await process.says("worker_started")
        return process

    async def quiet_worker(self, **settings: str) -> Process:
        """Start the worker, and wait until it has made its first sweep: there is nothing left to do."""
        process = await self.worker(**settings)
        await process.says("sweep_complete")
        return process

    async def inbox(self) -> "Inbox":
        """Be the receiver as far as the worker sees it: the owner of the inbox, who rings its bell."""
        data = self.directory / "data"
        button = DoorbellButton(data, OWNER)
        self.stack.callback(button.close)
        writer = await InboxWriter.open(inbox_path(data), committed=button.press)
        return Inbox(await self.stack.enter_async_context(writer))

    async def receiver(self) -> "Receiver":
        """Start the receiver, and wait until it listens."""
        process = await self.start("receiver --port 0")
        return Receiver(self, process, (await process.says("receiver_started"))["port"])

    def rows(self, query: str, *parameters: object) -> list[dict[str, Any]]:
        """Ask the mirror in SQL, as a reporting tool does."""
        uri = (self.directory / "data/mirror.db").as_uri() + "?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=10)) as mirror:
            mirror.row_factory = sqlite3.Row
            return [dict(row) for row in mirror.execute(query, parameters)]

    def value(self, query: str, *parameters: object) -> Any:
        """Ask for one value."""
        (row,) = self.rows(query, *parameters)
        (value,) = row.values()
        return value

    async def until(
        self, condition: Callable[[], object], *, seconds: float = END_SECONDS, pause: float = 0.01
    ) -> None:
        """Wait for what other processes bring about, and tell nobody."""
        async with asyncio.timeout(seconds):
            while not condition():  # noqa: ASYNC110 - it comes true in another process
                await asyncio.sleep(pause)

    def break_down(self, **faults: Any) -> None:
        self.sandbox.change(self.sandbox.faults, faults)

    def hang(self, *kinds: str) -> None:
        """Let calls of these kinds hang for longer than a test lasts; none named: let none hang any more."""
        self.break_down(hangs=int(bool(kinds)), hang_seconds=600, only_calls=kinds)
        self._hung = self.sandbox.calls.by_fault["hangs"]

    def hang_once(self, kind: str) -> None:
        """Let the next call of this kind hang, and none after it."""
        self.hang(kind)
        self.break_down(hangs=0)
        self.sandbox.calls.ask(["hangs"])

    async def until_one_hangs(self) -> None:
        """Wait until a call hangs, after `hang`."""
        await self.until(lambda: self.sandbox.calls.by_fault["hangs"] > self._hung)

    @property
    def ids(self) -> list[int]:
        return sorted(customer["id"] for customer in self.sandbox.company.truth())

    def calls(self, kind: str) -> int:
        return self.sandbox.calls.by_kind[kind]


@dataclass
class Inbox:
    """An inbox that a test fills by itself."""

    writer: InboxWriter

    async def append(self, customer_id: int, first_name: str) -> str:
        """Let a delivery come, that this customer has a new first name; give its name."""
        return await self.writer.append(5678, "customers/updated", {}, renamed(customer_id, first_name))


@dataclass
class Receiver:
    """A receiver that listens, and how upstream delivers to it."""

    shop: Shop
    process: Process
    port: int

    async def post(self, customer_id: int, first_name: str) -> str:
        """Deliver that this customer has a new first name; give the name of the delivery."""
        body = renamed(customer_id, first_name)
        url = f"http://127.0.0.1:{self.port}/webhooks/5678/customers/updated"
        headers = {"X-Kounta-Signature": sign(body, TOKEN.encode())}
        async with httpx2.AsyncClient(trust_env=False) as client:
            answer = await client.post(url, content=body, headers=headers)
        assert answer.status_code == 200, answer.text
        delivery: str = answer.json()["delivery"]
        return delivery


def renamed(customer_id: int, first_name: str) -> bytes:
    return json.dumps({"id": customer_id, "first_name": first_name}).encode()


async def _end(process: Process) -> None:
    if process.lives:
        process.child.kill()
    await process.ends()


@pytest.fixture
async def open_shell(tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[Shell]]]:
    """Open a shell beside a local Kounta with so many customers; give it these settings, too."""
    async with AsyncExitStack() as stack:

        async def opened(*subject: str, customers: int, **settings: str) -> Shell:
            sandbox = Sandbox(Settings(requests_per_minute=100_000), Faults(), seed=7, customers=customers)
            given = {
                "KOUNTA_COMPANY_ID": "5678",
                "KOUNTA_CLIENT_ID": "sandbox-client",
                "KOUNTA_CLIENT_SECRET": "sandbox-secret",
                "KOUNTA_API_URL": await stack.enter_async_context(serving(sandbox)),
                "KOUNTA_REQUESTS_PER_MINUTE": "100000",
            }
            return Shell(subject, tmp_path, sandbox, given | settings)

        yield opened


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    """Nothing yet: a test opens it with so many customers."""
    async with AsyncExitStack() as stack:
        yield Shop(tmp_path, stack)
