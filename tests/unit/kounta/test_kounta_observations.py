"""Which behaviours of upstream are seen in its answers, and how they are counted."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sync.kounta.observations import BEHAVIOURS, Observations, shown_by
from sync.sandbox.catalogue import CATALOGUE

NOW = datetime(2026, 11, 24, tzinfo=UTC)
READ = "https://api.example/v1/companies/5678/customers/7.json"
RESET = int((NOW + timedelta(minutes=1)).timestamp())


@pytest.mark.parametrize(
    ("kind", "status", "headers", "body", "seen"),
    [
        ("read", 200, {}, b'{"id":7,"phone":"1","mobile":null}', []),
        ("read", 200, {}, b'{"id":7,"phone":"1"}', ["mobile-absent"]),
        ("read", 200, {}, b'{"id":7,"email":"a@example.com"}', ["poor-reads"]),
        ("read", 200, {}, b"<!DOCTYPE html><html>", ["html-answers"]),
        ("read", 404, {}, b"", []),
        ("read", 410, {}, b"", ["gone"]),
        ("read", 302, {"Location": f"{READ}?again=1"}, b"", ["redirects-same"]),
        ("read", 301, {"Location": "/v1/companies/5678/customers/8.json"}, b"", ["redirects-another"]),
        ("find", 302, {"Location": "/v1/companies/5678/customers/8.json"}, b"", []),
        ("company", 302, {"Location": "/v1/companies/5678.json"}, b"", ["company-redirects"]),
        ("list", 200, {"X-Next-Page": "http://api.example/2"}, b"[]", ["http-next-page"]),
        ("list", 200, {"X-Ratelimit-Remaining": "59"}, b"[]", ["remaining-headers"]),
        ("list", 503, {}, b"", ["server-errors"]),
        ("write", 200, {"Location": READ}, b"null", ["null-writes"]),
        ("write", 201, {"Location": READ}, b"", ["null-writes"]),
        ("write", 201, {}, b'{"id":7}', ["no-location"]),
        ("list", 429, {"X-Ratelimit-Reset": str(RESET)}, b"", ["too-many"]),
        ("list", 429, {"X-Ratelimit-Reset": f"{RESET}000"}, b"", ["too-many", "reset-in-milliseconds"]),
        ("list", 429, {"X-Ratelimit-Reset": str(RESET + 300)}, b"", ["too-many", "far-reset"]),
        ("list", 429, {"X-Ratelimit-Reset": "soon"}, b"", ["too-many"]),
    ],
)
def test_an_answer_shows_behaviours(kind: str, status: int, headers: Any, body: bytes, seen: Any) -> None:
    method = "POST" if kind == "write" else "GET"

    assert list(shown_by(kind, method, READ, status, headers, body, NOW)) == seen


def test_every_name_is_one_of_the_reference_of_upstream() -> None:
    assert set(BEHAVIOURS) <= set(CATALOGUE)


def test_what_is_seen_is_counted_until_it_is_stored() -> None:
    now = NOW
    observations = Observations(lambda: now)
    observations.see("gone")
    now += timedelta(seconds=1)
    observations.see("gone", 4)
    seen = observations.unstored()

    assert (seen["gone"].count, seen["gone"].first_at, seen["gone"].last_at) == (
        *(5, NOW),
        NOW + timedelta(seconds=1),
    )
    observations.see("gone")
    observations.stored(seen)
    assert observations.unstored()["gone"].count == 1
    observations.stored(observations.unstored())
    assert observations.unstored() == {}


def test_a_name_that_is_not_in_the_table_is_a_mistake() -> None:
    with pytest.raises(KeyError):
        Observations(lambda: NOW).see("jamie@example.com")
