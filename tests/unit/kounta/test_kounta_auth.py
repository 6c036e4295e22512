from base64 import b64encode

import pytest
from pydantic import SecretStr

from sync.kounta import BasicAuth, Kounta, KountaRefused

SECRET = "Zwölf!:s3cret"
ENCODED = b64encode(f"shop:{SECRET}".encode()).decode()


@pytest.mark.parametrize("secret", [SECRET, SecretStr(SECRET)])
async def test_basic_auth_sends_id_and_secret(secret: SecretStr | str) -> None:
    assert await BasicAuth("shop", secret).authorization() == f"Basic {ENCODED}"


async def test_basic_auth_has_nothing_to_renew() -> None:
    assert not await BasicAuth("shop", SECRET).renew(f"Basic {ENCODED}")


@pytest.mark.parametrize("client_id", ["", "with:colon", "line\nbreak"])
def test_a_client_id_that_basic_auth_cannot_carry_is_refused(client_id: str) -> None:
    with pytest.raises(KountaRefused, match="KOUNTA_CLIENT_ID"):
        BasicAuth(client_id, SECRET)


def test_an_empty_secret_is_refused() -> None:
    with pytest.raises(KountaRefused, match="KOUNTA_CLIENT_SECRET is empty"):
        BasicAuth("shop", "")


async def test_secrets_stand_in_no_representation() -> None:
    auth = BasicAuth("shop", SECRET)
    async with Kounta(5678, auth=auth) as kounta:
        shown = f"{auth} {auth!r} {vars(auth)} {kounta} {kounta!r} {vars(kounta)}"
    assert "s3cret" not in shown
    assert ENCODED not in shown


def test_secrets_are_concealed_in_what_upstream_repeats() -> None:
    said = BasicAuth("shop", SECRET).conceal(f"bad header Basic {ENCODED} for {SECRET}")
    assert said == "bad header Basic [secret] for [secret]"
