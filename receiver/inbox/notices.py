"""PostgreSQL: what receivers say when they have stored deliveries."""

from __future__ import annotations

from typing import TYPE_CHECKING

from receiver.inbox.transactions import CHANNEL
from receiver.postgresql import CONNECT_SECONDS, KEEPALIVES

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator


async def notices(url: str) -> AsyncGenerator[int | None, None]:
    """Give the companies of which deliveries were stored, as they come; None at first: now it is listened.

    A session of its own, which a pooler would take away: `url` goes around it. Raises psycopg's errors.
    """
    import psycopg

    connection = await psycopg.AsyncConnection.connect(
        url,
        autocommit=True,
        connect_timeout=CONNECT_SECONDS,
        application_name="kounta-mirror bells",
        **KEEPALIVES,  # after a failover nobody else would notice that no notice can come any more
    )
    async with connection:
        await connection.execute(f"LISTEN {CHANNEL}".encode())
        yield None
        async for notice in connection.notifies():
            if notice.payload.isdecimal():
                yield int(notice.payload)
