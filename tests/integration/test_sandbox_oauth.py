"""OAuth 2 over real HTTP, as a client goes through it."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest

from sync.sandbox import Faults, Sandbox, Settings, serving

ME = "/v1/companies/me.json"
CALLBACK = "http://127.0.0.1:1/callback?from=kounta"
ASKED = {
    "client_id": "sandbox-client",
    "redirect_uri": CALLBACK,
    "response_type": "code",
    "state": "a+b &",
}

NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # the default one takes 50 ms to make


@asynccontextmanager
async def kounta(
    faults: Faults | None = None, **settings: Any
) -> AsyncIterator[tuple[httpx2.AsyncClient, Sandbox]]:
    sandbox = Sandbox(Settings(**settings), faults or Faults())
    async with (
        serving(sandbox) as url,
        httpx2.AsyncClient(base_url=url, trust_env=False, verify=NO_TLS) as client,
    ):
        yield client, sandbox


def form(**values: str) -> dict[str, str]:
    return {"client_id": "sandbox-client", "client_secret": "sandbox-secret", **values}


async def logged_in(client: httpx2.AsyncClient) -> dict[str, Any]:
    answer = await client.get("/authorize", params=ASKED)
    [code] = parse_qs(urlsplit(answer.headers["Location"]).query)["code"]
    grant = form(grant_type="authorization_code", code=code, redirect_uri=CALLBACK)
    reply: dict[str, Any] = (await client.post("/v1/token.json", data=grant)).json()
    return reply


def bearer(reply: dict[str, Any]) -> dict[str, str]:
    return {"Authorization": f"Bearer {reply['access_token']}"}


async def test_the_person_is_sent_back_with_a_code_and_the_state() -> None:
    async with kounta() as (client, _):
        answer = await client.get("/authorize", params=ASKED)

        assert answer.status_code == 302
        location = answer.headers["Location"]
        assert location.startswith(f"{CALLBACK}&code=")
        assert parse_qs(urlsplit(location).query)["state"] == ["a+b &"]


async def test_a_person_may_say_no() -> None:
    async with kounta(authorize="denied") as (client, _):
        location = (await client.get("/authorize", params=ASKED)).headers["Location"]

        assert parse_qs(urlsplit(location).query)["error"] == ["access_denied"]


@pytest.mark.parametrize("changed", [{"client_id": "other"}, {"redirect_uri": "javascript:alert(1)"}])
async def test_an_unknown_application_is_not_redirected(changed: dict[str, str]) -> None:
    async with kounta() as (client, _):
        assert (await client.get("/authorize", params={**ASKED, **changed})).status_code == 400


async def test_tokens_open_the_api_until_they_expire_and_refreshing_brings_new_ones() -> None:
    async with kounta() as (client, _):
        first = await logged_in(client)
        assert first.keys() == {"access_token", "token_type", "expires_in", "refresh_token"}
        assert (await client.get(ME, headers=bearer(first))).status_code == 200

        await client.post("/sandbox/tokens/expire")
        assert (await client.get(ME, headers=bearer(first))).status_code == 401

        refresh = form(grant_type="refresh_token", refresh_token=first["refresh_token"])
        second = (await client.post("/v1/token.json", data=refresh)).json()
        assert (await client.get(ME, headers=bearer(second))).status_code == 200
        again = await client.post("/v1/token.json", data=refresh)
        assert (again.status_code, again.json()["error"]) == (400, "invalid_grant")


async def test_an_expired_token_may_be_400_with_a_text_that_says_so() -> None:
    async with kounta(expired_token=400) as (client, _):
        reply = await logged_in(client)
        await client.post("/sandbox/tokens/expire")

        answer = await client.get(ME, headers=bearer(reply))
        assert answer.status_code == 400
        assert "expired" in answer.json()["error_description"]


async def test_the_token_call_must_be_form_encoded() -> None:
    async with kounta() as (client, _):
        answer = await client.post("/v1/token.json", json=form(grant_type="refresh_token"))
        assert answer.status_code == 400
        answer = await client.post("/v1/token.json", data={**form(), "client_secret": "wrong"})
        assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")


async def test_oauth_has_a_limit_of_its_own() -> None:
    async with kounta(requests_per_minute=1, oauth_requests_per_minute=3, limit_window="sliding") as (
        client,
        _,
    ):
        reply = await logged_in(client)
        statuses = [(await client.get(ME, headers=bearer(reply))).status_code for _ in range(4)]
        assert statuses == [200, 200, 200, 429]


async def test_a_refresh_whose_answer_was_lost_has_spent_the_token() -> None:
    async with kounta() as (client, sandbox):
        reply = await logged_in(client)
        sandbox.change(sandbox.faults, {"cut_bodies": 1, "only_calls": ["token"]})
        refresh = form(grant_type="refresh_token", refresh_token=reply["refresh_token"])
        with pytest.raises(httpx2.RemoteProtocolError):
            await client.post("/v1/token.json", data=refresh)
        sandbox.change(sandbox.faults, {"cut_bodies": 0})

        assert (await client.post("/v1/token.json", data=refresh)).status_code == 400
