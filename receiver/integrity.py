"""Damage of a file of SQLite: found while its owner runs, noted beside it, and shown by every process.

A file is read through again and again, table by table, for a fiftieth of the time at most (decision 0074).
What is found is noted in a file beside it, so that `status` knows it without reading everything itself.

The owner of a file never opens it but through SQLite: closing another descriptor of it would drop SQLite's
locks.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
from contextlib import closing, suppress
from datetime import datetime
from time import monotonic
from typing import TYPE_CHECKING, Final, NamedTuple

import structlog

from receiver.clock import utc_now
from receiver.errors import MirrorError
from receiver.sqlite import connect_read_only

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

CHECK_SECONDS: Final = 5.0
"""Between two checks of a file; longer where a check takes long."""
SHARE: Final = 50
"""After a check, so many times as long passes before the next one."""
FIRST_SECONDS: Final = 1.0
"""How long a start waits for the first check."""
EMPTY: Final = "it has no tables any more"

_log = structlog.get_logger("receiver")


class StoreDamagedError(MirrorError):
    """The file of a store is damaged, and nothing is written to it any more."""

    def __init__(self, file: str, finding: str) -> None:
        super().__init__(f"The file {file} is damaged: {finding}. {way_out(file)}")


class StoreReplacedError(MirrorError):
    """The file of a store was removed or replaced while its owner had it open."""

    def __init__(self, file: str, finding: str) -> None:
        super().__init__(
            f"The file {file} {finding}, so nothing is stored. Put it back, or restart this process."
        )


def way_out(file: str) -> str:
    """Say what to do about a damaged file."""
    owners = "the receiver and the worker" if file == "inbox.db" else "the worker"
    return f"Stop {owners}, then run kounta-mirror rebuild."


class Damage(NamedTuple):
    """What is wrong with the file of a store."""

    file: str
    """Its name, as in "mirror.db"."""
    finding: str
    """What SQLite says of it; or that it was removed or replaced."""
    noticed_at: datetime
    is_replaced: bool = False
    """Whether another file, or none, is at its path; what the owner has open may be whole."""


def damage_of(path: Path, *, seconds: float | None = None, stop: threading.Event | None = None) -> str | None:
    """Say what is wrong with a file of SQLite, having read it through; None: nothing, or there is none.

    With `seconds` or `stop` it is read table by table, and a check that is ended early has found nothing.
    """
    if not path.is_file():
        return None
    by_table = seconds is not None or stop is not None
    until = None if seconds is None else monotonic() + seconds
    try:
        with closing(connect_read_only(path)) as connection:
            names = [name for (name,) in connection.execute(_TABLES)] if by_table else [None]
            for name in names:
                if (stop is not None and stop.is_set()) or (until is not None and monotonic() > until):
                    return None
                checked = "1" if name is None else '"' + name.replace('"', '""') + '"'
                (said,) = connection.execute(f"PRAGMA quick_check({checked})").fetchone()
                found = " ".join(str(said).split())
                if found != "ok":
                    return found
    except sqlite3.OperationalError as error:
        if not is_damage(error) and error.sqlite_errorcode not in _UNREADABLE:
            raise  # locked, or no access: nothing is known of its content
        return str(error)
    except sqlite3.DatabaseError as error:
        return str(error)
    return None if names else EMPTY


_UNREADABLE: Final = {
    sqlite3.SQLITE_IOERR_READ,
    sqlite3.SQLITE_IOERR_SHORT_READ,
    sqlite3.SQLITE_IOERR_CORRUPTFS,
}
"""A disk that does not give a page back; it may yet, and then the file is whole again."""
_TABLES: Final = "SELECT name FROM sqlite_master WHERE type = 'table' AND rootpage > 0"


def is_damage(error: BaseException) -> bool:
    """Whether SQLite has met a damaged page, or a file that is no database."""
    original = getattr(error, "orig", None) or error
    code = getattr(original, "sqlite_errorcode", None)
    return code is not None and (code & 0xFF) in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


class PlacedFile:
    """The file that was at a path when it was opened."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = _file_at(path)

    def replacement(self) -> str | None:
        """Say what became of it: "was removed", "was replaced"; None: it is still there."""
        found = _file_at(self._path)
        if found == self._file:
            return None
        return "was removed while it was open" if found is None else "was replaced while it was open"

    def require(self) -> None:
        """Raise StoreReplacedError unless it is still there."""
        finding = self.replacement()
        if finding is not None:
            raise StoreReplacedError(self._path.name, finding)


