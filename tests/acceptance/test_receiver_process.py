"""Claims about processes: how one starts, stops, is killed, and meets a disk that is full."""

import asyncio
import json
import os
import resource
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from receiver.inbox import InboxReader
from receiver.signature import sign
from tests.promptness import stop_seconds

COMPANY = 5678
URL = f"/webhooks/{COMPANY}/customers/updated"
COMMAND = [sys.executable, "-m", "sync", "receiver", "--port", "0"]


def environment(data_dir: Path) -> dict[str, str]:
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("KOUNTA", "MIRROR"))
    }
    return inherited | {
        "MIRROR_DATA_DIR": str(data_dir),
        "KOUNTA_COMPANY_ID": str(COMPANY),
        "KOUNTA_SIGNATURE_TOKENS": "token",
    }


@dataclass
class Process:
    popen: subprocess.Popen[str]
    port: int
    log: IO[str]

    def signal(self, number: signal.Signals) -> float:
        """Send a signal; give how many seconds the process took to end."""
        began = time.monotonic()
        self.popen.send_signal(number)
        self.popen.wait(15)
        return time.monotonic() - began


@contextmanager
def running(data_dir: Path, cwd: Path, command: list[str] = COMMAND) -> Iterator[Process]:
    with subprocess.Popen(  # noqa: S603 - the program under test
        command, env=environment(data_dir), cwd=cwd, stderr=subprocess.PIPE, text=True
    ) as popen:
        assert popen.stderr is not None
        try:
            for line in popen.stderr:
                if '"receiver_started"' in line:
                    yield Process(popen, json.loads(line)["port"], popen.stderr)
                    break
            else:
                raise AssertionError("it did not start")
        finally:
            popen.kill()


