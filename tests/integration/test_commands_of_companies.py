"""Which company a command asks the worker for."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import structlog
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from receiver.local import serve_locally
from receiver.settings import Settings
from sync.cli.owner import ask, worker_client
from sync.mirror.store import OWNER


@pytest.fixture
async def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Path]:
    """A directory with a worker that answers with the path that it was asked at."""

    async def echo(scope: Scope, receive: Receive, send: Send) -> None:
        await JSONResponse({"path": scope["path"]})(scope, receive, send)

    monkeypatch.chdir(tmp_path)
    for name in ("KOUNTA_COMPANY_ID", "MIRROR_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MIRROR_DATA_DIR", ".")
    before = structlog.get_config()
    async with serve_locally(echo, tmp_path, OWNER):
        yield tmp_path
    structlog.configure(**before)  # a command is silent, the tests after this one are not


async def path_asked(company_id: int | None) -> str:
    client = worker_client(Settings.load(company_id))
    assert client is not None
    async with client:
        return str((await ask(client, "/customers/get", {}))["path"])


async def test_where_there_is_one_company_nothing_names_it(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "mirror.toml").write_text("[companies.2]\n")
    assert await path_asked(None) == "/customers/get"
    (place / "mirror.toml").unlink()
    monkeypatch.setenv("KOUNTA_COMPANY_ID", "5678")
    assert await path_asked(None) == "/customers/get"


async def test_where_there_are_several_the_path_names_the_one_that_is_meant(place: Path) -> None:
    (place / "mirror.toml").write_text("[companies.1]\n[companies.2]\n")
    assert await path_asked(2) == "/companies/2/customers/get"
