"""What `customers …` asks of the process that owns the mirror: upstream, within its call budget."""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from functools import partial
from typing import Any, Final

from pydantic import BaseModel
from starlette.requests import Request as HttpRequest
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from sync.console.answering import answering, kept_alive
from sync.engine import Engine
from sync.kounta import Customer, Fields, KountaError

PAGE: Final = 25


class Asked(BaseModel):
    """What one of the commands asks for; each takes what it needs of this."""

    id: int = 0
    by: dict[str, str] = {}
    fields: Fields = {}


def customer_routes(engine: Engine) -> list[Route]:
    """Make the routes.

    `/customers/get`, `find`, `create` and `update` answer what the function of their name gives, or
    `{"error": a sentence}`, for a write that may have been made with `written_id`, `fate_unknown` and
    `likely_id`; `/customers/list` answers JSON lines, as `walk` gives them.
    """

    async def list_customers(_request: HttpRequest) -> Response:
        return StreamingResponse(_lines(walk(engine)), media_type="application/jsonl")

    return [
        Route("/customers/list", list_customers, methods=["POST"]),
        *(
            Route(f"/customers/{name}", answering(partial(_give, give, engine)), methods=["POST"])
            for name, give in ANSWERS.items()
        ),
    ]


async def walk(engine: Engine) -> AsyncGenerator[dict[str, Any], None]:
    """Give upstream's list page by page: `{"customers": [...], "total": about how many, or null}`."""
    async with aclosing(engine.kounta.pages()) as pages:
        async for page in pages:
            total = None if page.pages is None else page.pages * PAGE
            yield {"customers": [shown(customer) for customer in page.customers], "total": total}


async def get(engine: Engine, asked: Asked) -> dict[str, Any]:
    """Give `{"customer": the one of this id, or null}`."""
    return _one(await engine.kounta.customer(asked.id))


async def find(engine: Engine, asked: Asked) -> dict[str, Any]:
    """Give `{"customers": [...]}` by reference id, else `{"customer": the one, or null}`."""
    by, kounta = asked.by, engine.kounta
    if "reference_id" in by:
        found = await kounta.customers_by_reference_id(by["reference_id"])
        return {"customers": [shown(customer) for customer in found]}
    if "email" in by:
        return _one(await kounta.customer_by_email(by["email"]))
    if "mobile" in by:
        return _one(await kounta.customer_by_mobile(by["mobile"]))
    who = (by.get(name, "") for name in ("first_name", "last_name", "phone"))
    return _one(await kounta.customer_by_name_and_phone(*who))


async def create(engine: Engine, asked: Asked) -> dict[str, Any]:
    """Give `{"customer": as upstream has it now}`; it is in the mirror by then."""
    return _one(await engine.writer.create(asked.fields))


async def update(engine: Engine, asked: Asked) -> dict[str, Any]:
    """Give `{"customer": as upstream has it now}`; the mirror has it, too."""
    return _one(await engine.writer.update(asked.id, asked.fields))


ANSWERS: Final[Mapping[str, Callable[[Engine, Asked], Awaitable[dict[str, Any]]]]] = {
    "get": get,
    "find": find,
    "create": create,
    "update": update,
}


def shown(customer: Customer) -> dict[str, Any]:
    """Give a customer as a JSON object: the fields that upstream sent, and no others."""
    return customer.model_dump(mode="json", exclude_unset=True)


def _one(customer: Customer | None) -> dict[str, Any]:
    return {"customer": None if customer is None else shown(customer)}


async def _give(
    give: Callable[[Engine, Asked], Awaitable[dict[str, Any]]], engine: Engine, request: HttpRequest
) -> dict[str, Any]:
    return await give(engine, Asked.model_validate_json(await request.body()))


async def _lines(pages: AsyncGenerator[dict[str, Any], None]) -> AsyncIterator[str]:
    async with aclosing(kept_alive(pages)) as alive:
        try:
            async for page in alive:
                yield json.dumps(page) + "\n"
        except KountaError as error:
            yield json.dumps({"error": str(error)}) + "\n"
