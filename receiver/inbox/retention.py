"""PostgreSQL: old deliveries leave the inbox. There whoever knows their verdicts may remove them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from receiver.database import WritingThread
from receiver.inbox import transactions

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from receiver.postgresql import Schema


async def release(
    schema: Schema, company_id: int, *, through: int, before: datetime, keep: Collection[str]
) -> int:
    """Let a company's deliveries go at or before position `through` that came before `before`.

    Those named in `keep` stay. They go with the partition of their day, once that day has ended before
    `before`; gives how many went now, of whatever company.
    """
    store = WritingThread(schema)
    try:
        return await store.transact(
            partial(
                transactions.release,
                company_id=company_id,
                through=through,
                before=before,
                kept=frozenset(keep),
            )
        )
    finally:
        await store.close()
