"""Why reads of a customer fail, deletions that a person decides on, and losses that name no customer.

Goes before the new code.
"""

import sqlalchemy as sa
from alembic import op

from receiver.database import UTCDateTime

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.add_column("_verifications", sa.Column("failures", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("_verifications", sa.Column("failure", sa.Text()))
    for name in ("other_first_at", "other_again_at"):
        op.add_column("_verifications", sa.Column(name, UTCDateTime))
    op.add_column("_held_deletes", sa.Column("why", sa.Text()))
    for name in ("lost_at", "lost_swept_at", "lost_refreshed_at"):
        op.add_column("_progress", sa.Column(name, UTCDateTime))
    op.create_table(
        "_lost_bodies",
        sa.Column("company_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("noticed_at", UTCDateTime, nullable=False),
        sa.PrimaryKeyConstraint("company_id", "digest"),
        sqlite_with_rowid=False,
    )
