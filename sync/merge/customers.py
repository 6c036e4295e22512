"""Customers as Kounta sends them, and the one table of what the mirror keeps of them.

A resource beside customers (products, orders) would be another module like this one: a model that reads
upstream's JSON, and a table that says which field belongs to which attribute filter.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from types import MappingProxyType
from typing import Annotated, Any, Final

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field

Value = str | bool | list[str] | dict[str, Any] | None
Values = dict[str, Value]

ATTRIBUTES: Final = ("name", "phone", "email", "address", "tags", "image", "accepts_marketing")
"""The attribute filters of customers/updated, by the seed."""

OTHER: Final = "other"
"""The attribute of what no filter covers: reference_id, and fields this version does not know."""

ADDRESS_PARTS: Final = ("address", "city", "state", "postal_code", "country")

COLUMNS: Final[Mapping[str, str]] = {
    "first_name": "name",
    "last_name": "name",
    "email": "email",
    "phone": "phone",
    "mobile": "phone",
    "image": "image",
    "reference_id": OTHER,
    "accepts_marketing": "accepts_marketing",
    "tags": "tags",
    **{f"{kind}_{part}": "address" for kind in ("primary", "shipping") for part in ADDRESS_PARTS},
    "other": OTHER,
}
"""Column of the mirror -> attribute it belongs to, in the order of the `customers` view."""

_PLAIN: Final = tuple(c for c, a in COLUMNS.items() if a not in {"address", OTHER})
_ADDRESSES: Final[Mapping[str, Values]] = {
    f"{kind}_address": {f"{kind}_{part}": None for part in ADDRESS_PARTS} for kind in ("primary", "shipping")
}
"""Field of an address -> its columns, unset."""
ADDRESS_FIELDS: Final = frozenset(_ADDRESSES)
NOT_OTHER: Final = frozenset({"id_str", "primary_email_address"})
NUMBERED: Final = frozenset({"phone", "mobile", "postal_code"})
"""Fields whose text loses leading zeros and a `+` where it comes as a number."""
_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


def _no_truth_value(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("expected a number, came true or false")  # noqa: TRY004 - pydantic wants a ValueError
    return value


CustomerId = Annotated[int, BeforeValidator(_no_truth_value), Field(ge=1, le=2**63 - 1)]
"""A number; digits in a text are taken for one."""


class Address(BaseModel):
    """An address of a customer; older ones carry `lines` and `zone` in place of `address` and `state`."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)

    address: str | None = None
    city: str | None = None
    state: str | None = Field(default=None, validation_alias=AliasChoices("state", "zone"))
    postal_code: str | None = None
    country: str | None = None
    lines: list[str | None] | None = None

    def street(self) -> str | None:
        """Give the street as one text; the older form's lines are joined with line breaks."""
        if self.address is None and self.lines is not None:
            return "\n".join(line for line in self.lines if line) or None
        return self.address

    def parts(self) -> tuple[str | None, ...]:
        """Give the values of ADDRESS_PARTS, in their order."""
        return self.street(), self.city, self.state, self.postal_code, self.country


class Customer(BaseModel):
    """One customer as upstream sends it: in a delivery, a list, or an answer.

    Any field but the id may be null or absent; `model_fields_set` tells absent from null. Fields that this
    version does not know are kept in `model_extra`. `created_at` and `updated_at` are the time of the
    request, by the seed; they are read elsewhere, never compared.
    """

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)

    id: CustomerId
    first_name: str | None = None
    last_name: str | None = None
    email: str | None = Field(default=None, validation_alias=AliasChoices("email", "primary_email_address"))
    phone: str | None = None
    mobile: str | None = None
    image: str | None = None
    reference_id: str | None = None
    accepts_marketing: bool | None = None
    tags: list[str] | None = None
    primary_address: Address | None = None
    shipping_address: Address | None = None
    created_at: Any = None
    updated_at: Any = None

    @property
    def unread(self) -> Mapping[str, str]:
        """Fields whose meaning cannot be known: name -> what came, as text; they count as absent.

        A part of an address is `primary_address.city`. Only what `sync.merge.reading` reads has any.
        """
        return _NOTHING

    @property
    def numbers(self) -> frozenset[str]:
        """Phone, mobile and postal code fields that came as a number, named as in `unread`."""
        return frozenset()

    @property
    def oddities(self) -> frozenset[str]:
        """What was odd in how it was written, by names of docs/reference/upstream.md."""
        return frozenset()


