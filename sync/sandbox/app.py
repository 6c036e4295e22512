"""The ASGI application over a sandbox."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.middleware import Middleware

from sync.sandbox import api, control
from sync.sandbox.courier import Courier
from sync.sandbox.endpoint import Endpoints, JsonSuffix

if TYPE_CHECKING:
    from sync.sandbox.sandbox import Sandbox


def create_app(
    sandbox: Sandbox, courier: Courier | None = None, closing: asyncio.Event | None = None
) -> Starlette:
    """Make the application: the API at its root, the control interface under /sandbox/.

    `courier` is the one that runs, so that /sandbox/settle can wait for it. `closing` ends calls that hang.
    """
    courier = courier or Courier(sandbox)
    endpoints = Endpoints(sandbox, closing or asyncio.Event())
    return Starlette(
        routes=[*control.routes(sandbox, courier), *api.routes(endpoints)],
        middleware=[Middleware(JsonSuffix)],
    )
