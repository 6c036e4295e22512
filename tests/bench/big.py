"""How much slower a PostgreSQL with millions of rows takes and applies deliveries than an empty one.

One server with two databases takes turns at the same deliveries: one empty, and one whose inbox holds
--deliveries applied ones in 30 daily partitions and whose mirror holds --customers customers. Both are as one
that has run for a while: analysed, but for what came last. With --plans, the plans of the hot statements. It
needs about 1 GB of disk for each million of both, and lets it go at the end.
"""

import argparse
import asyncio
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import create_engine, make_url

from receiver.inbox import partitions
from tests.scaling import FIRST_COMPANY, Durable, drain, fill

HERE = Path(__file__).parents[2]
DAYS = 30
BYTES_A_ROW = 1_500
PLAN = "EXPLAIN (ANALYZE, BUFFERS, COSTS OFF, TIMING OFF) "
DELIVERIES = """
INSERT INTO inbox.deliveries (company_id, id, position, topic, received_at, headers, body)
SELECT {company}, substr(name, 1, 8) || '-' || substr(name, 9, 4) || '-7000-8000-' ||
  lpad(to_hex(n), 12, '0'), n, 'customers/updated', at, '{{}}', convert_to('{{"id": ' || n || '}}', 'UTF8')
FROM generate_series(1, {count}) AS n,
  LATERAL (SELECT now() - interval '{days} days' + n * (interval '{days} days' / {count}) AS at) AS moment,
  LATERAL (SELECT lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') AS name) AS named
"""
VERDICTS = """
INSERT INTO mirror.delivery_verdicts (company_id, delivery_id, customer_id, topic, verdict, received_at,
  applied_at)
SELECT company_id, id, 10000 + (position * 7919) % {customers}, topic, 'applied', received_at, received_at
FROM inbox.deliveries
"""
CUSTOMERS = """
INSERT INTO mirror._customers (company_id, id, first_name, last_name, email, phone, tags, primary_address,
  primary_city, primary_country, reference_id, accepts_marketing, as_of, first_seen_at, first_seen_by,
  changed_at, verified_at, partial, rests_on_arrival, position, settled_at, read_position, last_seq)
SELECT {company}, n, 'Jamie ' || n, 'McDonald', 'jamie+' || n || '@kounta.example', '02 8765 4321',
  '["vip", "gold"]', n || ' George Street', 'Sydney', 'AU', '', true, at, at, 'backfill',
  at, at, false, false, 0, at, 0, n
FROM generate_series(1, {customers}) AS n,
  LATERAL (SELECT now() - interval '{days} days' + n * interval '1 second' AS at) AS moment
"""
CHANGES = """
INSERT INTO mirror._changes (company_id, seq, customer_id, kind, attributes, after, as_of, source, applied_at,
  first_name, last_name, email, phone, primary_address, primary_city, primary_country, reference_id)
SELECT company_id, id, id, 'created', '["name", "email"]', '{{"email": "jamie@kounta.example"}}', as_of,
  'backfill', as_of, first_name, last_name, email, phone, primary_address, primary_city, primary_country,
  reference_id
FROM mirror._customers
"""
ROWS = (
    "INSERT INTO inbox.accepted (company_id, count, head) VALUES ({company}, {count}, {count})",
    "INSERT INTO mirror.companies (company_id) VALUES ({company})",
    "INSERT INTO mirror._verdict_counts (company_id, verdict, count) VALUES ({company}, 'applied', {count})",
    """INSERT INTO mirror._progress (company_id, position, missing, seq, revision)
    VALUES ({company}, {count}, 0, {customers}, 0)""",
    """INSERT INTO mirror._status (company_id, live, deleted, verified, partial, listed_complete, attributes,
      verifications_due) VALUES ({company}, {customers}, 0, {customers}, 0, true, '[]', 0)""",
)
OF_CUSTOMER = "the deliveries of a customer"
QUESTIONS = {
    "deliveries behind a position (over all partitions)": "SELECT position, id, body FROM inbox.deliveries "
    "WHERE company_id = {company} AND position > {count} ORDER BY position LIMIT 3000",
    "whether there are any": "SELECT position FROM inbox.deliveries "
    "WHERE company_id = {company} AND position > {count} LIMIT 1",
    "the oldest verification (at each batch)": "SELECT min(verified_at) FROM mirror._customers "
    "WHERE deleted_at IS NULL AND company_id = {company}",
    "3,000 known customers": "SELECT * FROM mirror._customers WHERE company_id = {company} AND id IN "
    "(SELECT CAST(value AS BIGINT) FROM jsonb_array_elements_text((SELECT jsonb_agg(n * 331) "
    "FROM generate_series(1, 3000) AS n)) AS value)",
    OF_CUSTOMER: "SELECT * FROM mirror.delivery_verdicts WHERE company_id = {company} "
    "AND customer_id = 12345 ORDER BY delivery_id DESC LIMIT 20",
    "the newest of all deliveries": "SELECT * FROM mirror.delivery_verdicts WHERE company_id = {company} "
    "ORDER BY delivery_id DESC LIMIT 20",
    "deliveries by name": "SELECT * FROM inbox.deliveries WHERE company_id = {company} AND id IN "
    "(SELECT id FROM inbox.deliveries WHERE company_id = {company} AND position = {count} / 2)",
}


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def statements(names: dict[str, int]) -> Iterator[str]:
    for statement in (DELIVERIES, VERDICTS, CUSTOMERS, CHANGES, *ROWS):
        yield statement.format(**names)


