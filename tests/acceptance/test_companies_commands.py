"""Two companies in one directory, each with a Kounta of its own: commands say which one they mean."""

import json
import signal
from pathlib import Path
from typing import Any

import httpx2
import pytest

from receiver.signature import sign
from sync.sandbox import Faults, Sandbox, Settings, serving

SEVERAL = "Several companies are configured (11, 22): say which with --company ID."
BODY = b'{"id": 1, "first_name": "Jamie"}'


def table(id_: int, url: str) -> str:
    return (
        f'[companies.{id_}]\napi_url = "{url}"\nclient_id = "client-{id_}"\n'
        f'client_secret_env = "SECRET_{id_}"\nsignature_tokens_file = "token-{id_}"\n'
    )


def add(directory: Path, id_: int, url: str) -> None:
    """Add a company to mirror.toml."""
    (directory / f"token-{id_}").write_text(f"token-of-{id_}\n")
    with (directory / "mirror.toml").open("a") as file:
        file.write(table(id_, url))


@pytest.fixture
async def street(shop: Any) -> Any:
    """A directory with the companies 11, of two customers, and 22, of five."""
    shop.settings = {"KOUNTA_REQUESTS_PER_MINUTE": "100000", "MIRROR_READ_LAG_SECONDS": "0"}
    for id_, customers in ((11, 2), (22, 5)):
        options: dict[str, Any] = {"client_id": f"client-{id_}", "client_secret": f"secret-{id_}"}
        sandbox = Sandbox(
            Settings(company_id=id_, requests_per_minute=100_000, list_shape="complete", **options),
            Faults(),
            seed=id_,
            customers=customers,
        )
        add(shop.directory, id_, await shop.stack.enter_async_context(serving(sandbox)))
        shop.settings[f"SECRET_{id_}"] = f"secret-{id_}"
    return shop


async def typed(street: Any, command: str) -> tuple[int, str, str]:
    """Give exit code, stdout and stderr of a command."""
    process = await street.type(command)
    return process.child.returncode or 0, process.out, "\n".join(process.sentences)


async def post(port: int, id_: int) -> int:
    """Deliver to a company's URL, signed with its token; give the status of the answer."""
    headers = {"X-Kounta-Signature": sign(BODY, f"token-of-{id_}".encode())}
    url = f"http://127.0.0.1:{port}/webhooks/{id_}/customers/updated"
    async with httpx2.AsyncClient(trust_env=False) as client:
        return (await client.post(url, content=BODY, headers=headers)).status_code


@pytest.mark.parametrize("command", ["reconcile", "status --json", "customers get 1"])
async def test_a_command_that_does_not_say_which_is_refused(street: Any, command: str) -> None:
    assert await typed(street, command) == (2, "", SEVERAL)


async def test_each_company_is_asked_and_mirrored_for_itself(street: Any) -> None:
    for id_, customers in ((11, 2), (22, 5)):
        code, out, _ = await typed(street, f"reconcile --company {id_} --json")
        assert (code, json.loads(out)["created"]) == (0, customers)
    rows = street.rows("SELECT company_id, count(*) AS customers FROM customers GROUP BY company_id")
    assert rows == [{"company_id": 11, "customers": 2}, {"company_id": 22, "customers": 5}]
    code, out, complaint = await typed(street, "status")
    assert (code, complaint) == (0, "")
    assert [line.split()[0] for line in out.splitlines()] == ["11", "22"]
    code, out, _ = await typed(street, "status --json --company 22")
    assert json.loads(out)["customers"]["live"] == 5


async def test_status_of_several_ends_with_the_worst(street: Any) -> None:
    await street.type("reconcile --company 11")
    code, out, _ = await typed(street, "status --check")
    assert code > 0
    assert len(out.splitlines()) == 2


async def test_a_worker_of_another_company_does_not_answer_for_this_one(street: Any) -> None:
    process = await street.start("worker --company 11")
    await process.says("worker_started")
    code, out, complaint = await typed(street, "customers list --company 22 --json")
    assert (code, out) == (1, "")
    assert complaint.startswith("The worker that runs does not serve this company")


async def test_the_receiver_takes_up_a_company_while_it_runs(street: Any) -> None:
    process = await street.start("receiver --port 0")
    port = (await process.says("receiver_started"))["port"]
    assert [await post(port, id_) for id_ in (11, 22, 33)] == [200, 200, 404]
    add(street.directory, 33, "http://127.0.0.1:9")
    assert (await process.says("companies_changed"))["added"] == [33]
    assert [await post(port, id_) for id_ in (11, 22, 33)] == [200, 200, 200]
    (street.directory / "mirror.toml").write_text("[companies.")
    assert (await process.says("companies_refused"))["message"].startswith(
        "The file mirror.toml is not TOML: "
    )
    assert [await post(port, id_) for id_ in (11, 22, 33)] == [200, 200, 200]
    assert (await process.stops(signal.SIGTERM))[0] == 0


async def test_the_receiver_of_one_company_alone_serves_no_other(street: Any) -> None:
    process = await street.start("receiver --port 0 --company 22")
    port = (await process.says("receiver_started"))["port"]
    assert [await post(port, id_) for id_ in (11, 22)] == [404, 200]


async def test_a_mistake_in_the_file_is_one_sentence(street: Any) -> None:
    with (street.directory / "mirror.toml").open("a") as file:
        file.write('client_secret = "hunter2"\n')
    for command in ("receiver", "status", "reconcile --company 11", "migrate"):
        code, out, complaint = await typed(street, command)
        assert (code, out) == (2, "")
        assert complaint.startswith(
            "In mirror.toml, company 22: client_secret is a secret, which this file must"
        )
        assert "hunter2" not in complaint
        assert "\n" not in complaint
