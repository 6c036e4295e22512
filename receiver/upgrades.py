"""Requests that ask to upgrade the connection: refused, with all that comes behind them.

HTTP parsers end such a request at its headers, and servers differ in what they take the bytes behind them for
(Kludex/uvicorn #2722, MagicStack/httptools #124). Nothing here upgrades, so nothing is lost (decision 0068).
`receiver.protocol` refuses before there is a request; `UpgradesRefused` does it under any other server.
Both can go once the oldest uvicorn and httptools that `pyproject.toml` allows end the connection themselves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import JSONResponse

from receiver.answers import REFUSALS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

UPGRADE = "upgrade_unsupported"
_AS_RESPONSE = "websocket.http.response"  # the extension of ASGI by which a refused handshake gets a body


def asks_to_upgrade(method: str, headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Return whether a request asks for another protocol; `headers` have lower-case names.

    Wider than RFC 9110 (7.8): it must hold for whatever any parser takes for an upgrade.
    """
    return method == "CONNECT" or any(
        name == b"upgrade" or (name == b"connection" and b"upgrade" in value.lower())
        for name, value in headers
    )


class UpgradesRefused:
    """ASGI middleware that answers them with 400 and closes, and never reads what comes behind the headers.

    A server that obeys `Connection: close` reads nothing more of that connection.
    """

    def __init__(self, app: ASGIApp, refused: Callable[[Scope, str], None]) -> None:
        """`refused` is called with the scope and the code of each."""
        self._app = app
        self._refused = refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        is_upgrade = kind == "websocket" or (
            kind == "http" and asks_to_upgrade(scope["method"], scope["headers"])
        )
        if not is_upgrade:
            await self._app(scope, receive, send)
            return
        self._refused(scope, UPGRADE)
        status, detail, headers = REFUSALS[UPGRADE]
        answer = JSONResponse({"error": UPGRADE, "detail": detail}, status, headers)
        if kind == "http":
            await answer({"type": "http"}, receive, send)
        elif _AS_RESPONSE in scope.get("extensions", {}):
            await answer({"type": "websocket"}, receive, send)
        else:
            refusal: Message = {"type": "websocket.close", "code": 1000}
            await send(refusal)