def grow(server: Durable, names: dict[str, int]) -> None:
    """Fill a database as years do; what is made is not analysed yet."""
    server.make("big")
    engine = create_engine(make_url(server.at("big")).set(drivername="postgresql+psycopg"))
    today = datetime.now(UTC).date()
    with engine.begin() as connection:
        partitions.make(connection, [today - timedelta(days) for days in range(DAYS + 1)])
    engine.dispose()
    for statement in statements(names):
        server.ask(statement, "big", session_replication_role="replica", maintenance_work_mem="'512MB'")


async def compare(server: Durable, names: dict[str, int], batch: int, rounds: int) -> None:
    taking: dict[str, list[float]] = {"small": [], "big": []}
    applying: dict[str, list[float]] = {"small": [], "big": []}
    used: dict[str, list[float]] = {"small": [], "big": []}
    used_to_take: dict[str, list[float]] = {"small": [], "big": []}
    for turn in range(rounds + 1):
        for database in ("small", "big") if turn % 2 else ("big", "small"):
            server.ask("CHECKPOINT")
            url, apart = server.at(database), 3 * names["customers"] // batch
            before = server.processor_seconds()
            took = fill(url, 1, batch, batch // 3, first=turn * batch, apart=apart)
            processor = server.processor_seconds() - before
            drained = await drain(server, database, 1, 1, HERE)
            if not turn:
                continue  # so far the empty one knew nobody
            taking[database].append(took)
            used_to_take[database].append(processor)
            applying[database].append(drained.seconds)
            used[database].append(drained.of_server)
    measured = {
        "taken": taking,
        "server's time to take": used_to_take,
        "applied": applying,
        "server's time to apply": used,
    }
    for what, times in measured.items():
        ratios = [small / big for small, big in zip(times["small"], times["big"], strict=True)]
        say(
            f"{what:<24} {statistics.median(ratios):>6.2f} of the speed when empty "
            f"({', '.join(f'{ratio:.2f}' for ratio in ratios)})"
        )


def plans(server: Durable, names: dict[str, int]) -> None:
    with psycopg.connect(server.at("big")) as connection:
        for what, question in QUESTIONS.items():
            show(connection, what, question.format(**names))
        connection.execute("DROP INDEX mirror._delivery_verdicts_by_customer")
        show(connection, f"{OF_CUSTOMER}, without their index", QUESTIONS[OF_CUSTOMER].format(**names))
        connection.rollback()


def show(connection: psycopg.Connection[Any], what: str, question: str) -> None:
    say(f"\n-- {what}")
    for (line,) in connection.execute(f"{PLAN}{question}".encode()):
        say(str(line))


async def main(options: argparse.Namespace) -> None:
    names = {
        "company": FIRST_COMPANY,
        "count": options.deliveries,
        "customers": options.customers,
        "days": DAYS,
    }
    free = shutil.disk_usage(tempfile.gettempdir()).free
    needed = (options.deliveries + 2 * options.customers) * BYTES_A_ROW
    if free < 2 * needed:
        raise SystemExit(f"{free / 1e9:.0f} GB are free, and twice {needed / 1e9:.0f} GB should be.")
    with Durable() as server:
        server.make("small")
        grow(server, names)
        if options.plans:
            say("Before any statistics:")
            plans(server, names)
        for database in ("small", "big"):
            server.ask("VACUUM ANALYZE", database)
        (size,) = server.ask("SELECT pg_size_pretty(pg_database_size('big'))")[0]
        say(f"{options.deliveries:,} deliveries in {DAYS} days, {options.customers:,} customers: {size}")
        await compare(server, names, options.batch, options.rounds)
        if options.plans:
            plans(server, names)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--deliveries", type=int, default=5_000_000)
    parser.add_argument("--customers", type=int, default=1_000_000)
    parser.add_argument(
        "--batch", type=int, default=9_000, help="deliveries that are taken and applied at a time"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--plans", action="store_true")
    asyncio.run(main(parser.parse_args()))
