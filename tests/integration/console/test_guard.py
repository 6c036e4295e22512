"""Who is let in, by what name, and what a browser may do with what it gets."""

import asyncio
from typing import Any

import httpx2
import pytest

from sync.console.attempts import MOST_WAITING
from sync.console.pages import events

STRICT = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)


async def test_every_answer_says_what_a_browser_may_do_with_it(kiosk: Any) -> None:
    await kiosk.open(1)
    for path in ("", "/held", "/nothing", "/customers?q=x"):
        headers = (await kiosk.get(path)).headers
        assert headers["Content-Security-Policy"] == STRICT
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cache-Control"] == "no-store"
    for path in ("/static/console.css", "/static/console.js", "/static/icon.svg"):
        answer = await kiosk.client.get(path)
        assert answer.status_code == 200
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cache-Control"] == "no-cache"
    assert (await kiosk.client.get("/static/../guard.py")).status_code == 404


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8765", "127.0.0.1", "127.0.0.1:1", "[::1]:8765", "LOCALHOST"]
)
async def test_loopback_answers_to_its_own_names(kiosk: Any, host: str) -> None:
    await kiosk.open(1)
    assert (await kiosk.get(Host=host)).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8765", "127.0.0.1.evil.example", "localhost.evil.example", "[::2]", "["],
)
async def test_loopback_answers_to_no_other_name(kiosk: Any, host: str) -> None:
    await kiosk.open(1)
    answer = await kiosk.get(Host=host)
    assert answer.status_code == 421
    assert "Say Host: localhost" not in answer.text
    assert "has to say Host: localhost" in answer.text
    for path in ("/metrics", "/static/console.js", "/"):
        assert (await kiosk.client.get(path, headers={"Host": host})).status_code == 421
    for path in ("/healthz", "/readyz"):
        assert (await kiosk.client.get(path, headers={"Host": host})).status_code == 200


async def test_elsewhere_than_on_loopback_any_name_may_lead_to_it(kiosk: Any) -> None:
    await kiosk.open(1)
    await kiosk.serve("let me in", host="10.0.0.7")
    answer = await kiosk.client.get(
        "/companies/5678", headers={"Host": "mirror.example"}, auth=("any", "let me in")
    )
    assert answer.status_code == 200


async def test_wrong_passwords_are_delayed_and_a_browser_that_was_let_in_is_not(kiosk: Any) -> None:
    await kiosk.open(1, password="let me in")
    assert (await kiosk.client.get("/companies/5678", auth=("any", "let me in"))).status_code == 200
    assert "kounta_mirror_known" in kiosk.client.cookies
    guesser = httpx2.AsyncClient(base_url=kiosk.client.base_url, trust_env=False, timeout=30)
    async with guesser:
        for _ in range(3):
            answer = await guesser.get("/metrics", auth=("any", "guess"))
            assert (answer.status_code, answer.json()["error"]) == (401, "password_needed")
        assert "kounta_mirror_known" not in guesser.cookies
        guesses = [asyncio.create_task(guesser.get("/metrics", auth=("any", "guess"))) for _ in range(12)]
        done, waiting = await asyncio.wait(guesses, return_when=asyncio.FIRST_COMPLETED)
        while len(done) < 12 - MOST_WAITING:
            more, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            done |= more
        codes = sorted(one.result().status_code for one in done)
        assert codes == [401, 429, 429, 429]
        refused = next(one.result() for one in done if one.result().status_code == 429)
        assert refused.json()["error"] == "too_many_attempts"
        assert int(refused.headers["Retry-After"]) >= 1
        assert (await kiosk.client.get("/companies/5678", auth=("any", "let me in"))).status_code == 200
        assert (await kiosk.client.get("/companies/5678", auth=("any", "wrong"))).status_code == 401
        for one in waiting:
            one.cancel()
        await asyncio.wait(waiting)


async def test_the_password_covers_every_page(kiosk: Any) -> None:
    await kiosk.open(1, password="let me in")
    for path in (
        "/",
        "/companies/5678",
        "/companies/5678/held",
        "/companies/5678/events",
        "/static/console.css",
    ):
        answer = await kiosk.client.get(path)
        assert answer.status_code == 401, path
        assert answer.headers["WWW-Authenticate"].startswith("Basic")
    assert (await kiosk.client.post("/companies/5678/reconcile")).status_code == 401
    answer = await kiosk.client.get("/companies/5678", auth=("any", "let me in"))
    assert answer.status_code == 200


# a page that is looked at is told when something changes


async def line_of(lines: Any) -> str:
    """Give the next line that says something."""
    async with asyncio.timeout(20):
        async for line in lines:
            if line:
                return str(line)
    return ""


@pytest.mark.parametrize("path", ["/events", "/companies/5678/events"])
async def test_a_change_is_told_to_who_watches(
    kiosk: Any, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "LOOK_SECONDS", 0.05)
    await kiosk.open()
    async with kiosk.client.stream("GET", path) as stream:
        assert stream.headers["Content-Type"].startswith("text/event-stream")
        lines = stream.aiter_lines()
        assert await line_of(lines) == "retry: 3000"
        assert await line_of(lines) == ": nothing new"
        await kiosk.rename(kiosk.ids[0], "Jo")
        while (line := await line_of(lines)) == ": nothing new":
            pass
        assert line == "data: changed"


async def test_who_watches_keeps_nobody_from_stopping(kiosk: Any) -> None:
    await kiosk.open(1)
    async with kiosk.client.stream("GET", "/companies/5678/events") as stream:
        lines = stream.aiter_lines()
        await line_of(lines)
        kiosk.office.closing.set()
        async with asyncio.timeout(5):
            assert await line_of(lines) == ""


async def test_more_than_enough_watchers_are_turned_away(kiosk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MOST", 1)
    await kiosk.open(1)
    async with kiosk.client.stream("GET", "/companies/5678/events") as stream:
        lines = stream.aiter_lines()  # kept: without it the stream is closed
        await line_of(lines)
        async with asyncio.timeout(20):
            assert (await kiosk.get("/events")).status_code == 503
