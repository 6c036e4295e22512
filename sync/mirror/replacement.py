"""A file that takes the place of an older one: whole and on the disk, or not at all."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from receiver.errors import MirrorError


def check_place(file: Path, refused: type[MirrorError]) -> None:
    """See that a file can lie there; else raise `refused` with a sentence."""
    if file.is_dir():
        raise refused(f"{file} is a directory. Name a file in it.")
    if not file.parent.is_dir():
        raise refused(f"There is no directory {file.parent}. Make it, or name another file.")


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """Give the path of a part, which takes the place of `file` at the end; nothing is left of it otherwise.

    Whoever writes the part lets it reach the disk (`reach_disk`) once it is known to be right.
    """
    part = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(file)
        reach_disk(file.parent)
    finally:
        for left in (part, *(part.with_name(part.name + end) for end in ("-journal", "-wal", "-shm"))):
            with suppress(OSError):
                left.unlink()


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
