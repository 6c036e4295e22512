"""A customer, read field by field where it must be: a field that cannot be read costs only itself.

Upstream is PHP (kounta-api.md): an empty object may come as `[]`, a list with holes as an object, "" or false
for none, numbers as text and text as numbers. What is meant is read. A field whose meaning cannot be known is
left out and named in `Customer.unread`, with its raw value (decision 0060).
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, Self

from pydantic import PrivateAttr, TypeAdapter, ValidationError

from sync.merge.customers import (
    ADDRESS_FIELDS,
    ADDRESS_PARTS,
    NOT_OTHER,
    NUMBERED,
    Address,
    Customer,
)
from sync.merge.members import (
    NotJsonError,
    TooDeepError,
    UnreadError,
    is_storable,
    split_array,
    split_object,
    text_of,
    value_of,
)

MOST_RAW: Final = 1024
"""Bytes of a raw value that are kept."""
MOST_RAWS: Final = 20
"""Raw values of unknown fields that are kept of one body; of more only the names are."""

ESCAPED_NUL: Final = b"\\u0000"
_EXACT: Final = 2**53
"""Up to there a number with a point is exact."""
_HALF: Final = re.compile(r"\\u[dD][89a-fA-F]")
"""Half of a surrogate pair, or both of them, written as escapes."""
_TRUTH: Final = TypeAdapter(bool)


class PartlyReadCustomer(Customer):
    """A customer some of whose fields could not be read, or came in another shape than they should have."""

    _unread: dict[str, str] = PrivateAttr(default_factory=dict)
    _numbers: set[str] = PrivateAttr(default_factory=set)
    _oddities: set[str] = PrivateAttr(default_factory=set)

    def noting(self, unread: dict[str, str], numbers: set[str], oddities: set[str]) -> Self:
        """Note what could not be read, what came as a number, and what was odd at all."""
        self._unread, self._numbers, self._oddities = unread, numbers, oddities
        return self

    @property
    def unread(self) -> Mapping[str, str]:
        return self._unread

    @property
    def numbers(self) -> frozenset[str]:
        return frozenset(self._numbers)

    @property
    def oddities(self) -> frozenset[str]:
        return frozenset(self._oddities)


def read_customer(body: bytes) -> Customer:
    """Read a customer, as fast as pydantic can where it is well formed.

    Raises pydantic's ValidationError for what is no JSON, is cut short, or names no id.
    """
    try:
        customer = Customer.model_validate_json(body)
    except ValidationError:
        pass
    else:
        if ESCAPED_NUL not in body:
            return customer
    try:
        return _Reading().customer(split_object(text_of(body)))
    except NotJsonError:
        return Customer.model_validate_json(body)  # which says what is wrong with it


def read_items(body: bytes) -> list[bytes]:
    """Cut a list into its items, so that `read_customer` can read each alone. Raises NotJsonError."""
    return [item.encode(errors="surrogateescape") for item in split_array(text_of(body))]


def named_id(item: bytes) -> Any:
    """Return what an item that is no customer gives as its id, None when it gives nothing."""
    try:
        return value_of(split_object(text_of(item))["id"])
    except (NotJsonError, UnreadError, KeyError):
        return None


class _Reading:
    """One body that is read field by field: what could not be read, and what came as a number."""

    def __init__(self) -> None:
        self.unread: dict[str, str] = {}
        self.numbers: set[str] = set()
        self.oddities: set[str] = set()
        self._unknown = 0

    def customer(self, members: dict[str, str]) -> Customer:
        if "email" in members:
            members.pop("primary_email_address", None)
        elif "primary_email_address" in members:
            members["email"] = members.pop("primary_email_address")
        fields: dict[str, Any] = {}
        for name, raw in members.items():
            if name in _FIELDS:
                self._take(fields, name, name, raw, _FIELDS[name])
            elif name in ADDRESS_FIELDS and raw.startswith("{"):
                fields[name] = self._address(name, raw)
            elif name in ADDRESS_FIELDS:
                self._take(fields, name, name, raw, _no_address)
            elif name in _TIMES:
                self._take_quietly(fields, name, raw)
            else:
                self._take_unknown(fields, name, name, raw)
        return PartlyReadCustomer.model_validate(fields).noting(self.unread, self.numbers, self.oddities)

    def _address(self, field: str, raw: str) -> Address:
        """Read the parts of an address one by one."""
        parts: dict[str, Any] = {}
        members = split_object(raw)
        if "state" in members:
            members.pop("zone", None)
        elif "zone" in members:
            members["state"] = members.pop("zone")
        for part, value in members.items():
            place = f"{field}.{part}"
            if part in ADDRESS_PARTS:
                self._take(parts, part, place, value, _text)
            elif part == "lines":
                self._take(parts, part, f"{field}.address", value, _lines)
            else:
                self._take_unknown(parts, part, place, value)
        if parts.get("address") is not None:
            self.unread.pop(f"{field}.address", None)  # the lines say nothing more
        return Address.model_validate(parts)

    def _take(
        self, fields: dict[str, Any], name: str, place: str, raw: str, read: Callable[[Any], Any]
    ) -> None:
        try:
            value = value_of(raw)
            fields[name] = read(value)
        except UnreadError as error:
            self.unread[place] = _kept(raw)
            self.oddities.add(_why_unread(error, raw))
        else:
            if name != "id" and read is not _truth:
                self.oddities |= _odd(value, fields[name])
            if name in NUMBERED and _is_number(value):
                self.numbers.add(place)

    def _take_quietly(self, fields: dict[str, Any], name: str, raw: str) -> None:
        try:
            fields[name] = value_of(raw)
        except UnreadError:
            return

    def _take_unknown(self, fields: dict[str, Any], name: str, place: str, raw: str) -> None:
        """Take a field that this version does not know, unless no database could store it."""
        try:
            fields[name] = _storable(name, value_of(raw))
        except UnreadError as error:
            self.oddities.add(_why_unread(error, raw))
            if is_storable(name) and name not in NOT_OTHER:
                self._unknown += 1
                self.unread[place] = _kept(raw) if self._unknown <= MOST_RAWS else ""


def _id(value: Any) -> Any:
    return value


def _storable(name: str, value: Any) -> Any:
    if not all(map(is_storable, _texts({name: value}))):
        raise UnreadError("it holds a text that cannot be stored")
    return value


def _text(value: Any) -> str | None:
    """Read a text; false is none, a number is its digits."""
    if isinstance(value, str) and is_storable(value):
        return value
    if value is None or value is False:
        return None
    if isinstance(value, int) and value is not True:
        return str(value)
    if isinstance(value, float):
        spelled = str(int(value)) if value.is_integer() and abs(value) < _EXACT else repr(value)
        if "e" not in spelled:
            return spelled
    raise UnreadError("it is no text")


def _texts_of(value: Any) -> list[str] | None:
    """Read a list of texts; a list with holes comes as an object whose names are places."""
    if value is None or value is False or value == "":
        return None
    texts = (_text(item) for item in _items(value))
    return [text for text in texts if text is not None]


def _lines(value: Any) -> list[str | None] | None:
    return None if value is None or value is False or value == "" else [_text(one) for one in _items(value)]


def _items(value: Any) -> list[Any]:
    if isinstance(value, list):
        return value
    if isinstance(value, dict) and all(name.isascii() and name.isdecimal() for name in value):
        return [value[name] for name in sorted(value, key=lambda name: (len(name), name))]
    raise UnreadError("it is no list")


def _truth(value: Any) -> bool | None:
    """Read true or false, as pydantic does: 0, 1, "0", "1", "true", "yes" and so on."""
    if value is None or value == "":
        return None
    try:
        return _TRUTH.validate_python(value)
    except ValidationError:
        raise UnreadError("it is neither true nor false") from None


def _no_address(value: Any) -> Address | None:
    """Read what says that there is no address; an empty one may come as a list."""
    if value is None or value is False or value == "":
        return None
    if value == []:
        return Address()
    raise UnreadError("it is no address")


def _odd(value: Any, meant: Any) -> set[str]:
    """Name what was odd in the value of a text, a list of texts or an address that could be read."""
    if value is False or (value == "" and meant is None):
        return {"none-as-text"}
    if _is_number(value):
        return {"numbers-for-text"}
    if isinstance(value, dict):
        return {"holes-as-object"}
    return {"empty-object-as-list"} if value == [] and isinstance(meant, Address) else set()


def _why_unread(error: UnreadError, raw: str) -> str:
    """Name what kept a field from being read, by the value as text."""
    if isinstance(error, TooDeepError):
        return "deep-nesting"
    return "half-surrogates" if _HALF.search(raw) else "strange-fields"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _texts(value: Any) -> list[str]:
    """Return every text in a value, names included."""
    found, waiting = [], [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            found.append(one)
        elif isinstance(one, dict):
            waiting += [*one, *one.values()]
        elif isinstance(one, list):
            waiting += one
    return found


def _kept(raw: str) -> str:
    """Return a raw value as both databases can store it, cut to MOST_RAW bytes."""
    storable = raw.replace("\x00", "\\x00").encode(errors="backslashreplace")
    return storable[:MOST_RAW].decode(errors="ignore")


_FIELDS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "id": _id,
    **dict.fromkeys(("first_name", "last_name", "email", "phone", "mobile", "image", "reference_id"), _text),
    "accepts_marketing": _truth,
    "tags": _texts_of,
}
_TIMES: Final = frozenset({"created_at", "updated_at"})
