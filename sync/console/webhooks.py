"""What `webhooks …` asks of the process that owns the mirror: the registration at upstream."""

from dataclasses import asdict
from typing import Any

from pydantic import BaseModel, Field
from starlette.requests import Request as HttpRequest
from starlette.routing import Route

from sync.console.answering import answering
from sync.engine import Engine
from sync.mirror.registration import our_webhooks


class Ensure(BaseModel):
    """What `webhooks ensure` asks for: the topics at this place, and to take over that registration."""

    public_url: str = Field(min_length=1)
    adopt: int | None = Field(None, gt=0)


def webhook_routes(engine: Engine) -> list[Route]:
    """Make the routes; each answers what the function of its name gives, or `{"error": a sentence}`."""

    async def show(_request: HttpRequest) -> dict[str, Any]:
        return await view(engine)

    async def make(request: HttpRequest) -> dict[str, Any]:
        return await ensure(engine, Ensure.model_validate_json(await request.body()))

    async def unmake(_request: HttpRequest) -> dict[str, Any]:
        return await remove(engine)

    return [
        Route("/webhooks/list", answering(show), methods=["POST"]),
        Route("/webhooks/ensure", answering(make), methods=["POST"]),
        Route("/webhooks/remove", answering(unmake), methods=["POST"]),
    ]


async def view(engine: Engine) -> dict[str, Any]:
    """Give `{"public_url": where ours are to be, or null, "webhooks": [a row each]}`."""
    seen = await engine.registrar.view()
    return {"public_url": seen.public_url, "webhooks": seen.as_json()}


async def ensure(engine: Engine, asked: Ensure) -> dict[str, Any]:
    """Give the ids that were registered, repaired, adopted, removed, and `webhooks`: ours by now."""
    outcome = await engine.registrar.ensure(asked.public_url, asked.adopt)
    ours = sorted((await our_webhooks(engine.mirror)).values(), key=lambda webhook: webhook.topic)
    rows = [{"id": one.id, "topic": one.topic, "address": one.address} for one in ours]
    return {"public_url": asked.public_url, **asdict(outcome), "webhooks": rows}


async def remove(engine: Engine) -> dict[str, Any]:
    """Give `{"removed": [ids]}`."""
    return {"removed": (await engine.registrar.remove()).removed}
