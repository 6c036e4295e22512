"""How upstream knows who asks."""

from base64 import b64encode
from typing import Protocol

from pydantic import SecretStr

from sync.kounta.errors import KountaRefused

_CONCEALED = "[secret]"


class Auth(Protocol):
    """Credentials of one company. Basic is one kind; OAuth 2 with its refresh is another."""

    calls_per_minute: int
    """What upstream allows with this kind of credentials."""

    async def authorization(self) -> str:
        """Give the value of the `Authorization` header for the next attempt."""

    async def renew(self, refused: str) -> bool:
        """Upstream answered that `refused` is no longer good: say whether one more attempt is worth it.

        Many attempts may ask at once, with the same value: they share one renewal.
        """

    def conceal(self, text: str) -> str:
        """Give `text`, which may repeat what was sent, without any secret in it."""


class BasicAuth:
    """Basic auth (RFC 7617): one's own company, 60 calls a minute (kounta-api.md)."""

    calls_per_minute = 60

    def __init__(self, client_id: str, client_secret: SecretStr | str) -> None:
        secret = client_secret if isinstance(client_secret, SecretStr) else SecretStr(client_secret)
        if not client_id or ":" in client_id or not client_id.isprintable():
            raise KountaRefused(
                f"KOUNTA_CLIENT_ID should be a plain word without a colon, it is {client_id!r}",
                "Copy it from the application's page at Kounta",
            )
        if not secret.get_secret_value():
            raise KountaRefused(
                "KOUNTA_CLIENT_SECRET is empty", "Copy it from the application's page at Kounta"
            )
        self._client_id = client_id
        self._secret = secret
        pair = f"{client_id}:{secret.get_secret_value()}".encode()
        self._value = SecretStr(f"Basic {b64encode(pair).decode()}")

    def __repr__(self) -> str:
        return f"BasicAuth({self._client_id!r})"

    async def authorization(self) -> str:
        return self._value.get_secret_value()

    async def renew(self, refused: str) -> bool:  # noqa: ARG002 - nothing can be renewed
        return False

    def conceal(self, text: str) -> str:
        for secret in (
            self._value.get_secret_value().removeprefix("Basic "),
            self._secret.get_secret_value(),
        ):
            text = text.replace(secret, _CONCEALED)
        return text
