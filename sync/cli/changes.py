"""The command `changes`: the feed as JSON lines, for programs that follow the mirror."""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import sys
from contextlib import suppress
from pathlib import Path  # noqa: TC003 - cyclopts reads annotations
from typing import TYPE_CHECKING, Final

from receiver.errors import MirrorError
from sync.cli.company import Company  # noqa: TC001 - cyclopts reads annotations
from sync.numbers import whole_number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sync.mirror.feed import Change
    from sync.mirror.reader import MirrorReader
    from sync.settings import MirrorSettings

AT_ONCE: Final = 500
"""Changes between two notes in the cursor file: so many come twice at most after a kill."""
LOOKS_EVERY: Final = 0.5
"""Seconds between two looks at a feed that has nothing new."""
LOOKS: Final = 60
"""After so many looks the mirror is opened anew: it may be another file by then."""
_PIECE: Final = 4096
"""What a pipe takes at once when it says that it takes something (PIPE_BUF)."""
_PATIENCE: Final = 1.0
"""Seconds that whoever reads gets to take the rest of what was begun, once the end is asked for."""


async def changes(
    *,
    since: int | None = None,
    follow: bool = False,
    cursor: Path | None = None,
    company: Company = None,
) -> None:
    """Print the changes of customers as JSON lines, in order: the columns of customer_changes.

    Each change is printed at least once: what was printed last before a kill may come again, and seq tells.

    Parameters
    ----------
    since
        Begin behind this seq; without it, at the beginning of the feed.
    follow
        Go on with what changes from now on, until SIGINT or SIGTERM.
    cursor
        A file that keeps the last seq that was printed: begin behind it, if it is there.
    """
    from sync.settings import MirrorSettings

    settings = MirrorSettings.load(company)
    feed = Feed(settings, Cursor.load(cursor, since or 0))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, feed.stop.set)
    with suppress(ClosedError):
        if follow:
            await feed.follow()
        else:
            await feed.pass_on_all()


class ClosedError(Exception):
    """Nobody reads any more, or the end was asked for and whoever reads does not take the rest."""


class Cursor:
    """The seq of the last change that was printed, kept in a file if there is one."""

    def __init__(self, file: Path | None, seq: int, told: str) -> None:
        self.seq = seq
        self.told = told
        """Who says so, for a sentence."""
        self._file = file

    @classmethod
    def load(cls, file: Path | None, since: int) -> Cursor:
        """Take what the file holds, or `since` when there is none yet."""
        if file is None:
            return cls(None, since, "--since")
        try:
            text = file.read_text(encoding="ascii", errors="replace").strip()
        except FileNotFoundError:
            return cls(file, since, "--since")
        except OSError as error:
            raise MirrorError(f"The cursor file {file} cannot be read: {error.strerror}.") from error
        try:
            seq = whole_number(text)
        except ValueError:
            raise MirrorError(
                f"The cursor file {file} should hold the seq of a change, a number; it holds {text[:40]!r}. "
                "Put the right number there, or remove it to begin with the first change."
            ) from None
        return cls(file, seq, f"the cursor file {file}")

    def keep(self, seq: int) -> None:
        """Store the seq whole, or not at all, whatever happens meanwhile."""
        self.seq = seq
        if self._file is None:
            return
        beside = self._file.with_name(f"{self._file.name}.new")
        try:
            with beside.open("w", encoding="ascii") as written:
                written.write(f"{seq}\n")
                written.flush()
                os.fsync(written.fileno())
            beside.replace(self._file)
        except OSError as error:
            beside.unlink(missing_ok=True)
            raise MirrorError(
                f"The cursor file {self._file} cannot be written: {error.strerror}. "
                "What was printed last will come again."
            ) from error


class Feed:
    """The feed on its way from the mirror to stdout."""

    def __init__(self, settings: MirrorSettings, cursor: Cursor) -> None:
        self.stop = asyncio.Event()
        self._settings = settings
        self._cursor = cursor

    async def follow(self) -> None:
        """Pass on all that is there and that comes, until `stop`."""
        while not self.stop.is_set():
            async with self._mirror() as mirror:
                await self._check(mirror)
                for _ in range(LOOKS):
                    await self._pass_on(mirror)
                    if is_closed(sys.stdout.fileno()):
                        raise ClosedError
                    with suppress(TimeoutError):
                        await asyncio.wait_for(self.stop.wait(), LOOKS_EVERY)
                    if self.stop.is_set():
                        return

    async def pass_on_all(self) -> None:
        """Pass on all that is there."""
        async with self._mirror() as mirror:
            await self._check(mirror)
            await self._pass_on(mirror)

    def _mirror(self) -> MirrorReader:
        from sync.mirror.reader import MirrorReader

        return MirrorReader.look(self._settings.place, self._settings.company_id)

    async def _check(self, mirror: MirrorReader) -> None:
        from sync.mirror.feed import BeyondFeedError, end_of_feed

        end = await end_of_feed(mirror)
        if self._cursor.seq > end:
            raise BeyondFeedError(end, self._cursor.told, self._cursor.seq)

    async def _pass_on(self, mirror: MirrorReader) -> None:
        from sync.mirror.feed import changes_behind

        while not self.stop.is_set():
            found = await changes_behind(mirror, self._cursor.seq, AT_ONCE)
            if not found:
                return
            await put(sys.stdout.fileno(), lines_of(found), self.stop)
            self._cursor.keep(found[-1].seq)


def lines_of(found: Sequence[Change]) -> bytes:
    """Write changes as JSON lines."""
    return "".join(json.dumps(change.as_json()) + "\n" for change in found).encode()


async def put(descriptor: int, data: bytes, stop: asyncio.Event) -> None:
    """Write all of it, as fast as whoever reads takes it. A pipe that nobody empties does not delay the end.

    Raises ClosedError.
    """
    for start in range(0, len(data), _PIECE):
        piece = data[start : start + _PIECE]
        while piece:
            await _taken(descriptor, stop)
            try:
                piece = piece[os.write(descriptor, piece) :]
            except BrokenPipeError:
                raise ClosedError from None


async def _taken(descriptor: int, stop: asyncio.Event) -> None:
    """Wait until `descriptor` takes something. A file always does, and cannot be waited for."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    try:
        loop.add_writer(descriptor, ready.set)
    except OSError:
        return
    waiting = [asyncio.ensure_future(ready.wait()), asyncio.ensure_future(stop.wait())]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if not ready.is_set():
            await asyncio.wait(waiting[:1], timeout=_PATIENCE)
        if not ready.is_set():
            raise ClosedError
    finally:
        loop.remove_writer(descriptor)
        for one in waiting:
            one.cancel()


def is_closed(descriptor: int) -> bool:
    """Whether it is a pipe whose other end is closed."""
    poll = select.poll()
    poll.register(descriptor, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))
