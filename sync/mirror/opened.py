"""The mirror as programs read it: `open_mirror`. Nothing here writes, and nothing needs a loop.

It asks the views of the interface alone, so the role that PostgreSQL has for reporting can do all of it.
"""

import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

from sqlalchemy import func, select
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from receiver.database import Database, mirror_of, open_sync_reader
from receiver.errors import MirrorError
from receiver.postgresql import Schema, checked_url, is_denied
from receiver.settings import CompanyNotChosen, Settings
from sync.mirror.customers import Condition, Customer, Filter, check_moment, selected_all, selected_as_of
from sync.mirror.feed import BeyondFeedError, Change, selected_changes, selected_end
from sync.mirror.reader import MIGRATIONS, mirror_path
from sync.mirror.versions import require_version
from sync.mirror.views import ALL_CUSTOMERS, CUSTOMER_CHANGES, CUSTOMER_VERSIONS, MIRROR_STATUS, json_of

AT_ONCE: Final = 1_000
"""Rows of one transaction."""
_A: Final = ALL_CUSTOMERS.c
_UNKNOWN_THEN: Final[dict[str, Any]] = {"verified_at": None, "partial": None, "deleted_at": None}


class MirrorUnavailable(MirrorError):  # noqa: N818 - it says what is the case
    """The mirror cannot be read now; the same may succeed later."""


class CompanyMissing(MirrorError):  # noqa: N818 - it says what is the case
    """The mirror does not have this company, or nobody said which of several."""


class Status(NamedTuple):
    """The row of `mirror_status`: how far the mirror can be trusted; times are aware, in UTC."""

    company_id: int
    live: int
    deleted: int
    verified: int
    partial: int
    listed_complete: bool
    attributes: list[str]
    oldest_verified_at: datetime | None
    last_delivery_at: datetime | None
    last_applied_at: datetime | None
    last_sweep_at: datetime | None
    verifications_due: int
    drift_rate: float | None

    def as_json(self) -> dict[str, Any]:
        """Give it as commands print it: column -> value; times are ISO 8601 in UTC."""
        return json_of(self)


def open_mirror(where: str | os.PathLike[str] | None = None, company_id: int | None = None) -> "OpenMirror":
    """Open a company's mirror to read it, also while workers write.

    `where` is a data directory, a mirror.db or a backup of one, or the URL of a PostgreSQL; without it the
    settings say so, from the environment and .env. Without `company_id` it is the only company that is there.
    Raises a MirrorError: StoreMissing, NewerDatabase, CompanyMissing, MirrorUnavailable, SettingsError.
    """
    database, company_id = _place(where, company_id)
    connections = _Connections(database)
    try:
        return OpenMirror(connections, _chosen(connections, company_id))
    except BaseException:
        connections.close()
        raise


