from random import Random
from typing import Any

import pytest

from sync.sandbox import Settings
from sync.sandbox.oauth import Tokens
from sync.sandbox.refusal import RefusedError

APPLICATION = {"client_id": "sandbox-client", "client_secret": "sandbox-secret"}
CALLBACK = "http://localhost/callback"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def tokens(**settings: Any) -> tuple[Tokens, Clock]:
    clock = Clock()
    return Tokens(Settings(**settings), clock, Random(1)), clock


def by_code(issuer: Tokens, code: str, **changed: str) -> dict[str, Any]:
    form = {**APPLICATION, "grant_type": "authorization_code", "code": code, "redirect_uri": CALLBACK}
    return issuer.grant({**form, **changed})


def by_refresh(issuer: Tokens, token: Any, /, **changed: str) -> dict[str, Any]:
    form = {**APPLICATION, "grant_type": "refresh_token", "refresh_token": token}
    return issuer.grant({**form, **changed})


def test_a_code_brings_tokens_once() -> None:
    issuer, _ = tokens()
    code = issuer.authorize("sandbox-client", CALLBACK)

    reply = by_code(issuer, code)

    assert reply["token_type"] == "Bearer"
    assert reply["expires_in"] == 3600
    assert issuer.application(reply["access_token"]) == "sandbox-client"
    with pytest.raises(RefusedError, match="used before"):
        by_code(issuer, code)


def test_a_code_ends_and_belongs_to_its_redirect_uri() -> None:
    issuer, clock = tokens(code_seconds=60)
    late, elsewhere = (issuer.authorize("sandbox-client", CALLBACK) for _ in range(2))

    with pytest.raises(RefusedError, match="redirect_uri is not the one"):
        by_code(issuer, elsewhere, redirect_uri="http://localhost/other")
    clock.now += 60
    with pytest.raises(RefusedError, match="has expired"):
        by_code(issuer, late)


def test_an_access_token_ends_with_the_status_that_is_set() -> None:
    issuer, clock = tokens(token_seconds=60, expired_token=400)
    access = by_code(issuer, issuer.authorize("sandbox-client", CALLBACK))["access_token"]
    clock.now += 60

    with pytest.raises(RefusedError, match="has expired") as error:
        issuer.application(access)
    assert error.value.status == 400


def test_a_rotating_refresh_token_is_good_once() -> None:
    issuer, _ = tokens()
    first = by_code(issuer, issuer.authorize("sandbox-client", CALLBACK))

    second = by_refresh(issuer, first["refresh_token"])

    assert second["refresh_token"] != first["refresh_token"]
    with pytest.raises(RefusedError, match="unknown or was used before"):
        by_refresh(issuer, first["refresh_token"])
    by_refresh(issuer, second["refresh_token"])


def test_a_lasting_refresh_token_is_not_sent_again() -> None:
    issuer, _ = tokens(rotate_refresh_tokens=False)
    first = by_code(issuer, issuer.authorize("sandbox-client", CALLBACK))

    assert "refresh_token" not in by_refresh(issuer, first["refresh_token"])
    by_refresh(issuer, first["refresh_token"])


@pytest.mark.parametrize(
    ("changed", "status", "code"),
    [
        ({"client_secret": "wrong"}, 401, "invalid_client"),
        ({"client_id": "wrong"}, 401, "invalid_client"),
        ({"refresh_token": "wrong"}, 400, "invalid_grant"),
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
        ({"client_id": "theirs", "client_secret": "secret"}, 400, "invalid_grant"),
    ],
)
def test_a_wrong_request_is_refused(changed: dict[str, str], status: int, code: str) -> None:
    issuer, _ = tokens(other_applications=("theirs:secret:token",))
    refresh_token = by_code(issuer, issuer.authorize("sandbox-client", CALLBACK))["refresh_token"]

    with pytest.raises(RefusedError) as error:
        by_refresh(issuer, refresh_token, **changed)
    assert (error.value.status, error.value.code) == (status, code)


def test_tokens_can_be_ended_early() -> None:
    issuer, _ = tokens()
    reply = by_code(issuer, issuer.authorize("sandbox-client", CALLBACK))

    issuer.expire()
    with pytest.raises(RefusedError, match="has expired"):
        issuer.application(reply["access_token"])
    issuer.revoke()
    with pytest.raises(RefusedError, match="unknown or was used before"):
        by_refresh(issuer, reply["refresh_token"])
