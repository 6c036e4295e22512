"""Customers made and changed at upstream, each once, and as upstream has them afterwards.

A creation whose fate is unknown (a time-out, a cut connection, a 5xx, a yes that cannot be read) is looked up
before it is sent again: integrators complain of customers made twice that way (kounta-api.md).
"""

import re
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Final, Protocol

from pydantic import ValidationError
from pydantic_core import to_json

from sync.kounta.connection import Answer, Call, Connection
from sync.kounta.errors import KountaError, KountaUnavailable, KountaWrongShape, Retry
from sync.kounta.fields import holds, is_same_person
from sync.kounta.lookups import NOT_FOUND, Read, one_customer
from sync.kounta.shapes import CUSTOMER, wrong_shape
from sync.merge.customers import Customer, Subscription

MOST_SENDINGS: Final = 3
"""How often a creation is sent, each time after a look-up has said that the one before made nothing."""
_READ_TRIES: Final = 5
_FULL_PAGE: Final = 25
_KIND: Final = "write"
_MADE: Final = frozenset({201, 202})
_CHANGED: Final = frozenset({201, 202, 204})
_ID: Final = re.compile(r"/([0-9]{1,19})(?:\.json)?/?(?:\?.*)?$")
_EVERYTHING: Final = Subscription()


@dataclass(frozen=True)
class Written:
    """A customer as upstream has it after a write. `asked_at` is when the write was sent (our clock, UTC)."""

    customer: Customer
    asked_at: datetime
    answered_at: datetime


@dataclass(frozen=True)
class _Unread:
    """A customer that was written, and whose whole record did not come with the answer."""

    customer_id: int
    asked_at: datetime


class Asking(Protocol):
    """What a write asks beside; `Kounta` can."""

    async def read(self, customer_id: int, *, priority: int = 0) -> Read: ...
    async def customers_by_reference_id(self, reference_id: str, *, priority: int = 0) -> list[Customer]: ...
    async def customer_by_email(self, email: str, *, priority: int = 0) -> Customer | None: ...
    async def customer_by_mobile(self, mobile: str, *, priority: int = 0) -> Customer | None: ...
    async def customer_by_name_and_phone(
        self, first_name: str, last_name: str, phone: str, *, priority: int = 0
    ) -> Customer | None: ...


