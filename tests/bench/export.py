"""What an export costs: peak memory at --few and at --many customers, and customers a second.

Each export is a process of its own. Each row also says how much of that peak an export of nobody takes, whose
time is taken off before the customers a second of the processor's time are counted. With --postgresql the
mirror lies on a server that this starts, as an operator sets it up. It needs about 4 GB of disk for each
million customers, and lets it go at the end.
"""

import argparse
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from receiver.database import Place, Server, directory_of, migrate, mirror_of
from sync.mirror.reader import MIGRATIONS
from tests.bench.big import CHANGES, CUSTOMERS, DAYS
from tests.places import settings_of
from tests.scaling import Durable

COMPANY = 5678
NOBODY = 77
BYTES_A_CUSTOMER = 4_000
COMMANDS = (("c.csv",), ("c.parquet",), ("c.csv", "--as-of", "1d"))
ON_SQLITE = """
INSERT INTO _customers (company_id, id, first_name, last_name, email, phone, tags, primary_address,
  primary_city, primary_country, reference_id, accepts_marketing, as_of, first_seen_at, first_seen_by,
  changed_at, verified_at, partial, rests_on_arrival, position, settled_at, read_position, last_seq)
WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {customers}),
moments (n, at) AS (
  SELECT n, strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-{days} days', n || ' seconds') FROM numbers)
SELECT {company}, n, 'Jamie ' || n, 'McDonald', 'jamie+' || n || '@kounta.example', '02 8765 4321',
  '["vip","gold"]', n || ' George Street', 'Sydney', 'AU', '', true, at, at, 'backfill', at, at, false, false,
  0, at, 0, n
FROM moments
"""


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def fill_file(directory: Path, customers: int) -> Place:
    """Make a mirror with so many customers, and a change of each."""
    directory.mkdir()
    names = {"company": COMPANY, "customers": customers, "days": DAYS}
    migrate(mirror_of(directory), MIGRATIONS)
    with closing(sqlite3.connect(directory / "mirror.db")) as mirror, mirror:
        triggers = mirror.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for (name,) in triggers:
            mirror.execute(f"DROP TRIGGER {name}")
        mirror.execute(ON_SQLITE.format(**names))
        mirror.execute(CHANGES.format(**names).replace("mirror.", ""))
    return directory


def fill_server(server: Durable, directory: Path, customers: int) -> Place:
    """Make the same on a server."""
    directory.mkdir()
    database = f"mirror_of_{customers}"
    url = server.make(database)
    names = {"company": COMPANY, "customers": customers, "days": DAYS}
    for statement in (CUSTOMERS, CHANGES):
        server.ask(statement.format(**names), database, session_replication_role="replica")
    server.ask("VACUUM ANALYZE", database)
    return Server(directory, url)


@contextmanager
def places(sizes: tuple[int, ...], *, on_server: bool) -> Iterator[dict[int, Place]]:
    with tempfile.TemporaryDirectory(prefix="bench") as root:
        if not on_server:
            yield {size: fill_file(Path(root) / str(size), size) for size in sizes}
            return
        with Durable() as server:
            yield {size: fill_server(server, Path(root) / str(size), size) for size in sizes}


class Run(NamedTuple):
    """One export: what it wrote, and what it took."""

    customers: int
    bytes: int
    seconds: float
    processor: float
    """Seconds of its own; on a server, the server's come on top."""
    peak: float
    """MB."""


def export(place: Place, command: tuple[str, ...], company: int = COMPANY) -> Run:
    """Run one export as a process, and give what the kernel says of it."""
    settings = settings_of(place) | {"KOUNTA_COMPANY_ID": str(company), "PATH": os.environ["PATH"]}
    began_at = time.monotonic()
    child = subprocess.Popen(  # noqa: S603 - the command that is measured
        [sys.executable, "-m", "sync", "export", *command, "--json"],
        env=settings,
        cwd=directory_of(place),
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None
    told = json.loads(child.stdout.read())
    _, status, used = os.wait4(child.pid, 0)
    seconds = time.monotonic() - began_at
    child.returncode = os.waitstatus_to_exitcode(status)
    processor = used.ru_utime + used.ru_stime
    return Run(told["customers"], told["bytes"], seconds, processor, used.ru_maxrss / 1_000)


def main(options: argparse.Namespace) -> None:
    sizes = (options.few, options.many)
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if free < sum(sizes) * BYTES_A_CUSTOMER:
        raise SystemExit(
            f"{free / 1e9:.0f} GB are free, and {sum(sizes) * BYTES_A_CUSTOMER / 1e9:.0f} should be."
        )
    with places(sizes, on_server=options.postgresql) as made:
        say(
            f"{'':<24}{'customers':>12}{'MB':>8}{'seconds':>9}{'of CPU':>8}"
            f"{'a second':>10}{'peak MB':>9}{'of none':>9}"
        )
        for command in COMMANDS:
            peaks = {}
            for size, place in made.items():
                none = export(place, command[:1], NOBODY)
                run = export(place, command)
                assert run.customers == size, run
                peaks[size] = run.peak
                speed = run.customers / (run.processor - none.processor)
                say(
                    f"{' '.join(command):<24}{run.customers:>12,}{run.bytes / 1e6:>8,.0f}{run.seconds:>9.1f}"
                    f"{run.processor:>8.1f}{speed:>10,.0f}{run.peak:>9,.0f}{none.peak:>9,.0f}"
                )
            few, many = peaks.values()
            say(f"{'':<24}peak of many customers: {many / few:.2f} of that of few")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--few", type=int, default=100_000)
    parser.add_argument("--many", type=int, default=1_000_000)
    parser.add_argument("--postgresql", action="store_true")
    main(parser.parse_args())
