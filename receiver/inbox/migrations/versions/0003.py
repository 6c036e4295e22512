"""Deliveries numbered by company; on PostgreSQL in partitions by time.

Stop receiver and worker first.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from receiver.database import JSON_VALUE, UTCDateTime

revision = "0003"
down_revision = "0002"

_COPIED = "company_id, id, position, topic, received_at, headers, body"


def upgrade() -> None:
    op.rename_table("deliveries", "deliveries_before")
    if op.get_bind().dialect.name == "postgresql":  # the name of a constraint is taken as long as it lives
        op.execute("ALTER TABLE deliveries_before RENAME CONSTRAINT deliveries_pkey TO before_pkey")
    op.drop_index("deliveries_by_company", "deliveries_before")
    op.create_table(
        "deliveries",
        sa.Column("company_id", sa.BigInteger, nullable=False),
        sa.Column("id", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("topic", sa.Text, nullable=False),
        sa.Column("received_at", UTCDateTime, nullable=False),
        sa.Column("headers", sa.Text, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("company_id", "id"),
        postgresql_partition_by="RANGE (id)",
    )
    op.create_index("deliveries_by_position", "deliveries", ["company_id", "position"])
    if op.get_bind().dialect.name == "postgresql":
        op.execute("CREATE TABLE deliveries_others PARTITION OF deliveries DEFAULT")
    op.execute(f"INSERT INTO deliveries ({_COPIED}) SELECT {_COPIED} FROM deliveries_before")  # noqa: S608 - names only
    op.drop_table("deliveries_before")
    op.add_column("accepted", sa.Column("head", sa.BigInteger, nullable=False, server_default="0"))
    op.execute("UPDATE accepted SET head = count")
    highest = "(SELECT max(position) FROM deliveries WHERE deliveries.company_id = accepted.company_id)"
    op.execute(f"UPDATE accepted SET head = {highest} WHERE {highest} > head")  # noqa: S608 - names only
    op.create_table(
        "releases",
        sa.Column("company_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("through", sa.BigInteger, nullable=False),
        sa.Column("before", UTCDateTime, nullable=False),
        sa.Column("keep", JSON_VALUE, nullable=False),
    )
