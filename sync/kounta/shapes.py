"""Answers read into models, whole or not at all."""

from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from sync.kounta.connection import Answer
from sync.kounta.errors import KountaWrongShape, Retry, looks_like_html
from sync.merge.customers import Customer, CustomerId
from sync.merge.members import NotJsonError
from sync.merge.reading import ESCAPED_NUL, named_id, read_customer, read_items

T = TypeVar("T")
Read_co = TypeVar("Read_co", covariant=True)


class Adapter(Protocol[Read_co]):
    """Reads the body of an answer, as pydantic's TypeAdapter does."""

    def validate_json(self, body: bytes, /) -> Read_co: ...


class Company(BaseModel):
    """The company of the credentials, as `/companies/me` gives it; fields beside these are kept."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)

    id: int
    name: str | None = None
    timezone: Any = None

    @property
    def time_zone(self) -> str | None:
        """The zone's name (`Australia/Sydney`), None when upstream gives none that can be read."""
        named = self.timezone.get("name") if isinstance(self.timezone, dict) else self.timezone
        return named if isinstance(named, str) else None


@dataclass(frozen=True, slots=True)
class UnreadableItem:
    """An item of a list that is no customer; `customer_id` is None when it does not even name one."""

    customer_id: int | None
    error: KountaWrongShape


class _CustomerReader:
    """Reads one customer field by field, where it must be."""

    def validate_json(self, body: bytes, /) -> Customer:
        """Read it; raises ValidationError as a TypeAdapter does."""
        return read_customer(body)


class _CustomersReader:
    """Reads an array of customers, each of them field by field, where it must be."""

    def validate_json(self, body: bytes, /) -> list[Customer]:
        """Read them; raises ValidationError for an item that is no customer."""
        try:
            customers = _CUSTOMERS.validate_json(body)
        except ValidationError:
            pass
        else:
            if ESCAPED_NUL not in body:
                return customers
        try:
            items = read_items(body)
        except NotJsonError:
            return _CUSTOMERS.validate_json(body)  # which says what is wrong with it
        return [read_customer(item) for item in items]


CUSTOMER: Final = _CustomerReader()
CUSTOMERS: Final = _CustomersReader()
_CUSTOMERS: Final = TypeAdapter(list[Customer])
COMPANY: Final = TypeAdapter(Company)
_ID: Final = TypeAdapter(CustomerId)


def shaped(adapter: Adapter[T], answer: Answer, expected: str) -> T:
    """Read the body of a 200; one item of a wrong shape makes the whole answer wrong.

    What is no JSON at all may be tried briefly again (a page of maintenance, a body cut without a length).
    The error names the place and the fault, never the values: they are people's data.
    """
    try:
        return adapter.validate_json(answer.body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    unreadable = first["type"] == "json_invalid"
    wrong = wrong_shape(answer, expected, _came(answer, unreadable) or _fault(first["loc"], first["msg"]))
    if unreadable:
        wrong.retry = Retry.BRIEFLY
    raise wrong


def shaped_customers(answer: Answer) -> list[Customer | UnreadableItem]:
    """Read a page of a list, item by item where it must be: one that is no customer does not hide the others.

    Raises KountaWrongShape for what is no array, or has not one item that is a customer or names one.
    """
    try:
        return [*shaped(CUSTOMERS, answer, "an array of customers")]
    except KountaWrongShape:
        try:
            found = read_items(answer.body)
        except NotJsonError:
            found = []
        items = [_item(answer, place, item) for place, item in enumerate(found)]
        if not any(isinstance(item, Customer) or item.customer_id is not None for item in items):
            raise
        return items


def _item(answer: Answer, place: int, item: bytes) -> Customer | UnreadableItem:
    try:
        return CUSTOMER.validate_json(item)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    wrong = wrong_shape(answer, "an array of customers", _fault((place, *first["loc"]), first["msg"]))
    return UnreadableItem(_named(item), wrong)


def _named(item: bytes) -> int | None:
    try:
        return _ID.validate_python(named_id(item))
    except ValidationError:
        return None


def wrong_shape(answer: Answer, expected: str, came: str) -> KountaWrongShape:
    return KountaWrongShape(
        answer.status,
        None,
        f"answered {answer.status}, but expected was {expected}, and {came}",
        "Nothing of it was used. Check KOUNTA_API_URL, and whether Kounta has changed its API",
    )


def _came(answer: Answer, unreadable: bool) -> str | None:  # noqa: FBT001 - one caller, beside it
    if not unreadable:
        return None
    if not answer.body.strip():
        return "an empty body came"
    if looks_like_html(answer.body):
        return "an HTML page came"
    return "what came is no JSON, or is cut"


def _fault(place: tuple[int | str, ...], message: str) -> str:
    where = ".".join(str(step) for step in place)
    return f"{where}: {message}" if where else message
