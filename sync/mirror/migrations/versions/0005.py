"""Gaps and what their sweeps repaired, deliveries of each hour, alerts that are open or not yet told.

Goes before the new code.
"""

import sqlalchemy as sa
from alembic import op

from receiver.database import UTCDateTime

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "_gaps",
        sa.Column("company_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("what", sa.Text(), nullable=False),
        sa.Column("since", UTCDateTime, nullable=True),
        sa.Column("until", UTCDateTime, nullable=True),
        sa.Column("noticed_at", UTCDateTime, nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("swept_at", UTCDateTime, nullable=True),
        sa.Column("revision", sa.BigInteger(), nullable=True),
        sa.Column("mended_at", UTCDateTime, nullable=True),
        sa.Column("created", sa.BigInteger(), nullable=True),
        sa.Column("updated", sa.BigInteger(), nullable=True),
        sa.Column("deleted", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("company_id", "id"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "_hourly_deliveries",
        sa.Column("company_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("hour", UTCDateTime, nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("company_id", "hour"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "_alerts",
        sa.Column("company_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("severity", sa.Integer(), nullable=False),
        sa.Column("sentence", sa.Text(), nullable=False),
        sa.Column("since", UTCDateTime, nullable=False),
        sa.Column("opened_at", UTCDateTime, nullable=False),
        sa.Column("closed_at", UTCDateTime, nullable=True),
        sa.Column("open_told_at", UTCDateTime, nullable=True),
        sa.Column("close_told_at", UTCDateTime, nullable=True),
        sa.PrimaryKeyConstraint("company_id", "id"),
        sqlite_with_rowid=False,
    )
