"""The client: customers and the company, as upstream has them now."""

from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from datetime import datetime, timedelta
from functools import partial
from typing import Final, Self, Unpack

import httpx2

from sync.kounta.auth import Auth
from sync.kounta.companies import company_of_credentials
from sync.kounta.connection import Answer, Call, Connection
from sync.kounta.errors import KountaAccessLost, KountaRefused
from sync.kounta.fate import WasThere
from sync.kounta.fields import Fields, to_create, to_update
from sync.kounta.lookups import GONE, REDIRECTS, Elsewhere, Read, Trail, checked, oddities_of
from sync.kounta.observations import Observations
from sync.kounta.origin import Origin
from sync.kounta.paging import Page, Walk, require_few
from sync.kounta.retries import Retries
from sync.kounta.shapes import CUSTOMERS, Company, shaped
from sync.kounta.throttle import Budget, utc_now
from sync.kounta.webhooks import Webhooks
from sync.kounta.writes import Writes, Written
from sync.merge.customers import Customer

API_URL: Final = "https://api.kounta.com"
_WHOSE: Final = (
    "Check the client id and the client secret: they should be of the same application, and it needs a right "
    "for the company"
)


class Kounta:
    """The customers of one company, asked of upstream; use it as `async with Kounta(...) as kounta`.

    Every call waits for its turn in `budget` (60 a minute with Basic, unless another is given) and is tried
    again as `retries` says. `priority` goes to the budget: the lower goes first. What fails is a KountaError.
    With `read_only` everything that would change something at upstream is refused before it is asked.
    """

    def __init__(
        self,
        company_id: int,
        *,
        auth: Auth,
        api_url: str = API_URL,
        budget: Budget | None = None,
        retries: Retries | None = None,
        read_only: bool = False,
        transport: httpx2.AsyncBaseTransport | None = None,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        if isinstance(company_id, bool) or company_id < 1:
            raise KountaRefused(
                f"a company's id is a number from 1, not {company_id!r}", "Check KOUNTA_COMPANY_ID"
            )
        self.company_id = company_id
        self._origin = Origin(api_url)
        self._list = f"/companies/{company_id}/customers"
        self._connection = Connection(
            self._origin,
            auth,
            budget=budget,
            retries=retries,
            read_only=read_only,
            transport=transport,
            clock=clock,
        )

        self.webhooks = Webhooks(self._connection, company_id)
        """The registration of this application's webhooks."""
        self._writes = Writes(self._connection, self._list, self, clock=clock)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        await self._connection.aclose()

    def __repr__(self) -> str:
        return f"Kounta({self.company_id}, {self._origin!r}, {self._connection.auth!r})"

    @property
    def budget(self) -> Budget:
        return self._connection.budget

    @property
    def retries(self) -> Retries:
        return self._connection.retries

    def require_writable(self) -> None:
        """Raise KountaRefused when this client is read-only: before the first of several steps."""
        self._connection.require_writable()

    @property
    def calls(self) -> int:
        """Attempts that upstream answered, with whatever status; grows only."""
        return self._connection.calls

    @property
    def calls_by_kind(self) -> Counter[str]:
        """The same by kind: list, read, find, company."""
        return Counter(self._connection.calls_by_kind)

    @property
    def tries_by_outcome(self) -> Counter[str]:
        """Tries that are over: `answered` with what can be used, or `failed`, answered or not; grows only."""
        return Counter(self._connection.tries_by_outcome)

    @property
    def successes(self) -> int:
        """Answers 200 that came from below the company, and could be read; grows only."""
        return self._connection.successes

    @property
    def observations(self) -> Observations:
        """Which behaviours upstream has shown; `see(NAME)` counts one more."""
        return self._connection.observations

    @property
    def clock_ahead(self) -> timedelta | None:
        """How far our clock is ahead of upstream's, by its last answer; None when that did not say."""
        return self._connection.clock_ahead

    def proven_after(self, sent: int) -> bool:
        """Whether a call of this company and these credentials, begun after `Read.sent`, has given 200."""
        return self._connection.proven_after(sent)

    async def company(self, *, priority: int = 0) -> Company:
        """Ask whose credentials these are (`/companies/me`)."""
        return await company_of_credentials(self._connection, priority)

    async def customer(self, customer_id: int, *, priority: int = 0) -> Customer | None:
        """Give the customer of this id, complete; None when upstream answers 404."""
        return (await self.read(customer_id, priority=priority)).customer

    async def read(self, customer_id: int, *, priority: int = 0) -> Read:
        """Like `customer`, with what the mirror needs to know about the answer."""
        _check_id(customer_id)
        trail = Trail(self._origin, self._list)
        found: Read | Elsewhere = Elsewhere(self._origin.at(f"{self._list}/{customer_id}.json"))
        while isinstance(found, Elsewhere):
            call = Call(found.url, "read", also=REDIRECTS | GONE, priority=priority)
            found = await self._connection.ask(call, partial(trail.read, customer_id, found.url))
        for name in found.oddities:
            self.observations.see(name)
        return found

    async def customers(self, *, priority: int = 0) -> AsyncGenerator[Customer, None]:
        """Give every customer of the list, as abridged as upstream lists it, page by page.

        Raises KountaWrongShape for an item that is no customer, behind those of its page that are.
        """
        async with aclosing(self.pages(priority=priority)) as pages:
            async for page in pages:
                for customer in page.customers:
                    yield customer
                for item in page.unreadable:
                    raise item.error

    async def pages(
        self, start: str | None = None, *, before: int | None = None, priority: int = 0
    ) -> AsyncGenerator[Page, None]:
        """Walk the list from its beginning, or from `start`, the `next` of a page of an earlier walk.

        `before` is how many pages came before `start`. The list was walked to its end when the last page has
        no `next`; a walk that raises was not. Raises IncompleteListError behind the last page when upstream
        says that there are more, and for a list that does not end.
        """
        walk = Walk(self._origin, self._list, 0 if start is None else before)
        url: str | None = walk.start(start)
        while url is not None:
            call = Call(url, "list", also=GONE, priority=priority)
            page = await self._connection.ask(call, partial(walk.page, url))
            self._observe(page)
            yield page
            walk.require_whole(page)
            url = page.next

    async def customers_by_reference_id(self, reference_id: str, *, priority: int = 0) -> list[Customer]:
        """Give the customers that carry this reference id, perhaps none: it is not unique."""
        url = self._origin.at(f"{self._list}.json", checked({"reference_id": reference_id}))
        call = Call(url, "find", priority=priority)
        return await self._connection.ask(call, _few_customers)

    async def customer_by_email(self, email: str, *, priority: int = 0) -> Customer | None:
        """Give the customer of this e-mail address, None when there is none."""
        return await self._find({"email": email}, priority)

    async def customer_by_mobile(self, mobile: str, *, priority: int = 0) -> Customer | None:
        """Give the customer of this mobile number, None when there is none."""
        return await self._find({"mobile": mobile}, priority)

    async def customer_by_name_and_phone(
        self, first_name: str, last_name: str, phone: str, *, priority: int = 0
    ) -> Customer | None:
        """Give the customer of this name and phone, None when there is none; all three are needed."""
        return await self._find({"first_name": first_name, "last_name": last_name, "phone": phone}, priority)

    async def create(self, *, priority: int = 0, **fields: Unpack[Fields]) -> Customer:
        """Create a customer and give it as upstream has it then; first_name and a contact are needed.

        A creation whose fate is unknown is looked up before it is sent again; with a reference id of its own
        it is always known again. Raises KountaRefused for what cannot be right, and KountaError with
        `fate_unknown` when it may have been made and nothing can tell.
        """
        return (await self.write_new(fields, priority=priority)).customer

    async def update(self, customer_id: int, *, priority: int = 0, **fields: Unpack[Fields]) -> Customer:
        """Change what is given of a customer, and nothing else, and give it as upstream has it then.

        None takes a value away; an address is written whole. Raises KountaRefused for what cannot be right.
        """
        return (await self.write_changes(customer_id, fields, priority=priority)).customer

    async def write_new(
        self, fields: Fields, *, was_there: WasThere | None = None, priority: int = 0
    ) -> Written:
        """Like `create`, with what the mirror needs to know about the answer.

        `was_there` is asked whether a customer that has all of this was there before the creation.
        """
        checked_fields = to_create(fields)
        self.require_writable()
        return await self._writes.create(checked_fields, priority, was_there)

    async def write_changes(self, customer_id: int, fields: Fields, *, priority: int = 0) -> Written:
        """Like `update`, with what the mirror needs to know about the answer."""
        _check_id(customer_id)
        checked_fields = to_update(fields)
        self.require_writable()
        return await self._writes.update(customer_id, checked_fields, priority)

    def _observe(self, page: Page) -> None:
        """Count what the items of a page show; a flag in a list is a behaviour of its own."""
        for customer in page.customers:
            for name in oddities_of(customer):
                self.observations.see("listed-deleted" if name == "deleted-flags" else name)
        if page.is_short:
            self.observations.see("cut-walks")

    async def _find(self, wanted: Mapping[str, str], priority: int) -> Customer | None:
        trail = Trail(self._origin, self._list)
        found: Customer | Elsewhere | None = Elsewhere(self._origin.at(f"{self._list}.json", checked(wanted)))
        while isinstance(found, Elsewhere):
            call = Call(found.url, "find", also=REDIRECTS | GONE, priority=priority)
            found = await self._connection.ask(call, partial(trail.step, found.url))
        return found


async def company_of(
    auth: Auth,
    api_url: str = API_URL,
    *,
    budget: Budget | None = None,
    retries: Retries | None = None,
    transport: httpx2.AsyncBaseTransport | None = None,
    clock: Callable[[], datetime] = utc_now,
) -> Company:
    """Ask whose credentials these are (`/companies/me`) while no company is known yet; raises KountaError."""
    connection = Connection(
        Origin(api_url), auth, budget=budget, retries=retries, transport=transport, clock=clock
    )
    try:
        return await company_of_credentials(connection)
    except KountaAccessLost as error:
        error.advice = _WHOSE
        raise
    finally:
        await connection.aclose()


def _check_id(customer_id: int) -> None:
    if isinstance(customer_id, bool) or customer_id < 1:
        raise KountaRefused(f"a customer's id is a number from 1, not {customer_id!r}", "Give another id")


def _few_customers(answer: Answer) -> list[Customer]:
    require_few(answer)
    return shaped(CUSTOMERS, answer, expected="an array of customers")
