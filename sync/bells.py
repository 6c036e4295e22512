"""What wakes the worker: that deliveries of a company have come."""

import asyncio
from collections import defaultdict
from types import TracebackType
from typing import Final, Self

import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_random_exponential

from receiver.database import Place, Server, directory_of, is_unavailable
from receiver.doorbell import Bell, Doorbell
from receiver.inbox import notices
from sync.mirror.store import OWNER

AGAIN_SECONDS: Final = 0.1
"""Between the end of a session that listened and the next one."""

_log = structlog.get_logger()


class Bells:
    """The bells of all companies, rung by the receiver of this machine or by those behind PostgreSQL.

    A ring that is lost costs time alone: whoever waits looks by itself now and then.
    """

    def __init__(self, place: Place, listen_url: str | None) -> None:
        """`listen_url` is where PostgreSQL is reached without a pooler; None: it is the place's."""
        self._place = place
        self._listen_url = listen_url
        self._bells: defaultdict[int, Bell] = defaultdict(Bell)
        self._listening: asyncio.Task[None] | None = None

    def of(self, company_id: int) -> Bell:
        """Give a company's bell; one for whoever waits for it."""
        return self._bells[company_id]

    async def __aenter__(self) -> Self:
        if isinstance(self._place, Server):
            listening = self._listen(self._listen_url or self._place.url)
        else:
            door = Doorbell(directory_of(self._place), OWNER)
            await door.__aenter__()
            listening = self._answer(door)
        self._listening = asyncio.create_task(listening, name="bells")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.wait([self._listening])

    async def _answer(self, door: Doorbell) -> None:
        try:
            while True:
                await door.wait(None)
                self._ring_all()
        finally:
            await door.__aexit__(None, None, None)

    async def _listen(self, url: str) -> None:
        """Listen, and anew whenever PostgreSQL ends it or refuses it: what waits is found by looking."""
        while True:  # each success begins the pauses anew
            policy = AsyncRetrying(
                retry=retry_if_exception(_is_of_postgresql),
                wait=wait_random_exponential(multiplier=0.5, max=15),
                before_sleep=_tell,
            )
            async for attempt in policy:
                with attempt:
                    await self._ring_until_it_ends(url)

    async def _ring_until_it_ends(self, url: str) -> None:
        """Ring at each notice; return when PostgreSQL, having listened, ends it."""
        listens = False
        try:
            async for company in notices(url):
                if company is None:
                    listens = True
                    _log.info("PostgreSQL wakes the worker.", action="listening")
                    self._ring_all()  # whatever rang before somebody listened
                else:
                    self._bells[company].ring()
        except Exception as error:
            if not listens or not _is_of_postgresql(error):
                raise
            _log.warning(_told(error), action="listening_failed")
            await asyncio.sleep(AGAIN_SECONDS)

    def _ring_all(self) -> None:
        for bell in self._bells.values():
            bell.ring()


def _is_of_postgresql(error: BaseException) -> bool:
    """Whether it may end without us: the server is away, or an operator has yet to let us in."""
    return is_unavailable(error) or type(error).__module__.partition(".")[0] == "psycopg"


def _tell(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome is not None else None
    _log.warning(_told(error), action="listening_failed")


def _told(error: BaseException | None) -> str:
    return f"PostgreSQL wakes nobody now, and is looked at every few seconds: {error}"
