"""The worker's view of the inbox: what is there now, whichever receiver has made it."""

import asyncio
from pathlib import Path
from types import TracebackType
from typing import Self

from receiver.database import Database, Place, StoreMissing, inbox_of
from receiver.errors import MirrorError
from receiver.inbox import InboxReader
from receiver.inbox.schema import MIGRATIONS
from receiver.postgresql import Schema
from sync.mirror.versions import require_version


def inbox_path(directory: Path) -> Path:
    """Give the file that holds the inbox of a data directory."""
    return directory / "inbox.db"


class InboxView:
    """Opens the inbox when it is there, and anew when the file is another one than before."""

    def __init__(self, place: Place) -> None:
        self._database = inbox_of(place)
        self._reader: InboxReader | None = None
        self._file: tuple[int, int] | None = None
        self._opening = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    async def reader(self) -> InboxReader | None:
        """Give a reader of the inbox; None while no receiver has made one.

        Raises NewerDatabase when a receiver of a later version has made it.
        """
        async with self._opening:  # several loops look through one view
            return await self._found()

    async def _found(self) -> InboxReader | None:
        if isinstance(self._database, Schema):
            return await self._reader_of_schema(self._database)
        path = self._database
        try:
            status = path.stat()
            if (status.st_dev, status.st_ino) != self._file:
                await self._close()
                require_version(path, MIGRATIONS)
                self._reader = await _opened(path)
                self._file = (status.st_dev, status.st_ino) if self._reader is not None else None
        except (FileNotFoundError, StoreMissing):
            await self._close()
        return self._reader

    async def _reader_of_schema(self, schema: Schema) -> InboxReader | None:
        if self._reader is None:
            try:
                await asyncio.to_thread(require_version, schema, MIGRATIONS)
            except StoreMissing:
                return None
            self._reader = await _opened(schema)
        return self._reader

    async def _close(self) -> None:
        reader, self._reader, self._file = self._reader, None, None
        if reader is not None:
            await reader.close()


async def _opened(database: Database) -> InboxReader | None:
    """Open the inbox if it has its identity: the receiver gives it one just after the tables."""
    reader = InboxReader.open(database)
    try:
        await reader.identity()
    except MirrorError:
        await reader.close()
        return None
    except BaseException:
        await reader.close()
        raise
    return reader
