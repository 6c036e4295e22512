"""The console's port over real HTTP: who is let in, what every error looks like, how it begins and ends."""

import asyncio
import socket
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest
import structlog
import uvicorn
from pydantic import SecretStr

from receiver.errors import MirrorError
from sync.console.app import create_console
from sync.console.serving import STOP_SECONDS, ConsoleBrokenError, serving

OPEN = ("/healthz", "/readyz")
TEXT = b"# a scrape\n"


async def scraped() -> bytes:
    return TEXT


@dataclass
class Console:
    """A console that is being served, asked like a browser or Prometheus does."""

    url: str
    client: httpx2.AsyncClient
    ended: "list[asyncio.Task[None]]" = field(default_factory=list)

    async def get(self, path: str, authorization: str | None = None) -> httpx2.Response:
        headers: dict[bytes, bytes] = (
            {} if authorization is None else {b"Authorization": authorization.encode("latin-1")}
        )
        return await self.client.get(path, headers=headers)

    async def connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        url = httpx2.URL(self.url)
        return await asyncio.open_connection(url.host, url.port)


@asynccontextmanager
async def console(
    password: str | None = None,
    scrape: Callable[[], Awaitable[bytes]] = scraped,
    gets_on: Callable[[], bool] = lambda: True,
) -> AsyncIterator[Console]:
    app = create_console(scrape, gets_on, None if password is None else SecretStr(password))
    ended: list[asyncio.Task[None]] = []
    async with (
        serving(app, "127.0.0.1", 0, ended.append) as url,
        httpx2.AsyncClient(base_url=url, trust_env=False) as client,
    ):
        yield Console(url, client, ended)


def basic(name: str, password: str) -> str:
    return f"Basic {b64encode(f'{name}:{password}'.encode()).decode()}"


def complaint(response: httpx2.Response) -> tuple[int, str]:
    """Give status and code of an error; they all have one shape."""
    said = response.json()
    assert said.keys() == {"error", "detail"}
    assert said["detail"].endswith(".")
    return response.status_code, said["error"]


# who is let in


async def test_without_a_password_everything_is_open() -> None:
    async with console() as served:
        assert (await served.get("/healthz")).json() == {"status": "alive"}
        assert (await served.get("/readyz")).json() == {"status": "ready"}
        metrics = await served.get("/metrics")
        assert (metrics.status_code, metrics.content) == (200, TEXT)
        assert metrics.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"


@pytest.mark.parametrize("name", ["", "prometheus", "näme"])
@pytest.mark.parametrize("password", ["let me in", "with:colon", "pässwörd", " "])
async def test_whoever_knows_the_password_is_let_in_by_any_name(name: str, password: str) -> None:
    async with console(password) as served:
        assert (await served.get("/metrics", basic(name, password))).status_code == 200


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Basic",
        "Basic !!!",
        "Basic é",
        "Bearer let me in",
        basic("let me in", ""),
        basic("any", "wrong"),
        basic("any", "let me i"),
        basic("any", "let me inn"),
        b64encode(b"any:let me in").decode(),
        basic("any", "let me in").replace("Basic", "Digest"),
    ],
)
async def test_whoever_does_not_know_it_sees_health_alone(authorization: str | None) -> None:
    async with console("let me in") as served:
        for path in OPEN:
            assert (await served.get(path, authorization)).status_code == 200
        for path in (
            "/metrics",
            "/metrics/",
            "/",
            "/nothing",
            "/healthz/",
            "//healthz",
            "/healthz%2f../metrics",
        ):
            answer = await served.get(path, authorization)
            assert complaint(answer) == (401, "password_needed"), path
            assert answer.headers["WWW-Authenticate"].startswith("Basic realm=")


# what errors look like


async def test_errors_have_one_shape() -> None:
    async with console() as served:
        assert complaint(await served.get("/nothing")) == (404, "not_found")
        answer = await served.client.post("/metrics")
        assert complaint(answer) == (405, "method_not_allowed")
        assert "GET" in answer.headers["Allow"]


async def test_a_worker_that_does_not_get_on_is_not_ready_and_alive() -> None:
    async with console(gets_on=lambda: False) as served:
        assert complaint(await served.get("/readyz")) == (503, "no_progress")
        assert (await served.get("/healthz")).status_code == 200


