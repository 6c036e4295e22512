"""Erased people: their marks, and the deliveries whose bodies the inbox has yet to drop.

Goes before the new code.
"""

import sqlalchemy as sa
from alembic import op

from receiver.database import UTCDateTime

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.create_table(
        "_erased_customers",
        sa.Column("company_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("mark", sa.String(), nullable=False),
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("erased_at", UTCDateTime, nullable=False),
        sa.Column("searched_at", UTCDateTime, nullable=True),
        sa.Column("completed_at", UTCDateTime, nullable=True),
        sa.Column("returned_at", UTCDateTime, nullable=True),
        sa.PrimaryKeyConstraint("company_id", "mark"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "_erased_bodies",
        sa.Column("company_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("delivery_id", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("company_id", "delivery_id"),
        sqlite_with_rowid=False,
    )
