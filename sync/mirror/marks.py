"""Marks: keyed hashes by which erased people are known, and kept out, without being named."""

import hmac
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import SecretStr

_KEY_ID_SIGNS: Final = 16


class Marker:
    """Marks customers with a key made from MIRROR_SECRET_KEY (HKDF, RFC 5869): nobody else can.

    Ids are few enough to be tried one by one; without the key a mark says nothing all the same.
    """

    def __init__(self, secret_key: SecretStr) -> None:
        self._key = HKDF(SHA256(), 32, salt=None, info=b"kounta-mirror: marks of erased people").derive(
            secret_key.get_secret_value().encode()
        )
        self.key_id: Final = hmac.digest(self._key, b"which key", "sha256").hex()[:_KEY_ID_SIGNS]
        """Says which key marks were made with, and nothing of the key."""

    def mark(self, company_id: int, customer_id: int) -> str:
        """Give the mark of a customer: HMAC-SHA256, 64 hexadecimal digits."""
        return hmac.digest(self._key, f"{company_id}:{customer_id}".encode(), "sha256").hex()
