"""How many deliveries a second the receiver stores, beside itself when it verifies and stores nothing.

Two real processes take turns under the same load: signed deliveries over keep-alive connections, on each one
at a time. The figure that counts is the ratio; the rest is of this machine.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import hmac
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

import uvloop

from receiver.inbox import InboxReader
from receiver.settings import ReceiverSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

    from receiver.capture import Capture

COMPANY_ID = 5678
TOKEN = "benchmark"
DIFFERENT = 2_000  # requests made before the clock runs


class StoresNothing:
    """An inbox that forgets."""

    ready = True
    spooled = None

    async def append(self, _company_id: int, _topic: str, _headers: Mapping[str, str], _body: bytes) -> str:
        return "00000000-0000-7000-8000-000000000000"

    def refuse(self, _company_id: int, reason: str) -> None:
        raise AssertionError(reason)

    def overloaded(self, reason: str) -> None:
        raise AssertionError(reason)

    def note_token(self, _company_id: int, _fingerprint: str) -> None:
        pass


@asynccontextmanager
async def stores_nothing(_settings: ReceiverSettings, _capture: Capture) -> AsyncIterator[StoresNothing]:
    yield StoresNothing()


@dataclass
class Measured:
    """One kind of receiver over all rounds."""

    url_port: int
    pid: int
    rates: list[float] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    answered: int = 0
    cpu: float = 0.0  # seconds in all rounds

    def row(self, name: str) -> str:
        centiles = statistics.quantiles(self.latencies, n=100)
        return (
            f"{name:<16}{statistics.median(self.rates):>10,.0f}/s   p50 {centiles[49] * 1000:5.1f} ms"
            f"   p99 {centiles[98] * 1000:6.1f} ms   cpu {self.cpu / len(self.latencies) * 1e6:4.0f} us each"
            f"   memory {memory(self.pid) / 1024:5.0f} MiB"
        )


class Sender(asyncio.Protocol):
    """One connection that has one request on its way until the time is over."""

    def __init__(self, requests: Sequence[bytes], first: int, until: float, latencies: list[float]) -> None:
        self._requests = requests
        self._next = first
        self._until = until
        self._latencies = latencies
        self._sent = 0.0
        self._answer = b""
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        self._send()

    def data_received(self, data: bytes) -> None:
        self._answer += data
        if not self._answer.endswith(b'"}'):
            return
        now = time.perf_counter()
        if not self._answer.startswith(b"HTTP/1.1 200"):
            self._end(RuntimeError(self._answer.decode()))
            return
        self._latencies.append(now - self._sent)
        if now < self._until:
            self._send()
        else:
            self._end(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(exc or ConnectionResetError("the receiver closed the connection"))

    def _send(self) -> None:
        self._answer = b""
        self._next = (self._next + 1) % len(self._requests)
        self._sent = time.perf_counter()
        self._transport.write(self._requests[self._next])

    def _end(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(error) if error else self.done.set_result(None)
            self._transport.close()


def same(sender: Sender) -> Sender:
    return sender


async def load(
    port: int, requests: Sequence[bytes], connections: int, seconds: float
) -> tuple[float, list[float]]:
    loop = asyncio.get_running_loop()
    latencies: list[float] = []
    began = time.perf_counter()
    senders = []
    for number in range(connections):
        sender = Sender(requests, number * 31, began + seconds, latencies)
        await loop.create_connection(partial(same, sender), "127.0.0.1", port)
        senders.append(sender)
    await asyncio.gather(*(sender.done for sender in senders))
    return time.perf_counter() - began, latencies


def signed_requests() -> list[bytes]:
    made = []
    for number in range(DIFFERENT):
        body = json.dumps(
            {
                "id": number,
                "first_name": "Jamie",
                "last_name": f"McDonald {number}",
                "email": f"jmcdonald{number}@kounta.kom",
                "phone": "02 8765 4321",
                "mobile": None,
                "tags": ["vip", "gold"],
                "image": None,
                "primary_address": {"address": "1 Main St", "city": "Sydney", "country": "AU"},
                "shipping_address": {"address": "1 Main St", "city": "Sydney", "country": "AU"},
                "reference_id": "",
                "accepts_marketing": True,
                "created_at": "2026-01-01T00:00:00+00:00",
                "updated_at": "2026-01-01T00:00:00+00:00",
            }
        ).encode()
        signature = hmac.digest(TOKEN.encode(), body, hashlib.sha256).hex()
        made.append(
            f"POST /webhooks/{COMPANY_ID}/customers/updated HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            "User-Agent: bench\r\nAccept: */*\r\nContent-Type: application/json\r\n"
            f"X-Kounta-Signature: {signature}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
    return made


@contextmanager
def running(kind: str, data_dir: Path) -> Iterator[Measured]:
    environment = {
        **os.environ,
        "MIRROR_DATA_DIR": str(data_dir),
        "KOUNTA_COMPANY_ID": str(COMPANY_ID),
        "KOUNTA_SIGNATURE_TOKENS": TOKEN,
    }
    with subprocess.Popen(  # noqa: S603 - this file, by this Python
        [sys.executable, __file__, "--serve", kind], env=environment, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        try:
            for line in process.stderr:
                if '"receiver_started"' in line:
                    yield Measured(json.loads(line)["port"], process.pid)
                    break
            else:
                raise SystemExit(f"The receiver ({kind}) did not start.")
        finally:
            process.send_signal(signal.SIGTERM)


def say(line: str) -> None:
    sys.stdout.write(line + "\n")


def cpu(pid: int) -> float:
    """Give the seconds of processor that a process has used; 0 where there is no /proc."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory(pid: int) -> int:
    """Give the resident KiB of a process; 0 where there is no /proc."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))


async def compare(rounds: int, seconds: float, connections: int) -> int:
    requests = signed_requests()
    with (
        tempfile.TemporaryDirectory() as directory,
        running("durable", Path(directory)) as durable,
        running("plain", Path(directory)) as plain,
    ):
        both = (durable, plain)
        for one in both:  # warm
            one.answered += len((await load(one.url_port, requests, connections, 0.5))[1])
        busy, wall = time.process_time(), time.perf_counter()
        for number in range(rounds):
            for one in both if number % 2 else both[::-1]:
                before = cpu(one.pid)
                took, latencies = await load(one.url_port, requests, connections, seconds)
                one.cpu += cpu(one.pid) - before
                one.rates.append(len(latencies) / took)
                one.latencies += latencies
                one.answered += len(latencies)
        busy, wall = time.process_time() - busy, time.perf_counter() - wall
        ratios = [stored / bare for stored, bare in zip(durable.rates, plain.rates, strict=True)]
        say(plain.row("stores nothing"))
        say(durable.row("durable"))
        say(
            f"ratio {statistics.median(ratios):.2f}"
            f" (rounds: {', '.join(f'{ratio:.2f}' for ratio in ratios)}); "
            f"the load took {busy / wall:.0%} of a core"
        )
        async with InboxReader.open(Path(directory) / "inbox.db") as inbox:
            stored = await inbox.accepted(COMPANY_ID)
        if stored != durable.answered:
            say(f"{durable.answered} were answered 200 and {stored} are stored")
            return 1
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each receiver in each round")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--serve", choices=["durable", "plain"], help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.serve:
        from receiver.app import own_inbox
        from receiver.server import serve

        serve(
            ReceiverSettings.load(),
            "127.0.0.1",
            0,
            own_inbox if chosen.serve == "durable" else stores_nothing,
        )
        return 0
    return uvloop.run(compare(chosen.rounds, chosen.seconds, chosen.connections))


if __name__ == "__main__":
    sys.exit(main())