@dataclass
class Load:
    """Deliveries over a few connections, each sending the next when the last is answered."""

    port: int
    answered: list[str] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)
    cut: int = 0
    flowing: asyncio.Event = field(default_factory=asyncio.Event)

    async def send(self, count: int, connections: int = 16) -> None:
        limits = httpx2.Limits(max_connections=connections)
        url = f"http://127.0.0.1:{self.port}"
        async with httpx2.AsyncClient(base_url=url, limits=limits, trust_env=False, timeout=10) as client:
            await asyncio.gather(
                *(self._connection(client, count // connections) for _ in range(connections))
            )

    async def _connection(self, client: httpx2.AsyncClient, count: int) -> None:
        for number in range(count):
            body = json.dumps({"id": number}).encode()
            try:
                answer = await client.post(
                    URL, content=body, headers={"X-Kounta-Signature": sign(body, b"token")}
                )
            except httpx2.TransportError:
                self.cut += 1
                return
            if answer.status_code == 200:
                self.answered.append(answer.json()["delivery"])
            else:
                self.refused.append(answer.status_code)
            if len(self.answered) >= 100:
                self.flowing.set()


async def stored(data_dir: Path) -> set[str]:
    async with InboxReader.open(data_dir / "inbox.db") as inbox:
        found = await inbox.read(COMPANY, 0, 1_000_000)
        assert await inbox.accepted(COMPANY) == len(found)
    return {delivery.id for delivery in found}


async def test_a_stop_under_load_loses_nothing_that_was_answered(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    with running(data_dir, tmp_path) as process:
        load = Load(process.port)
        sending = asyncio.create_task(load.send(20_000))
        await load.flowing.wait()
        took = await asyncio.to_thread(process.signal, signal.SIGTERM)
        await sending
        assert process.popen.returncode == 0
        assert took < stop_seconds()
        assert "Traceback" not in process.log.read()
    assert load.refused == []
    assert await stored(data_dir) == set(load.answered)
    async with InboxReader.open(data_dir / "inbox.db") as inbox:
        assert [start.stopped_at is not None for start in await inbox.starts()] == [True]


async def test_a_kill_under_load_loses_nothing_that_was_answered(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    answered: set[str] = set()
    for _ in range(3):
        with running(data_dir, tmp_path) as process:
            load = Load(process.port)
            sending = asyncio.create_task(load.send(20_000))
            await load.flowing.wait()
            await asyncio.to_thread(process.signal, signal.SIGKILL)
            await sending
        answered |= set(load.answered)
        assert load.cut > 0
        assert answered <= await stored(data_dir)
    with running(data_dir, tmp_path) as process:
        load = Load(process.port)
        await load.send(16)
        assert len(load.answered) == 16
    async with InboxReader.open(data_dir / "inbox.db") as inbox:
        assert [start.stopped_at for start in await inbox.starts()] == [None] * 4


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (COMMAND, 0),
        # uvicorn ends by the signal it was sent
        ([sys.executable, "-m", "uvicorn", "receiver.app:app", "--port"], -signal.SIGTERM),
    ],
    ids=["kounta-mirror", "uvicorn"],
)
async def test_a_half_sent_body_does_not_hold_up_a_stop(
    tmp_path: Path, command: list[str], code: int
) -> None:
    with started(tmp_path, command) as process:
        reader, writer = await asyncio.open_connection("127.0.0.1", process.port)
        writer.write(f"POST {URL} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf".encode())
        await writer.drain()
        load = Load(process.port)
        await load.send(16)  # when these are answered, the half-sent one has been read
        took = await asyncio.to_thread(process.signal, signal.SIGTERM)
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        assert process.popen.returncode == code
    assert took < stop_seconds()
    assert answer.startswith(b"HTTP/1.1 503")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"] == "unavailable"
    assert await stored(tmp_path / "data") == set(load.answered)
    async with InboxReader.open(tmp_path / "data/inbox.db") as inbox:
        (refusal,) = await inbox.refusals(COMPANY)
    assert (refusal.reason, refusal.count) == ("body_too_slow", 1)  # nothing of it verified: a stranger's


@contextmanager
def started(tmp_path: Path, command: list[str]) -> Iterator[Process]:
    """Start either program; uvicorn's own log names the port only in words, so it is given a free one."""
    if command == COMMAND:
        with running(tmp_path / "data", tmp_path) as process:
            yield process
        return
    port = free_port()
    with subprocess.Popen(  # noqa: S603 - the program under test
        [*command, str(port)],
        env=environment(tmp_path / "data"),
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    ) as popen:
        assert popen.stderr is not None
        try:
            deadline = time.monotonic() + 15
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError:
                    assert time.monotonic() < deadline
                    time.sleep(0.05)
            yield Process(popen, port, popen.stderr)
        finally:
            popen.kill()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


async def test_a_full_disk_refuses_keeps_what_was_answered_and_recovers(tmp_path: Path) -> None:
    """The limit of a file's size, which a parent can lift, stands for the disk."""
    data_dir = tmp_path / "data"
    with running(data_dir, tmp_path) as process:
        pid = process.popen.pid
        load = Load(process.port)
        await load.send(160)
        _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        size = max(path.stat().st_size for path in data_dir.iterdir())
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, hard))
        await load.send(320)
        assert set(load.refused) == {503}
        ready = f"http://127.0.0.1:{process.port}/readyz"
        async with httpx2.AsyncClient(trust_env=False) as client:
            assert (await client.get(ready)).status_code == 503
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))
            async with asyncio.timeout(10):
                while (await client.get(ready)).status_code != 200:  # noqa: ASYNC110 - asked as a load balancer asks
                    await asyncio.sleep(0.05)
        refused = len(load.refused)
        await load.send(160)
        assert len(load.refused) == refused
        process.signal(signal.SIGTERM)
        log = process.log.read()
    assert "Traceback" not in log
    assert "commits_recovered" in log
    assert await stored(data_dir) == set(load.answered)
    async with InboxReader.open(data_dir / "inbox.db") as inbox:
        assert sum(failed.refused for failed in await inbox.failed_commits()) == refused


def fails(command: list[str], env: dict[str, str], cwd: Path) -> tuple[int, str]:
    ended = subprocess.run(  # noqa: S603 - the program under test
        command, env=env, cwd=cwd, capture_output=True, text=True, timeout=30, check=False
    )
    assert ended.stdout == ""
    assert "Traceback" not in ended.stderr
    return ended.returncode, ended.stderr


def one_line(ended: tuple[int, str], code: int) -> str:
    assert ended[0] == code, ended[1]
    assert ended[1].count("\n") == 1, ended[1]
    return ended[1]


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("KOUNTA_COMPANY_ID", "", "KOUNTA_COMPANY_ID is not set"),
        ("KOUNTA_COMPANY_ID", "Kounta", "KOUNTA_COMPANY_ID cannot be 'Kounta'"),
        ("KOUNTA_SIGNATURE_TOKENS", "", "KOUNTA_SIGNATURE_TOKENS is not set"),
        ("MIRROR_QUEUE_LIMIT", "-1", "MIRROR_QUEUE_LIMIT cannot be '-1'"),
        ("DATABASE_URL", "mysql://a:s3cret@b/c", "DATABASE_URL cannot be used"),
    ],
)
def test_a_wrong_setting_stops_the_start(tmp_path: Path, name: str, value: str, said: str) -> None:
    line = one_line(fails(COMMAND, environment(tmp_path / "data") | {name: value}, tmp_path), 2)
    assert line.startswith(said)
    assert "s3cret" not in line
    assert not (tmp_path / "data").exists()


