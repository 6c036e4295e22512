"""The endpoint: verify, store, answer. The order of its checks is the table of the interface."""

from __future__ import annotations

import asyncio
from collections import Counter
from hashlib import sha256
from typing import TYPE_CHECKING, Protocol

from receiver.answers import MAX_BODY_BYTES, Refused, refusal
from receiver.capture import Capture, Captured
from receiver.connections import PROVED
from receiver.inbox import CONNECTIONS_FULL, CommitFailed, QueueFull
from receiver.inbox.schema import NOBODY
from receiver.refused import RefusalLog, path_of
from receiver.signature import HEADER, Rejected, fingerprint, verify
from receiver.topics import ACCEPTED, PING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from starlette.types import Message, Receive, Scope, Send

    from receiver.inbox.store import Spooled

BODY_SECONDS = 10.0  # for a body to arrive
STOPPING_SECONDS = 1.0  # the same once the process is asked to stop

# What is stored of the headers. An allow-list: a webhook may be registered with headers that carry secrets.
_KEPT = frozenset({b"content-type", b"date", b"user-agent", b"x-request-id"})
_KEPT_PREFIX = b"x-kounta-"


class Inbox(Protocol):
    """What the receiver needs of the inbox."""

    @property
    def ready(self) -> bool: ...

    @property
    def spooled(self) -> Spooled | None: ...

    async def append(self, company_id: int, topic: str, headers: Mapping[str, str], body: bytes) -> str: ...

    def refuse(self, company_id: int, reason: str) -> None: ...

    def overloaded(self, reason: str) -> None: ...

    def note_token(self, company_id: int, fingerprint: str) -> None: ...


class Webhook:
    """An ASGI application for `/webhooks/{company_id}/{topic}`; `tokens` are those of each company."""

    def __init__(
        self, inbox: Inbox, tokens: Mapping[int, Sequence[bytes]], capture: Capture | None = None
    ) -> None:
        self._inbox = inbox
        self._capture = capture or Capture()
        self._log = RefusalLog()
        self._companies: Mapping[str, int] = {}
        self._tokens: Mapping[int, Sequence[bytes]] = {}
        self._fingerprints: Mapping[int, Sequence[str]] = {}
        self.serve(tokens)
        self.answers: Counter[tuple[int, str]] = Counter()
        """Requests by company (NOBODY: none of ours) and by what they were answered: "stored", or a code."""
        self._reading: set[asyncio.Timeout] = set()
        self._stopping = False

    def serve(self, tokens: Mapping[int, Sequence[bytes]]) -> None:
        """Serve these companies from now on, and no others."""
        self._companies = {str(company_id): company_id for company_id in tokens}
        self._tokens = tokens
        self._fingerprints = {id_: tuple(map(fingerprint, known)) for id_, known in tokens.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        company_id = self._companies.get(scope["path_params"]["company_id"], NOBODY)
        try:
            name = await self._take(company_id, scope, receive)
        except _Gone:
            return
        except Refused as refused:
            self.note_refused(refused.counted, path_of(scope), company_id)
            await refusal(refused.code, refused.more)(scope, receive, send)
            return
        self.answers[company_id, "stored"] += 1
        body = b'{"delivery": "%b"}' % name.encode("ascii")
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def note_refused(self, code: str, path: str, company_id: int = NOBODY) -> None:
        """Count a refused request, here or before it came here, and see that the log says so."""
        self._inbox.refuse(company_id, code)
        self.answers[company_id, code] += 1
        self._log.note(code, path)

    def note_overrun(self) -> None:
        """Note that connections were turned away that may have carried deliveries."""
        self._inbox.overloaded(CONNECTIONS_FULL)

    def close(self) -> None:
        """Say what the log does not say yet."""
        self._log.flush()

    def hurry(self) -> None:
        """Give bodies on their way a last second, because the process stops."""
        self._stopping = True
        deadline = asyncio.get_running_loop().time() + STOPPING_SECONDS
        for patience in self._reading:
            patience.reschedule(deadline)

    async def _take(self, company_id: int, scope: Scope, receive: Receive) -> str:
        tokens, fingerprints = self._tokens.get(company_id), self._fingerprints.get(company_id)
        if tokens is None or fingerprints is None:
            raise Refused("unknown_company")
        topic = scope["path_params"]["topic"].removesuffix("/")  # upstream may write addresses so
        if topic not in ACCEPTED:
            raise Refused("unknown_topic")
        if scope["method"] != "POST":
            raise Refused("method_not_allowed")

        signatures: list[bytes] = []
        kept: dict[str, str] = {}
        for name, value in scope["headers"]:
            if name == b"content-length" and int(value) > MAX_BODY_BYTES:
                raise Refused("body_too_large")
            if name == HEADER:
                signatures.append(value)
            if name in _KEPT or name.startswith(_KEPT_PREFIX):
                kept[name.decode("latin-1")] = value.decode("latin-1")

        body = await self._body(receive)
        verdict = verify(body, signatures, tokens)
        if isinstance(verdict, Rejected):
            self._capture.offer(company_id, Captured(topic, verdict.reason, kept, signatures, body))
            raise Refused(verdict.reason, {"body_sha256": sha256(body).hexdigest()} if topic == PING else {})
        scope.get("state", {}).get(PROVED, _nothing)()
        self._inbox.note_token(company_id, fingerprints[verdict.token])
        try:
            return await self._inbox.append(company_id, topic, kept, body)
        except (QueueFull, CommitFailed) as error:
            raise Refused("unavailable") from error

    async def _body(self, receive: Receive) -> bytes:
        patience = asyncio.timeout(STOPPING_SECONDS if self._stopping else BODY_SECONDS)
        self._reading.add(patience)
        try:
            async with patience:
                message = await receive()
                if not message.get("more_body"):
                    return _part(message, 0)
                parts: list[bytes] = []
                size = 0
                while True:
                    part = _part(message, size)
                    parts.append(part)
                    size += len(part)
                    if not message.get("more_body"):
                        return b"".join(parts)
                    message = await receive()
        except TimeoutError as error:
            # a stranger must not make 503s count, which are a problem in any case
            raise Refused(
                "unavailable" if self._stopping else "body_too_slow", counted="body_too_slow"
            ) from error
        finally:
            self._reading.discard(patience)


def _nothing() -> None:
    """Do nothing: the server does not ask who is a stranger."""


class _Gone(Exception):  # noqa: N818 - it says what is the case
    """The client went away before its body was here: there is nobody to answer."""


def _part(message: Message, before: int) -> bytes:
    if message["type"] == "http.disconnect":
        raise _Gone
    part: bytes = message.get("body", b"")
    if before + len(part) > MAX_BODY_BYTES:
        raise Refused("body_too_large")
    return part
