"""The data dictionary: what each view, table and column that reports rely on means. Pure.

The reference of tables, the comments on PostgreSQL and the metadata for Datasette are made from it.
"""

# ruff: noqa: E501 - sentences for people

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from sync.merge.customers import COLUMNS

_LINK: Final = re.compile(r"\[([^]]*)\]\([^)]*\)")
KOUNTA: Final = "Kounta"
MIRROR: Final = "the mirror"


def unlinked(said: str) -> str:
    """Give Markdown without its links."""
    return _LINK.sub(r"\1", said)


def plain(said: str) -> str:
    """Give Markdown without links and marks of code, for a comment or a label."""
    return unlinked(said).replace("`", "")


@dataclass(frozen=True, slots=True)
class Column:
    """One column."""

    name: str
    meaning: str
    """What it says, as the beginning of a sentence."""
    source: str
    """Where it comes from: a field of Kounta, or the mirror."""
    null: str | None = None
    """What NULL means; None: it never is."""
    empty: str | None = None
    """What "" means where it has a meaning of its own."""
    attribute: str | None = None
    """Which of MIRROR_ATTRIBUTES has to be subscribed; "all": every one; None: it is always kept."""
    personal: bool = False
    """Whether it says something of a person: erased with them."""
    unit: str | None = None

    @property
    def description(self) -> str:
        """All of it in one paragraph, for a comment or a label."""
        parts = [self.meaning]
        if self.unit is not None:
            parts.append(f"in {self.unit}")
        text = ", ".join(parts) + f". From {self.source}."
        if self.attribute == "all":
            text += " Kept only if all attributes are subscribed."
        elif self.attribute is not None:
            text += f" Kept if the attribute {self.attribute} is subscribed."
        if self.null is not None:
            text += f" NULL: {self.null}."
        if self.empty is not None:
            text += f' "": {self.empty}.'
        if self.personal:
            text += " Personal data."
        return text


@dataclass(frozen=True, slots=True)
class Described:
    """One view or table."""

    name: str
    title: str
    """For a heading: what its rows are."""
    purpose: str
    """What it is for and what to know before counting in it, in Markdown."""
    columns: tuple[Column, ...]

    def column(self, name: str) -> Column:
        """Give the column of this name; KeyError when there is none."""
        return {column.name: column for column in self.columns}[name]


_COMPANY: Final = Column("company_id", "The company in Kounta", "KOUNTA_COMPANY_ID")
_UNKNOWN: Final = (
    "unset in Kounta, not subscribed (`mirror_status.attributes`), or not read (`partial`): nothing came yet, or "
    "what came cannot be read"
)
_MEANINGS: Final = {
    "first_name": "First name",
    "last_name": "Last name",
    "email": "E-mail address, as typed: compare `lower(email)`",
    "phone": "Telephone number, as typed",
    "mobile": "Mobile number, as typed; one company has it once. NULL where Kounta's reads do not carry it",
    "image": "URL of a picture",
    "reference_id": "Identifier that one's own application has set; several customers may share one",
    "accepts_marketing": "Whether they want marketing",
    "tags": "Tags, a JSON array of texts; a row for each in `customer_tags`",
    "other": "Fields that this version does not know, a JSON object; without those that change while the "
    "customer stays the same: `*_at`, `*_count`, `count`, `timestamp`",
}
_PARTS: Final = {
    "address": "Street of the {0} address",
    "city": "City of the {0} address",
    "state": "State of the {0} address",
    "postal_code": "Postal code of the {0} address",
    "country": "Country of the {0} address, two letters of ISO 3166-1",
}


def _field(name: str, attribute: str) -> Column:
    kind, _, part = name.partition("_")
    if attribute == "address":
        meaning = _PARTS[part].format(kind)
        source = f"{KOUNTA}, `{kind}_address.{part}`"
    else:
        meaning, source = _MEANINGS[name], f"{KOUNTA}, `{name}`"
    column = Column(name, meaning, source, null=_UNKNOWN, attribute=attribute, personal=True)
    if name == "reference_id":
        return replace(column, null="not read yet", empty="unset in Kounta", attribute=None)
    if name == "other":
        nothing = "there are none, not all attributes are subscribed, or not read yet"
        return replace(column, source=f"{KOUNTA}, all other fields", null=nothing, attribute="all")
    return column


