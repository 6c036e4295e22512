"""The receiver as a process of its own: one port, clean stops, no uvicorn to configure."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING

import structlog
import uvicorn

from receiver import listening, logs
from receiver.app import STOP_SIGNALS, create_app, own_inbox
from receiver.connections import BACKLOG, OVERLOADED, Connections
from receiver.following import Companies
from receiver.protocol import guarded

if TYPE_CHECKING:
    import signal
    import socket
    from collections.abc import Callable, Generator

    from starlette.applications import Starlette

    from receiver.app import OpenInbox
    from receiver.connections import Limits
    from receiver.settings import ReceiverSettings

log = structlog.get_logger("receiver")

DRAIN_SECONDS = 2  # honcho kills 5 s after the signal; the inbox still has to be closed


def serve(
    given: ReceiverSettings | Companies[ReceiverSettings],
    host: str,
    port: int,
    open_inbox: OpenInbox | None = None,
    *,
    fd: int | None = None,
) -> None:
    """Receive until SIGTERM or SIGINT, then store and answer what is there. Raises `MirrorError`.

    At the sockets that the parent has passed, as descriptor `fd` or as systemd does; without any, at `host`
    and `port`.
    """
    logs.configure()
    with ExitStack() as stack:
        kept = [stack.enter_context(one) for one in listening.passed(fd)]
        _serve(given, kept, partial(listening.opened, host, port), open_inbox)


def _serve(
    given: ReceiverSettings | Companies[ReceiverSettings],
    kept: list[socket.socket],
    opened: Callable[[], socket.socket],
    open_inbox: OpenInbox | None,
) -> None:
    app = create_app(given, open_inbox or partial(own_inbox, socket=listening.identity_of(kept)))
    first = given.first if isinstance(given, Companies) else given
    door = door_of(app, first.limits())
    config = uvicorn.Config(
        app,
        http=guarded(door),
        lifespan="off",  # entered below, so that a start that fails is an exception
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        ws="none",
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=int(door.limits.idle_seconds),
        timeout_graceful_shutdown=DRAIN_SECONDS,
    )
    server = _Server(config, door)

    async def run() -> None:
        loop = asyncio.get_running_loop()
        async with app.router.lifespan_context(app):
            with ExitStack() as stack:
                listeners = kept or [stack.enter_context(opened())]

                def stop(number: signal.Signals) -> None:
                    log.info("The receiver stops.", action="receiver_stopping", signal=number.name)
                    app.state.webhook.hurry()
                    server.should_exit = True

                for number in STOP_SIGNALS:
                    loop.add_signal_handler(number, stop, number)
                if any(map(listening.is_overrun, kept)):
                    app.state.webhook.note_overrun()
                for listener in listeners:
                    url, chosen = listening.url_of(listener)
                    log.info("The receiver listens.", action="receiver_started", url=url, port=chosen)
                await server.serve(listeners)

    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(run())


def door_of(app: Starlette, limits: Limits) -> Connections:
    """Return what bounds the connections to a receiver; its refusals are counted with those of `app`."""
    return Connections(limits, partial(_refused, app))


def _refused(app: Starlette, code: str, path: str) -> None:
    """Note what was refused before it reached the application."""
    app.state.webhook.note_refused(code, path)
    if code == OVERLOADED:
        app.state.webhook.note_overrun()


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, door: Connections) -> None:
        super().__init__(config)
        self._door = door

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._door.stopping = True
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield  # a signal is answered above and ends the process with 0