def _file_at(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


class FileCheck:
    """Checks one file while a process has it open; `damage` stands until the file is whole again."""

    def __init__(self, path: Path, *, owns: bool, clock: Callable[[], datetime] = utc_now) -> None:
        """`owns`: this process writes it, and nothing may come in its place."""
        self._path = path
        self._placed = PlacedFile(path) if owns else None
        self._clock = clock
        self._stop = threading.Event()
        self._complaint: str | None = None
        self._doubted = False
        self.damage: Damage | None = None

    def suspect(self, error: BaseException) -> None:
        """Take it for damaged until the process ends, if a statement has met damage.

        An error that says that it was removed or replaced is looked into.
        """
        if isinstance(error, StoreReplacedError):
            self._look_at_place()
        if is_damage(error) and self._complaint is None:
            self._complaint = str(getattr(error, "orig", None) or error)
            self._found(self._complaint, is_replaced=False)

    def doubt(self, error: BaseException) -> None:
        """Check it as a whole within seconds, if damage was met that may be of this file or of another."""
        self._doubted = self._doubted or is_damage(error)

    def require(self) -> None:
        """Raise StoreDamagedError or StoreReplacedError if it must not be written."""
        if self.damage is not None:
            kind = StoreReplacedError if self.damage.is_replaced else StoreDamagedError
            raise kind(self._path.name, self.damage.finding)

    async def run(self) -> None:
        """Check it until cancelled; whether it is still at its path every few seconds."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                began_at = loop.time()
                await self.check()
                until = loop.time() + max(CHECK_SECONDS, SHARE * (loop.time() - began_at))
                while (left := until - loop.time()) > 0 and not self._doubted:
                    await asyncio.sleep(min(left, CHECK_SECONDS))
                    self._look_at_place()
        finally:
            self._stop.set()

    async def check(self) -> None:
        """Check it once."""
        self._look_at_place()
        if self.damage is not None and self.damage.is_replaced:
            return
        finding = None
        stop, self._doubted = None if self._doubted else self._stop, False
        try:
            for _ in range(2):  # what is true is seen twice
                finding = await asyncio.to_thread(damage_of, self._path, stop=stop)
                if finding is None:
                    break
        except sqlite3.Error:
            return  # locked, or no access: others say so
        if finding is None and self._complaint is None:
            self._is_whole()
        elif finding is not None and not (finding == EMPTY and self._placed is None):
            self._found(finding, is_replaced=False)

    def _look_at_place(self) -> None:
        finding = self._placed.replacement() if self._placed is not None else None
        if finding is not None:
            self._found(finding, is_replaced=True)
        elif self.damage is not None and self.damage.is_replaced:
            self._is_whole()

    def _found(self, finding: str, *, is_replaced: bool) -> None:
        if self.damage is not None and self.damage.is_replaced == is_replaced:
            return
        self.damage = Damage(self._path.name, finding, self._clock(), is_replaced)
        note_damage(self._path, self.damage)
        if is_replaced:
            sentence = f"{self._path} {finding}: nothing is written to it any more."
            _log.error(sentence, action="store_replaced", file=self._path.name)
        else:
            sentence = f"{self._path} is damaged: {finding}. {way_out(self._path.name)}"
            _log.error(sentence, action="store_damaged", file=self._path.name)

    def _is_whole(self) -> None:
        if self.damage is not None:
            _log.info(f"{self._path} is whole again.", action="store_whole", file=self._path.name)
        if self.damage is not None or self._placed is not None:  # what its owner has noted is the owner's
            forget_damage(self._path)
        self.damage = None


def note_damage(path: Path, damage: Damage) -> None:
    """Note beside a file what is wrong with it; a disk that takes no note has its own sentence."""
    note = {
        "finding": damage.finding,
        "noticed_at": damage.noticed_at.isoformat(),
        "is_replaced": damage.is_replaced,
        "file": _file_at(path),
    }
    part = _note_path(path).with_suffix(".part")
    with suppress(OSError):
        part.write_text(json.dumps(note))
        part.chmod(0o640)
        part.replace(_note_path(path))


def forget_damage(path: Path) -> None:
    """Remove the note beside a file."""
    with suppress(OSError):
        _note_path(path).unlink(missing_ok=True)


def noted_damage(path: Path) -> Damage | None:
    """Read what is noted of a file; None: nothing, or it is of another file that was at its path."""
    try:
        note = json.loads(_note_path(path).read_text())
        damage = Damage(
            path.name, note["finding"], datetime.fromisoformat(note["noticed_at"]), note["is_replaced"]
        )
        file = note["file"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    here = _file_at(path)
    is_of_this = damage.is_replaced or (here is not None and [*here] == file)
    return damage if is_of_this else None


def damages_in(files: Iterable[Path], now: datetime, *, seconds: float = 0.0) -> tuple[Damage, ...]:
    """Give what is noted of these files, and what reading them through for so many seconds shows."""
    found = []
    for path in files:
        damage = noted_damage(path)
        if damage is None and seconds:
            finding = None
            with suppress(sqlite3.Error):  # locked, or no access: others say so
                finding = damage_of(path, seconds=seconds)
            if finding is not None and finding != EMPTY:  # without tables: its owner is about to start
                damage = Damage(path.name, finding, now)
        if damage is not None:
            found.append(damage)
    return tuple(found)


def _note_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.damage")
