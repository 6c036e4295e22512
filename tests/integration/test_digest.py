"""What both databases give for the same rows is the same figure, and for other rows another."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Engine,
    Float,
    LargeBinary,
    MetaData,
    NullPool,
    Table,
    Text,
    create_engine,
    insert,
)

from receiver.database import JSON_VALUE, UTCDateTime
from receiver.digest import Digest, digest

NOON = datetime(2026, 11, 24, 12, 0, 0, 123_000, tzinfo=UTC)
TABLE = Table(
    "things",
    MetaData(),
    Column("company_id", BigInteger, primary_key=True, autoincrement=False),
    Column("name", Text, primary_key=True),
    Column("at", UTCDateTime),
    Column("yes", Boolean),
    Column("rate", Float),
    Column("value", JSON_VALUE),
    Column("body", LargeBinary),
)
Give = Callable[[list[dict[str, Any]]], list[Digest]]


def given(engine: Engine, rows: list[dict[str, Any]]) -> Digest:
    with engine.connect() as connection:
        TABLE.create(connection)
        connection.execute(insert(TABLE), rows)
        return digest(connection, TABLE)


@pytest.fixture
def both(postgresql: Any) -> Give:
    """Digests of the same rows in both databases; nothing is kept."""
    sqlite = create_engine("sqlite://", poolclass=NullPool)
    server = create_engine(
        postgresql.empty().replace("postgresql://", "postgresql+psycopg://"), poolclass=NullPool
    )
    return lambda rows: [given(sqlite, rows), given(server, rows)]


def row(name: str = "a", **values: Any) -> dict[str, Any]:
    nothing = {"at": None, "yes": None, "rate": None, "value": None, "body": None}
    return {"company_id": 5678, "name": name} | nothing | values


def test_every_kind_of_value_is_the_same_on_both(both: Give) -> None:
    value = {"b": [1, True, None, 1.5, {"deep": "ü\N{GRINNING FACE}"}], "a": {}, "": "\u2028"}
    rows = [
        row("é"),
        row("Z", at=NOON, yes=True, rate=0.1, value=value, body=bytes(range(256))),
        row("a", yes=False, rate=1e-9, value=[], body=b""),
        row("_", value="text", at=datetime(1, 1, 1, tzinfo=UTC)),
    ]
    here, there = both(rows)
    assert here == there
    assert here.rows == 4


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"b": 1, "a": 2}, {"a": 2, "b": 1}),
        ([1.0, -0.0], [1, 0]),
        ([1e20, 1e23, 1e308], [10**20, 10**23, 10**308]),
    ],
)
def test_json_is_the_same_however_it_is_spelled(both: Give, one: Any, other: Any) -> None:
    assert len({*both([row(value=one)]), *both([row(value=other)])}) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"yes": True}, {"yes": False}),
        ({"yes": False}, {"yes": None}),
        ({"rate": 0.1}, {"rate": 0.10000000000000002}),
        ({"at": NOON}, {"at": NOON.replace(microsecond=124_000)}),
        ({"body": b"a"}, {"body": b"b"}),
        ({"body": b""}, {"body": None}),
        ({"value": [1]}, {"value": [True]}),
        ({"value": [10**20]}, {"value": [10**20 + 1]}),
        ({"value": [1]}, {"value": ["1"]}),
        ({"value": {"a": None}}, {"value": {}}),
        ({"name": "a"}, {"name": "A"}),
    ],
)
def test_a_difference_in_one_value_shows(both: Give, one: dict[str, Any], other: dict[str, Any]) -> None:
    for first, second in zip(both([row(**one)]), both([row(**other)]), strict=True):
        assert first.rows == second.rows
        assert first.sha256 != second.sha256


def test_rows_that_changed_places_show(both: Give) -> None:
    straight = both([row("a", yes=True), row("b", yes=False)])
    assert straight != both([row("a", yes=False), row("b", yes=True)])
    assert straight == both([row("b", yes=False), row("a", yes=True)])
