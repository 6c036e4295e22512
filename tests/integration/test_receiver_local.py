import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from receiver.doorbell import Doorbell, DoorbellButton
from receiver.local import connect_locally, serve_locally


@pytest.fixture(params=["short", "d" * 120])
def directory(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A data directory whose path fits a socket, and one whose path does not."""
    made = tmp_path / str(request.param)
    made.mkdir()
    return made


@pytest.fixture
def button(directory: Path) -> Iterator[DoorbellButton]:
    made = DoorbellButton(directory, "worker")
    yield made
    made.close()


async def double(request: Request) -> Response:
    return JSONResponse({"twice": 2 * (await request.json())["number"]})


app = Starlette(routes=[Route("/double", double, methods=["POST"])])


def place(directory: Path) -> Path:
    return Path((directory / "worker.socket").read_text())


def files(directory: Path) -> list[Path]:
    return list(directory.iterdir()) if directory.exists() else []


async def test_a_command_reaches_the_owner(directory: Path) -> None:
    async with serve_locally(app, directory, "worker"):
        client = connect_locally(directory, "worker")
        assert client is not None
        async with client:
            answer = await client.post("/double", json={"number": 21})
            assert answer.json() == {"twice": 42}
        assert place(directory).stat().st_mode & 0o777 == 0o600


async def test_nobody_answers_when_no_owner_runs(directory: Path) -> None:
    assert connect_locally(directory, "worker") is None
    async with serve_locally(app, directory, "worker"):
        socket = place(directory)
    assert connect_locally(directory, "worker") is None
    assert files(directory) == []
    assert files(socket.parent) == []


async def test_what_a_killed_owner_left_is_cleaned_by_the_next(directory: Path) -> None:
    async with serve_locally(app, directory, "worker"):
        left = place(directory)
        note = (directory / "worker.socket").read_bytes()
    left.parent.mkdir(exist_ok=True)
    left.touch()
    (directory / "worker.socket").write_bytes(note)
    assert connect_locally(directory, "worker") is None
    async with serve_locally(app, directory, "worker"):
        client = connect_locally(directory, "worker")
        assert client is not None
        await client.aclose()
        if left.parent != directory:
            assert not left.parent.exists()


async def test_a_command_that_waits_when_its_owner_stops_is_answered(directory: Path) -> None:
    asked = asyncio.Event()

    async def endless(_request: Request) -> Response:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    async with serve_locally(Starlette(routes=[Route("/endless", endless)]), directory, "worker"):
        client = connect_locally(directory, "worker")
        assert client is not None
        waiting = asyncio.create_task(client.get("/endless"))
        await asked.wait()
    answer = await waiting
    await client.aclose()
    assert answer.status_code == 503
    assert answer.json()["error"] == "stopping"


async def test_a_ring_ends_the_wait(directory: Path, button: DoorbellButton) -> None:
    async with Doorbell(directory, "worker") as doorbell:
        waiting = asyncio.create_task(doorbell.wait(30))
        await asyncio.sleep(0)
        button.press()
        assert await asyncio.wait_for(waiting, 5)


async def test_a_ring_before_the_wait_is_not_lost_and_counts_once(
    directory: Path, button: DoorbellButton
) -> None:
    async with Doorbell(directory, "worker") as doorbell:
        for _ in range(2_000):
            button.press()
        assert await doorbell.wait(5)
        assert not await doorbell.wait(0.01)


async def test_ringing_where_nobody_listens_does_nothing(directory: Path, button: DoorbellButton) -> None:
    button.press()
    assert files(directory) == []


async def test_a_listener_that_starts_later_or_anew_is_found(directory: Path, button: DoorbellButton) -> None:
    button.press()
    for _ in range(3):
        async with Doorbell(directory, "worker") as doorbell:
            button.press()
            assert await doorbell.wait(5)
        button.press()
