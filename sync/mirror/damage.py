"""A file of the mirror that is damaged: found, put aside, and what can be read of it taken over."""

from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple

from sqlalchemy import Connection, Table, insert, select
from sqlalchemy.exc import DatabaseError

from receiver.database import inbox_of
from receiver.integrity import damage_of, forget_damage
from receiver.ownership import Ownership
from receiver.sqlite import looking, open_sync_writer
from sync.mirror.reader import mirror_path
from sync.mirror.schema import METADATA, PROGRESS
from sync.mirror.store import OWNER, migrate_mirror

PURPOSE: Final = "kounta-mirror rebuild"

# What inbox and upstream give again. Half of it would be worse than none: counts are checked against rows.
_MADE_AGAIN: Final = frozenset(
    {
        *(
            "_customers",
            "_customer_tags",
            "_changes",
            "_status",
            "_verifications",
            "_held_deletes",
            "_sweeps",
            "_lost_bodies",
        ),
        *("delivery_verdicts", "_past_verdicts", "_verdict_counts", "_progress"),
    }
)


class PutAside(NamedTuple):
    """What became of a damaged file."""

    finding: str
    """What SQLite says is wrong with it."""
    file: Path
    """Where it lies now."""
    lost: tuple[str, ...]
    """Tables that inbox and upstream do not give again, and of which not every row could be read."""


def put_aside(directory: Path, now: datetime) -> PutAside | None:
    """Put the mirror's file aside if it is damaged, and begin another one; None: it is not damaged.

    Taken over are registrations, tokens, gaps and the like, and the number of the newest change, so that a
    cursor of the feed stays true. Raises OwnedElsewhere while a worker runs.
    """
    path = mirror_path(directory)
    ownership = Ownership.take(directory, OWNER, PURPOSE)
    try:
        finding = damage_of(path)
        if finding is None:
            return None
        aside = _move_aside(path, now)
        forget_damage(path)
        migrate_mirror(directory)
        return PutAside(finding, aside, _take_over(aside, path))
    finally:
        ownership.close()


def put_inbox_aside(directory: Path, now: datetime) -> PutAside | None:
    """Put the inbox's file aside if it is damaged; None: it is not damaged, or there is none.

    The receiver makes another one, with another identity, by which the worker knows that deliveries are
    missing. Raises OwnedElsewhere while a receiver runs.
    """
    path = inbox_of(directory)
    assert isinstance(path, Path)  # noqa: S101 - a directory has files
    with Ownership.take(directory, path.stem, PURPOSE):
        finding = damage_of(path)
        if finding is None:
            return None
        aside = _move_aside(path, now)
        forget_damage(path)
        return PutAside(finding, aside, ())


def _move_aside(path: Path, now: datetime) -> Path:
    aside = path.with_name(f"{path.name}.damaged-{now:%Y%m%dT%H%M%SZ}")
    for end in ("-wal", "-shm", ""):
        with suppress(FileNotFoundError):
            path.with_name(path.name + end).rename(aside.with_name(aside.name + end))
    return aside


def _take_over(damaged: Path, path: Path) -> tuple[str, ...]:
    """Copy what is not made again, as far as it can be read, and name the tables that cannot."""
    engine = open_sync_writer(path)
    try:
        with looking(damaged) as source, engine.begin() as target:
            wanted = [table for table in METADATA.sorted_tables if table.name not in _MADE_AGAIN]
            lost = [table.name for table in wanted if not _is_copied(source, target, table)]
            if not _goes_on_numbering(source, target):
                lost.append(PROGRESS.name)
    finally:
        engine.dispose()
    return tuple(lost)


def _is_copied(source: Connection, target: Connection, table: Table) -> bool:
    try:
        rows = source.execute(select(table)).mappings().all()
    except DatabaseError:
        return False
    if rows:
        target.execute(insert(table), [dict(row) for row in rows])
    return True


def _goes_on_numbering(source: Connection, target: Connection) -> bool:
    try:
        rows = source.execute(select(PROGRESS.c.company_id, PROGRESS.c.seq)).all()
    except DatabaseError:
        return False
    for company_id, seq in rows:
        target.execute(
            insert(PROGRESS).values(company_id=company_id, seq=seq, position=0, missing=0, revision=0)
        )
    return True
