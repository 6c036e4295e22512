"""What commands ask of the process that owns the mirror, over its local socket."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import asdict
from typing import Any

import structlog
from pydantic import AwareDatetime, BaseModel, Field, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from receiver.database import is_unavailable, unusable, utc_text
from sync.console.answering import answering, kept_alive
from sync.console.customers import customer_routes
from sync.console.login import login_routes
from sync.console.upstream import upstream_routes
from sync.console.webhooks import webhook_routes
from sync.engine import Engine
from sync.erasure import Eraser
from sync.kounta import KountaError
from sync.merge.customers import CustomerId
from sync.mirror.deliveries import Wanted
from sync.rebuild import rebuilding
from sync.reconcile.report import Report, Request, Step
from sync.reconcile.sweep import ForeignListError
from sync.replay import rehearse, replay

_log = structlog.get_logger()


class Reconcile(BaseModel):
    """What `reconcile` asks for."""

    deep: bool = False
    customer_id: CustomerId | None = None
    allow_deletes: int = Field(0, ge=0)


class Replay(BaseModel):
    """What `deliveries replay` asks for: these deliveries, and every one with this verdict, of this time."""

    ids: list[str] = []
    verdict: str | None = None
    since: AwareDatetime | None = None
    until: AwareDatetime | None = None

    @property
    def wanted(self) -> Wanted | None:
        """Give what is asked for beside `ids`."""
        if self.verdict is None and self.since is None and self.until is None:
            return None
        return Wanted(self.verdict, since=self.since, until=self.until)


class Erase(BaseModel):
    """What `erase` asks for: a customer to erase, or to let come back."""

    customer_id: CustomerId
    allow_return: bool = False


def create_api(engine: Engine) -> Starlette:
    """Make the application of the worker's local socket.

    `POST /reconcile` answers JSON lines: `{"stage", "done", "total"}` while it goes on, then
    `{"report", "why"}` (why the first of the failed ones did, or "") or `{"error"}`; `POST /rebuild`, too.
    Whatever takes long sends `{"waiting": seconds}` meanwhile (`answering.py`).
    `POST /replay` answers `{"verdicts": {id: verdict}, "before": {id: verdict}, "missing": [id]}`, and so
    does `/rehearse`, which changes nothing. `POST /erase` answers the receipt (`Receipt.as_json`), with
    `allow_return` `{"customer_id", "returns", "erased_at"}`. `/webhooks/…` is the registration,
    `/customers/…` what is asked of upstream, `/login/…` new credentials, `/upstream` what `doctor` asks.
    """

    async def reconcile(request: HttpRequest) -> Response:
        try:
            asked = Reconcile.model_validate_json(await request.body())
        except ValidationError as error:
            return _wrong(error)
        return StreamingResponse(_lines(reconciliation(engine, asked)), media_type="application/jsonl")

    async def rebuild(_request: HttpRequest) -> Response:
        made = rebuilding(engine, reconciliation(engine, Reconcile(deep=True)))
        return StreamingResponse(_lines(made), media_type="application/jsonl")

    async def replay_deliveries(request: HttpRequest) -> dict[str, Any]:
        asked = Replay.model_validate_json(await request.body())
        return asdict(await replay(engine, asked.ids, asked.wanted))

    async def rehearse_deliveries(request: HttpRequest) -> dict[str, Any]:
        asked = Replay.model_validate_json(await request.body())
        return asdict(await rehearse(engine.settings, engine.mirror, engine.clock, asked.ids, asked.wanted))

    async def erase(request: HttpRequest) -> dict[str, Any]:
        asked = Erase.model_validate_json(await request.body())
        return await erasure(engine.eraser, asked)

    return Starlette(
        routes=[
            Route("/erase", answering(erase), methods=["POST"]),
            Route("/reconcile", reconcile, methods=["POST"]),
            Route("/rebuild", rebuild, methods=["POST"]),
            Route("/replay", answering(replay_deliveries), methods=["POST"]),
            Route("/rehearse", answering(rehearse_deliveries), methods=["POST"]),
            *webhook_routes(engine),
            *customer_routes(engine),
            *login_routes(engine),
            *upstream_routes(engine),
        ]
    )


async def erasure(eraser: Eraser, asked: Erase) -> dict[str, Any]:
    """Erase a customer, or let one come back, as was asked."""
    if asked.allow_return:
        erased_at = await eraser.allow_return(asked.customer_id)
        return {"customer_id": asked.customer_id, "returns": True, "erased_at": utc_text(erased_at)}
    return (await eraser.erase(asked.customer_id)).as_json()


def _wrong(error: ValidationError) -> Response:
    return JSONResponse({"error": "; ".join(problem["msg"] for problem in error.errors())}, 422)


async def _lines(values: AsyncGenerator[dict[str, Any], None]) -> AsyncIterator[str]:
    async with aclosing(kept_alive(values)) as alive:
        try:
            async for value in alive:
                yield json.dumps(value) + "\n"
        except Exception as error:  # noqa: BLE001 - whoever asked is told, the worker goes on
            if is_unavailable(error):
                yield json.dumps({"error": unusable(error)})
                return
            _log.exception("A reconciliation broke.", action="reconcile_broken")
            yield json.dumps({"error": f"A fault of the worker: {type(error).__name__}. Its log says more."})


async def reconciliation(engine: Engine, asked: Reconcile) -> AsyncGenerator[dict[str, Any], None]:
    """Reconcile, and say how far it has come until it ends: `stage` lines, then `report` or `error`.

    It ends with whoever listens: closing the generator cancels it, and waits until it has let go.
    """
    request = Request(asked.deep, asked.customer_id, asked.allow_deletes)
    newest: list[Step] = []
    told = asyncio.Event()

    def tell(step: Step) -> None:
        newest[:] = [step]  # whoever listens slowly misses steps, and nothing piles up
        told.set()

    work = engine.reconciler.begin(request, tell)
    work.add_done_callback(lambda _: told.set())
    try:
        while not work.done():
            await told.wait()
            told.clear()
            if newest:
                yield asdict(newest.pop())
        yield _end(work)
    finally:
        work.cancel()
        await asyncio.wait([work])
        if not work.cancelled():
            work.exception()  # it was told, or nobody listens any more


def _end(work: asyncio.Task[Report]) -> dict[str, Any]:
    if work.cancelled():
        return {
            "error": "The worker was stopped before the reconciliation was over. Start it, and try again."
        }
    try:
        report = work.result()
    except (KountaError, ForeignListError) as error:
        return {"error": str(error)}
    except Exception as error:
        if not is_unavailable(error):
            raise
        return {"error": unusable(error)}
    return {"report": report.as_json(), "why": report.why}
