"""Customers made and changed at upstream, each once, and as upstream has them afterwards.

A creation whose fate is unknown (a time-out, a cut connection, a 5xx, a yes that cannot be read) is looked up
before it is sent again: integrators complain of customers made twice that way (kounta-api.md).
"""

import re
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import to_json

from sync.kounta.connection import Answer, Call, Connection
from sync.kounta.errors import KountaError, KountaUnavailable, KountaWrongShape, Retry
from sync.kounta.fate import Asking, Fate, WasThere
from sync.kounta.fields import holds, is_same_person
from sync.kounta.lookups import NOT_FOUND, Read, one_customer
from sync.kounta.shapes import CUSTOMER, wrong_shape
from sync.merge.customers import Customer, Subscription

MOST_SENDINGS: Final = 3
"""How often a creation is sent, each time after a look-up has said that the one before made nothing."""
_READ_TRIES: Final = 5
_REMEMBERED: Final = 10_000
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
        self._made_here: deque[int] = deque(maxlen=_REMEMBERED)

    async def create(
        self, fields: Mapping[str, Any], priority: int, was_there: WasThere | None = None
    ) -> Written:
        """Make a customer, never twice.

        `was_there` tells whom nobody can have made just now. Raises KountaError: with `fate_unknown` when it
        may have been made and no look-up can tell, with `written_id` when it was made but cannot be read.
        """
        asked_at = self._clock()
        fate = Fate(fields, asked_at, self._asking, self._retries, priority)
        sendings = 1
        while True:
            try:
                made = await self._send(fields, priority)
            except KountaError as error:
                if not error.fate_unknown:
                    raise
                found = await fate.learn(error, partial(self._was_there, was_there))
                if found is not None:
                    self._made_here.append(found.id)
                    return Written(found, asked_at, self._clock())
                if sendings == MOST_SENDINGS:
                    raise _not_made(error, sendings) from None
                sendings += 1
            else:
                self._made_here.append(made.customer.id if isinstance(made, Written) else made.customer_id)
                return await self._whole(made, fields, priority)

    async def _was_there(self, asked: WasThere | None, customer_id: int, at: datetime) -> bool | None:
        """Tell what `asked` tells; and who was given to another creation was not made by this one."""
        if customer_id in self._made_here:
            return True
        return None if asked is None else await asked(customer_id, at)

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
