"""The mirror's tables and views, once for SQLite and PostgreSQL.

What reporting tools may rely on is named in the reference of tables; tables whose name begins with `_` are
the mirror's own. Views only select: an expression in a view has no declared type on SQLite, so every column
that a view shows is a real one.
"""

from collections.abc import Iterable
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TextClause,
    select,
    text,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeEngine

from receiver.database import JSON_VALUE, UTCDateTime
from sync.merge.customers import COLUMNS

SCHEMA: Final = "mirror"
"""On PostgreSQL; on SQLite the tables lie in the file `mirror.db`."""

METADATA: Final = MetaData()

_TYPES: Final[dict[str, TypeEngine[Any]]] = {
    "accepts_marketing": Boolean(),
    "tags": JSON_VALUE,
    "other": JSON_VALUE,
}


def _company() -> Column[int]:
    return Column("company_id", BigInteger, primary_key=True, autoincrement=False)


def _customer_columns() -> Iterable[Column[Any]]:
    return (Column(name, _TYPES.get(name, Text())) for name in COLUMNS)


def _table(name: str, *columns: Any, wide: bool = False) -> Table:
    """Make a table; on SQLite the `wide` ones have a rowid, the others lie in their primary key's index.

    An index holds whole rows in its inner pages, too: good for small rows, and bad above some 200 bytes.
    """
    return Table(name, METADATA, *columns, sqlite_with_rowid=wide)


UNUSUAL: Final = "verdict <> 'applied' AND verdict <> 'unchanged'"
NEWLY_MET: Final = "first_seen_by <> 'backfill'"
"""Conditions of partial indexes: SQLite uses one for the statement that has the same words."""


def _reported(name: str, *columns: str | TextClause, where: str | None = None) -> Index:
    """Make an index for reports.

    Most do not say of which company: what they say comes first. Those that count by a company's own days do,
    and SQLite would then go by the company alone if it were not first.
    """
    condition = None if where is None else text(where)
    return Index(name, *columns, sqlite_where=condition, postgresql_where=condition)


