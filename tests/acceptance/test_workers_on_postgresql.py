"""Worker processes on PostgreSQL: who asks Kounta, what wakes them, and what a pooler changes."""

import asyncio
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest
from sqlalchemy import make_url

from receiver.inbox import InboxWriter
from receiver.postgresql import Schema
from sync.mirror.lease import LOOK_SECONDS, TTL
from tests.databases import Cluster

MOVES_WITHIN = 30.0  # seconds after the death of a holder
POOLER = "pgbouncer"


@dataclass
class Street:
    """A shop whose stores lie on PostgreSQL, and workers as if each were on a machine of its own."""

    shop: Any
    url: str

    async def worker(self, machine: str, **settings: str) -> Any:
        return await self.shop.worker(MIRROR_DATA_DIR=machine, **settings)

    def asked(self, query: str) -> Any:
        with psycopg.connect(self.url, autocommit=True) as connection:
            found = connection.execute(query.encode()).fetchone()
        return None if found is None else found[0]

    @property
    def epoch(self) -> int:
        return int(self.asked("SELECT epoch FROM mirror._progress"))

    @property
    def holder(self) -> int | None:
        """The process that holds the lease now."""
        name = self.asked("SELECT lease_holder FROM mirror._progress WHERE lease_until >= now()")
        return None if name is None else int(name.split(":")[1])

    async def is_held_by(self, process: Any) -> float:
        """Wait until this process holds the lease; give the seconds it took."""
        began_at = time.monotonic()
        await self.shop.until(lambda: self.holder == process.child.pid, seconds=2 * MOVES_WITHIN, pause=0.2)
        return time.monotonic() - began_at

    def first_name(self, customer_id: int) -> Any:
        return self.asked(f"SELECT first_name FROM mirror.customers WHERE id = {customer_id}")  # noqa: S608 - a number

    @asynccontextmanager
    async def inbox(self) -> AsyncIterator[InboxWriter]:
        """Be the receiver."""
        async with await InboxWriter.open(Schema(self.url, "inbox")) as writer:
            yield writer

    async def apply(self, inbox: InboxWriter, name: str) -> float:
        """Let a delivery come; give after how many seconds its verdict was to be seen."""
        customer_id = self.shop.ids[0]
        body = f'{{"id": {customer_id}, "first_name": "{name}"}}'.encode()
        delivery = await inbox.append(5678, "customers/updated", {}, body)
        stored_at = time.monotonic()
        query = f"SELECT verdict FROM mirror.delivery_verdicts WHERE delivery_id = '{delivery}'"  # noqa: S608 - ours
        await self.shop.until(lambda: self.asked(query))
        return time.monotonic() - stored_at


@pytest.fixture
async def street(shop: Any, postgresql: Any) -> AsyncIterator[Street]:
    url = postgresql.fresh()
    await shop.open(3)
    shop.settings["DATABASE_URL"] = url
    yield Street(shop, url)
    await shop.stack.aclose()
    postgresql.drop(url)


async def test_the_lease_moves_when_its_holder_is_killed_frozen_or_stopped(street: Street) -> None:
    one = await street.worker("one")
    await one.says("sweep_complete")
    two = await street.worker("two")
    assert street.holder == one.child.pid

    command = await street.shop.type("customers list --json", MIRROR_DATA_DIR="two")
    assert (command.child.returncode, command.sentences) == (0, [])
    await street.shop.until(lambda: street.holder in {one.child.pid, two.child.pid})

    (holder, other) = (one, two) if street.holder == one.child.pid else (two, one)
    await holder.is_killed()
    after_kill = await street.is_held_by(other)
    assert after_kill < MOVES_WITHIN

    three = await street.worker("three")
    other.child.send_signal(signal.SIGSTOP)
    after_freeze = await street.is_held_by(three)
    epoch = street.epoch
    other.child.send_signal(signal.SIGCONT)
    await street.shop.until(lambda: any(line["event"] == "lease_lost" for line in other.log))
    assert (street.holder, street.epoch) == (three.child.pid, epoch)

    async with street.inbox() as inbox:
        await street.apply(inbox, "Jules")  # whoever applies it: both do
    assert (await three.stops())[0] == 0
    after_stop = await street.is_held_by(other)
    sys.stdout.write(
        f"\nThe lease, of {TTL.total_seconds():g} s and looked at every {LOOK_SECONDS:g} s, moved after a "
        f"kill in {after_kill:.1f} s, a freeze in {after_freeze:.1f} s, a clean stop in {after_stop:.1f} s.\n"
    )


async def test_workers_are_woken_by_a_notice_and_listen_again_when_it_is_cut(street: Street) -> None:
    worker = await street.worker("one")
    await worker.says("listening")
    await worker.says("sweep_complete")
    async with street.inbox() as inbox:
        delays = [await street.apply(inbox, f"Name {number}") for number in range(10)]
        cut = (
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE application_name = 'kounta-mirror bells' AND datname = current_database()"
        )
        assert street.asked(cut) == 1
        await worker.says("listening_failed")
        await street.shop.until(lambda: [line["event"] for line in worker.log].count("listening") == 2)
        await street.apply(inbox, "Jules")
    sys.stdout.write(
        f"\nFrom a delivery's commit to its verdict: median {1000 * statistics.median(delays):.0f} ms, "
        f"longest {1000 * max(delays):.0f} ms of {len(delays)}.\n"
    )


