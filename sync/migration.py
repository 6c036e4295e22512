"""Bringing both stores to this version, and moving them from the files of a data directory to PostgreSQL."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from receiver.copying import (
    Copied,
    CopiesDiffer,
    CopyFailed,
    brought_up_to_date,
    compare,
    copy,
    count,
    filling,
    require_empty,
)
from receiver.database import Place, Server, inbox_of, migrate
from receiver.inbox.copying import INBOX
from receiver.inbox.schema import MIGRATIONS
from receiver.ownership import Ownership
from receiver.sqlite import looking
from sync.mirror.copying import MIRROR
from sync.mirror.store import OWNER, migrate_mirror

COPYING: Final = "Copying rows"
COMPARING: Final = "Comparing rows"
Show = Callable[[str, int, int], None]
"""What is told of progress: the stage, how many rows are done, and how many there are."""

_PURPOSE: Final = "kounta-mirror migrate"
_STORES: Final = (INBOX, MIRROR)


def bring_up_to_date(place: Place) -> None:
    """Bring both stores to this version. Raises OwnedElsewhere while a process has a file of them."""
    with ExitStack() as stack:
        if isinstance(place, Path):
            _own(stack, place)
        migrate(inbox_of(place), MIGRATIONS)
        migrate_mirror(place)


def move(directory: Path, server: Server, show: Show) -> Copied:
    """Copy both stores of `directory` into the empty schemas of `server`, and compare every table.

    All in one transaction, which is kept only if every table is equal; the files are only read. Raises
    CopyFailed or OwnedElsewhere, or what a migration raises: then nothing was copied.
    """
    files = {store: store.file(directory) for store in _STORES if store.file(directory).is_file()}
    if not files:
        raise CopyFailed(
            f"There is neither inbox.db nor mirror.db in {directory}: name the directory that "
            "MIRROR_DATA_DIR named while they were written."
        )
    with ExitStack() as stack:
        _own(stack, directory)
        current = {
            store: stack.enter_context(brought_up_to_date(file, store.migrations))
            for store, file in files.items()
        }
        sources = {store: stack.enter_context(looking(file)) for store, file in current.items()}
        bring_up_to_date(server)
        with filling(server.url) as target:
            for store in _STORES:
                require_empty(target, store)
            rows = sum(count(source, store) for store, source in sources.items())
            copied = Copied()
            passed = _shown(show, COPYING, rows)
            for store, source in sources.items():
                copied.mended += copy(source, target, store, passed)
            passed = _shown(show, COMPARING, 2 * rows)
            for store, source in sources.items():
                copied.tables += compare(source, target, store, passed)
            if copied.differing:
                raise CopiesDiffer(copied)
        return copied


def _own(stack: ExitStack, directory: Path) -> None:
    for name in (INBOX.name, OWNER):
        stack.enter_context(Ownership.take(directory, name, _PURPOSE))


def _shown(show: Show, stage: str, rows: int) -> Callable[[int], None]:
    done = 0

    def passed(more: int) -> None:
        nonlocal done
        done += more
        show(stage, done, rows)

    return passed