CUSTOMERS: Final = _table(
    "_customers",
    _company(),
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    *_customer_columns(),
    Column("as_of", UTCDateTime, nullable=False),
    Column("first_seen_at", UTCDateTime, nullable=False),
    Column("first_seen_by", String, nullable=False),
    Column("changed_at", UTCDateTime, nullable=False),
    Column("verified_at", UTCDateTime),
    Column("partial", Boolean, nullable=False),
    Column("deleted_at", UTCDateTime),
    Column("rests_on_arrival", Boolean, nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("settled_at", UTCDateTime, nullable=False),
    Column("read_at", UTCDateTime),
    Column("read_as_of", UTCDateTime),
    Column("read_position", BigInteger, nullable=False),
    Column("last_seq", BigInteger),
    Column("listed_in", BigInteger, nullable=False, server_default="0"),
    # column -> what came and could not be read, null: nothing came (Record.unread)
    Column("unread", JSON_VALUE),
    Index(
        "_customers_by_verification",
        "company_id",
        "verified_at",
        sqlite_where=text("deleted_at IS NULL"),
        postgresql_where=text("deleted_at IS NULL"),
    ),
    # by which a person finds one
    _reported("_customers_by_id", "id", "company_id"),
    _reported("_customers_by_email", "email", "company_id", "deleted_at"),
    _reported("_customers_by_email_in_any_case", text("lower(email)"), "company_id"),
    _reported("_customers_by_phone", "phone", "company_id", where="phone IS NOT NULL"),
    _reported("_customers_by_mobile", "mobile", "company_id", where="mobile IS NOT NULL"),
    # whole: SQLite does not see that `reference_id = 'x'` is not ''
    _reported("_customers_by_reference_id", "reference_id", "company_id"),
    # what reports count by and begin with
    _reported("_customers_by_city", "primary_city", "company_id", where="deleted_at IS NULL"),
    _reported("_customers_by_change", "changed_at", "company_id"),
    _reported("_customers_newly_met", "company_id", "first_seen_at", where=NEWLY_MET),
    _reported("_customers_deleted", "deleted_at", "company_id", where="deleted_at IS NOT NULL"),
    wide=True,
)

TAGS: Final = _table(
    "_customer_tags",
    _company(),
    Column("customer_id", BigInteger, primary_key=True, autoincrement=False),
    Column("place", Integer, primary_key=True, autoincrement=False),
    Column("tag", Text, nullable=False),
    _reported("_customer_tags_by_tag", "tag", "company_id"),
)

CHANGES: Final = _table(
    "_changes",
    _company(),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("customer_id", BigInteger, nullable=False),
    Column("kind", String, nullable=False),
    Column("attributes", JSON_VALUE, nullable=False),
    Column("before", JSON_VALUE),
    Column("after", JSON_VALUE),
    Column("as_of", UTCDateTime),
    Column("source", String, nullable=False),
    Column("delivery_id", String),
    Column("applied_at", UTCDateTime, nullable=False),
    # the state that the change led to, and until when the mirror held it
    *_customer_columns(),
    Column("valid_to", UTCDateTime),
    _reported("_changes_by_customer", "customer_id", "company_id", "seq"),
    _reported("_changes_by_time", "company_id", "applied_at"),
    Index(
        "_changes_that_delete",
        "company_id",
        "applied_at",
        sqlite_where=text("kind = 'deleted'"),
        postgresql_where=text("kind = 'deleted'"),
    ),
    wide=True,
)

VERDICTS: Final = _table(
    "delivery_verdicts",
    _company(),
    Column("delivery_id", String, primary_key=True),
    Column("customer_id", BigInteger),
    Column("topic", String, nullable=False),
    Column("verdict", String, nullable=False),
    Column("reason", Text),
    Column("received_at", UTCDateTime, nullable=False),
    Column("applied_at", UTCDateTime, nullable=False),
    Index(
        "_delivery_verdicts_in_trouble",
        "company_id",
        "verdict",
        "applied_at",
        sqlite_where=text("verdict = 'failed' OR verdict = 'quarantined'"),
        postgresql_where=text("verdict = 'failed' OR verdict = 'quarantined'"),
    ),
    Index("_delivery_verdicts_by_customer", "company_id", "customer_id", "delivery_id"),
    Index(
        "_delivery_verdicts_unusual",
        "company_id",
        "verdict",
        "delivery_id",
        sqlite_where=text(UNUSUAL),
        postgresql_where=text(UNUSUAL),
    ),
    _reported("_delivery_verdicts_by_time", "company_id", "verdict", "received_at"),
)

PAST_VERDICTS: Final = _table(
    "_past_verdicts",
    _company(),
    Column("delivery_id", String, primary_key=True),
    Column("replaced_at", UTCDateTime, primary_key=True),
    Column("verdict", String, nullable=False),
    Column("reason", Text),
    Column("applied_at", UTCDateTime, nullable=False),
)

VERDICT_COUNTS: Final = _table(
    "_verdict_counts",
    _company(),
    Column("verdict", String, primary_key=True),
    Column("count", BigInteger, nullable=False),
)

VERIFICATIONS: Final = _table(
    "_verifications",
    _company(),
    Column("customer_id", BigInteger, primary_key=True, autoincrement=False),
    Column("reason", String, nullable=False),
    Column("asked", Boolean, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("due_at", UTCDateTime, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("born", BigInteger, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("not_before", UTCDateTime),
    Column("failures", Integer, nullable=False, server_default="0"),
    Column("failure", Text),
    Column("other_first_at", UTCDateTime),
    Column("other_again_at", UTCDateTime),
    Index("_verifications_by_priority", "company_id", "priority", "due_at"),
)

HELD_DELETES: Final = _table(
    "_held_deletes",
    _company(),
    Column("customer_id", BigInteger, primary_key=True, autoincrement=False),
    Column("missing_at", UTCDateTime, nullable=False),
    Column("why", Text),
)

SWEEPS: Final = _table(
    "_sweeps",
    _company(),
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("reason", String, nullable=False),
    Column("started_at", UTCDateTime, nullable=False),
    Column("finished_at", UTCDateTime),
    Column("complete", Boolean, nullable=False),
    Column("next_page", Text),
    Column("listed", BigInteger, nullable=False),
    Column("failure", Text),
    Column("pages", BigInteger),
)

COMPANIES: Final = _table(
    "companies",
    _company(),
    Column("name", Text),
    Column("time_zone", String),
    Column("read_at", UTCDateTime),
)

COMPANY_DAYS: Final = _table(
    "company_days",
    _company(),
    Column("day", Date, primary_key=True),
    Column("begins_at", UTCDateTime, nullable=False),
    Column("ends_at", UTCDateTime, nullable=False),
)

PROGRESS: Final = _table(
    "_progress",
    _company(),
    Column("inbox_id", String),
    Column("position", BigInteger, nullable=False),
    Column("missing", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("last_call_at", UTCDateTime),
    Column("closed_until", UTCDateTime),
    Column("upstream_failure", Text),
    Column("upstream_failure_since", UTCDateTime),
    Column("ruled_elsewhere", BigInteger, nullable=False, server_default="0"),
    Column("sweep_due", String),
    Column("deletes_allowed_at", UTCDateTime),
    Column("starts_seen", BigInteger, nullable=False, server_default="0"),
    Column("failed_commits_seen", BigInteger, nullable=False, server_default="0"),
    Column("alive_at", UTCDateTime),
    Column("sweeps_asked", BigInteger, nullable=False, server_default="0"),
    Column("epoch", BigInteger, nullable=False, server_default="0"),
    Column("lease_holder", String),
    Column("lease_until", UTCDateTime),
    Column("lease_wanted_by", String),
    Column("lease_wanted_at", UTCDateTime),
    Column("mobile_read", Boolean),
    Column("lost_at", UTCDateTime),
    Column("lost_swept_at", UTCDateTime),
    Column("lost_refreshed_at", UTCDateTime),
)

STATUS: Final = _table(
    "_status",
    _company(),
    Column("live", BigInteger, nullable=False),
    Column("deleted", BigInteger, nullable=False),
    Column("verified", BigInteger, nullable=False),
    Column("partial", BigInteger, nullable=False),
    Column("listed_complete", Boolean, nullable=False),
    Column("attributes", JSON_VALUE, nullable=False),
    Column("oldest_verified_at", UTCDateTime),
    Column("last_delivery_at", UTCDateTime),
    Column("last_applied_at", UTCDateTime),
    Column("last_sweep_at", UTCDateTime),
    Column("verifications_due", BigInteger, nullable=False),
    Column("drift_rate", Float),
)

DAILY_COUNTS: Final = _table(
    "_daily_counts",
    _company(),
    Column("day", String, primary_key=True),
    Column("name", String, primary_key=True),
    Column("count", BigInteger, nullable=False),
)

GAPS: Final = _table(
    "_gaps",
    _company(),
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("what", Text, nullable=False),
    Column("since", UTCDateTime),
    Column("until", UTCDateTime),
    Column("noticed_at", UTCDateTime, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("swept_at", UTCDateTime),
    Column("revision", BigInteger),
    Column("mended_at", UTCDateTime),
    Column("created", BigInteger),
    Column("updated", BigInteger),
    Column("deleted", BigInteger),
)

# Bodies that could not be read and name no customer, by which the same bytes are known again for a day.
LOST_BODIES: Final = _table(
    "_lost_bodies",
    _company(),
    Column("digest", String, primary_key=True),
    Column("noticed_at", UTCDateTime, nullable=False),
)

HOURLY_DELIVERIES: Final = _table(
    "_hourly_deliveries",
    _company(),
    Column("hour", UTCDateTime, primary_key=True),
    Column("count", BigInteger, nullable=False),
)

SAMPLES: Final = _table(
    "_samples",
    _company(),
    Column("at", UTCDateTime, primary_key=True),
    Column("pending", BigInteger, nullable=False),
    Column("oldest_pending_seconds", Float, nullable=False),
    Column("verifications_due", BigInteger, nullable=False),
    Column("live", BigInteger),
    Column("verified", BigInteger),
)

ALERTS: Final = _table(
    "_alerts",
    _company(),
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("name", String, nullable=False),
    Column("severity", Integer, nullable=False),
    Column("sentence", Text, nullable=False),
    Column("since", UTCDateTime, nullable=False),
    Column("opened_at", UTCDateTime, nullable=False),
    Column("closed_at", UTCDateTime),
    Column("open_told_at", UTCDateTime),
    Column("close_told_at", UTCDateTime),
)

REGISTRATION: Final = _table(
    "_registration",
    _company(),
    Column("public_url", Text, nullable=False),
    Column("ensured_at", UTCDateTime, nullable=False),
    Column("checked_at", UTCDateTime),
    Column("repairing", Boolean, nullable=False),
    Column("failure", Text),
    Column("failure_since", UTCDateTime),
)

WEBHOOKS: Final = _table(
    "_webhooks",
    _company(),
    Column("webhook_id", BigInteger, primary_key=True, autoincrement=False),
    Column("topic", String, nullable=False),
    Column("address", Text, nullable=False),
    Column("since", UTCDateTime, nullable=False),
)

WEBHOOK_ATTEMPTS: Final = _table(
    "_webhook_attempts",
    _company(),
    Column("topic", String, primary_key=True),
    Column("address", Text, nullable=False),
    Column("known", JSON_VALUE, nullable=False),
    Column("asked_at", UTCDateTime, nullable=False),
)

TOKENS: Final = _table(
    "_oauth_tokens",
    _company(),
    Column("sealed", Text, nullable=False),
    Column("kept_at", UTCDateTime, nullable=False),
)

# What upstream has shown: names of docs/reference/upstream.md. No values, no ids.
OBSERVATIONS: Final = _table(
    "_observations",
    _company(),
    Column("name", String, primary_key=True),
    Column("count", BigInteger, nullable=False),
    Column("first_at", UTCDateTime, nullable=False),
    Column("last_at", UTCDateTime, nullable=False),
)

# Who was erased: `returned_at` is set once a person lets them come back. No id stands here.
ERASED_CUSTOMERS: Final = _table(
    "_erased_customers",
    _company(),
    Column("mark", String, primary_key=True),
    Column("key_id", String, nullable=False),
    Column("erased_at", UTCDateTime, nullable=False),
    Column("searched_at", UTCDateTime),
    Column("completed_at", UTCDateTime),
    Column("returned_at", UTCDateTime),
)

# Deliveries about them whose bodies the inbox has yet to drop.
ERASED_BODIES: Final = _table(
    "_erased_bodies",
    _company(),
    Column("delivery_id", String, primary_key=True),
)

_SHOWN: Final = ("as_of", "first_seen_at", "first_seen_by", "changed_at", "verified_at", "partial")
_CUSTOMER: Final = ("company_id", "id", *COLUMNS, *_SHOWN)
_CHANGE: Final = tuple(
    column.name for column in CHANGES.columns if column.name not in COLUMNS and column.name != "valid_to"
)
_SAMPLE: Final = (
    *("company_id", "at", "live", "verified"),
    *("verifications_due", "pending", "oldest_pending_seconds"),
)

VIEWS: Final = {
    "customers": select(*(CUSTOMERS.c[name] for name in _CUSTOMER)).where(CUSTOMERS.c.deleted_at.is_(None)),
    "all_customers": select(*(CUSTOMERS.c[name] for name in (*_CUSTOMER, "deleted_at"))),
    "customer_tags": select(TAGS.c.company_id, TAGS.c.customer_id, TAGS.c.tag),
    "customer_changes": select(*(CHANGES.c[name] for name in _CHANGE)),
    "customer_versions": select(
        CHANGES.c.company_id,
        CHANGES.c.customer_id,
        *(CHANGES.c[name] for name in COLUMNS),
        CHANGES.c.as_of,
        CHANGES.c.applied_at.label("valid_from"),
        CHANGES.c.valid_to,
        CHANGES.c.seq,  # orders those of one moment
    ).where(CHANGES.c.kind.not_in(["deleted", "erased"])),
    "mirror_status": select(STATUS),
    "mirror_samples": select(*(SAMPLES.c[name] for name in _SAMPLE)),
}
"""View -> what it selects."""

TAG_TRIGGERS: Final = {
    "_customer_tags_of_new": (
        "AFTER INSERT ON _customers WHEN NEW.tags IS NOT NULL BEGIN "
        "INSERT INTO _customer_tags (company_id, customer_id, place, tag) "
        "SELECT NEW.company_id, NEW.id, key, value FROM json_each(NEW.tags) WHERE NEW.deleted_at IS NULL; END"
    ),
    "_customer_tags_of_changed": (
        "AFTER UPDATE ON _customers "
        "WHEN OLD.tags IS NOT NEW.tags OR (OLD.deleted_at IS NULL) <> (NEW.deleted_at IS NULL) BEGIN "
        "DELETE FROM _customer_tags WHERE company_id = OLD.company_id AND customer_id = OLD.id; "
        "INSERT INTO _customer_tags (company_id, customer_id, place, tag) "
        "SELECT NEW.company_id, NEW.id, key, value FROM json_each(NEW.tags) WHERE NEW.deleted_at IS NULL; END"
    ),
}
"""SQLite: trigger -> its rule; they keep `_customer_tags` equal to the tags of live customers.

PostgreSQL's do the same, and stand in the first migration.
"""


def create_statements(dialect: Dialect) -> list[str]:
    """Give the statements that make the views and triggers on SQLite, after the tables."""
    literal = {"literal_binds": True}
    return [
        *(
            f"CREATE VIEW {name} AS {selected.compile(dialect=dialect, compile_kwargs=literal)}"
            for name, selected in VIEWS.items()
        ),
        *(f"CREATE TRIGGER {name} {rule}" for name, rule in TAG_TRIGGERS.items()),
    ]
