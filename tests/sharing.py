"""What takes most of a short test's time and is the same for all: made once in a process, then shared.

- the schema of a store in a file (`tests.schemas`);
- statements that SQLAlchemy has compiled: elsewhere an engine keeps its own, and each test has new engines;
- the certificates that a client of HTTP reads for TLS, 30 ms for each client.
"""

from functools import cache
from typing import Any, Final

import httpx2._transports.default as transports
from sqlalchemy import Connection, Engine, event
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg, PGDialectAsync_psycopg
from sqlalchemy.dialects.sqlite.aiosqlite import SQLiteDialect_aiosqlite
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.util import LRUCache

from tests.schemas import copy_schemas

DIALECTS: Final[tuple[type[DefaultDialect], ...]] = (
    PGDialect_psycopg,
    PGDialectAsync_psycopg,
    SQLiteDialect_aiosqlite,
    SQLiteDialect_pysqlite,
)
_COMPILED: Final = LRUCache[Any, Any](2000)


def share() -> None:
    """Share all of it in this process from now on."""
    copy_schemas()
    share_statements()
    vars(transports)["create_ssl_context"] = cache(vars(transports)["create_ssl_context"])


@cache
def share_statements() -> None:
    """Let all engines find what another one has compiled. The dialect is part of the key."""
    for dialect in DIALECTS:
        dialect.__eq__ = _is_same  # type: ignore[method-assign]
        dialect.__hash__ = _same_hash  # type: ignore[assignment, method-assign]
    event.listen(Engine, "engine_connect", _use_shared)


def _is_same(one: object, other: object) -> bool:
    return type(one) is type(other)


def _same_hash(one: object) -> int:
    return hash(type(one).__name__)


def _use_shared(connection: Connection) -> None:
    connection.engine._compiled_cache = _COMPILED
