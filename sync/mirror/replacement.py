"""A file that takes the place of an older one: whole and on the disk, or not at all."""

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from receiver.errors import MirrorError

NEW_FILE: Final = 0o640
"""A new export or backup: the user, and a group to share it with."""
PRIVATE: Final = 0o600


def check_place(file: Path, refused: type[MirrorError]) -> None:
    """See that a file can lie there; else raise `refused` with a sentence."""
    if file.is_dir():
        raise refused(f"{file} is a directory. Name a file in it.")
    if not file.parent.is_dir():
        raise refused(f"There is no directory {file.parent}. Make it, or name another file.")


@contextmanager
def replacing(file: Path, mode: int | None = None) -> Iterator[Path]:
    """Give the path of an empty part, which takes the place of `file` at the end; else nothing is left of it.

    The writer of the part lets it reach the disk (`reach_disk`) once it is known to be right. It gets
    `mode`; without it, the mode and group of the file that it replaces; a new file is 0640, or less by the
    umask. At no time may more people read the part than the file.
    """
    part = file.with_name(f".{file.name}.{os.getpid()}.part")
    before = _stat_of(file)
    try:
        is_new = before is None and mode is None
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, NEW_FILE if is_new else PRIVATE))
        yield part
        if before is not None:
            with suppress(PermissionError):  # of a group that this user is not in
                os.chown(part, -1, before.st_gid)
            part.chmod(stat.S_IMODE(before.st_mode))
        if mode is not None:
            part.chmod(mode)
        part.replace(file)
        reach_disk(file.parent)
    finally:
        for left in (part, *(part.with_name(part.name + end) for end in ("-journal", "-wal", "-shm"))):
            with suppress(OSError):
                left.unlink()


def _stat_of(file: Path) -> os.stat_result | None:
    try:
        return file.stat()
    except FileNotFoundError:
        return None


def reach_disk(path: Path) -> None:
    """Wait until a file, or the names in a directory, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def reason_of(error: OSError | sqlite3.Error) -> str:
    """Say in words why a file could not be written."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
