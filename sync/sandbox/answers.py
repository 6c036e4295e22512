"""Answers of the API: records, refusals in upstream's shapes, and answers that are broken on purpose."""

from __future__ import annotations

import html
import math
from typing import TYPE_CHECKING, Any

from starlette.responses import HTMLResponse, PlainTextResponse, Response

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import Receive, Scope, Send

    from sync.sandbox.company import Company
    from sync.sandbox.refusal import RefusedError

MAINTENANCE = "<!DOCTYPE html><html><head><title>Kounta</title></head><body><h1>Back soon</h1></body></html>"


def record(
    company: Company, value: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Answer with a JSON value."""
    return Response(company.json(value), status, headers, "application/json")


def refused(company: Company, refusal: RefusedError) -> Response:
    """Say no, in the one of upstream's shapes that is set."""
    shape = company.settings.error_shape
    headers = {"WWW-Authenticate": 'Basic realm="kounta"'} if refusal.status == 401 else None  # noqa: PLR2004
    if shape == "text":
        return PlainTextResponse(refusal.sentence, refusal.status, headers)
    if shape == "html":
        page = f"<html><body><h1>{refusal.status}</h1><p>{html.escape(refusal.sentence)}</p></body></html>"
        return HTMLResponse(page, refusal.status, headers)
    if shape == "error":
        body = {"error": refusal.code, "error_description": refusal.sentence}
    else:
        body = {shape: refusal.sentence}
    return record(company, body, refusal.status, headers)


def limited(company: Company, reset_at: float) -> Response:
    """Answer 429. `reset_at` is by the sandbox's clock; the header tells it by upstream's, as it would."""
    settings = company.settings
    headers: dict[str, str] = {}
    if settings.limit_headers in ("retry-after", "both"):
        headers["Retry-After"] = str(max(1, math.ceil(reset_at - company.clock())))
    if settings.limit_headers in ("reset", "both"):
        headers["X-Ratelimit-Reset"] = reset_header(company, reset_at + settings.reset_ahead_seconds)
    if settings.limit_body == "text":
        return PlainTextResponse("Limit exceeded", 429, headers)
    body = {"error": "limit_exceeded", "error_description": "Limit exceeded"}
    return record(company, body, 429, headers)


def reset_header(company: Company, reset_at: float) -> str:
    """Write X-Ratelimit-Reset for a time by the sandbox's clock, in the unit that is set."""
    reset = math.ceil(reset_at + company.faults.clock_skew_seconds)
    return str(reset * 1000 if company.settings.reset_unit == "milliseconds" else reset)


def written(company: Company, right: Response) -> Response:
    """Answer a write of a customer that was done, with the body that is set."""
    kind = company.settings.write_body
    if kind == "right":
        return right
    headers = {name: value for name, value in right.headers.items() if name == "location"}
    if kind == "html":
        return HTMLResponse(MAINTENANCE, right.status_code, headers)
    body = b"null" if kind == "null" else b""
    return Response(body, right.status_code, headers, "application/json")


def broken_page() -> Response:
    """Answer 200 with a page for people, as a proxy before upstream might."""
    return HTMLResponse(MAINTENANCE)


class CutResponse(Response):
    """An answer whose connection closes in the middle of its body."""

    def __init__(self, whole: Response) -> None:
        super().__init__()
        body = bytes(whole.body) or b"{}"
        self.status_code = whole.status_code
        self.raw_headers = [
            *(pair for pair in whole.raw_headers if pair[0] != b"content-length"),
            (b"content-length", str(len(body)).encode()),
        ]
        self.body = body[: len(body) // 2]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the beginning and return: the server then closes the connection."""
        del scope, receive
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": bytes(self.body), "more_body": True})
