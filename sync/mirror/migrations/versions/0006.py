"""The lease of a company, and how often a sweep was asked for.

Goes before the new code.
"""

import sqlalchemy as sa
from alembic import op

from receiver.database import UTCDateTime

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    for name in ("sweeps_asked", "epoch"):
        op.add_column("_progress", sa.Column(name, sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("_progress", sa.Column("lease_holder", sa.String(), nullable=True))
    op.add_column("_progress", sa.Column("lease_until", UTCDateTime, nullable=True))
    op.add_column("_progress", sa.Column("lease_wanted_by", sa.String(), nullable=True))
    op.add_column("_progress", sa.Column("lease_wanted_at", UTCDateTime, nullable=True))
