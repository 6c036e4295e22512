"""An event loop whose clock jumps to the next timer, and in which everything happens in one thread."""

from __future__ import annotations

import asyncio
import itertools
import selectors
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")


class VirtualLoop(asyncio.SelectorEventLoop):
    """The same calls at the same times give the same order of everything, whatever the machine does.

    Nobody waits for a file or a socket here: what would go to a thread runs in this one, at its turn.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.numbers = itertools.count(1)
        super().__init__(_Jumping(self))
        self.set_task_factory(_numbered)

    def time(self) -> float:
        return self.now

    def run_in_executor(
        self,
        executor: Executor | None,  # noqa: ARG002 - the loop's own thread does it
        func: Callable[[*Arguments], T],
        *args: *Arguments,
    ) -> asyncio.Future[T]:
        """Run it in the loop's own thread, at its next turn."""
        future: asyncio.Future[T] = self.create_future()

        def run() -> None:
            if future.done():
                return
            try:
                result = func(*args)
            except Exception as error:  # noqa: BLE001 - an executor hands over whatever it is
                if not future.done():
                    future.set_exception(error)
            else:
                if not future.done():
                    future.set_result(result)

        self.call_soon(run)
        return future


class _Jumping(selectors.SelectSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("Everybody waits for somebody else: no timer is left in the simulation.")
        self._loop.now += timeout
        return []


class _Task(asyncio.Task[Any]):
    """A task whose place in a set does not depend on where it lies in memory."""

    def __init__(self, coro: Any, *, loop: VirtualLoop, **more: Any) -> None:
        self._number = next(loop.numbers)
        super().__init__(coro, loop=loop, **more)

    def __hash__(self) -> int:
        return self._number


def _numbered(loop: asyncio.AbstractEventLoop, coro: Any, **more: Any) -> asyncio.Task[Any]:
    if not isinstance(loop, VirtualLoop):
        raise TypeError(f"expected a VirtualLoop, not {loop!r}")
    return _Task(coro, loop=loop, **more)
