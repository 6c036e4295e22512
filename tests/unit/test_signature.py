import hashlib
import hmac

import pytest

from receiver.signature import Rejected, Verified, fingerprint, sign, verify

BODY = b'{"id": 389427, "first_name": "Jamie"}'


def test_a_body_signed_with_the_token_verifies() -> None:
    signature = hmac.new(b"token", BODY, hashlib.sha256).hexdigest()
    assert verify(BODY, [signature.encode()], [b"token"]) == Verified(0)
    assert sign(BODY, b"token") == signature


def test_the_known_answer_of_rfc_4231_verifies() -> None:
    # Test case 2
    signature = b"5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    assert verify(b"what do ya want for nothing?", [signature], [b"Jefe"]) == Verified(0)


@pytest.mark.parametrize("known", [[b"old", b"new"], [b"new", b"old"], [b"other", b"new", b"old"]])
@pytest.mark.parametrize("used", [b"old", b"new"])
def test_any_token_verifies_so_that_they_can_be_rotated(known: list[bytes], used: bytes) -> None:
    assert verify(BODY, [sign(BODY, used).encode()], known) == Verified(known.index(used))


def test_hex_may_be_in_either_case() -> None:
    assert verify(BODY, [sign(BODY, b"token").upper().encode()], [b"token"]) == Verified(0)


def test_an_empty_body_and_bytes_that_are_no_text_are_signed_like_any() -> None:
    for body in (b"", bytes(range(256))):
        assert verify(body, [sign(body, b"token").encode()], [b"token"]) == Verified(0)


@pytest.mark.parametrize("signatures", [[], [b""], [b"", b""]])
def test_no_signature_is_missing(signatures: list[bytes]) -> None:
    assert verify(BODY, signatures, [b"token"]) == Rejected("signature_missing")


GOOD = sign(BODY, b"token").encode()


@pytest.mark.parametrize(
    "signature",
    [
        sign(BODY, b"another").encode(),
        sign(BODY + b" ", b"token").encode(),
        GOOD[:-1],
        GOOD[:-2],
        GOOD + b"0",
        b"sha256=" + GOOD,
        b" " + GOOD[1:],
        GOOD[:32] + b" " + GOOD[33:],
        b"g" * 64,
        b"\xff" * 64,
        b"0" * 64,
    ],
)
def test_whatever_is_not_this_bodys_signature_is_invalid(signature: bytes) -> None:
    assert verify(BODY, [signature], [b"token"]) == Rejected("signature_invalid")


def test_a_repeated_header_is_invalid_even_when_every_value_is_right() -> None:
    assert verify(BODY, [GOOD, GOOD], [b"token"]) == Rejected("signature_invalid")


def test_without_a_token_nothing_verifies() -> None:
    assert verify(BODY, [GOOD], []) == Rejected("signature_invalid")


def test_every_token_is_tried_though_the_first_one_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[bytes] = []
    digest = hmac.digest

    def watched(key: bytes, msg: bytes, digestmod: str) -> bytes:
        tried.append(key)
        return digest(key, msg, digestmod)

    monkeypatch.setattr(hmac, "digest", watched)
    assert verify(BODY, [GOOD], [b"token", b"second", b"third"]) == Verified(0)
    assert tried == [b"token", b"second", b"third"]


def test_a_fingerprint_tells_tokens_apart_and_is_none_of_them() -> None:
    assert fingerprint(b"token") == fingerprint(b"token") != fingerprint(b"another")
    assert len(fingerprint(b"token")) == 8
    assert not hashlib.sha256(b"token").hexdigest().startswith(fingerprint(b"token"))
