"""The console's Starlette application: health for everybody, the rest behind the password."""

import base64
import binascii
import secrets
from collections.abc import Awaitable, Callable, Sequence

import structlog
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from sync.console.pages.guard import Guarded
from sync.console.refusals import OPEN, on_refused, refusal

_log = structlog.get_logger()


def create_console(
    scrape: Callable[[], Awaitable[bytes]],
    gets_on: Callable[[], bool],
    password: SecretStr | None,
    *,
    host: str = "127.0.0.1",
    pages: Sequence[BaseRoute] = (),
) -> Starlette:
    """Make the application; `scrape` renders the metrics, `gets_on` says whether work makes progress.

    `host` is where it listens; on loopback it answers to no other name.
    """

    async def healthz(_request: Request) -> Response:
        return JSONResponse({"status": "alive"})

    async def readyz(request: Request) -> Response:
        if gets_on():
            return JSONResponse({"status": "ready"})
        return refusal(request, 503, "no_progress", "The worker's loops have not come round lately.")

    async def metrics(request: Request) -> Response:
        try:
            text = await scrape()
        except Exception:  # noqa: BLE001 - whatever it was, the scrape has to be answered
            _log.exception("The metrics could not be made.", action="scrape_failed")
            detail = "The status cannot be made now; the worker's log says why."
            return refusal(request, 503, "unavailable", detail)
        return Response(text, media_type=CONTENT_TYPE_PLAIN_0_0_4)

    app = Starlette(
        routes=[Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics), *pages],
        exception_handlers={HTTPException: on_refused, Exception: _on_failure},
    )
    if password is not None:
        app.add_middleware(Locked, password=password)
    app.add_middleware(Guarded, host=host)
    return app


class Locked:
    """Lets in whoever knows the password, by HTTP Basic with any user name; health is open."""

    def __init__(self, app: ASGIApp, password: SecretStr) -> None:
        self._app = app
        self._password = password.get_secret_value().encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OPEN or self._knows(Request(scope)):
            await self._app(scope, receive, send)
            return
        detail = "Log in with MIRROR_CONSOLE_PASSWORD and any user name."
        ask = {"WWW-Authenticate": 'Basic realm="Kounta Mirror", charset="UTF-8"'}
        answer = refusal(Request(scope), 401, "password_needed", detail, ask)
        await answer(scope, receive, send)

    def _knows(self, request: Request) -> bool:
        scheme, _, told = request.headers.get("authorization", "").partition(" ")
        try:
            _, _, given = base64.b64decode(told, validate=True).partition(b":")
        except (binascii.Error, ValueError):
            return False
        return scheme.lower() == "basic" and secrets.compare_digest(given, self._password)


async def _on_failure(request: Request, _error: Exception) -> Response:
    """Answer; the server logs what it was."""
    return refusal(request, 500, "internal", "The worker's console failed; its log says why.")