_DATA: Final = tuple(_field(name, attribute) for name, attribute in COLUMNS.items())
_AS_OF: Final = Column(
    "as_of",
    "When Kounta took the picture that stands here, by its clock; if that is not known, when it arrived",
    f"{KOUNTA}, `updated_at`, or the arrival",
    unit="UTC",
)
_SEEN: Final = (
    _AS_OF,
    Column(
        "first_seen_at", "When the mirror first met the customer: not when Kounta made it", MIRROR, unit="UTC"
    ),
    Column(
        "first_seen_by",
        "How it first met it: backfill (it was there before the mirror was), webhook, sweep (a webhook was "
        "missed), verification or write",
        MIRROR,
    ),
    Column("changed_at", "When the mirror last changed the row", MIRROR, unit="UTC"),
    Column(
        "verified_at",
        "When a read of Kounta last confirmed what the row shows, but for `other`",
        MIRROR,
        null="not confirmed: it rests on a webhook, or on what the list carries, alone",
        unit="UTC",
    ),
    Column(
        "partial",
        "Whether some of what is subscribed is not known: not read yet, missing in Kounta's answer, or of a "
        "shape that cannot be read. NULL then says nothing; `kounta-mirror explain ID` names the columns",
        MIRROR,
    ),
)
_ID: Final = Column("id", "The customer in Kounta", f"{KOUNTA}, `id`", personal=True)
_CUSTOMER_ID: Final = Column(
    "customer_id", "The customer in Kounta, `id` of `customers`", f"{KOUNTA}, `id`", personal=True
)
_SEQ: Final = Column(
    "seq",
    "Number of the change within the company, visible in order; it also orders states of one moment",
    MIRROR,
)

