"""How long each canned query takes with a million customers, on both databases.

One set of rows goes into a file of SQLite and into PostgreSQL: --customers customers, nine of ten met by the
backfill 60 days ago and the others by webhooks since; a fifth of them changed once in the last 30 days; as
many deliveries as customers. Each query is asked once to warm up and --rounds times more; shown are the
median and the shortest in milliseconds, the processor's time, and how many rows it gives. --only NAME asks
one of them alone, and --plans shows plans. It needs about 3 GB of disk for each million, and lets it go at
the end.
"""

import argparse
import json
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

import psycopg

from receiver.database import utc_text
from sync.mirror.days import local_days
from sync.mirror.queries import QUERIES, Query
from sync.mirror.schema import METADATA
from sync.mirror.store import migrate_mirror
from tests.scaling import Durable

COMPANY: Final = 5678
ZONE: Final = "Australia/Sydney"
NOW: Final = datetime.now(UTC).replace(microsecond=0)
BACKFILLED: Final = NOW - timedelta(days=60)
LATELY: Final = timedelta(days=30)
AT_ONCE: Final = 10_000
TAGS: Final = [f"tag {number}" for number in range(40)]
Row = tuple[Any, ...]
Ask = Callable[[str, dict[str, Any]], Sequence[Any]]


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def rows(table: str, values: Iterator[dict[str, Any]]) -> Iterator[Row]:
    """Give rows in the table's order of columns; what is not said is NULL."""
    names = METADATA.tables[table].columns.keys()
    for value in values:
        yield tuple(value.get(name) for name in names)


def customer(number: int, chance: random.Random) -> dict[str, Any]:
    by_webhook = number % 10 == 0
    met = NOW - LATELY * chance.random() if by_webhook else BACKFILLED + timedelta(milliseconds=number)
    changed = number % 5 == 0
    at = utc_text(NOW - (NOW - met) * chance.random() if changed and by_webhook else met)
    if changed and not by_webhook:
        at = utc_text(NOW - LATELY * chance.random())
    known = chance.randrange(number) if number % 100 == 7 else number
    return {
        "company_id": COMPANY,
        "id": number * 3,
        "first_name": f"Jamie {chance.randrange(10_000)}",
        "last_name": "McDonald",
        "email": f"{'J' if number % 2 else 'j'}amie+{known * 7919 % 1_000_003}@kounta.example",
        "phone": f"02 {chance.randrange(10**8):08}",
        "mobile": f"04{number:08}" if number % 2 else None,
        "reference_id": f"R{number}" if number % 4 == 0 else "",
        "accepts_marketing": bool(number % 2),
        "tags": json.dumps(chance.sample(TAGS, 2)),
        "primary_address": f"{number} George Street",
        "primary_city": f"City {int(chance.paretovariate(0.5)) % 1_000}" if number % 8 else None,
        "primary_country": "AU",
        "as_of": at,
        "first_seen_at": utc_text(met),
        "first_seen_by": "webhook" if by_webhook else "backfill",
        "changed_at": at,
        "verified_at": None if number % 100 == 1 else utc_text(NOW - LATELY * chance.random()),
        "partial": False,
        "deleted_at": at if number % 100 == 2 else None,
        "rests_on_arrival": False,
        "position": 0,
        "settled_at": at,
        "read_position": 0,
        "last_seq": number,
        "listed_in": 0,
    }


def change(seq: int, kind: str, of: dict[str, Any], at: str, attributes: Sequence[str]) -> dict[str, Any]:
    return of | {
        "seq": seq,
        "customer_id": of["id"],
        "kind": kind,
        "attributes": json.dumps(attributes),
        "before": "{}",
        "after": json.dumps({"email": of["email"], "phone": of["phone"]}),
        "as_of": at,
        "source": "webhook",
        "applied_at": at,
    }


def changes(customers: Sequence[dict[str, Any]], chance: random.Random) -> Iterator[dict[str, Any]]:
    names = ["name", "phone", "email", "address", "tags"]
    events = [(one["first_seen_at"], "created", one) for one in customers]
    events += [(one["changed_at"], "updated", one) for one in customers[4::5]]
    events.sort(key=lambda event: event[0])
    for seq, (at, kind, one) in enumerate(events, start=1):
        some = names if kind == "created" else chance.sample(names, 1 + (seq % 2))
        yield change(seq, kind, one, at, some)


def verdicts(customers: Sequence[dict[str, Any]], chance: random.Random) -> Iterator[dict[str, Any]]:
    step = LATELY / len(customers)
    for number, one in enumerate(customers):
        at = NOW - LATELY + number * step
        kind = chance.choices(["applied", "unchanged", "stale", "quarantined"], [900, 80, 15, 5])[0]
        yield {
            "company_id": COMPANY,
            "delivery_id": str(UUID(int=int(at.timestamp() * 1000) << 80 | 7 << 76 | 2 << 62 | number)),
            "customer_id": one["id"],
            "topic": "customers/updated",
            "verdict": kind,
            "received_at": utc_text(at),
            "applied_at": utc_text(at + timedelta(seconds=1)),
        }


def samples() -> Iterator[dict[str, Any]]:
    hours = [NOW - timedelta(hours=hour) for hour in range(48, 400 * 24)]
    minutes = [NOW - timedelta(minutes=minute) for minute in range(48 * 60)]
    for at in [*hours, *minutes]:
        figures = {"live": 1_000, "verified": 990, "verifications_due": 10, "pending": 0}
        yield {"company_id": COMPANY, "at": utc_text(at), "oldest_pending_seconds": 0.0, **figures}


