"""Who owns a store: at most one process, held by a lock of the operating system."""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from receiver.clock import utc_now
from receiver.errors import MirrorError

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType


class OwnedElsewhere(MirrorError):  # noqa: N818 - it says what is the case
    """Another process owns the store."""


class Ownership:
    """The lock on `<directory>/<name>.lock`, until `close` or the end of the process, however it ends.

    The file stays when the lock goes: removing it would let two processes lock two files of one name.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor

    @classmethod
    def take(cls, directory: Path, name: str, purpose: str) -> Self:
        """Own `name` in `directory`, which is made (0750) if it is missing.

        `purpose` is what another owner-to-be is told, as in "the receiver". Raises `OwnedElsewhere`, or
        `MirrorError` when the directory cannot serve.
        """
        make_directory(directory)
        path = directory / f"{name}.lock"
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except OSError as error:
            raise MirrorError(f"{path} cannot be opened for writing: {error.strerror}.") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            sentence = (
                f"{directory} already has an owner for {name!r}: {_owner(descriptor)}. Stop that one first."
            )
            os.close(descriptor)
            raise OwnedElsewhere(sentence) from error
        except OSError as error:
            os.close(descriptor)
            raise MirrorError(f"{path} cannot be locked: {error.strerror}.") from error
        since = utc_now().isoformat(timespec="seconds")
        note = json.dumps({"pid": os.getpid(), "purpose": purpose, "since": since})
        with suppress(OSError):  # a full disk takes the note away, not the lock
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, note.encode(), 0)
        return cls(descriptor)

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def make_directory(directory: Path) -> None:
    """Make the data directory, readable by its user and group alone, or say why it cannot serve."""
    try:
        directory.mkdir(mode=0o750, parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise MirrorError(
            f"The data directory {directory} is not a directory. Name another one in MIRROR_DATA_DIR."
        ) from error
    except OSError as error:
        raise MirrorError(
            f"The data directory {directory} cannot be made: {error.strerror}. "
            "Name another one in MIRROR_DATA_DIR."
        ) from error
    if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
        raise MirrorError(
            f"The data directory {directory} is not writable by this user. "
            "Change its owner, or name another one in MIRROR_DATA_DIR."
        )


def _owner(descriptor: int) -> str:
    try:
        note = json.loads(os.pread(descriptor, 4096, 0))
        return f"{note['purpose']}, process {note['pid']}, since {note['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process, which has not yet written who it is"
