"""Ending a command from outside so that it can still clean up what it began."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final, NoReturn

_LIKE_SIGINT: Final = (signal.SIGTERM, signal.SIGHUP)


@contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGTERM, and a terminal that is closed, end what is done as SIGINT does: KeyboardInterrupt.

    What is ignored (`nohup`) stays ignored.
    """
    heard = [number for number in _LIKE_SIGINT if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, _interrupt) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
