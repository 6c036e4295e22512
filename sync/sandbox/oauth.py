"""OAuth 2: authorization codes, access tokens and refresh tokens of the company's applications."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sync.sandbox.refusal import RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from random import Random

    from sync.sandbox.settings import Settings


@dataclass(frozen=True)
class _Code:
    application: str
    redirect_uri: str
    expires_at: float


@dataclass(frozen=True)
class _Access:
    application: str
    expires_at: float


class Tokens:
    """Issues and checks tokens. `clock` gives epoch seconds; `random` makes the tokens."""

    def __init__(self, settings: Settings, clock: Callable[[], float], random: Random) -> None:
        self._settings = settings
        self._clock = clock
        self._random = random
        self._codes: dict[str, _Code] = {}
        self._access: dict[str, _Access] = {}
        self._refresh: dict[str, str] = {}

    def secret(self, application: str) -> str | None:
        """Give an application's secret, or None for an unknown one."""
        if application == self._settings.client_id:
            return self._settings.client_secret
        for known in self._settings.other_applications:
            client_id, secret, _ = known.split(":")
            if client_id == application:
                return secret
        return None

    def credentials_hold(self, application: str, secret: str) -> bool:
        known = self.secret(application)
        return known is not None and hmac.compare_digest(known.encode(), secret.encode())

    def authorize(self, application: str, redirect_uri: str) -> str:
        """Give a code for an application, good once and for `code_seconds`."""
        code = self._token()
        self._codes[code] = _Code(application, redirect_uri, self._clock() + self._settings.code_seconds)
        return code

    def grant(self, form: Mapping[str, str]) -> dict[str, str | int]:
        """Answer a request for tokens. Raises RefusedError with the codes of RFC 6749, section 5.2."""
        application = form.get("client_id", "")
        if not self.credentials_hold(application, form.get("client_secret", "")):
            raise RefusedError(401, "invalid_client", "The client id and secret do not belong together.")
        kind = form.get("grant_type")
        if kind == "authorization_code":
            self._spend_code(form, application)
            return self._issue(application, self._new_refresh(application))
        if kind == "refresh_token":
            old = form.get("refresh_token", "")
            if self._refresh.get(old) != application:
                raise RefusedError(400, "invalid_grant", "The refresh token is unknown or was used before.")
            if not self._settings.rotate_refresh_tokens:
                return self._issue(application, None)
            del self._refresh[old]
            return self._issue(application, self._new_refresh(application))
        raise RefusedError(
            400, "unsupported_grant_type", "grant_type is authorization_code or refresh_token."
        )

    def application(self, access_token: str) -> str:
        """Give the application that a call with this token is made by. Raises RefusedError."""
        access = self._access.get(access_token)
        if access is None:
            raise RefusedError(401, "invalid_token", "The access token is unknown.")
        if access.expires_at <= self._clock():
            raise RefusedError(self._settings.expired_token, "invalid_token", "The access token has expired.")
        return access.application

    def expire(self) -> None:
        """End all access tokens now; refresh tokens stay good."""
        self._access = {token: _Access(access.application, 0) for token, access in self._access.items()}

    def revoke(self) -> None:
        """Forget every token, as when a person withdraws the permission."""
        self._access.clear()
        self._refresh.clear()

    def _spend_code(self, form: Mapping[str, str], application: str) -> None:
        code = self._codes.pop(form.get("code", ""), None)
        if code is None or code.application != application or code.expires_at <= self._clock():
            raise RefusedError(400, "invalid_grant", "The code is unknown, was used before or has expired.")
        if code.redirect_uri != form.get("redirect_uri", ""):
            raise RefusedError(
                400, "invalid_grant", "redirect_uri is not the one that the code was given to."
            )

    def _issue(self, application: str, refresh_token: str | None) -> dict[str, str | int]:
        access_token = self._token()
        self._access[access_token] = _Access(application, self._clock() + self._settings.token_seconds)
        reply: dict[str, str | int] = {
            "access_token": access_token,
            "token_type": "Bearer",
            "expires_in": self._settings.token_seconds,
        }
        if refresh_token is not None:
            reply["refresh_token"] = refresh_token
        return reply

    def _new_refresh(self, application: str) -> str:
        token = self._token()
        self._refresh[token] = application
        return token

    def _token(self) -> str:
        return f"{self._random.getrandbits(160):040x}"