async def test_a_worker_that_nothing_wakes_looks_by_itself(street: Street) -> None:
    dead = make_url(street.url).set(host="127.0.0.1", port=9, query={})
    worker = await street.worker("one", DATABASE_LISTEN_URL=dead.render_as_string())
    await worker.says("listening_failed")
    await worker.says("sweep_complete")
    async with street.inbox() as inbox:
        await street.apply(inbox, "Jules")
    assert not any(line["event"] == "listening" for line in worker.log)


@pytest.fixture
def pooled(street: Street, tmp_path: Path) -> Iterator[str]:
    """The database through pgbouncer, which gives each transaction another session."""
    program = shutil.which(POOLER, path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    assert program is not None, "pgbouncer is not there: apt-get install pgbouncer"
    url = make_url(street.url)
    sockets = str(url.query["host"])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    place = Path(sockets)
    configuration = place / f"pgbouncer-{port}.ini"  # it runs as the user of the server
    configuration.write_text(
        f"[databases]\n* = host={sockets} user={url.username}\n[pgbouncer]\n"
        f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n"
        "pool_mode = transaction\ndefault_pool_size = 4\nserver_reset_query_always = 1\n"
        "server_reset_query = DISCARD ALL\n"
    )
    with (tmp_path / "pgbouncer.log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - the pooler under test
            [program, configuration], user=place.stat().st_uid, stdout=log, stderr=log
        )
    through = f"postgresql://{url.username}@127.0.0.1:{port}/{url.database}"
    try:
        _wait_for(through, process, tmp_path / "pgbouncer.log")
        yield through
    finally:
        process.terminate()
        process.wait(10)


def _wait_for(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            psycopg.connect(url).close()
        except psycopg.OperationalError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        else:
            return


async def test_everything_works_through_a_pooler_that_gives_each_transaction_another_session(
    street: Street, pooled: str
) -> None:
    shop, direct = street.shop, street.url
    shop.settings |= {"DATABASE_URL": pooled, "DATABASE_LISTEN_URL": direct}
    receiver = await shop.receiver()
    worker = await street.worker("data")
    await worker.says("listening")
    await worker.says("sweep_complete")
    delays = []
    for number in range(10):
        name = f"Name {number}"
        delivery = await receiver.post(shop.ids[0], name)
        posted_at = time.monotonic()
        query = f"SELECT verdict FROM mirror.delivery_verdicts WHERE delivery_id = '{delivery}'"  # noqa: S608 - ours
        await shop.until(lambda query=query: street.asked(query))
        delays.append(time.monotonic() - posted_at)
    reconciled = await shop.type("reconcile --deep --json")
    assert (reconciled.child.returncode, reconciled.sentences[-1:]) == (0, reconciled.sentences[-1:])
    assert street.first_name(shop.ids[0]) != "Name 9"  # as Kounta has it
    for command in ("status --json", "deliveries list", f"explain {shop.ids[0]}", "migrate"):
        typed = await shop.type(command)
        assert typed.child.returncode == 0, (command, typed.sentences)
    for process in (worker, receiver.process):
        assert (await process.stops())[0] == 0
        assert not [line for line in process.log if line["event"] in {"store_unavailable", "loop_broken"}]
    sys.stdout.write(
        f"\nThrough pgbouncer, LISTEN around it: median {1000 * statistics.median(delays):.0f} ms.\n"
    )


async def test_two_commands_at_once_without_a_worker_are_both_answered(street: Street) -> None:
    await street.shop.type("reconcile")
    commands = [street.shop.type("customers list --json", MIRROR_DATA_DIR=name) for name in ("one", "two")]
    for ended in await asyncio.gather(*commands):
        assert (ended.child.returncode, ended.sentences) == (0, [])


async def test_a_worker_outlives_a_restart_and_an_outage_of_postgresql(shop: Any) -> None:
    await shop.open(3)
    with Cluster() as cluster:
        street = Street(shop, cluster.url_of("postgres"))
        shop.settings["DATABASE_URL"] = street.url
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        worker = await street.worker("one", MIRROR_CONSOLE_PORT=str(port))
        await worker.says("sweep_complete")
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as console:

            async def readyz(status: int) -> None:
                async with asyncio.timeout(40):
                    while (await console.get("/readyz")).status_code != status:  # noqa: ASYNC110 - nobody tells
                        await asyncio.sleep(0.1)

            await readyz(200)
            for turn in range(2):
                cluster.stop()
                if turn:
                    await readyz(503)
                cluster.start()
                await readyz(200)
                async with street.inbox() as inbox:
                    for number in range(3):
                        await street.apply(inbox, f"Name {turn} {number}")
        assert street.asked("SELECT count(*) FROM mirror.delivery_verdicts") == 6
        assert street.asked("SELECT sum(count) FROM mirror._verdict_counts") == 6
        assert (await worker.stops())[0] == 0
        assert not any(line["event"] == "loop_broken" for line in worker.log)


async def test_a_worker_that_starts_while_postgresql_is_away_waits_for_it(shop: Any) -> None:
    await shop.open(3)
    with Cluster() as cluster:
        shop.settings["DATABASE_URL"] = cluster.url_of("postgres")
        cluster.stop()
        worker = await shop.start("worker", MIRROR_DATA_DIR="one")
        await worker.says("store_unavailable")
        cluster.start()
        await worker.says("sweep_complete")
        assert (await worker.stops())[0] == 0
