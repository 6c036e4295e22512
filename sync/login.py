"""Logging in: what a person brings back from Kounta's page becomes the credentials of the mirror."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime

import httpx2

from receiver.errors import MirrorError
from sync.budget import keep_budget, kept_budget
from sync.credentials import keeper, required_key, token_endpoint
from sync.kounta import Budget, Company, OAuth, Retries, Tokens
from sync.kounta.client import company_of
from sync.kounta.oauth import AUTHORIZE_URL, authorization_url
from sync.kounta.origin import Origin
from sync.kounta.tokens import Seal
from sync.mirror.lease import held
from sync.mirror.store import Mirror
from sync.settings import WorkerSettings


class OtherCompanyError(MirrorError):
    """The person who logged in belongs to another company than the mirror."""


def authorization_address(settings: WorkerSettings, redirect_uri: str, state: str) -> str:
    """Give the address at which a person allows it.

    Raises SettingsError when what they bring back could not be stored, KountaRefused when it could be
    exchanged nowhere.
    """
    required_key(settings)
    Origin(settings.api_url)
    return authorization_url(settings.authorize_url or AUTHORIZE_URL, settings.client_id, redirect_uri, state)


class Login:
    """Logs people in, for the owner of the mirror; `adopt` keeps tokens and goes on with them."""

    def __init__(
        self,
        settings: WorkerSettings,
        budget: Budget,
        adopt: Callable[[Tokens], Awaitable[None]],
        *,
        clock: Callable[[], datetime],
        transport: httpx2.AsyncBaseTransport | None = None,
        retries: Retries | None = None,
    ) -> None:
        self._settings = settings
        self._budget = budget
        self._adopt = adopt
        self._clock = clock
        self._transport = transport
        self._retries = retries or Retries()

    def address(self, redirect_uri: str, state: str) -> str:
        """Give the address at which a person allows it; raises as `authorization_address` does."""
        return authorization_address(self._settings, redirect_uri, state)

    async def finish(self, code: str, redirect_uri: str) -> Company:
        """Exchange the code, see whose it is, and only then keep it. Gives the company.

        Raises KountaError, OtherCompanyError, SettingsError; nothing is kept then, and the code is spent.
        """
        settings = self._settings
        required_key(settings)
        async with token_endpoint(settings, self._clock, self._transport) as endpoint:
            newest = await endpoint.for_code(code, redirect_uri)

            async def remember(tokens: Tokens) -> None:
                nonlocal newest
                newest = tokens

            auth = OAuth(endpoint, newest, remember, clock=self._clock)
            try:
                company = await company_of(
                    auth,
                    settings.api_url,
                    budget=self._budget,
                    retries=self._retries,
                    transport=self._transport,
                    clock=self._clock,
                )
            finally:
                await auth.aclose()
        if company.id != settings.company_id:
            raise OtherCompanyError(
                f"This login is for {described(company)}, but KOUNTA_COMPANY_ID is {settings.company_id}: "
                "nothing was stored. Log in as someone of that company, or correct KOUNTA_COMPANY_ID."
            )
        await self._adopt(newest)
        self._budget.pace(settings.requests_per_minute or OAuth.calls_per_minute)
        return company


@asynccontextmanager
async def open_login(
    settings: WorkerSettings, purpose: str, *, clock: Callable[[], datetime]
) -> AsyncIterator[Login]:
    """Own the mirror to log in. Stored tokens are not opened: they may be what a login is to replace.

    Raises SettingsError, OwnedElsewhere and whatever else keeps the mirror from being opened.
    """
    seal = Seal(required_key(settings))
    mirror = await Mirror.open(settings.place, settings.company_id, settings.subscription, purpose)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(mirror.close)
        await stack.enter_async_context(held(mirror, insist=True))
        await mirror.refresh()
        keep = keeper(mirror, seal, clock)
        rate = settings.requests_per_minute or OAuth.calls_per_minute
        budget = kept_budget(mirror, rate, clock)

        async def adopt(tokens: Tokens) -> None:
            await keep(tokens)
            await mirror.note(upstream_failure=None, upstream_failure_since=None)

        try:
            yield Login(settings, budget, adopt, clock=clock)
        finally:
            await keep_budget(mirror, budget)


def described(company: Company) -> str:
    """Say which company it is, in one line."""
    name = "".join(sign if sign.isprintable() else " " for sign in company.name or "").strip()
    return f"{name} (company {company.id})" if name else f"company {company.id}"
