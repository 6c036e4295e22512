"""What goes out to those who watch: alerts by POST, the heartbeat by GET. To their hosts, never to Kounta."""

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, Self

import httpx2
from pydantic import SecretStr

SECONDS: Final = 10.0
"""An answer that takes longer is none."""
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class Untold(Exception):  # noqa: N818 - it says what is the case
    """Nobody was told: the sentence says why, without the address, which may hold a secret."""


class Pager:
    """The two addresses that somebody has set, or has not."""

    def __init__(self, alert_url: SecretStr | None, heartbeat_url: SecretStr | None) -> None:
        self._alert_url = alert_url
        self._heartbeat_url = heartbeat_url
        self._clients: dict[bool, httpx2.AsyncClient] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for client in self._clients.values():
            await client.aclose()

    @property
    def alerts(self) -> bool:
        """Whether alerts are wanted."""
        return self._alert_url is not None

    @property
    def heartbeats(self) -> bool:
        """Whether the heartbeat is wanted."""
        return self._heartbeat_url is not None

    async def alert(self, message: Mapping[str, Any]) -> None:
        """POST an alert. Raises Untold unless the answer is a 2xx."""
        if self._alert_url is not None:
            await self._call("POST", self._alert_url, message)

    async def beat(self) -> None:
        """GET the heartbeat's address. Raises Untold unless the answer is a 2xx."""
        if self._heartbeat_url is not None:
            await self._call("GET", self._heartbeat_url, None)

    async def _call(self, method: str, address: SecretStr, message: Mapping[str, Any] | None) -> None:
        host = "the address"
        try:
            url = httpx2.URL(address.get_secret_value())
            host = url.host
            answer = await self._client(host in _LOOPBACK).request(method, url, json=message)
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            raise Untold(f"{host} could not be reached ({type(error).__name__})") from None
        if not answer.is_success:
            raise Untold(f"{host} answered {answer.status_code}")

    def _client(self, loopback: bool) -> httpx2.AsyncClient:  # noqa: FBT001 - which of two
        """Give the client: proxies of the environment are used, but not for this machine."""
        if loopback not in self._clients:
            self._clients[loopback] = httpx2.AsyncClient(
                trust_env=not loopback,
                follow_redirects=False,
                timeout=SECONDS,
                headers={"User-Agent": "kounta-mirror"},
            )
        return self._clients[loopback]
