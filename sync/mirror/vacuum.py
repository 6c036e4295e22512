"""PostgreSQL: removed rows stay in a table as old versions until it is vacuumed and nobody can see them."""

from typing import Final

from sqlalchemy import text

from sync.mirror.store import MirrorStore

TABLES: Final = (
    "mirror._customers",
    "mirror._customer_tags",
    "mirror._changes",
    "mirror.delivery_verdicts",
    "mirror._past_verdicts",
    "mirror._verifications",
    "mirror._held_deletes",
    "inbox.deliveries",
)
"""Where an erased person was."""

_NOW: Final = text("SELECT CAST(pg_snapshot_xmax(pg_current_snapshot()) AS text)")
_READERS: Final = text(
    "SELECT count(*) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database() "
    "AND backend_type = 'client backend' AND age(backend_xmin) > age(CAST(CAST(:horizon AS xid8) AS xid))"
)


async def horizon(store: MirrorStore) -> str:
    """Name this moment, as the server counts its transactions."""
    async with store.reading.connect() as connection:
        return str((await connection.execute(_NOW)).scalar_one())


async def vacuum(store: MirrorStore, since: str) -> bool:
    """Vacuum the tables; False: somebody can still see what was there before the moment `since`."""
    alone = store.engine.execution_options(isolation_level="AUTOCOMMIT")
    async with alone.connect() as connection:
        if (await connection.execute(_READERS, {"horizon": since})).scalar_one():
            return False
        for table in TABLES:
            found = await connection.execute(text("SELECT to_regclass(:name)"), {"name": table})
            if found.scalar_one() is not None:
                await connection.execute(text(f"VACUUM {table}"))
    return True
