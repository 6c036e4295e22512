"""`kounta-mirror customers …` as a person types it, with and without a worker, against the local Kounta."""

import asyncio
import json
import shlex
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, closing
from typing import Any

import pytest

JAMIE = (
    "--first-name Jamie --last-name McDonald --email j+m@shop.example --phone '02 8765 4321' "
    "--mobile '+61 400 000 001' --tags 'vip, gold' --reference-id 00123 --accepts-marketing "
    """--primary-address '{"address": "1 George St", "city": "Sydney", "country": "AU"}'"""
)


def row_of(shell: Any, customer_id: int) -> dict[str, Any]:
    with closing(sqlite3.connect(f"file:{shell.directory / 'data/mirror.db'}?mode=ro", uri=True)) as mirror:
        mirror.row_factory = sqlite3.Row
        return dict(mirror.execute("SELECT * FROM customers WHERE id = ?", [customer_id]).fetchone())


@pytest.fixture
async def shell(open_shell: Any) -> Any:
    return await open_shell("customers", customers=60, MIRROR_SWEEP_SECONDS="86400")


@pytest.fixture(params=["with a worker", "without one"])
async def either(shell: Any, request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    async with AsyncExitStack() as stack:
        if request.param == "with a worker":
            await stack.enter_async_context(shell.running("worker"))
        yield shell


async def test_a_customer_is_created_found_updated_and_in_the_mirror(either: Any) -> None:
    jamie = await either.json(f"create {JAMIE}")
    assert (jamie["first_name"], jamie["tags"], jamie["accepts_marketing"]) == (
        "Jamie",
        ["vip", "gold"],
        True,
    )
    row = row_of(either, jamie["id"])
    assert (row["email"], row["primary_city"], row["reference_id"]) == ("j+m@shop.example", "Sydney", "00123")

    ways = (
        "--email j+m@shop.example",
        "--mobile '+61 400 000 001'",
        "--first-name Jamie --last-name McDonald --phone '02 8765 4321'",
    )
    for way in ways:
        assert (await either.json(f"find {way}"))["id"] == jamie["id"]
    assert [one["id"] for one in await either.json("find --reference-id 00123")] == [jamie["id"]]
    assert (await either.json(f"get {jamie['id']}"))["phone"] == "02 8765 4321"

    changed = await either.json(f"update {jamie['id']} --tags gold --clear last_name,primary_address")
    assert (changed["tags"], changed["last_name"], changed["primary_address"]) == (["gold"], None, None)
    row = row_of(either, jamie["id"])
    assert (row["tags"], row["last_name"], row["primary_city"]) == ('["gold"]', None, None)


async def test_an_address_alone_is_updated(shell: Any) -> None:
    known = next(iter(shell.sandbox.company.customers))
    address = json.dumps({"city": "Auckland", "country": "NZ"})
    await shell.json(f"update {known.id} --shipping-address {shlex.quote(address)}")
    now = shell.sandbox.company.customer(known.id)
    assert (now.first_name, dict(now.shipping_address or {})) == (
        known.first_name,
        {"city": "Auckland", "country": "NZ"},
    )


async def test_every_field_of_the_seed_has_a_flag(either: Any) -> None:
    address = {
        "address": "1 George St",
        "city": "Sydney",
        "state": "NSW",
        "postal_code": "0200",
        "country": "AU",
    }
    old: dict[str, Any] = {
        "first_name": "Jamie",
        "last_name": "McDonald",
        "phone": "02 8765 4321",
        "mobile": "+61 400 000 001",
        "email": "j+m@shop.example",
        "tags": ["vip", "gold"],
        "image": "https://img.example/1.png",
        "primary_address": address,
        "shipping_address": address | {"city": "Auckland", "country": "NZ"},
        "reference_id": "00123456789012345678901",
        "accepts_marketing": True,
    }
    new: dict[str, Any] = {
        "first_name": 'J\'amie "J" 🦘',
        "last_name": "O'Neill",
        "phone": "1",
        "mobile": "2",
        "email": "new@shop.example",
        "tags": ["new"],
        "image": "https://img.example/2.png",
        "primary_address": {"city": "Perth", "country": "AU"},
        "shipping_address": {"city": "Apia", "country": "WS"},
        "reference_id": "000",
        "accepts_marketing": False,
    }
    made = await either.json(f"create {as_flags(old)}")
    assert {name: made[name] for name in old} == old
    truth = either.sandbox.company.customer(made["id"]).seen_by("sandbox-client")
    assert truth == {"id": made["id"], **old}
    changed = await either.json(f"update {made['id']} {as_flags(new)}")
    truth = either.sandbox.company.customer(made["id"]).seen_by("sandbox-client")
    assert truth == {"id": made["id"], **new}
    assert {name: value for name, value in changed.items() if not name.endswith("_at")} == truth
    row = row_of(either, made["id"])
    assert (row["shipping_city"], row["reference_id"], row["accepts_marketing"]) == ("Apia", "000", 0)


def as_flags(fields: dict[str, Any]) -> str:
    """Give a customer as a person types it."""

    def typed(name: str, value: Any) -> str:
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            return f"--{flag}" if value else f"--no-{flag}"
        if isinstance(value, list):
            value = ",".join(value)
        return f"--{flag} {shlex.quote(json.dumps(value) if isinstance(value, dict) else value)}"

    return " ".join(typed(name, value) for name, value in fields.items())


async def test_a_reference_id_finds_all_who_share_it(shell: Any) -> None:
    made = [
        shell.sandbox.company.create({"first_name": name, "reference_id": "ABC123"}).id
        for name in ("Ana", "Bo")
    ]
    assert [one["id"] for one in await shell.json("find --reference-id ABC123")] == made
    ana = await shell.json(f"get {made[0]}")
    assert (ana["first_name"], ana["reference_id"]) == ("Ana", "ABC123")
    others = next(iter(shell.sandbox.company.customers)).id
    shell.sandbox.company.update(others, {"reference_id": ""})
    assert (await shell.json(f"get {others}"))["reference_id"] == ""


async def test_every_customer_is_listed(either: Any) -> None:
    listed = await either.json("list")
    assert [one["id"] for one in listed] == [one.id for one in either.sandbox.company.customers]
    assert len(await either.json("list --limit 30")) == 30


async def test_nobody_found_is_an_empty_array_or_exit_1(shell: Any) -> None:
    assert await shell.json("find --reference-id nobody") == []
    for command in ("find --email nobody@shop.example", "get 9", "find --mobile 1 --json"):
        code, out, complaint = await shell.type(command)
        assert (code, out) == (1, "")
        assert complaint.startswith("Kounta has no ")


async def test_people_see_tables(shell: Any) -> None:
    shell.sandbox.company.create({"first_name": "[red]\x1b[1mJamie", "email": "j@shop.example"})
    code, out, _ = await shell.type("find --email j@shop.example")
    assert code == 0
    assert "first_name         [red] [1mJamie\n" in out
    assert "updated_at" not in out
    code, out, _ = await shell.type("list --limit 2")
    assert [line.split()[0] for line in out.splitlines()] == [
        "id",
        *(str(one.id) for one in list(shell.sandbox.company.customers)[:2]),
    ]


async def test_a_read_only_mirror_writes_nothing(shell: Any) -> None:
    shell.settings["KOUNTA_READ_ONLY"] = "true"
    for command in (f"create {JAMIE}", "update 7 --phone 1"):
        code, _, complaint = await shell.type(command)
        assert (code, shell.sandbox.calls.total) == (2, 0)
        assert "KOUNTA_READ_ONLY is set" in complaint


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (f"create {JAMIE}", "may have been made: start the worker, and look for it"),
        ("update ID --phone 1", "may have been changed"),
        ("get ID", "The worker ended before it had answered"),
    ],
)
async def test_a_worker_that_is_killed_meanwhile_leaves_no_false_advice(
    shell: Any, command: str, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = next(iter(shell.sandbox.company.customers)).id
    asked, begin = asyncio.Event(), shell.sandbox.calls.begin

    def noted(kind: str) -> Any:
        if kind in {"create", "update", "get"}:
            asked.set()
        return begin(kind)

    async with shell.running("worker") as (worker, _):
        monkeypatch.setattr(shell.sandbox.calls, "begin", noted)
        shell.sandbox.faults.hangs = 1.0
        typed = asyncio.create_task(shell.type(command.replace("ID", str(known))))
        await asyncio.wait_for(asked.wait(), 30)
        worker.kill()
        code, out, complaint = await typed
    assert (code, out) == (1, "")
    assert sentence in complaint
    assert complaint.count("\n") == 1


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("find --first-name Jamie", "Missing: --last-name, --phone"),
        ("create --first-name Jamie", "needs an e-mail address or a phone"),
        ("""update 7 --shipping-address '{"country": "Australia"}'""", "AU is meant"),
        ("update 7", "would update nothing"),
        ("update 7 --mobile-phone 1", "Unknown option"),
    ],
)
async def test_what_cannot_be_right_is_refused_before_kounta_is_asked(
    shell: Any, command: str, sentence: str
) -> None:
    code, out, complaint = await shell.type(command)
    assert (code, out, shell.sandbox.calls.total) == (2, "", 0)
    assert sentence in complaint
    assert complaint.count("\n") == 1


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("update 9 --phone 1", "There is no customer 9"),
        ("list", "answered 403"),
        ("get 9", "answered 403"),
        (f"create {JAMIE}", "answered 401"),
    ],
)
async def test_what_kounta_refuses_is_one_sentence_and_exit_1(
    either: Any, command: str, sentence: str
) -> None:
    status = sentence.removeprefix("answered ")
    if status != sentence:
        either.sandbox.change(either.sandbox.faults, {"lost_access": status})
    code, out, complaint = await either.type(command)
    assert (code, out) == (1, "")
    assert sentence in complaint
    assert complaint.count("\n") == 1
