"""The customers of one moment in one file, whichever database has them."""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

from sqlalchemy import Select, func, text
from sqlalchemy.engine import Connection

from receiver.database import Place, mirror_of, open_sync_reader
from receiver.errors import MirrorError
from sync.mirror.customers import NOT_KEPT, check_moment, selected_as_of, selected_now
from sync.mirror.formats import Format, format_of
from sync.mirror.reader import MIGRATIONS
from sync.mirror.replacement import check_place, reach_disk, reason_of, replacing
from sync.mirror.versions import require_version
from sync.mirror.views import CUSTOMERS

AT_ONCE: Final = 1_000
"""Rows that are read at a time."""

_STREAMED: Final = {"stream_results": True, "yield_per": AT_ONCE}

Show = Callable[[int, int], None]
"""What is told of progress: how many customers are written, and of how many."""


class ExportFailed(MirrorError):  # noqa: N818 - it says what is the case
    """Nothing was exported; what lay in its place is still there."""


class Exported(NamedTuple):
    """What was written."""

    customers: int
    bytes: int


def export_customers(
    place: Place,
    file: Path,
    companies: Sequence[int],
    *,
    as_of: datetime | None = None,
    mode: int | None = None,
    show: Show | None = None,
) -> Exported:
    """Write the customers of these companies to `file`, which is replaced once all are on the disk.

    `mode` is that of the file (see `replacing`).

    They come in the order of company and id: the columns of the view `customers`, and with `as_of` those that
    the history keeps. All are of one moment: on SQLite the log grows meanwhile. Raises UnknownFormatError,
    ExtraMissingError, ExportFailed, MomentError, BeforeHistoryError, and StoreMissing or NewerDatabase as for
    every reader.
    """
    made = format_of(file)
    check_place(file, ExportFailed)
    database = mirror_of(place)
    require_version(database, MIGRATIONS)
    engine = open_sync_reader(database)
    try:
        with engine.connect() as connection:
            _stand_still(connection)
            if as_of is not None:
                check_moment(connection, companies, as_of)
            wanted = [_selected(one, as_of) for one in sorted(companies)]
            total = 0 if show is None else sum(_counted(connection, one) for one in wanted)
            columns = [one for one in CUSTOMERS.c if as_of is None or one.name not in NOT_KEPT]
            done = 0
            with replacing(file, mode) as part:
                with (
                    part.open("wb") as opened,
                    _whole(made(opened, columns)) as to,
                    closing(_read(connection, wanted)) as found,
                ):
                    for rows in found:
                        to.write(rows)
                        done += len(rows)
                        if show is not None:
                            show(done, total)
                reach_disk(part)
        return Exported(done, file.stat().st_size)
    except OSError as error:
        raise ExportFailed(f"Nothing could be written to {file}: {reason_of(error)}.") from error
    finally:
        engine.dispose()


def _stand_still(connection: Connection) -> None:
    """Let all statements see one moment, for as long as it takes; on SQLite every transaction does."""
    if connection.dialect.name == "postgresql":
        connection.execution_options(isolation_level="REPEATABLE READ")
        connection.execute(text("SET LOCAL statement_timeout = 0"))


def _selected(company_id: int, as_of: datetime | None) -> Select[*tuple[Any, ...]]:
    if as_of is not None:
        return selected_as_of(company_id, as_of)
    return selected_now(CUSTOMERS.c.company_id == company_id)


def _counted(connection: Connection, wanted: Select[*tuple[Any, ...]]) -> int:
    counted = wanted.with_only_columns(func.count(), maintain_column_froms=True).order_by(None)
    return int(connection.execute(counted).scalar_one())


def _read(
    connection: Connection, wanted: Sequence[Select[*tuple[Any, ...]]]
) -> Generator[Sequence[Any], None, None]:
    for one in wanted:
        with connection.execute(one, execution_options=_STREAMED) as found:
            yield from found.partitions()


@contextmanager
def _whole(to: Format) -> Iterator[Format]:
    try:
        yield to
        to.finish()
    except BaseException:
        to.abandon()
        raise
