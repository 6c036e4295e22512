"""The receiver of several companies: each at its own URL with its own tokens, and it need not start anew."""

import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
import uvicorn
from structlog.testing import capture_logs

from receiver.app import create_app
from receiver.connections import Limits
from receiver.database import Place, directory_of, inbox_of
from receiver.following import Companies
from receiver.inbox import InboxReader
from receiver.protocol import guarded
from receiver.server import door_of
from receiver.settings import ReceiverSettings
from receiver.signature import sign
from receiver.webhook import Webhook
from tests.places import settings_of

BODY = b'{"id": 389427, "first_name": "Jamie"}'
REFUSED = {"unknown_company": 404, "signature_invalid": 401}
TABLE = '[companies.{0}]\nsignature_tokens_file = "{0}"\n'


@dataclass
class Receiver:
    """A receiver that listens, in a directory whose files can be changed."""

    directory: Path
    http: httpx2.AsyncClient
    inbox: InboxReader
    webhook: Webhook

    def configure(self, *ids: int) -> None:
        configure(self.directory, *ids)

    async def post(self, company_id: int, token: str) -> str:
        """Deliver, signed with this token; give the reason for which it was refused, or "stored"."""
        headers = {"X-Kounta-Signature": sign(BODY, token.encode())}
        url = f"/webhooks/{company_id}/customers/updated"
        answer = await self.http.post(url, content=BODY, headers=headers)
        said = answer.json()
        assert answer.status_code == REFUSED.get(said.get("error"), 200)
        return str(said.get("error", "stored"))

    async def stored(self, company_id: int) -> int:
        return len(await self.inbox.read(company_id, 0, 1_000))

    async def until(self, company_id: int, token: str, outcome: str) -> None:
        """Deliver until this becomes of it."""
        async with asyncio.timeout(10):
            while await self.post(company_id, token) != outcome:  # noqa: ASYNC110 - nothing tells it
                await asyncio.sleep(0.005)


def configure(directory: Path, *ids: int) -> None:
    """Write a mirror.toml; each company's token lies in a file that is named as it is."""
    for id_ in ids:
        (directory / str(id_)).write_text(f"token-{id_}")
    (directory / "mirror.toml").write_text("".join(TABLE.format(id_) for id_ in ids))


@pytest.fixture
async def receiver(place: Place, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Receiver]:
    """A receiver of the companies 1 and 22."""
    directory = directory_of(place)
    monkeypatch.chdir(directory)
    for name in ("KOUNTA_COMPANY_ID", "KOUNTA_SIGNATURE_TOKENS", "MIRROR_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in settings_of(place).items():
        monkeypatch.setenv(name, value)
    configure(directory, 1, 22)
    app = create_app(Companies(ReceiverSettings, look_seconds=0.005))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        config = uvicorn.Config(
            app, http=guarded(door_of(app, Limits())), lifespan="off", log_config=None, access_log=False
        )
        server = uvicorn.Server(config)
        async with app.router.lifespan_context(app):
            serving = asyncio.create_task(server._serve([listener]))
            async with (
                httpx2.AsyncClient(base_url=url, trust_env=False) as http,
                InboxReader.open(inbox_of(place)) as inbox,
            ):
                yield Receiver(directory, http, inbox, app.state.webhook)
            server.should_exit = True
            await serving


async def test_each_company_has_its_url_and_its_token(receiver: Receiver) -> None:
    assert await receiver.post(1, "token-1") == "stored"
    assert await receiver.post(22, "token-22") == "stored"
    assert await receiver.post(22, "token-1") == "signature_invalid"
    assert await receiver.post(1, "token-22") == "signature_invalid"
    assert await receiver.post(2, "token-22") == "unknown_company"
    assert (await receiver.stored(1), await receiver.stored(22)) == (1, 1)


async def test_a_company_is_served_soon_after_it_was_written_down(receiver: Receiver) -> None:
    assert await receiver.post(3, "token-3") == "unknown_company"
    receiver.configure(1, 22, 3)
    await receiver.until(3, "token-3", "stored")
    assert await receiver.stored(3) == 1
    assert await receiver.post(1, "token-1") == "stored"


async def test_a_company_that_is_gone_is_refused(receiver: Receiver) -> None:
    receiver.configure(1)
    await receiver.until(22, "token-22", "unknown_company")
    assert await receiver.post(1, "token-1") == "stored"


async def test_a_token_is_rotated_without_a_refusal(receiver: Receiver) -> None:
    (receiver.directory / "1").write_text("token-1,next")
    await receiver.until(1, "next", "stored")
    assert await receiver.post(1, "token-1") == "stored"
    (receiver.directory / "1").write_text("next")
    await receiver.until(1, "token-1", "signature_invalid")
    assert await receiver.post(1, "next") == "stored"


async def test_a_broken_file_changes_nothing_and_is_told_once(receiver: Receiver) -> None:
    with capture_logs() as log:
        (receiver.directory / "mirror.toml").write_text("[companies.1]\nsignature_tokens = 'hunter2'\n")
        async with asyncio.timeout(10):
            while not log:  # noqa: ASYNC110 - a log tells nobody
                await asyncio.sleep(0.005)
        assert await receiver.post(1, "token-1") == "stored"
        assert await receiver.post(22, "token-22") == "stored"
        receiver.configure(1, 22, 3)
        await receiver.until(3, "token-3", "stored")
    actions = [line["action"] for line in log]
    assert [action for action in actions if action != "requests_refused"] == [
        "companies_refused",
        "companies_accepted",
        "companies_changed",
    ]
    assert "mirror.toml, company 1: signature_tokens is a secret" in log[0]["event"]
    assert "hunter2" not in str(log)


async def test_what_is_on_its_way_while_its_company_goes_is_answered(receiver: Receiver) -> None:
    arrived = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield BODY[:5]
        await arrived.wait()
        yield BODY[5:]

    headers = {"X-Kounta-Signature": sign(BODY, b"token-22")}
    url = "/webhooks/22/customers/updated"
    delivering = asyncio.create_task(receiver.http.post(url, content=body(), headers=headers))
    async with asyncio.timeout(10):
        while not receiver.webhook._reading:  # noqa: ASYNC110 - the body waits, and tells nobody
            await asyncio.sleep(0.005)
    receiver.configure(1)
    await receiver.until(22, "token-22", "unknown_company")
    arrived.set()
    assert (await delivering).status_code == 200


async def test_following_that_breaks_is_told_at_once_and_raised_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise ZeroDivisionError

    monkeypatch.chdir(tmp_path)
    configure(tmp_path, 1)
    companies = Companies(ReceiverSettings, look_seconds=0.001)
    monkeypatch.setattr(companies, "look", broken)
    app = create_app(companies)

    async def run() -> None:
        async with app.router.lifespan_context(app), asyncio.timeout(10):
            while not log:  # noqa: ASYNC110 - a log tells nobody
                await asyncio.sleep(0.001)
            assert app.state.inbox.ready

    with capture_logs() as log, pytest.raises(ZeroDivisionError):
        await run()
    assert [line["action"] for line in log] == ["following_broken"]
