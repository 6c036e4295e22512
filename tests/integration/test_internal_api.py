"""The worker's local socket, asked for what its schema allows and does not: no fault, no surprise."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn
from starlette.routing import Route

from receiver.database import Place
from sync.console.api import create_api
from sync.console.schema import ENDPOINTS, openapi
from sync.engine import open_engine
from sync.kounta import Retries
from sync.mirror.store import Mirror
from sync.sandbox import Faults, Sandbox, Settings, serving
from sync.settings import WorkerSettings
from tests.budget import LONG
from tests.places import settings_of
from tests.stores import take_writes


@dataclass
class Served:
    """The API of a company of five customers, over HTTP on loopback."""

    url: str
    mirror: Mirror


@pytest.fixture
async def served(place: Place) -> AsyncIterator[Served]:
    async with AsyncExitStack() as stack:
        sandbox = Sandbox(Settings(requests_per_minute=100_000), Faults(), 1, 5)
        given = {
            **settings_of(place),
            "KOUNTA_COMPANY_ID": "5678",
            "KOUNTA_API_URL": await stack.enter_async_context(serving(sandbox)),
            "KOUNTA_CLIENT_ID": "sandbox-client",
            "KOUNTA_CLIENT_SECRET": "sandbox-secret",
            "KOUNTA_REQUESTS_PER_MINUTE": "100000",
            "MIRROR_READ_LAG_SECONDS": "0",
            "MIRROR_SECRET_KEY": "0123456789abcdef0123456789abcdef",
        }
        settings = WorkerSettings.model_validate(given)
        opened = open_engine(settings, "the test", retries=Retries.sleepless(patience=3))
        engine = await stack.enter_async_context(opened)
        app = create_api(engine)
        server = uvicorn.Server(uvicorn.Config(app, port=0, lifespan="off", log_config=None))
        running = asyncio.create_task(server.serve())
        while not server.started:  # noqa: ASYNC110 - uvicorn tells nobody
            await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield Served(f"http://127.0.0.1:{port}", engine.mirror)
        server.should_exit = True
        await running


@pytest.fixture
def url(served: Served) -> str:
    return served.url


def test_the_schema_has_every_route_and_no_other() -> None:
    engine: Any = None  # nothing is asked of it
    routes = create_api(engine).routes
    assert {route.path for route in routes if isinstance(route, Route)} == ENDPOINTS.keys()


@pytest.mark.parametrize("database_kind", ["sqlite", "postgresql"] if LONG else ["sqlite"])
async def test_whatever_is_asked_it_answers_as_documented(url: str, tmp_path: Path) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text(json.dumps(openapi()))
    tried = await asyncio.create_subprocess_exec(
        *(str(Path(sys.executable).with_name("schemathesis")), "run", str(schema), "--url", url),
        *("--checks", "not_a_server_error,status_code_conformance,content_type_conformance"),
        *("--phases", "examples,coverage,fuzzing", "--max-examples", "8", "--seed", "1"),
        *("--generation-database", "none", "--exclude-path", "/reconcile", "--exclude-path", "/rebuild"),
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await asyncio.wait_for(tried.communicate(), 240)
    assert tried.returncode == 0, out.decode()


@pytest.mark.parametrize("path", ["/reconcile", "/rebuild"])
async def test_what_takes_long_answers_in_lines_and_refuses_what_cannot_be(url: str, path: str) -> None:
    async with httpx2.AsyncClient(trust_env=False, timeout=60) as client:
        answer = await client.post(url + path, json={})
        assert answer.status_code == 200
        assert json.loads(answer.text.splitlines()[-1])["report"]["failed"] == 0
        wrong = await client.post(f"{url}/reconcile", content=b'{"allow_deletes": -1}')
        assert (wrong.status_code, list(wrong.json())) == (422, ["error"])


@pytest.mark.parametrize("path", ["/erase", "/reconcile", "/rebuild"])
async def test_a_database_that_cannot_be_used_is_one_sentence(served: Served, path: str) -> None:
    await take_writes(served.mirror, "off")
    async with httpx2.AsyncClient(trust_env=False, timeout=60) as client:
        answer = await client.post(served.url + path, json={"customer_id": 1} if path == "/erase" else {})
    await take_writes(served.mirror, "on")
    assert answer.status_code == (503 if path == "/erase" else 200)
    said = json.loads(answer.text.splitlines()[-1])["error"]
    assert said.startswith("The database cannot be used: ")
    assert said.endswith("Correct that, then try again.")
