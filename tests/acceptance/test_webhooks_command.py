"""`kounta-mirror webhooks …` as a person types it, with and without a worker, against the local Kounta."""

import asyncio
import json
from contextlib import AsyncExitStack
from typing import Any

import pytest

TOPICS = ["customers/created", "customers/deleted", "customers/updated"]


def registered(shell: Any) -> dict[int, str]:
    return {webhook.id: webhook.topic for webhook in shell.sandbox.company.webhooks}


@pytest.fixture
async def shell(open_shell: Any) -> Any:
    return await open_shell(
        customers=1,
        KOUNTA_SIGNATURE_TOKENS="sandbox-signature-token",
        MIRROR_PUBLIC_URL="https://mirror.example/shop/",
    )


def is_one_sentence(complaint: str) -> bool:
    return complaint.count("\n") == 1 and "Traceback" not in complaint and "sandbox-secret" not in complaint


async def whole_life(shell: Any) -> None:
    other = shell.sandbox.company.webhooks.register(
        "sandbox-client", {"topic": "customers/updated", "address": "https://other.example"}, 0
    ).id
    made = await shell.json("webhooks ensure")
    assert [row["topic"] for row in made["webhooks"]] == TOPICS
    assert sorted(made["registered"]) == sorted(row["id"] for row in made["webhooks"])
    assert {row["address"] for row in made["webhooks"]} == {
        f"https://mirror.example/shop/webhooks/5678/{topic}" for topic in TOPICS
    }
    rows = await shell.json("webhooks list")
    assert {row["id"]: row["owner"] for row in rows} == {
        other: "another",
        **dict.fromkeys(made["registered"], "ours"),
    }
    adopted = await shell.json(f"webhooks ensure --adopt {other}")
    assert adopted["adopted"] == [other]
    assert len(registered(shell)) == 3
    removed = await shell.json("webhooks remove")
    assert sorted(removed["removed"]) == sorted(row["id"] for row in adopted["webhooks"])
    assert registered(shell) == {}


async def test_the_commands_become_the_owner_when_no_worker_runs(shell: Any) -> None:
    await whole_life(shell)


async def test_the_commands_ask_the_worker_that_runs(shell: Any) -> None:
    async with shell.running("worker"):
        await whole_life(shell)


async def test_what_a_person_reads(shell: Any) -> None:
    code, out, complaint = await shell.type("webhooks list")
    assert (code, out.split()) == (0, ["id", "whose", "topic", "address", "format"])
    assert "webhooks ensure" in complaint
    code, out, _ = await shell.type("webhooks ensure")
    assert code == 0
    assert [line.split()[1] for line in out.splitlines()] == ["was", "registered", "registered", "registered"]
    _, out, _ = await shell.type("webhooks ensure")
    assert out.count("right already") == 3
    first, *_ = registered(shell)
    shell.sandbox.company.webhooks.drop(first)
    double = shell.sandbox.company.webhooks.register(
        "sandbox-client",
        {
            "topic": "customers/updated",
            "address": "https://mirror.example/shop/webhooks/5678/customers/updated",
            "filter": {"attributes": ["name"]},
        },
        0,
    ).id
    code, out, complaint = await shell.type("webhooks list")
    assert code == 0
    assert "ours, gone" in out
    assert "another's" in out
    assert "json, filtered" in out
    assert f"--adopt {double}" in complaint
    code, out, _ = await shell.type("webhooks remove")
    assert (code, out.startswith("Removed: ")) == (0, True)
    assert list(registered(shell)) == [double]


