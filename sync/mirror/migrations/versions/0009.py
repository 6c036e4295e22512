"""Samples of the last day for plots; indexes by which people find customers, and unusual verdicts.

Goes before the new code.
"""

import sqlalchemy as sa
from alembic import op

from receiver.database import UTCDateTime

revision = "0009"
down_revision = "0008"

UNUSUAL = sa.text("verdict <> 'applied' AND verdict <> 'unchanged'")


def upgrade() -> None:
    op.create_table(
        "_samples",
        sa.Column("company_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("at", UTCDateTime, nullable=False),
        sa.Column("pending", sa.BigInteger(), nullable=False),
        sa.Column("oldest_pending_seconds", sa.Float(), nullable=False),
        sa.Column("verifications_due", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("company_id", "at"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "_delivery_verdicts_unusual",
        "delivery_verdicts",
        ["company_id", "verdict", "delivery_id"],
        sqlite_where=UNUSUAL,
        postgresql_where=UNUSUAL,
    )
    op.create_index("_customers_by_email", "_customers", ["company_id", sa.text("lower(email)")])
    for name in ("phone", "mobile"):
        is_set = sa.text(f"{name} IS NOT NULL")
        op.create_index(
            f"_customers_by_{name}",
            "_customers",
            ["company_id", name],
            sqlite_where=is_set,
            postgresql_where=is_set,
        )
    is_set = sa.text("reference_id <> ''")
    op.create_index(
        "_customers_by_reference_id",
        "_customers",
        ["company_id", "reference_id"],
        sqlite_where=is_set,
        postgresql_where=is_set,
    )
