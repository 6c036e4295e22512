"""What others ask of the receiver over its local socket: it alone may write the inbox."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import AwareDatetime, BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.routing import Route

from receiver.answers import on_failure, on_http_exception

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from receiver.inbox import InboxWriter


class Forget(BaseModel):
    """Retention, as the worker asks for it: it alone knows which deliveries may go."""

    company_id: int
    through: int  # a position, itself included
    before: AwareDatetime  # only deliveries that came before
    keep: frozenset[str] = frozenset()  # names of deliveries that stay


def commands(inbox: InboxWriter) -> Starlette:
    """Make the application of the local socket: `POST /forget` -> `{"forgotten": number}`."""

    async def forget(request: Request) -> Response:
        try:
            asked = Forget.model_validate_json(await request.body())
        except ValidationError as error:
            raise HTTPException(422, "; ".join(str(problem["msg"]) for problem in error.errors())) from error
        gone = await inbox.forget(
            asked.company_id, through=asked.through, before=asked.before, keep=asked.keep
        )
        return JSONResponse({"forgotten": gone})

    return Starlette(
        routes=[Route("/forget", forget, methods=["POST"])],
        exception_handlers={HTTPException: on_http_exception, Exception: on_failure},
    )
