"""How a snapshot differs from a record, and what is there once it is put over it.

A value that came and could not be read is a value that is not known: its column is None, and `unread` has
what came (decision 0060).
"""

import json
import re
from collections.abc import Collection
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final

from sync.merge.customers import OTHER, Value, Values, lasting
from sync.merge.deleted import FLAGS
from sync.merge.records import Record
from sync.merge.snapshots import Snapshot

_WITH_EXPONENT: Final = 1e16
"""From there on a float is written with an exponent."""
_PART_OF_ADDRESS: Final = {"primary_address": "primary_city", "shipping_address": "shipping_city"}
"""Field of an address -> a column that is carried whenever the address is."""
UNSET: Final = (None, "")
_DIGITS: Final = re.compile(r"\+?[0-9]+")


def come_unread(snapshot: Snapshot) -> dict[str, str | None]:
    """Return what came and could not be read; what did not come says nothing."""
    return {name: raw for name, raw in snapshot.unread.items() if raw is not None}


def still_unread(record: Record, snapshot: Snapshot) -> dict[str, str | None]:
    """Return what of a record is unread once `snapshot` is put over it."""
    if not record.unread and not snapshot.unread:
        return {}
    carried = {*snapshot.values, *(f"{OTHER}.{name}" for name in _fields(snapshot.values.get(OTHER)))}
    kept = {name: raw for name, raw in record.unread.items() if name not in carried}
    return {**kept, **come_unread(snapshot)}


def unread_otherwise(record: Record, snapshot: Snapshot) -> bool:
    """Whether one has a value that came and cannot be read, and the other has not the same."""
    if not record.unread and not snapshot.unread:
        return False
    come = come_unread(snapshot)
    return any(record.unread.get(name) != raw for name, raw in come.items()) or any(
        raw is not None and name in snapshot.values and name not in come
        for name, raw in record.unread.items()
    )


def is_unknown(record: Record, column: str) -> bool:
    """Whether nothing ever said what this column of a partial record is."""
    return record.values[column] is None and record.unread.get(column) is None


def may_be_unknown(record: Record, column: str) -> bool:
    """Whether a column of a record is None because it has not been read, or could not be."""
    return record.partial and record.values.get(column) is None


def comparable(record: Record, snapshot: Snapshot) -> Values:
    """Return what `snapshot` carries of the columns that both can be read in."""
    if not record.unread and not snapshot.unread:
        return snapshot.values
    unread = {name.partition(".")[0] for name in (*snapshot.unread, *record.unread)}
    return {name: value for name, value in snapshot.values.items() if name not in unread}


def without_news(record: Record, carried: Values, *, none_is_empty: bool) -> Values:
    """Leave out differences that prove no change.

    These are unknown fields that the record lacks, flags of which one "no" is as good as any other, and ""
    for none and none for "" where `none_is_empty`.
    """
    if none_is_empty:
        carried = {
            name: value
            for name, value in carried.items()
            if value not in UNSET or record.values.get(name) not in UNSET
        }
    fields = carried.get(OTHER)
    if not isinstance(fields, dict):
        return carried
    known = _fields(record.values.get(OTHER))
    kept = {name: value for name, value in fields.items() if name in known and name not in FLAGS}
    return {**carried, OTHER: kept}


def understood(record: Record, snapshot: Snapshot) -> Snapshot:
    """Take a number for the text that is held if it is equal but for leading zeros or a `+`."""
    held = {
        name: text
        for name in snapshot.numbers
        if isinstance(text := record.values.get(name), str)
        and _DIGITS.fullmatch(text)
        and text.lstrip("+0") == str(snapshot.values[name]).lstrip("0")
    }
    return replace(snapshot, values={**snapshot.values, **held}) if held else snapshot


def overlaid(values: Values, carried: Values, unread: Collection[str] = ()) -> Values:
    """Put `carried` over `values`. Unknown fields are overlaid one by one: an absent one says nothing.

    Only those of an address go with it: an address is carried whole or not at all. One that came and could
    not be read (`unread`) goes, too.
    """
    overlaid = {**values, **carried}
    gone = {*_gone_with_addresses(values, carried), *_unread_fields(values, unread)}
    if gone or "other" in carried:
        known = lasting(_fields(values.get("other")))
        kept = {
            name: value
            for name, value in known.items()
            if name not in gone and (value or name not in _PART_OF_ADDRESS)
        }
        overlaid["other"] = {**kept, **_fields(carried.get("other"))} or None
    return overlaid


def differing(values: Values, carried: Values, unread: Collection[str] = ()) -> tuple[str, ...]:
    """Name the columns in which `carried` says something else."""
    columns = [name for name, value in carried.items() if values.get(name) != value and name != "other"]
    if (
        _gone_with_addresses(values, carried)
        or _unread_fields(values, unread)
        or ("other" in carried and _other_differs(values.get("other"), carried["other"]))
    ):
        columns.append("other")
    return tuple(columns)


def _unread_fields(values: Values, unread: Collection[str]) -> list[str]:
    """Name the unknown fields that are known, and which came and could not be read."""
    if not unread:
        return []
    return [name for name in _fields(values.get("other")) if f"{OTHER}.{name}" in unread]


def _gone_with_addresses(values: Values, carried: Values) -> list[str]:
    """Name the addresses whose unknown fields are known, and which `carried` has without any."""
    known = values.get("other")
    if not isinstance(known, dict):
        return []
    fields = _fields(carried.get("other"))
    return [
        name
        for name, part in _PART_OF_ADDRESS.items()
        if part in carried and name not in fields and lasting(known.get(name))
    ]


def _other_differs(known: Value, carried: Value) -> bool:
    fields = lasting(_fields(known))
    return any(
        name not in fields or _canonical(fields[name]) != _canonical(value)
        for name, value in _fields(carried).items()
    )


def _canonical(value: object) -> str:
    return json.dumps(_stored(value), sort_keys=True)  # 1 and true are equal in Python, not in JSON


def _stored(value: object) -> object:
    """Give a value of JSON as PostgreSQL gives it back: 1e16 with all its digits, zero without a sign."""
    if isinstance(value, dict):
        return {name: _stored(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_stored(one) for one in value]
    if isinstance(value, float) and abs(value) >= _WITH_EXPONENT:
        return int(Decimal(repr(value)))
    return abs(value) if value == 0 and isinstance(value, float) else value


def _fields(value: Value) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
