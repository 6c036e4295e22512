"""Pages of the reference that are made from the code: tables from the dictionary, canned queries.

`python -m sync.mirror.reference DIRECTORY` writes them (scripts/dictionary).
"""

# ruff: noqa: E501 - sentences for people

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from sqlalchemy.dialects import registry, sqlite
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeEngine

from sync.mirror.dictionary import TABLES, Column, Described
from sync.mirror.queries import QUERIES, Query
from sync.mirror.schema import METADATA, VIEWS

_MADE: Final = "<!-- Made by scripts/dictionary from {0}: change it there. -->"

_TABLES: Final = """\
# Tables and views

In `mirror.db`, read-only, as the same user, also while the worker writes: `sqlite3 -readonly data/mirror.db`; for
other users a [`backup`](../how-to/backup.md). On PostgreSQL in the schema `mirror`, for whoever was given
`kounta_mirror_reader` ([how](../how-to/postgresql.md#people-who-report)), with what stands here as comments: `\\d+
mirror.customers`. Columns are only ever added. Tables whose name begins with `_` are the mirror's own.

- Times are UTC: on SQLite text, `YYYY-MM-DDTHH:MM:SS.sssZ`, which sorts and compares as it stands; on PostgreSQL
  `timestamptz`. SQLite knows no time zones: count by a company's own days with [`company_days`](#company_days).
- Booleans are 0 or 1 on SQLite. JSON columns hold JSON text there, and `jsonb` on PostgreSQL.
- **What cannot be known stands in the data.** Not confirmed: `verified_at` is NULL. Not read yet: `partial` is true.
  Not subscribed: the column is NULL in every row, and `mirror_status.attributes` does not name its attribute. Perhaps
  missing: `mirror_status.listed_complete` is false until Kounta's list was walked to its end once.
- NULL is unknown or unset in Kounta; `""` means something of its own only in `reference_id`.
- An index serves what is asked by `id`, `email`, `lower(email)`, `phone`, `mobile`, `reference_id`, `primary_city`, `tag`
  and `changed_at`, without or with `company_id`; by `customer_id` in changes and versions; and, with `company_id`, by
  `applied_at` of changes, by verdict and `received_at` of deliveries, and by `first_seen_at` where
  `first_seen_by <> 'backfill'`. In a range of `changed_at` leave `company_id` out on SQLite, or write `+company_id`: it
  would go by the company alone.

Questions that many ask, ready to paste: [canned queries](queries.md).
"""
_QUERIES: Final = """\
# Canned queries

Each runs as it stands in any tool on either database, unless two texts are given; a test runs each on both. `:name` is a
parameter, as `sqlite3`, Datasette and most tools have it; in psql `\\set at '2026-11-24T12:00:00Z'` and `:'at'`. Days are
those of the company's own zone ([`company_days`](tables.md#company_days)). From Python: `sync.mirror.queries.QUERIES`.

{figures}
"""
_FIGURES: Final = """\
With a million customers, 1.2 million changes (200,000 updates in the last 30 days) and a million deliveries, on two
processors (`scripts/bench queries`, the median of five):

| query | SQLite 3.40 | PostgreSQL 18 |
|---|---|---|
| customers by city | 94 ms | 41 ms |
| newly met by local day | 8 ms | 9 ms |
| changes by attribute and day | 281 ms | 80 ms |
| not confirmed | 37 ms | 16 ms |
| **duplicate e-mail addresses** | **1,307 ms** | **1,098 ms** |
| tags | 169 ms | 85 ms |
| deleted customers | 3 ms | 4 ms |
| a customer at a time | 0 ms | 0 ms |
| share confirmed over time | 16 ms | 20 ms |
| deliveries by verdict and day | 33 ms | 39 ms |

One takes longer than 0.3 s: duplicates sort every address. Changes by attribute read each changed row: it depends on how many changed in the 14 days, not on how many customers
there are. How *all* customers were at a time is no canned query: it reads the whole history."""


def tables_page() -> str:
    """Give `tables.md`."""
    return "\n".join([_MADE.format("sync/mirror/dictionary.py"), "", _TABLES, *map(_table, TABLES)])


def queries_page() -> str:
    """Give `queries.md`."""
    made = _MADE.format("sync/mirror/queries.py")
    return "\n".join([made, "", _QUERIES.format(figures=_FIGURES), *map(_query, QUERIES)])


_SQLITE: Final = sqlite.dialect()
_POSTGRESQL: Final[Dialect] = registry.load("postgresql")()

PAGES: Final[Mapping[str, Callable[[], str]]] = {"tables.md": tables_page, "queries.md": queries_page}
"""File in docs/reference -> what makes it."""


def types_of(name: str) -> dict[str, tuple[str, str]]:
    """Give column -> its declared type on SQLite and on PostgreSQL, in the order of the view or table."""
    columns = VIEWS[name].selected_columns if name in VIEWS else METADATA.tables[name].columns
    return {column.name: _types(column.type) for column in columns}


def _types(type_: TypeEngine[Any]) -> tuple[str, str]:
    return type_.compile(dialect=_SQLITE), type_.compile(dialect=_POSTGRESQL)


def _table(table: Described) -> str:
    types = types_of(table.name)
    lines = [
        f"## {table.name}",
        "",
        f"{table.title}. {table.purpose}",
        "",
        "| column | SQLite | PostgreSQL | meaning | from | NULL | attribute | personal |",
        "|---|---|---|---|---|---|---|---|",
        *(_row(column, *types[column.name]) for column in table.columns),
        "",
    ]
    return "\n".join(lines)


def _row(column: Column, on_sqlite: str, on_postgresql: str) -> str:
    meaning = column.meaning if column.unit is None else f"{column.meaning} ({column.unit})"
    null = column.null or "never"
    if column.empty is not None:
        null += f'; `""`: {column.empty}'
    attribute = column.attribute or ""
    personal = "yes" if column.personal else ""
    cells = (f"`{column.name}`", on_sqlite, on_postgresql, meaning, column.source, null, attribute, personal)
    return f"| {' | '.join(cells)} |"


def _query(query: Query) -> str:
    return "\n".join([f"## {query.title}", "", query.description, "", *_parameters(query), *_texts(query)])


def _parameters(query: Query) -> Iterator[str]:
    for name, meaning in query.parameters:
        yield f"- `:{name}`: {meaning}"
    if query.parameters:
        yield ""


def _texts(query: Query) -> Iterator[str]:
    if query.is_one_text:
        yield from ("```sql", query.on_sqlite, "```", "")
        return
    yield from ("On SQLite:", "", "```sql", query.on_sqlite, "```", "")
    yield from ("On PostgreSQL:", "", "```sql", query.on_postgresql, "```", "")


def main(directory: Path) -> None:
    """Write the pages into `directory`."""
    for name, page in PAGES.items():
        (directory / name).write_text(page())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
