"""Which credentials the owner of the mirror uses: OAuth 2 once somebody has logged in, else Basic."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import datetime

import httpx2
from pydantic import SecretStr

from receiver.errors import SettingsError
from sync.kounta import BasicAuth, OAuth
from sync.kounta.oauth import Keep, Stored
from sync.kounta.origin import Origin
from sync.kounta.tokens import Seal, TokenEndpoint, Tokens
from sync.mirror.store import Mirror
from sync.mirror.tokens import keep_sealed_tokens, sealed_tokens
from sync.settings import WorkerSettings


class Credentials:
    """The credentials of the moment, as an `Auth`: Basic may give way to OAuth 2 while calls are made."""

    def __init__(self, now: BasicAuth | OAuth, begin: Callable[[Tokens], Awaitable[OAuth]]) -> None:
        self._now = now
        self._begin = begin
        self._before: list[BasicAuth] = []
        self._changed = asyncio.Event()
        self.logins = 0
        """How often somebody has logged in, in this process."""
        self.calls_per_minute = now.calls_per_minute

    def __repr__(self) -> str:
        return f"Credentials({self._now!r})"

    async def authorization(self) -> str:
        return await self._now.authorization()

    async def renew(self, refused: str) -> bool:
        return await self._now.renew(refused)

    def conceal(self, text: str) -> str:
        for auth in (self._now, *self._before):
            text = auth.conceal(text)
        return text

    async def adopt(self, tokens: Tokens) -> None:
        """Keep these and go on with them, whatever was used before. Raises what keeping them raises."""
        if isinstance(self._now, OAuth):
            await self._now.adopt(tokens)
        else:
            oauth = await self._begin(tokens)
            await oauth.adopt(tokens)
            self._before.append(self._now)
            self._now = oauth
            self.calls_per_minute = oauth.calls_per_minute
        self.logins += 1
        self._changed.set()
        self._changed = asyncio.Event()

    async def changed(self, logins: int, within: float) -> None:
        """Wait until there are more `logins` than so many, but no longer than so many seconds."""
        if self.logins > logins:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._changed.wait()

    async def aclose(self) -> None:
        """Wait for a refresh that is under way."""
        if isinstance(self._now, OAuth):
            await self._now.aclose()


@asynccontextmanager
async def credentials(
    settings: WorkerSettings,
    mirror: Mirror,
    clock: Callable[[], datetime],
    transport: httpx2.AsyncBaseTransport | None = None,
) -> AsyncIterator[Credentials]:
    """Give the credentials: stored tokens win over KOUNTA_REFRESH_TOKEN, and both over Basic.

    Raises SettingsError when tokens cannot be opened, or could not be kept.
    """
    tokens = await _tokens_to_begin_with(settings, mirror)
    async with AsyncExitStack() as stack:

        async def oauth(tokens: Tokens) -> OAuth:
            seal = Seal(required_key(settings))
            endpoint = await stack.enter_async_context(token_endpoint(settings, clock, transport))
            keep, stored = keeper(mirror, seal, clock), reader(mirror, seal)
            return OAuth(endpoint, tokens, keep, stored=stored, clock=clock)

        if tokens is None:
            given = Credentials(BasicAuth(settings.client_id, settings.client_secret), oauth)
        else:
            given = Credentials(await oauth(tokens), oauth)
        try:
            yield given
        finally:
            await given.aclose()


def token_endpoint(
    settings: WorkerSettings,
    clock: Callable[[], datetime],
    transport: httpx2.AsyncBaseTransport | None = None,
) -> TokenEndpoint:
    """Make the one of the API that the settings name."""
    return TokenEndpoint(
        settings.client_id, settings.client_secret, Origin(settings.api_url), transport=transport, clock=clock
    )


def keeper(mirror: Mirror, seal: Seal, clock: Callable[[], datetime]) -> Keep:
    """Keep tokens in the mirror, sealed."""

    async def keep(tokens: Tokens) -> None:
        await keep_sealed_tokens(mirror, seal.sealed(tokens), clock())

    return keep


def reader(mirror: Mirror, seal: Seal) -> Stored:
    """Read the tokens that the mirror holds now; None: it holds none that this key opens."""

    async def stored() -> Tokens | None:
        sealed = await sealed_tokens(mirror)
        return None if sealed is None else seal.opened(sealed)

    return stored


def required_key(settings: WorkerSettings) -> SecretStr:
    """Give MIRROR_SECRET_KEY. Raises SettingsError when it is not set."""
    if settings.secret_key is None:
        raise SettingsError(
            "MIRROR_SECRET_KEY is not set. OAuth tokens are stored encrypted with it: set it to a long "
            "random text, such as openssl rand -base64 32 gives."
        )
    return settings.secret_key


async def _tokens_to_begin_with(settings: WorkerSettings, mirror: Mirror) -> Tokens | None:
    """Give the stored tokens, else the one of the settings; None: there are none."""
    sealed = await sealed_tokens(mirror)
    if sealed is None:
        if settings.refresh_token is None:
            return None
        required_key(settings)  # what it is refreshed to could not be kept without
        return Tokens(refresh_token=settings.refresh_token)
    if settings.secret_key is None:
        raise SettingsError(
            "MIRROR_SECRET_KEY is not set, and the stored OAuth tokens are encrypted with it. Set the one "
            "that they were stored with; if it is lost, set another one and run kounta-mirror login."
        )
    tokens = Seal(settings.secret_key).opened(sealed)
    if tokens is None:
        raise SettingsError(
            "The stored OAuth tokens cannot be opened with this MIRROR_SECRET_KEY. Set the one that they "
            "were stored with, or run kounta-mirror login."
        )
    return tokens
