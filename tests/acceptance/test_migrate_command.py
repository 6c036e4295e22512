"""`kounta-mirror migrate`, as it is typed: on PostgreSQL, and from SQLite, where the processes go on."""

import json
from pathlib import Path
from typing import Any

import psycopg
import pytest

from receiver.inbox import InboxWriter
from sync.inbox import inbox_path
from sync.mirror.store import migrate_mirror


@pytest.fixture
def url(postgresql: Any) -> str:
    return str(postgresql.empty())


def one(url: str, query: str) -> Any:
    with psycopg.connect(url) as connection:
        row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


async def test_what_ran_on_sqlite_goes_on_on_postgresql(shop: Any, url: str) -> None:
    await shop.open(3)
    receiver = await shop.receiver()
    worker = await shop.quiet_worker()
    ann = shop.ids[0]
    applied = await receiver.post(ann, "Ann")
    await shop.until(lambda: named(shop, ann) == "Ann")
    assert (await worker.stops())[0] == 0
    pending = await receiver.post(ann, "Bea")
    assert (await receiver.process.stops())[0] == 0

    moving = await shop.type("migrate --from-sqlite data", DATABASE_URL=url)
    assert (await moving.ends(), moving.sentences) == (0, [])
    lines = [line.split() for line in moving.out.splitlines()]
    assert ["inbox.deliveries", "2", "2", "equal"] in lines
    assert ["mirror._customers", "3", "3", "equal"] in lines
    assert not any("DIFFERENT" in line for line in lines)

    shop.settings["DATABASE_URL"] = url
    receiver = await shop.receiver()
    worker = await shop.worker()
    await shop.until(lambda: one(url, f"SELECT first_name FROM mirror.customers WHERE id = {ann}") == "Bea")  # noqa: S608 - a number
    newest = await receiver.post(ann, "Cleo")
    await shop.until(lambda: one(url, f"SELECT first_name FROM mirror.customers WHERE id = {ann}") == "Cleo")  # noqa: S608 - a number
    assert (await worker.stops())[0] == 0
    assert (await receiver.process.stops())[0] == 0
    with psycopg.connect(url) as connection:
        found = connection.execute("SELECT delivery_id FROM mirror.delivery_verdicts ORDER BY received_at")
        assert [name for (name,) in found] == [applied, pending, newest]
    assert one(url, "SELECT missing FROM mirror._progress") == 0


def named(shop: Any, customer_id: int) -> Any:
    return shop.value("SELECT first_name FROM customers WHERE id = ?", customer_id)


async def test_it_makes_schemas_and_the_role_and_may_be_typed_again(shop: Any, url: str) -> None:
    await shop.open(0)
    for _ in range(2):
        migrated = await shop.type("migrate --reporting-role shop_reports", DATABASE_URL=url)
        assert (await migrated.ends(), migrated.sentences) == (0, [])
        assert "The role shop_reports may read" in migrated.out
    assert one(url, "SELECT has_table_privilege('shop_reports', 'mirror.customers', 'SELECT')") is True
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP OWNED BY shop_reports; DROP ROLE shop_reports")
    without = await shop.type("migrate --no-reporting-role --json", DATABASE_URL=url)
    assert json.loads(without.out) == {"copied": None, "reporting_role": None, "left": []}


async def test_who_may_not_make_roles_gets_the_schemas_and_a_sentence(shop: Any, url: str) -> None:
    await shop.open(0)
    with psycopg.connect(url, autocommit=True) as connection:
        database = connection.info.dbname
        connection.execute(
            f"CREATE ROLE limited LOGIN; GRANT CREATE ON DATABASE {database} TO limited".encode()
        )
    limited = url.replace("postgres:@", "limited@")
    migrated = await shop.type("migrate --reporting-role nobody_yet", DATABASE_URL=limited)
    assert await migrated.ends() == 0
    assert migrated.sentences[0].endswith("An administrator of the database runs:")
    assert migrated.sentences[1] == '    CREATE ROLE "nobody_yet" NOLOGIN;'
    assert one(url, "SELECT count(*) FROM mirror.customers") == 0
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP OWNED BY limited CASCADE; DROP ROLE limited")


async def test_json_tells_every_table(shop: Any, url: str) -> None:
    await shop.open(0)
    await stores(shop.directory / "data")
    moved = await shop.type("migrate --from-sqlite data --no-reporting-role --json", DATABASE_URL=url)
    tables = {table["table"]: table for table in json.loads(moved.out)["copied"]["tables"]}
    assert tables["inbox.starts"]["rows"] == 1
    assert all(table["equal"] and len(table["sha256"]) == 64 for table in tables.values())


async def test_it_refuses_what_cannot_be_right(shop: Any, url: str) -> None:
    await shop.open(0)
    data = shop.directory / "data"
    await stores(data)
    nowhere = await shop.type("migrate --from-sqlite data")
    assert (await nowhere.ends(), nowhere.out) == (2, "")
    assert nowhere.sentences == [
        "DATABASE_URL is not set: it names the PostgreSQL that the stores are copied to."
    ]

    missing = await shop.type("migrate --from-sqlite elsewhere", DATABASE_URL=url)
    assert (await missing.ends(), missing.out) == (1, "")
    assert "neither inbox.db nor mirror.db in elsewhere" in missing.sentences[0]

    receiver = await shop.receiver()
    owned = await shop.type("migrate --from-sqlite data", DATABASE_URL=url)
    assert (await owned.ends(), owned.out) == (1, "")
    assert "the receiver, process" in owned.sentences[0]
    await receiver.process.stops()

    assert await (await shop.type("migrate --from-sqlite data", DATABASE_URL=url)).ends() == 0
    again = await shop.type("migrate --from-sqlite data", DATABASE_URL=url)
    assert (await again.ends(), again.out) == (1, "")
    assert "in schema inbox there are rows already" in again.sentences[0]


async def stores(directory: Path) -> None:
    async with await InboxWriter.open(inbox_path(directory)):
        pass
    migrate_mirror(directory)
