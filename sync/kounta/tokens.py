"""OAuth 2 tokens: how upstream grants them (`POST /v1/token.json`), and how they lie on disk."""

import asyncio
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Final, Self

import httpx2
from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic_core import to_json

from sync.kounta.bodies import whole_body
from sync.kounta.errors import (
    KountaAccessLost,
    KountaError,
    KountaUnavailable,
    KountaWrongShape,
    PermissionEndedError,
    complaint,
)
from sync.kounta.origin import Origin
from sync.kounta.throttle import utc_now

LOG_IN: Final = "Run kounta-mirror login"
_SECONDS: Final = 20.0
_OK: Final = 200
_LARGEST_BODY: Final = 64 * 1024
_REDIRECTS: Final = range(300, 400)
_NO_PLACE: Final = frozenset({404, 405, 410})
_SPENT: Final = f"The permission is used up or was withdrawn. {LOG_IN}"
_NO_CODE: Final = (
    f"A code is good once, for a few minutes, and for the redirect URI that it was given to. {LOG_IN} again"
)
_SECRET: Final = frozenset({"code", "refresh_token"})
_OLD: Final = 0.95
"""The share of its life after which an access token is renewed before upstream refuses it."""


class Tokens(BaseModel):
    """What a company's permission is made of: the access token of the moment, and how to get the next."""

    model_config = ConfigDict(frozen=True)

    refresh_token: SecretStr
    access_token: SecretStr | None = None
    good_until: datetime | None = None
    """When to get the next one (our clock, UTC); None: when upstream refuses this one."""

    def is_good(self, now: datetime) -> bool:
        """Whether there is an access token that upstream should still take."""
        return self.access_token is not None and (self.good_until is None or now < self.good_until)


class _Grant(BaseModel):
    access_token: SecretStr = Field(min_length=1)
    refresh_token: SecretStr | None = None
    expires_in: float | None = Field(None, allow_inf_nan=False)


class TokenEndpoint:
    """Upstream's token endpoint, for one application. Each request is tried once."""

    def __init__(
        self,
        client_id: str,
        client_secret: SecretStr,
        origin: Origin,
        *,
        transport: httpx2.AsyncBaseTransport | None = None,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._application = {"client_id": client_id, "client_secret": client_secret.get_secret_value()}
        self._url = origin.at("/token.json")
        self._clock = clock
        self._http = httpx2.AsyncClient(
            transport=transport,
            trust_env=not origin.loopback,
            follow_redirects=False,
            timeout=_SECONDS,
            headers={"Accept": "application/json", "User-Agent": "kounta-mirror"},
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def for_code(self, code: str, redirect_uri: str) -> Tokens:
        """Exchange what a person brought back from upstream's page. Raises KountaError."""
        return await self._grant(
            {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect_uri}, None
        )

    async def refreshed(self, tokens: Tokens) -> Tokens:
        """Get the next access token; the refresh token stays unless another one comes. Raises KountaError."""
        old = tokens.refresh_token.get_secret_value()
        return await self._grant({"grant_type": "refresh_token", "refresh_token": old}, tokens.refresh_token)

    async def _grant(self, asked: Mapping[str, str], known: SecretStr | None) -> Tokens:
        secrets = [self._application["client_secret"], *(asked[name] for name in _SECRET & asked.keys())]
        status, body = await self._answer({**self._application, **asked})
        if status != _OK:
            refusal = _refused(status, body, _NO_CODE if "code" in asked else _SPENT)
            refusal.conceal(lambda text: _without(text, secrets))
            raise self._told(refusal)
        try:
            grant = _Grant.model_validate_json(body)
        except ValidationError:
            grant = None
        refresh_token = grant and (grant.refresh_token or known)
        if grant is None or refresh_token is None:
            raise self._told(
                KountaWrongShape(_OK, None, "answered 200 without tokens", "Check KOUNTA_API_URL")
            )
        lasts = grant.expires_in if grant.expires_in is not None and grant.expires_in > 0 else None
        return Tokens(
            refresh_token=refresh_token,
            access_token=grant.access_token,
            good_until=None if lasts is None else self._clock() + timedelta(seconds=_OLD * min(lasts, 1e9)),
        )

    async def _answer(self, form: Mapping[str, str]) -> tuple[int, bytes]:
        """Give status and body. Raises KountaUnavailable; KountaWrongShape for a body that is too large."""
        try:
            async with (
                asyncio.timeout(_SECONDS),
                self._http.stream("POST", self._url, data=form) as answer,
            ):
                return answer.status_code, await whole_body(answer, _LARGEST_BODY)
        except (TimeoutError, httpx2.RequestError) as error:
            came = f"no tokens came ({type(error).__name__})"
            advice = "Try again later; check KOUNTA_API_URL and the network if it lasts"
            raise self._told(KountaUnavailable(None, None, came, advice)) from error
        except KountaWrongShape as error:
            raise self._told(error) from None

    def _told(self, error: KountaError) -> KountaError:
        """Say what was asked; nothing of the call that needed the token was done."""
        error.asked = f"POST {httpx2.URL(self._url).path}"
        error.unsent = True
        return error


class Seal:
    """Encrypts tokens at rest (Fernet) with a key made from MIRROR_SECRET_KEY (HKDF, RFC 5869)."""

    def __init__(self, secret_key: SecretStr) -> None:
        derived = HKDF(SHA256(), 32, salt=None, info=b"kounta-mirror: OAuth tokens").derive(
            secret_key.get_secret_value().encode()
        )
        self._fernet = Fernet(urlsafe_b64encode(derived))

    def sealed(self, tokens: Tokens) -> str:
        """Give what may lie on disk."""
        shown = {
            "refresh_token": tokens.refresh_token.get_secret_value(),
            "access_token": tokens.access_token and tokens.access_token.get_secret_value(),
            "good_until": tokens.good_until,
        }
        return self._fernet.encrypt(to_json(shown)).decode()

    def opened(self, sealed: str) -> Tokens | None:
        """Give the tokens; None when they were sealed with another key."""
        try:
            return Tokens.model_validate_json(self._fernet.decrypt(sealed.encode()))
        except (InvalidToken, ValidationError):
            return None


def _refused(status: int, body: bytes, spent: str) -> KountaError:
    """Give the error; `spent` says what to do when the code or the refresh token is not good.

    Only the error `invalid_grant` in JSON says so: a page, another error or none at all may pass by itself.
    """
    said = complaint(body)
    description = f"no tokens came, but {said.after(status)}"
    if said.code == "invalid_grant":
        return PermissionEndedError(status, said.code, description, spent).quoting(said.quoted)
    if status in _REDIRECTS or status in _NO_PLACE:
        wrong = KountaWrongShape(status, said.code, description, "Check KOUNTA_API_URL")
        return wrong.quoting(said.quoted)
    if said.code == "invalid_client":
        advice = "Check KOUNTA_CLIENT_ID and KOUNTA_CLIENT_SECRET"
        return KountaAccessLost(status, said.code, description, advice).quoting(said.quoted)
    return KountaUnavailable(status, said.code, description, "Try again later").quoting(said.quoted)


def _without(text: str, secrets: list[str]) -> str:
    for secret in filter(None, secrets):
        text = text.replace(secret, "[secret]")
    return text
