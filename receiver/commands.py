"""What others ask of the receiver over its local socket: it alone may write the inbox."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, TypeVar

from pydantic import AwareDatetime, BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

from receiver.answers import on_failure, on_http_exception
from receiver.capture import AlreadyListening

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request
    from starlette.responses import Response

    from receiver.capture import Capture
    from receiver.inbox import InboxWriter


Asked = TypeVar("Asked", bound=BaseModel)


class Forget(BaseModel):
    """Retention, as the worker asks for it: it alone knows which deliveries may go."""

    company_id: int
    through: int  # a position, itself included
    before: AwareDatetime  # only deliveries that came before
    keep: frozenset[str] = frozenset()  # names of deliveries that stay


class CaptureAsked(BaseModel):
    """Whose refused requests are to be told."""

    company_id: int


class Erase(BaseModel):
    """Erasure, as the worker asks for it: it alone knows whom a delivery is about."""

    company_id: int
    deliveries: frozenset[str]


def commands(inbox: InboxWriter, capture: Capture) -> Starlette:
    """Make the application of the local socket.

    `POST /forget` -> `{"forgotten": number}`. `POST /erase` -> `{"dropped": number, "clean": whether no old
    page holds it any more}`; beside PostgreSQL of what waits on this machine. `POST /capture` -> lines of
    JSON: an empty object once it has begun, then each refused request of a company while somebody reads.
    """

    async def forget(request: Request) -> Response:
        asked = await _asked(Forget, request)
        gone = await inbox.forget(
            asked.company_id, through=asked.through, before=asked.before, keep=asked.keep
        )
        return JSONResponse({"forgotten": gone})

    async def erase(request: Request) -> Response:
        asked = await _asked(Erase, request)
        dropped = await inbox.drop_bodies(asked.company_id, asked.deliveries)
        return JSONResponse({"dropped": dropped.number, "clean": dropped.clean})

    async def tell_refused(request: Request) -> Response:
        asked = await _asked(CaptureAsked, request)
        return StreamingResponse(_refused(capture, asked.company_id), media_type="application/jsonl")

    return Starlette(
        routes=[
            Route("/forget", forget, methods=["POST"]),
            Route("/erase", erase, methods=["POST"]),
            Route("/capture", tell_refused, methods=["POST"]),
        ],
        exception_handlers={HTTPException: on_http_exception, Exception: on_failure},
    )


async def _asked(model: type[Asked], request: Request) -> Asked:
    try:
        return model.model_validate_json(await request.body())
    except ValidationError as error:
        raise HTTPException(422, "; ".join(str(problem["msg"]) for problem in error.errors())) from error


async def _refused(capture: Capture, company_id: int) -> AsyncIterator[str]:
    try:
        with capture.listening(company_id) as told:
            yield "{}\n"
            while True:
                yield (await told.get()).as_json() + "\n"
    except AlreadyListening as error:
        yield json.dumps({"error": str(error)}) + "\n"
