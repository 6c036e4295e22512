"""The OAuth tokens of the company, sealed: this module knows no key."""

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from sync.mirror.reader import MirrorReader
from sync.mirror.schema import TOKENS
from sync.mirror.store import Mirror


async def sealed_tokens(mirror: MirrorReader) -> str | None:
    """Give what was kept last; None while nobody has logged in."""
    statement = select(TOKENS.c.sealed).where(TOKENS.c.company_id == mirror.company_id)
    async with mirror.reading() as connection:
        found: str | None = (await connection.execute(statement)).scalar_one_or_none()
    return found


async def keep_sealed_tokens(mirror: Mirror, sealed: str, now: datetime) -> None:
    """Keep these in place of those before."""
    values = {"sealed": sealed, "kept_at": now}
    statement = insert(TOKENS).values(company_id=mirror.company_id, **values)
    async with mirror.transaction() as connection:
        await connection.execute(statement.on_conflict_do_update(index_elements=["company_id"], set_=values))
