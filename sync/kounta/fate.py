"""What became of a creation whose answer did not come: found out before it is sent again.

Decision 0024 says what is taken for the new customer, what is not, and up to where this is safe.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol

from sync.kounta.errors import KountaError
from sync.kounta.fields import holds, is_same_person
from sync.kounta.lookups import Read
from sync.kounta.retries import Retries
from sync.merge.customers import Customer

WasThere = Callable[[int, datetime], Awaitable[bool | None]]
"""Whether a customer was there before a moment (UTC, our clock); None when that cannot be told."""

LOOKING_SECONDS: Final = 30.0
"""How long a customer is looked for at least before its fate is called unknown."""
_SOON: Final = 5.0
"""The first look-up comes no later: it may find the customer, but nobody found proves nothing yet."""
_FULL_PAGE: Final = 25


class Asking(Protocol):
    """What a write asks beside; `Kounta` can."""

    async def read(self, customer_id: int, *, priority: int = 0) -> Read: ...
    async def customers_by_reference_id(self, reference_id: str, *, priority: int = 0) -> list[Customer]: ...
    async def customer_by_email(self, email: str, *, priority: int = 0) -> Customer | None: ...
    async def customer_by_mobile(self, mobile: str, *, priority: int = 0) -> Customer | None: ...
    async def customer_by_name_and_phone(
        self, first_name: str, last_name: str, phone: str, *, priority: int = 0
    ) -> Customer | None: ...


@dataclass(frozen=True)
class _Look:
    """Whom one look-up found.

    `shows_all`: who is not among them is nowhere. `names_one`: what was looked for belongs to one person.
    """

    found: list[Customer]
    shows_all: bool
    names_one: bool


class Fate:
    """One creation: what it was to write, and since when."""

    def __init__(
        self, fields: Mapping[str, Any], asked_at: datetime, asking: Asking, retries: Retries, priority: int
    ) -> None:
        self._fields = fields
        self._asked_at = asked_at
        self._asking = asking
        self._retries = retries
        self._priority = priority

    async def learn(
        self, unknown: KountaError, was_there: WasThere, *, made: bool = False
    ) -> Customer | None:
        """Find the customer that was made; None: none was. Raises `unknown` when nothing can tell.

        Reads may lag, and upstream may still be at work on what it gave no answer to: both are given time.
        `made`: upstream has accepted it, and named nobody. Then it is found, or `unknown` is raised.
        """
        if not self._can_look():
            raise _untold(unknown, "no look-up can tell")
        loop = asyncio.get_running_loop()
        began_at, slept = loop.time(), 0.0
        for pause in self._pauses():
            await self._retries.sleep(pause)
            slept += pause
            try:
                found, why = await self._look(unknown, was_there)
            except KountaError as error:
                found, why = None, f"no look-up could tell: {error.description}"
                unknown.quoting(error.quoted)
            if found is not None:
                return found
            if made:
                why = why or "no look-up shows it"
            if why and max(slept, loop.time() - began_at) >= LOOKING_SECONDS:
                break  # what is unclear by now stays so
        if why:
            raise _untold(unknown, why)
        return None

    def _can_look(self) -> bool:
        fields = self._fields
        return any(fields.get(name) for name in ("reference_id", "mobile", "email")) or all(
            fields.get(name) for name in ("first_name", "last_name", "phone")
        )

    def _pauses(self) -> list[float]:
        """Give the pauses before each look-up: soon, when reads no longer lag, and twice for late work."""
        lag, late = self._retries.read_lag, self._retries.write_lag / 2
        soon = min(lag, _SOON)
        return [soon, *([lag - soon] if lag > soon else []), late, late]

    async def _look(self, unknown: KountaError, was_there: WasThere) -> tuple[Customer | None, str]:
        """Give the new customer if it is found; else why that does not say that there is none, or ""."""
        why = "no look-up can tell"
        async with aclosing(self._looks()) as looks:
            async for look in looks:
                like = [one for one in look.found if is_same_person(self._fields, one)]
                age = {one.id: await was_there(one.id, self._asked_at) for one in like}
                like = [one for one in like if not age[one.id]]
                same = [whole for one in like if (whole := await self._whole(one.id)) is not None]
                new = [one for one in same if age[one.id] is False]
                if len(new) == 1 or (len(same) == 1 and look.names_one):
                    return (new or same)[0], ""
                if same:
                    unknown.likely_id = same[0].id
                    named = " and ".join(str(one.id) for one in same)
                    return None, f"customer {named} has all of this, but may be older"
                if like:
                    return None, f"customer {like[0].id} is much like it, but not the same"
                if look.shows_all or not look.found:
                    return None, ""
                why = f"customer {look.found[0].id}, who is older, hides it from the look-up"
        return None, why

    async def _whole(self, customer_id: int) -> Customer | None:
        """Read a customer; None unless it has all that was written."""
        whole = (await self._asking.read(customer_id, priority=self._priority)).customer
        return whole if whole is not None and holds(self._fields, whole) else None

    async def _looks(self) -> AsyncGenerator[_Look, None]:
        """Look it up by what was written, the look-up that tells most first; nobody found tells in each."""
        fields, asking, priority = self._fields, self._asking, self._priority
        if reference_id := fields.get("reference_id"):
            found = await asking.customers_by_reference_id(reference_id, priority=priority)
            yield _Look(found, shows_all=len(found) < _FULL_PAGE, names_one=True)
        if mobile := fields.get("mobile"):  # no two customers of a company have one
            yield _one(await asking.customer_by_mobile(mobile, priority=priority), is_unique=True)
        if email := fields.get("email"):
            yield _one(await asking.customer_by_email(email, priority=priority))
        first_name, last_name, phone = (fields.get(name) for name in ("first_name", "last_name", "phone"))
        if first_name and last_name and phone:
            yield _one(
                await asking.customer_by_name_and_phone(first_name, last_name, phone, priority=priority)
            )


def _one(customer: Customer | None, *, is_unique: bool = False) -> _Look:
    return _Look([] if customer is None else [customer], shows_all=is_unique, names_one=is_unique)


def _untold(unknown: KountaError, why: str) -> KountaError:
    unknown.description = f"{unknown.description}; the customer may have been made, and {why}"
    unknown.advice = "Look for it at Kounta before you create it again"
    return unknown
