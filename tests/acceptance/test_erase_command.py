"""`erase` as a person types it, beside real processes, which may run, be away, or be killed."""

import asyncio
import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from receiver.signature import sign
from tests import forks
from tests.people import ANN, BOB, KEY, person

TOKEN = "sandbox-signature-token"


@pytest.fixture
async def kept(shop: Any) -> Any:
    await shop.open(3)
    shop.settings["MIRROR_SECRET_KEY"] = KEY
    return shop


async def deliver(receiver: Any, customer: dict[str, Any], topic: str = "updated") -> str:
    body = json.dumps(customer).encode()
    url = f"http://127.0.0.1:{receiver.port}/webhooks/5678/customers/{topic}"
    headers = {"X-Kounta-Signature": sign(body, TOKEN.encode())}
    async with httpx2.AsyncClient(trust_env=False) as client:
        answer = await client.post(url, content=body, headers=headers)
    return str(answer.json()["delivery"])


async def know(shop: Any, *people: dict[str, Any]) -> Any:
    """Start both processes, and let the mirror know these; give the receiver."""
    receiver = await shop.receiver()
    await shop.quiet_worker()
    for one in people:
        delivery = await deliver(receiver, one)
        await shop.until(
            lambda name=delivery: shop.rows("SELECT 1 FROM delivery_verdicts WHERE delivery_id = ?", name)
        )
    return receiver


def traces(shop: Any, *words: str) -> dict[str, list[str]]:
    """Say in which files of the data directory one of these stands, as bytes."""
    files = [path for path in (shop.directory / "data").rglob("*") if path.is_file()]
    found = {path.name: path.read_bytes() for path in files}
    return {
        name: [word for word in words if word.encode() in content]
        for name, content in found.items()
        if any(word.encode() in content for word in words)
    }


@contextmanager
def reading(path: Path) -> Iterator[None]:
    with closing(sqlite3.connect(path, isolation_level=None)) as session:
        session.execute("BEGIN")
        session.execute("SELECT count(*) FROM sqlite_master").fetchone()
        yield


async def said(shop: Any, command: str) -> Any:
    typed = await shop.type(f"{command} --json")
    assert (typed.child.returncode, typed.sentences) == (0, [])
    return json.loads(typed.out)


async def test_no_file_holds_anything_of_a_person_who_was_erased(kept: Any) -> None:
    receiver = await know(
        kept, person(ANN, "qzann"), person(BOB, "qzbob"), person(ANN, "qzann", phone="qz-2")
    )
    assert traces(kept, "qzann")
    receipt = await said(kept, f"erase {ANN} --yes")
    assert (receipt["complete"], receipt["inbox"], receipt["mirror"]["customers"]) == (True, {"bodies": 2}, 1)
    assert traces(kept, "qzann", "qz-2", str(ANN)) == {}
    assert traces(kept, "qzbob")

    later = await deliver(receiver, person(ANN, "qzann"))
    verdict = "SELECT verdict, reason, customer_id FROM delivery_verdicts WHERE delivery_id = ?"
    await kept.until(lambda: kept.rows(verdict, later))
    assert kept.rows(verdict, later) == [{"verdict": "stale", "reason": "erased", "customer_id": None}]
    await kept.until(lambda: not traces(kept, "qzann", str(ANN)))
    shown = await said(kept, f"deliveries show {later}")
    assert (shown["body"], list(shown["headers"])) == (None, ["erased"])

    told = f"Customer {ANN} was erased at {receipt['erased_at']}, and is kept out."
    history = await kept.type(f"history {ANN}")
    assert (history.child.returncode, history.sentences) == (0, [told])
    assert "erased by erasure" in history.out
    explained = await said(kept, f"explain {ANN}")
    assert explained["sentence"].startswith(f"Customer {ANN} was erased at ")
    assert (explained["customer"], explained["deliveries"]) == (None, [])