TABLES: Final = (
    Described(
        "customers",
        "Live customers",
        "A row for each customer that Kounta has, as far as the mirror knows. How far that is stands in the "
        "row: `verified_at` NULL is not confirmed, `partial` is not read yet. What `MIRROR_ATTRIBUTES` does not name "
        "is NULL in every row: `mirror_status.attributes` says what is subscribed. Before "
        "`mirror_status.listed_complete` some customers may be missing.",
        (_COMPANY, _ID, *_DATA, *_SEEN),
    ),
    Described(
        "all_customers",
        "Live and deleted customers",
        "`customers` and those that Kounta no longer has, as they were last: join old orders with this one.",
        (
            _COMPANY,
            _ID,
            *_DATA,
            *_SEEN,
            Column(
                "deleted_at",
                "When the mirror learned that Kounta no longer has it",
                MIRROR,
                null="it is live",
                unit="UTC",
            ),
        ),
    ),
    Described(
        "customer_tags",
        "Tags of live customers",
        "A row for each tag of each live customer; empty unless `tags` is subscribed.",
        (
            _COMPANY,
            _CUSTOMER_ID,
            Column("tag", "The tag, as typed", f"{KOUNTA}, `tags`", attribute="tags", personal=True),
        ),
    ),
    Described(
        "customer_changes",
        "The feed: every change of every customer",
        "A row for each change, in order. `erased` says whom to drop and nothing else; the earlier changes of "
        "that customer are gone, and the row itself goes after `MIRROR_RETENTION_DAYS` "
        "([how](../how-to/erase.md)).",
        (
            _COMPANY,
            replace(
                _SEQ,
                meaning="Number of the change within the company; visible in order, without gaps but "
                "for those of erased people",
            ),
            _CUSTOMER_ID,
            Column("kind", "What happened: created, updated, deleted, restored or erased", MIRROR),
            Column(
                "attributes", "Which attributes changed, a JSON array of their names; `other` too", MIRROR
            ),
            Column(
                "before",
                "The changed fields as they were, a JSON object; {} when there was no customer",
                MIRROR,
                null="the person was erased",
                personal=True,
            ),
            Column(
                "after",
                "The changed fields as they became, a JSON object; {} when there is no customer",
                MIRROR,
                null="the person was erased",
                personal=True,
            ),
            replace(_AS_OF, meaning="When Kounta took the picture that the change rests on", null="erased"),
            Column(
                "source",
                "What it rests on: backfill, webhook, verification, sweep or write; for erased `erasure`",
                MIRROR,
            ),
            Column(
                "delivery_id",
                "The delivery that brought it, `delivery_id` of `delivery_verdicts`",
                MIRROR,
                null="no webhook brought it",
            ),
            Column("applied_at", "When the mirror took it over", MIRROR, unit="UTC"),
        ),
    ),
    Described(
        "customer_versions",
        "Every state of every customer",
        "A row for each state that the mirror held, from `valid_from` until before `valid_to`, by its own clock: "
        "`valid_from <= t AND (valid_to > t OR valid_to IS NULL)` is how it was at t. A deleted customer has no "
        "state until it is restored. Of several of one moment the highest `seq` counts.",
        (
            _COMPANY,
            _CUSTOMER_ID,
            *_DATA,
            _AS_OF,
            Column("valid_from", "From when on the mirror held this state", MIRROR, unit="UTC"),
            Column("valid_to", "Until before when", MIRROR, null="it holds it now", unit="UTC"),
            _SEQ,
        ),
    ),
    Described(
        "delivery_verdicts",
        "What became of each delivery",
        "A row for each webhook that the receiver accepted and the worker has ruled on.",
        (
            _COMPANY,
            Column(
                "delivery_id",
                "The delivery, a UUIDv7 that the receiver gave: its order is that of arrival",
                MIRROR,
            ),
            replace(_CUSTOMER_ID, null="it names none, or the person was erased"),
            Column(
                "topic",
                "customers/created, customers/updated, customers/deleted, or the ping of `webhooks test`",
                KOUNTA,
            ),
            Column(
                "verdict",
                "applied, unchanged, stale, tombstoned, contradicted, quarantined or failed "
                "([what each means](../explanation/merge.md))",
                MIRROR,
            ),
            Column("reason", "Why, where the verdict alone does not say it", MIRROR, null="nothing to add"),
            Column("received_at", "When the receiver took it", MIRROR, unit="UTC"),
            Column("applied_at", "When the worker ruled", MIRROR, unit="UTC"),
        ),
    ),
    Described(
        "mirror_status",
        "How far the mirror can be trusted now",
        "A row for each company. `live - verified` rows rest on a webhook or on the list alone.",
        (
            _COMPANY,
            Column("live", "Live customers", MIRROR, unit="customers"),
            Column("deleted", "Deleted ones that are still known", MIRROR, unit="customers"),
            Column(
                "verified", "Live customers that a read has confirmed as they stand", MIRROR, unit="customers"
            ),
            Column(
                "partial",
                "Live customers of whom not all that is subscribed is known",
                MIRROR,
                unit="customers",
            ),
            Column(
                "listed_complete",
                "Whether Kounta's list was walked to its end once: until then customers may be missing",
                MIRROR,
            ),
            Column(
                "attributes",
                "Which attributes are subscribed, a JSON array of their names; columns of all others are NULL",
                "`MIRROR_ATTRIBUTES`",
            ),
            Column(
                "oldest_verified_at",
                "When the live customer was confirmed whose confirmation is the oldest",
                MIRROR,
                null="none is confirmed",
                unit="UTC",
            ),
            Column(
                "last_delivery_at",
                "When the newest delivery arrived that has a verdict",
                MIRROR,
                null="none yet",
                unit="UTC",
            ),
            Column(
                "last_applied_at", "When a delivery last got its verdict", MIRROR, null="none yet", unit="UTC"
            ),
            Column(
                "last_sweep_at",
                "When Kounta's list was last walked to its end",
                MIRROR,
                null="never yet",
                unit="UTC",
            ),
            Column(
                "verifications_due",
                "Customers that are to be read because of a doubt",
                MIRROR,
                unit="customers",
            ),
            Column(
                "drift_rate",
                "The share of customers, drawn at random in the last 7 days, that differed though nothing was "
                "known against them",
                MIRROR,
                null="none was drawn",
                unit="share of 1",
            ),
        ),
    ),
    Described(
        "mirror_samples",
        "How far it could be trusted over time",
        "A sample a minute while the worker runs: each of the last 2 days, and the first of each hour of the 400 "
        "days before. `verified / live` is the share confirmed.",
        (
            _COMPANY,
            Column("at", "When it was taken", MIRROR, unit="UTC"),
            Column("live", "Live customers", MIRROR, null="taken by an earlier version", unit="customers"),
            Column(
                "verified",
                "Live customers that a read had confirmed",
                MIRROR,
                null="taken by an earlier version",
                unit="customers",
            ),
            Column(
                "verifications_due",
                "Customers that were to be read because of a doubt",
                MIRROR,
                unit="customers",
            ),
            Column("pending", "Deliveries that had no verdict yet", MIRROR, unit="deliveries"),
            Column(
                "oldest_pending_seconds", "For how long the oldest of them had waited", MIRROR, unit="seconds"
            ),
        ),
    ),
    Described(
        "companies",
        "The companies",
        "A row for each company that is mirrored here; Kounta is asked once a day.",
        (
            _COMPANY,
            Column("name", "Its name", f"{KOUNTA}, `/companies/me`", null="not known yet"),
            Column(
                "time_zone",
                "Its time zone, as in Australia/Sydney",
                f"{KOUNTA}, `/companies/me`",
                null="not known yet, or Kounta has none",
            ),
            Column("read_at", "When Kounta last told", MIRROR, null="not yet", unit="UTC"),
        ),
    ),
    Described(
        "company_days",
        "Local days of the companies",
        "A row for each day of a company's own zone, from the day before the mirror met anything to 400 days "
        "ahead: join a time with `begins_at <= time AND time < ends_at` to count by local day in any tool. Days on "
        "which clocks change have 23 or 25 hours. Empty while the zone is not known.",
        (
            _COMPANY,
            Column("day", "The date by the company's clocks, YYYY-MM-DD", "`companies.time_zone`"),
            Column("begins_at", "When it begins", "the time zones of the machine", unit="UTC"),
            Column(
                "ends_at",
                "When the next one begins: no longer of this day",
                "the time zones of the machine",
                unit="UTC",
            ),
        ),
    ),
)
"""Every view and table that reports may rely on, in the order of the reference."""


def described(name: str) -> Described:
    """Give the view or table of this name; KeyError when there is none."""
    return {one.name: one for one in TABLES}[name]


def personal_columns() -> Iterable[tuple[str, str]]:
    """Give view or table and column of everything that says something of a person."""
    return ((one.name, column.name) for one in TABLES for column in one.columns if column.personal)
