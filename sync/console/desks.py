"""Desks: one for each company that this process works for, where a person's commands are answered."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, Final, Protocol

from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from receiver.database import is_unavailable
from receiver.errors import MirrorError
from receiver.ownership import OwnedElsewhere
from sync.console.api import create_api
from sync.engine import Engine, open_engine

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sync.settings import WorkerSettings

STARTING_SECONDS: Final = 20.0
"""How long a command waits for a worker that is starting."""
UNKNOWN: Final = "The worker that runs does not serve this company, or is of another version. Start it again."


class Served(Protocol):
    """The companies that the process works for."""

    @property
    def settings(self) -> "Mapping[int, WorkerSettings]":
        """Give the settings of each, by its id."""


class UnavailableError(MirrorError):
    """Nothing can be asked for a company just now; the sentence says why."""


class Desk:
    """What answers about one company, and knows whether anybody still waits."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._waiting = 0
        self._empty = asyncio.Event()
        self._empty.set()

    @contextmanager
    def attended(self) -> "Iterator[Engine]":
        """Count whoever asks until it has its answer."""
        self._waiting += 1
        self._empty.clear()
        try:
            yield self.engine
        finally:
            self._waiting -= 1
            if not self._waiting:
                self._empty.set()

    async def emptied(self, seconds: float) -> None:
        """Wait until all have their answers, but no longer than this."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._empty.wait()


class Desks:
    """The desks of a process, and the application of its local socket, which leads to them."""

    def __init__(self, companies: Served, purpose: str, *, patience: float = STARTING_SECONDS) -> None:
        self._companies = companies
        self._purpose = purpose
        self._patience = patience
        """Seconds that a command waits for this process to open the desk of its company."""
        self._desks: dict[int, Desk] = {}
        """Of the companies whose lease this process holds."""
        self._opened = asyncio.Event()
        """Set, and replaced, whenever a desk opens."""

    def open(self, engine: Engine) -> Desk:
        """Answer for the company of this engine from now on."""
        desk = self._desks[engine.settings.company_id] = Desk(engine)
        self._opened.set()
        self._opened = asyncio.Event()
        return desk

    async def _starting(self, company_id: int) -> Desk | None:
        """Wait for the desk of a company that this process is about to open; None: it does not open."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._patience):
                while company_id not in self._desks:
                    await self._opened.wait()
        return self._desks.get(company_id)

    def close(self, company_id: int) -> None:
        """Let nobody else come to this desk; who is there is answered."""
        del self._desks[company_id]

    @asynccontextmanager
    async def engine(self, company_id: int) -> AsyncIterator[Engine]:
        """Give the engine of a configured company for one thing that a person wants done.

        What another process holds the lease of is asked for here as a command without a worker does. While
        this process is starting, the command waits up to `patience`. Raises UnavailableError.
        """
        desk = self._desks.get(company_id)
        async with AsyncExitStack() as stack:
            if desk is not None:
                engine = stack.enter_context(desk.attended())
            else:
                settings = self._companies.settings[company_id]
                try:
                    engine = await stack.enter_async_context(open_engine(settings, self._purpose))
                except OwnedElsewhere as error:
                    desk = await self._starting(company_id)
                    if desk is None:
                        raise _unavailable(company_id, error) from error
                    engine = stack.enter_context(desk.attended())
                except Exception as error:
                    if not (isinstance(error, MirrorError) or is_unavailable(error)):
                        raise
                    raise _unavailable(company_id, error) from error
            yield engine

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a command: at the root with one company, else below `/companies/ID`."""
        company_id, path = self._meant(scope["path"])
        if company_id not in self._companies.settings:
            answer = JSONResponse({"error": "unknown_company", "detail": UNKNOWN}, 404)
            await answer(scope, receive, send)
            return
        inner = {**scope, "path": path, "raw_path": path.encode()}
        async with AsyncExitStack() as stack:
            try:
                engine = await stack.enter_async_context(self.engine(company_id))
            except UnavailableError as error:
                answer = JSONResponse({"error": "unavailable", "detail": str(error)}, 503)
                await answer(scope, receive, send)
                return
            await create_api(engine)(inner, receive, send)

    def _meant(self, path: str) -> tuple[int, str]:
        """Give the company that a path means, 0: none, and the rest of the path."""
        parts = path.split("/", 3)
        if len(parts) > 3 and parts[1] == "companies" and parts[2].isdecimal():  # noqa: PLR2004 - "", it, id, rest
            return int(parts[2]), f"/{parts[3]}"
        only = list(self._companies.settings)
        return (only[0], path) if len(only) == 1 else (0, path)


def store_failed(error: Exception) -> bool:
    """Whether the store itself could not be used."""
    return is_unavailable(error) and not isinstance(error, MirrorError)


def _unavailable(company_id: int, error: Exception) -> UnavailableError:
    """Say why nothing can be asked for a company just now."""
    reason = str(error)
    if isinstance(error, OwnedElsewhere):
        reason = "It is about to begin, or has failed and begins anew: its log says more. Try again."
    elif store_failed(error):
        reason = f"PostgreSQL cannot be used: {getattr(error, 'orig', None) or error}"
    return UnavailableError(f"The worker does not work for company {company_id} now. {reason}")
