"""What ends a permission, and what only keeps tokens from coming for a while (decision 0066)."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from sync.kounta import KountaError, KountaUnavailable, OAuth, TokenEndpoint, Tokens
from sync.kounta.errors import PermissionEndedError
from sync.kounta.origin import Origin

TOKEN = "/v1/token.json"
NOON = datetime(2026, 12, 1, 12, tzinfo=UTC)
FIRST = Tokens(refresh_token=SecretStr("r-1"))
GRANT = {"access_token": "a-2", "refresh_token": "r-2", "expires_in": 3600}
ENDED = {"error": "invalid_grant", "error_description": "The refresh token was revoked."}


@dataclass
class Permission:
    """The tokens of a company, what is stored of them, and the time."""

    auth: OAuth = field(init=False)
    stored: Tokens | None = FIRST
    kept: list[Tokens] = field(default_factory=list)
    now: datetime = NOON

    async def keep(self, tokens: Tokens) -> None:
        self.kept.append(tokens)
        self.stored = tokens

    async def read(self) -> Tokens | None:
        return self.stored

    async def refused(self) -> KountaError:
        with pytest.raises(KountaError) as caught:
            await self.auth.authorization()
        return caught.value


@asynccontextmanager
async def a_permission(url: str) -> AsyncIterator[Permission]:
    permission = Permission()

    def clock() -> datetime:
        return permission.now

    async with TokenEndpoint("shop", SecretStr("s3cret"), Origin(url), clock=clock) as endpoint:
        permission.auth = OAuth(endpoint, FIRST, permission.keep, stored=permission.read, clock=clock)
        yield permission


PASSING: list[dict[str, Any]] = [
    {"status": 403, "body": b"<html><title>Access denied</title></html>"},
    {"status": 401, "body": b"Unauthorized"},
    {"status": 401, "body": {"error": "invalid_client"}},
    {"status": 400, "body": {"error": "temporarily_unavailable"}},
    {"status": 400, "body": {"message": "invalid_grant of memory"}},
    {"status": 400, "body": b"invalid_grant"},
    {"status": 404, "body": b""},
    {"status": 302, "body": b"", "Location": "https://elsewhere.example/"},
    {"status": 429, "body": b"Limit exceeded"},
    {"status": 503, "body": b""},
    {"status": 200, "body": b"<html>Back soon</html>"},
    {"status": 200, "body": b"null"},
    {"status": 200, "body": b"[" * 100_000},
]


@pytest.mark.parametrize("answer", PASSING)
async def test_whatever_else_upstream_says_passes_by_itself(upstream: Any, answer: dict[str, Any]) -> None:
    upstream.answer(TOKEN, **answer)
    upstream.answer(TOKEN, GRANT)
    async with a_permission(upstream.url) as permission:
        refused = await permission.refused()
        assert "Asked again by itself from 12:00:01 UTC" in str(refused)
        assert "login" not in str(refused)
        assert "withdrawn" not in str(refused)
        assert refused.unsent
        permission.now += timedelta(seconds=1)
        assert await permission.auth.authorization() == "Bearer a-2"
        assert [tokens.refresh_token.get_secret_value() for tokens in permission.kept] == ["r-2"]


async def test_upstream_is_asked_ever_more_rarely_and_at_last_every_five_minutes(upstream: Any) -> None:
    upstream.answer(TOKEN, b"Forbidden", 403)
    async with a_permission(upstream.url) as permission:
        asked_at: list[float] = []
        for second in range(1200):
            permission.now = NOON + timedelta(seconds=second)
            before = len(upstream.asked)
            refused = await permission.refused()
            assert isinstance(refused, KountaUnavailable)
            if len(upstream.asked) > before:
                asked_at.append(second)
        assert asked_at == [0, 1, 3, 7, 15, 31, 63, 127, 255, 511, 811, 1111]


async def test_a_clock_that_is_set_back_does_not_keep_it_from_being_asked(upstream: Any) -> None:
    upstream.answer(TOKEN, b"Forbidden", 403)
    upstream.answer(TOKEN, GRANT)
    async with a_permission(upstream.url) as permission:
        await permission.refused()
        permission.now -= timedelta(hours=1)
        assert await permission.auth.authorization() == "Bearer a-2"


async def test_the_end_of_a_permission_is_believed_and_not_asked_for_again(upstream: Any) -> None:
    upstream.answer(TOKEN, ENDED, 400)
    async with a_permission(upstream.url) as permission:
        for _ in range(3):
            refused = await permission.refused()
            permission.now += timedelta(hours=1)
            assert isinstance(refused, PermissionEndedError)
            assert "Run kounta-mirror login" in str(refused)
    assert len(upstream.asked) == 1


async def test_tokens_that_another_process_has_stored_are_used_before_a_permission_is_ended(
    upstream: Any,
) -> None:
    upstream.answer(TOKEN, ENDED, 400)
    async with a_permission(upstream.url) as permission:
        permission.stored = Tokens(
            refresh_token=SecretStr("r-9"),
            access_token=SecretStr("a-9"),
            good_until=NOON + timedelta(hours=1),
        )
        assert await permission.auth.authorization() == "Bearer a-9"
    assert (len(upstream.asked), permission.kept) == (1, [])


async def test_a_stored_refresh_token_that_is_another_is_tried_in_its_turn(upstream: Any) -> None:
    upstream.answer(TOKEN, ENDED, 400)
    upstream.answer(TOKEN, GRANT)
    async with a_permission(upstream.url) as permission:
        permission.stored = Tokens(refresh_token=SecretStr("r-9"))
        assert await permission.auth.authorization() == "Bearer a-2"
    assert len(upstream.asked) == 2


async def test_a_login_in_another_process_ends_the_end_of_a_permission(upstream: Any) -> None:
    upstream.answer(TOKEN, ENDED, 400)
    upstream.answer(TOKEN, GRANT)
    async with a_permission(upstream.url) as permission:
        assert isinstance(await permission.refused(), PermissionEndedError)
        permission.stored = Tokens(refresh_token=SecretStr("r-9"))
        assert await permission.auth.authorization() == "Bearer a-2"


@pytest.mark.parametrize("lasts", [0, -5])
async def test_a_token_that_is_to_last_no_time_is_used_until_upstream_refuses_it(
    upstream: Any, lasts: int
) -> None:
    upstream.answer(TOKEN, GRANT | {"expires_in": lasts})
    async with a_permission(upstream.url) as permission:
        for _ in range(3):
            assert await permission.auth.authorization() == "Bearer a-2"
    assert len(upstream.asked) == 1
