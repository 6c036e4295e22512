"""`kounta-mirror rebuild`, as it is typed: beside a worker, without one, and with a file that is damaged."""

import json
from typing import Any

import pytest

from tests.stores import change


def spoil(shop: Any) -> None:
    """Overwrite the middle of the mirror's file, as a failing disk does."""
    path = shop.directory / "data/mirror.db"
    content = bytearray(path.read_bytes())
    for place in range(4096 * 3, len(content), 4096):
        content[place : place + 512] = b"\xff" * 512
    path.write_bytes(content)


async def rebuilt(shop: Any) -> dict[str, int]:
    typed = await shop.type("rebuild --json")
    assert (typed.child.returncode, typed.sentences) == (0, [])
    report: dict[str, int] = json.loads(typed.out)
    return report


@pytest.mark.parametrize("beside_a_worker", [True, False])
async def test_rows_come_back_from_inbox_and_kounta(shop: Any, beside_a_worker: bool) -> None:  # noqa: FBT001 - a parameter
    await shop.open(5)
    worker = await shop.quiet_worker()
    ann = shop.ids[0]
    shop.sandbox.company.update(ann, {"first_name": "Anna"}, announce=False)
    delivery = await (await shop.inbox()).append(ann, "Anna")
    await shop.until(lambda: shop.rows("SELECT * FROM delivery_verdicts WHERE delivery_id = ?", delivery))
    if not beside_a_worker:
        assert (await worker.stops())[0] == 0
    report = await rebuilt(shop)
    assert (report["read"], report["failed"], report["held_deletes"]) == (5, 0, 0)
    assert shop.value("SELECT first_name FROM customers WHERE id = ?", ann) == "Anna"
    assert shop.value("SELECT count(*) FROM customers WHERE partial OR verified_at IS NULL") == 0
    assert shop.value("SELECT count(*) FROM _past_verdicts WHERE delivery_id = ?", delivery) == 1
    status = json.loads((await shop.type("status --json")).out)
    assert sum(status["deliveries"].values()) == 1


async def test_a_delivery_that_lost_its_verdict_gets_another(shop: Any) -> None:
    await shop.open(2)
    worker = await shop.quiet_worker()
    inbox = await shop.inbox()
    names = [await inbox.append(customer, "Anna") for customer in shop.ids]
    await shop.until(lambda: shop.value("SELECT count(*) FROM delivery_verdicts") == 2)
    assert (await worker.stops())[0] == 0
    change(
        shop.directory / "data/mirror.db",
        f"DELETE FROM delivery_verdicts WHERE delivery_id = '{names[1]}'",  # noqa: S608 - our own name
        "UPDATE _verdict_counts SET count = count - 1",
    )
    assert "no verdict" in (await shop.type("status")).out
    await rebuilt(shop)
    assert "no verdict" not in (await shop.type("status")).out
    assert shop.value("SELECT count(*) FROM delivery_verdicts") == 2


async def test_a_damaged_file_is_put_aside_and_begun_anew(shop: Any) -> None:
    await shop.open(5)
    assert (await shop.type("webhooks ensure")).child.returncode == 0
    worker = await shop.quiet_worker()
    ann = shop.ids[0]
    shop.sandbox.company.update(ann, {"first_name": "Anna"}, announce=False)
    await (await shop.inbox()).append(ann, "Anna")
    await shop.until(lambda: shop.rows("SELECT * FROM delivery_verdicts"))
    seq = shop.value("SELECT seq FROM _progress")
    assert (await worker.stops())[0] == 0
    spoil(shop)
    typed = await shop.type("rebuild --json")
    assert typed.child.returncode == 0
    assert typed.sentences[0].startswith("The mirror is damaged (")
    assert list((shop.directory / "data").glob("mirror.db.damaged-*"))
    assert shop.value("SELECT count(*) FROM customers WHERE NOT partial") == 5
    assert shop.value("SELECT count(*) FROM delivery_verdicts") == 1
    assert shop.value("SELECT seq FROM _progress") > (seq if len(typed.sentences) == 1 else 0)


async def test_a_file_that_is_no_database_is_put_aside(shop: Any) -> None:
    await shop.open(3)
    data = shop.directory / "data"
    data.mkdir()
    (data / "mirror.db").write_bytes(b"no database at all" * 1000)
    typed = await shop.type("rebuild --json")
    assert typed.child.returncode == 0
    assert typed.sentences[0].startswith("The mirror is damaged (file is not a database)")
    assert shop.value("SELECT count(*) FROM customers WHERE NOT partial") == 3
