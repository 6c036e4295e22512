"""What may be written of a customer, checked before upstream is asked; and whether a customer holds it.

The seed: creation and modification are limited to these fields; at a minimum first_name and an e-mail or a
phone are required; country is ISO 3166-1 alpha-2. `mobile` is newer than the seed (kounta-api.md).
"""

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Final

from pydantic import (
    BeforeValidator,
    ConfigDict,
    InstanceOf,
    Strict,
    TypeAdapter,
    ValidationError,
    with_config,
)
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

from sync.kounta.errors import KountaRefused
from sync.merge.customers import ADDRESS_PARTS, Address, Customer

ADDRESSES: Final = ("primary_address", "shipping_address")
CONTACTS: Final = ("email", "phone", "mobile")
_PERSON: Final = ("first_name", "last_name", *CONTACTS, "reference_id")
_NUMBERS: Final = frozenset({"phone", "mobile"})


def _text(value: object) -> object:
    """Refuse what upstream may take and the mirror cannot hold."""
    if isinstance(value, str):
        if "\x00" in value:
            raise PydanticCustomError("nul", "it holds a NUL character, which no database here can store")
        try:
            value.encode()
        except UnicodeEncodeError:
            raise PydanticCustomError(
                "surrogate", "it holds half of a character (a lone surrogate)"
            ) from None
    return value


def _country(value: object) -> object:
    if isinstance(value, str) and value not in _countries():
        raise PydanticCustomError("country", "{why}", {"why": _no_country(value)})
    return value


def _written_address(value: object) -> object:
    """Take an address as upstream gave it, too; what came with it beside the five parts is not written."""
    if isinstance(value, Address):
        return dict(zip(ADDRESS_PARTS, value.parts(), strict=True))
    if isinstance(value, dict) and not value:
        raise PydanticCustomError("empty", "it has no part at all; null takes an address away")
    return value


Text = Annotated[str, Strict(), BeforeValidator(_text)]
Country = Annotated[str, Strict(), BeforeValidator(_country)]


@with_config(ConfigDict(extra="forbid"))
class AddressFields(TypedDict, total=False):
    """The parts of an address; `country` is ISO 3166-1 alpha-2 (`AU`)."""

    address: Text | None
    city: Text | None
    state: Text | None
    postal_code: Text | None
    country: Country | None


WrittenAddress = Annotated[AddressFields | InstanceOf[Address] | None, BeforeValidator(_written_address)]


@with_config(ConfigDict(extra="forbid"))
class Fields(TypedDict, total=False):
    """What may be written of a customer. A field that is not given stays as it is; None takes it away.

    An address is written whole: a part that is left out may be lost.
    """

    first_name: Text | None
    last_name: Text | None
    email: Text | None
    phone: Text | None
    mobile: Text | None
    tags: list[Text] | None
    image: Text | None
    primary_address: WrittenAddress
    shipping_address: WrittenAddress
    reference_id: Text | None
    accepts_marketing: Annotated[bool, Strict()] | None


FIELDS: Final = tuple(Fields.__annotations__)
_FIELDS: Final = TypeAdapter(Fields)


def to_create(given: Mapping[str, Any]) -> dict[str, Any]:
    """Check what a customer is to be created with, and give it as JSON values.

    Raises KountaRefused for what the seed does not allow.
    """
    written = _checked(given)
    if not _said(written.get("first_name")):
        raise KountaRefused("a customer needs a first name", "Give first_name")
    if not any(_said(written.get(contact)) for contact in CONTACTS):
        raise KountaRefused(
            "a customer needs an e-mail address or a phone number", f"Give one of {', '.join(CONTACTS)}"
        )
    return written


def to_update(given: Mapping[str, Any]) -> dict[str, Any]:
    """Check what is to be changed of a customer, and give it as JSON values; only what is given is in it.

    Raises KountaRefused for what the seed does not allow, and for an update of nothing.
    """
    if not given:
        raise KountaRefused(
            "this would update nothing of the customer", f"Give at least one of {', '.join(FIELDS)}"
        )
    return _checked(given)


def is_same_person(written: Mapping[str, Any], customer: Customer) -> bool:
    """Whether names, contacts and reference id of `customer`, as far as it carries them, are as written.

    Upstream may write them in its own way: case, spaces and a number's punctuation make no difference.
    """
    return _agree(written, customer, _PERSON)


def holds(written: Mapping[str, Any], customer: Customer) -> bool:
    """Whether `customer`, as far as it carries it, has everything that was written."""
    return _agree(written, customer, FIELDS)


def _agree(written: Mapping[str, Any], customer: Customer, names: tuple[str, ...]) -> bool:
    carried = customer.model_fields_set
    return all(
        _is_same(_plain(name, written[name]), _plain(name, getattr(customer, name)), name, customer)
        for name in names
        if name in written and name in carried
    )


def _is_same(written: Any, found: Any, place: str, customer: Customer) -> bool:
    """Compare plain values: a number may have lost leading zeros, and what is unread says nothing."""
    if isinstance(written, dict) or isinstance(found, dict):
        parts = {*(written or {}), *(found or {})}
        return all(
            _is_same((written or {}).get(part), (found or {}).get(part), f"{place}.{part}", customer)
            for part in parts
        )
    if place in customer.unread:
        return True
    if place in customer.numbers and isinstance(written, str) and isinstance(found, str):
        return written.lstrip("+0") == found.lstrip("+0")
    return bool(written == found)


def _plain(name: str, value: Any) -> Any:
    """Give a value without what makes no difference: "" and null are both nothing."""
    if isinstance(value, str):
        wanted = str.isdecimal if name in _NUMBERS and any(map(str.isdecimal, value)) else _is_visible
        return "".join(filter(wanted, value)).casefold() or None
    if isinstance(value, Address):
        value = dict(zip(ADDRESS_PARTS, value.parts(), strict=True))
    if isinstance(value, dict):
        return {part: plain for part, text in value.items() if (plain := _plain(part, text))} or None
    if isinstance(value, list):
        return sorted(filter(None, (_plain(name, text) for text in value))) or None
    return value or None


def _is_visible(sign: str) -> bool:
    return not sign.isspace()


def _said(value: str | None) -> bool:
    return bool(value and value.strip())


def _checked(given: Mapping[str, Any]) -> dict[str, Any]:
    try:
        checked: dict[str, Any] = dict(_FIELDS.validate_python(dict(given)))
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
    else:
        return checked
    places = [str(place) for place in problem["loc"]]
    name = ".".join(place for place in places if place in {*FIELDS, *ADDRESS_PARTS} or place.isdecimal())
    if problem["type"] == "extra_forbidden":
        known = ADDRESS_PARTS if name else FIELDS
        raise KountaRefused(
            f"{'.'.join([*([name] if name else []), places[-1]])} cannot be written",
            f"Kounta lets these be written: {', '.join(known)}",
        )
    raise KountaRefused(f"{name} cannot be written so: {problem['msg']}", "Give another value")


@cache
def _countries() -> frozenset[str]:
    import pycountry  # its list is large, and few commands need it

    return frozenset(country.alpha_2 for country in pycountry.countries)


def _no_country(value: str) -> str:
    import pycountry

    try:
        meant = pycountry.countries.lookup(value.strip()).alpha_2
    except LookupError:
        meant = None
    hint = f"; {meant} is meant, perhaps" if meant else ", such as AU"
    return f"a country is two capital letters (ISO 3166-1){hint}"
