"""The local socket: how commands reach the process that owns a store.

HTTP over a Unix socket, never TCP. Its place stands in `<directory>/<name>.socket`, since Unix allows about
100 bytes for the path of a socket and a data directory may be deeper.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import tempfile
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn
from starlette.responses import JSONResponse

from receiver.errors import MirrorError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator, Iterator

    import httpx2
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

PATH_BYTES = 90
STOP_SECONDS = 1  # what a command still waiting for its answer gets when its owner stops
_PREFIX = "kounta-mirror-"


@asynccontextmanager
async def serve_locally(app: ASGIApp, directory: Path, name: str) -> AsyncIterator[None]:
    """Serve `app` to the commands of this user, until the block ends.

    Whoever calls holds the `Ownership` of `name` in `directory`: what a killed owner left there is removed.
    Installs no signal handlers. Commands that wait when the block ends are answered 503 `stopping`.
    """
    with bound(directory / f"{name}.sock", directory / f"{name}.socket", socket.SOCK_STREAM) as listener:
        listener.listen()  # from here on a command waits for its answer instead of being refused
        config = uvicorn.Config(
            _Stoppable(app),
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            timeout_graceful_shutdown=STOP_SECONDS,
        )
        server = _Server(config)
        serving = asyncio.create_task(server.serve([listener]), name=f"local socket of {name}")
        try:
            yield
        finally:
            server.stopped.set()
            await serving


def connect_locally(directory: Path, name: str) -> httpx2.AsyncClient | None:
    """Give a client of the owner of `name` in `directory`; None when none answers.

    Paths are relative to the owner's application. No answer is ever too late: a command may take hours.
    """
    import httpx2

    path = noted(directory / f"{name}.socket")
    if path is None:
        return None
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except BlockingIOError:
            pass  # it lives and is busy
        except OSError:
            return None
    no_tls = httpx2.AsyncHTTPTransport(uds=path, verify=False)  # of this machine: it reads no certificates
    return httpx2.AsyncClient(transport=no_tls, base_url="http://owner", timeout=None, trust_env=False)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.stopped = asyncio.Event()

    async def main_loop(self) -> None:
        await self.stopped.wait()  # uvicorn's own looks ten times a second

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield  # the process answers its signals itself


class _Stoppable:
    """Answers a command that is cancelled because its owner stops."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def noticed(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, noticed)
        except asyncio.CancelledError:
            if not started:
                body = {"error": "stopping", "detail": "The process was stopped before it had finished."}
                await JSONResponse(body, status_code=503, headers={"Connection": "close"})(
                    scope, receive, send
                )


@contextmanager
def bound(near: Path, note: Path, kind: socket.SocketKind) -> Iterator[socket.socket]:
    """Bind a Unix socket for this user alone, and write its absolute path to the file `note`.

    It lies at `near`, or in a fresh private directory when that path is too long for a socket. What a killed
    predecessor left behind is removed first. Raises `MirrorError`.
    """
    path = near.resolve()
    _clean(path, note)
    private: Path | None = None
    try:
        if len(os.fsencode(path)) >= PATH_BYTES:
            private = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=_short_directory()))
            path = private / near.name
        listener = socket.socket(socket.AF_UNIX, kind)
        try:
            listener.setblocking(False)
            listener.bind(str(path))
            path.chmod(0o600)  # nobody can connect before it listens
            note.write_text(str(path), encoding="utf-8")
            yield listener
        finally:
            listener.close()
            note.unlink(missing_ok=True)
            path.unlink(missing_ok=True)
    except OSError as error:
        raise MirrorError(f"No local socket can be made at {path}: {error.strerror}.") from error
    finally:
        if private is not None:
            shutil.rmtree(private, ignore_errors=True)


def noted(note: Path) -> str | None:
    """Give the place of the socket that the file `note` names; None when there is no such file."""
    try:
        return note.read_text(encoding="utf-8") or None
    except OSError:
        return None


def _clean(near: Path, note: Path) -> None:
    left = noted(note)
    if left is not None:
        private = Path(left).parent
        with suppress(OSError):
            if private.name.startswith(_PREFIX) and private.stat().st_uid == os.getuid():
                shutil.rmtree(private, ignore_errors=True)
    near.unlink(missing_ok=True)


def _short_directory() -> str:
    usual = tempfile.gettempdir()
    return usual if len(os.fsencode(usual)) < PATH_BYTES // 2 else "/tmp"  # noqa: S108 - mkdtemp makes it ours
