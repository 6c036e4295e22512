import json
import pickle
from typing import Any

import pytest

from sync.kounta import (
    KountaAccessLost,
    KountaError,
    KountaRefused,
    KountaUnavailable,
    KountaWrongShape,
    for_log,
)
from sync.kounta.errors import Complaint, complaint, refusal, says_expired, throttled
from tests.clock import NOON


@pytest.mark.parametrize(
    ("body", "code", "text"),
    [
        (
            {"error": "invalid_request", "error_description": "No such field"},
            "invalid_request",
            "No such field",
        ),
        ({"message": "Not allowed"}, None, "Not allowed"),
        ({"error": "denied", "message": "Not allowed"}, "denied", "Not allowed"),
        ({"error_message": "Not allowed"}, None, "Not allowed"),
        ({"error": "denied"}, "denied", "denied"),
        ({"error": {"code": 17, "message": "Not allowed"}}, "17", "Not allowed"),
        (
            {"code": "E1", "error": None, "error_description": "", "message": "Not allowed"},
            "E1",
            "Not allowed",
        ),
        ("Limit exceeded", None, "Limit exceeded"),
        ({"error": "Not allowed"}, None, "Not allowed"),
        ({"error": "Not allowed", "message": "Try later"}, None, "Not allowed: Try later"),
    ],
)
def test_upstreams_own_words(body: Any, code: str | None, text: str) -> None:
    assert complaint(json.dumps(body).encode()) == Complaint(code, text)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "no text"),
        (b"  \n ", "no text"),
        (b"Limit exceeded", "Limit exceeded"),
        (b"two\r\nlines\x00\x1b[31m", "two lines [31m"),
        (
            b"<!doctype html><title>Gone &amp; fishing\n today</title>",
            "an HTML page titled 'Gone & fishing today'",
        ),
        (b"<html><body>502 Bad Gateway", "an HTML page"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"[]", "[]"),
        (b"{}", "{}"),
        (b'{"error": {}}', '{"error": {}}'),
    ],
)
def test_errors_without_any_of_upstreams_shapes(body: bytes, text: str) -> None:
    assert complaint(body) == Complaint(None, text)


@pytest.mark.parametrize("body", [b"x" * 100_000, b'{"message": "' + b"x" * 100_000 + b'"}'])
def test_a_long_text_is_cut_to_a_line(body: bytes) -> None:
    assert len(complaint(body).text) == 301


@pytest.mark.parametrize(
    ("status", "kind", "advice"),
    [
        (400, KountaError, "the same call will not do"),
        (401, KountaAccessLost, "not known"),
        (403, KountaAccessLost, "no right"),
        (302, KountaWrongShape, "KOUNTA_API_URL"),
        (500, KountaUnavailable, "Try again later"),
        (503, KountaUnavailable, "Try again later"),
    ],
)
def test_each_status_is_the_kind_that_a_caller_tells_apart(
    status: int, kind: type[KountaError], advice: str
) -> None:
    error = refusal(status, Complaint("oops", "It did not do."))
    assert type(error) is kind
    assert error.status == status
    assert error.code == "oops"
    assert advice in error.advice


def test_an_error_reads_as_what_was_asked_what_came_and_what_to_do() -> None:
    error = refusal(403, Complaint("forbidden", "You may not."))
    error.asked = "GET /v1/companies/5678/customers/1.json"
    error.tries = 3
    assert str(error) == (
        "GET /v1/companies/5678/customers/1.json: answered 403 forbidden (You may not) (3 tries). Check "
        "KOUNTA_CLIENT_ID, KOUNTA_CLIENT_SECRET and KOUNTA_COMPANY_ID: these credentials are known, but have "
        "no right for this."
    )


def test_what_is_concealed_stands_in_no_text_of_the_error() -> None:
    error = KountaError(400, "s3cret", "you sent s3cret", "Do not")
    error.conceal(lambda text: text.replace("s3cret", "…"))
    assert "s3cret" not in f"{error}{error!r}{error.args}{vars(error)}"


PERSON = "Jamie O'Neill (jamie@shop.example, +61400000001)"
SAID: list[Any] = [
    {"error": "invalid", "error_description": PERSON},
    {"error": PERSON},
    {"error": PERSON, "message": "No"},
    {"code": "61400000001"},
    {"message": PERSON},
    {"error": {"code": "invalid", "message": f"{PERSON}."}},
    PERSON,
    {"what": PERSON},
]
BODIES = [*(json.dumps(said).encode() for said in SAID), f"<title>{PERSON}</title>".encode(), PERSON.encode()]
WORDS = ("Jamie", "O'Neill", "jamie@", "400000001")


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("status", [400, 401, 403, 422, 429, 500])
def test_a_log_shows_no_words_of_upstream_but_its_code(status: int, body: bytes) -> None:
    said = complaint(body)
    error = throttled(said, NOON, 1) if status == 429 else refusal(status, said)
    error.conceal(lambda text: text.replace("O'Neill", "[secret]"))
    error.asked = "GET /v1/companies/5678/customers/1.json"
    assert any(word in str(error) for word in WORDS)
    assert not any(word in for_log(error) for word in WORDS)
    assert f"answered {status}{' invalid' if said.code else ''} (…)" in for_log(error)
    assert error.advice in for_log(error)


def test_a_log_shows_what_is_no_word_of_upstream_as_it_is() -> None:
    for body in (b"", b"<html>", b'{"error": "denied"}'):
        error = refusal(503, complaint(body))
        assert error.for_log() == str(error)
    assert for_log("It is so.") == "It is so."


def test_a_refusal_is_a_value_error_too() -> None:
    with pytest.raises(ValueError, match=r"no such thing\. Try another\."):
        raise KountaRefused("no such thing", "Try another")


@pytest.mark.parametrize(
    "error",
    [KountaError(400, "c", "d", "a"), KountaRefused("d", "a"), KountaUnavailable(None, None, "d", "a")],
)
def test_an_error_survives_a_journey_between_processes(error: KountaError) -> None:
    assert str(pickle.loads(pickle.dumps(error))) == str(error)  # noqa: S301 - our own bytes


@pytest.mark.parametrize(
    ("status", "body", "expired"),
    [
        (401, b"", True),
        (400, b'{"error": "invalid_token"}', True),
        (400, b'{"error_description": "The access token has expired"}', True),
        (400, b'{"error_description": "The offer has expired"}', False),
        (400, b'{"error_description": "There is no field token"}', False),
        (403, b'{"error": "invalid_token"}', False),
        (200, b'[{"first_name": "expired token"}]', False),
    ],
)
def test_an_expired_token_is_told_from_other_refusals(status: int, body: bytes, expired: bool) -> None:  # noqa: FBT001 - a row of the table
    assert says_expired(status, body) is expired
