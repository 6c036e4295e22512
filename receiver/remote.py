"""A connection to PostgreSQL on which an answer is waited for only so long.

A server that hangs, or a network that swallows packets, gives no error for minutes: a webhook must not wait
for it, nor the end of the process. So each connection has a thread that nobody joins, and that is left to
itself when its time is over.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

from receiver import postgresql

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.engine import Connection, Engine

    from receiver.postgresql import Schema

Result = TypeVar("Result")


class RemoteThread:
    """One writing connection, made anew after it was lost or has not answered."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._caller: _Caller | None = None
        self._turn = asyncio.Lock()

    async def transact(self, act: Callable[[Connection], Result], seconds: float) -> Result:
        """Give what `act` gives, once it is committed; an error of `act` or of the commit undoes it all.

        Raises TimeoutError after `seconds`: then nobody knows whether it is committed, or will be.
        """
        async with self._turn:
            caller = self._caller = self._caller or _Caller(self._schema)
            try:
                async with asyncio.timeout(seconds):
                    return await caller.call(act)
            except TimeoutError as error:
                self.close()
                raise TimeoutError(f"{self._schema} has not answered within {seconds:g} s") from error
            except asyncio.CancelledError:
                self.close()
                raise

    def close(self) -> None:
        """End the connection, whatever it is doing."""
        if self._caller is not None:
            self._caller.leave()
            self._caller = None


async def alone(act: Callable[[], Result]) -> Result:
    """Give what `act` gives, in a thread of its own that may outlive everybody."""
    done: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
    threading.Thread(target=_do, args=(act, done), name="alone", daemon=True).start()
    return await done


class _Caller:
    """The thread of one connection; `leave` gives it up for good."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._calls: SimpleQueue[Callable[[Engine], None] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._left = False
        self._socket: socket.socket | None = None
        threading.Thread(target=self._run, name=str(schema), daemon=True).start()

    def call(self, act: Callable[[Connection], Result]) -> asyncio.Future[Result]:
        done: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._calls.put(lambda engine: _do(partial(self._transact, engine, act), done))
        return done

    def leave(self) -> None:
        with self._lock:
            self._left = True
            if self._socket is not None:
                with suppress(OSError):  # it is broken already
                    self._socket.shutdown(socket.SHUT_RDWR)  # wakes the thread, with an error
        self._calls.put(None)

    def _run(self) -> None:
        engine = postgresql.open_sync_engine(self._schema)
        while (call := self._calls.get()) is not None:
            call(engine)
        engine.dispose()

    def _transact(self, engine: Engine, act: Callable[[Connection], Result]) -> Result:
        with engine.connect() as connection:
            driver: Any = connection.connection.driver_connection
            with self._lock:
                if self._left:
                    raise TimeoutError("nobody waits for it any more")
                # a second descriptor: the first may be closed, and its number be another's, at any moment
                self._socket = socket.socket(fileno=os.dup(driver.fileno()))
            try:
                with connection.begin():
                    return act(connection)
            finally:
                with self._lock:
                    self._socket.close()
                    self._socket = None


def _do(act: Callable[[], Result], done: asyncio.Future[Result]) -> None:
    """Do it in this thread, and tell whoever waits in the event loop, if that is still there."""
    tell: Callable[[], None]
    try:
        result = act()
    except BaseException as error:  # noqa: BLE001 - it is raised where somebody waits
        tell = partial(_settle, done, None, error)
    else:
        tell = partial(_settle, done, result, None)
    with suppress(RuntimeError):
        done.get_loop().call_soon_threadsafe(tell)


def _settle(done: asyncio.Future[Any], result: object, error: BaseException | None) -> None:
    if done.done():
        return
    if error is None:
        done.set_result(result)
    else:
        done.set_exception(error)
