"""A process that reports on the mirror at PATH or URL: canned queries and a read into pandas, on and on.

`begin` on its stdin begins, and it answers `begun`; `stop` ends, once each question was asked at least once:
it answers with how many were, errors of locks, and how many customers the last one saw, as JSON.
"""

import json
import os
import sqlite3
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pandas as pd
import psycopg
from sqlalchemy import NullPool, create_engine, make_url, text

from sync.mirror.queries import QUERIES

LOCKED = (
    psycopg.errors.LockNotAvailable,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.SerializationFailure,
)
GIVEN = {"customer_id": 1, "at": "2099-01-01T00:00:00.000Z"}


def is_locked(error: BaseException) -> bool:
    """Whether a lock of somebody else is why it failed."""
    cause = getattr(error, "orig", error)
    if isinstance(cause, sqlite3.OperationalError):
        return cause.sqlite_errorcode & 0xFF in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
    return isinstance(cause, LOCKED)


def questions(place: str) -> tuple[list[Callable[[], Any]], Callable[[], int]]:
    """Give what is asked, each with a connection of its own, and what counts the customers in pandas."""
    if place.startswith("postgresql"):
        url = make_url(place).set(drivername="postgresql+psycopg")
        engine = create_engine(url, poolclass=NullPool, connect_args={"options": "-c search_path=mirror"})
    else:
        engine = create_engine(f"sqlite:///file:{place}?mode=ro&uri=true", poolclass=NullPool)
    texts = [
        (one.on_postgresql if engine.dialect.name == "postgresql" else one.on_sqlite, one) for one in QUERIES
    ]

    def ask(statement: str, given: dict[str, Any]) -> None:
        with engine.connect() as connection:
            connection.execute(text(statement), given).fetchall()

    asked: list[Callable[[], Any]] = [
        partial(ask, statement, {name: GIVEN[name] for name, _ in one.parameters}) for statement, one in texts
    ]

    def read() -> int:
        return len(pd.read_sql("SELECT * FROM customers", engine))

    return asked, read


class Reporter:
    """Asks in a thread, from `begin` to `stop`."""

    def __init__(self, place: str) -> None:
        self._asked, self._read = questions(place)
        self._stopped = threading.Event()
        self._thread = threading.Thread()
        self.told = {"asked": 0, "locked": 0, "customers": 0}

    def begin(self) -> None:
        self._stopped.clear()
        self.told.update(asked=0, locked=0)
        self._thread = threading.Thread(target=self._report)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _report(self) -> None:
        while True:
            for question in self._asked:
                self._once(question)
            self.told["customers"] = self._once(self._read) or 0
            if self._stopped.is_set():
                return

    def _once(self, question: Callable[[], Any]) -> Any:
        try:
            answer = question()
        except Exception as error:
            if not is_locked(error):
                raise
            self.told["locked"] += 1
            return None
        self.told["asked"] += 1
        return answer


def fail(error: threading.ExceptHookArgs) -> None:
    """End the process by what a report raised: nobody would see it."""
    sys.__excepthook__(error.exc_type, error.exc_value or RuntimeError(), error.exc_traceback)
    os._exit(1)


def main(place: str) -> None:
    threading.excepthook = fail
    reporter = Reporter(place)
    for line in sys.stdin:
        if line == "begin\n":
            reporter.begin()
            answer = "begun"
        else:
            reporter.stop()
            answer = json.dumps(reporter.told)
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1])
