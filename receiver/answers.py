"""The receiver's answers other than 200: one shape, `{"error": code, "detail": text}`, and one table."""

from __future__ import annotations

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
    """A request is answered with one of `REFUSALS`; `more` goes beside its code and detail."""

    def __init__(self, code: str, more: Mapping[str, str] = NOTHING) -> None:
        super().__init__(code)
        self.code = code
        self.more = more


def refusal(code: str, more: Mapping[str, str] = NOTHING) -> Response:
    status, detail, headers = REFUSALS[code]
    return JSONResponse({"error": code, "detail": detail, **more}, status_code=status, headers=headers)


async def on_http_exception(_request: Request, error: Exception) -> Response:
    """Give Starlette's own refusals the shape of ours."""
    status, said, headers = _told(error)
    code = _BY_STATUS.get(status, "internal" if status >= 500 else "bad_request")  # noqa: PLR2004 - HTTP's classes
    detail = REFUSALS[code][1] if code == "not_found" else said
    return JSONResponse({"error": code, "detail": detail}, status_code=status, headers=headers)


async def on_failure(_request: Request, _error: Exception) -> Response:
    return refusal("internal")


def _told(error: Exception) -> tuple[int, str, Mapping[str, str] | None]:
    if not isinstance(error, HTTPException):
        raise error
    return error.status_code, f"{error.detail}.", error.headers
