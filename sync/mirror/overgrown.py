"""A log of SQLite that reports, one after the other, keep growing: when to wait for them, how long."""

from pathlib import Path
from typing import Final

from receiver.sqlite import BUSY_SECONDS, WAL_BYTES_KEPT

LARGE_BYTES: Final = WAL_BYTES_KEPT * 5 // 4
"""What is kept of it, and what comes until a checkpoint."""


class Overgrown:
    """Says for how long the writer should wait for readers, so that the log can begin anew.

    A checkpoint of itself waits for nobody: while there is always some report that began before the last
    commit, the log would grow for ever. Whoever holds a transaction open for long is waited for once for
    each LARGE_BYTES.
    """

    def __init__(self, file: Path) -> None:
        self._log = file.with_name(file.name + "-wal")
        self._from = LARGE_BYTES

    def seconds_to_wait(self) -> float:
        """Give the longest wait; 0: the log is not too large, or was waited for already."""
        try:
            size = self._log.stat().st_size
        except OSError:
            size = 0
        if size <= LARGE_BYTES:
            self._from = LARGE_BYTES
        if size <= self._from:
            return 0.0
        self._from = size + LARGE_BYTES
        return min(BUSY_SECONDS, size / LARGE_BYTES)

    def begins_anew(self) -> None:
        """Take note that it did."""
        self._from = LARGE_BYTES
