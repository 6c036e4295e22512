"""How the worker's local socket answers a command: a JSON object, or `{"error": sentence}`."""

from collections.abc import Awaitable, Callable
from typing import Any

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from receiver.database import is_unavailable, unusable
from receiver.errors import MirrorError
from sync.kounta import KountaError


def answering(
    give: Callable[[Request], Awaitable[dict[str, Any]]],
) -> Callable[[Request], Awaitable[Response]]:
    """Answer with what `give` gives: 200; 422 for what was asked wrongly, 409 for what cannot be done.

    503 while the database cannot be used.
    """

    async def answer(request: Request) -> Response:
        try:
            return JSONResponse(await give(request))
        except ValidationError as error:
            return JSONResponse({"error": "; ".join(problem["msg"] for problem in error.errors())}, 422)
        except (KountaError, MirrorError) as error:
            return JSONResponse({"error": str(error)}, 409)
        except Exception as error:
            if not is_unavailable(error):
                raise
            return JSONResponse({"error": unusable(error)}, 503)

    return answer