class Writes:
    """Creates and updates the customers of one company; what it is given was checked (`fields.py`)."""

    def __init__(
        self,
        connection: Connection,
        below: str,
        asking: Asking,
        *,
        clock: Callable[[], datetime],
    ) -> None:
        """Take the path of the customers below `/v1`."""
        self._connection = connection
        self._retries = connection.retries
        self._below = below
        self._asking = asking
        self._clock = clock

    async def create(self, fields: Mapping[str, Any], priority: int) -> Written:
        """Make a customer, never twice.

        Raises KountaError: with `fate_unknown` when it may have been made and no look-up can tell, with
        `written_id` when it was made but cannot be read.
        """
        asked_at = self._clock()
        sendings = 1
        while True:
            try:
                made = await self._send(fields, priority)
            except KountaError as error:
                if not error.fate_unknown:
                    raise
                found = await self._look_up(fields, priority, error)
                if found is not None:
                    return Written(found, asked_at, self._clock())
                if sendings == MOST_SENDINGS:
                    raise _not_made(error, sendings) from None
                sendings += 1
            else:
                return await self._whole(made, fields, priority)

    async def update(self, customer_id: int, fields: Mapping[str, Any], priority: int) -> Written:
        """Change these fields. Done twice it is the same as done once, so it is tried again like a read.

        Raises KountaError; with `written_id` when it was changed but cannot be read.
        """
        call = Call(
            self._connection.origin.at(f"{self._below}/{customer_id}.json"),
            _KIND,
            "PUT",
            also=_CHANGED,
            priority=priority,
            proves_access=False,
            content=to_json(fields),
        )
        changed = await self._connection.ask(call, partial(_changed, customer_id))
        return await self._whole(changed, fields, priority)

    async def _send(self, fields: Mapping[str, Any], priority: int) -> Written | _Unread:
        call = Call(
            self._connection.origin.at(f"{self._below}.json"),
            _KIND,
            "POST",
            also=_MADE,
            priority=priority,
            proves_access=False,
            content=to_json(fields),
            once=True,
        )
        return await self._connection.ask(call, partial(self._made, call.url, fields))

    def _made(self, url: str, fields: Mapping[str, Any], answer: Answer) -> Written | _Unread:
        """Read who was made: `Location` names it, or else the body, which upstream need not send."""
        location = answer.headers.get("Location", "").strip()
        if not location:
            customer = one_customer(answer, None)
            if not is_same_person(fields, customer):
                raise wrong_shape(answer, "the new customer", "another one came")
            return _written(customer, answer)
        named = _ID.search(self._connection.origin.follow(location, base=url, below=self._below))
        if named is None:
            raise wrong_shape(answer, "the new customer's place in Location", "it names no customer")
        try:
            customer = CUSTOMER.validate_json(answer.body)
        except ValidationError:
            return _Unread(int(named[1]), answer.asked_at)
        unread = _Unread(int(named[1]), answer.asked_at)
        return _written(customer, answer) if customer.id == unread.customer_id else unread

    async def _whole(self, written: Written | _Unread, fields: Mapping[str, Any], priority: int) -> Written:
        """Read what was written, unless it came whole, until upstream's reads show it.

        Upstream may keep a value in a way of its own: what it shows once the lag is over is taken.
        """
        if isinstance(written, Written):
            return written
        customer_id, read = written.customer_id, None
        try:
            async with aclosing(self._reads(customer_id, priority)) as reads:
                async for read in reads:
                    if read.customer is not None and holds(fields, read.customer):
                        break
        except KountaError as error:
            raise _unread(error, customer_id) from None
        if read is None or read.customer is None:
            gone = KountaUnavailable(
                NOT_FOUND, None, "Kounta does not show it", "It need not be written again; read it later"
            )
            raise _unread(gone, customer_id)
        return Written(read.customer, written.asked_at, read.answered_at)

    async def _reads(self, customer_id: int, priority: int) -> AsyncGenerator[Read, None]:
        """Read at once, and again after pauses that come to the read lag together."""
        for tries in range(_READ_TRIES):
            if tries:
                await self._retries.sleep(self._retries.read_lag / (_READ_TRIES - 1))
            yield await self._asking.read(customer_id, priority=priority)

    async def _look_up(
        self, fields: Mapping[str, Any], priority: int, unknown: KountaError
    ) -> Customer | None:
        """Find the customer that may have been made; None: it was not. Raises `unknown` if none can tell.

        Reads may lag, and upstream may still be at work on what was sent: both are given time first.
        A customer that has everything that was written is taken for it, whoever made it.
        """
        await self._retries.sleep(self._retries.read_lag)
        why = "no look-up can tell"
        try:
            async with aclosing(_looks(self._asking, fields, priority)) as looks:
                async for found, tells in looks:
                    like = [customer for customer in found if is_same_person(fields, customer)]
                    for customer in like:
                        whole = (await self._asking.read(customer.id, priority=priority)).customer
                        if whole is not None and holds(fields, whole):
                            return whole
                    if like:
                        why = f"customer {like[0].id} is much like it, but not the same"
                        break
                    if tells or not found:
                        return None
        except KountaError as error:
            why = f"no look-up could tell: {error.description}"
        unknown.description = f"{unknown.description}; the customer may have been made, and {why}"
        unknown.advice = "Look for it at Kounta before you create it again"
        raise unknown


async def _looks(
    asking: Asking, fields: Mapping[str, Any], priority: int
) -> AsyncGenerator[tuple[list[Customer], bool], None]:
    """Look a customer up by what these fields allow, the look-up that tells most first.

    Gives whom each finds, and whether one who is not among them is nowhere. Nobody found always tells that.
    """
    if reference_id := fields.get("reference_id"):
        found = await asking.customers_by_reference_id(reference_id, priority=priority)
        yield found, len(found) < _FULL_PAGE
    if mobile := fields.get("mobile"):  # no two customers of a company have one
        yield _some(await asking.customer_by_mobile(mobile, priority=priority)), True
    if email := fields.get("email"):
        yield _some(await asking.customer_by_email(email, priority=priority)), False
    first_name, last_name, phone = (fields.get(name) for name in ("first_name", "last_name", "phone"))
    if first_name and last_name and phone:
        by_name = await asking.customer_by_name_and_phone(first_name, last_name, phone, priority=priority)
        yield _some(by_name), False


def _some(customer: Customer | None) -> list[Customer]:
    return [] if customer is None else [customer]


def _changed(customer_id: int, answer: Answer) -> Written | _Unread:
    """Read the answer to an update: an empty body will do, something else's will not."""
    if not answer.body.strip():
        return _Unread(customer_id, answer.asked_at)
    try:
        return _written(one_customer(answer, customer_id), answer)
    except KountaWrongShape as wrong:
        wrong.retry = Retry.BRIEFLY
        raise


def _written(customer: Customer, answer: Answer) -> Written | _Unread:
    """Take the customer of an answer if all of it came."""
    if _EVERYTHING.covers(customer):
        return Written(customer, answer.asked_at, answer.answered_at)
    return _Unread(customer.id, answer.asked_at)


def _unread(error: KountaError, customer_id: int) -> KountaError:
    error.written_id = customer_id
    error.description = f"customer {customer_id} was written, but could not be read: {error.description}"
    return error


def _not_made(error: KountaError, sendings: int) -> KountaError:
    error.fate_unknown = False
    error.tries = sendings
    error.advice = "A look-up found each time that it was not made. Try again later"
    return error
