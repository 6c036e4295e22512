"""What a write of a customer may hold: the seed's fields, its minimum, its country codes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from sync.sandbox.customer import ADDRESS_FIELDS, WRITABLE, JsonObject
from sync.sandbox.refusal import RefusedError

if TYPE_CHECKING:
    from collections.abc import Mapping

_COUNTRY = re.compile("[A-Z]{2}")
_ADDRESSES = ("primary_address", "shipping_address")
_MINIMUM_CONTACT = ("email", "phone", "mobile")


def written_values(body: Any, *, refuse_unknown: bool) -> JsonObject:
    """Give the writable attributes of a request's body. Raises RefusedError (400) for what cannot be."""
    if not isinstance(body, dict):
        raise _invalid("The body must be a JSON object of a customer's attributes.")
    unknown = sorted(name for name in body if name not in WRITABLE)
    if unknown and refuse_unknown:
        raise _invalid(f"These cannot be written: {', '.join(unknown)}.")
    values = {name: value for name, value in body.items() if name in WRITABLE}
    check_types(values)
    for name in _ADDRESSES:
        _check_address(name, values.get(name) or {})
    return values


def check_types(values: Mapping[str, Any]) -> None:
    """Raise RefusedError (400) if an attribute is of another type than a customer's."""
    for name, value in values.items():
        if value is not None and name in WRITABLE:
            _check_type(name, value)


def check_minimum(values: Mapping[str, Any]) -> None:
    """Raise RefusedError (400) unless there is a first_name and a way to reach the customer."""
    if not values.get("first_name"):
        raise _invalid("first_name is required.")
    if not any(values.get(name) for name in _MINIMUM_CONTACT):
        raise _invalid("An email or a phone is required.")


def _check_type(name: str, value: Any) -> None:
    if name == "tags":
        if not (isinstance(value, list) and all(isinstance(tag, str) for tag in value)):
            raise _invalid("tags must be an array of strings.")
    elif name == "accepts_marketing":
        if not isinstance(value, bool):
            raise _invalid("accepts_marketing must be true or false.")
    elif name in _ADDRESSES:
        if not isinstance(value, dict):
            raise _invalid(f"{name} must be an object with {', '.join(ADDRESS_FIELDS)}.")
    elif not isinstance(value, str):
        raise _invalid(f"{name} must be a string.")


def _check_address(name: str, value: Mapping[str, Any]) -> None:
    for part, text in value.items():
        if part not in ADDRESS_FIELDS:
            raise _invalid(f"{name} has no {part}; it has {', '.join(ADDRESS_FIELDS)}.")
        if text is not None and not isinstance(text, str):
            raise _invalid(f"{name}.{part} must be a string.")
    country = value.get("country")
    if country is not None and not _COUNTRY.fullmatch(country):
        raise _invalid(f"{name}.country must be two capital letters (ISO 3166-1), such as AU.")


def _invalid(sentence: str) -> RefusedError:
    return RefusedError(400, "invalid_request", sentence)
