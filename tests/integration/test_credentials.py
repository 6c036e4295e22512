"""Which credentials the owner of the mirror uses, and how a login changes them while it works."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from receiver.database import Place
from receiver.errors import SettingsError
from sync.engine import Engine, open_engine, utc_now
from sync.kounta import KountaAccessLost, KountaError, Retries, Tokens
from sync.kounta.tokens import Seal
from sync.login import Login, OtherCompanyError, open_login
from sync.mirror.store import Mirror
from sync.mirror.tokens import keep_sealed_tokens, sealed_tokens
from sync.sandbox import Sandbox, Settings, serving
from sync.settings import WorkerSettings
from sync.worker import Worker
from tests.places import settings_of
from tests.working import working

BACK = "http://localhost"
KEY = "k" * 32
DEAD = Tokens(refresh_token=SecretStr("long-gone"))


@dataclass
class Shop:
    """A local Kounta, and the settings of a mirror of it."""

    place: Place
    sandbox: Sandbox
    settings: dict[str, Any]
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    def load(self, **settings: Any) -> WorkerSettings:
        return WorkerSettings.model_validate(self.settings | settings)

    async def engine(self, **settings: Any) -> Engine:
        opened = open_engine(self.load(**settings), "the test", retries=Retries.sleepless(attempt=5))
        return await self.stack.enter_async_context(opened)

    async def login(self, **settings: Any) -> Login:
        return await self.stack.enter_async_context(
            open_login(self.load(**settings), "the test", clock=utc_now)
        )

    async def close(self) -> None:
        await self.stack.aclose()

    def code(self, redirect_uri: str = BACK) -> str:
        """What a person brings back who has allowed it."""
        return self.sandbox.tokens.authorize("sandbox-client", redirect_uri)

    def refresh_token(self) -> str:
        return self.sandbox.tokens._new_refresh("sandbox-client")

    async def store(self, tokens: Tokens, key: str = KEY) -> None:
        """Leave tokens in the mirror, as an earlier login would have."""
        mirror = await self.mirror()
        await keep_sealed_tokens(mirror, Seal(SecretStr(key)).sealed(tokens), utc_now())
        await mirror.close()

    async def stored(self, key: str = KEY) -> Tokens | None:
        """Open what is in the mirror. Nobody else owns it just now."""
        mirror = await self.mirror()
        sealed = await sealed_tokens(mirror)
        await mirror.close()
        return None if sealed is None else Seal(SecretStr(key)).opened(sealed)

    async def mirror(self) -> Mirror:
        return await Mirror.open(self.place, 5678, self.load().subscription, "the test")

    @property
    def refreshes(self) -> int:
        return self.sandbox.calls.by_kind["token"]


@pytest.fixture
async def shop(place: Place) -> AsyncIterator[Shop]:
    sandbox = Sandbox(Settings(requests_per_minute=100_000), seed=7, customers=3)
    async with serving(sandbox) as url:
        settings: dict[str, Any] = {
            **settings_of(place),
            "KOUNTA_COMPANY_ID": 5678,
            "KOUNTA_CLIENT_ID": "sandbox-client",
            "KOUNTA_CLIENT_SECRET": "sandbox-secret",
            "KOUNTA_API_URL": url,
            "KOUNTA_AUTHORIZE_URL": f"{url}/authorize",
            "MIRROR_SECRET_KEY": KEY,
        }
        shop = Shop(place, sandbox, settings)
        async with shop.stack:
            yield shop


async def test_basic_is_used_while_nobody_has_logged_in(shop: Shop) -> None:
    engine = await shop.engine(MIRROR_SECRET_KEY=None)
    assert (await engine.kounta.company()).id == 5678
    assert (shop.refreshes, engine.kounta.budget.calls_per_minute) == (0, 60)


async def test_a_refresh_token_in_the_settings_is_used_and_what_it_brings_is_stored(shop: Shop) -> None:
    given = shop.refresh_token()
    engine = await shop.engine(KOUNTA_REFRESH_TOKEN=given)
    assert (await engine.kounta.company()).id == 5678
    assert (shop.refreshes, engine.kounta.budget.calls_per_minute) == (1, 180)
    await shop.close()
    stored = await shop.stored()
    assert stored is not None
    assert stored.access_token is not None
    assert stored.refresh_token.get_secret_value() != given


async def test_stored_tokens_win_over_the_refresh_token_of_the_settings(shop: Shop) -> None:
    await shop.store(Tokens(refresh_token=SecretStr(shop.refresh_token())))
    engine = await shop.engine(KOUNTA_REFRESH_TOKEN="never-sent")
    assert (await engine.kounta.company()).id == 5678
    assert shop.refreshes == 1


async def test_a_rate_in_the_settings_wins_over_both(shop: Shop) -> None:
    engine = await shop.engine(KOUNTA_REQUESTS_PER_MINUTE=7, KOUNTA_REFRESH_TOKEN=shop.refresh_token())
    assert engine.kounta.budget.calls_per_minute == 7


async def test_tokens_sealed_with_another_key_stop_the_start(shop: Shop) -> None:
    await shop.store(DEAD, key="K" * 32)
    with pytest.raises(SettingsError, match=r"cannot be opened with this MIRROR_SECRET_KEY.*login"):
        await shop.engine()
    await shop.stored("K" * 32)  # the mirror was let go


@pytest.mark.parametrize("stored", [True, False])
async def test_oauth_without_a_key_stops_the_start(shop: Shop, *, stored: bool) -> None:
    if stored:
        await shop.store(DEAD)
    told = "stored with" if stored else "openssl"
    with pytest.raises(SettingsError, match=f"MIRROR_SECRET_KEY is not set.*{told}"):
        await shop.engine(MIRROR_SECRET_KEY=None, KOUNTA_REFRESH_TOKEN=None if stored else "given")
    assert shop.sandbox.calls.total == 0


@pytest.mark.parametrize("before", ["basic", "oauth"])
async def test_a_login_takes_the_place_of_what_was_used(shop: Shop, before: str) -> None:
    given = {} if before == "basic" else {"KOUNTA_REFRESH_TOKEN": "long-gone"}
    engine = await shop.engine(**given)
    if before == "oauth":
        with pytest.raises(KountaAccessLost):
            await engine.kounta.company()
    shop.sandbox.calls.by_kind.clear()

    company = await engine.login.finish(shop.code(), BACK)

    assert (company.id, company.name) == (5678, "Harbour Roasters")
    assert (await engine.kounta.company()).id == 5678
    assert (await engine.credentials.authorization()).startswith("Bearer ")
    assert engine.kounta.budget.calls_per_minute == 180
    assert shop.refreshes == 1  # the code's
    await shop.close()
    stored = await shop.stored()
    assert stored is not None
    assert stored.access_token is not None
    assert (await (await shop.engine()).credentials.authorization()).startswith("Bearer ")


async def test_who_waits_for_other_credentials_goes_on_at_a_login(shop: Shop) -> None:
    credentials = (await shop.engine()).credentials
    async with asyncio.timeout(30):
        waiting = asyncio.ensure_future(credentials.changed(0, within=600))
        await asyncio.sleep(0)
        await credentials.adopt(DEAD)
        await waiting
        await credentials.changed(0, within=600)  # it has happened already
        await credentials.changed(1, within=0.01)  # nobody logs in, and it ends


async def test_a_worker_that_pauses_because_it_was_refused_goes_on_at_a_login(shop: Shop) -> None:
    engine = await shop.engine(KOUNTA_REFRESH_TOKEN="long-gone")
    async with working(Worker(engine, first_pause=timedelta(hours=1))):
        await until(lambda: engine.mirror.progress.upstream_failure is not None)
        assert "Run kounta-mirror login" in str(engine.mirror.progress.upstream_failure)
        await asyncio.sleep(0)
        await engine.login.finish(shop.code(), BACK)
        await until(lambda: engine.mirror.progress.upstream_failure is None)
    assert shop.refreshes == 2  # the refused one, and the code's


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - it comes true in loops that tell nobody
            await asyncio.sleep(0.01)


async def test_a_secret_of_before_the_login_is_still_concealed(shop: Shop) -> None:
    engine = await shop.engine()
    await engine.login.finish(shop.code(), BACK)
    bearer = (await engine.credentials.authorization()).removeprefix("Bearer ")
    assert engine.credentials.conceal(f"sandbox-secret {bearer}") == "[secret] [secret]"


Spoil = Callable[[Shop], None]


def other_company(shop: Shop) -> None:
    shop.sandbox.settings.company_id = 42


def no_right(shop: Shop) -> None:
    shop.sandbox.faults.lost_access = "403"


def html(shop: Shop) -> None:
    shop.sandbox.faults.html_answers = 1.0


def html_for_the_company(shop: Shop) -> None:
    shop.sandbox.faults.only_calls, shop.sandbox.faults.html_answers = ("company",), 1.0


def down(shop: Shop) -> None:
    shop.sandbox.faults.server_errors, shop.sandbox.faults.fault_after_write = 1.0, 0.0


def nothing(_: Shop) -> None:
    pass


@pytest.mark.parametrize("before", ["basic", "oauth"])
@pytest.mark.parametrize(
    ("spoil", "code", "sentence"),
    [
        (nothing, "no-such-code", "no tokens came, but 400 invalid_grant"),
        (other_company, None, r"Harbour Roasters \(company 42\), but KOUNTA_COMPANY_ID is 5678"),
        (no_right, None, "403"),
        (html, None, "answered 200 without tokens"),
        (html_for_the_company, None, "expected was a company, and an HTML page came"),
        (down, None, "no tokens came, but 50"),
    ],
)
async def test_a_login_that_fails_leaves_everything_as_it_was(
    shop: Shop, before: str, spoil: Spoil, code: str | None, sentence: str
) -> None:
    tokens = Tokens(refresh_token=SecretStr(shop.refresh_token()))
    if before == "oauth":
        await shop.store(tokens)
    engine = await shop.engine()
    brought = code or shop.code()
    spoil(shop)
    with pytest.raises((KountaError, OtherCompanyError), match=sentence) as caught:
        await engine.login.finish(brought, BACK)
    assert "\n" not in str(caught.value)
    assert brought not in str(caught.value)
    await shop.close()
    assert await shop.stored() == (tokens if before == "oauth" else None)


async def test_a_code_is_good_once(shop: Shop) -> None:
    login, code = await shop.login(), shop.code()
    await login.finish(code, BACK)
    with pytest.raises(KountaAccessLost, match="A code is good once"):
        await login.finish(code, BACK)
    await shop.close()
    first = await shop.stored()
    assert first is not None
    assert first.access_token is not None


async def test_a_login_without_a_worker_mends_tokens_that_cannot_be_opened(shop: Shop) -> None:
    await shop.store(DEAD, key="K" * 32)
    await (await shop.login()).finish(shop.code(), BACK)
    await shop.close()
    assert (await (await shop.engine()).kounta.company()).id == 5678


async def test_after_a_login_without_a_worker_nothing_is_refused_any_more(shop: Shop) -> None:
    mirror = await shop.mirror()
    await mirror.note(upstream_failure="Run kounta-mirror login.", upstream_failure_since=utc_now())
    await mirror.close()
    await (await shop.login()).finish(shop.code(), BACK)
    await shop.close()
    mirror = await shop.mirror()
    assert (mirror.progress.upstream_failure, mirror.progress.upstream_failure_since) == (None, None)
    await mirror.close()


async def test_the_call_of_a_login_counts_in_the_budget(shop: Shop) -> None:
    await (await shop.login()).finish(shop.code(), BACK)
    await shop.close()
    mirror = await shop.mirror()
    assert mirror.progress.last_call_at is not None
    await mirror.close()


async def test_a_login_that_cannot_be_stored_is_refused_before_anyone_is_sent_away(shop: Shop) -> None:
    engine = await shop.engine(MIRROR_SECRET_KEY=None)
    with pytest.raises(SettingsError, match="MIRROR_SECRET_KEY is not set"):
        engine.login.address(BACK, "state")
    with pytest.raises(SettingsError, match="MIRROR_SECRET_KEY is not set"):
        await engine.login.finish("code", BACK)
    assert shop.sandbox.calls.total == 0