def filling(count: int) -> Iterator[tuple[str, Iterator[Row]]]:
    """Give each table with its rows, the same each time."""
    chance = random.Random(7)
    customers = [customer(number, chance) for number in range(1, count + 1)]
    counts = {"live": count, "deleted": 0, "verified": count, "partial": 0, "verifications_due": 0}
    status = {"company_id": COMPANY, "listed_complete": True, "attributes": "[]", **counts}
    days = local_days(
        ZoneInfo(ZONE), (BACKFILLED - timedelta(days=1)).date(), (NOW + timedelta(days=400)).date()
    )
    told = (
        {"company_id": COMPANY, "day": day, "begins_at": utc_text(begins), "ends_at": utc_text(ends)}
        for day, begins, ends in ((one.day.isoformat(), one.begins_at, one.ends_at) for one in days)
    )
    yield "companies", rows("companies", iter([{"company_id": COMPANY, "name": "Cafe", "time_zone": ZONE}]))
    yield "_status", rows("_status", iter([status]))
    yield "company_days", rows("company_days", told)
    yield "_samples", rows("_samples", samples())
    yield "_customers", rows("_customers", iter(customers))
    yield "_changes", rows("_changes", changes(customers, chance))
    yield "delivery_verdicts", rows("delivery_verdicts", verdicts(customers, chance))


def fill_sqlite(directory: Path, count: int) -> None:
    migrate_mirror(directory)
    with closing(sqlite3.connect(directory / "mirror.db")) as file:
        for pragma in ("journal_mode = MEMORY", "synchronous = OFF", "cache_size = -1000000"):
            file.execute(f"PRAGMA {pragma}")
        for table, values in filling(count):
            places = ", ".join("?" * len(METADATA.tables[table].columns))
            while part := list(islice(values, AT_ONCE)):
                file.executemany(f"INSERT INTO {table} VALUES ({places})", part)  # noqa: S608 - our names
        file.commit()
        file.execute("PRAGMA journal_mode = WAL")


def fill_postgresql(server: Durable, file: sqlite3.Connection) -> None:
    server.make("big")
    tables = (
        "companies",
        "_status",
        "company_days",
        "_samples",
        "_customers",
        "_changes",
        "delivery_verdicts",
    )
    with psycopg.connect(server.at("big")) as connection:
        connection.execute("SET search_path = mirror")
        for table in tables:
            names = ", ".join(f'"{column.name}"' for column in METADATA.tables[table].columns)
            with connection.cursor().copy(f"COPY {table} ({names}) FROM STDIN".encode()) as into:
                for row in file.execute(f"SELECT {names} FROM {table}"):  # noqa: S608 - our names
                    into.write_row(row)
    server.ask("VACUUM ANALYZE", "big")
    server.ask("CHECKPOINT")


def measure(
    ask: Ask, clock: Callable[[], float], query: Query, text: str, options: argparse.Namespace
) -> None:
    parameters = {"customer_id": 300_000, "at": utc_text(NOW - timedelta(days=10))}
    given = {name: parameters[name] for name, _ in query.parameters}
    took, found = [], 0
    ask(text, given)
    worked = clock()
    for _ in range(options.rounds):
        began = time.perf_counter()
        found = len(ask(text, given))
        took.append((time.perf_counter() - began) * 1_000)
    working = (clock() - worked) / options.rounds * 1_000
    say(
        f"  {query.name:<24} {statistics.median(took):>7,.0f} ms {min(took):>7,.0f} at best "
        f"{working:>7,.0f} of a processor {found:>7,} rows"
    )
    if options.plans:
        for line in ask(f"{options.explain} {text}", given):
            say(f"      {line[-1]}")


def in_psycopg(query: Query) -> str:
    text = query.on_postgresql.replace("%", "%%")
    for name, _ in query.parameters:
        text = text.replace(f":{name}", f"%({name})s")
    return text


def ask_sqlite(path: Path, wanted: list[Query], options: argparse.Namespace) -> None:
    options.explain = "EXPLAIN QUERY PLAN"
    size = path.stat().st_size / 1e9
    say(f"SQLite {sqlite3.sqlite_version}, {options.customers:,} customers, {size:.1f} GB")
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as file:

        def ask(text: str, given: dict[str, Any]) -> Sequence[Any]:
            return file.execute(text, given).fetchall()

        for query in wanted:
            measure(ask, time.process_time, query, query.on_sqlite, options)


def ask_postgresql(path: Path, wanted: list[Query], options: argparse.Namespace) -> None:
    options.explain = "EXPLAIN"
    with Durable() as server:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as file:
            fill_postgresql(server, file)
        ((version, size),) = server.ask("SELECT version(), pg_size_pretty(pg_database_size('big'))", "big")
        say(f"{version.split(' on ')[0]}, {options.customers:,} customers, {size}")
        with psycopg.connect(server.at("big"), autocommit=True) as connection:
            connection.execute("SET search_path = mirror")

            def ask(text: str, given: dict[str, Any]) -> Sequence[Any]:
                return connection.execute(text.encode(), given).fetchall()

            for query in wanted:
                measure(ask, server.processor_seconds, query, in_psycopg(query), options)


def main(options: argparse.Namespace) -> None:
    wanted = [query for query in QUERIES if options.only in {None, query.name}]
    with tempfile.TemporaryDirectory(prefix="queries") as name:
        directory = options.directory or Path(name)
        path = directory / "mirror.db"
        if not path.exists():
            fill_sqlite(directory, options.customers)
        ask_sqlite(path, wanted, options)
        ask_postgresql(path, wanted, options)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--customers", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--directory", type=Path, help="keep the file there, and use it again if it is there")
    parser.add_argument("--only", choices=[query.name for query in QUERIES])
    parser.add_argument("--plans", action="store_true")
    main(parser.parse_args())
