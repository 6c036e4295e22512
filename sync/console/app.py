"""The console's Starlette application: health for everybody, the rest behind the password."""

import base64
import binascii
import secrets
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from math import ceil
from typing import Final

import structlog
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sync.console.attempts import Attempts, TooManyAttemptsError
from sync.console.pages.guard import Guarded
from sync.console.refusals import OPEN, on_refused, refusal

MARK: Final = "kounta_mirror_known"
"""The cookie of a browser that was let in: guesses of others do not delay it."""

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
    """Lets in those who know the password, by HTTP Basic with any user name; health is open.

    Failures delay the next attempt of their source; see `sync.console.attempts`.
    """

    def __init__(self, app: ASGIApp, password: SecretStr, attempts: Attempts | None = None) -> None:
        self._app = app
        self._password = password.get_secret_value().encode()
        self._attempts = attempts or Attempts()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OPEN:
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "basic":
            await self._ask(request, receive, send)
            return
        host = request.client.host if request.client else None
        right = partial(self._is_right, credentials)
        marked = secrets.compare_digest(request.cookies.get(MARK, "").encode(), self._attempts.mark.encode())
        try:
            known = self._is_right(credentials) if marked else await self._attempts.admit(host, right)
        except TooManyAttemptsError as error:
            detail = "Too many wrong passwords were sent from this address. Try again later."
            wait = {"Retry-After": str(ceil(error.seconds))}
            await refusal(request, 429, "too_many_attempts", detail, wait)(scope, receive, send)
            return
        if not known:
            await self._ask(request, receive, send)
        elif marked or "text/html" not in request.headers.get("accept", ""):
            await self._app(scope, receive, send)
        else:
            await self._app(scope, receive, self._marking(send))

    async def _ask(self, request: Request, receive: Receive, send: Send) -> None:
        detail = "Log in with MIRROR_CONSOLE_PASSWORD and any user name."
        ask = {"WWW-Authenticate": 'Basic realm="Kounta Mirror", charset="UTF-8"'}
        await refusal(request, 401, "password_needed", detail, ask)(request.scope, receive, send)

    def _is_right(self, credentials: str) -> bool:
        try:
            _, _, given = base64.b64decode(credentials, validate=True).partition(b":")
        except (binascii.Error, ValueError):
            return False
        return secrets.compare_digest(given, self._password)

    def _marking(self, send: Send) -> Send:
        """Let a browser that was let in carry the mark from now on."""

        async def marking(message: Message) -> None:
            if message["type"] == "http.response.start":
                cookie = f"{MARK}={self._attempts.mark}; Path=/; HttpOnly; SameSite=Strict"
                MutableHeaders(scope=message).append("Set-Cookie", cookie)
            await send(message)

        return marking


async def _on_failure(request: Request, _error: Exception) -> Response:
    """Answer; the server logs what it was."""
    return refusal(request, 500, "internal", "The worker's console failed; its log says why.")
