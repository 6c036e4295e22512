"""How many pages a sweep has met, so that one that was interrupted knows whether it has met them all.

Goes before the new code.
"""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    op.add_column("_sweeps", sa.Column("pages", sa.BigInteger()))
