"""One customer, as upstream holds it and as it shows it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

JsonObject: TypeAlias = "dict[str, Any]"
NOTHING: Mapping[str, Any] = MappingProxyType({})

ADDRESS_FIELDS = ("address", "city", "state", "postal_code", "country")

# The seed, "Update a customer"; `mobile` is newer than the seed.
WRITABLE = (
    "first_name",
    "last_name",
    "phone",
    "mobile",
    "email",
    "tags",
    "image",
    "primary_address",
    "shipping_address",
    "reference_id",
    "accepts_marketing",
)

# The seed, "attribute filters"; `mobile` goes with phone.
FILTERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "name": ("first_name", "last_name"),
        "phone": ("phone", "mobile"),
        "email": ("email",),
        "address": ("primary_address", "shipping_address"),
        "tags": ("tags",),
        "image": ("image",),
        "accepts_marketing": ("accepts_marketing",),
    }
)


@dataclass(frozen=True)
class Customer:
    """A customer at one moment. `reference_ids` maps an application's client id to its private reference."""

    id: int
    first_name: str | None = None
    last_name: str | None = None
    email: str | None = None
    phone: str | None = None
    mobile: str | None = None
    tags: tuple[str, ...] | None = ()
    image: str | None = None
    primary_address: Mapping[str, str | None] | None = None
    shipping_address: Mapping[str, str | None] | None = None
    accepts_marketing: bool | None = False
    reference_ids: Mapping[str, str] = field(default_factory=dict)
    other: Mapping[str, Any] = field(default_factory=dict)

    def with_values(self, values: Mapping[str, Any], application: str) -> Customer:
        """Give this customer with some attributes replaced, as the application wrote them.

        An attribute that upstream does not know is kept in `other`; `id` is never changed.
        """
        known: JsonObject = {}
        other = dict(self.other)
        for name, value in values.items():
            if name == "reference_id":
                known["reference_ids"] = {**self.reference_ids, application: value or ""}
            elif name == "tags":
                known["tags"] = None if value is None else tuple(value)
            elif name in WRITABLE:
                known[name] = value
            elif name not in ("id", "created_at", "updated_at"):
                other[name] = value
        return replace(self, **known, other=other)

    def seen_by(self, application: str) -> JsonObject:
        """Give everything an application may know of the customer, without created_at and updated_at."""
        return {
            "id": self.id,
            "first_name": self.first_name,
            "last_name": self.last_name,
            "email": self.email,
            "phone": self.phone,
            "mobile": self.mobile,
            "tags": None if self.tags is None else list(self.tags),
            "image": self.image,
            "primary_address": None if self.primary_address is None else dict(self.primary_address),
            "shipping_address": None if self.shipping_address is None else dict(self.shipping_address),
            "reference_id": self.reference_ids.get(application, ""),
            "accepts_marketing": self.accepts_marketing,
            **self.other,
        }


def differing(before: Customer, after: Customer) -> tuple[str, ...]:
    """Give the attribute filters of the seed that a change from one state to the other would pass."""
    return tuple(
        name
        for name, attributes in FILTERS.items()
        if any(getattr(before, attribute) != getattr(after, attribute) for attribute in attributes)
    )


def timestamp(at: float) -> str:
    """Give epoch seconds as ISO 8601 with an offset, to the second, as upstream writes times."""
    return datetime.fromtimestamp(int(at), UTC).isoformat()


def stamped(shown: JsonObject, at: float | None) -> JsonObject:
    """Add created_at and updated_at: the seed says that both are always the current time."""
    if at is None:
        return shown
    return {**shown, "created_at": timestamp(at), "updated_at": timestamp(at)}


def legacy_address(address: Mapping[str, str | None] | None) -> JsonObject | None:
    """Give an address in the older shape."""
    if address is None:
        return None
    return {
        "lines": [line for line in (address.get("address"),) if line],
        "city": address.get("city"),
        "zone": address.get("state"),
        "postal_code": address.get("postal_code"),
        "country": address.get("country"),
    }


def abridged(shown: JsonObject, *, legacy: bool) -> JsonObject:
    """Give what an item of a list has. The legacy shape calls the e-mail primary_email_address."""
    return {
        "id": shown["id"],
        "first_name": shown["first_name"],
        "last_name": shown["last_name"],
        "primary_email_address" if legacy else "email": shown["email"],
        "image": shown["image"],
        "reference_id": shown["reference_id"],
    }
