"""The mirror as everyone but a worker sees it: read-only, also while workers write."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from receiver.database import Place, mirror_of, open_reader
from sync.mirror.versions import require_version

MIGRATIONS: Final = "sync:mirror/migrations"


def mirror_path(directory: Path) -> Path:
    """Give the file that holds the mirror of a data directory."""
    return directory / "mirror.db"


class MirrorReader:
    """Reads one company's mirror; any number may, a file in any process of the same user."""

    def __init__(self, reading: AsyncEngine, company_id: int) -> None:
        self.company_id = company_id
        self._reading = reading

    @classmethod
    def look(cls, place: Place, company_id: int) -> Self:
        """Open the mirror that lies there.

        Raises StoreMissing when no worker has made it or brought it up to date yet, and NewerDatabase.
        """
        database = mirror_of(place)
        require_version(database, MIGRATIONS)
        return cls(open_reader(database), company_id)

    async def close(self) -> None:
        """Let the connections go."""
        await self._reading.dispose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """Open a short transaction that reads what is committed, and keeps no writer waiting."""
        async with self._reading.connect() as connection:
            yield connection

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[AsyncConnection]:
        """Open the same in which all statements see one moment; on SQLite every transaction does."""
        async with self._reading.connect() as connection:
            if connection.dialect.name == "postgresql":
                await connection.execution_options(isolation_level="REPEATABLE READ")
            yield connection
