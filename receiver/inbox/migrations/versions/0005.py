"""Restarts with a socket that its parent keeps open. May go before the new code: it is left alone."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("starts", sa.Column("socket", sa.Text))
    op.add_column("starts", sa.Column("kept", sa.Boolean, nullable=False, server_default=sa.false()))
