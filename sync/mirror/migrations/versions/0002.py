"""The registration of webhooks at upstream: what a person asked for, which ones are ours, what is under way.

Goes before the new code.
"""

import sqlalchemy as sa
from alembic import op

from receiver.database import JSON_VALUE, UTCDateTime

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "_registration",
        sa.Column("company_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("public_url", sa.Text(), nullable=False),
        sa.Column("ensured_at", UTCDateTime, nullable=False),
        sa.Column("checked_at", UTCDateTime, nullable=True),
        sa.Column("repairing", sa.Boolean(), nullable=False),
        sa.Column("failure", sa.Text(), nullable=True),
        sa.Column("failure_since", UTCDateTime, nullable=True),
        sa.PrimaryKeyConstraint("company_id"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "_webhook_attempts",
        sa.Column("company_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("topic", sa.String(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("known", JSON_VALUE, nullable=False),
        sa.Column("asked_at", UTCDateTime, nullable=False),
        sa.PrimaryKeyConstraint("company_id", "topic"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "_webhooks",
        sa.Column("company_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("webhook_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("topic", sa.String(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("since", UTCDateTime, nullable=False),
        sa.PrimaryKeyConstraint("company_id", "webhook_id"),
        sqlite_with_rowid=False,
    )
