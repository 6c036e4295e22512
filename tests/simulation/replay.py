"""The transactions of a simulated mirror, recorded on SQLite and made again on PostgreSQL.

Whatever the system decides it decides from what a transaction has read. So a replay compares what each one
reads on PostgreSQL with what it read on SQLite, and then writes what was written there: if every reading is
the same and every table ends the same, the whole run would have been the same.
"""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from sqlalchemy import NullPool, create_engine
from sqlalchemy.sql.dml import UpdateBase

from receiver.digest import Digest, digest
from sync.merge.customers import Subscription
from sync.mirror.batch import Batch
from sync.mirror.schema import METADATA, SCHEMA
from sync.mirror.store import Mirror, MirrorStore
from sync.mirror.wholeness import WholeConnection
from tests.simulation.seed import simulate
from tests.simulation.world import COMPANY

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Iterator
    from pathlib import Path

    from receiver.database import Server

_WRITTEN = (
    "records", "doubts", "counts", "position", "_revision", "_last_seq", "_listed_in", "_rulings",
    "_mobile_read", "_mobile_appears", "_announced", "_losses",
    "_ruled_again", "_recognised", "_last_delivery_at", "_held", "_no_longer_held",
)  # fmt: skip
"""What a batch holds when it is written, beside its journal."""
_LATER = datetime(9000, 1, 1, tzinfo=UTC)
"""No stored time lies ahead of it: what is written was recorded, and nothing is brought back here."""
_CHANGES = ("seq", "_changes", "_ends")


@dataclass(frozen=True, slots=True)
class Load:
    """A batch has read these customers: records and doubts as they were."""

    ids: tuple[int, ...]
    before: dict[int, Any]
    doubts: dict[int, Any]


@dataclass(frozen=True, slots=True)
class Flush:
    """A batch has written all this."""

    now: datetime
    progress: Any
    batch: dict[str, Any]
    journal: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Statement:
    """Something else was written in the same transaction."""

    statement: UpdateBase
    parameters: tuple[Any, ...]


@dataclass(slots=True)
class Trace:
    """What one seed committed, transaction by transaction, and what its tables came to."""

    transactions: list[list[Load | Flush | Statement]] = field(default_factory=list)
    tables: dict[str, Digest] = field(default_factory=dict)


def record(seed: int) -> Trace:
    """Run a seed, and give its trace."""
    trace = Trace()
    with _recording_transactions(trace), _recording_batches():
        outcome = simulate(seed, at_end=lambda directory: trace.tables.update(_tables(directory)))
    assert not outcome.broken, outcome.broken
    return trace


async def replay(trace: Trace, server: Server) -> dict[str, Digest]:
    """Make every transaction again in an empty mirror, and give what its tables come to.

    Raises AssertionError where one reads something else than it did.
    """
    mirror = await Mirror.open(server, COMPANY, Subscription(), "the replay")
    async with mirror:
        for number, steps in enumerate(trace.transactions):
            async with mirror.transaction() as connection:
                batch: Batch | None = None
                for step in steps:
                    if isinstance(step, Statement):
                        await connection.execute(step.statement, *step.parameters)
                        continue
                    if batch is None:
                        progress, holding, _ = await mirror._stored(connection)
                        batch = Batch(connection, COMPANY, progress, holding=holding, now=_LATER)
                    await _again(batch, step, number)
    return _tables_of_server(server)


async def _again(batch: Batch, step: Load | Flush, number: int) -> None:
    if isinstance(step, Load):
        await batch.load(step.ids)
        assert {key: batch._before[key] for key in step.ids} == step.before, f"transaction {number}"
        doubts = {key: batch._doubts_before[key] for key in step.ids if key in batch._doubts_before}
        assert doubts == step.doubts, f"transaction {number}"
        return
    assert batch.progress == step.progress, f"transaction {number}"
    for name, value in step.batch.items():
        setattr(batch, name, value)
    for name, value in step.journal.items():
        setattr(batch._journal, name, value)
    await batch.flush(step.now)


_steps: ContextVar[list[Load | Flush | Statement] | None] = ContextVar("steps", default=None)
"""Of the transaction under way; None: nothing is recorded."""


@contextmanager
def _recording_transactions(trace: Trace) -> Iterator[None]:
    """Record what is committed, and what is written beside a batch."""
    begin, execute = MirrorStore.begin, WholeConnection.execute

    @asynccontextmanager
    async def begun(self: MirrorStore) -> AsyncIterator[Any]:
        steps: list[Load | Flush | Statement] = []
        token = _steps.set(steps)
        try:
            async with begin(self) as connection:
                yield connection
        finally:
            _steps.reset(token)
        if steps:
            trace.transactions.append(steps)

    async def executed(self: WholeConnection, statement: Any, *given: Any, **named: Any) -> Any:
        result = await execute(self, statement, *given, **named)
        steps = _steps.get()
        if steps is not None and isinstance(statement, UpdateBase):
            steps.append(Statement(statement, given))
        return result

    with patch.object(MirrorStore, "begin", begun), patch.object(WholeConnection, "execute", executed):
        yield


@contextmanager
def _recording_batches() -> Iterator[None]:
    """Record what batches read and write."""
    load, flush = Batch.load, Batch.flush

    async def loaded(self: Batch, customer_ids: Collection[int]) -> None:
        await load(self, customer_ids)
        steps, ids = _steps.get(), tuple(sorted(set(customer_ids)))
        if steps is not None and ids:
            doubts = {key: self._doubts_before[key] for key in ids if key in self._doubts_before}
            steps.append(Load(ids, {key: self._before[key] for key in ids}, doubts))

    async def flushed(self: Batch, now: datetime) -> None:
        steps, token = _steps.get(), _steps.set(None)
        written = {name: _copy(getattr(self, name)) for name in _WRITTEN}
        journal = {name: _copy(getattr(self._journal, name)) for name in _CHANGES}
        progress = self.progress
        try:
            await flush(self, now)
        finally:
            _steps.reset(token)
        if steps is not None:
            steps.append(Flush(now, progress, written, journal))

    with patch.object(Batch, "load", loaded), patch.object(Batch, "flush", flushed):
        yield


def _copy(value: Any) -> Any:
    """Copy what is changed later; what it holds never changes."""
    return value.copy() if isinstance(value, dict | list | set) else value


def _tables(directory: Path) -> dict[str, Digest]:
    engine = create_engine(f"sqlite:///{directory / 'mirror.db'}", poolclass=NullPool)
    with engine.connect() as connection:
        return {table.name: digest(connection, table) for table in METADATA.sorted_tables}


def _tables_of_server(server: Server) -> dict[str, Digest]:
    engine = create_engine(server.url.replace("postgresql:", "postgresql+psycopg:", 1), poolclass=NullPool)
    with engine.connect() as connection:
        return {table.name: digest(connection, table, SCHEMA) for table in METADATA.sorted_tables}
