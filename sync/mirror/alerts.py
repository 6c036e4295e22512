"""Alerts: what needs attention, and what of it nobody was told yet. A restart neither repeats nor forgets."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import ColumnElement, and_, delete, func, insert, or_, select, update

from sync.mirror.reader import MirrorReader
from sync.mirror.schema import ALERTS
from sync.mirror.store import Mirror


@dataclass(frozen=True, slots=True)
class Alert:
    """Something that somebody should be told: open while `closed_at` is None."""

    id: int
    name: str
    """What it is about, and the anchor of its place in the runbook; one of a name is open at a time."""
    severity: int
    sentence: str
    since: datetime
    opened_at: datetime
    closed_at: datetime | None = None
    open_told_at: datetime | None = None
    close_told_at: datetime | None = None


_COLUMNS: Final = [ALERTS.c[name] for name in Alert.__slots__]


async def open_alerts(mirror: MirrorReader) -> list[Alert]:
    """Give the alerts that are open, the oldest first."""
    return await _alerts(mirror, ALERTS.c.closed_at.is_(None))


async def untold_alerts(mirror: MirrorReader) -> list[Alert]:
    """Give the alerts of whose opening or end nobody was told yet, the oldest first."""
    return await _alerts(
        mirror,
        or_(
            ALERTS.c.open_told_at.is_(None),
            and_(ALERTS.c.closed_at.is_not(None), ALERTS.c.close_told_at.is_(None)),
        ),
    )


async def open_and_close(mirror: Mirror, new: Sequence[Alert], over: Sequence[str], now: datetime) -> None:
    """Open these, whose ids are given here, and close the open ones of these names, in one transaction."""
    newest = select(func.coalesce(func.max(ALERTS.c.id), 0)).where(ALERTS.c.company_id == mirror.company_id)
    async with mirror.transaction() as connection:
        for alert in new:
            await connection.execute(
                insert(ALERTS).values(
                    company_id=mirror.company_id,
                    id=newest.scalar_subquery() + 1,
                    name=alert.name,
                    severity=alert.severity,
                    sentence=alert.sentence,
                    since=alert.since,
                    opened_at=alert.opened_at,
                )
            )
        await connection.execute(
            update(ALERTS)
            .where(
                ALERTS.c.company_id == mirror.company_id,
                ALERTS.c.closed_at.is_(None),
                ALERTS.c.name.in_(over),
            )
            .values(closed_at=now)
        )


async def note_told(mirror: Mirror, alert: Alert, now: datetime, *, closed: bool) -> None:
    """Note that somebody was told that it opened, or that it closed: then it is over, and leaves."""
    this = and_(ALERTS.c.company_id == mirror.company_id, ALERTS.c.id == alert.id)
    async with mirror.transaction() as connection:
        if closed:
            await connection.execute(delete(ALERTS).where(this))
        else:
            await connection.execute(update(ALERTS).where(this).values(open_told_at=now))


async def _alerts(mirror: MirrorReader, condition: ColumnElement[bool]) -> list[Alert]:
    statement = select(*_COLUMNS).where(ALERTS.c.company_id == mirror.company_id, condition)
    async with mirror.reading() as connection:
        return [Alert(*row) for row in await connection.execute(statement.order_by(ALERTS.c.id))]
