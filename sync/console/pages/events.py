"""Something has changed: what a page that is looked at waits for, as server-sent events."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Final

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from sync.console.pages.office import Office, Visit
from sync.console.refusals import refusal

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
        self._looking: set[asyncio.Future[str]] = set()

    async def of_company(self, visit: Visit) -> Response:
        """Tell what changes in a company."""
        return self._stream(visit.request, lambda: self._office.state(visit.company_id))

    async def of_all(self, request: Request) -> Response:
        """Tell what changes in any company."""
        return self._stream(request, self._office.states)

    def _stream(self, request: Request, look: Callable[[], Awaitable[str]]) -> Response:
        if self._watching >= MOST:
            detail = f"{MOST} pages are looked at already; this one does not change by itself."
            return refusal(request, 503, "unavailable", detail)
        seen = request.query_params.get("seen")
        return StreamingResponse(self._tell(look, seen), media_type="text/event-stream")

    async def _tell(self, look: Callable[[], Awaitable[str]], seen: str | None) -> AsyncIterator[str]:
        self._watching += 1
        try:
            yield "retry: 3000\n\n"
            known, looks = seen or await self._seen(look), 0
            while not self._office.closing.is_set():
                state, looks = await self._seen(look), looks + 1
                if state != known:
                    known, looks = state, 0
                    yield "data: changed\n\n"
                elif looks % SIGNS == 0:
                    yield ": nothing new\n\n"
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_SECONDS):
                        await self._office.closing.wait()
        finally:
            self._watching -= 1

    async def _seen(self, look: Callable[[], Awaitable[str]]) -> str:
        """Look to the end, though whoever watches has gone: a cancelled statement costs its connection."""
        task = asyncio.ensure_future(look())
        self._looking.add(task)
        task.add_done_callback(self._looking.discard)
        return await asyncio.shield(task)
