"""A consistent copy of the mirror in one file of SQLite, which anyone may open: no log beside it, no secrets.

Of a file it is a copy page by page, of a schema on PostgreSQL row by row; both as they were at one moment.
"""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Engine, Table, delete, insert, select, text

from receiver import postgresql
from receiver.database import Database, Place, inbox_of, migrate, mirror_of
from receiver.digest import at_once
from receiver.errors import MirrorError
from receiver.postgresql import Schema
from receiver.sqlite import looking, open_sync_writer
from sync.mirror.reader import MIGRATIONS
from sync.mirror.replacement import check_place, reach_disk, reason_of, replacing
from sync.mirror.schema import METADATA, TAGS, TOKENS
from sync.mirror.versions import require_version

PAGES_AT_ONCE: Final = 2_000
_BEGINS_WITH: Final = b"SQLite format 3\0"

Show = Callable[[int, int | None], None]
"""What is told of progress: how much is done, and of how much; pages of a file, rows of a schema."""


class BackupFailed(MirrorError):  # noqa: N818 - it says what is the case
    """No copy was made; what lay in its place is still there."""


def back_up(
    place: Place,
    file: Path,
    *,
    company_id: int | None = None,
    mode: int | None = None,
    show: Show = lambda *_: None,
) -> None:
    """Copy the mirror of `place` to `file`, which is replaced once the copy is complete and was checked.

    With `company_id` it holds that company alone. OAuth tokens stay out of it. Nobody has to stop meanwhile.
    `mode` is that of the file (see `replacing`).
    Raises BackupFailed, and StoreMissing or NewerDatabase as for every reader.
    """
    database = mirror_of(place)
    require_version(database, MIGRATIONS)
    _refuse_to_replace(file, place)
    try:
        with replacing(file, mode) as part:
            _copy(database, part, show)
            _shorten(part, company_id)
            _check(part)
    except (OSError, sqlite3.Error) as error:
        raise BackupFailed(f"No copy could be written to {file}: {reason_of(error)}.") from error


def _refuse_to_replace(file: Path, place: Place) -> None:
    """See that nothing is lost: neither a store nor what is no copy of one."""
    stores = [one for one in (mirror_of(place), inbox_of(place)) if isinstance(one, Path)]
    if file.resolve() in {store.resolve() for store in stores}:
        raise BackupFailed(f"{file} is the store itself. Name another file for the copy.")
    check_place(file, BackupFailed)
    if file.exists():
        try:
            with file.open("rb") as there:
                begins = there.read(len(_BEGINS_WITH))
        except OSError as error:
            raise BackupFailed(f"{file} cannot be read: {error.strerror}.") from error
        if begins and begins != _BEGINS_WITH:
            raise BackupFailed(f"{file} is there and no database: it is not replaced. Name another file.")


def _copy(database: Database, part: Path, show: Show) -> None:
    if isinstance(database, Schema):
        _copy_rows(database, part, show)
        return
    with looking(database) as connection, closing(sqlite3.connect(part)) as into:
        connection.execute(text("SELECT count(*) FROM sqlite_master"))  # from here on it reads this moment
        driver: Any = connection.connection.driver_connection
        driver.backup(
            into, pages=PAGES_AT_ONCE, progress=lambda _, left, total: show(total - left, total), sleep=0
        )


def _copy_rows(schema: Schema, part: Path, show: Show) -> None:
    migrate(part, MIGRATIONS)
    source, target = postgresql.open_sync_engine(schema), open_sync_writer(part)
    try:
        with source.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
            connection.execute(text("SET LOCAL statement_timeout = 0"))
            done = 0
            for table in METADATA.sorted_tables:
                if table in (TAGS, TOKENS):  # triggers fill the one; the other holds secrets
                    continue
                done = _copy_table(connection, target, table, done, show)
    finally:
        target.dispose()
        source.dispose()


def _copy_table(source: Any, target: Engine, table: Table, done: int, show: Show) -> int:
    found = source.execute(
        select(table), execution_options={"stream_results": True, "yield_per": at_once(table)}
    )
    with target.begin() as connection:
        for rows in found.mappings().partitions():
            connection.execute(insert(table), [dict(row) for row in rows])
            done += len(rows)
            show(done, None)
    return done


def _shorten(part: Path, company_id: int | None) -> None:
    """Take out what is not for those who open it, and leave one file that needs no log."""
    engine = open_sync_writer(part)
    try:
        with engine.begin() as connection:
            connection.execute(delete(TOKENS))
            if company_id is not None:
                for table in METADATA.sorted_tables:
                    connection.execute(delete(table).where(table.c.company_id != company_id))
    finally:
        engine.dispose()
    with closing(sqlite3.connect(part)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")


def _check(part: Path) -> None:
    """See that the copy is whole, and let it reach the disk."""
    with closing(sqlite3.connect(part)) as connection:
        ((found,),) = connection.execute("PRAGMA quick_check(1)").fetchall()
    if found != "ok":
        raise BackupFailed(
            f"The copy is damaged ({found}), so the mirror may be, too: kounta-mirror doctor says more."
        )
    reach_disk(part)
