"""A hundred callers at once over an upstream that fails, throttles and lets a token expire in the middle."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import httpx2
import pytest
from pydantic import SecretStr

from sync.kounta import Budget, Customer, Kounta, KountaError, OAuth, Retries, TokenEndpoint, Tokens
from sync.kounta.origin import Origin
from sync.sandbox import Faults, Sandbox, Settings, serving

CALLERS = 100
A_SECOND = 40

FIVE_PERCENT = Faults(
    server_errors=0.02,
    cut_bodies=0.015,
    too_many=0.005,
    hangs=0.01,
    hang_seconds=1.5,
    only_calls=("list", "find", "get", "create", "update"),
)


@dataclass
class Shop:
    """A local Kounta that notes when each call reached it, and a client of it with OAuth."""

    sandbox: Sandbox
    kounta: Kounta
    kept: list[Tokens]
    reached: list[float] = field(default_factory=list)

    @property
    def refreshes(self) -> int:
        return self.sandbox.calls.by_kind["token"]

    def busiest(self, seconds: float) -> int:
        """Give the most calls that reached upstream in any stretch of so many seconds."""
        return max(sum(begin <= at < begin + seconds for at in self.reached) for begin in self.reached)


class Distant(httpx2.AsyncHTTPTransport):
    """A network on which answers take a while, so that ten calls are under way at once."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        answer = await super().handle_async_request(request)
        await asyncio.sleep(10 / A_SECOND)
        return answer


@asynccontextmanager
async def a_shop(monkeypatch: pytest.MonkeyPatch, expire_after: int) -> AsyncIterator[Shop]:
    sandbox = Sandbox(
        Settings(
            oauth_requests_per_minute=60 * A_SECOND, limit_window="sliding", limit_headers="retry-after"
        ),
        seed=11,
        customers=CALLERS,
    )
    kept: list[Tokens] = []

    async def keep(new: Tokens) -> None:
        kept.append(new)

    async with (
        serving(sandbox) as url,
        TokenEndpoint("sandbox-client", SecretStr("sandbox-secret"), Origin(url)) as endpoint,
    ):
        back = "http://localhost/back"
        tokens = await endpoint.for_code(sandbox.tokens.authorize("sandbox-client", back), back)
        sandbox.calls.by_kind.clear()
        auth = OAuth(endpoint, tokens, keep)
        retries = Retries(patience=20, attempt=1, read_lag=0.1, write_lag=0.2)
        async with Kounta(
            5678,
            auth=auth,
            api_url=url,
            budget=Budget(60 * A_SECOND),
            retries=retries,
            transport=Distant(),
        ) as kounta:
            shop = Shop(sandbox, kounta, kept)
            begin = sandbox.calls.begin

            def noted(kind: str) -> Any:
                if kind != "token":
                    shop.reached.append(time.monotonic())
                    if len(shop.reached) == expire_after:
                        sandbox.tokens.expire()
                return begin(kind)

            monkeypatch.setattr(sandbox.calls, "begin", noted)
            yield shop


async def work(shop: Shop, number: int) -> list[tuple[str, Any, Any]]:
    """Do two things as one of the callers; give what each was, what came of it, and what is right."""
    kounta, known = shop.kounta, shop.sandbox.company.customers.nth(number)
    if number % 2:
        given: dict[str, Any] = {"first_name": f"Guest {number}", "email": f"guest{number}@shop.example"}
        if number % 4 == 1:
            given["reference_id"] = f"R{number:05}"
        made = await outcome(kounta.create(**given))
        id_ = made.id if isinstance(made, Customer) else known.id
        changed = await outcome(kounta.update(id_, tags=["load"]))
        return [("create", made, given), ("update", changed, {"id": id_, "tags": ["load"]})]
    read = await outcome(kounta.customer(known.id))
    found = await outcome(kounta.customer_by_email(f"Known{number}@shop.example"))
    return [("read", read, {"id": known.id}), ("find", found, {"id": known.id})]


async def outcome(call: Awaitable[Customer | None]) -> Customer | KountaError | None:
    try:
        return await call
    except KountaError as error:
        return error


def is_right(came: Customer | None, right: dict[str, Any]) -> bool:
    return came is not None and all(getattr(came, name) == value for name, value in right.items())


async def test_every_call_of_a_hundred_callers_ends_right_once_and_within_the_budget(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    began = time.monotonic()
    async with a_shop(monkeypatch, expire_after=120) as shop:
        company = shop.sandbox.company
        for number, customer in enumerate(list(company.customers)):
            company.update(customer.id, {"email": f"known{number}@shop.example"}, announce=False)
        shop.sandbox.change(shop.sandbox.faults, asdict(FIVE_PERCENT))
        done = [
            each
            for all_of_one in await asyncio.gather(*(work(shop, number) for number in range(CALLERS)))
            for each in all_of_one
        ]
        shop.sandbox.change(shop.sandbox.faults, asdict(Faults()))

        assert Counter(what for what, _, _ in done) == dict.fromkeys(("create", "update", "read", "find"), 50)
        answered = [(came, right) for _, came, right in done if not isinstance(came, KountaError)]
        assert [came for came, right in answered if not is_right(came, right)] == []
        failed = [(what, came, given) for what, came, given in done if isinstance(came, KountaError)]
        for what, error, given in failed:  # only who is known by an e-mail alone can be left in doubt
            assert (what, error.fate_unknown, "reference_id" in given) == ("create", True, False)
            assert error.advice == "Look for it at Kounta before you create it again"
        assert len(failed) <= 6
        for what, came, given in done:
            times = sum(one.first_name == given.get("first_name") for one in company.customers)
            if what == "create" and isinstance(came, KountaError):
                assert times <= came.fate_unknown
            elif what == "create":
                assert times == 1

        assert (shop.refreshes, len(shop.kept)) == (1, 1)
        assert shop.sandbox.calls.by_status["401"] > 4
        assert shop.busiest(1.0) <= A_SECOND
        assert shop.kounta.budget.used == len(shop.reached)
        assert 0.02 < shop.sandbox.calls.by_fault.total() / len(shop.reached) < 0.1
    assert time.monotonic() - began < 30