@dataclass(frozen=True)
class Subscription:
    """Which attributes the mirror keeps: a set of filter attributes of the seed, all by default."""

    attributes: frozenset[str] = frozenset(ATTRIBUTES)

    @classmethod
    def of(cls, names: Iterable[str]) -> "Subscription":
        """Take attribute names; raises ValueError with a sentence for one that the seed does not have."""
        wanted = frozenset(names)
        unknown = sorted(wanted - set(ATTRIBUTES))
        if unknown:
            raise ValueError(f"no such attribute: {', '.join(unknown)}; there are {', '.join(ATTRIBUTES)}")
        return cls(wanted)

    @cached_property
    def whole(self) -> bool:
        """Whether every attribute is kept; only then are unknown fields kept too."""
        return self.attributes == frozenset(ATTRIBUTES)

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Columns that may hold a value; `reference_id` always may, for no filter covers it."""
        return tuple(
            column
            for column, attribute in COLUMNS.items()
            if attribute in self.attributes or column == "reference_id" or (column == "other" and self.whole)
        )

    @cached_property
    def _plain(self) -> tuple[str, ...]:
        return tuple(column for column in _PLAIN if COLUMNS[column] in self.attributes)

    @cached_property
    def _needed(self) -> frozenset[str]:
        fields = {*self._plain, "reference_id"}
        return frozenset(fields | ADDRESS_FIELDS if self._addresses else fields)

    @cached_property
    def _needed_but_mobile(self) -> frozenset[str]:
        return self._needed - {"mobile"}

    @cached_property
    def _addresses(self) -> bool:
        return "address" in self.attributes

    def carried_in(self, customer: Customer) -> Values:
        """Give the values of the kept columns that `customer` carries; an absent field has no entry.

        One that came and could not be read is None. Unknown fields that are fleeting are left out.
        """
        fields = customer.model_fields_set
        known = customer.__dict__
        values: Values = {column: known[column] for column in self._plain if column in fields}
        if "reference_id" in fields:
            values["reference_id"] = customer.reference_id or ""
        if self._addresses:
            for field, unset in _ADDRESSES.items():
                if field in fields:
                    address: Address | None = known[field]
                    values |= unset if address is None else zip(unset, address.parts(), strict=True)
        if self.whole and (other := _other(customer)):
            values["other"] = other
        for place, raw in customer.unread.items():
            values |= dict.fromkeys(name for name in self._unread_columns(place, raw) if name in COLUMNS)
        return values

    def covers(self, customer: Customer) -> bool:
        """Whether `customer` carries every field that the mirror keeps of it and knows the name of."""
        return not any(name in COLUMNS for name in self.lacking(customer))

    def lacking(self, customer: Customer, *, mobile: bool = True) -> dict[str, str | None]:
        """Return the columns that `customer` leaves unknown: column -> what came as text, None: nothing came.

        `mobile`: whether a missing `mobile` is among them. Unknown fields that came and could not be read
        have the name `other.NAME`.
        """
        fields = customer.model_fields_set
        unread = customer.unread
        needed = self._needed if mobile else self._needed_but_mobile
        if needed <= fields and not unread:
            return {}
        lacked: dict[str, str | None] = {}
        for field in needed - fields:
            lacked |= dict.fromkeys(_ADDRESSES.get(field, (field,)))
        for place, raw in unread.items():
            lacked |= self._unread_columns(place, raw)
        return lacked

    def numbers_in(self, customer: Customer) -> frozenset[str]:
        """Return the kept columns that came as a number though they are text."""
        return frozenset(column for place in customer.numbers if (column := column_of(place)) in self.columns)

    def _unread_columns(self, place: str, raw: str) -> dict[str, str | None]:
        if place in ADDRESS_FIELDS:
            if not self._addresses:
                return {}
            first, *others = _ADDRESSES[place]
            return {first: raw, **dict.fromkeys(others, "")}
        column = column_of(place)
        if column is not None:
            return {column: raw} if column in self.columns else {}
        return {f"{OTHER}.{place}": raw} if self.whole and not is_fleeting(place) else {}


def _other(customer: Customer) -> dict[str, Any]:
    """Return the unknown fields of a customer and of its addresses that are not fleeting."""
    other: dict[str, Any] = {}
    for field in _ADDRESSES:
        address: Address | None = customer.__dict__.get(field)
        if address is not None and address.model_extra and (extra := lasting(address.model_extra)):
            other[field] = extra
    if customer.model_extra:
        extra = lasting(customer.model_extra)
        other |= {name: value for name, value in extra.items() if name not in NOT_OTHER}
    return other


def column_of(place: str) -> str | None:
    """Return the column of a field, or of a part of an address: `primary_address.city` -> `primary_city`.

    None for a whole address, and for a field that this version does not know.
    """
    if place in _PLAIN or place == "reference_id":
        return place
    field, _, part = place.partition(".")
    return (
        f"{field.removesuffix('address')}{part}"
        if field in ADDRESS_FIELDS and part in ADDRESS_PARTS
        else None
    )


def is_fleeting(name: str) -> bool:
    """Whether an unknown field of this name changes while the customer stays the same: a time, a count."""
    return name.endswith(("_at", "_count")) or name in {"count", "timestamp"}


def lasting(value: Any) -> Any:
    """Return a JSON value without what `is_fleeting`, at any depth."""
    if isinstance(value, dict):
        return {name: lasting(one) for name, one in value.items() if not is_fleeting(name)}
    if isinstance(value, list):
        return [lasting(one) for one in value]
    return value


@lru_cache(maxsize=4096)
def attributes_of(columns: frozenset[str]) -> tuple[str, ...]:
    """Name the attributes that `columns` belong to, each once, in the order of the table."""
    touched = {COLUMNS[column] for column in columns}
    return tuple(attribute for attribute in (*ATTRIBUTES, OTHER) if attribute in touched)
