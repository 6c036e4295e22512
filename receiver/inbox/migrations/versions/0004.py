"""When each signature token was last of use. May go before the new code: what is there is left alone."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from receiver.database import UTCDateTime

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "tokens",
        sa.Column("company_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("fingerprint", sa.Text, primary_key=True),
        sa.Column("first_used_at", UTCDateTime, nullable=False),
        sa.Column("last_used_at", UTCDateTime, nullable=False),
    )
