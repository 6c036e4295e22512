"""The receiver restarts under load while its parent keeps the socket open, as a systemd socket unit does."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from receiver.inbox import InboxReader
from receiver.signature import sign
from sync.inbox import inbox_path
from tests import forks
from tests.acceptance.conftest import TOKEN, Process, renamed
from tests.budget import tries

RESTARTS = tries(3, 20)
A_SECOND = 200
BETWEEN_SECONDS = 0.5
WAITING_SECONDS = 30.0
PATH = "/webhooks/5678/customers/updated"


def delivery(customer_id: int, first_name: str) -> bytes:
    body = renamed(customer_id, first_name)
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nX-Kounta-Signature: {sign(body, TOKEN.encode())}\r\n"
    return head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body


async def answer_to(request: bytes, port: int) -> str:
    """Send a request on a connection of its own; return the first line of the answer, or what went wrong."""
    try:
        async with asyncio.timeout(WAITING_SECONDS):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(request)
                return (await reader.readline()).decode().strip()
            finally:
                writer.close()
                await writer.wait_closed()
    except (OSError, TimeoutError) as error:
        return type(error).__name__


@asynccontextmanager
async def load(request: bytes, port: int) -> AsyncIterator[list["asyncio.Task[str]"]]:
    """Send it A_SECOND times a second, however long the answers take, until the block ends."""
    loop = asyncio.get_running_loop()
    sent: list[asyncio.Task[str]] = []

    async def send() -> None:
        began = loop.time()
        while True:
            await asyncio.sleep(began + len(sent) / A_SECOND - loop.time())
            sent.append(asyncio.create_task(answer_to(request, port)))

    sending = asyncio.create_task(send())
    try:
        yield sent
    finally:
        sending.cancel()
        await asyncio.wait([sending])


async def receiver_at(shop: Any, listener: socket.socket) -> Process:
    """Start the receiver with a socket that this process keeps open."""
    child = await forks.start(
        "receiver", "--fd", "0", env=shop.settings, cwd=shop.directory, stdin=listener.fileno()
    )
    process = Process(child)
    await process.says("receiver_started")
    return process


async def test_restarts_at_a_kept_socket_lose_nothing_and_are_no_gap(shop: Any) -> None:
    await shop.open(customers=5)
    customer = next(iter(shop.sandbox.company.truth()))
    await shop.quiet_worker()
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        receiver = await receiver_at(shop, listener)
        await shop.until(lambda: shop.value("SELECT starts_seen FROM _progress") == 1)
        request = delivery(customer["id"], customer["first_name"])
        async with load(request, listener.getsockname()[1]) as sent:
            for _ in range(RESTARTS):
                await asyncio.sleep(BETWEEN_SECONDS)
                assert (await receiver.stops())[0] == 0
                receiver = await receiver_at(shop, listener)
            await asyncio.sleep(BETWEEN_SECONDS)
        answers = await asyncio.gather(*sent)
        assert (set(answers), len(answers) >= RESTARTS * A_SECOND * BETWEEN_SECONDS / 2) == (
            {"HTTP/1.1 200 OK"},
            True,
        )
        await shop.until(lambda: shop.value("SELECT starts_seen FROM _progress") == RESTARTS + 1)
        async with InboxReader.open(inbox_path(shop.directory / "data")) as inbox:
            assert await inbox.accepted(5678) == len(answers)
            assert [start.kept for start in await inbox.starts()] == [False] + [True] * RESTARTS
        assert shop.value("SELECT count(*) FROM _sweeps") == 1
        assert shop.rows("SELECT * FROM _gaps") == []
        await receiver.stops()


def test_systemd_passes_the_socket_in_its_own_way(tmp_path: Path) -> None:
    settings = {
        "PATH": os.environ["PATH"],
        "MIRROR_DATA_DIR": str(tmp_path / "data"),
        "KOUNTA_COMPANY_ID": "5678",
        "KOUNTA_SIGNATURE_TOKENS": TOKEN,
    }
    with socket.create_server(("127.0.0.1", 0)) as listener:
        passing = 'exec 3<&0 0</dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"'
        command = ["sh", "-c", passing, "sh", sys.executable, "-m", "sync", "receiver"]
        with subprocess.Popen(  # noqa: S603 - the program under test
            command,
            stdin=listener.fileno(),
            env=settings,
            cwd=tmp_path,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stderr is not None
            try:
                said = json.loads(process.stderr.readline())
                assert (said["event"], said["port"]) == ("receiver_started", listener.getsockname()[1])
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(15)
    assert process.returncode == 0


@pytest.mark.parametrize(("fd", "said"), [(0, "no socket"), (99, "not open")])
async def test_a_descriptor_that_does_not_listen_is_one_sentence(shop: Any, fd: int, said: str) -> None:
    await shop.open(1)
    typed = await shop.type(f"receiver --fd {fd}")
    assert typed.child.returncode == 1
    assert " ".join(typed.sentences) == (
        f"The receiver cannot listen at descriptor {fd}: it is {said}. "
        "Pass a stream socket that listens, as a systemd socket unit does."
    )
