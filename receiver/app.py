"""The Starlette application: routes, lifespan, limits. Importing it reads no setting and opens nothing."""

from __future__ import annotations

import asyncio
import signal
import threading
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, TypeAlias

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import JSONResponse
from starlette.routing import Route

from receiver import logs
from receiver.answers import code_of, on_failure, on_http_exception, refusal
from receiver.capture import Capture
from receiver.commands import commands
from receiver.database import directory_of, inbox_of, utc_text
from receiver.doorbell import DoorbellButton
from receiver.errors import MirrorError
from receiver.following import Companies
from receiver.inbox import InboxWriter
from receiver.inbox.store import InboxStore
from receiver.local import serve_locally
from receiver.metrics import serving_metrics
from receiver.postgresql import Schema
from receiver.refused import path_of
from receiver.settings import ReceiverSettings
from receiver.spool import Spool
from receiver.upgrades import UpgradesRefused
from receiver.webhook import Webhook

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping
    from contextlib import AbstractAsyncContextManager
    from types import FrameType

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from receiver.database import Place
    from receiver.webhook import Inbox


OpenInbox: TypeAlias = "Callable[[ReceiverSettings, Capture], AbstractAsyncContextManager[Inbox]]"

log = structlog.get_logger("receiver")

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@asynccontextmanager
async def own_inbox(
    settings: ReceiverSettings, capture: Capture, socket: str | None = None
) -> AsyncIterator[InboxWriter]:
    """Own the inbox of the data directory, wake the worker after each commit, and answer commands.

    `socket` identifies one that the parent of this process keeps open while it restarts.
    """
    button = DoorbellButton(settings.data_dir, "worker")
    try:
        async with (
            await InboxWriter.over(
                await _store(settings.place),
                queue_limit=settings.queue_limit,
                committed=button.press,
                socket=socket,
            ) as inbox,
            serve_locally(commands(inbox, capture), settings.data_dir, "receiver"),
        ):
            yield inbox
    finally:
        button.close()


async def _store(place: Place) -> InboxStore:
    """Open the inbox where it lies; on a server with a file that takes its place while that is away."""
    database = inbox_of(place)
    if isinstance(database, Schema):
        return await Spool.beside(database, directory_of(place))
    return await InboxStore.open(database)


def create_app(
    given: ReceiverSettings | Companies[ReceiverSettings] | None = None, open_inbox: OpenInbox = own_inbox
) -> Starlette:
    """Make the receiver of one company, or of several, which may change; None: of those that are configured.

    Its lifespan owns the inbox, and raises `MirrorError` when it cannot.
    """

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        served = given or Companies(ReceiverSettings)
        settings = served.first if isinstance(served, Companies) else served
        capture = Capture()
        async with open_inbox(settings, capture) as inbox:
            app.state.inbox = inbox
            app.state.webhook = Webhook(inbox, settings.tokens(), capture)
            async with AsyncExitStack() as stack:
                if settings.receiver_metrics_port is not None and isinstance(inbox, InboxWriter):
                    at = settings.receiver_metrics_host, settings.receiver_metrics_port
                    stack.enter_context(serving_metrics(*at, app.state.webhook, inbox))
                if isinstance(served, Companies):
                    await stack.enter_async_context(_following(served, app.state.webhook))
                stack.callback(app.state.webhook.close)
                yield

    app = Starlette(
        routes=[
            Route("/webhooks/{company_id}/{topic:path}", _Webhooks()),
            Route("/healthz", _healthz),
            Route("/readyz", _readyz),
        ],
        middleware=[Middleware(UnderUvicorn), Middleware(UpgradesRefused, refused=_note_refused)],
        exception_handlers={HTTPException: _on_refused, Exception: on_failure},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False  # a redirected webhook is a lost one
    return app


@asynccontextmanager
async def _following(companies: Companies[ReceiverSettings], webhook: Webhook) -> AsyncIterator[None]:
    """Have the endpoint serve the companies as they are, and as they become."""

    async def follow() -> None:
        async for change in companies.changes():
            webhook.serve(_tokens_of(change.settings))

    webhook.serve(_tokens_of(companies.settings))
    following = asyncio.create_task(follow(), name="following the companies")
    following.add_done_callback(_tell)
    try:
        yield
    finally:
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following


def _tell(following: asyncio.Task[None]) -> None:
    """Say at once that it broke, which the end of the process raises."""
    if not following.cancelled() and (error := following.exception()) is not None:
        log.error(
            "The companies are not followed any more: those that are served stay, until a new start.",
            action="following_broken",
            exc_info=error,
        )


def _tokens_of(companies: Mapping[int, ReceiverSettings]) -> dict[int, tuple[bytes, ...]]:
    return {id_: tokens for settings in companies.values() for id_, tokens in settings.tokens().items()}


class _Webhooks:
    """The endpoint, which the lifespan made of its inbox. A class: Starlette passes ASGI through to it."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await scope["app"].state.webhook(scope, receive, send)


def _note_refused(scope: Scope, code: str) -> None:
    scope["app"].state.webhook.note_refused(code, path_of(scope))


async def _on_refused(request: Request, error: Exception) -> Response:
    """Answer, and count it: also what has come without the prefix of its path."""
    _note_refused(request.scope, code_of(error))
    return await on_http_exception(request, error)


async def _healthz(_request: Request) -> Response:
    return JSONResponse({"status": "alive"})


async def _readyz(request: Request) -> Response:
    inbox: Inbox = request.app.state.inbox
    if not inbox.ready:
        return refusal("unavailable")
    spooled = inbox.spooled
    if spooled is None:
        return JSONResponse({"status": "ready"})
    return JSONResponse(
        {
            "status": "ready",
            "stored_in": "spool" if spooled.away else "postgresql",
            "spooled": spooled.count,
            "since": None if spooled.since is None else utc_text(spooled.since),
        }
    )


class UnderUvicorn:
    """What `uvicorn receiver.app:app` needs beside the application.

    A start that fails is told in a sentence instead of a traceback, and a signal to stop reaches the endpoint
    at once, not only when the last connection has ended.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return
        failed: Message | None = None

        async def withheld(message: Message) -> None:
            nonlocal failed
            if message["type"].endswith(".failed"):
                failed = message
            else:
                await send(message)

        state = scope["app"].state

        def hurry() -> None:
            if hasattr(state, "webhook"):
                state.webhook.hurry()

        logs.configure()
        try:
            with _on_signals(hurry):
                await self._app(scope, receive, withheld)
        except MirrorError as error:
            if failed is None:
                raise
            await send({"type": failed["type"], "message": str(error)})
        except BaseException:
            if failed is not None:
                await send(failed)
            raise


@contextmanager
def _on_signals(act: Callable[[], None]) -> Iterator[None]:
    """Do `act` in the event loop, before what the signals to stop did so far."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    former = {number: signal.getsignal(number) for number in STOP_SIGNALS}

    def both(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(act)
        handler = former[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)

    for number in STOP_SIGNALS:
        signal.signal(number, both)
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


app = create_app()
