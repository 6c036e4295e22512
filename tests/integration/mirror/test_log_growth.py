"""What docs/how-to/log-grows.md says: an open transaction keeps a log growing, is seen, and is ended."""

import asyncio
import re
import sqlite3
import threading
from contextlib import closing
from typing import Any

import psycopg
import pytest

from receiver import sqlite
from receiver.database import Server
from sync.mirror import overgrown
from sync.mirror.reader import mirror_path

PAGE = 4096
PAGES = 100
"""Between two checkpoints, so that a test needs no 16 MB."""
MOST = 4 * PAGES * PAGE
BUSY = """
WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 100000)
SELECT count(*), (SELECT count(*) FROM customers) FROM numbers
"""


@pytest.fixture
async def small_log(empty_house: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A house whose worker checkpoints early, and keeps little of the log."""
    smaller = {"wal_autocheckpoint": PAGES, "journal_size_limit": PAGES * PAGE}
    kept = [one for one in sqlite._WRITER if not any(name in one for name in smaller)]
    assert len(kept) == len(sqlite._WRITER) - 2
    less = (*kept, *(f"PRAGMA {name} = {value}" for name, value in smaller.items()))
    monkeypatch.setattr(sqlite, "_WRITER", less)
    await empty_house.open()
    return empty_house


async def work(house: Any, first: int, batches: int = 12) -> list[int]:
    """Apply batches of other customers; give the size of the log after each."""
    path = mirror_path(house.place)
    sizes = []
    for number in range(first, first + batches):
        for id_ in range(40):
            await house.post(house.customer(number * 40 + id_ + 1))
        assert await house.apply() == 40
        sizes.append(path.with_name(path.name + "-wal").stat().st_size)
    return sizes


@pytest.mark.parametrize("database_kind", ["sqlite"])
async def test_an_open_transaction_grows_the_log_and_its_end_gives_it_back(small_log: Any) -> None:
    assert max(await work(small_log, 0)) < MOST
    uri = mirror_path(small_log.place).as_uri() + "?mode=ro"
    with closing(sqlite3.connect(uri, uri=True)) as report:
        with closing(report.execute("SELECT id FROM customers")) as half_read:  # a transaction stands open
            assert half_read.fetchone() == (1,)
            sizes = await work(small_log, 100, 36)
            assert sizes == sorted(sizes)
            assert sizes[-1] > MOST
            assert report.execute("SELECT count(*) FROM customers").fetchone() == (480,)
        assert (await work(small_log, 200))[-1] < MOST


@pytest.mark.parametrize("database_kind", ["sqlite"])
async def test_reports_one_after_the_other_do_not_keep_the_log_growing(
    small_log: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overgrown, "LARGE_BYTES", 2 * PAGES * PAGE)
    await work(small_log, 0, 1)
    uri = mirror_path(small_log.place).as_uri() + "?mode=ro"
    done = threading.Event()
    asked = [0, 0]

    def report(number: int) -> None:
        """Always be in the middle of a question, some of which began before the other one's."""
        with closing(sqlite3.connect(uri, uri=True)) as file:
            while not done.is_set():
                file.execute(BUSY).fetchall()
                asked[number] += 1

    async with asyncio.TaskGroup() as group:
        for number in range(2):
            group.create_task(asyncio.to_thread(report, number))
        try:
            sizes = await work(small_log, 100, 24)
        finally:
            done.set()
    assert min(asked) > 1
    assert max(sizes) < 2 * MOST


@pytest.fixture
def who(pytestconfig: pytest.Config) -> str:
    """The query of the page that says who holds back."""
    page = pytestconfig.rootpath / "docs/how-to/log-grows.md"
    (query,) = re.findall(r"```sql\n(SELECT pid.*?)```", page.read_text(), re.DOTALL)
    return str(query)


@pytest.mark.parametrize("database_kind", ["postgresql"])
async def test_on_postgresql_who_holds_back_is_seen_until_the_transaction_ends(house: Any, who: str) -> None:
    assert isinstance(house.place, Server)
    with (
        psycopg.connect(house.place.url, autocommit=True) as watching,
        psycopg.connect(house.place.url, application_name="a notebook") as report,
    ):

        def held() -> list[tuple[str, int]]:
            rows = watching.execute(who.encode()).fetchall()
            return [(name, behind) for _, _, name, _, _, behind in rows if name == "a notebook"]

        assert held() == []
        report.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        report.execute("SELECT count(*) FROM mirror.customers")
        ((_, before),) = held()
        await work_on_server(house)
        ((_, after),) = held()
        assert after > before
        report.commit()
        assert held() == []


async def work_on_server(house: Any) -> None:
    for id_ in range(1, 4):
        await house.post(house.customer(id_))
        assert await house.apply() == 1
