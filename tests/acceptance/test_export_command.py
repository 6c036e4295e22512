"""`kounta-mirror export` as people and cron type it: a real process beside a worker, on both databases."""

import asyncio
import csv
import json
import os
import pty
import shlex
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from receiver.database import Place, Server, mirror_of, utc_text
from sync.mirror.customers import NOT_KEPT
from sync.mirror.schema import METADATA
from tests.databases import asked
from tests.people import KEY
from tests.stores import change

CUSTOMERS = 40
INHERITED = ("PATH", "HOME", "LANG", "PYTHONPATH")
TOLD_OTHERWISE = ("as_of", "changed_at")
"""The history has them of the moment at which each state began."""
ROWS = "SELECT * FROM customers ORDER BY company_id, id"


PAUSING = """
import signal, sys, time
from sync.cli import main
from sync.mirror.formats import Csv

write = Csv.write
def write_and_wait(self, rows):
    write(self, rows)
    print("waiting", flush=True)  # a signal that comes while a library cleans up is ignored
    while True:  # a signal that comes just before signal.pause() would be waited for for ever
        time.sleep(0.05)
Csv.write = write_and_wait
signal.signal(signal.SIGINT, signal.default_int_handler)  # it is ignored by what runs behind a shell
sys.argv = ["kounta-mirror", "export", "customers.csv"]
main()
"""
REST = [column.name for column in METADATA.tables["_customers"].columns if column.name != "company_id"]


class Kept:
    """A shop whose mirror a worker keeps, wherever it lies."""

    def __init__(self, shop: Any, place: Place) -> None:
        self.shop = shop
        self.place = place
        self.directory: Path = shop.directory

    async def type(self, command: str, **settings: str) -> tuple[int, str, list[str]]:
        typed = await self.shop.type(command, **settings)
        return typed.child.returncode, typed.out, typed.sentences

    async def start(
        self, *command: str, complaint: int = asyncio.subprocess.PIPE
    ) -> asyncio.subprocess.Process:
        inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
        return await asyncio.create_subprocess_exec(
            *command,
            env=inherited | self.shop.settings,
            cwd=self.directory,
            stdout=asyncio.subprocess.PIPE,
            stderr=complaint,
        )

    def parts(self) -> list[Path]:
        return list(self.directory.glob(".*.part"))

    def rows(self) -> list[dict[str, Any]]:
        return asked(self.place, ROWS)

    def csv(self, name: str = "customers.csv") -> list[dict[str, str]]:
        with (self.directory / name).open(encoding="utf-8", newline="") as text:
            return list(csv.DictReader(text))


@pytest.fixture
async def kept(shop: Any, place: Place) -> AsyncIterator[Kept]:
    await shop.open(CUSTOMERS)
    shop.settings["MIRROR_SECRET_KEY"] = KEY
    if isinstance(place, Server):
        shop.settings["DATABASE_URL"] = place.url
    await shop.quiet_worker()
    yield Kept(shop, place if isinstance(place, Server) else shop.directory / "data")
    await shop.stack.aclose()


async def test_it_writes_what_the_mirror_has_while_the_worker_runs(kept: Kept) -> None:
    code, out, complaint = await kept.type("export customers.csv")
    size = (kept.directory / "customers.csv").stat().st_size
    assert (code, complaint) == (0, [])
    assert out == f"40 customers were written to customers.csv ({size / 1_000_000:,.1f} MB).\n"
    assert [row["email"] for row in kept.csv()] == [row["email"] or "" for row in kept.rows()]

    code, out, complaint = await kept.type("export customers.parquet --json")
    size = (kept.directory / "customers.parquet").stat().st_size
    assert (code, complaint) == (0, [])
    assert json.loads(out) == {"file": "customers.parquet", "customers": 40, "bytes": size, "as_of": None}
    found = parquet.read_table(kept.directory / "customers.parquet")
    assert found["email"].to_pylist() == [row["email"] for row in kept.rows()]


async def test_it_writes_what_the_mirror_had_then(kept: Kept) -> None:
    assert (await kept.type("export customers.csv"))[0] == 0
    then = asked(kept.place, "SELECT max(applied_at) AS at FROM customer_changes")[0]["at"]
    before = kept.csv()
    await kept.shop.type(f"customers update {before[0]['id']} --first-name Renamed")
    kept.shop.sandbox.company.delete(int(before[1]["id"]), announce=False)
    await kept.shop.type("reconcile")
    code, out, complaint = await kept.type(f"export then.csv --as-of {then} --json")
    assert (code, complaint) == (0, [])
    assert json.loads(out)["as_of"] == then
    assert list(kept.csv("then.csv")[0]) == [name for name in before[0] if name not in NOT_KEPT]
    assert without(kept.csv("then.csv"), *TOLD_OTHERWISE) == without(before, *TOLD_OTHERWISE, *NOT_KEPT)
    await kept.type("export now.csv")
    assert kept.csv("now.csv")[0]["first_name"] == "Renamed"
    assert len(kept.csv("now.csv")) == CUSTOMERS - 1
    await kept.type(f"erase {before[2]['id']} --yes")
    assert (await kept.type(f"export then.csv --as-of {then}"))[0] == 0
    assert [row["id"] for row in kept.csv("then.csv")] == [
        row["id"] for row in before if row is not before[2]
    ]


