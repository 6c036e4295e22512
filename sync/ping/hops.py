"""The hops of a webhook's way, and what the answer to a ping says of them. Pure: no I/O."""

import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from typing import Any, Final
from urllib.parse import urlsplit

from receiver.database import Place
from receiver.errors import MirrorError
from receiver.topics import PING
from sync.kounta.errors import complaint
from sync.kounta.origin import is_loopback

_OK: Final = 200
_REDIRECTS: Final = range(300, 400)


class Hop(StrEnum):
    """The way of a webhook, in its order."""

    DNS = "dns"
    TLS = "tls"
    PROXY = "proxy"
    RECEIVER = "receiver"
    INBOX = "inbox"
    WORKER = "worker"


class HopFailed(MirrorError):  # noqa: N818 - it says what happened
    """A webhook would not come through; everything before `hop` did what it should."""

    def __init__(self, hop: Hop, sentence: str) -> None:
        super().__init__(f"{hop}: {sentence}")
        self.hop = hop
        self.sentence = sentence


@dataclass(frozen=True, slots=True)
class Way:
    """Where a ping goes, and where it should arrive."""

    public_url: str
    company_id: int
    token: bytes
    place: Place
    """Where the receiver and the worker here have both stores."""
    tls: ssl.SSLContext | None = None
    """What is trusted; None: what this machine trusts."""

    @property
    def url(self) -> str:
        """Give where the ping is sent."""
        return f"{self.public_url}/webhooks/{self.company_id}/{PING}"

    @property
    def first(self) -> Hop:
        """Give the hop that answers at the public URL: without a proxy it is the receiver itself."""
        url = urlsplit(self.public_url)
        return Hop.RECEIVER if url.scheme == "http" and is_loopback(url.hostname or "") else Hop.PROXY


def body_of(nonce: str) -> bytes:
    """Make a ping that no program would write again in the same bytes: what alters bodies shows."""
    return b'{"ping":  "%b",\n "\\u00e9": "\xc3\xa9 \xe2\x98\x95",  "number": 1.0e0}\n' % nonce.encode()


def delivery_in(way: Way, sent: bytes, status: int, headers: Mapping[str, str], body: bytes) -> str:
    """Read the delivery's name from the receiver's answer.

    Raises HopFailed: who answered in its place, or why it refused.
    """
    said = _object(body)
    name = said.get("delivery")
    if status == _OK and isinstance(name, str):
        return name
    if status in _REDIRECTS:
        where = headers.get("Location", "nowhere")
        raise HopFailed(
            Hop.PROXY,
            f"POST {way.url} is redirected to {where}, and Kounta need not follow. "
            "Set MIRROR_PUBLIC_URL to where it leads, or let the proxy pass it on.",
        )
    code = said.get("error")
    if not isinstance(code, str) or "detail" not in said:
        raise HopFailed(
            Hop.PROXY,
            f"something else than the receiver answered {complaint(body).after(status)}. "
            "Let the proxy pass POST /webhooks/ to the receiver's port, and start the receiver.",
        )
    arrived = said.get("body_sha256")
    if code == "signature_invalid" and isinstance(arrived, str) and arrived != sha256(sent).hexdigest():
        code = _ALTERED
    hop, sentence = _REFUSALS.get(code, _OTHER_REFUSAL)
    raise HopFailed(hop, sentence.format(code=code, company=way.company_id, path=urlsplit(way.url).path))


_ALTERED: Final = "altered"
_OTHER_REFUSAL: Final = (
    Hop.PROXY,
    "the receiver refused what arrived: {code}. Let the proxy pass requests on as they are.",
)
_REFUSALS: Final[Mapping[str, tuple[Hop, str]]] = {
    _ALTERED: (
        Hop.PROXY,
        (
            "the body that arrived is not the one that was sent, so no signature holds. "
            "Let the proxy pass bodies on byte for byte."
        ),
    ),
    "signature_missing": (
        Hop.PROXY,
        "the header X-Kounta-Signature did not arrive. Let the proxy pass it on.",
    ),
    "not_found": (
        Hop.PROXY,
        (
            "the receiver was asked for another path than {path}, or something else answers. "
            "If MIRROR_PUBLIC_URL has a path, the proxy must take it off."
        ),
    ),
    "signature_invalid": (
        Hop.RECEIVER,
        (
            "it does not know the first token of KOUNTA_SIGNATURE_TOKENS here. "
            "Give both the same tokens and start the receiver anew."
        ),
    ),
    "unknown_company": (
        Hop.RECEIVER,
        "it does not serve company {company}. Give it the KOUNTA_COMPANY_ID that is set here.",
    ),
    "unknown_topic": (Hop.RECEIVER, "it knows no pings: another version runs. Start this version."),
    "internal": (Hop.RECEIVER, "it failed. See its log."),
    "unavailable": (
        Hop.INBOX,
        (
            "the receiver cannot store: too many deliveries wait, or its disk refuses. "
            "See kounta-mirror status and the receiver's log."
        ),
    ),
}
"""Code of the receiver's answer -> the hop that fails, and why."""


def _object(body: bytes) -> dict[str, Any]:
    try:
        said = json.loads(body)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}
