"""What the worker's local socket answers, as OpenAPI: for those who write programs, and for tests."""

from typing import Any, Final, NamedTuple

from pydantic import BaseModel

from sync.console.api import Erase, Reconcile, Replay
from sync.console.customers import Asked
from sync.console.login import Brought, Sent
from sync.console.webhooks import Ensure

_SENTENCE: Final = {
    "type": "object",
    "properties": {"error": {"type": "string"}},
    "required": ["error"],
}


class Endpoint(NamedTuple):
    """One thing that can be asked for, by POST."""

    summary: str
    asked: type[BaseModel] | None = None
    lines: bool = False
    """Whether it answers lines of JSON as it gets on, and says a failure in the last of them."""


ENDPOINTS: Final = {
    "/reconcile": Endpoint("A sweep and the reads it asks for, awaited.", Reconcile, lines=True),
    "/rebuild": Endpoint("The mirror made anew from inbox and upstream, awaited.", lines=True),
    "/replay": Endpoint("Deliveries, applied again.", Replay),
    "/rehearse": Endpoint("The verdicts that a replay would give; nothing changes.", Replay),
    "/erase": Endpoint("A customer, erased, or let come back.", Erase),
    "/upstream": Endpoint("Whose the credentials are, what time it is at Kounta, what is registered."),
    "/webhooks/list": Endpoint("What is registered, and whose each is."),
    "/webhooks/ensure": Endpoint("Register the topics at this place.", Ensure),
    "/webhooks/remove": Endpoint("Remove what this mirror registered."),
    "/customers/list": Endpoint("Kounta's list, page by page.", lines=True),
    "/customers/get": Endpoint("One customer, by id.", Asked),
    "/customers/find": Endpoint("By reference_id, email, mobile, or both names and phone.", Asked),
    "/customers/create": Endpoint("A new customer, in Kounta and in the mirror.", Asked),
    "/customers/update": Endpoint("Changed fields, in Kounta and in the mirror.", Asked),
    "/login/address": Endpoint("Where a person allows the application.", Sent),
    "/login/finish": Endpoint("The code that a person brought back.", Brought),
}
"""Path -> what it is for. With several companies each stands below `/companies/ID`."""


def openapi() -> dict[str, Any]:
    """Give the whole as an OpenAPI 3.1 document."""
    schemas: dict[str, Any] = {}
    for endpoint in ENDPOINTS.values():
        if endpoint.asked is not None:
            schema = endpoint.asked.model_json_schema(ref_template=_PLACE)
            schemas |= {**schema.pop("$defs", {}), endpoint.asked.__name__: schema}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Kounta Mirror: the worker's local socket", "version": "1"},
        "paths": {path: {"post": _operation(endpoint)} for path, endpoint in ENDPOINTS.items()},
        "components": {"schemas": schemas},
    }


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    kinds = ("application/jsonl",) if endpoint.lines else ("application/json", "application/jsonl")
    answers: dict[str, Any] = {"200": {"description": "Done.", "content": {kind: {} for kind in kinds}}}
    operation: dict[str, Any] = {"summary": endpoint.summary, "responses": answers}
    if not endpoint.lines:
        answers["409"] = _refusal("It cannot be done, and why.")
        answers["503"] = _refusal("The database cannot be used now.")
    if endpoint.asked is not None:
        answers["422"] = _refusal("What was asked for cannot be right, and why.")
        place = {"$ref": _PLACE.format(model=endpoint.asked.__name__)}
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": place}}}
    return operation


def _refusal(description: str) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": _SENTENCE}}}


_PLACE: Final = "#/components/schemas/{model}"
