"""What commands ask of the process that owns the mirror, over its local socket."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import asdict
from typing import Any

from pydantic import BaseModel, Field, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from sync.console.webhooks import webhook_routes
from sync.engine import Engine
from sync.kounta import KountaError
from sync.reconcile.reconciler import Report, Request, Step
from sync.reconcile.sweep import ForeignListError
from sync.replay import Replayed, replay


class Reconcile(BaseModel):
    """What `reconcile` asks for."""

    deep: bool = False
    customer_id: int | None = Field(None, gt=0)
    allow_deletes: int = Field(0, ge=0)


class Replay(BaseModel):
    """What `deliveries replay` asks for: these deliveries, and every one with this verdict."""

    ids: list[str] = []
    verdict: str | None = None


def create_api(engine: Engine) -> Starlette:
    """Make the application of the worker's local socket.

    `POST /reconcile` answers JSON lines: `{"stage", "done", "total"}` while it goes on, then `{"report"}` or
    `{"error"}`. `POST /replay` answers `{"verdicts": {id: verdict}, "missing": [id]}`. `/webhooks/…` is
    the registration.
    """

    async def reconcile(request: HttpRequest) -> Response:
        try:
            asked = Reconcile.model_validate_json(await request.body())
        except ValidationError as error:
            return _wrong(error)
        return StreamingResponse(_lines(reconciliation(engine, asked)), media_type="application/jsonl")

    async def replay_deliveries(request: HttpRequest) -> Response:
        try:
            asked = Replay.model_validate_json(await request.body())
        except ValidationError as error:
            return _wrong(error)
        replayed: Replayed = await replay(engine, asked.ids, asked.verdict)
        return JSONResponse({"verdicts": replayed.verdicts, "missing": replayed.missing})

    return Starlette(
        routes=[
            Route("/reconcile", reconcile, methods=["POST"]),
            Route("/replay", replay_deliveries, methods=["POST"]),
            *webhook_routes(engine),
        ]
    )


def _wrong(error: ValidationError) -> Response:
    return JSONResponse({"error": "; ".join(problem["msg"] for problem in error.errors())}, 422)


async def _lines(values: AsyncGenerator[dict[str, Any], None]) -> AsyncIterator[str]:
    async with aclosing(values):
        async for value in values:
            yield json.dumps(value) + "\n"


async def reconciliation(engine: Engine, asked: Reconcile) -> AsyncGenerator[dict[str, Any], None]:
    """Reconcile, and say how far it has come until it ends: `stage` lines, then `report` or `error`."""
    request = Request(asked.deep, asked.customer_id, asked.allow_deletes)
    steps: asyncio.Queue[Step] = asyncio.Queue()
    work = asyncio.create_task(engine.reconciler.reconcile(request, steps.put_nowait))
    try:
        while not work.done() or not steps.empty():
            step = asyncio.ensure_future(steps.get())
            await asyncio.wait({step, work}, return_when=asyncio.FIRST_COMPLETED)
            if step.done():
                yield asdict(step.result())
            else:
                step.cancel()
        yield _end(work)
    finally:
        work.cancel()


def _end(work: asyncio.Task[Report]) -> dict[str, Any]:
    try:
        return {"report": work.result().as_json()}
    except (KountaError, ForeignListError) as error:
        return {"error": str(error)}
