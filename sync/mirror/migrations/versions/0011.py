"""What came of a customer and could not be read; whether reads of the company carry `mobile`.

Goes before the new code.
"""

import sqlalchemy as sa
from alembic import op

from receiver.database import JSON_VALUE

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.add_column("_customers", sa.Column("unread", JSON_VALUE))
    op.add_column("_progress", sa.Column("mobile_read", sa.Boolean()))
