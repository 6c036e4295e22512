"""`kounta-mirror doctor`, as it is typed: a line for each thing, and what to do where something is wrong."""

import json
from typing import Any

import pytest

from receiver.database import Server


@pytest.fixture
async def installed(shop: Any, database_kind: str, request: pytest.FixtureRequest) -> Any:
    """Receiver and worker run, and the webhooks are registered at the receiver itself."""
    await shop.open(3)
    if database_kind == "postgresql":
        place = request.getfixturevalue("place")
        assert isinstance(place, Server)
        shop.settings["DATABASE_URL"] = place.url
    receiver = await shop.receiver()
    shop.settings["MIRROR_PUBLIC_URL"] = f"http://127.0.0.1:{receiver.port}"
    worker = await shop.quiet_worker()
    assert (await shop.type("webhooks ensure")).child.returncode == 0
    shop.parts = (receiver, worker)
    return shop


async def examined(shop: Any) -> tuple[int, dict[str, list[dict[str, Any]]]]:
    """Give the exit code, and what was found: check -> its findings."""
    typed = await shop.type("doctor --json")
    assert typed.sentences == []
    said = json.loads(typed.out)
    found: dict[str, list[dict[str, Any]]] = {}
    for one in said["findings"]:
        found.setdefault(one["check"], []).append(one)
    assert said["ok"] == (typed.child.returncode == 0)
    return typed.child.returncode, found


async def test_an_installation_that_works_has_nothing_that_failed(installed: Any, database_kind: str) -> None:
    code, found = await examined(installed)
    assert code == 0
    for check in ("directory", "modes", "database", "receiver", "worker", "credentials", "clock", "webhooks"):
        assert [one["outcome"] for one in found[check]] == ["ok"], found[check]
    (way,) = found["public URL"]
    assert way["sentence"].endswith("receiver, inbox, worker.")
    (database,) = found["database"]
    assert database["sentence"].startswith({"sqlite": "SQLite 3", "postgresql": "PostgreSQL "}[database_kind])


async def test_what_does_not_work_is_found_with_what_to_do(installed: Any) -> None:
    receiver, worker = installed.parts
    assert (await receiver.process.stops())[0] == 0
    assert (await worker.stops())[0] == 0
    installed.settings["KOUNTA_CLIENT_SECRET"] = "wrong"
    code, found = await examined(installed)
    assert code == 1
    assert found["credentials"][0]["outcome"] == "failed"
    assert found["credentials"][0]["action"].startswith("kounta-mirror init")
    assert "receiver" in found["public URL"][0]["sentence"]
    assert found["receiver"][0]["action"].endswith("kounta-mirror receiver")


@pytest.mark.parametrize("database_kind", ["sqlite"])
async def test_a_damaged_file_is_found(installed: Any) -> None:
    for process in (installed.parts[0].process, installed.parts[1]):
        assert (await process.stops())[0] == 0
    path = installed.directory / "data/mirror.db"
    content = bytearray(path.read_bytes())
    for place in range(4096 * 3, len(content), 4096):
        content[place : place + 512] = b"\xff" * 512
    path.write_bytes(content)
    typed = await installed.type("doctor")
    assert typed.child.returncode == 1
    (line,) = [one for one in typed.out.splitlines() if "It is damaged" in one]
    assert line.endswith("→ stop the worker, then kounta-mirror rebuild")


async def test_without_settings_it_says_which_are_missing(shop: Any) -> None:
    typed = await shop.type("doctor")
    assert typed.child.returncode == 1
    assert "KOUNTA_SIGNATURE_TOKENS is not set" in typed.out
    assert "KOUNTA_CLIENT_ID is not set" in typed.out
