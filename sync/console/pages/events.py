"""Something has changed: what a page that is looked at waits for, as server-sent events."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from receiver.database import is_unavailable
from sync.console.pages.office import Office, Visit
from sync.console.refusals import refusal
from sync.mirror.excerpts import state_of

LOOK_SECONDS: Final = 2.0
"""Between two looks: a page is made anew no more often."""
SIGNS: Final = 7
"""Looks between two signs of life when nothing changes."""
MOST: Final = 50
"""Pages that are looked at in one process at once."""


class Events:
    """The streams of a process."""

    def __init__(self, office: Office) -> None:
        self._office = office
        self._watching = 0

    async def of_company(self, visit: Visit) -> Response:
        """Tell what changes in a company."""
        return self._stream(visit.request, lambda: self._state(visit.company_id))

    async def of_all(self, request: Request) -> Response:
        """Tell what changes in any company."""

        async def states() -> list[Any]:
            return [await self._state(company_id) for company_id in self._office.served.settings]

        return self._stream(request, states)

    def _stream(self, request: Request, look: Callable[[], Awaitable[Any]]) -> Response:
        if self._watching >= MOST:
            detail = f"{MOST} pages are looked at already; this one does not change by itself."
            return refusal(request, 503, "unavailable", detail)
        return StreamingResponse(self._tell(look), media_type="text/event-stream")

    async def _tell(self, look: Callable[[], Awaitable[Any]]) -> AsyncIterator[str]:
        self._watching += 1
        try:
            yield "retry: 3000\n\n"
            known, looks = await self._seen(look), 0
            while not self._office.closing.is_set():
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_SECONDS):
                        await self._office.closing.wait()
                        return
                state, looks = await self._seen(look), looks + 1
                if state != known:
                    known, looks = state, 0
                    yield "data: changed\n\n"
                elif looks % SIGNS == 0:
                    yield ": nothing new\n\n"
        finally:
            self._watching -= 1

    async def _seen(self, look: Callable[[], Awaitable[Any]]) -> Any:
        """Look; while the database is away, that is how it is."""
        try:
            return await look()
        except Exception as error:
            if not is_unavailable(error):
                raise
            return "away"

    async def _state(self, company_id: int) -> Any:
        reader = await self._office.inbox.reader()
        head = None if reader is None else await reader.head(company_id)
        errands = [(one.stage, one.done, one.ended_at) for one in self._office.errands.of(company_id)]
        return await state_of(self._office.mirror(company_id)), head, errands
