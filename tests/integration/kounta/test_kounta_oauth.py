"""OAuth 2 against the local Kounta: one refresh for all, kept before it is used, and clear ends."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from sync.kounta import (
    Budget,
    Customer,
    Kounta,
    KountaAccessLost,
    KountaError,
    KountaRefused,
    KountaUnavailable,
    KountaWrongShape,
    OAuth,
    Retries,
    TokenEndpoint,
    Tokens,
)
from sync.kounta.oauth import authorization_url, code_in
from sync.kounta.origin import Origin
from sync.kounta.tokens import Seal
from sync.sandbox import Faults, Sandbox, Settings, serving

BACK = "http://localhost/back"
DEAD = Tokens(refresh_token=SecretStr("long-gone"))


@dataclass
class Shop:
    """A local Kounta, a client of it, and what was kept, newest last."""

    sandbox: Sandbox
    endpoint: TokenEndpoint
    auth: OAuth
    kounta: Kounta
    kept: list[Tokens] = field(default_factory=list)

    @property
    def refreshes(self) -> int:
        return self.sandbox.calls.by_kind["token"]


@asynccontextmanager
async def a_shop(tokens: Tokens | None = None, **settings: Any) -> AsyncIterator[Shop]:
    options = {"oauth_requests_per_minute": 100_000, **settings}
    sandbox = Sandbox(Settings(**options), Faults(), seed=7, customers=100)
    async with (
        serving(sandbox) as url,
        TokenEndpoint("sandbox-client", SecretStr("sandbox-secret"), Origin(url)) as endpoint,
    ):
        kept: list[Tokens] = []

        async def keep(new: Tokens) -> None:
            kept.append(new)

        if tokens is None:
            tokens = await endpoint.for_code(sandbox.tokens.authorize("sandbox-client", BACK), BACK)
            sandbox.calls.by_kind.clear()
        auth = OAuth(endpoint, tokens, keep)
        budget, retries = Budget.endless(), Retries.sleepless(attempt=2)
        async with Kounta(5678, auth=auth, api_url=url, budget=budget, retries=retries) as kounta:
            yield Shop(sandbox, endpoint, auth, kounta, kept)
        await auth.aclose()


async def test_a_code_gives_tokens_that_upstream_takes() -> None:
    async with a_shop() as shop:
        assert (await shop.kounta.company()).id == 5678
        assert shop.refreshes == 0


@pytest.mark.parametrize("expired", [400, 401])
@pytest.mark.parametrize("rotate", [True, False])
async def test_a_hundred_calls_with_an_expired_token_share_one_refresh(expired: int, *, rotate: bool) -> None:
    async with a_shop(expired_token=expired, rotate_refresh_tokens=rotate) as shop:
        shop.sandbox.tokens.expire()
        ids = [customer.id for customer in shop.sandbox.company.customers]
        found = await asyncio.gather(*(shop.kounta.customer(number) for number in ids))
        assert [customer.id for customer in found if customer] == ids
        assert (shop.refreshes, len(shop.kept)) == (1, 1)
        shop.sandbox.tokens.expire()
        assert await shop.kounta.customer(ids[0]) is not None
        assert (shop.refreshes, len(shop.kept)) == (2, 2)
        assert ("expired-token" in shop.kounta.observations.unstored()) is (expired == 400)


async def test_what_the_token_endpoint_answers_otherwise_is_counted_once() -> None:
    async with a_shop() as shop:
        shop.sandbox.tokens.expire()
        shop.sandbox.change(shop.sandbox.faults, {"token_answers": "forbidden"})
        calls = (shop.kounta.customer(number) for number in (1, 2, 3))
        await asyncio.gather(*calls, return_exceptions=True)
        assert shop.kounta.observations.unstored()["token-answers"].count == shop.refreshes


async def test_a_refresh_token_alone_is_enough_to_begin_with() -> None:
    async with a_shop() as shop:
        alone = Tokens(refresh_token=shop.auth._tokens.refresh_token)
        shop.auth._tokens = shop.auth._kept = alone
        await asyncio.gather(*(shop.kounta.company() for _ in range(20)))
        assert shop.refreshes == 1
        assert shop.kept[0].access_token is not None


async def test_a_token_is_renewed_before_it_expires_when_upstream_says_when() -> None:
    async with a_shop(token_seconds=100) as shop:
        shop.auth._clock = lambda: datetime.now(UTC) + timedelta(seconds=97)
        await shop.kounta.company()
        assert shop.sandbox.calls.by_status == {"200": 3}  # the code's, the refresh, and the call


async def test_a_dead_refresh_token_is_sent_once_and_every_call_says_what_to_do() -> None:
    async with a_shop() as shop:
        shop.sandbox.tokens.revoke()
        outcomes = await asyncio.gather(
            *(shop.kounta.customer(number) for number in range(1, 101)), return_exceptions=True
        )
        assert all(isinstance(outcome, KountaAccessLost) for outcome in outcomes)
        assert "Run kounta-mirror login" in str(outcomes[0])
        with pytest.raises(KountaAccessLost, match="withdrawn"):
            await shop.kounta.company()
        assert (shop.refreshes, shop.kept) == (1, [])


async def test_a_refresh_that_fails_is_no_creation_of_unknown_fate() -> None:
    async with a_shop() as shop:
        shop.sandbox.tokens.expire()
        shop.sandbox.faults.only_calls = ("token",)
        shop.sandbox.faults.server_errors, shop.sandbox.faults.fault_after_write = 1.0, 0.0
        with pytest.raises(KountaUnavailable, match="no tokens came") as caught:
            await shop.kounta.create(first_name="Jamie", email="j@shop.example")
        assert not caught.value.fate_unknown
        shop.sandbox.faults.server_errors = 0.0
        shop.auth._clock = lambda: datetime.now(UTC) + timedelta(minutes=5)  # its pause is over
        made = await shop.kounta.create(first_name="Jamie", email="j@shop.example")
        assert isinstance(made, Customer)
        assert shop.sandbox.company.changes["customers/created"] == 1


async def test_tokens_that_could_not_be_kept_are_kept_before_the_next_call() -> None:
    async with a_shop() as shop:
        shop.sandbox.tokens.expire()
        keep = shop.auth._keep
        full = OSError("no space left")

        async def fail(_: Tokens) -> None:
            raise full

        shop.auth._keep = fail
        with pytest.raises(OSError, match="no space left"):
            await shop.kounta.company()
        shop.auth._keep = keep
        await shop.kounta.company()
        assert (shop.refreshes, len(shop.kept)) == (1, 1)


async def test_a_caller_that_goes_away_leaves_the_refresh_to_be_kept() -> None:
    async with a_shop() as shop:
        shop.sandbox.tokens.expire()
        caller = asyncio.ensure_future(shop.auth.renew(await shop.auth.authorization()))
        await asyncio.sleep(0)
        caller.cancel()
        await shop.auth.aclose()
        assert len(shop.kept) == 1


@pytest.mark.parametrize("status", [400, 401])
@pytest.mark.parametrize("code", ["no-such-code", ""])
async def test_a_code_that_is_not_good_says_so(status: int, code: str) -> None:
    async with a_shop(expired_token=status) as shop:
        with pytest.raises(KountaAccessLost, match=r"but 400 invalid_grant .* A code is good once"):
            await shop.endpoint.for_code(code, BACK)


async def test_wrong_credentials_are_named_and_no_secret_is() -> None:
    async with (
        a_shop() as shop,
        TokenEndpoint(
            "sandbox-client",
            SecretStr("wr0ng-secret"),
            Origin(shop.kounta._origin.at("").removesuffix("/v1")),
        ) as other,
    ):
        with pytest.raises(KountaAccessLost, match="Check KOUNTA_CLIENT_ID") as caught:
            await other.refreshed(DEAD)
        assert "wr0ng" not in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ({"body": b"<html><title>Back soon</title></html>"}, "answered 200 without tokens"),
        ({"body": {"access_token": ""}}, "answered 200 without tokens"),
        ({"body": {"access_token": "a"}}, "answered 200 without tokens"),
        ({"body": b"", "status": 502}, "no tokens came, but 502"),
        ({"body": b"long-gone is gone", "status": 400}, r"\[secret\] is gone"),
        ({"body": b"{", "cut": 1, "status": 200}, "no tokens came"),
    ],
)
async def test_what_is_no_grant_is_one_sentence(upstream: Any, answer: dict[str, Any], sentence: str) -> None:
    upstream.answer("/v1/token.json", **answer)
    async with TokenEndpoint("shop", SecretStr("s3cret"), Origin(upstream.url)) as endpoint:
        is_first = answer["body"] == {"access_token": "a"}  # later the refresh token may stay
        with pytest.raises(KountaError, match=sentence):
            await (endpoint.for_code("c0de", BACK) if is_first else endpoint.refreshed(DEAD))
    assert len(upstream.asked) == 1


def test_tokens_at_rest_are_sealed() -> None:
    tokens = Tokens(refresh_token=SecretStr("r3fresh"), access_token=SecretStr("acc3ss"))
    seal, other = Seal(SecretStr("k" * 32)), Seal(SecretStr("K" * 32))
    sealed = seal.sealed(tokens)
    assert "r3fresh" not in sealed
    assert seal.opened(sealed) == tokens
    assert other.opened(sealed) is None
    assert seal.opened("garbage") is None


def test_a_person_is_sent_to_a_page_that_names_this_attempt() -> None:
    page = "https://my.kounta.com/authorize"
    assert authorization_url(page, "shop", "http://localhost/b?x=1", "st&te") == (
        "https://my.kounta.com/authorize?client_id=shop&redirect_uri=http%3A%2F%2Flocalhost%2Fb%3Fx%3D1"
        "&response_type=code&state=st%26te"
    )


@pytest.mark.parametrize(
    ("brought", "code"),
    [
        (f"{BACK}?code=c%2B1&state=abc\n", "c+1"),
        ("?state=abc&code=c%2B1", "c+1"),
        ("code=c%2B1&state=abc", "c+1"),
        (f"{BACK}?x=1&code=c1&state=abc#_=_", "c1"),
        (" code=c1%3D%3D&state=abc ", "c1=="),
    ],
)
def test_the_code_is_read_out_of_what_a_person_brings_back(brought: str, code: str) -> None:
    assert code_in(brought, "abc") == code


@pytest.mark.parametrize(
    ("brought", "sentence"),
    [
        (f"{BACK}?code=c1&state=other", "another attempt"),
        (f"{BACK}?error=access_denied&state=other", "another attempt"),
        (f"{BACK}?error=access_denied&state=abc", "not given .*access_denied"),
        (f"{BACK}?error=access_denied&error_description=Not+today&state=abc", "not given .*Not today"),
    ],
)
def test_an_attempt_that_came_to_nothing_says_why(brought: str, sentence: str) -> None:
    with pytest.raises(KountaError, match=sentence) as caught:
        code_in(brought, "abc")
    assert not isinstance(caught.value, KountaRefused)


@pytest.mark.parametrize(
    ("brought", "sentence"),
    [
        (f"{BACK}?state=abc", "holds no code"),
        (f"{BACK}?code=&state=abc", "holds no code"),
        (f"{BACK}?code=c1", "no state"),
        ("code=c1", "no state"),
        (" c+1 ", "has no state"),
        ("c1==", "has no state"),
        (BACK, "holds no code"),
        ("I could not find it", "holds no code"),
        ("  ", "nothing was given"),
    ],
)
def test_what_cannot_be_a_code_is_refused(brought: str, sentence: str) -> None:
    with pytest.raises(KountaRefused, match=sentence):
        code_in(brought, "abc")


async def test_a_login_while_a_refresh_is_under_way_is_what_stays() -> None:
    async with a_shop() as shop:
        code = shop.sandbox.tokens.authorize("sandbox-client", BACK)
        new = await shop.endpoint.for_code(code, BACK)
        shop.sandbox.tokens._refresh.clear()  # the old ones are withdrawn, and new ones come
        assert new.access_token is not None
        shop.sandbox.tokens._refresh[new.refresh_token.get_secret_value()] = "sandbox-client"
        old = await shop.auth.authorization()
        refresh = asyncio.ensure_future(shop.auth.renew(old))
        await asyncio.sleep(0)
        await shop.auth.adopt(new)
        with pytest.raises(KountaAccessLost):
            await refresh
        assert shop.kept == [new]
        assert await shop.auth.renew(old)
        assert await shop.auth.authorization() == f"Bearer {new.access_token.get_secret_value()}"
        assert (await shop.kounta.company()).id == 5678


async def test_a_login_that_could_not_be_kept_changes_nothing() -> None:
    async with a_shop() as shop:
        before = await shop.auth.authorization()
        keep = shop.auth._keep
        full = OSError("no space left")

        async def fail(_: Tokens) -> None:
            raise full

        shop.auth._keep = fail
        with pytest.raises(OSError, match="no space left"):
            await shop.auth.adopt(DEAD)
        shop.auth._keep = keep
        assert await shop.auth.authorization() == before
        assert (shop.refreshes, shop.kept) == (0, [])


@pytest.mark.parametrize("status", [302, 404])
async def test_a_place_that_grants_no_tokens_is_no_fault_of_the_permission(
    upstream: Any, status: int
) -> None:
    upstream.answer("/v1/token.json", b"", status)
    async with TokenEndpoint("shop", SecretStr("s3cret"), Origin(upstream.url)) as endpoint:
        with pytest.raises(KountaWrongShape, match=f"{status}.*Check KOUNTA_API_URL"):
            await endpoint.for_code("c0de", BACK)
