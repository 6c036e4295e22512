"""Records in the odd shapes that upstream is said, or feared, to show. The truth stays beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sync.sandbox.customer import timestamp

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sync.sandbox.chance import Chance
    from sync.sandbox.customer import JsonObject
    from sync.sandbox.settings import Faults, Settings

NESTED = 300
HALF = "\ud83d"
LISTED = ("id", "first_name", "last_name", "email", "image", "reference_id")
_DIALLED = ("phone", "mobile")
_ADDRESSES = ("primary_address", "shipping_address")
_NAMES = ("first_name", "last_name")
_NO_VALUES: tuple[Any, ...] = (False, 0, "", None, [], {})
_NO: tuple[JsonObject, ...] = (
    *({"deleted": value} for value in _NO_VALUES),
    {"is_deleted": False},
    *({"deleted_at": value} for value in (None, "", "0000-00-00 00:00:00")),
)
_UNREADABLE: tuple[JsonObject, ...] = ({"deleted": "maybe"}, {"deleted": 2}, {"is_deleted": [1]})
_STRANGE: dict[str, tuple[Any, ...]] = {
    "tags": (7, {"a": {"b": 1}}, [["vip"]]),
    "accepts_marketing": ("maybe", 2, {"value": True}),
    "primary_address": ("12 Main St", 5, True),
    "shipping_address": ("12 Main St", 5, True),
}
_STRANGE_TEXTS = ({"value": "x"}, [["x"]], True)


class Oddities:
    """Makes a record odd in the ways that are set. `time` gives upstream's time, in epoch seconds."""

    def __init__(self, settings: Settings, faults: Faults, chance: Chance, time: Callable[[], float]) -> None:
        self._settings = settings
        self._faults = faults
        self._chance = chance
        self._time = time
        self._shown = 0
        self._ways: tuple[tuple[str, Callable[[JsonObject, int], None]], ...] = (
            ("half_surrogates", self._half),
            ("none_as_text", self._none_as_text),
            ("empty_as_list", _empty_as_list),
            ("numbers_for_text", _numbers_for_text),
            ("text_for_numbers", self._text_for_numbers),
            ("holes_as_object", _holes_as_object),
            ("strange_fields", self._strange),
            ("deep_nesting", _nest),
            ("false_flags", self._deny),
            ("strange_flags", self._confuse),
        )

    def of(self, record: JsonObject) -> JsonObject:
        """Give a live customer's record as it is shown this time; the given one stays as it is."""
        settings, customer_id = self._settings, record["id"]
        hits = [
            way
            for name, way in self._ways
            if self._chance.hits(getattr(self._faults, name), name, customer_id)
        ]
        if not hits and settings.mobile_field and not settings.volatile_extras:
            return record
        shown = dict(record)
        if not settings.mobile_field:
            shown.pop("mobile", None)
        if settings.volatile_extras:
            self._vary(shown)
        for way in hits:
            way(shown, customer_id)
        return shown

    def poor(self, record: JsonObject) -> JsonObject:
        """Give a read's record, which may carry no more than an item of a list."""
        if not self._chance.hits(self._faults.poor_reads, "poor_reads", record["id"]):
            return record
        return {name: value for name, value in record.items() if name in LISTED}

    def flagged(self, record: JsonObject) -> JsonObject:
        """Give a deleted customer's record with a flag that says so, in one of its spellings."""
        yes: Sequence[JsonObject] = (
            *({name: value} for name in ("deleted", "is_deleted") for value in (True, 1, "1", "true")),
            {"deleted_at": timestamp(self._time())},
        )
        return {**record, **self._chance.choice(yes, "deleted_flags", record["id"])}

    def _vary(self, record: JsonObject, _: int = 0) -> None:
        self._shown += 1
        now = timestamp(self._time())
        record["addresses"] = {"count": self._shown, "updated_at": now}
        record |= {"seen_at": now, "visits_count": self._shown, "timestamp": int(self._time())}

    def _half(self, record: JsonObject, customer_id: int) -> None:
        where = self._chance.choice(("note", *_NAMES), "half_surrogates", customer_id)
        record[where] = f"{record.get(where) or 'café'}{HALF}"

    def _none_as_text(self, record: JsonObject, customer_id: int) -> None:
        none = self._chance.choice(("", False), "none_as_text", customer_id)
        for name, value in record.items():
            if value is None and name in (*LISTED, *_DIALLED, *_ADDRESSES, "tags"):
                record[name] = none

    def _text_for_numbers(self, record: JsonObject, customer_id: int) -> None:
        record["id"] = str(record["id"])
        accepts = record.get("accepts_marketing")
        if isinstance(accepts, bool):
            yes_and_no = self._chance.choice(
                ((0, 1), ("0", "1"), ("false", "true")), "text_for_numbers", customer_id
            )
            record["accepts_marketing"] = yes_and_no[accepts]

    def _strange(self, record: JsonObject, customer_id: int) -> None:
        fields = [name for name in record if name in (*LISTED[1:], *_DIALLED, *_STRANGE)]
        if not fields:
            return  # a deletion that names the customer and no more
        field = self._chance.choice(fields, "strange_fields", customer_id)
        values = _STRANGE.get(field, _STRANGE_TEXTS)
        record[field] = self._chance.choice(values, "strange_fields value", customer_id)

    def _deny(self, record: JsonObject, customer_id: int) -> None:
        record |= self._chance.choice(_NO, "false_flags", customer_id)

    def _confuse(self, record: JsonObject, customer_id: int) -> None:
        record |= self._chance.choice(_UNREADABLE, "strange_flags", customer_id)


def _empty_as_list(record: JsonObject, _: int) -> None:
    for name in _ADDRESSES:
        if name in record and not record[name]:
            record[name] = []


def _holes_as_object(record: JsonObject, _: int) -> None:
    tags = record.get("tags")
    if tags and isinstance(tags, list):
        record["tags"] = {str(2 * place): tag for place, tag in enumerate(tags)}


def _numbers_for_text(record: JsonObject, _: int) -> None:
    """Write digits as a number; only of phones and postal codes zeros and + may go."""
    for name in (*LISTED[1:], *_DIALLED):
        if name in record:
            record[name] = _number(record[name], lossy=name in _DIALLED)
    for name in _ADDRESSES:
        address = record.get(name)
        if isinstance(address, dict) and "postal_code" in address:
            record[name] = {**address, "postal_code": _number(address["postal_code"], lossy=True)}


def _number(value: Any, *, lossy: bool) -> Any:
    digits = value.removeprefix("+") if lossy and isinstance(value, str) else value
    if not (isinstance(digits, str) and digits.isascii() and digits.isdigit()):
        return value
    return int(digits) if lossy or str(int(digits)) == digits else value


def _nest(record: JsonObject, _: int) -> None:
    nested: Any = []
    for _depth in range(NESTED):
        nested = [nested]
    record["preferences"] = nested
