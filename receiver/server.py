"""The receiver as a process of its own: one port, clean stops, no uvicorn to configure."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING

import structlog
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from receiver import logs
from receiver.app import STOP_SIGNALS, create_app, own_inbox
from receiver.errors import MirrorError

if TYPE_CHECKING:
    import signal
    from collections.abc import Generator

    from receiver.app import OpenInbox
    from receiver.following import Companies
    from receiver.settings import ReceiverSettings

log = structlog.get_logger("receiver")

DRAIN_SECONDS = 2  # honcho kills 5 s after the signal; the inbox still has to be closed


def serve(
    given: ReceiverSettings | Companies[ReceiverSettings],
    host: str,
    port: int,
    open_inbox: OpenInbox = own_inbox,
) -> None:
    """Receive until SIGTERM or SIGINT, then store and answer what is there. Raises `MirrorError`."""
    logs.configure()
    app = create_app(given, open_inbox)
    config = uvicorn.Config(
        app,
        http=Protocol,
        lifespan="off",  # entered below, so that a start that fails is an exception
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        ws="none",
        proxy_headers=False,
        timeout_graceful_shutdown=DRAIN_SECONDS,
    )
    server = _Server(config)

    async def run() -> None:
        loop = asyncio.get_running_loop()
        async with app.router.lifespan_context(app):
            with _listen(host, port) as listener:

                def stop(number: signal.Signals) -> None:
                    log.info("The receiver stops.", action="receiver_stopping", signal=number.name)
                    app.state.webhook.hurry()
                    server.should_exit = True

                for number in STOP_SIGNALS:
                    loop.add_signal_handler(number, stop, number)
                place, chosen, *_ = listener.getsockname()
                log.info(
                    "The receiver listens.",
                    action="receiver_started",
                    url=f"http://{_bracketed(place)}:{chosen}",
                    port=chosen,
                )
                await server.serve([listener])

    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(run())


class Protocol(HttpToolsProtocol):
    """HTTP whose own refusal, of what is no HTTP, has the shape of the others."""

    def send_400_response(self, msg: str) -> None:
        body = json.dumps({"error": "bad_request", "detail": msg}).encode()
        head = (
            f"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        )
        self.transport.write(head.encode() + b"connection: close\r\n\r\n" + body)
        self.transport.close()


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield  # a signal is answered above and ends the process with 0


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return socket.create_server(address[:2], family=family, backlog=2048)
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise MirrorError(
            f"Nothing can listen at {host} port {port}: {reason}. Choose with --host and --port."
        ) from error


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
