"""What `login` asks of the process that owns the mirror."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from pydantic import BaseModel, Field, SecretStr
from starlette.requests import Request as HttpRequest
from starlette.routing import Route

from receiver.errors import MirrorError, SettingsError
from sync.console.answering import answering
from sync.engine import Engine
from sync.login import Login

_KEYLESS: Final = (
    "The worker that runs was started without MIRROR_SECRET_KEY, so it could not store the login. Start it "
    "again, then log in."
)


class Sent(BaseModel):
    """Where Kounta is to send the person back to, and what marks this attempt."""

    redirect_uri: str
    state: str = Field(min_length=1)


class Brought(BaseModel):
    """The code that a person brought back, and the redirect URI that they were sent to."""

    code: SecretStr = Field(min_length=1)
    redirect_uri: str


def login_routes(engine: Engine) -> list[Route]:
    """Make the routes; each answers what the function of its name gives, or `{"error": a sentence}`."""

    async def begin(request: HttpRequest) -> dict[str, Any]:
        with _told_of_the_worker():
            return address(engine.login, Sent.model_validate_json(await request.body()))

    async def end(request: HttpRequest) -> dict[str, Any]:
        with _told_of_the_worker():
            return await finish(engine.login, Brought.model_validate_json(await request.body()))

    return [
        Route("/login/address", answering(begin), methods=["POST"]),
        Route("/login/finish", answering(end), methods=["POST"]),
    ]


def address(login: Login, asked: Sent) -> dict[str, Any]:
    """Give `{"address": where the person allows it}`."""
    return {"address": login.address(asked.redirect_uri, asked.state)}


async def finish(login: Login, asked: Brought) -> dict[str, Any]:
    """Give `{"company_id", "name"}`; the tokens are stored, and used from now on."""
    company = await login.finish(asked.code.get_secret_value(), asked.redirect_uri)
    return {"company_id": company.id, "name": company.name}


@contextmanager
def _told_of_the_worker() -> Iterator[None]:
    """Say whose setting it is that is missing: the worker's, not that of whoever asks."""
    try:
        yield
    except SettingsError as error:
        raise MirrorError(_KEYLESS) from error
