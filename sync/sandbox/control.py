"""The control interface under /sandbox/: the truth, edits, faults. For tests and demos, on loopback only."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeAlias

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sync.sandbox.bodies import json_bytes
from sync.sandbox.endpoint import parsed
from sync.sandbox.refusal import RefusedError
from sync.sandbox.settings import OptionError
from sync.sandbox.writes import check_types

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    from sync.sandbox.courier import Courier
    from sync.sandbox.customer import Customer
    from sync.sandbox.sandbox import Sandbox

Answer: TypeAlias = "Callable[[Request], Awaitable[Any]]"

MOST_EDITS = 100_000


def routes(sandbox: Sandbox, courier: Courier) -> list[Route]:
    """Make the routes of the control interface."""
    control = _Control(sandbox, courier)
    table: list[tuple[str, str, Answer]] = [
        ("GET", "customers", control.customers),
        ("POST", "customers", control.create),
        ("PUT", "customers/{id:int}", control.update),
        ("DELETE", "customers/{id:int}", control.delete),
        ("POST", "edits", control.edits),
        ("GET", "faults", control.faults),
        ("PUT", "faults", control.set_faults),
        ("GET", "settings", control.settings),
        ("PUT", "settings", control.set_settings),
        ("POST", "calls", control.next_calls),
        ("POST", "tokens/expire", control.expire_tokens),
        ("POST", "tokens/revoke", control.revoke_tokens),
        ("POST", "pause", control.pause),
        ("POST", "resume", control.resume),
        ("POST", "settle", control.settle),
        ("GET", "report", control.report),
    ]
    return [Route(f"/sandbox/{path}", _answering(answer), methods=[method]) for method, path, answer in table]


class _Control:
    def __init__(self, sandbox: Sandbox, courier: Courier) -> None:
        self._sandbox = sandbox
        self._company = sandbox.company
        self._courier = courier

    async def customers(self, request: Request) -> Any:
        application = request.query_params.get("application")
        return {
            "customers": list(self._company.truth(application)),
            "deleted": self._company.customers.deleted,
        }

    async def create(self, request: Request) -> Any:
        values = await _object(request)
        id_ = values.get("id")
        if id_ is not None and (isinstance(id_, bool) or not isinstance(id_, int) or id_ < 1):
            raise OptionError(f"id must be a whole number above 0, not {id_!r}.")
        check_types(values)
        return self._shown(self._company.create(values, announce=_announce(request), customer_id=id_))

    async def update(self, request: Request) -> Any:
        values = await _object(request)
        check_types(values)
        id_ = request.path_params["id"]
        return self._shown(self._company.update(id_, values, announce=_announce(request)))

    async def delete(self, request: Request) -> Any:
        return self._shown(self._company.delete(request.path_params["id"], announce=_announce(request)))

    async def edits(self, request: Request) -> Any:
        wanted = await _object(request)
        count, announce = wanted.get("count", 1), wanted.get("announce", True)
        if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= MOST_EDITS:
            raise OptionError(f"count must be a whole number up to {MOST_EDITS}, not {count!r}.")
        for _ in range(count):
            self._sandbox.editor.edit(announce=announce is not False)
            self._sandbox.editor.finish()
        return self._sandbox.report()["changes"]

    async def faults(self, _: Request) -> Any:
        return asdict(self._sandbox.faults)

    async def set_faults(self, request: Request) -> Any:
        self._sandbox.change(self._sandbox.faults, await _object(request))
        return asdict(self._sandbox.faults)

    async def settings(self, _: Request) -> Any:
        return asdict(self._sandbox.settings)

    async def set_settings(self, request: Request) -> Any:
        self._sandbox.change(self._sandbox.settings, await _object(request))
        return asdict(self._sandbox.settings)

    async def next_calls(self, request: Request) -> Any:
        faults = (await _object(request)).get("faults")
        if not isinstance(faults, list):
            raise OptionError("faults must be an array: what befalls the next calls, one after another.")
        self._sandbox.calls.ask(faults)
        return {}

    async def expire_tokens(self, _: Request) -> Any:
        self._sandbox.tokens.expire()
        return {}

    async def revoke_tokens(self, _: Request) -> Any:
        self._sandbox.tokens.revoke()
        return {}

    async def pause(self, _: Request) -> Any:
        self._sandbox.pause()
        return self._sandbox.report()

    async def resume(self, _: Request) -> Any:
        self._sandbox.resume()
        return self._sandbox.report()

    async def settle(self, _: Request) -> Any:
        await self._courier.settle()
        return self._sandbox.report()

    async def report(self, _: Request) -> Any:
        return self._sandbox.report()

    def _shown(self, customer: Customer) -> Any:
        return customer.seen_by(self._sandbox.settings.client_id)


def _answering(answer: Answer) -> Callable[[Request], Awaitable[Response]]:
    async def respond(request: Request) -> Response:
        try:
            value = await answer(request)
        except OptionError as error:
            return JSONResponse({"error": str(error)}, 400)
        except RefusedError as refusal:
            return JSONResponse({"error": refusal.sentence}, refusal.status)
        return Response(json_bytes(value, ascii_only=False), media_type="application/json")

    return respond


async def _object(request: Request) -> dict[str, Any]:
    value = parsed(await request.body() or b"{}")
    if not isinstance(value, dict):
        raise OptionError("The body must be a JSON object.")
    return value


def _announce(request: Request) -> bool:
    value = request.query_params.get("announce", "true")
    if value not in ("true", "false"):
        raise OptionError(f"announce must be true or false, not {value!r}.")
    return value == "true"
