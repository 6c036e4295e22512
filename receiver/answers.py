"""The receiver's answers other than 200: one shape, `{"error": code, "detail": text}`, and one table."""

from __future__ import annotations

import json
from http import HTTPStatus
from types import MappingProxyType
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request
    from starlette.responses import Response

MAX_BODY_BYTES = 1024 * 1024
RETRY_SECONDS = 5

# code: status, detail, headers
REFUSALS: dict[str, tuple[int, str, dict[str, str]]] = {
    "bad_request": (400, "This is no HTTP request.", {"Connection": "close"}),
    "upgrade_unsupported": (
        400,
        "Connections are not upgraded here: send the request without asking for it.",
        {"Connection": "close"},
    ),
    "headers_too_large": (431, "The headers are larger than a request may have.", {"Connection": "close"}),
    "headers_too_slow": (408, "The headers did not arrive in time.", {"Connection": "close"}),
    "too_many_connections": (
        429,
        "The connection waited longest while there were too many; send the request again.",
        {"Connection": "close", "Retry-After": str(RETRY_SECONDS)},
    ),
    "not_found": (404, "There is nothing at this path.", {}),
    "unknown_company": (404, "This receiver does not serve that company.", {}),
    "unknown_topic": (
        404,
        "This receiver takes customers/created, customers/updated, customers/deleted.",
        {},
    ),
    "method_not_allowed": (405, "A webhook is delivered with POST.", {"Allow": "POST"}),
    "body_too_slow": (408, "The body did not arrive in time.", {"Connection": "close"}),
    "body_too_large": (413, f"A body may have {MAX_BODY_BYTES} bytes.", {}),
    "signature_missing": (401, "The header X-Kounta-Signature is missing.", {}),
    "signature_invalid": (401, "X-Kounta-Signature is not this body's signature by a token known here.", {}),
    "unavailable": (
        503,
        "The delivery could not be stored; send it again.",
        {"Retry-After": str(RETRY_SECONDS)},
    ),
    "internal": (500, "The receiver failed; its log says why.", {}),
}
NOTHING: Mapping[str, str] = MappingProxyType({})
_BY_STATUS = {404: "not_found", 405: "method_not_allowed", 413: "body_too_large"}


class Refused(Exception):  # noqa: N818 - it says what is the case
    """A request is answered with one of `REFUSALS`; `more` goes beside its code and detail.

    `counted` is the code that it counts as, where that is another one.
    """

    def __init__(self, code: str, more: Mapping[str, str] = NOTHING, counted: str | None = None) -> None:
        super().__init__(code)
        self.code = code
        self.more = more
        self.counted = counted or code


def written(code: str) -> bytes:
    """Return a whole response, of a refusal before there is a request; the connection closes behind it."""
    status, detail, headers = REFUSALS[code]
    body = json.dumps({"error": code, "detail": detail}, separators=(",", ":")).encode()
    fields = {
        "content-type": "application/json",
        "content-length": str(len(body)),
        **{name.lower(): value for name, value in headers.items()},
        "connection": "close",
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n{head}\r\n".encode() + body


def refusal(code: str, more: Mapping[str, str] = NOTHING) -> Response:
    status, detail, headers = REFUSALS[code]
    return JSONResponse({"error": code, "detail": detail, **more}, status_code=status, headers=headers)


async def on_http_exception(_request: Request, error: Exception) -> Response:
    """Give Starlette's own refusals the shape of ours."""
    status, said, headers = _told(error)
    code = code_of(error)
    detail = REFUSALS[code][1] if code == "not_found" else said
    return JSONResponse({"error": code, "detail": detail}, status_code=status, headers=headers)


def code_of(error: Exception) -> str:
    """Return the code of a refusal of Starlette's."""
    status = _told(error)[0]
    return _BY_STATUS.get(status, "internal" if status >= 500 else "bad_request")  # noqa: PLR2004 - HTTP's classes


async def on_failure(_request: Request, _error: Exception) -> Response:
    return refusal("internal")


def _told(error: Exception) -> tuple[int, str, Mapping[str, str] | None]:
    if not isinstance(error, HTTPException):
        raise error
    return error.status_code, f"{error.detail}.", error.headers
