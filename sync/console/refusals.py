"""The console's answers other than 200: JSON for programs, a page with a sentence for people."""

from collections.abc import Mapping
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from receiver.answers import on_http_exception
from sync.console.pages.frame import render

OPEN: Final = frozenset({"/healthz", "/readyz"})
"""Paths for everybody: they say nothing of customers."""
_HEADINGS: Final = {
    401: "A password is needed",
    403: "Not sent from here",
    404: "There is no such page",
    405: "That cannot be done here",
    409: "That cannot be done now",
    413: "That is too much",
    421: "Asked for by another name",
    422: "That cannot be right",
    429: "Too many attempts",
    500: "The console failed",
    503: "Not available now",
}


def refusal(
    request: Request, status: int, code: str, detail: str, headers: Mapping[str, str] | None = None
) -> Response:
    """Answer `{"error": code, "detail": a sentence}`, or the sentence as a page where a browser asks."""
    if "text/html" not in request.headers.get("accept", ""):
        return JSONResponse({"error": code, "detail": detail}, status, headers)
    heading = _HEADINGS.get(status, "That did not work")
    page = render("error.html", heading=heading, detail=detail, status=status)
    return HTMLResponse(page, status, headers)


async def on_refused(request: Request, error: Exception) -> Response:
    """Give Starlette's own refusals, and those of pages, the shape of ours."""
    if isinstance(error, RefusedError):
        return refusal(request, error.status_code, error.code, error.detail)
    plain = await on_http_exception(request, error)
    if "text/html" not in request.headers.get("accept", "") or not isinstance(error, HTTPException):
        return plain
    detail = "There is nothing at this address." if error.status_code == _NOT_FOUND else f"{error.detail}."
    return refusal(request, error.status_code, "", detail, error.headers)


class RefusedError(HTTPException):
    """A request is refused with a sentence, and a code for programs."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(status, detail)
        self.code = code


_NOT_FOUND: Final = 404
