"""The companies of a process that runs: their settings, and what becomes of them when mirror.toml changes."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Generic, TypeAlias, TypeVar

import structlog

from receiver.companies import PLACE, PLAIN, SECRETS, USUAL_PLACE, CompaniesFile
from receiver.errors import SettingsError
from receiver.settings import ENV_FILE, Settings, environment

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

LOOK_SECONDS: Final = 1.0
"""Between two looks. A change is taken up at the second look that finds the files as they are."""

_log = structlog.get_logger()
_OF_A_COMPANY: Final = frozenset({"company_id", *PLAIN, *SECRETS})

_Files: TypeAlias = "dict[Path, tuple[int, ...] | None]"

S = TypeVar("S", bound=Settings)


@dataclass(frozen=True, slots=True)
class Change(Generic[S]):
    """What became of the companies, by their ids; `settings` are those of all of them now."""

    settings: Mapping[int, S]
    added: tuple[int, ...] = ()
    gone: tuple[int, ...] = ()
    changed: tuple[int, ...] = ()


class Companies(Generic[S]):
    """The settings of every company, or of one alone, as each process of an installation needs them.

    They are read when this is made, which raises SettingsError, and again when mirror.toml, a file that it
    names or `.env` is another than before. What is wrong then is told in the log, once, and what was right
    before stays in force. What all companies share is as it was at the start, as long as the process runs.
    """

    def __init__(self, kind: type[S], only: int | None = None, *, look_seconds: float = LOOK_SECONDS) -> None:
        self._kind = kind
        self._only = only
        self._look_seconds = look_seconds
        self._file: CompaniesFile | None = None
        self._paths: frozenset[Path] = frozenset()
        self.settings: Mapping[int, S] = self._load()
        """By the id of the company, in the order of the ids."""
        self.complaint: str | None = None
        """What is wrong with the files as they are now; None: `settings` is what they say."""
        self._judged: _Files = {}
        self._seen: _Files = {}
        self._judge({})

    @property
    def first(self) -> S:
        """Give the settings of one of them, for what all companies share."""
        return next(iter(self.settings.values()))

    async def changes(self) -> AsyncGenerator[Change[S], None]:
        """Give each change when it has been taken up; it never ends."""
        while True:
            await asyncio.sleep(self._look_seconds)
            change = await asyncio.to_thread(self.look)  # a hundred companies take half a second
            if change is not None:
                yield change

    def look(self) -> Change[S] | None:
        """Look at the files once, and give what has changed.

        A change counts when two looks find the files alike: what is still being written may lack its end.
        """
        files = {path: _state(path) for path in self._paths}
        settled = files == self._seen
        self._seen = files
        if files == self._judged or not settled:
            return None
        try:
            found = self._load()
        except SettingsError as error:
            self._complain(str(error))
            return None
        finally:
            self._judge(files)
        if self.complaint is not None:
            self.complaint = None
            _log.info("The companies can be read again.", action="companies_accepted")
        return self._take_up(found)

    def _load(self) -> dict[int, S]:
        file = CompaniesFile.read(environment())
        if file is None and self._file is not None:
            raise SettingsError(
                f"The file {self._file.name} is gone: put it back, or start again without it."
            )
        if self._only is None:
            return self._kind.load_all()
        return {self._only: self._kind.load(self._only)}

    def _judge(self, files: _Files) -> None:
        """Note that the files were read as they are in `files`; one that is not in it is read once more."""
        with suppress(SettingsError):  # it was told; what was named before is watched meanwhile
            told = environment()
            self._file = CompaniesFile.read(told) or self._file
            self._paths = frozenset({Path(told.get(PLACE) or USUAL_PLACE)})
            if self._file is not None:
                self._paths |= {Path(ENV_FILE), *self._file.files}
        self._judged = {path: files.get(path) for path in self._paths}

    def _take_up(self, found: Mapping[int, S]) -> Change[S] | None:
        before = self.settings
        shared = {
            name: getattr(self.first, name) for name in self._kind.model_fields if name not in _OF_A_COMPANY
        }
        self.settings = {id_: settings.model_copy(update=shared) for id_, settings in found.items()}
        change = Change(
            self.settings,
            added=tuple(id_ for id_ in self.settings if id_ not in before),
            gone=tuple(id_ for id_ in before if id_ not in self.settings),
            changed=tuple(id_ for id_, now in self.settings.items() if before.get(id_, now) != now),
        )
        if not (change.added or change.gone or change.changed):
            return None
        told = {"added": change.added, "gone": change.gone, "changed": change.changed}
        _log.info(
            f"The companies have changed: {_listed(told)}.",
            action="companies_changed",
            **{what: list(ids) for what, ids in told.items()},
        )
        return change

    def _complain(self, sentence: str) -> None:
        if sentence != self.complaint:
            self.complaint = sentence
            _log.error(f"{sentence} The companies stay as they were.", action="companies_refused")


def _state(path: Path) -> tuple[int, ...] | None:
    """Give what changes whenever a file does; None: it is not there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _listed(told: Mapping[str, tuple[int, ...]]) -> str:
    return "; ".join(f"{', '.join(map(str, ids))} {what}" for what, ids in told.items() if ids)
