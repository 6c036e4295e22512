"""The connections of one port: how many there may be, what they may hold, and which one gives way.

A connection waits while its next request has not arrived in full. When there is no room, the one that has
waited longest gives way, and one that a verified delivery has come by only after all others. A connection
whose request is being answered never gives way. So a sender that sends a whole request at once is served
however many others hold connections open (decision 0069).
"""

from __future__ import annotations

import ipaddress
import resource
from collections import Counter
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BACKLOG = 1024
"""Connections that wait in the kernel to be accepted; all of them may be accepted at once."""
HELD_BYTES = 4 * 1024 * 1024
"""Bytes of requests that have not arrived in full, of all connections together."""
OTHER_DESCRIPTORS = 64
"""Descriptors that are no connections: databases, logs, local sockets."""
FEWEST = 16
PROVED = "proved"
"""Where `scope["state"]` has what an application calls once a request has shown that it is no stranger's."""
OVERLOADED = "unavailable"
CROWDED = "too_many_connections"


class Rank(IntEnum):
    """Who gives way first."""

    ENDING = 0
    """Answered, and kept only until the peer has read the answer."""
    STRANGER = 1
    """Nothing that verified has come by it."""
    PROVED = 2


class Connection(Protocol):
    """What is asked of a connection."""

    source: str | None
    held: int

    def give_way(self) -> None:
        """Close, and count it."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What connections may take. Times are in seconds, sizes in bytes."""

    connections: int = 1024
    of_one_source: int = 64
    """Of a peer that is neither loopback nor private: behind a proxy all come from one."""
    head_bytes: int = 64 * 1024
    head_fields: int = 256
    head_seconds: float = 10.0
    idle_seconds: float = 30.0
    body_seconds: float = 15.0
    """For a whole body; the webhook's own bound is lower, and its answer says more."""
    ending_seconds: float = 2.0
    """How long what still comes is discarded once a connection was answered for the last time."""
    stopping_seconds: float = 1.0
    """How long a request on its way is waited for once the process is asked to stop."""


def source_of(peer: Any) -> str | None:
    """Return by what the connections of a peer are counted; None: it is local or private, or has no address.

    `peer` is what a socket says of it. Of IPv6 it is the network (/64), which one sender has to itself.
    """
    if not isinstance(peer, (tuple, list)) or not peer:
        return None
    try:
        address = ipaddress.ip_address(str(peer[0]))
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            return str(ipaddress.ip_network((int(address), 64), strict=False)) if address.is_global else None
        address = address.ipv4_mapped
    return str(address) if address.is_global else None


class Connections:
    """All connections of one port."""

    def __init__(
        self,
        limits: Limits,
        refused: Callable[[str, str], None],
        source_of: Callable[[Any], str | None] = source_of,
    ) -> None:
        """`refused` is called with the code and the path (may be empty) of what was refused here."""
        self.limits = limits
        self.refused = refused
        self.source_of = source_of
        self.stopping = False
        """Whether the process is asked to stop: each connection has one more request."""
        self._waiting: dict[Rank, dict[Connection, None]] = {rank: {} for rank in Rank}
        self._ranks: dict[Connection, Rank | None] = {}
        self._of_source: Counter[str] = Counter()
        self._held = 0
        self._holders = 0

    def __len__(self) -> int:
        return len(self._ranks)

    @property
    def held(self) -> int:
        """Bytes of requests that have not arrived in full."""
        return self._held

    def enter(self, connection: Connection) -> bool:
        """Take a new connection in, which waits; False: none can give way, so it must be refused."""
        source = connection.source
        has_room = len(self._ranks) < self.limits.connections or self._make_room()
        if has_room and source is not None and self._of_source[source] >= self.limits.of_one_source:
            has_room = self._make_room(source)
        if source is not None:
            self._of_source[source] += 1
        self._ranks[connection] = None
        self.wait(connection, Rank.STRANGER)
        return has_room

    def leave(self, connection: Connection) -> None:
        """Forget a connection that has ended, or gives way."""
        if connection not in self._ranks:
            return
        self.busy(connection)
        self.hold(connection, 0)
        del self._ranks[connection]
        if connection.source is not None:
            self._of_source[connection.source] -= 1
            if not self._of_source[connection.source]:
                del self._of_source[connection.source]

    def wait(self, connection: Connection, rank: Rank) -> None:
        """Note that a connection waits from now on."""
        if connection in self._ranks:
            self.busy(connection)
            self._ranks[connection] = rank
            self._waiting[rank][connection] = None

    def busy(self, connection: Connection) -> None:
        """Note that a request of a connection is being answered."""
        rank = self._ranks.get(connection)
        if rank is not None:
            del self._waiting[rank][connection]
            self._ranks[connection] = None

    def hold(self, connection: Connection, size: int) -> None:
        """Note how many bytes of an incomplete request are held; if it is too much, some give way, or it."""
        if connection not in self._ranks:
            return
        self._held += size - connection.held
        self._holders += (size > 0) - (connection.held > 0)
        connection.held = size
        while self._held > HELD_BYTES:
            average = self._held / self._holders  # those with less would free nothing
            large = next((other for other in self._in_order() if other.held >= average), None)
            if large is None:
                return
            self._dismiss(large)

    def _make_room(self, source: str | None = None) -> bool:
        for connection in self._in_order():
            if source is None or connection.source == source:
                self._dismiss(connection)
                return True
        return False

    def _dismiss(self, connection: Connection) -> None:
        self.leave(connection)
        connection.give_way()

    def _in_order(self) -> Iterator[Connection]:
        """Yield those that wait, who gives way first before."""
        for rank in Rank:
            yield from self._waiting[rank]


def fitting(limits: Limits) -> Limits:
    """Return limits that fit the descriptors of this process; their number is raised as far as it may be."""
    wanted = limits.connections + BACKLOG + OTHER_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
        soft = allowed
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return limits
    return replace(
        limits, connections=max(FEWEST, min(limits.connections, soft - BACKLOG - OTHER_DESCRIPTORS))
    )
