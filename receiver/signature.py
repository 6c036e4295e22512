"""Whether upstream signed a body: HMAC-SHA256 over its raw bytes, in hex, with a token both sides know.

Source of the form: public clients of the API, `X-Kounta-Signature`. Pure: no clock, no I/O.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

HEADER = b"x-kounta-signature"
_HEX_DIGITS = 2 * sha256().digest_size
_FINGERPRINT_DIGITS = 8


@dataclass(frozen=True, slots=True)
class Verified:
    """One of the tokens signed the body."""

    token: int
    """Which of them, the first is 0."""


@dataclass(frozen=True, slots=True)
class Rejected:
    reason: Literal["signature_missing", "signature_invalid"]


_MISSING = Rejected("signature_missing")
_INVALID = Rejected("signature_invalid")


def sign(body: bytes, token: bytes) -> str:
    """Give the value of the header for `body`, in lower-case hex."""
    return hmac.digest(token, body, sha256).hex()


def fingerprint(token: bytes) -> str:
    """Give what a token is told from others by where it must not be known itself."""
    return sha256(b"kounta-mirror signature token " + token).hexdigest()[:_FINGERPRINT_DIGITS]


def verify(body: bytes, signatures: Sequence[bytes], tokens: Sequence[bytes]) -> Verified | Rejected:
    """Judge `body` by the values of its signature header, as often as the header came, against any token.

    Every token is tried whatever the others gave, and compared in constant time, so that the time an answer
    takes tells nothing. A header that came twice is invalid: two readers could pick different ones.
    """
    if not any(signatures):
        return _MISSING
    given = _digest(signatures[0]) if len(signatures) == 1 else None
    if given is None:
        return _INVALID
    matches = [hmac.compare_digest(hmac.digest(token, body, sha256), given) for token in tokens]
    return Verified(matches.index(True)) if any(matches) else _INVALID


def _digest(signature: bytes) -> bytes | None:
    if len(signature) != _HEX_DIGITS or not signature.isalnum():
        return None  # fromhex would skip white space
    try:
        return bytes.fromhex(signature.decode("ascii"))
    except ValueError:
        return None
