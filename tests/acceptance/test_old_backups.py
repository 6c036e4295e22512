"""A backup that is put back after a while, and files of a newer version, as processes meet them."""

from typing import Any

import pytest

from receiver.database import scripts_of
from tests.old_schemas import STORES
from tests.stores import change


@pytest.mark.parametrize("what", ["catches up", "sweeps"])
async def test_an_old_backup_ends_as_right_as_the_mirror_was(shop: Any, what: str) -> None:
    await shop.open(3)
    receiver = await shop.receiver()
    worker = await shop.quiet_worker()
    assert (await shop.type("backup copy.db")).child.returncode == 0
    ann, ben, _ = shop.ids
    for number in range(3):
        shop.sandbox.company.update(ann, {"first_name": f"Anna {number}"}, announce=False)
        delivery = await receiver.post(ann, f"Anna {number}")
    await shop.until(lambda: shop.rows("SELECT * FROM delivery_verdicts WHERE delivery_id = ?", delivery))
    assert (await worker.stops())[0] == 0
    data = shop.directory / "data"
    if what == "sweeps":  # retention has taken what the backup has not seen
        assert (await receiver.process.stops())[0] == 0
        change(data / "inbox.db", "DELETE FROM deliveries")
        receiver = await shop.receiver()
    for end in ("", "-wal", "-shm"):
        (data / f"mirror.db{end}").unlink(missing_ok=True)
    (shop.directory / "copy.db").rename(data / "mirror.db")
    shop.sandbox.company.update(ben, {"first_name": "Benno"}, announce=False)
    await receiver.post(ben, "Benno")
    worker = await shop.worker()
    if what == "sweeps":
        await worker.says("deliveries_missing")
        await worker.says("sweep_complete")
    right = "SELECT count(*) FROM customers WHERE (id, first_name) IN ((?, 'Anna 2'), (?, 'Benno'))"
    await shop.until(lambda: shop.value(right, ann, ben) == 2)
    assert (shop.calls("list") > 1) is (what == "sweeps")


async def test_files_of_a_newer_version_are_refused_in_a_sentence(shop: Any) -> None:
    await shop.open(1)
    receiver = await shop.receiver()
    worker = await shop.quiet_worker()
    assert (await worker.stops())[0] == 0
    assert (await receiver.process.stops())[0] == 0
    for name, commands in {
        "mirror": ("worker", "status", "rebuild"),
        "inbox": ("receiver", "status"),
    }.items():
        file = shop.directory / f"data/{name}.db"
        change(file, "UPDATE alembic_version SET version_num = '9999'")
        for command in commands:
            typed = await shop.type(command)
            assert typed.child.returncode == 1
            (sentence,) = typed.sentences
            assert f"{name}.db has schema version 9999" in sentence
            assert "newer kounta-mirror" in sentence
        newest = scripts_of(STORES[name]).get_current_head()
        change(file, f"UPDATE alembic_version SET version_num = '{newest}'")  # noqa: S608 - a number