async def test_a_scrape_that_cannot_be_made_is_503_and_told_in_the_log() -> None:
    async def scrape() -> bytes:
        raise OSError("no such disk")

    with structlog.testing.capture_logs() as log:
        async with console(scrape=scrape) as served:
            assert complaint(await served.get("/metrics")) == (503, "unavailable")
            assert (await served.get("/healthz")).status_code == 200
    assert [line["action"] for line in log if line["log_level"] == "error"] == ["scrape_failed"]


async def test_a_fault_elsewhere_has_the_shape_of_every_error() -> None:
    def gets_on() -> bool:
        raise RuntimeError("a fault of ours")

    async with console(gets_on=gets_on) as served:
        answer = await served.get("/readyz")
        assert complaint(answer) == (500, "internal")
        assert "a fault of ours" not in answer.text
        assert (await served.get("/healthz")).status_code == 200


# how it begins and ends


async def enters(port: int, host: str = "127.0.0.1") -> None:
    async with serving(create_console(scraped, lambda: True, None), host, port, lambda _: None):
        pass


async def test_a_port_that_is_taken_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            MirrorError,
            match=rf"^The console cannot listen at 127\.0\.0\.1 port {port}: Address already in use\. ",
        ):
            await enters(port)


async def test_an_address_that_this_machine_does_not_have_is_one_sentence() -> None:
    with pytest.raises(MirrorError, match=r"^The console cannot listen at 192\.0\.2\.1 port 0: "):
        await enters(0, "192.0.2.1")


async def test_it_listens_on_ipv6_too() -> None:
    app = create_console(scraped, lambda: True, None)
    async with (
        serving(app, "::1", 0, lambda _: None) as url,
        httpx2.AsyncClient(base_url=url, trust_env=False) as client,
    ):
        assert url.startswith("http://[::1]:")
        assert (await client.get("/healthz")).status_code == 200


async def test_a_port_is_free_again_once_it_has_ended() -> None:
    async with console() as served:
        port = httpx2.URL(served.url).port
        assert port is not None
    await enters(port)


@pytest.mark.parametrize("sent", [b"", b"GET /metrics HTT", b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"])
async def test_it_ends_though_somebody_is_connected(sent: bytes) -> None:
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(20), console() as served:
        reader, writer = await served.connection()
        writer.write(sent)
        await writer.drain()
        await served.get("/healthz")  # by now the other connection has been taken, too
        ending_at = loop.time()
    assert loop.time() - ending_at < STOP_SECONDS + 1
    async with asyncio.timeout(5):
        await reader.read()
    writer.close()
    (task,) = served.ended
    assert task.exception() is None


async def test_it_ends_though_a_scrape_does_not() -> None:
    scraping = asyncio.Event()

    async def scrape() -> bytes:
        scraping.set()
        await asyncio.Event().wait()
        return TEXT

    loop = asyncio.get_running_loop()
    async with asyncio.timeout(20), console(scrape=scrape) as served:
        _, writer = await served.connection()
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await scraping.wait()
        ending_at = loop.time()
    assert loop.time() - ending_at < STOP_SECONDS + 2
    writer.close()


async def test_a_server_that_cannot_start_is_told_instead_of_awaited(monkeypatch: pytest.MonkeyPatch) -> None:
    async def startup(*_: Any, **__: Any) -> None:
        raise RuntimeError("no loop for it")

    monkeypatch.setattr(uvicorn.Server, "startup", startup)
    async with asyncio.timeout(5):
        with pytest.raises(ConsoleBrokenError, match=r"in its console \(RuntimeError: no loop for it\)"):
            await enters(0)


@pytest.mark.parametrize("how", ["by itself", "RuntimeError: a fault of ours"])
async def test_a_server_that_ends_while_it_should_serve_is_told(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = asyncio.Event()

    async def main_loop(_: Any) -> None:
        await over.wait()
        if how != "by itself":
            raise RuntimeError("a fault of ours")

    monkeypatch.setattr("sync.console.serving._Server.main_loop", main_loop)
    told: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()
    app = create_console(scraped, lambda: True, None)
    async with serving(app, "127.0.0.1", 0, lambda task: told.set_result(task.exception())):
        assert not told.done()
        over.set()
        error = await asyncio.wait_for(told, 5)
    assert isinstance(error, ConsoleBrokenError)
    assert how in str(error)
