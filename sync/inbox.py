"""The worker's view of the inbox: the file that is there now, whichever receiver has made it."""

from pathlib import Path
from types import TracebackType
from typing import Self

from receiver.database import StoreMissing, schema_revision
from receiver.inbox import InboxReader


def inbox_path(directory: Path) -> Path:
    """Give the file that holds the inbox of a data directory."""
    return directory / "inbox.db"


class InboxView:
    """Opens the inbox when it is there, and anew when the file is another one than before."""

    def __init__(self, directory: Path) -> None:
        self._path = inbox_path(directory)
        self._reader: InboxReader | None = None
        self._file: tuple[int, int] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    async def reader(self) -> InboxReader | None:
        """Give a reader of the inbox; None while no receiver has made one."""
        try:
            status = self._path.stat()
            if (status.st_dev, status.st_ino) != self._file:
                await self._close()
                if schema_revision(self._path) is None:
                    return None
                self._reader = InboxReader.open(self._path)
                self._file = (status.st_dev, status.st_ino)
        except (FileNotFoundError, StoreMissing):
            await self._close()
        return self._reader

    async def _close(self) -> None:
        reader, self._reader, self._file = self._reader, None, None
        if reader is not None:
            await reader.close()
