"""The receiver's heartbeat: when each run of it was last known to store what comes.

Goes before the new code.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from receiver.database import UTCDateTime

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("starts", sa.Column("seen_at", UTCDateTime))
