"""The local Kounta's customers beside the mirror's rows, compared without any code of the mirror."""

import json
import sqlite3
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

_PLAIN: Final = ("first_name", "last_name", "email", "phone", "mobile", "image", "reference_id")
_PARTS: Final = ("address", "city", "state", "postal_code", "country")
_FILTERS: Final = {"first_name": "name", "last_name": "name", "mobile": "phone"}
"""Field -> the attribute filter it goes with, where that has another name."""


def wrong_rows(
    database: Path,
    truth: list[dict[str, Any]],
    deleted: list[int],
    subscribed: Collection[str] | None = None,
) -> dict[int, str]:
    """Say for each customer whose row is wrong what is wrong with it; every attribute is compared.

    `truth` and `deleted` are what the local Kounta's control interface shows. Where `subscribed` names
    attribute filters, everything beside them should be NULL.
    """
    return wrong_among(_rows(database), truth, deleted, subscribed)


def wrong_among(
    rows_of_mirror: Iterable[Mapping[str, Any]],
    truth: list[dict[str, Any]],
    deleted: list[int],
    subscribed: Collection[str] | None = None,
) -> dict[int, str]:
    """Say the same of rows of `all_customers`, with their values as SQLite gives them."""
    rows = {row["id"]: row for row in rows_of_mirror}
    wrong: dict[int, str] = {}
    for customer in truth:
        row = rows.pop(customer["id"], None)
        if row is None:
            wrong[customer["id"]] = "missing"
        elif row["deleted_at"] is not None:
            wrong[customer["id"]] = "deleted in the mirror, live upstream"
        else:
            expected = _columns(customer)
            if subscribed is not None:
                expected = {
                    name: value if _is_kept(name, subscribed) else None for name, value in expected.items()
                }
            fields = [name for name, value in expected.items() if _stored(name, row) != value]
            if fields:
                wrong[customer["id"]] = f"differs in {', '.join(fields)}"
    for id_, row in rows.items():
        if row["deleted_at"] is None:
            known = "deleted" if id_ in deleted else "unknown"
            wrong[id_] = f"live in the mirror, {known} upstream"
    return wrong


def counted(database: Path, query: str) -> dict[str, int]:
    """Give what `query` (two columns: name, number) counts; nothing while the database is being made.

    Whoever made it may have been killed meanwhile: its first transaction is rolled back when it is back.
    """
    if not database.exists():
        return {}
    try:
        with _opened(database) as connection:
            if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                return {}
            return {str(name): int(number) for name, number in connection.execute(query)}
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_READONLY_ROLLBACK:
            return {}
        raise


def _rows(database: Path) -> list[dict[str, Any]]:
    if not database.exists():
        return []
    with _opened(database) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute("SELECT * FROM all_customers")]


class _opened:  # noqa: N801 - it reads as what it does
    def __init__(self, database: Path) -> None:
        self._connection = sqlite3.connect(database.absolute().as_uri() + "?mode=ro", uri=True, timeout=10)

    def __enter__(self) -> sqlite3.Connection:
        return self._connection

    def __exit__(self, *_: object) -> None:
        self._connection.close()


def _columns(customer: Mapping[str, Any]) -> dict[str, Any]:
    expected = {name: customer.get(name) for name in _PLAIN}
    expected["accepts_marketing"] = customer.get("accepts_marketing")
    expected["tags"] = customer.get("tags")
    for kind in ("primary", "shipping"):
        address = customer.get(f"{kind}_address") or {}
        for part in _PARTS:
            expected[f"{kind}_{part}"] = address.get(part)
    return expected


def _is_kept(name: str, subscribed: Collection[str]) -> bool:
    attribute = "address" if name.startswith(("primary_", "shipping_")) else _FILTERS.get(name, name)
    return attribute == "reference_id" or attribute in subscribed


def _stored(name: str, row: Mapping[str, Any]) -> Any:
    value = row[name]
    if value is None:
        return None
    if name == "accepts_marketing":
        return bool(value)
    return json.loads(value) if name == "tags" else value
