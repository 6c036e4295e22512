"""How a good sender fares while hostile connections are held open, beside a quiet run of the same process.

One receiver; a sender of signed deliveries at a steady pace, each on a connection of its own. First it is
alone, then a second process, of low priority, holds hostile connections open: a quarter sends headers slowly,
a quarter bodies slowly, a quarter nothing, a quarter headers and bodies about as large as they may be. All of
it goes to 127.0.0.1 and ends by itself. The figures that count: the ratio of the two p99, and how much memory
the second run adds.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TypeAlias

import uvloop

from receiver.inbox import InboxReader
from tests.bench.receive import COMPANY_ID, memory, running, say, signed_requests

MOST_CONNECTIONS = 4_000
MOST_SECONDS = 120.0
AGAIN_SECONDS = 5.0  # until a hostile connection that was closed is opened again
DRIBBLE_SECONDS = 0.5
RATIO, ADDED_MIB = 2.0, 20.0
HEAD = f"POST /webhooks/{COMPANY_ID}/customers/updated HTTP/1.1\r\nHost: x\r\n".encode()
SLOW_BODY = HEAD + b"X-Kounta-Signature: 00\r\nContent-Length: 1000000\r\n\r\n"
Latencies: TypeAlias = list[float | None]
KINDS = ("slow headers", "slow bodies", "idle", "huge")


async def send_steadily(port: int, requests: list[bytes], rate: float, seconds: float) -> Latencies:
    """Send deliveries at a pace that answers do not slow; return what each took, None: it was not stored."""
    began = time.perf_counter()
    tasks = []
    for number in range(int(rate * seconds)):
        await asyncio.sleep(max(0.0, began + number / rate - time.perf_counter()))
        tasks.append(asyncio.create_task(send(port, requests[number % len(requests)])))
    return list(await asyncio.gather(*tasks))


async def send(port: int, request: bytes) -> float | None:
    began = time.perf_counter()
    try:
        async with asyncio.timeout(20):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(request)
                answer = await reader.readuntil(b'"}')
            finally:
                writer.close()
    except (OSError, asyncio.IncompleteReadError, TimeoutError):
        return None
    return time.perf_counter() - began if answer.startswith(b"HTTP/1.1 200") else None


async def be_hostile(kind: str, port: int, until: float) -> int:
    """Open connections of one kind one after the other; return how many."""
    await asyncio.sleep(random.uniform(0, AGAIN_SECONDS))  # they do not come at once
    for opened in itertools.count():
        left = until - time.monotonic()
        if left <= 0:
            return opened
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(left):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                try:
                    await _misbehave(kind, reader, writer)
                finally:
                    writer.close()
        await asyncio.sleep(AGAIN_SECONDS)
    return 0


async def _misbehave(kind: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    ended = asyncio.create_task(reader.read())
    try:
        if kind == "huge":
            writer.write(HEAD + b"X-Large: " + b"x" * 60_000)
            await asyncio.sleep(DRIBBLE_SECONDS)
            writer.write(b"\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 900_000)
        elif kind != "idle":
            writer.write(SLOW_BODY if kind == "slow bodies" else HEAD)
        while not ended.done():
            if kind in {"slow headers", "slow bodies"}:
                writer.write(b"x")
            await asyncio.wait([ended], timeout=DRIBBLE_SECONDS)
    finally:
        ended.cancel()
        await asyncio.wait([ended])


async def attack(port: int, connections: int, seconds: float) -> None:
    until = time.monotonic() + seconds
    kinds = itertools.islice(itertools.cycle(KINDS), connections)
    opened = await asyncio.gather(*(be_hostile(kind, port, until) for kind in kinds))
    say(f"hostile connections: {connections} at once, {sum(opened):,} in all")


def p99(latencies: list[float | None]) -> float:
    """Return the 99th percentile in milliseconds."""
    return statistics.quantiles([one for one in latencies if one is not None], n=100)[98] * 1000


async def compare(connections: int, rate: float, seconds: float) -> int:
    requests = signed_requests()
    with tempfile.TemporaryDirectory() as directory, running("durable", Path(directory)) as receiver:
        port = receiver.url_port
        await send_steadily(port, requests, rate, 2)  # warm
        quiet = await send_steadily(port, requests, rate, seconds)
        before = memory(receiver.pid)
        command = [sys.executable, __file__, "--attack", str(port), "--connections", str(connections)]
        with subprocess.Popen([*command, "--seconds", str(seconds + AGAIN_SECONDS + 2)]) as hostile:  # noqa: S603, ASYNC220 - this file
            await asyncio.sleep(AGAIN_SECONDS + 1)  # by now all of them are open
            sending = asyncio.create_task(send_steadily(port, requests, rate, seconds))
            most = before
            while not sending.done():
                await asyncio.wait([sending], timeout=0.1)
                most = max(most, memory(receiver.pid))
            amid = await sending
            await asyncio.to_thread(hostile.wait)
        after = await send_steadily(port, requests, rate, 2)
        everything = [*quiet, *amid, *after]
        async with InboxReader.open(Path(directory) / "inbox.db") as inbox:
            stored = await inbox.accepted(COMPANY_ID) - int(rate * 2)
            refused = {one.reason: one.count for one in await inbox.refusals(COMPANY_ID)}
    ratio, added = p99(amid) / p99(quiet), (most - before) / 1024
    lost = everything.count(None)
    say(f"quiet     p99 {p99(quiet):7.1f} ms of {len(quiet):,}")
    say(f"amid them p99 {p99(amid):7.1f} ms of {len(amid):,}; ratio {ratio:.2f}")
    say(f"memory {before / 1024:.0f} MiB, at most {added:+.1f} MiB amid them")
    say(f"not stored: {lost} of {len(everything):,}; refused: {refused}")
    return int(lost > 0 or stored < len(everything) or ratio > RATIO or added > ADDED_MIB)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--connections", type=int, default=1_000, help="hostile ones at once")
    parser.add_argument("--rate", type=float, default=50.0, help="deliveries a second of the good sender")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each run")
    parser.add_argument("--attack", type=int, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    seconds, connections = min(chosen.seconds, MOST_SECONDS), min(chosen.connections, MOST_CONNECTIONS)
    if chosen.attack:
        os.nice(
            10
        )  # of an attack, its packets count, and not the processor that this machine makes them with
        uvloop.run(attack(chosen.attack, connections, seconds))
        return 0
    return uvloop.run(compare(connections, chosen.rate, seconds))


if __name__ == "__main__":
    sys.exit(main())
