"""The tables of the inbox, for SQLite and PostgreSQL alike.

A company's deliveries are numbered without gaps, and no number is given twice: a reader's position stays true
whatever retention takes away. Whoever stores some locks the company's row of `accepted` first, so they become
visible in their order, however many receivers there are.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, LargeBinary, MetaData, Table, Text, false

from receiver.database import JSON_VALUE, UTCDateTime

MIGRATIONS = "receiver:inbox/migrations"
NOBODY = 0  # the company of a refusal that names none of ours

metadata = MetaData()

# SQLite counts only in a column declared INTEGER.
_number = BigInteger().with_variant(Integer(), "sqlite")

# One row: which inbox this is. A worker that meets another identity knows that deliveries are missing.
identity = Table(
    "identity",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("identity", Text, nullable=False),
    Column("created_at", UTCDateTime, nullable=False),
)

# On PostgreSQL in partitions by time: the names are UUIDv7, whose order is that of their making.
deliveries = Table(
    "deliveries",
    metadata,
    Column("company_id", BigInteger, primary_key=True, autoincrement=False),
    Column("id", Text().with_variant(Text(collation="C"), "postgresql"), primary_key=True),
    Column("position", BigInteger, nullable=False),
    Column("topic", Text, nullable=False),
    Column("received_at", UTCDateTime, nullable=False),
    Column("headers", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Index("deliveries_by_position", "company_id", "position"),
    postgresql_partition_by="RANGE (id)",
)

# The highest position given, and how many were ever stored, so that verdicts can be checked against it after
# retention too. They differ where an inbox was made by a version that numbered all companies together.
accepted = Table(
    "accepted",
    metadata,
    Column("company_id", BigInteger, primary_key=True, autoincrement=False),
    Column("count", BigInteger, nullable=False),
    Column("head", BigInteger, nullable=False, server_default="0"),
)

# PostgreSQL: what of a company may leave with a partition, as its worker has said last.
releases = Table(
    "releases",
    metadata,
    Column("company_id", BigInteger, primary_key=True, autoincrement=False),
    Column("through", BigInteger, nullable=False),
    Column("before", UTCDateTime, nullable=False),
    Column("keep", JSON_VALUE, nullable=False),
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
    Column("number", _number, primary_key=True, autoincrement=True),
    Column("started_at", UTCDateTime, nullable=False),
    Column("stopped_at", UTCDateTime),
    Column("seen_at", UTCDateTime),
    Column("socket", Text),  # the identity of a socket that its parent keeps open; NULL: one of its own
    # since the run before stopped, connections have waited in that socket: no gap
    Column("kept", Boolean, nullable=False, server_default=false()),
    sqlite_autoincrement=True,
)

# Written when the store can be written again: in that time deliveries were refused that had verified.
failed_commits = Table(
    "failed_commits",
    metadata,
    Column("number", _number, primary_key=True, autoincrement=True),
    Column("first_at", UTCDateTime, nullable=False),
    Column("last_at", UTCDateTime, nullable=False),
    Column("refused", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    sqlite_autoincrement=True,
)

# Which tokens have verified deliveries, so that an old one can go. A token itself is never stored.
tokens = Table(
    "tokens",
    metadata,
    Column("company_id", BigInteger, primary_key=True, autoincrement=False),
    Column("fingerprint", Text, primary_key=True),
    Column("first_used_at", UTCDateTime, nullable=False),
    Column("last_used_at", UTCDateTime, nullable=False),
)
