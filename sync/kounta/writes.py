"""Customers made and changed at upstream, each once, and as upstream has them afterwards.

A creation whose fate is unknown (a time-out, a cut connection, a 5xx) is looked up before it is sent again:
integrators complain of customers made twice that way (kounta-api.md). A 2xx is a yes whatever its body, which
may be the four bytes `null`: what it answers is never sent again, and is read back (decision 0065).
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
from sync.kounta.errors import KountaError, KountaUnavailable, KountaWrongShape
from sync.kounta.fate import LOOKING_SECONDS, Asking, Fate, WasThere
from sync.kounta.fields import holds, is_same_person
from sync.kounta.lookups import NOT_FOUND, Read
from sync.kounta.shapes import CUSTOMER
from sync.merge.customers import Customer, Subscription

MOST_SENDINGS: Final = 3
"""How often a creation is sent, each time after a look-up has said that the one before made nothing."""
_READS_WITHIN_LAG: Final = 4
_REMEMBERED: Final = 10_000
_KIND: Final = "write"
_ID: Final = re.compile(r"/([0-9]{1,19})(?:\.json)?/?(?:\?.*)?$")
_EVERYTHING: Final = Subscription()
_NOTHING: Final = frozenset({b"", b"null"})
"""Bodies that say nothing: upstream need not send any, and was seen to send `null` (kounta-api.md)."""


@dataclass(frozen=True)
class Written:
    """A customer as upstream has it after a write. `asked_at` is when the write was sent (our clock, UTC)."""

    customer: Customer
    asked_at: datetime
    answered_at: datetime


@dataclass(frozen=True)
class _Unread:
    """A customer that was written, and whose whole record did not come with the answer.

    `customer_id` is None when the answer to a creation names nobody. `odd`: the body was none that upstream
    documents (a page, another shape), so that what it was to say is in doubt.
    """

    customer_id: int | None
    asked_at: datetime
    status: int
    odd: bool


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
        known = partial(self._was_there, was_there)
        for _ in range(MOST_SENDINGS):
            try:
                made = await self._send(fields, priority)
            except KountaError as error:
                if not error.fate_unknown:
                    raise
                unknown, found = error, await fate.learn(error, known)
            else:
                if isinstance(made, Written) or made.customer_id is not None:
                    self._made_here.append(_id_of(made))
                    return await self._whole(made, fields, priority)
                unknown = _unnamed(made)
                found = await fate.learn(unknown, known, made=True)
            if found is not None:
                self._made_here.append(found.id)
                return Written(found, asked_at, self._clock())
        raise _not_made(unknown)

    async def _was_there(self, asked: WasThere | None, customer_id: int, at: datetime) -> bool | None:
        """Tell what `asked` tells; and who was given to another creation was not made by this one."""
        if customer_id in self._made_here:
            return True
        return None if asked is None else await asked(customer_id, at)

    async def update(self, customer_id: int, fields: Mapping[str, Any], priority: int) -> Written:
        """Change these fields. What fails is tried again like a read: done twice it is the same as done once.

        Raises KountaError; with `written_id` when it was accepted, but is not shown.
        """
        call = Call(
            self._connection.origin.at(f"{self._below}/{customer_id}.json"),
            _KIND,
            "PUT",
            priority=priority,
            proves_access=False,
            content=to_json(fields),
        )
        changed = await self._connection.ask(call, partial(_changed, customer_id, fields))
        return await self._whole(changed, fields, priority)

    async def _send(self, fields: Mapping[str, Any], priority: int) -> Written | _Unread:
        call = Call(
            self._connection.origin.at(f"{self._below}.json"),
            _KIND,
            "POST",
            priority=priority,
            proves_access=False,
            content=to_json(fields),
            once=True,
        )
        return await self._connection.ask(call, partial(self._made, call.url, fields))

    def _made(self, url: str, fields: Mapping[str, Any], answer: Answer) -> Written | _Unread:
        """Read who was made: `Location` names it, or else the body, which upstream need not send."""
        customer, named = _customer_in(answer), self._named(url, answer)
        if named is None and customer is not None and is_same_person(fields, customer):
            named = customer.id
        return _written(named, fields, customer, answer)

    def _named(self, url: str, answer: Answer) -> int | None:
        """Give the id that `Location` names; None when there is none that is a customer of the company."""
        location = answer.headers.get("Location", "").strip()
        if not location:
            return None
        try:
            named = _ID.search(self._connection.origin.follow(location, base=url, below=self._below))
        except KountaWrongShape:
            return None
        return None if named is None else int(named[1])

    async def _whole(self, written: Written | _Unread, fields: Mapping[str, Any], priority: int) -> Written:
        """Read what was written, unless it came whole, until upstream's reads show it.

        Upstream may keep a value in a way of its own: what it shows once the lag is over is taken, unless it
        shows nothing of what was written.
        """
        if isinstance(written, Written):
            return written
        customer_id, read = _id_of(written), None
        try:
            async with aclosing(self._reads(customer_id, priority)) as reads:
                async for read, is_late in reads:
                    if read.customer is not None and (is_late or holds(fields, read.customer)):
                        break
        except KountaError as error:
            raise _unread(error, customer_id) from None
        if read is None or read.customer is None:
            raise _unread(_hidden("Kounta does not show it", NOT_FOUND), customer_id)
        if not _shows(fields, read.customer, everything=written.odd):
            raise _unread(_hidden("Kounta shows other values", written.status), customer_id)
        return Written(read.customer, written.asked_at, read.answered_at)

    async def _reads(self, customer_id: int, priority: int) -> AsyncGenerator[tuple[Read, bool], None]:
        """Read at once and until reads lag no more, then say so; and once more before it is given up."""
        lag = self._retries.read_lag
        pauses = [0.0, *[lag / _READS_WITHIN_LAG] * _READS_WITHIN_LAG, LOOKING_SECONDS - lag]
        for number, pause in enumerate(pauses):
            if pause > 0:
                await self._retries.sleep(pause)
            yield (
                await self._asking.read(customer_id, priority=priority),
                number >= _READS_WITHIN_LAG,
            )


def _customer_in(answer: Answer) -> Customer | None:
    """Read the customer that an answer to a write may carry."""
    try:
        return CUSTOMER.validate_json(answer.body)
    except ValidationError:
        return None


def _changed(customer_id: int, fields: Mapping[str, Any], answer: Answer) -> Written | _Unread:
    """Read the answer to an update: whatever it is, it was done."""
    return _written(customer_id, fields, _customer_in(answer), answer)


def _written(
    customer_id: int | None, fields: Mapping[str, Any], customer: Customer | None, answer: Answer
) -> Written | _Unread:
    """Take the customer of an answer if it is the one, all of it came, and it has what was written."""
    is_it = customer is not None and customer.id == customer_id
    if customer is not None and is_it and _EVERYTHING.covers(customer) and holds(fields, customer):
        return Written(customer, answer.asked_at, answer.answered_at)
    odd = not is_it and answer.body.strip() not in _NOTHING
    return _Unread(customer_id, answer.asked_at, answer.status, odd)


def _id_of(written: Written | _Unread) -> int:
    customer_id = written.customer.id if isinstance(written, Written) else written.customer_id
    assert customer_id is not None  # noqa: S101 - an answer that names nobody is looked up instead
    return customer_id


def _shows(fields: Mapping[str, Any], customer: Customer, *, everything: bool) -> bool:
    """Whether a customer shows that it was written: any of the fields, or each of them."""
    held = [holds({name: value}, customer) for name, value in fields.items()]
    return all(held) if everything else any(held)


def _unnamed(made: _Unread) -> KountaError:
    """Give the error for a creation that upstream accepted without saying whom it made."""
    error = KountaUnavailable(made.status, None, f"answered {made.status}, but named no customer", "")
    error.fate_unknown = True
    return error


def _hidden(what: str, status: int) -> KountaError:
    return KountaUnavailable(status, None, what, "It need not be written again; read it later")


def _unread(error: KountaError, customer_id: int) -> KountaError:
    error.written_id = customer_id
    error.description = f"customer {customer_id} was written, but could not be read: {error.description}"
    return error


def _not_made(error: KountaError) -> KountaError:
    error.fate_unknown = False
    error.tries = MOST_SENDINGS
    error.advice = "A look-up found each time that it was not made. Try again later"
    return error
