"""HTTP/1.1 of a port that strangers reach: what ends a connection, when, and what is answered then.

uvicorn's protocol with bounds that it does not have (decisions 0068 and 0069). A refusal made here has the
shape of all others; what still comes on that connection is discarded and never parsed.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING, Any, ClassVar, cast

import httptools
from starlette.requests import ClientDisconnect
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from receiver.answers import written
from receiver.connections import CROWDED, OVERLOADED, PROVED, Rank
from receiver.upgrades import UPGRADE, asks_to_upgrade

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send
    from uvicorn._types import ASGI3Application
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

    from receiver.connections import Connections

MOST_PIPELINED = 16
DISCARDED_BYTES = 4 * 1024 * 1024
"""So much may still come behind the last answer of a connection, so that its peer can read that answer."""
_FIELD_BYTES = len(": \r\n")


class _Phase(Enum):
    """What of a request is expected next."""

    START = auto()
    HEAD = auto()
    BODY = auto()


class GuardedProtocol(HttpToolsProtocol):
    """One connection. `guarded` makes the class of a port."""

    door: ClassVar[Connections]
    source: str | None = None
    held = 0  # bytes of a request that has not arrived in full
    _phase = _Phase.START
    _timed = _Phase.START  # the phase that the timer is of
    _is_fresh = True  # no request has begun to come
    _is_deaf = False  # what comes is discarded
    _rank = Rank.STRANGER
    _running: RequestResponseCycle | None = None  # what is being answered; others wait behind it
    _timer: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None  # set while the peer does not read its answers
    _stopped = ""  # the code of the refusal for which the parser was stopped
    _raw = 0  # bytes given to the parser as headers
    _head = 0  # bytes of the headers that it has given
    _fields = 0
    _body = 0
    _trailer = 0
    _unparsed = 0  # bytes behind the headers of which it has said nothing yet
    _discarded = 0

    # The life of a connection.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._answers = cast("asyncio.Transport", _Answers(self))
        self.source = self.door.source_of(transport.get_extra_info("peername"))
        if self.door.enter(self):
            self._await_request()
        else:
            self._refuse(OVERLOADED)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.door.leave(self)
        self._set_timer(None)
        self._read_again()
        self._unset_keepalive_if_required()
        if self._running is not None and self._is_answering:
            self._running.disconnected = True
        # No cycle of references is left: what a request held is free now, not at the next collection.
        self._running = self.cycle = self.scope = None  # type: ignore[assignment]
        self.headers = []
        self.pipeline.clear()
        del self._answers

    def data_received(self, data: bytes) -> None:
        if self._is_deaf:
            self._discard(data)
            return
        self._unset_keepalive_if_required()
        try:
            self._feed(data)
        except httptools.HttpParserError:
            self._refuse(self._stopped or "bad_request")
        except httptools.HttpParserUpgrade:
            self._refuse(UPGRADE)
        else:
            self._await_rest()

    def give_way(self) -> None:
        """Close, because another connection needs the room."""
        if self._is_deaf or self._unread is not None:
            self.transport.abort()
            return
        is_idle = self._phase is _Phase.START and not self._is_fresh
        if not is_idle:
            self._count(CROWDED)
        if self._phase is not _Phase.START and self._may_answer:
            self.transport.write(written(CROWDED))
        self._silence()
        self.transport.close()

    def shutdown(self) -> None:
        """Answer what is on its way, and end; a request that has only begun to come has a last second."""
        if self._is_deaf:
            return
        for cycle in (self._running, self.cycle, *(waiting for waiting, _ in self.pipeline)):
            if cycle is not None:
                cycle.keep_alive = False
        if self._is_answering:
            return
        if self._is_fresh or self._phase is not _Phase.START:
            self._set_timer(self.door.limits.stopping_seconds, self.transport.close)
        else:
            self.transport.close()

    # What the parser says.

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["state"][PROVED] = self._prove
        self._phase = _Phase.HEAD
        self._is_fresh = False
        self._head = self._fields = self._body = self._trailer = self._unparsed = 0

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._count_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        size = len(name) + len(value) + _FIELD_BYTES
        if self._phase is _Phase.BODY:  # a trailer is counted, and otherwise as if it were not there
            self._unparsed = 0
            self._trailer += size
            if self._trailer > self.door.limits.head_bytes:
                self._stop("headers_too_large")
            return
        self._fields += 1
        self._count_head(size)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        method = self.parser.get_method().decode("ascii")
        if self.parser.should_upgrade() or asks_to_upgrade(method, self.headers):
            self._stop(UPGRADE)
        if len(self.pipeline) >= MOST_PIPELINED:
            self._stop("bad_request")
        super().on_headers_complete()
        self.cycle.transport = self._answers
        if self.door.stopping:
            self.cycle.keep_alive = False
        self._phase = _Phase.BODY

    def on_body(self, body: bytes) -> None:
        self._unparsed = 0
        self._body += len(body)
        super().on_body(body)

    def on_chunk_header(self) -> None:
        self._unparsed = 0

    def on_chunk_complete(self) -> None:
        self._unparsed = 0

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._phase = _Phase.START

    # What the application answers.

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, cast("ASGI3Application", _Answering(cycle, cast("ASGIApp", app))))

    def on_response_complete(self) -> None:
        if self._is_deaf:
            self.server_state.total_requests += 1
            return
        super().on_response_complete()
        if not self.transport.is_closing():
            self._await_request()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread = self.loop.call_later(self.door.limits.idle_seconds, self.transport.abort)
        self.door.wait(self, self._rank)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._read_again() and self._is_answering_whole:
            self.door.busy(self)

    def end(self) -> None:
        """Close behind the last answer: at once, or once its peer has had time to read it."""
        if self._phase is _Phase.START and not self._is_deaf and not self.pipeline:
            self.transport.close()
        else:
            self._linger()

    # Limits.

    @property
    def _is_answering(self) -> bool:
        return self._running is not None and not self._running.response_complete

    @property
    def _is_answering_whole(self) -> bool:
        """Whether a request that has arrived in full is being answered."""
        return self._running is not None and not (self._running.response_complete or self._running.more_body)

    @property
    def _may_answer(self) -> bool:
        """Whether an answer would be taken for that of the request that is arriving now."""
        return not self._is_answering or (
            self._running is self.cycle and self.cycle.more_body and not self.cycle.response_started
        )

    def _feed(self, data: bytes) -> None:
        """Parse; of headers no more than they may have."""
        most = self.door.limits.head_bytes
        rest = data if self._expects(_Phase.BODY) else self._feed_head(data, most)
        if not rest:
            return
        self._unparsed += len(rest)
        self.parser.feed_data(rest)
        if self._expects(_Phase.BODY) and self._unparsed > most:
            self._stop("headers_too_large")

    def _feed_head(self, data: bytes, most: int) -> bytes:
        """Parse as much as headers may still have; return the rest."""
        before = self._raw if self._expects(_Phase.HEAD) else 0
        begun, rest = data[: most - before], data[most - before :]
        self._raw = before + len(begun)
        if begun:
            self.parser.feed_data(begun)
        if rest and self._raw >= most and self._expects(_Phase.HEAD):
            self._stop("headers_too_large")
        return rest

    def _expects(self, phase: _Phase) -> bool:
        return self._phase is phase

    def _count_head(self, size: int) -> None:
        limits = self.door.limits
        self._head += size
        if self._head > limits.head_bytes or self._fields > limits.head_fields:
            self._stop("headers_too_large")

    def _stop(self, code: str) -> None:
        self._stopped = code
        raise httptools.HttpParserError(code)

    def _await_request(self) -> None:
        """Wait for the next request, or for the rest of one that has begun to come meanwhile."""
        if self._is_answering_whole:
            return
        self.door.wait(self, self._rank)
        if self._phase is _Phase.START and not self._is_answering:
            limits = self.door.limits
            self._timed = _Phase.START
            self._set_timer(
                limits.stopping_seconds if self.door.stopping else limits.idle_seconds, self.transport.close
            )

    def _await_rest(self) -> None:
        """After some bytes: wait for the rest of a request, if it is not here."""
        phase = self._phase
        if phase is _Phase.START:
            self.door.hold(self, 0)
            if self._is_answering:
                self._timed = phase
                self._set_timer(None)
                if self._is_answering_whole and self._unread is None:
                    self.door.busy(self)
            return
        self.door.hold(self, self._raw if phase is _Phase.HEAD else self._head + self._body)
        if self._is_deaf or phase is self._timed:  # it had to give way itself; or time runs already
            return
        self._timed = phase
        limits = self.door.limits
        if self.door.stopping:
            self._set_timer(limits.stopping_seconds, self.transport.close)
        elif phase is _Phase.HEAD:
            self._set_timer(limits.head_seconds, self._refuse, "headers_too_slow")
        else:
            self._set_timer(limits.body_seconds, self._refuse, "body_too_slow")

    def _refuse(self, code: str) -> None:
        """Answer with a refusal, or end behind the answer that is on its way; parse nothing more."""
        if self._is_deaf or self.transport.is_closing():
            return
        self._count(code)
        if self._may_answer:
            self.transport.write(written(code))
            self._silence()
            self._linger()
        else:
            if self._running is not None:
                self._running.keep_alive = False
            self._silence()

    def _silence(self) -> None:
        """Take nothing in any more."""
        self._is_deaf = True
        self._set_timer(None)
        self.pipeline.clear()
        cycle = cast("RequestResponseCycle | None", self.cycle)
        if cycle is not None and cycle.more_body:
            cycle.disconnected = True
            cycle.body = bytearray()  # not only once the application has noticed
            cycle.message_event.set()
        self.door.hold(self, 0)

    def _linger(self) -> None:
        """Let the peer read the last answer: closed at once, what it still sends would make it lose that."""
        self._silence()
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.door.wait(self, Rank.ENDING)
        self._set_timer(self.door.limits.ending_seconds, self.transport.abort)

    def _discard(self, data: bytes) -> None:
        self._discarded += len(data)
        if self._discarded > DISCARDED_BYTES:
            self.transport.abort()

    def _prove(self) -> None:
        self._rank = Rank.PROVED

    def _count(self, code: str) -> None:
        url = b"" if self._phase is _Phase.START else self.url
        self.door.refused(code, url.partition(b"?")[0].decode("ascii", "replace"))

    def _set_timer(self, seconds: float | None, act: Callable[..., None] | None = None, *given: Any) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None or act is None else self.loop.call_later(seconds, act, *given)

    def _read_again(self) -> bool:
        unread, self._unread = self._unread, None
        if unread is not None:
            unread.cancel()
        return unread is not None


class _Answers:
    """The transport as an answer sees it: its `close` lets the peer read the answer first."""

    def __init__(self, protocol: GuardedProtocol) -> None:
        self._protocol = protocol

    def write(self, data: bytes) -> None:
        self._protocol.transport.write(data)

    def is_closing(self) -> bool:
        return self._protocol.transport.is_closing()

    def close(self) -> None:
        self._protocol.end()


class _Answering:
    """The application for one request: it reads a body that is here, and waits for none once it answers."""

    def __init__(self, cycle: RequestResponseCycle, app: ASGIApp) -> None:
        self._cycle = cycle
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        cycle = self._cycle
        is_read = False

        async def received() -> Message:
            nonlocal is_read
            if cycle.more_body or is_read:
                message = await receive()
                is_read = is_read or not message.get("more_body")
                return message
            is_read = True  # all of it is here, whether or not its sender still is
            return {"type": "http.request", "body": bytes(cycle.body), "more_body": False}

        async def answered(message: Message) -> None:
            if message["type"] == "http.response.start" and cycle.more_body:
                cycle.keep_alive = False
            await send(message)

        try:
            await self._app(scope, received, answered)
        except ClientDisconnect:
            cycle.disconnected = True


def guarded(door: Connections) -> type[GuardedProtocol]:
    """Return the protocol of one port, whose connections `door` has."""

    class OfOnePort(GuardedProtocol):
        pass

    OfOnePort.door = door
    return OfOnePort
