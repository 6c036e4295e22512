"""PostgreSQL as both stores use it: a schema for each, no state kept in a session, one type for errors.

Nothing relies on a session that lasts (no prepared statements, no search_path): a pooler such as pgbouncer
may give each transaction another one.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from sqlalchemy import create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sqlalchemy import URL
    from sqlalchemy.engine import Connection, Engine, ExceptionContext

CONNECT_SECONDS = 5
KEEPALIVES: Mapping[str, Any] = {"keepalives_idle": 30, "keepalives_interval": 5, "keepalives_count": 3}
MIGRATION_LOCK = 5_086_882  # names the advisory lock under which schemas are brought up to date

# SQLSTATE classes of errors that nothing in the data brought about: the same work may succeed later.
_DENIED = "42501"
_UNAVAILABLE = ("08", "25006", "40", "53", "55", "57", "58", "XX")


@dataclass(frozen=True, slots=True)
class Schema:
    """One store on PostgreSQL: the schema `name` of the database at `url`."""

    url: str = field(repr=False)  # may carry a password
    name: str

    def __str__(self) -> str:
        """Name it without its password."""
        parts = urlsplit(self.url)
        return f"the schema {self.name} of {parts.hostname or 'PostgreSQL'}{parts.path}"


def checked_url(url: str) -> str:
    """Give `url` if it can be used; a ValueError says what is wrong with it, without the password."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise ValueError("it should be something like postgresql://user@host/database") from None
    if parsed.drivername not in {"postgresql", "postgres"}:
        raise ValueError("it should begin with postgresql://, or be unset: SQLite files in MIRROR_DATA_DIR")
    try:
        import psycopg  # noqa: F401 - an extra: whoever uses SQLite has none
    except ImportError:
        raise ValueError("psycopg is not installed: pip install 'kounta-mirror[postgres]'") from None
    return url


def open_engine(schema: Schema, *, size: int) -> AsyncEngine:
    """Open up to `size` connections; unqualified tables are those of the schema."""
    engine = create_async_engine(
        _url(schema),
        pool_size=size,
        max_overflow=0,
        pool_pre_ping=True,  # after a restart of the server the first use would fail otherwise
        hide_parameters=True,
        connect_args=_connect_arguments(),
        execution_options=_options(schema),
    )
    _withhold_rows(engine.sync_engine)
    return engine


def open_sync_engine(schema: Schema) -> Engine:
    """Open one connection, made anew after it was lost."""
    return _sync_engine(schema, pool_size=1, max_overflow=0)


def open_sync_reader(schema: Schema) -> Engine:
    """Open connections whose transactions are READ ONLY, each tried before it is used; for any thread."""
    return _sync_engine(schema, pool_pre_ping=True).execution_options(postgresql_readonly=True)


def _sync_engine(schema: Schema, **pool: Any) -> Engine:
    engine = create_engine(
        _url(schema),
        **pool,
        hide_parameters=True,
        connect_args=_connect_arguments(),
        execution_options=_options(schema),
    )
    _withhold_rows(engine)
    return engine


@contextmanager
def migration(schema: Schema) -> Iterator[Connection]:
    """One transaction in which the schema is there, is meant, and belongs to nobody else."""
    engine = create_engine(_url(schema), poolclass=NullPool, connect_args=_connect_arguments())
    _withhold_rows(engine)
    with engine.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": MIGRATION_LOCK})
        connection.execute(text(f'CREATE SCHEMA IF NOT EXISTS "{schema.name}"'))
        connection.execute(text(f'SET LOCAL search_path = "{schema.name}"'))
        yield connection


@contextmanager
def looking(schema: Schema) -> Iterator[Connection]:
    """One transaction that only looks, in which the schema is meant."""
    engine = create_engine(_url(schema), poolclass=NullPool, connect_args=_connect_arguments())
    with engine.begin() as connection:
        connection.execute(text(f'SET LOCAL search_path = "{schema.name}"'))
        yield connection


def is_denied(error: DBAPIError) -> bool:
    """Whether the role has no right to it."""
    return getattr(error.orig, "sqlstate", None) == _DENIED


def is_unavailable(error: BaseException) -> bool | None:
    """Whether the server failed rather than the statement; None: it is no error of PostgreSQL."""
    state = getattr(error, "sqlstate", None)
    if isinstance(state, str):
        return state.startswith(_UNAVAILABLE)
    if type(error).__module__.partition(".")[0] == "psycopg":
        return type(error).__name__ in {"OperationalError", "InterfaceError", "ConnectionTimeout"}
    return None


def _withhold_rows(engine: Engine) -> None:
    """Cut the details of errors off: they show the row, and an error goes to logs."""

    @event.listens_for(engine, "handle_error")
    def withhold(context: ExceptionContext) -> None:
        original = context.original_exception
        message = getattr(getattr(original, "diag", None), "message_primary", None)
        if message is not None:
            original.args = (message,)
            if context.sqlalchemy_exception is not None:
                context.sqlalchemy_exception.args = (f"({type(original).__name__}) {message}",)


def _url(schema: Schema) -> URL:
    return make_url(schema.url).set(drivername="postgresql+psycopg")


def _connect_arguments() -> dict[str, Any]:
    return {
        "prepare_threshold": None,
        "connect_timeout": CONNECT_SECONDS,
        "application_name": "kounta-mirror",
        **KEEPALIVES,
    }


def _options(schema: Schema) -> dict[str, Any]:
    return {"schema_translate_map": {None: schema.name}}