class OpenMirror:
    """One company's mirror, read-only; any thread may use it. Errors are a MirrorError whose text says why.

    Every page of rows is a transaction of its own, over before the rows are given: whoever takes long over
    them keeps neither a writer waiting nor a log growing.
    """

    def __init__(self, connections: "_Connections", company_id: int) -> None:
        self.company_id = company_id
        self._connections = connections

    def close(self) -> None:
        """Let the connections go."""
        self._connections.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def customer(self, customer_id: int, *, deleted: bool = False) -> Customer | None:
        """Give a customer; None: there is none that lives, or with `deleted` none at all."""
        return next(iter(self._customers([_A.id == customer_id], deleted=deleted)), None)

    def customers(  # noqa: PLR0913 - each is optional, and named by whoever calls
        self,
        *,
        city: str | None = None,
        tag: str | None = None,
        email: str | None = None,
        phone: str | None = None,
        reference_id: str | None = None,
        changed_since: datetime | None = None,
        unconfirmed: bool | None = None,
        deleted: bool = False,
        as_of: datetime | None = None,
    ) -> Iterator[Customer]:
        """Give the customers that have all of this, in the order of their ids, page by page.

        `city` is the primary one; `email` is found in any case; `phone` is phone or mobile; `unconfirmed`
        True gives those that rest on a webhook alone or are known in part only, False the others; with
        `deleted` also those that are deleted. `as_of` an earlier moment gives them as the mirror had them
        then. Pages are of different moments: `kounta-mirror export` gives all as of one.

        Raises ValueError for a time without a zone and for what does not go together, MomentError for a
        future `as_of`, BeforeHistoryError for one before the mirror began.
        """
        wanted = Filter(city, tag, email, phone, reference_id, changed_since, unconfirmed)
        for name, moment in (("changed_since", changed_since), ("as_of", as_of)):
            if moment is not None and moment.tzinfo is None:
                raise ValueError(f"{name} should have a time zone, such as tzinfo=UTC; came {moment!r}.")
        if as_of is None:
            return self._pages(wanted, deleted=deleted)
        if deleted or unconfirmed is not None:
            raise ValueError("as_of goes with neither deleted nor unconfirmed: the history keeps neither.")
        with self._connections.reading() as connection:
            check_moment(connection, [self.company_id], as_of)
        return self._pages_then(wanted, as_of)

    def changes(self, since: int = 0) -> Iterator[Change]:
        """Give the changes whose `seq` is above `since`, in order, up to what is the last one now.

        Raises ValueError for a `since` below 0, and BeyondFeedError for one that the feed has not come to: it
        is of another mirror, or this one was made anew.
        """
        return self._changes(since, self._end(since))

    def follow(self, since: int = 0, *, every: float = 0.5) -> Iterator[Change]:
        """Give the same, and go on with what changes from now on, for ever; looks `every` so many seconds.

        Keep the `seq` of what was dealt with, and begin behind it after a restart. Raises as `changes` does,
        also when the mirror is made anew meanwhile.
        """
        self._end(since)
        return self._follow(since, every)

    def status(self) -> Status:
        """Give how far the mirror can be trusted."""
        columns = (MIRROR_STATUS.c[name] for name in Status._fields)
        statement = select(*columns).where(MIRROR_STATUS.c.company_id == self.company_id)
        with self._connections.reading() as connection:
            return Status(*connection.execute(statement).one())

    def _customers(
        self, conditions: Sequence[Condition], *, deleted: bool, behind: int = 0, few: bool = False
    ) -> list[Customer]:
        alive = () if deleted else (_A.deleted_at.is_(None),)
        statement = selected_all(self.company_id, *alive, *conditions, behind=behind, few=few)
        with self._connections.reading() as connection:
            return [Customer(*row) for row in connection.execute(statement.limit(AT_ONCE))]

    def _pages(self, wanted: Filter, *, deleted: bool) -> Iterator[Customer]:
        last, conditions = 0, wanted.now(self.company_id)
        while page := self._customers(conditions, deleted=deleted, behind=last, few=wanted.few):
            yield from filter(wanted.fits, page)
            last = page[-1].id

    def _pages_then(self, wanted: Filter, moment: datetime) -> Iterator[Customer]:
        last = 0
        while True:
            behind = CUSTOMER_VERSIONS.c.customer_id > last
            statement = selected_as_of(self.company_id, moment, behind, *wanted.then()).limit(AT_ONCE)
            with self._connections.reading() as connection:
                rows = connection.execute(statement).mappings().all()
            page = [Customer(**row, **_UNKNOWN_THEN) for row in rows]
            if not page:
                return
            yield from filter(wanted.fits, page)
            last = page[-1].id

    def _changes(self, since: int, end: int) -> Iterator[Change]:
        c = CUSTOMER_CHANGES.c
        while since < end:
            statement = selected_changes(self.company_id, c.seq > since, c.seq <= end, limit=AT_ONCE)
            with self._connections.reading() as connection:
                page = [Change(*row) for row in connection.execute(statement)]
            if not page:
                return
            yield from page
            since = page[-1].seq

    def _follow(self, since: int, every: float) -> Iterator[Change]:
        while True:
            end = self._end(since)
            yield from self._changes(since, end)
            since = end
            time.sleep(every)

    def _end(self, since: int) -> int:
        """Give the number of the newest change, having seen that `since` is not behind it."""
        if since < 0:
            raise ValueError(f"since should be the seq of a change, or 0 for all of them; came {since}.")
        with self._connections.reading() as connection:
            end = connection.execute(self._selected_end()).scalar() or 0
        if since > end:
            raise BeyondFeedError(end, "since", since)
        return end

    def _selected_end(self) -> Any:
        """Select how far the feed has come; views alone do not know of a last change that was taken out."""
        if self._connections.sees_all:
            return selected_end(self.company_id)
        c = CUSTOMER_CHANGES.c
        return select(func.max(c.seq)).where(c.company_id == self.company_id)


class _Connections:
    """Connections that read; of a file that has taken the place of another they are made anew."""

    def __init__(self, database: Database) -> None:
        self._database = database
        with self._sentences():
            self.sees_all = _is_checked(database)
        self._engine = open_sync_reader(database)
        self._file = self._identity()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Open a short transaction."""
        with self._sentences():
            if self._file != (found := self._identity()):
                self._engine.dispose()
                self._file = found
            with self._engine.connect() as connection:
                yield connection

    def close(self) -> None:
        self._engine.dispose()

    def _identity(self) -> tuple[int, int] | None:
        if isinstance(self._database, Schema):
            return None
        found = self._database.stat()
        return found.st_dev, found.st_ino

    @contextmanager
    def _sentences(self) -> Iterator[None]:
        try:
            yield
        except (DBAPIError, PoolTimeout, sqlite3.Error, OSError) as error:
            reason = str(getattr(error, "orig", None) or error).partition("\n")[0]
            raise MirrorUnavailable(f"{self._database} cannot be read: {reason}.") from error


def _is_checked(database: Database) -> bool:
    """Check the version of the schema; False: only its views may be read, whose columns stay."""
    try:
        require_version(database, MIGRATIONS)
    except DBAPIError as error:
        if not is_denied(error):
            raise
        return False
    return True


def _place(where: str | os.PathLike[str] | None, company_id: int | None) -> tuple[Database, int | None]:
    if where is None:
        try:
            settings = Settings.load(company_id)
        except CompanyNotChosen as error:
            raise CompanyMissing(str(error).replace("--company ID", "company_id=ID")) from None
        return mirror_of(settings.place), settings.company_id
    text = os.fspath(where)
    if "://" in text:
        try:
            return Schema(checked_url(text), "mirror"), company_id
        except ValueError as error:
            raise MirrorError(f"This URL cannot be used: {error}.") from None
    path = Path(text).absolute()
    return mirror_path(path) if path.is_dir() else path, company_id


def _chosen(connections: _Connections, company_id: int | None) -> int:
    """Give the company that is meant, which has to be there."""
    statement = select(MIRROR_STATUS.c.company_id).order_by(MIRROR_STATUS.c.company_id)
    with connections.reading() as connection:
        there: list[int] = list(connection.execute(statement).scalars())
    listed = ", ".join(map(str, there))
    if company_id is not None:
        if company_id in there:
            return company_id
        raise CompanyMissing(f"The mirror does not have company {company_id}; it has {listed or 'none yet'}.")
    if not there:
        raise CompanyMissing("The mirror has no company yet: the worker fills it.")
    if len(there) > 1:
        raise CompanyMissing(f"The mirror has several companies ({listed}): say which with company_id=ID.")
    return there[0]