@pytest.mark.parametrize(
    ("command", "settings", "code", "told"),
    [
        ("webhooks ensure", {"MIRROR_PUBLIC_URL": ""}, 2, "MIRROR_PUBLIC_URL is not set"),
        ("webhooks test", {"MIRROR_PUBLIC_URL": ""}, 2, "MIRROR_PUBLIC_URL is not set"),
        ("webhooks ensure", {"MIRROR_PUBLIC_URL": "http://mirror.example"}, 2, "unencrypted"),
        ("webhooks ensure", {"MIRROR_PUBLIC_URL": "mirror.example"}, 2, "MIRROR_PUBLIC_URL cannot be"),
        ("webhooks test", {"MIRROR_PUBLIC_URL": "https://mirror.example?x=1"}, 2, "query"),
        ("webhooks ensure", {"KOUNTA_READ_ONLY": "true"}, 2, "KOUNTA_READ_ONLY is set"),
        ("webhooks remove", {"KOUNTA_READ_ONLY": "1"}, 2, "KOUNTA_READ_ONLY is set"),
        ("webhooks list", {"KOUNTA_READ_ONLY": "perhaps"}, 2, "KOUNTA_READ_ONLY cannot be"),
        ("webhooks ensure --adopt 0", {}, 2, "adopt"),
        ("webhooks ensure --adopt 17", {}, 1, "no webhook 17 "),
        ("webhooks test --wait 0", {}, 2, "wait"),
        ("webhooks test", {"KOUNTA_SIGNATURE_TOKENS": ""}, 2, "KOUNTA_SIGNATURE_TOKENS is not set"),
        ("webhooks test", {"MIRROR_PUBLIC_URL": "https://mirror.invalid"}, 1, "dns: mirror.invalid"),
        ("webhooks ensure", {"KOUNTA_CLIENT_SECRET": "wrong"}, 1, "401"),
    ],
)
async def test_what_cannot_be_is_one_sentence(
    shell: Any, command: str, settings: dict[str, str], code: int, told: str
) -> None:
    shell.settings |= settings
    ended, out, complaint = await shell.type(command)
    assert (ended, out) == (code, "")
    assert is_one_sentence(complaint), complaint
    assert told in complaint
    assert registered(shell) == {}


@pytest.mark.parametrize("with_worker", [False, True])
async def test_an_application_without_a_right_is_told_so(shell: Any, *, with_worker: bool) -> None:
    shell.sandbox.faults.lost_access = "403"
    async with AsyncExitStack() as stack:
        if with_worker:
            await stack.enter_async_context(shell.running("worker"))
        for command in ("webhooks list", "webhooks ensure", "webhooks remove"):
            code, out, complaint = await shell.type(command)
            assert (code, out) == (1, "")
            assert is_one_sentence(complaint), complaint
            assert "have no right" in complaint


async def test_a_ping_goes_the_whole_way(shell: Any) -> None:
    async with shell.running("receiver", "--port", "0") as (_, receiver), shell.running("worker"):
        shell.settings["MIRROR_PUBLIC_URL"] = receiver["url"]
        code, out, complaint = await shell.type("webhooks test")
        assert (code, complaint) == (0, "")
        assert [line.split() for line in out.splitlines()] == [
            [hop, "ok"] for hop in ("dns", "proxy", "receiver", "inbox", "worker")
        ]
        said = await shell.json("webhooks test")
        assert said["ok"]
        (row, _) = await shell.json("deliveries list")
        assert (row["delivery_id"], row["topic"], row["verdict"]) == (said["delivery"], "ping", "unchanged")
        status = await shell.json("status")
        assert status["deliveries"]["unchanged"] == 2
        assert status["customers"]["live"] == 1


async def test_what_ensure_registers_brings_changes_into_the_mirror(shell: Any) -> None:
    async with shell.running("receiver", "--port", "0") as (_, receiver), shell.running("worker"):
        shell.settings["MIRROR_PUBLIC_URL"] = receiver["url"]
        await shell.json("webhooks ensure")
        company = shell.sandbox.company
        made = company.create({"first_name": "Jamie", "email": "jamie@kounta.example"})
        company.update(made.id, {"last_name": "McDonald"})
        company.delete(made.id)
        async with asyncio.timeout(30):
            while len(rows := await shell.json("deliveries list")) < 3:
                pass
        assert sorted((row["topic"], row["customer_id"]) for row in rows) == [
            (f"customers/{change}", made.id) for change in ("created", "deleted", "updated")
        ]


async def test_a_ping_that_ends_before_the_worker_says_so(shell: Any) -> None:
    async with shell.running("receiver", "--port", "0") as (_, receiver):
        shell.settings["MIRROR_PUBLIC_URL"] = receiver["url"]
        code, out, complaint = await shell.type("webhooks test --json")
    assert code == 1
    assert is_one_sentence(complaint)
    said = json.loads(out)
    assert (said["ok"], said["failed"], said["delivery"]) == (False, "worker", None)
    assert said["hops"] == {
        "dns": "ok",
        "tls": None,
        "proxy": "ok",
        "receiver": "ok",
        "inbox": "ok",
        "worker": "failed",
    }
    assert complaint == f"worker: {said['detail']}\n"


@pytest.mark.parametrize("command", ["", "list", "ensure", "remove", "test"])
async def test_help_asks_for_no_setting(shell: Any, command: str) -> None:
    shell.settings.clear()
    code, out, complaint = await shell.type(f"webhooks {command} --help")
    assert (code, complaint) == (0, "")
    assert "Usage:" in out
