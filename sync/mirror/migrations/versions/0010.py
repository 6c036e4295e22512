"""Indexes for what reports ask; days of a company's own zone; the share confirmed in each sample.

Reports do not say of which company: what they ask by comes first in the indexes. Goes before the new code.
"""

import sqlalchemy as sa
from alembic import op

from receiver.database import UTCDateTime

revision = "0010"
down_revision = "0009"

REPLACED = {
    "_customers_by_email": "_customers",
    "_customers_by_phone": "_customers",
    "_customers_by_mobile": "_customers",
    "_customers_by_reference_id": "_customers",
    "_customer_tags_by_tag": "_customer_tags",
    "_changes_by_customer": "_changes",
}
ON_CUSTOMERS: dict[str, tuple[list[str | sa.TextClause], str | None]] = {
    "_customers_by_id": (["id", "company_id"], None),
    "_customers_by_email": (["email", "company_id", "deleted_at"], None),
    "_customers_by_email_in_any_case": ([sa.text("lower(email)"), "company_id"], None),
    "_customers_by_phone": (["phone", "company_id"], "phone IS NOT NULL"),
    "_customers_by_mobile": (["mobile", "company_id"], "mobile IS NOT NULL"),
    "_customers_by_reference_id": (["reference_id", "company_id"], None),
    "_customers_by_city": (["primary_city", "company_id"], "deleted_at IS NULL"),
    "_customers_by_change": (["changed_at", "company_id"], None),
    "_customers_newly_met": (["company_id", "first_seen_at"], "first_seen_by <> 'backfill'"),
    "_customers_deleted": (["deleted_at", "company_id"], "deleted_at IS NOT NULL"),
}


def upgrade() -> None:
    for name, table in REPLACED.items():
        op.drop_index(name, table)
    for name, (columns, condition) in ON_CUSTOMERS.items():
        where = None if condition is None else sa.text(condition)
        op.create_index(name, "_customers", columns, sqlite_where=where, postgresql_where=where)
    op.create_index("_customer_tags_by_tag", "_customer_tags", ["tag", "company_id"])
    op.create_index("_changes_by_customer", "_changes", ["customer_id", "company_id", "seq"])
    op.create_index("_changes_by_time", "_changes", ["company_id", "applied_at"])
    op.create_index(
        "_delivery_verdicts_by_time", "delivery_verdicts", ["company_id", "verdict", "received_at"]
    )
    op.add_column("companies", sa.Column("read_at", UTCDateTime))
    op.create_table(
        "company_days",
        sa.Column("company_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("begins_at", UTCDateTime, nullable=False),
        sa.Column("ends_at", UTCDateTime, nullable=False),
        sa.PrimaryKeyConstraint("company_id", "day"),
        sqlite_with_rowid=False,
    )
    for name in ("live", "verified"):
        op.add_column("_samples", sa.Column(name, sa.BigInteger()))
    op.execute(
        "CREATE VIEW mirror_samples AS SELECT _samples.company_id, _samples.at, _samples.live, "
        "_samples.verified, _samples.verifications_due, _samples.pending, _samples.oldest_pending_seconds "
        "FROM _samples"
    )
