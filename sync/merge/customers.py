"""Customers as Kounta sends them, and the one table of what the mirror keeps of them.

A resource beside customers (products, orders) would be another module like this one: a model that reads
upstream's JSON, and a table that says which field belongs to which attribute filter.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
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
_NOT_OTHER: Final = frozenset({"id_str", "primary_email_address"})


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
        return frozenset(fields | {"primary_address", "shipping_address"} if self._addresses else fields)

    @cached_property
    def _addresses(self) -> bool:
        return "address" in self.attributes

    def carried_in(self, customer: Customer) -> Values:
        """Give the values of the kept columns that `customer` carries; an absent field has no entry."""
        fields = customer.model_fields_set
        known = customer.__dict__
        values: Values = {column: known[column] for column in self._plain if column in fields}
        if "reference_id" in fields:
            values["reference_id"] = customer.reference_id or ""
        other: dict[str, Any] = {}
        if self._addresses:
            for field, unset in _ADDRESSES.items():
                if field in fields:
                    address: Address | None = known[field]
                    if address is None:
                        values |= unset
                    else:
                        values |= zip(unset, address.parts(), strict=True)
                        if address.model_extra:
                            other[field] = address.model_extra
        if self.whole:
            if customer.model_extra:
                extra = customer.model_extra
                other |= {name: value for name, value in extra.items() if name not in _NOT_OTHER}
            if other:
                values["other"] = other
        return values

    def covers(self, customer: Customer) -> bool:
        """Whether `customer` carries every field that the mirror keeps of it and knows the name of."""
        return self._needed <= customer.model_fields_set


@lru_cache(maxsize=4096)
def attributes_of(columns: frozenset[str]) -> tuple[str, ...]:
    """Name the attributes that `columns` belong to, each once, in the order of the table."""
    touched = {COLUMNS[column] for column in columns}
    return tuple(attribute for attribute in (*ATTRIBUTES, OTHER) if attribute in touched)
