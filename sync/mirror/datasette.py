"""What Datasette shows of a mirror: labels from the data dictionary, canned queries, and what to count by.

`python -m sync.mirror.datasette DIRECTORY` writes its `metadata.json` (scripts/dictionary).
"""

import json
import re
import sys
from html import escape
from pathlib import Path
from typing import Any, Final

from sync.mirror.dictionary import TABLES, Described, plain, unlinked
from sync.mirror.queries import QUERIES, Query
from sync.mirror.schema import METADATA

DATABASE: Final = "mirror"
"""Datasette names a database after its file, mirror.db."""
PAGE: Final = "metadata.json"

_CODE: Final = re.compile(r"`([^`]*)`")
_FACETS: Final = {
    "customers": ["primary_city", "first_seen_by", "partial"],
    "all_customers": ["primary_city", "first_seen_by"],
    "customer_tags": ["tag"],
    "customer_changes": ["kind", "source"],
    "delivery_verdicts": ["verdict", "topic"],
}
_NEWEST_FIRST: Final = {
    "customers": "changed_at",
    "all_customers": "changed_at",
    "customer_changes": "seq",
    "customer_versions": "valid_from",
    "delivery_verdicts": "received_at",
    "mirror_samples": "at",
}


def metadata() -> dict[str, Any]:
    """Give the metadata, as `datasette --metadata` takes it."""
    own = (name for name in sorted(METADATA.tables) if name.startswith("_"))
    tables = {table.name: _table(table) for table in TABLES}
    hidden = {name: {"hidden": True, "allow": False} for name in (*own, "alembic_version")}
    return {
        "title": "Kounta Mirror",
        "description_html": 'Customers at Kounta. Begin with <a href="/dashboard">the dashboard</a>. '
        "Times are UTC. It holds people's data.",
        "databases": {
            DATABASE: {
                "tables": tables | hidden,
                "queries": {query.name: _query(query) for query in QUERIES},
            }
        },
    }


def page() -> str:
    """Give `metadata.json`."""
    return json.dumps(metadata(), indent=2, ensure_ascii=False) + "\n"


def _table(table: Described) -> dict[str, Any]:
    """Label it; units are in the labels: in `units` Datasette writes 12,000 customers as 12 kcustomers."""
    said: dict[str, Any] = {
        "title": table.title,
        "description_html": _html(table.purpose),
        "columns": {column.name: plain(column.description) for column in table.columns},
    }
    if table.name in _FACETS:
        said["facets"] = _FACETS[table.name]
    if table.name in _NEWEST_FIRST:
        said["sort_desc"] = _NEWEST_FIRST[table.name]
    return said


def _query(query: Query) -> dict[str, Any]:
    said = {"title": query.title, "description_html": _html(query.description), "sql": query.on_sqlite}
    if query.parameters:
        meanings = "; ".join(f"`{name}`: {meaning}" for name, meaning in query.parameters)
        said["description_html"] += f"<br>{_html(meanings)}"
    return said | {"hide_sql": True}


def _html(said: str) -> str:
    return _CODE.sub(r"<code>\1</code>", escape(unlinked(said), quote=False))


if __name__ == "__main__":
    (Path(sys.argv[1]) / PAGE).write_text(page())
