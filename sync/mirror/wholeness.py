"""Database work that is awaited to its end though its caller is cancelled.

A statement that is cancelled goes on in its thread. SQLAlchemy drops its connection and opens another, while
the one before may hold its lock: two that write, where there must be one. So nothing here is left halfway:
a cancellation waits for the statement, and then the transaction is rolled back on the same connection.
"""

import asyncio
from collections.abc import Coroutine
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Generic, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

Result = TypeVar("Result")


async def whole(work: Coroutine[Any, Any, Result]) -> Result:
    """Give what `work` gives. A cancellation meanwhile is raised once `work` has ended."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        if not task.cancelled():
            task.exception()  # seen: the cancellation is what counts
        raise cancelled
    return task.result()


class Whole(Generic[Result]):
    """Enters and leaves another context, each to its end."""

    def __init__(self, context: AbstractAsyncContextManager[Result]) -> None:
        self._context = context

    async def __aenter__(self) -> Result:
        entering = asyncio.ensure_future(self._context.__aenter__())
        try:
            return await whole(_result(entering))
        except asyncio.CancelledError as error:
            if entering.exception() is None:
                await whole(self._leave(type(error), error, error.__traceback__))
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return await whole(self._leave(kind, error, trace))

    async def _leave(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return await self._context.__aexit__(kind, error, trace)


class WholeConnection(AsyncConnection):
    """A connection each of whose statements is awaited to its end."""

    async def execute(self, *given: Any, **named: Any) -> Any:
        """Execute a statement, as AsyncConnection does."""
        return await whole(super().execute(*given, **named))

    async def exec_driver_sql(self, *given: Any, **named: Any) -> Any:
        """Execute a text in SQL, as AsyncConnection does."""
        return await whole(super().exec_driver_sql(*given, **named))

    async def undo(self) -> None:
        """See to it that no transaction is left open: SQLAlchemy rolls none back whose COMMIT has failed."""
        if self.invalidated:
            return  # the server ends the transaction of a connection that is gone
        driver: Any = (await self.get_raw_connection()).driver_connection
        if self.dialect.name != "sqlite":
            if driver.info.transaction_status:  # 0: none is open
                await self.invalidate()
            return
        if driver.in_transaction:
            await driver.rollback()


async def _result(task: "asyncio.Future[Result]") -> Result:
    return await task