def test_a_wrong_setting_stops_uvicorn_with_the_same_sentence(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "uvicorn", "receiver.app:app", "--port", "0"]
    code, said = fails(command, environment(tmp_path / "data") | {"KOUNTA_COMPANY_ID": "x"}, tmp_path)
    assert code != 0
    assert "KOUNTA_COMPANY_ID cannot be 'x'" in said


def test_a_file_in_place_of_the_data_directory_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    assert "not a directory" in one_line(fails(COMMAND, environment(tmp_path / "data"), tmp_path), 1)


def test_a_directory_that_cannot_be_written_stops_the_start(tmp_path: Path) -> None:
    assert "cannot be made" in one_line(fails(COMMAND, environment(Path("/proc/data")), tmp_path), 1)


def test_a_second_receiver_is_told_of_the_first(tmp_path: Path) -> None:
    with running(tmp_path / "data", tmp_path) as first:
        line = one_line(fails(COMMAND, environment(tmp_path / "data"), tmp_path), 1)
        assert f"the receiver, process {first.popen.pid}, since" in line
        assert first.popen.poll() is None


def test_a_port_in_use_stops_the_start(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [*COMMAND[:-1], str(port)]
        line = one_line(fails(command, environment(tmp_path / "data"), tmp_path), 1)
    assert f"port {port}" in line


def test_a_database_of_a_newer_version_stops_the_start(tmp_path: Path) -> None:
    with running(tmp_path / "data", tmp_path) as process:
        process.signal(signal.SIGTERM)
    connection = sqlite3.connect(tmp_path / "data" / "inbox.db")
    with connection:
        connection.execute("UPDATE alembic_version SET version_num = '0099'")
    connection.close()
    line = one_line(fails(COMMAND, environment(tmp_path / "data"), tmp_path), 1)
    assert "schema version 0099" in line


def test_a_file_that_is_no_database_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "inbox.db").write_text("a letter to a friend" * 100)
    assert "not a database" in one_line(fails(COMMAND, environment(tmp_path / "data"), tmp_path), 1)


async def test_its_own_metrics_are_never_on_the_public_port(shop: Any) -> None:
    await shop.open(1)
    shop.settings["MIRROR_RECEIVER_METRICS_PORT"] = "0"
    receiver = await shop.receiver()
    port = (await receiver.process.says("metrics_started"))["port"]
    await receiver.post(1, "Jamie")
    async with httpx2.AsyncClient(trust_env=False) as client:
        await client.post(f"http://127.0.0.1:{receiver.port}/webhooks/5678/customers/updated", content=b"{}")
        assert (await client.get(f"http://127.0.0.1:{receiver.port}/metrics")).status_code == 404
        text = (await client.get(f"http://127.0.0.1:{port}/metrics")).text
    families = {family.name: family for family in text_string_to_metric_families(text)}
    answers = {one.labels["answer"]: one.value for one in families["kounta_mirror_receiver_answers"].samples}
    assert answers == {"stored": 1, "signature_missing": 1, "not_found": 1}
    values = {name: family.samples[0].value for name, family in families.items() if family.type == "gauge"}
    assert values["kounta_mirror_receiver_ready"] == 1
    assert values["kounta_mirror_receiver_waiting"] == 0
    assert values["kounta_mirror_receiver_spooled"] == 0
    commits = families["kounta_mirror_receiver_commit_seconds"].samples
    assert next(one.value for one in commits if one.name.endswith("_count")) == 1
    page = Path(__file__).parents[2].joinpath("docs/reference/metrics.md").read_text()
    for name in (one for one in families if one.startswith("kounta_mirror_receiver_")):
        assert f"| `{name}" in page
    assert (await receiver.process.stops())[0] == 0


async def test_a_port_that_is_taken_for_its_metrics_is_one_sentence(shop: Any) -> None:
    await shop.open(1)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        typed = await shop.type("receiver --port 0", MIRROR_RECEIVER_METRICS_PORT=port)
    assert typed.child.returncode == 1
    assert typed.sentences[-1].startswith(
        f"The receiver's metrics cannot be served at 127.0.0.1 port {port}: "
    )
