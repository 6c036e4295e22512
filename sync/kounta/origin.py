"""The one place that credentials are sent to, and the addresses in it."""

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlencode

from httpx2 import URL, InvalidURL

from sync.kounta.errors import KountaRefused, KountaWrongShape

_PORTS = {"https": 443, "http": 80}


class Origin:
    """Scheme, host and port of `api_url` (which may carry a path, without `/v1`).

    Plain http is refused for any host but this machine: credentials would cross the network unencrypted.
    """

    def __init__(self, api_url: str) -> None:
        try:
            url = URL(api_url.strip().rstrip("/"))
        except InvalidURL as error:
            raise _refused(api_url, "it is no URL" if "@" in api_url else str(error)) from None
        if url.scheme not in _PORTS or not url.host:
            raise _refused(api_url, "it has no https:// or no host")
        if url.userinfo or url.query or url.fragment:
            raise _refused(api_url, "it carries credentials, a query or a fragment")
        if url.path.endswith("/v1"):
            raise _refused(api_url, "it ends in /v1, which is added by itself")
        self.loopback = is_loopback(url.host)
        if url.scheme == "http" and not self.loopback:
            raise _refused(
                api_url, "http would send the credentials unencrypted; only this machine may have it"
            )
        self._url = url
        self._prefix = url.path.rstrip("/")

    def __repr__(self) -> str:
        return f"Origin({str(self._url)!r})"

    def at(self, path: str, query: Mapping[str, str] | None = None) -> str:
        """Give the URL of `path` (below `/v1`), its query encoded: `+` as %2B, a space as +."""
        address = f"{str(self._url).rstrip('/')}/v1{path}"
        return f"{address}?{urlencode(query)}" if query else address

    def follow(self, reference: str, *, base: str, below: str) -> str:
        """Give the absolute URL that upstream names in `reference`, an answer to `base`.

        It is taken only on the same scheme, host and port, at `below` (a path below `/v1`) or beneath it.
        Plain http to the same host is asked over https where that is our own scheme. Raises KountaWrongShape
        else.
        """
        try:
            url = self._secured(URL(base).join(reference.strip()).copy_with(fragment=None))
        except InvalidURL as error:
            raise _astray("something that is no URL", self._url, below) from error
        place = f"{url.scheme}://{url.netloc.decode()}{url.path}"
        if url.userinfo:
            raise _astray("a URL with credentials of its own", self._url, below)
        if self._key(url) != self._key(self._url) or not self._is_below(url, below):
            raise _astray(place, self._url, below)
        return str(url)

    def _secured(self, url: URL) -> URL:
        """Give `url` with our own scheme and port if it is the same place over plain http."""
        is_plain = (self._url.scheme, url.scheme) == ("https", "http")
        if not is_plain or url.host.lower() != self._url.host.lower():
            return url
        if url.port not in {None, self._url.port or _PORTS["https"]}:
            return url
        return url.copy_with(scheme="https", port=self._url.port)

    def _is_below(self, url: URL, below: str) -> bool:
        path = url.raw_path.split(b"?")[0].decode()
        root = f"{self._prefix}/v1{below}"
        if path in {root, f"{root}.json"}:
            return True
        # What is not plain could be read as another path upstream: %2e%2e is "..".
        return path.startswith(f"{root}/") and not any(sign in path for sign in ("%", "\\", ".."))

    @staticmethod
    def _key(url: URL) -> tuple[str, str, int | None]:
        return url.scheme, url.host.lower(), url.port or _PORTS.get(url.scheme)


def is_loopback(host: str) -> bool:
    """Whether `host` is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _refused(api_url: str, why: str) -> KountaRefused:
    shown = "KOUNTA_API_URL" if any(sign in api_url for sign in "@?#") else api_url  # it may hold a password
    return KountaRefused(
        f"{shown} cannot be upstream's address: {why}",
        "Set KOUNTA_API_URL to something like https://api.kounta.com",
    )


def _astray(place: str, home: URL, below: str) -> KountaWrongShape:
    error = KountaWrongShape(
        None,
        None,
        f"upstream pointed to {place}, expected was {home} with a path at /v1{below}",
        "Nothing was sent there. Check KOUNTA_API_URL, and whether a proxy rewrites what Kounta answers",
    )
    return error.quoting({f"upstream pointed to {place}, expected": "upstream pointed elsewhere, expected"})
