"""Which credentials the owner of the mirror uses: OAuth 2 once somebody has logged in, else Basic."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime

import httpx2
from pydantic import SecretStr

from receiver.errors import SettingsError
from sync.kounta import Auth, BasicAuth
from sync.kounta.oauth import Keep, OAuth
from sync.kounta.origin import Origin
from sync.kounta.tokens import Seal, TokenEndpoint, Tokens
from sync.mirror.store import Mirror
from sync.mirror.tokens import keep_sealed_tokens, sealed_tokens
from sync.settings import WorkerSettings


@asynccontextmanager
async def credentials(
    settings: WorkerSettings,
    mirror: Mirror,
    clock: Callable[[], datetime],
    transport: httpx2.AsyncBaseTransport | None = None,
) -> AsyncIterator[Auth]:
    """Give the credentials: stored tokens win over KOUNTA_REFRESH_TOKEN, and both over Basic.

    Raises SettingsError when tokens cannot be opened, or could not be kept.
    """
    sealed = await sealed_tokens(mirror)
    if sealed is None and settings.refresh_token is None:
        yield BasicAuth(settings.client_id, settings.client_secret)
        return
    seal = Seal(required_key(settings))
    tokens = _opened(seal, sealed, settings.refresh_token)
    async with AsyncExitStack() as stack:
        endpoint = await stack.enter_async_context(token_endpoint(settings, clock, transport))
        auth = OAuth(endpoint, tokens, keeper(mirror, seal, clock), clock=clock)
        stack.push_async_callback(auth.aclose)
        yield auth


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


def required_key(settings: WorkerSettings) -> SecretStr:
    """Give MIRROR_SECRET_KEY. Raises SettingsError when it is not set."""
    if settings.secret_key is None:
        raise SettingsError(
            "MIRROR_SECRET_KEY is not set. OAuth tokens are stored encrypted with it: set it to a long "
            "random text, such as openssl rand -base64 32 gives."
        )
    return settings.secret_key


def _opened(seal: Seal, sealed: str | None, given: SecretStr | None) -> Tokens:
    tokens = None if sealed is None else seal.opened(sealed)
    if sealed is not None and tokens is None:
        raise SettingsError(
            "The stored OAuth tokens cannot be opened with this MIRROR_SECRET_KEY. Set the one that they "
            "were stored with, or run kounta-mirror login."
        )
    if tokens is not None:
        return tokens
    assert given is not None  # noqa: S101 - else there is nothing of OAuth
    return Tokens(refresh_token=given)
