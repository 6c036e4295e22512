"""Counts of each day; whom a person let go; what of the receiver was looked at; when the worker last lived.

Goes before the new code.
"""

import sqlalchemy as sa
from alembic import op

from receiver.database import UTCDateTime

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "_daily_counts",
        sa.Column("company_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("day", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("company_id", "day", "name"),
        sqlite_with_rowid=False,
    )
    op.add_column("_progress", sa.Column("deletes_allowed_at", UTCDateTime, nullable=True))
    for name in ("starts_seen", "failed_commits_seen"):
        op.add_column("_progress", sa.Column(name, sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("_progress", sa.Column("alive_at", UTCDateTime, nullable=True))
