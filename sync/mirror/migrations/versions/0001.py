"""The mirror: customers, their history, verdicts, doubts, sweeps and status."""

import sqlalchemy as sa
from alembic import op

from receiver.database import JSON_VALUE, UTCDateTime

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "_changes",
        sa.Column("company_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("customer_id", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("attributes", JSON_VALUE, nullable=False),
        sa.Column("before", JSON_VALUE, nullable=True),
        sa.Column("after", JSON_VALUE, nullable=True),
        sa.Column("as_of", UTCDateTime, nullable=True),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("delivery_id", sa.String(), nullable=True),
        sa.Column("applied_at", UTCDateTime, nullable=False),
        sa.Column("first_name", sa.Text(), nullable=True),
        sa.Column("last_name", sa.Text(), nullable=True),
        sa.Column("email", sa.Text(), nullable=True),
        sa.Column("phone", sa.Text(), nullable=True),
        sa.Column("mobile", sa.Text(), nullable=True),
        sa.Column("image", sa.Text(), nullable=True),
        sa.Column("reference_id", sa.Text(), nullable=True),
        sa.Column("accepts_marketing", sa.Boolean(), nullable=True),
        sa.Column("tags", JSON_VALUE, nullable=True),
        sa.Column("primary_address", sa.Text(), nullable=True),
        sa.Column("primary_city", sa.Text(), nullable=True),
        sa.Column("primary_state", sa.Text(), nullable=True),
        sa.Column("primary_postal_code", sa.Text(), nullable=True),
        sa.Column("primary_country", sa.Text(), nullable=True),
        sa.Column("shipping_address", sa.Text(), nullable=True),
        sa.Column("shipping_city", sa.Text(), nullable=True),
        sa.Column("shipping_state", sa.Text(), nullable=True),
        sa.Column("shipping_postal_code", sa.Text(), nullable=True),
        sa.Column("shipping_country", sa.Text(), nullable=True),
        sa.Column("other", JSON_VALUE, nullable=True),
        sa.Column("valid_to", UTCDateTime, nullable=True),
        sa.PrimaryKeyConstraint("company_id", "seq"),
        sqlite_with_rowid=True,
    )
    op.create_index("_changes_by_customer", "_changes", ["company_id", "customer_id", "seq"], unique=False)
    op.create_index(
        "_changes_that_delete",
        "_changes",
        ["company_id", "applied_at"],
        unique=False,
        sqlite_where=sa.text("kind = 'deleted'"),
        postgresql_where=sa.text("kind = 'deleted'"),
    )
    op.create_table(
        "_customer_tags",
        sa.Column("company_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("customer_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("place", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("tag", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("company_id", "customer_id", "place"),
        sqlite_with_rowid=False,
    )
    op.create_index("_customer_tags_by_tag", "_customer_tags", ["company_id", "tag"], unique=False)
    op.create_table(
        "_customers",
        sa.Column("company_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("first_name", sa.Text(), nullable=True),
        sa.Column("last_name", sa.Text(), nullable=True),
        sa.Column("email", sa.Text(), nullable=True),
        sa.Column("phone", sa.Text(), nullable=True),
        sa.Column("mobile", sa.Text(), nullable=True),
        sa.Column("image", sa.Text(), nullable=True),
        sa.Column("reference_id", sa.Text(), nullable=True),
        sa.Column("accepts_marketing", sa.Boolean(), nullable=True),
        sa.Column("tags", JSON_VALUE, nullable=True),
        sa.Column("primary_address", sa.Text(), nullable=True),
        sa.Column("primary_city", sa.Text(), nullable=True),
        sa.Column("primary_state", sa.Text(), nullable=True),
        sa.Column("primary_postal_code", sa.Text(), nullable=True),
        sa.Column("primary_country", sa.Text(), nullable=True),
        sa.Column("shipping_address", sa.Text(), nullable=True),
        sa.Column("shipping_city", sa.Text(), nullable=True),
        sa.Column("shipping_state", sa.Text(), nullable=True),
        sa.Column("shipping_postal_code", sa.Text(), nullable=True),
        sa.Column("shipping_country", sa.Text(), nullable=True),
        sa.Column("other", JSON_VALUE, nullable=True),
        sa.Column("as_of", UTCDateTime, nullable=False),
        sa.Column("first_seen_at", UTCDateTime, nullable=False),
        sa.Column("first_seen_by", sa.String(), nullable=False),
        sa.Column("changed_at", UTCDateTime, nullable=False),
        sa.Column("verified_at", UTCDateTime, nullable=True),
        sa.Column("partial", sa.Boolean(), nullable=False),
        sa.Column("deleted_at", UTCDateTime, nullable=True),
        sa.Column("rests_on_arrival", sa.Boolean(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("settled_at", UTCDateTime, nullable=False),
        sa.Column("read_at", UTCDateTime, nullable=True),
        sa.Column("read_as_of", UTCDateTime, nullable=True),
        sa.Column("read_position", sa.BigInteger(), nullable=False),
        sa.Column("last_seq", sa.BigInteger(), nullable=True),
        sa.Column("listed_in", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("company_id", "id"),
        sqlite_with_rowid=True,
    )
    op.create_index(
        "_customers_by_verification",
        "_customers",
        ["company_id", "verified_at"],
        unique=False,
        sqlite_where=sa.text("deleted_at IS NULL"),
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_table(
        "_held_deletes",
        sa.Column("company_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("customer_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("missing_at", UTCDateTime, nullable=False),
        sa.PrimaryKeyConstraint("company_id", "customer_id"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "_past_verdicts",
        sa.Column("company_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("delivery_id", sa.String(), nullable=False),
        sa.Column("replaced_at", UTCDateTime, nullable=False),
        sa.Column("verdict", sa.String(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("applied_at", UTCDateTime, nullable=False),
        sa.PrimaryKeyConstraint("company_id", "delivery_id", "replaced_at"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "_progress",
        sa.Column("company_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("inbox_id", sa.String(), nullable=True),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("missing", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("last_call_at", UTCDateTime, nullable=True),
        sa.Column("closed_until", UTCDateTime, nullable=True),
        sa.Column("upstream_failure", sa.Text(), nullable=True),
        sa.Column("upstream_failure_since", UTCDateTime, nullable=True),
        sa.Column("ruled_elsewhere", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("sweep_due", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("company_id"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "_status",
        sa.Column("company_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("live", sa.BigInteger(), nullable=False),
        sa.Column("deleted", sa.BigInteger(), nullable=False),
        sa.Column("verified", sa.BigInteger(), nullable=False),
        sa.Column("partial", sa.BigInteger(), nullable=False),
        sa.Column("listed_complete", sa.Boolean(), nullable=False),
        sa.Column("attributes", JSON_VALUE, nullable=False),
        sa.Column("oldest_verified_at", UTCDateTime, nullable=True),
        sa.Column("last_delivery_at", UTCDateTime, nullable=True),
        sa.Column("last_applied_at", UTCDateTime, nullable=True),
        sa.Column("last_sweep_at", UTCDateTime, nullable=True),
        sa.Column("verifications_due", sa.BigInteger(), nullable=False),
        sa.Column("drift_rate", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("company_id"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "_sweeps",
        sa.Column("company_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("started_at", UTCDateTime, nullable=False),
        sa.Column("finished_at", UTCDateTime, nullable=True),
        sa.Column("complete", sa.Boolean(), nullable=False),
        sa.Column("next_page", sa.Text(), nullable=True),
        sa.Column("listed", sa.BigInteger(), nullable=False),
        sa.Column("failure", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("company_id", "id"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "_verdict_counts",
        sa.Column("company_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("verdict", sa.String(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("company_id", "verdict"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "_verifications",
        sa.Column("company_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("customer_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("asked", sa.Boolean(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("due_at", UTCDateTime, nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("born", sa.BigInteger(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("not_before", UTCDateTime, nullable=True),
        sa.PrimaryKeyConstraint("company_id", "customer_id"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "_verifications_by_priority", "_verifications", ["company_id", "priority", "due_at"], unique=False
    )
    op.create_table(
        "companies",
        sa.Column("company_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("time_zone", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("company_id"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "delivery_verdicts",
        sa.Column("company_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("delivery_id", sa.String(), nullable=False),
        sa.Column("customer_id", sa.BigInteger(), nullable=True),
        sa.Column("topic", sa.String(), nullable=False),
        sa.Column("verdict", sa.String(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("received_at", UTCDateTime, nullable=False),
        sa.Column("applied_at", UTCDateTime, nullable=False),
        sa.PrimaryKeyConstraint("company_id", "delivery_id"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "_delivery_verdicts_in_trouble",
        "delivery_verdicts",
        ["company_id", "verdict", "applied_at"],
        unique=False,
        sqlite_where=sa.text("verdict = 'failed' OR verdict = 'quarantined'"),
        postgresql_where=sa.text("verdict = 'failed' OR verdict = 'quarantined'"),
    )
    op.execute(
        "CREATE VIEW customers AS SELECT _customers.company_id, _customers.id, "
        "_customers.first_name, _customers.last_name, _customers.email, _customers.phone, "
        "_customers.mobile, _customers.image, _customers.reference_id, "
        "_customers.accepts_marketing, _customers.tags, _customers.primary_address, "
        "_customers.primary_city, _customers.primary_state, _customers.primary_postal_code, "
        "_customers.primary_country, _customers.shipping_address, _customers.shipping_city, "
        "_customers.shipping_state, _customers.shipping_postal_code, _customers.shipping_country, "
        "_customers.other, _customers.as_of, _customers.first_seen_at, _customers.first_seen_by, "
        "_customers.changed_at, _customers.verified_at, _customers.partial FROM _customers WHERE "
        "_customers.deleted_at IS NULL"
    )
    op.execute(
        "CREATE VIEW all_customers AS SELECT _customers.company_id, _customers.id, "
        "_customers.first_name, _customers.last_name, _customers.email, _customers.phone, "
        "_customers.mobile, _customers.image, _customers.reference_id, "
        "_customers.accepts_marketing, _customers.tags, _customers.primary_address, "
        "_customers.primary_city, _customers.primary_state, _customers.primary_postal_code, "
        "_customers.primary_country, _customers.shipping_address, _customers.shipping_city, "
        "_customers.shipping_state, _customers.shipping_postal_code, _customers.shipping_country, "
        "_customers.other, _customers.as_of, _customers.first_seen_at, _customers.first_seen_by, "
        "_customers.changed_at, _customers.verified_at, _customers.partial, _customers.deleted_at "
        "FROM _customers"
    )
    op.execute(
        "CREATE VIEW customer_tags AS SELECT _customer_tags.company_id, _customer_tags.customer_id,"
        " _customer_tags.tag FROM _customer_tags"
    )
    op.execute(
        "CREATE VIEW customer_changes AS SELECT _changes.company_id, _changes.seq, "
        '_changes.customer_id, _changes.kind, _changes.attributes, _changes."before", '
        '_changes."after", _changes.as_of, _changes.source, _changes.delivery_id, '
        "_changes.applied_at FROM _changes"
    )
    op.execute(
        "CREATE VIEW customer_versions AS SELECT _changes.company_id, _changes.customer_id, "
        "_changes.first_name, _changes.last_name, _changes.email, _changes.phone, _changes.mobile, "
        "_changes.image, _changes.reference_id, _changes.accepts_marketing, _changes.tags, "
        "_changes.primary_address, _changes.primary_city, _changes.primary_state, "
        "_changes.primary_postal_code, _changes.primary_country, _changes.shipping_address, "
        "_changes.shipping_city, _changes.shipping_state, _changes.shipping_postal_code, "
        "_changes.shipping_country, _changes.other, _changes.as_of, _changes.applied_at AS "
        "valid_from, _changes.valid_to, _changes.seq FROM _changes WHERE (_changes.kind NOT IN "
        "('deleted', 'erased'))"
    )
    op.execute(
        "CREATE VIEW mirror_status AS SELECT _status.company_id, _status.live, _status.deleted, "
        "_status.verified, _status.partial, _status.listed_complete, _status.attributes, "
        "_status.oldest_verified_at, _status.last_delivery_at, _status.last_applied_at, "
        "_status.last_sweep_at, _status.verifications_due, _status.drift_rate FROM _status"
    )
    on = op.get_bind().dialect.name
    for statement in _ON_POSTGRESQL if on == "postgresql" else _ON_SQLITE:
        op.execute(statement)


_ON_SQLITE = (
    (
        "CREATE TRIGGER _customer_tags_of_new AFTER INSERT ON _customers WHEN NEW.tags IS NOT NULL "
        "BEGIN INSERT INTO _customer_tags (company_id, customer_id, place, tag) SELECT "
        "NEW.company_id, NEW.id, key, value FROM json_each(NEW.tags) WHERE NEW.deleted_at IS NULL; "
        "END"
    ),
    (
        "CREATE TRIGGER _customer_tags_of_changed AFTER UPDATE ON _customers WHEN OLD.tags IS NOT "
        "NEW.tags OR (OLD.deleted_at IS NULL) <> (NEW.deleted_at IS NULL) BEGIN DELETE FROM "
        "_customer_tags WHERE company_id = OLD.company_id AND customer_id = OLD.id; INSERT INTO "
        "_customer_tags (company_id, customer_id, place, tag) SELECT NEW.company_id, NEW.id, key, "
        "value FROM json_each(NEW.tags) WHERE NEW.deleted_at IS NULL; END"
    ),
)
_ON_POSTGRESQL = (
    (
        "CREATE FUNCTION _customer_tags_follow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "IF TG_OP = 'UPDATE' THEN DELETE FROM mirror._customer_tags "
        "WHERE company_id = OLD.company_id AND customer_id = OLD.id; END IF; "
        "INSERT INTO mirror._customer_tags (company_id, customer_id, place, tag) "
        "SELECT NEW.company_id, NEW.id, number - 1, tag "
        "FROM jsonb_array_elements_text(NEW.tags) WITH ORDINALITY AS tags (tag, number) "
        "WHERE NEW.deleted_at IS NULL; RETURN NULL; END $$"
    ),
    (
        "CREATE TRIGGER _customer_tags_of_new AFTER INSERT ON _customers FOR EACH ROW "
        "WHEN (NEW.tags IS NOT NULL) EXECUTE FUNCTION _customer_tags_follow()"
    ),
    (
        "CREATE TRIGGER _customer_tags_of_changed AFTER UPDATE ON _customers FOR EACH ROW "
        "WHEN (OLD.tags IS DISTINCT FROM NEW.tags OR (OLD.deleted_at IS NULL) <> (NEW.deleted_at IS NULL)) "
        "EXECUTE FUNCTION _customer_tags_follow()"
    ),
)