def without(rows: list[dict[str, str]], *names: str) -> list[dict[str, str]]:
    return [{name: value for name, value in row.items() if name not in names} for row in rows]


@pytest.mark.parametrize("database_kind", ["sqlite"], ids=["sqlite: no store is asked"])
async def test_what_cannot_be_done_is_one_sentence(kept: Kept) -> None:
    (kept.directory / "is.csv").mkdir()
    tomorrow = utc_text(datetime.now(UTC) + timedelta(days=1))
    for command, expected, sentence in (
        ("export customers.xlsx", 2, "Customers.xlsx should end in .csv or .parquet"),
        ("export is.csv", 1, "Is.csv is a directory."),
        ("export nowhere/customers.csv", 1, "There is no directory nowhere."),
        (
            "export c.csv --as-of 2026-11-01T12:00",
            2,
            "'2026-11-01T12:00' does not say in which zone: write 2026-",
        ),
        (
            "export c.csv --as-of 2026-11-01",
            2,
            "'2026-11-01' does not say in which zone: write 2026-11-01T00:00:00Z",
        ),
        ("export c.csv --as-of yesterday", 2, "Invalid value for --as-of: A time should be an age such as"),
        (f"export c.csv --as-of {tomorrow}", 2, f"{tomorrow} is in the future"),
        ("export c.csv --company 77", 2, "Company 77 is not configured here"),
    ):
        code, out, complaint = await kept.type(command)
        assert (code, out, len(complaint)) == (expected, "", 1), (command, complaint)
        assert complaint[0].startswith(sentence), complaint
    assert {one.name for one in kept.directory.glob("*.csv")} == {"is.csv"}


async def test_of_a_time_before_the_mirror_nothing_is_written(kept: Kept) -> None:
    code, out, complaint = await kept.type("export c.csv --as-of 3650d")
    assert (code, out, len(complaint)) == (1, "", 1)
    assert complaint[0].startswith("The mirror begins at ")
    assert not list(kept.directory.glob("*.csv"))


async def test_a_disk_that_is_full_leaves_the_older_file(kept: Kept) -> None:
    for name in ("customers.csv", "customers.parquet"):
        assert (await kept.type(f"export {name}"))[0] == 0
        before = (kept.directory / name).read_bytes()
        limited = f"ulimit -f 1; exec {shlex.quote(sys.executable)} -B -m sync export {name}"
        process = await kept.start("sh", "-c", limited)
        _, complaint = await process.communicate()
        assert complaint.decode() == f"Nothing could be written to {name}: File too large.\n"
        assert process.returncode == 1
        assert (kept.directory / name).read_bytes() == before
    assert kept.parts() == []


@pytest.mark.parametrize(
    ("number", "database_kind"),
    [
        (signal.SIGTERM, "sqlite"),
        (signal.SIGTERM, "postgresql"),
        (signal.SIGINT, "sqlite"),
        (signal.SIGHUP, "postgresql"),
    ],
)
async def test_whoever_ends_it_finds_no_part_of_a_file(kept: Kept, number: signal.Signals) -> None:
    assert (await kept.type("export customers.csv"))[0] == 0
    before = (kept.directory / "customers.csv").read_bytes()
    process = await kept.start(sys.executable, "-c", PAUSING)
    assert process.stdout is not None
    assert await process.stdout.readline() == b"waiting\n"
    assert kept.parts() != []
    process.send_signal(number)
    assert await process.communicate() == (b"", b"Interrupted.\n")
    assert process.returncode == 1
    assert kept.parts() == []
    assert (kept.directory / "customers.csv").read_bytes() == before


async def test_whoever_looks_on_sees_how_far_it_is(kept: Kept) -> None:
    seen_by, terminal = pty.openpty()
    process = await kept.start(sys.executable, "-m", "sync", "export", "customers.csv", complaint=terminal)
    os.close(terminal)
    shown = bytearray()
    with suppress(OSError):  # nobody holds the other end any more
        while part := await asyncio.to_thread(os.read, seen_by, 4096):
            shown += part
    os.close(seen_by)
    await process.communicate()
    assert process.returncode == 0
    assert b"Writing customers" in shown
    assert b"40/40" in shown


async def test_of_several_companies_all_are_in_it_or_the_one_that_is_named(kept: Kept) -> None:
    await kept.shop.processes[0].stops()
    (kept.directory / "mirror.toml").write_text("[companies.77]\n[companies.5678]\n")
    add = f"INSERT INTO _customers SELECT 77, {', '.join(REST)} FROM _customers WHERE company_id = 5678"  # noqa: S608 - ours
    change(mirror_of(kept.place), add)
    assert (await kept.type("export customers.csv --json"))[0] == 0
    written = [(row["company_id"], row["id"]) for row in kept.csv()]
    assert written == [(str(row["company_id"]), str(row["id"])) for row in kept.rows()]
    assert {company for company, _ in written} == {"77", "5678"}
    assert (await kept.type("export customers.csv --company 77"))[0] == 0
    assert {row["company_id"] for row in kept.csv()} == {"77"}
