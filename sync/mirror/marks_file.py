"""The marks of erased people beside the databases, so that restoring one of these forgets nobody.

A file of JSON lines in the data directory, which only grows: of two lines about one person the later word
holds. It names nobody (decision 0040).
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from pydantic import AwareDatetime, BaseModel, ValidationError

from receiver.errors import MirrorError
from sync.mirror.erasure import Mark

NAME: Final = "erased.jsonl"


class _Line(BaseModel):
    company_id: int
    mark: str
    key_id: str
    erased_at: AwareDatetime
    returned_at: AwareDatetime | None = None


class MarksFile:
    """The file of one data directory; the marks of one company in it."""

    def __init__(self, directory: Path, company_id: int) -> None:
        self._path = directory / NAME
        self._company_id = company_id

    def read(self) -> dict[str, Mark]:
        """Give what it says of each mark last. Raises MirrorError when the file is there and cannot be read.

        A line that a kill has cut off is passed over: the database has it, too.
        """
        found: dict[str, Mark] = {}
        for line in self._content().splitlines():
            try:
                said = _Line.model_validate_json(line)
            except ValidationError:
                continue
            mark = Mark(said.mark, said.key_id, said.erased_at, returned_at=said.returned_at)
            if said.company_id == self._company_id and is_later(mark, found.get(mark.mark)):
                found[mark.mark] = mark
        return found

    def keep(self, marks: Iterable[Mark]) -> None:
        """Add what is said of these now, so that it is on disk. Raises MirrorError when that fails."""
        lines = [
            _Line(company_id=self._company_id, **mark._asdict()).model_dump_json() + "\n" for mark in marks
        ]
        if not lines:
            return
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
            try:
                os.write(descriptor, ("\n" + "".join(lines)).encode())  # a line before may be cut off
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise MirrorError(
                f"{self._path} cannot be written: {error.strerror}. It keeps erased people out after a "
                "backup is restored; mend that, and try again."
            ) from error

    def _content(self) -> bytes:
        try:
            return self._path.read_bytes()
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise MirrorError(f"{self._path} cannot be read: {error.strerror}.") from error


def is_later(one: Mark, other: Mark | None) -> bool:
    """Whether `one` is the later word about a person."""
    return other is None or _said_at(one) > _said_at(other)


def _said_at(mark: Mark) -> tuple[int, bool]:
    """Say when, in milliseconds, as databases keep times."""
    last = max(mark.erased_at, mark.returned_at or mark.erased_at)
    return int(last.timestamp() * 1000), mark.returned_at is not None
