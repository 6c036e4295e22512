"""What the settings for Metabase and Superset rest on, with the addresses of docs/how-to/dashboards.md."""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, create_engine, inspect, make_url, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.types import NullType

from receiver.database import Server
from sync.mirror.backup import back_up
from sync.mirror.dictionary import TABLES
from sync.mirror.reader import mirror_path
from sync.mirror.reporting import ROLE, make_role
from tests import cafe

SCHEMA = {"sqlite": None, "postgresql": "mirror"}
TIMES = [(table.name, column.name) for table in TABLES for column in table.columns if column.unit == "UTC"]


@pytest.fixture
async def furnished(house: Any) -> Any:
    await cafe.furnish(house)
    return house


@pytest.fixture
def page(pytestconfig: pytest.Config) -> str:
    return (pytestconfig.rootpath / "docs/how-to/dashboards.md").read_text()


@pytest.fixture
def superset(furnished: Any, page: str) -> Iterator[Engine]:
    """A database as Superset opens it."""
    if not isinstance(furnished.place, Server):
        (address,) = re.findall(r"^sqlite:///file:\S+$", page, re.MULTILINE)
        path = str(mirror_path(furnished.place))
        engine = create_engine(address.replace("/srv/mirror/data/mirror.db", path))
        yield engine
        engine.dispose()
        return
    (address,) = re.findall(r"^postgresql\+psycopg2://\S+$", page, re.MULTILINE)
    url = furnished.place.url
    assert make_role(url, ROLE) == []
    with psycopg.connect(url, autocommit=True) as owner:
        owner.execute(f"CREATE ROLE anna LOGIN; GRANT {ROLE} TO anna".encode())
        place = make_url(address).set(drivername="postgresql+psycopg", host=None, password=None)
        place = place.set(database=owner.info.dbname, query={"host": owner.info.host})
        engine = create_engine(place)
        yield engine
        engine.dispose()
        owner.execute(f"DROP OWNED BY anna; DROP OWNED BY {ROLE}; DROP ROLE anna, {ROLE}".encode())


async def test_every_view_is_reflected_with_a_type_for_each_column(superset: Engine) -> None:
    schema = SCHEMA[superset.dialect.name]
    found = inspect(superset)
    for table in TABLES:
        columns = found.get_columns(table.name, schema=schema)
        assert [one["name"] for one in columns] == [column.name for column in table.columns]
        assert not [one["name"] for one in columns if isinstance(one["type"], NullType)], table.name


async def test_every_view_can_be_read_and_nothing_written(superset: Engine) -> None:
    prefix = "" if SCHEMA[superset.dialect.name] is None else "mirror."
    for table in TABLES:
        with superset.connect() as connection:
            connection.execute(text(f"SELECT * FROM {prefix}{table.name}")).fetchall()  # noqa: S608 - our names
    for statement in (
        "DELETE FROM {}companies",
        "UPDATE {}companies SET name = 'x'",
        "CREATE TABLE {}mine (a int)",
    ):
        with (
            superset.connect() as connection,
            pytest.raises(DBAPIError, match=r"readonly database|permission denied"),
        ):
            connection.execute(text(statement.format(prefix)))


@pytest.fixture
async def metabase(furnished: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup, as Metabase is given one."""
    path: Path = tmp_path_factory.mktemp("reports") / "mirror.db"
    back_up(furnished.place, path)
    return path


@pytest.mark.parametrize("database_kind", ["sqlite"])
async def test_the_driver_of_metabase_finds_the_type_of_each_column(metabase: Path) -> None:
    with closing(sqlite3.connect(metabase)) as file:
        for table in TABLES:
            columns = file.execute(f"PRAGMA table_xinfo({table.name})").fetchall()
            types = {name: kind for _, name, kind, *_ in columns}
            assert list(types) == [column.name for column in table.columns]
            assert all(types.values()), types


@pytest.mark.parametrize("database_kind", ["sqlite"])
async def test_every_time_can_be_cast(metabase: Path, page: str) -> None:
    with closing(sqlite3.connect(metabase)) as file:
        for table, column in TIMES:
            cast = f"SELECT {column}, datetime({column}) FROM {table} WHERE {column} IS NOT NULL"  # noqa: S608
            for stands, becomes in file.execute(cast):
                assert becomes == stands[:19].replace("T", " "), (table, column)
    for _, column in TIMES[:5]:
        assert f"`{column}`" in page
