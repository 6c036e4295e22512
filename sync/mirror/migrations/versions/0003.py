"""OAuth tokens, sealed.

Goes before the new code.
"""

import sqlalchemy as sa
from alembic import op

from receiver.database import UTCDateTime

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "_oauth_tokens",
        sa.Column("company_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("sealed", sa.Text(), nullable=False),
        sa.Column("kept_at", UTCDateTime, nullable=False),
        sa.PrimaryKeyConstraint("company_id"),
        sqlite_with_rowid=False,
    )
