"""Refused requests, shown while a person looks for the right token: told to who listens, and never stored."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from receiver.errors import MirrorError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

MOST_WAITING = 64  # requests of up to 1 MiB that are not told yet; more are left out


class AlreadyListening(MirrorError):  # noqa: N818 - it says what is the case
    """Somebody captures already."""


class Captured(NamedTuple):
    """A request whose signature does not verify."""

    topic: str
    reason: str
    headers: Mapping[str, str]
    signatures: Sequence[bytes]
    body: bytes

    def as_json(self) -> str:
        """Give it in one line."""
        return json.dumps(
            {
                "topic": self.topic,
                "reason": self.reason,
                "headers": dict(self.headers),
                "signatures": [one.decode("latin-1") for one in self.signatures],
                "body_base64": b64encode(self.body).decode(),
            }
        )


class Capture:
    """Between the endpoint and whoever listens for one company's refused requests."""

    def __init__(self) -> None:
        self._company_id: int | None = None
        self._told: asyncio.Queue[Captured] = asyncio.Queue(MOST_WAITING)

    def offer(self, company_id: int, captured: Captured) -> None:
        """Tell of a refused request, if somebody listens and keeps up."""
        if company_id == self._company_id and not self._told.full():
            self._told.put_nowait(captured)

    @contextmanager
    def listening(self, company_id: int) -> Iterator[asyncio.Queue[Captured]]:
        """Hear of a company's refused requests from now on. Raises AlreadyListening."""
        if self._company_id is not None:
            raise AlreadyListening(
                f"Somebody captures for company {self._company_id} already. Wait for its end, or end it."
            )
        self._company_id, self._told = company_id, asyncio.Queue(MOST_WAITING)
        try:
            yield self._told
        finally:
            self._company_id = None
