"""SQLite as the simulation has it: real files, in the loop's own thread, and disks that fail.

Each statement, the beginning and the end of each transaction is a step of the process that makes it: there it
may be killed, and there its disk may fail. It is told of its locks and connections.
"""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol
from unittest.mock import patch

import aiosqlite
from sqlalchemy import Engine, event
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import Pool

from receiver.ownership import Ownership
from tests.sharing import share_statements

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

    from sqlalchemy.engine import Connection
    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.pool import ConnectionPoolEntry


class Stepping(Protocol):
    """Whoever makes steps."""

    def step(self, what: str) -> None: ...

    def hold(self, give_up: Callable[[], object]) -> None: ...


ACTING: ContextVar[Stepping | None] = ContextVar("ACTING", default=None)
"""The process in which the code at hand runs."""


def unavailable(code: int, sentence: str) -> OperationalError:
    """Give the error that SQLAlchemy raises when SQLite answers with `code`."""
    original = sqlite3.OperationalError(sentence)
    original.sqlite_errorcode = code
    return OperationalError("(simulated)", None, original)


class InlineConnection(aiosqlite.Connection):
    """A connection of aiosqlite that does its work where it is awaited, after one turn of the loop."""

    def __init__(self, connector: Callable[[], sqlite3.Connection]) -> None:
        super().__init__(connector, iter_chunk_size=64)

    def __await__(self) -> Generator[Any, None, aiosqlite.Connection]:
        return self._connect().__await__()

    async def _connect(self) -> aiosqlite.Connection:
        self._connection = self._connector()
        return self

    async def _execute(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if self._connection is None:
            raise ValueError("Connection closed")
        if fn.__name__ in _TURNS:
            await asyncio.sleep(0)
        return fn(*args, **kwargs)

    async def close(self) -> None:
        self.stop()

    def stop(self) -> asyncio.Future[Any] | None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        return None


_TURNS = frozenset({"execute", "executemany", "commit"})


@contextmanager
def inline_sqlite() -> Iterator[None]:
    """Let every engine work in the loop's thread, and tell the acting process of each step."""
    share_statements()  # each simulated process has new engines, for the same statements
    listeners: list[tuple[type, str, Callable[..., None]]] = [
        (Engine, "do_connect", _carry_inline),
        (Engine, "begin", _on_begin),
        (Engine, "commit", _on_commit),
        (Engine, "before_cursor_execute", _on_statement),
        (Pool, "connect", _on_connect),
    ]
    for target, name, listener in listeners:
        event.listen(target, name, listener)
    try:
        with _known_locks():
            yield
    finally:
        for target, name, listener in listeners:
            event.remove(target, name, listener)


@contextmanager
def _known_locks() -> Iterator[None]:
    """Let the acting process know each lock that it takes."""
    take = Ownership.take

    def take_and_tell(directory: Path, name: str, purpose: str) -> Ownership:
        ownership = take(directory, name, purpose)
        _hold(ownership.close)
        return ownership

    with (
        patch.object(Ownership, "take", take_and_tell),
        patch("receiver.integrity.damage_of", lambda *_, **__: None),  # these disks fail, and damage nothing
    ):
        yield


def _on_connect(connection: DBAPIConnection, entry: ConnectionPoolEntry) -> None:
    driver = entry.driver_connection
    _hold(driver.stop if isinstance(driver, InlineConnection) else connection.close)


def _carry_inline(dialect: Any, _record: Any, _arguments: Any, options: dict[str, Any]) -> None:
    if dialect.is_async:
        options["async_creator_fn"] = _inline


def _inline(*arguments: Any, **options: Any) -> InlineConnection:
    patient = {**options, "timeout": 0}  # there is nobody to wait for: a lock is somebody's mistake
    return InlineConnection(lambda: sqlite3.connect(*arguments, **patient))


def _on_begin(_connection: Connection) -> None:
    _step("begin")


def _on_commit(_connection: Connection) -> None:
    _step("commit")


def _on_statement(_connection: Connection, _cursor: Any, statement: str, *_more: Any) -> None:
    _step(statement)


def _step(what: str) -> None:
    acting = ACTING.get()
    if acting is not None:
        acting.step(what)


def _hold(give_up: Callable[[], object]) -> None:
    acting = ACTING.get()
    if acting is not None:
        acting.hold(give_up)
