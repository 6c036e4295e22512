"""Beginning the mirror anew: every live row emptied, so that inbox and upstream fill it again."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import delete, func, null, select, update

from sync.merge.customers import COLUMNS
from sync.merge.doubts import Reason
from sync.mirror.queue import doubt_every_live
from sync.mirror.schema import CUSTOMERS, HELD_DELETES, STATUS
from sync.mirror.store import Mirror
from sync.mirror.verdicts import count_anew

REBUILT: Final = "rebuilt"
"""Why a sweep is due: every row has been emptied."""
LONG_AGO: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""`as_of` of an emptied row: whatever says something of it is newer."""

_EMPTY: Final[Mapping[str, Any]] = {
    **dict.fromkeys(COLUMNS),
    "as_of": LONG_AGO,
    "settled_at": LONG_AGO,
    "rests_on_arrival": False,
    "position": 0,
    "verified_at": None,
    "read_at": None,
    "read_as_of": None,
    "read_position": 0,
    "listed_in": 0,
    "partial": True,
    "unread": null(),
}


async def empty_rows(mirror: Mirror, now: datetime) -> int:
    """Forget what every live row says, ask for a sweep and for a read of each, and give their number.

    The rows stay, known in part only, so that the feed tells what became of each; so do tombstones, which a
    sweep brings back if they are wrong, history, and verdicts, which are counted anew. Killed meanwhile, it
    is done or it is not.
    """
    await doubt_every_live(mirror, Reason.PARTIAL, now, asked=False)
    of_company = CUSTOMERS.c.company_id == mirror.company_id
    live = of_company, CUSTOMERS.c.deleted_at.is_(None)
    due = (await mirror.refresh()).sweep_due or REBUILT
    async with mirror.noting(sweep_due=due) as connection:
        counted = select(func.count(), func.count(CUSTOMERS.c.deleted_at)).where(of_company)
        rows, deleted = (await connection.execute(counted)).one()
        number = int(rows - deleted)
        await connection.execute(update(CUSTOMERS).where(*live).values(_EMPTY))
        await connection.execute(delete(HELD_DELETES).where(HELD_DELETES.c.company_id == mirror.company_id))
        await count_anew(connection, mirror.company_id)
        await connection.execute(
            update(STATUS)
            .where(STATUS.c.company_id == mirror.company_id)
            .values(
                live=number,
                deleted=deleted,
                partial=number,
                verified=0,
                oldest_verified_at=None,
                listed_complete=False,
            )
        )
    return number
