"""The tables of the inbox, for SQLite and PostgreSQL alike.

Positions are given once and never again (AUTOINCREMENT), so that a reader's position stays true whatever
retention takes away.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, MetaData, Table, Text

from receiver.database import UTCDateTime

MIGRATIONS = "receiver:inbox/migrations"
NOBODY = 0  # the company of a refusal that names none of ours

metadata = MetaData()

# SQLite counts only in a column declared INTEGER.
_position = BigInteger().with_variant(Integer(), "sqlite")

# One row: which inbox this is. A worker that meets another identity knows that deliveries are missing.
identity = Table(
    "identity",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("identity", Text, nullable=False),
    Column("created_at", UTCDateTime, nullable=False),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("position", _position, primary_key=True, autoincrement=True),
    Column("id", Text, nullable=False, unique=True),
    Column("company_id", BigInteger, nullable=False),
    Column("topic", Text, nullable=False),
    Column("received_at", UTCDateTime, nullable=False),
    Column("headers", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Index("deliveries_by_company", "company_id", "position"),
    sqlite_autoincrement=True,
)

# Counted in the commit that stores them, so that verdicts can be checked against it after retention too.
accepted = Table(
    "accepted",
    metadata,
    Column("company_id", BigInteger, primary_key=True, autoincrement=False),
    Column("count", BigInteger, nullable=False),
)

refusals = Table(
    "refusals",
    metadata,
    Column("company_id", BigInteger, primary_key=True, autoincrement=False),
    Column("reason", Text, primary_key=True),
    Column("count", BigInteger, nullable=False),
    Column("first_at", UTCDateTime, nullable=False),
    Column("last_at", UTCDateTime, nullable=False),
)

# Between stopped_at (after a kill unknown: seen_at, the heartbeat) and the next started_at nobody listened.
starts = Table(
    "starts",
    metadata,
    Column("number", _position, primary_key=True, autoincrement=True),
    Column("started_at", UTCDateTime, nullable=False),
    Column("stopped_at", UTCDateTime),
    Column("seen_at", UTCDateTime),
    sqlite_autoincrement=True,
)

# Written when the store can be written again: in that time deliveries were refused that had verified.
failed_commits = Table(
    "failed_commits",
    metadata,
    Column("number", _position, primary_key=True, autoincrement=True),
    Column("first_at", UTCDateTime, nullable=False),
    Column("last_at", UTCDateTime, nullable=False),
    Column("refused", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    sqlite_autoincrement=True,
)
