"""Who may ask for pages, and what a browser may do with them."""

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sync.console.refusals import OPEN, refusal
from sync.kounta.origin import is_loopback

COOKIE: Final = "kounta_mirror_console"
POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        *(f"{kind}-src 'self'" for kind in ("style", "script", "connect", "img")),
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)
HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
"""Of every answer; what is cached says so itself."""
UNSAID: Final = "null"
"""What a browser says of its own pages' origin, too, when they send no referrer: the token decides then."""


class ForgedError(Exception):
    """A form did not come from a page of this console; the sentence is for whoever sent it."""


class Seal:
    """Marks the forms of one browser, so that no other site can send one: a hash of its cookie."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)

    def cookie(self, request: Request) -> str:
        """Give the browser's cookie, or a new one."""
        return request.cookies.get(COOKIE) or secrets.token_urlsafe(24)

    def token(self, cookie: str) -> str:
        """Give what the forms for this cookie carry."""
        return hmac.new(self._key, cookie.encode(), hashlib.sha256).hexdigest()

    def check(self, request: Request, token: str) -> None:
        """Raise ForgedError unless a page of this console, shown to this browser, has sent the form."""
        if not _is_from_here(request):
            raise ForgedError("Another site has sent this form. Nothing was done.")
        cookie = request.cookies.get(COOKIE)
        if cookie is None or not hmac.compare_digest(self.token(cookie).encode(), token.encode()):
            raise ForgedError(
                "This form is older than the worker that runs now, or the browser keeps no cookies. "
                "Nothing was done: go back, load the page again, and send it from there."
            )


def _is_from_here(request: Request) -> bool:
    """Believe what the browser says of where a form comes from; a page elsewhere cannot change it."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = request.headers.get("origin", UNSAID)
    return origin == UNSAID or urlsplit(origin).netloc == request.headers.get("host")


class Guarded:
    """Gives every answer its headers, and on loopback answers to the names of loopback alone.

    A site that lets its own name point at 127.0.0.1 (DNS rebinding) is the same origin to a browser, and
    would read what it likes.
    """

    def __init__(self, app: ASGIApp, host: str) -> None:
        self._app = app
        self._is_local = is_loopback(host)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                if scope["path"].startswith("/static/"):
                    headers["Cache-Control"] = "no-cache"  # it is asked for again, and has not changed
            await send(message)

        if self._is_local and (name := _strange_name(scope)) is not None:
            detail = (
                f"This console listens on this machine alone, and answers to localhost and 127.0.0.1, not to "
                f"{name!r}. A proxy before it has to say Host: localhost."
            )
            await refusal(Request(scope), 421, "wrong_host", detail)(scope, receive, guarded)
            return
        await self._app(scope, receive, guarded)


def _strange_name(scope: Scope) -> str | None:
    """Give the name by which loopback is asked for, if it is none of its own; health is for everybody."""
    if scope["path"] in OPEN:
        return None
    hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
    return next((host for host in hosts if not is_loopback(_name(host))), None)


def _name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
