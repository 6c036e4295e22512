"""The way of one call: its fault, who makes it, the limit, the handler, the count."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from dataclasses import dataclass
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, TypeAlias

from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from sync.sandbox.answers import CutResponse, broken_page, limited, record, refused, reset_header
from sync.sandbox.limit import MINUTE
from sync.sandbox.refusal import RefusedError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from starlette.requests import Request
    from starlette.types import ASGIApp, Receive, Scope, Send

    from sync.sandbox.company import Company
    from sync.sandbox.sandbox import Sandbox

Handler: TypeAlias = "Callable[[Call], Awaitable[Response]]"
Kind: TypeAlias = "str | Callable[[Request], str]"

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
SUFFIX = ".json"


@dataclass(frozen=True)
class Call:
    """A call that got past the door: who makes it, and what for."""

    sandbox: Sandbox
    request: Request
    application: str

    @property
    def company(self) -> Company:
        return self.sandbox.company

    def id(self) -> int:
        """Give the id in the path. Raises RefusedError (404) if it is no number."""
        text = str(self.request.path_params["id"])
        if not (text.isascii() and text.isdigit()):
            raise RefusedError(404, "not_found", f"There is nothing with the id {text!r}.")
        return int(text)

    async def body(self) -> Any:
        """Read the JSON body. Raises RefusedError (400)."""
        content_type = self.request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if content_type != "application/json":
            raise RefusedError(400, "invalid_request", "Content-Type must be application/json.")
        return parsed(await self.request.body())

    def url(self, path: str, *, absolute: bool) -> str:
        """Give the address of something beside what was asked for, with .json if that was asked with it."""
        path += SUFFIX if self.request.scope.get("json_suffix") else ""
        return str(self.request.base_url).rstrip("/") + path if absolute else path


class Endpoints:
    """Makes routes whose calls all go the same way."""

    def __init__(self, sandbox: Sandbox, closing: asyncio.Event) -> None:
        self._sandbox = sandbox
        self._closing = closing

    def route(self, path: str, handlers: Mapping[str, tuple[Kind, Handler]], *, open_: bool = False) -> Route:
        """Make a route, with a kind and a handler for each method. `open_` ones need no credentials."""

        async def answer(request: Request) -> Response:
            kind, handler = handlers.get(request.method, ("other", _wrong_method))
            kind = kind if isinstance(kind, str) else kind(request)
            return await self._answer(request, kind, handler, open_=open_)

        return Route(path, answer, methods=METHODS)

    async def _answer(self, request: Request, kind: str, handler: Handler, *, open_: bool) -> Response:
        sandbox = self._sandbox
        calls, company = sandbox.calls, sandbox.company
        fault = calls.begin(kind)
        broken = self._broken(fault)
        if broken is not None and (fault == "too_many" or request.method == "GET" or not calls.after_write()):
            calls.end(kind, broken.status_code, answered=False)
            return self._dated(broken)
        application = ""
        try:
            application = "" if open_ else self._caller(request)
            response = await handler(Call(sandbox, request, application))
        except RefusedError as refusal:
            response = refused(company, refusal)
        except _LimitReachedError as limit:
            response = limited(company, limit.reset_at)
        if broken is not None:
            response = broken
        self._dated(response)
        if application and sandbox.settings.remaining_headers:
            self._limits_told(request, response, application)
        if fault == "hangs":
            await self._hang()
        if fault == "cut_bodies":
            response = CutResponse(response)
        true_answer = fault is None and response.status_code != 429 and response.status_code < 500  # noqa: PLR2004
        calls.end(kind, response.status_code, answered=true_answer)
        return response

    def _broken(self, fault: str | None) -> Response | None:
        if fault == "too_many":
            return limited(self._sandbox.company, self._sandbox.clock() + 1)
        if fault == "server_errors":
            return PlainTextResponse("Something went wrong", self._sandbox.calls.server_error())
        if fault == "wrong_answers":
            return self._wrong()
        return broken_page() if fault == "html_answers" else None

    def _wrong(self) -> Response:
        """Answer what was not asked for: another customer, or no customer at all."""
        company, calls = self._sandbox.company, self._sandbox.calls
        if calls.chance(2) and len(company.customers):
            other = company.customers.nth(calls.chance(len(company.customers)))
            return record(company, company.shown(other, company.settings.client_id))
        return record(company, calls.wrong_value())

    def _dated(self, response: Response) -> Response:
        """Add the time by upstream's clock, which the server itself does not know."""
        response.headers["Date"] = formatdate(self._sandbox.company.upstream_time(), usegmt=True)
        return response

    def _limits_told(self, request: Request, response: Response, application: str) -> None:
        """Add the headers that say how much of the limit is left, and when all of it is back."""
        sandbox = self._sandbox
        _, allowed = self._credentials(request)
        response.headers["X-Ratelimit-Limit"] = str(allowed)
        response.headers["X-Ratelimit-Remaining"] = str(sandbox.limit.left(application, allowed))
        now = sandbox.clock()
        response.headers.setdefault(
            "X-Ratelimit-Reset", reset_header(sandbox.company, now - now % MINUTE + MINUTE)
        )

    async def _hang(self) -> None:
        try:
            async with asyncio.timeout(self._sandbox.faults.hang_seconds):
                await self._closing.wait()
        except TimeoutError:
            pass  # that is how long it hangs; when the sandbox closes it is over sooner

    def _caller(self, request: Request) -> str:
        """Give the application that makes a call, once it passed the checks that every call must pass."""
        sandbox = self._sandbox
        application, allowed = self._credentials(request)
        reset_at = sandbox.limit.reset_at(
            application, allowed, sandbox.settings.limit_window, sandbox.clock()
        )
        if reset_at is not None:
            raise _LimitReachedError(reset_at)
        if sandbox.faults.lost_access != "no":
            raise RefusedError(int(sandbox.faults.lost_access), "no_access", "There is nothing here for you.")
        accept = request.headers.get("accept", "")
        if not (request.scope.get("json_suffix") or "application/json" in accept.lower()):
            raise RefusedError(406, "not_acceptable", "Ask for .json or send Accept: application/json.")
        company = request.path_params.get("company", "me")
        if company not in ("me", str(sandbox.settings.company_id)):
            raise RefusedError(
                sandbox.settings.wrong_company, "not_found", f"There is no company {company} for you."
            )
        return application

    def _credentials(self, request: Request) -> tuple[str, int]:
        settings, tokens = self._sandbox.settings, self._sandbox.tokens
        scheme, _, value = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return tokens.application(value.strip()), settings.oauth_requests_per_minute
        if scheme.lower() == "basic":
            client_id, _, secret = _decoded(value).partition(":")
            if tokens.credentials_hold(client_id, secret):
                return client_id, settings.requests_per_minute
        raise RefusedError(401, "unauthorized", "Valid credentials are required.")


class JsonSuffix:
    """Takes `.json` off the path, and notes in the scope that it was there."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].endswith(SUFFIX):
            scope = {**scope, "path": scope["path"].removesuffix(SUFFIX), "json_suffix": True}
        await self._app(scope, receive, send)


def parsed(body: bytes) -> Any:
    """Parse JSON. Raises RefusedError (400)."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RefusedError(400, "invalid_request", "The body is not JSON.") from error


class _LimitReachedError(Exception):
    def __init__(self, reset_at: float) -> None:
        super().__init__(MINUTE)
        self.reset_at = reset_at


def _decoded(value: str) -> str:
    try:
        return base64.b64decode(value.strip(), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""


async def _wrong_method(call: Call) -> Response:
    raise RefusedError(405, "method_not_allowed", f"{call.request.method} is not possible here.")
