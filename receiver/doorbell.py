"""How the receiver wakes the worker: a byte over a Unix datagram socket, after each commit.

A lost ring costs nothing but time, since the worker also looks by itself now and then.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

from receiver.local import bound, noted

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType


def _note(directory: Path, name: str) -> Path:
    return directory / f"{name}.wake"


class Bell:
    """Rings in one process, for the one who waits there."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()

    def ring(self) -> None:
        """Wake who waits, or will."""
        self._rung.set()

    async def wait(self, timeout: float | None) -> bool:  # noqa: ASYNC109 - a wait that ends is no error here
        """Wait for a ring, at most `timeout` seconds, and give whether it rang; before counts too."""
        try:
            async with asyncio.timeout(timeout):
                await self._rung.wait()
        except TimeoutError:
            return False
        self._rung.clear()
        return True


class Doorbell:
    """The bell of `name` in `directory`, for the one process that owns that name there."""

    def __init__(self, directory: Path, name: str) -> None:
        self._directory = directory
        self._name = name
        self._bell = Bell()
        self._stack = ExitStack()

    async def __aenter__(self) -> Self:
        near = self._directory / f"{self._name}.bell"
        listener = self._stack.enter_context(
            bound(near, _note(self._directory, self._name), socket.SOCK_DGRAM)
        )
        loop = asyncio.get_running_loop()
        loop.add_reader(listener, self._hear, listener)
        self._stack.callback(loop.remove_reader, listener)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    async def wait(self, timeout: float | None) -> bool:  # noqa: ASYNC109 - a wait that ends is no error here
        """Wait for a ring as `Bell` does."""
        return await self._bell.wait(timeout)

    def _hear(self, listener: socket.socket) -> None:
        try:
            while listener.recv(1):
                self._bell.ring()
        except BlockingIOError:
            return


class DoorbellButton:
    """Rings the bell of `name` in `directory` if somebody listens there; never blocks and never fails."""

    def __init__(self, directory: Path, name: str) -> None:
        self._note = _note(directory, name)
        self._place: str | None = None
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)

    def press(self) -> None:
        if self._place is not None and self._send(self._place):
            return
        self._place = noted(self._note)  # its owner has started, or started anew elsewhere
        if self._place is not None:
            self._send(self._place)

    def close(self) -> None:
        self._socket.close()

    def _send(self, place: str) -> bool:
        try:
            self._socket.sendto(b"!", place)
        except BlockingIOError:
            return True  # it rings already and has not been heard yet
        except OSError:
            return False
        return True
