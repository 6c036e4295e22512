"""How the worker's local socket answers a command: a JSON object, or `{"error": sentence}`.

What takes longer than KEEPALIVE_SECONDS is answered in lines of JSON: `{"waiting": seconds}` as long as the
worker is at it, then the object. So a command knows a worker that is busy from one that hangs.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, suppress
from typing import Any, Final

import structlog
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from receiver.database import is_unavailable, unusable
from receiver.errors import MirrorError
from sync.kounta import KountaError

KEEPALIVE_SECONDS: Final = 5.0
WAITING: Final = "waiting"

_log = structlog.get_logger()


class _Unbroken(StreamingResponse):
    """Lines that go on to their end, whoever still reads: a write that has begun is finished and stored."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI
        await self.stream_response(send)


def answering(
    give: Callable[[Request], Awaitable[dict[str, Any]]], *, within: float = KEEPALIVE_SECONDS
) -> Callable[[Request], Awaitable[Response]]:
    """Answer with what `give` gives: 200; 422 for what was asked wrongly, 409 for what cannot be done.

    503 while the database cannot be used. What is not there `within` so many seconds is answered 200, and its
    last line is the object or the error.
    """

    async def answer(request: Request) -> Response:
        work = asyncio.ensure_future(_answer(give, request))
        try:
            await asyncio.wait([work], timeout=within)
        except asyncio.CancelledError:
            work.cancel()
            await asyncio.wait([work])
            raise
        if work.done():
            said, status = work.result()
            return JSONResponse(said, status)
        return _Unbroken(_lines(work, within), media_type="application/jsonl")

    return answer


def complaint(error: Exception) -> dict[str, Any]:
    """Give the sentence of an error, and what became of a write that may have been made all the same."""
    said: dict[str, Any] = {"error": str(error)}
    written_id: int | None = getattr(error, "written_id", None)
    if written_id is not None or getattr(error, "fate_unknown", False):
        said |= {
            "written_id": written_id,
            "fate_unknown": written_id is None,
            "likely_id": getattr(error, "likely_id", None),
        }
    return said


async def kept_alive(
    lines: AsyncGenerator[Mapping[str, Any], None], within: float = KEEPALIVE_SECONDS
) -> AsyncGenerator[Mapping[str, Any], None]:
    """Give `lines` as they come, and `{"waiting": seconds}` whenever none has come for so many seconds."""
    async with aclosing(lines):
        waited = 0.0
        line = asyncio.ensure_future(anext(lines, None))
        try:
            while True:
                await asyncio.wait([line], timeout=within)
                if not line.done():
                    waited += within
                    yield {WAITING: waited}
                    continue
                if (said := line.result()) is None:
                    return
                waited = 0.0
                yield said
                line = asyncio.ensure_future(anext(lines, None))
        finally:
            line.cancel()
            while not line.done():  # a disconnect cancels again and again, and `lines` must not run any more
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([line])


async def _answer(
    give: Callable[[Request], Awaitable[dict[str, Any]]], request: Request
) -> tuple[dict[str, Any], int]:
    try:
        return await give(request), 200
    except ValidationError as error:
        return {"error": "; ".join(problem["msg"] for problem in error.errors())}, 422
    except (KountaError, MirrorError) as error:
        return complaint(error), 409
    except Exception as error:
        if not is_unavailable(error):
            raise
        return {"error": unusable(error)}, 503


async def _lines(work: "asyncio.Future[tuple[dict[str, Any], int]]", within: float) -> AsyncIterator[str]:
    waited = within
    try:
        while not work.done():
            yield json.dumps({WAITING: waited}) + "\n"
            await asyncio.wait([work], timeout=within)
            waited += within
        try:
            said = work.result()[0]
        except Exception as error:  # noqa: BLE001 - whoever asked is told, the worker goes on
            _log.exception("A command broke.", action="command_broken")
            said = {"error": f"A fault of the worker: {type(error).__name__}. Its log says more."}
        yield json.dumps(said) + "\n"
    finally:
        if not work.done():
            work.cancel()
            await asyncio.wait([work])
