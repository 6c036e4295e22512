"""The data dictionary is complete and true: names, types, comments, pages."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import make_url

from receiver.database import Place, Server, mirror_of
from receiver.postgresql import Schema
from sync.merge.customers import COLUMNS
from sync.mirror.comments import comment, wanted_comments
from sync.mirror.dictionary import TABLES, described, personal_columns
from sync.mirror.reference import PAGES, types_of
from sync.mirror.reporting import SHOWN
from sync.mirror.store import migrate_mirror
from tests.stores import columns

NAMES = [one.name for one in TABLES]
AS_POSTGRESQL_SAYS = {"VARCHAR": "character varying", "FLOAT": "double precision"}


def test_every_view_and_table_of_the_interface_is_described() -> None:
    assert sorted(NAMES) == sorted(SHOWN)


@pytest.mark.parametrize("name", NAMES)
async def test_exactly_the_columns_that_are_there_are_described(house: Any, name: str) -> None:
    assert [column.name for column in described(name).columns] == list(columns(house.place, name))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("database_kind", ["sqlite"])
async def test_every_column_has_the_declared_type_of_the_reference(house: Any, name: str) -> None:
    database = mirror_of(house.place)
    assert isinstance(database, Path)
    with closing(sqlite3.connect(database)) as file:
        declared = {row[1]: row[2] for row in file.execute(f"PRAGMA table_xinfo({name})")}
    assert declared == {column: type_ for column, (type_, _) in types_of(name).items()}
    assert all(declared.values())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("database_kind", ["postgresql"])
async def test_the_reference_has_the_types_of_postgresql(house: Any, name: str) -> None:
    told = {column: type_ for column, (_, type_) in types_of(name).items()}
    assert {
        column: AS_POSTGRESQL_SAYS.get(type_, type_.lower()) for column, type_ in told.items()
    } == columns(house.place, name)


def test_what_kounta_says_of_a_person_is_personal_wherever_it_is_shown() -> None:
    personal = set(personal_columns())
    for name in ("customers", "all_customers", "customer_versions"):
        assert {(name, column) for column in COLUMNS} <= personal
        told = {column: described(name).column(column).attribute for column in COLUMNS}
        assert told == {**COLUMNS, "reference_id": None, "other": "all"}
    assert {
        ("customer_tags", "tag"),
        ("customer_changes", "before"),
        ("customer_changes", "after"),
    } <= personal


@pytest.mark.parametrize("page", PAGES)
def test_the_page_is_what_the_code_makes(page: str, pytestconfig: pytest.Config) -> None:
    committed = (pytestconfig.rootpath / "docs/reference" / page).read_text()
    assert committed == PAGES[page](), "run scripts/dictionary"


def comments(url: str) -> dict[tuple[str, str], str]:
    with psycopg.connect(url) as connection:
        of_tables = connection.execute(
            "SELECT relname, '', obj_description(oid, 'pg_class') FROM pg_class "
            "WHERE relnamespace = 'mirror'::regnamespace AND relkind IN ('r', 'v')"
        ).fetchall()
        of_columns = connection.execute(
            "SELECT relname, attname, col_description(attrelid, attnum) FROM pg_attribute "
            "JOIN pg_class ON pg_class.oid = attrelid "
            "WHERE relnamespace = 'mirror'::regnamespace AND relkind IN ('r', 'v') AND attnum > 0"
        ).fetchall()
    return {(table, column): said for table, column, said in of_tables + of_columns if said is not None}


@pytest.mark.parametrize("database_kind", ["postgresql"])
def test_on_postgresql_they_are_comments(empty_place: Place) -> None:
    assert isinstance(empty_place, Server)
    migrate_mirror(empty_place)
    found = comments(empty_place.url)
    assert found == wanted_comments()
    assert found["customers", "verified_at"].startswith(
        "When a read of Kounta last confirmed what the row shows"
    )
    assert "NULL: not confirmed" in found["customers", "verified_at"]
    assert "`" not in "".join(found.values())


@pytest.mark.parametrize("database_kind", ["postgresql"])
def test_comments_follow_the_code_with_the_next_start(place: Place) -> None:
    assert isinstance(place, Server)
    with psycopg.connect(place.url) as owner:
        owner.execute("COMMENT ON COLUMN mirror.customers.email IS 'as it was'")
        owner.execute("COMMENT ON VIEW mirror.customers IS NULL")
    migrate_mirror(place)
    assert comments(place.url) == wanted_comments()


@pytest.mark.parametrize("database_kind", ["postgresql"])
def test_who_may_not_comment_leaves_them_as_they_are(place: Place) -> None:
    assert isinstance(place, Server)
    database = make_url(place.url).database
    with psycopg.connect(place.url, autocommit=True) as owner:
        owner.execute("COMMENT ON COLUMN mirror.customers.email IS 'as it was'")
        owner.execute("CREATE ROLE guest LOGIN; GRANT USAGE ON SCHEMA mirror TO guest")
        owner.execute(f"GRANT CREATE ON DATABASE {database} TO guest".encode())
    try:
        as_guest = make_url(place.url).set(username="guest").render_as_string(hide_password=False)
        comment(Schema(as_guest, "mirror"))
        assert comments(place.url)["customers", "email"] == "as it was"
    finally:
        with psycopg.connect(place.url, autocommit=True) as owner:
            owner.execute("DROP OWNED BY guest; DROP ROLE guest")