async def test_it_is_done_without_any_process_too(kept: Any) -> None:
    receiver = await know(kept, person(ANN, "qzann"))
    for process in (receiver.process, *kept.processes):
        if process.lives:
            await process.stops()
    erased = await kept.type(f"erase {ANN} --yes")
    assert (erased.child.returncode, erased.sentences) == (0, [])
    assert f"Customer {ANN} was erased at " in erased.out
    assert "       1 bodies of deliveries" in erased.out
    assert traces(kept, "qzann", str(ANN)) == {}


async def test_it_says_so_while_a_reader_keeps_old_pages_and_completes_when_said_again(kept: Any) -> None:
    await know(kept, person(ANN, "qzann"))
    with reading(kept.directory / "data/mirror.db"):
        erased = await kept.type(f"erase {ANN} --yes --json")
        assert erased.child.returncode == 1
        (sentence,) = erased.sentences
        assert "The erasure is not complete. A reader keeps old pages of " in sentence
        assert json.loads(erased.out)["complete"] is False
    assert (await said(kept, f"erase {ANN} --yes"))["complete"] is True
    assert traces(kept, "qzann", str(ANN)) == {}


async def test_the_worker_completes_what_a_killed_command_has_begun(kept: Any) -> None:
    receiver = await know(kept, person(ANN, "qzann"))
    for process in (receiver.process, *kept.processes):
        if process.lives:
            await process.stops()
    with reading(kept.directory / "data/inbox.db"):
        command = await kept.start(f"erase {ANN} --yes")
        marked = kept.directory / "data/erased.jsonl"
        await kept.until(marked.exists)
        await command.is_killed()
        assert traces(kept, "qzann")
    await kept.receiver()
    await kept.worker()
    await kept.until(lambda: kept.rows("SELECT * FROM _erased_customers WHERE completed_at IS NOT NULL"))
    assert traces(kept, "qzann", str(ANN)) == {}


async def test_a_person_comes_back_only_when_it_is_allowed(kept: Any) -> None:
    ann = kept.ids[0]
    await know(kept)
    await said(kept, f"erase {ann} --yes")
    report = await kept.type(f"reconcile --customer {ann}")
    assert report.child.returncode == 1
    assert any("erased" in sentence for sentence in report.sentences)
    assert (await said(kept, f"erase {ann} --allow-return"))["returns"] is True
    await kept.until(lambda: kept.rows("SELECT * FROM customers WHERE id = ?", ann))
    again = await kept.type(f"erase {ann} --allow-return")
    assert (again.child.returncode, again.sentences) == (
        1,
        [f"Customer {ann} is not kept out: it was not erased."],
    )


async def test_nobody_is_erased_whom_nobody_meant(kept: Any) -> None:
    unasked = await kept.type(f"erase {ANN}")
    assert (unasked.child.returncode, unasked.sentences) == (
        2,
        ["Nobody can be asked whether it is meant: say --yes. Nothing was erased."],
    )
    del kept.settings["MIRROR_SECRET_KEY"]
    without_key = await kept.type(f"erase {ANN} --yes")
    assert without_key.child.returncode == 2
    assert without_key.sentences[0].startswith("MIRROR_SECRET_KEY is not set.")


@pytest.mark.parametrize("typed", [str(ANN), "7"])
async def test_a_person_at_a_terminal_types_the_id(kept: Any, typed: str) -> None:
    await know(kept, person(ANN, "qzann"))
    asking, answering = os.openpty()
    try:
        os.write(asking, f"{typed}\n".encode())
        command = await forks.start(
            "erase",
            str(ANN),
            env=kept.settings,
            cwd=kept.directory,
            stdin=answering,
        )
        _, told = await asyncio.wait_for(command.communicate(), 60)
    finally:
        os.close(asking)
        os.close(answering)
    assert f"Erase customer {ANN} (qzann-first q…) for good? Type the id: " in told.decode()
    meant = typed == str(ANN)
    assert command.returncode == (0 if meant else 2)
    assert bool(kept.rows("SELECT * FROM customers WHERE id = ?", ANN)) is not meant
