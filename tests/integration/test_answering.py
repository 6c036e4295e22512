"""How the worker keeps a waiting command company, and how a command knows that nobody answers it."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import structlog
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route

from receiver.local import connect_locally, serve_locally
from sync.cli import owner
from sync.cli.owner import NotDoneError, WorkerGoneError, ask
from sync.console.answering import answering, kept_alive
from sync.kounta import KountaError, KountaUnavailable
from sync.mirror.store import OWNER

Give = Callable[[Request], Awaitable[dict[str, Any]]]


@asynccontextmanager
async def a_worker(give: Give, directory: Path, within: float = 0.02) -> AsyncIterator[httpx2.AsyncClient]:
    """Serve `give` as the worker's socket does, and give a client of it."""
    app = Starlette(routes=[Route("/do", answering(give, within=within), methods=["POST"])])
    async with serve_locally(app, directory, OWNER):
        client = connect_locally(directory, OWNER)
        assert client is not None
        async with client:
            yield client


def unnamed(**values: Any) -> KountaError:
    error = KountaUnavailable(200, None, "answered 200, but named no customer", "Look for it")
    for name, value in values.items():
        setattr(error, name, value)
    return error


async def test_a_command_that_waits_gets_a_line_at_a_time_until_the_answer(tmp_path: Path) -> None:
    enough = asyncio.Event()

    async def give(_: Request) -> dict[str, Any]:
        await enough.wait()
        return {"customer": {"id": 7}}

    async with (
        a_worker(give, tmp_path) as client,
        client.stream("POST", "/do", json={}) as answer,
    ):
        lines = []
        async for line in answer.aiter_lines():
            lines.append(json.loads(line))
            if len(lines) == 3:
                enough.set()
    *waiting, last = lines
    assert [one["waiting"] for one in waiting[:3]] == pytest.approx([0.02, 0.04, 0.06])
    assert last == {"customer": {"id": 7}}


@pytest.mark.parametrize("slow", [True, False])
async def test_the_command_takes_the_last_line_for_the_answer(tmp_path: Path, *, slow: bool) -> None:
    async def give(_: Request) -> dict[str, Any]:
        await asyncio.sleep(0.1 * slow)
        return {"customer": None}

    async with a_worker(give, tmp_path) as client:
        assert await ask(client, "/do", {}) == {"customer": None}


@pytest.mark.parametrize("slow", [True, False])
@pytest.mark.parametrize(
    ("error", "fate"),
    [
        (unnamed(written_id=7), {"written_id": 7, "fate_unknown": False, "likely_id": None}),
        (unnamed(fate_unknown=True), {"written_id": None, "fate_unknown": True, "likely_id": None}),
        (
            unnamed(fate_unknown=True, likely_id=8),
            {"written_id": None, "fate_unknown": True, "likely_id": 8},
        ),
        (unnamed(), {}),
    ],
)
async def test_a_write_that_may_have_been_made_says_what_became_of_it(
    tmp_path: Path, error: KountaError, fate: dict[str, Any], *, slow: bool
) -> None:
    async def give(_: Request) -> dict[str, Any]:
        await asyncio.sleep(0.1 * slow)
        raise error

    async with a_worker(give, tmp_path) as client:
        with pytest.raises(NotDoneError, match="named no customer") as caught:
            await ask(client, "/do", {})
    assert caught.value.said == {"error": str(error)} | fate


async def test_a_write_goes_on_to_its_end_when_the_command_has_gone(tmp_path: Path) -> None:
    began, enough, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def give(_: Request) -> dict[str, Any]:
        began.set()
        await enough.wait()
        ended.set()
        return {}

    async with a_worker(give, tmp_path) as client:
        async with client.stream("POST", "/do", json={}) as answer:
            async for _line in answer.aiter_lines():
                break
        await client.aclose()
        await began.wait()
        for _ in range(100):
            await asyncio.sleep(0)  # the server sees that the connection is closed
        enough.set()
        await asyncio.wait_for(ended.wait(), 10)


async def test_a_worker_that_stops_ends_what_is_under_way_and_the_command_knows(tmp_path: Path) -> None:
    cancelled = asyncio.Event()

    async def give(_: Request) -> dict[str, Any]:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return {}

    async with a_worker(give, tmp_path) as client:
        asking = asyncio.ensure_future(ask(client, "/do", {}))
        async with client.stream("POST", "/do", json={}) as answer:
            async for _line in answer.aiter_lines():
                break  # both are answered in lines by now
    with pytest.raises(WorkerGoneError):
        await asking
    await asyncio.wait_for(cancelled.wait(), 10)


async def test_a_worker_that_says_nothing_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KOUNTA_COMPANY_ID", "5678")
    monkeypatch.setenv("MIRROR_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(owner, "SILENCE_SECONDS", 0.2)
    before = structlog.get_config()

    async def give(_: Request) -> dict[str, Any]:
        await asyncio.Event().wait()
        return {}

    from receiver.settings import Settings

    async with a_worker(give, tmp_path, within=60):
        client = owner.worker_client(Settings.load(None))
        assert client is not None
        async with client:
            with pytest.raises(WorkerGoneError, match=r"has not answered for 0\.2 s"):
                await ask(client, "/do", {})
    structlog.configure(**before)


async def test_lines_that_come_slowly_are_kept_alive_and_closed_with_whoever_reads() -> None:
    more, closed = asyncio.Event(), asyncio.Event()

    async def slowly() -> AsyncGenerator[dict[str, Any], None]:
        try:
            yield {"done": 1}
            await more.wait()
            yield {"done": 2}
            await asyncio.Event().wait()
        finally:
            closed.set()

    seen: list[dict[str, Any]] = []
    async with aclosing(kept_alive(slowly(), 0.02)) as lines:
        async for line in lines:
            seen.append(dict(line))
            if "waiting" in line:
                more.set()
            if line == {"done": 2}:
                break
    assert seen[:2] == [{"done": 1}, {"waiting": 0.02}]
    assert seen[-1] == {"done": 2}
    assert closed.is_set()
