"""What the mirror knows of deliveries: their verdicts, those they had before, and how far it has come."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import select

from receiver.database import utc_text
from sync.merge.decisions import Verdict
from sync.mirror.reader import MirrorReader
from sync.mirror.schema import PAST_VERDICTS, PROGRESS, VERDICTS
from sync.mirror.verdicts import Ruling, is_about, is_verdict

_AT_ONCE: Final = 1000


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which deliveries; None: any. Times are those of their arrival, the first of them inclusive."""

    verdict: str | None = None
    customer_id: int | None = None
    since: datetime | None = None
    until: datetime | None = None


class PastVerdict(NamedTuple):
    """What became of a delivery before it was replayed."""

    verdict: Verdict
    reason: str | None
    applied_at: datetime
    replaced_at: datetime

    def as_json(self) -> dict[str, Any]:
        """Give it as commands print it; times are ISO 8601 in UTC."""
        times = {"applied_at": utc_text(self.applied_at), "replaced_at": utc_text(self.replaced_at)}
        return {**self._asdict(), "verdict": str(self.verdict), **times}


async def rulings(mirror: MirrorReader, wanted: Wanted) -> AsyncGenerator[Ruling, None]:
    """Give these deliveries with their verdict, the newest first.

    They lie in the order of their names, which is that of their arrival but for moments: a whole page that is
    older than `since` is the end.
    """
    statement = select(*(VERDICTS.c[name] for name in Ruling._fields)).where(
        VERDICTS.c.company_id == mirror.company_id
    )
    if wanted.verdict is not None:
        statement = statement.where(is_verdict(wanted.verdict))
    if wanted.customer_id is not None:
        statement = statement.where(is_about(mirror.company_id, wanted.customer_id))
    statement = statement.order_by(VERDICTS.c.delivery_id.desc()).limit(_AT_ONCE)
    page = statement
    while True:
        async with mirror.reading() as connection:
            found = [Ruling(*row) for row in await connection.execute(page)]
        for ruling in found:
            if (wanted.since is None or ruling.received_at >= wanted.since) and (
                wanted.until is None or ruling.received_at < wanted.until
            ):
                yield ruling
        if len(found) < _AT_ONCE:
            return
        if wanted.since is not None and max(one.received_at for one in found) < wanted.since:
            return
        page = statement.where(VERDICTS.c.delivery_id < found[-1].delivery_id)


async def newest(mirror: MirrorReader, wanted: Wanted, limit: int) -> list[Ruling]:
    """Give the newest of these deliveries with their verdict, at most `limit`."""
    found: list[Ruling] = []
    async with aclosing(rulings(mirror, wanted)) as all_of_them:
        async for ruling in all_of_them:
            if len(found) == limit:
                break
            found.append(ruling)
    return found


async def ruling_of(mirror: MirrorReader, delivery_id: str) -> Ruling | None:
    """Give a delivery's verdict; None when it has none."""
    statement = select(*(VERDICTS.c[name] for name in Ruling._fields)).where(
        VERDICTS.c.company_id == mirror.company_id, VERDICTS.c.delivery_id == delivery_id
    )
    async with mirror.reading() as connection:
        row = (await connection.execute(statement)).first()
    return None if row is None else Ruling(*row)


async def past_verdicts(mirror: MirrorReader, delivery_id: str) -> list[PastVerdict]:
    """Give what became of a delivery before it was replayed, in order."""
    statement = (
        select(*(PAST_VERDICTS.c[name] for name in PastVerdict._fields))
        .where(PAST_VERDICTS.c.company_id == mirror.company_id, PAST_VERDICTS.c.delivery_id == delivery_id)
        .order_by(PAST_VERDICTS.c.replaced_at)
    )
    async with mirror.reading() as connection:
        return [PastVerdict(*row) for row in await connection.execute(statement)]


async def applied_through(mirror: MirrorReader) -> tuple[str | None, int]:
    """Give the identity of the inbox that was read last, and the position up to which it is applied."""
    statement = select(PROGRESS.c.inbox_id, PROGRESS.c.position).where(
        PROGRESS.c.company_id == mirror.company_id
    )
    async with mirror.reading() as connection:
        row = (await connection.execute(statement)).first()
    return (None, 0) if row is None else (row.inbox_id, row.position)
