"""`status` over real stores: what is there, what is not, and never a false alarm while deliveries come in."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from starlette.applications import Starlette

from receiver.database import NewerDatabase, Place, Server, directory_of, inbox_of, mirror_of
from receiver.local import serve_locally
from receiver.topics import PING
from sync import apply
from sync.mirror.figures import figures_of
from sync.mirror.store import OWNER
from sync.mirror.sweeps import begin_sweep, end_sweep
from sync.settings import MirrorSettings
from sync.status import Status, status_of
from tests import forks
from tests.stores import change, lose

ROOT = Path(__file__).parents[3]


def environment_of(place: Place) -> dict[str, str]:
    url = {"DATABASE_URL": place.url} if isinstance(place, Server) else {}
    return {"MIRROR_DATA_DIR": str(directory_of(place))} | url


def names_in(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


async def looked(house: Any, company: int = 5678) -> Status:
    settings = MirrorSettings.model_validate(environment_of(house.place) | {"KOUNTA_COMPANY_ID": company})
    return await status_of(settings, house.now)


async def said(house: Any, *options: str) -> tuple[int, str, str]:
    """Run `status` as a person does; give exit code, stdout, stderr."""
    process = await forks.start(
        "status",
        *options,
        env={**environment_of(house.place), "KOUNTA_COMPANY_ID": "5678"},
        at=house.now,
        cwd=house.directory,
    )
    out, complaint = await asyncio.wait_for(process.communicate(), 30)
    return process.returncode or 0, out.decode(), complaint.decode()


@pytest.fixture
async def well(house: Any) -> AsyncIterator[Any]:
    """A house in which a worker runs, and has swept."""
    sweep = await begin_sweep(house.mirror, "backfill", house.now)
    await end_sweep(house.mirror, sweep, house.now, None)
    async with serve_locally(Starlette(), house.directory, OWNER):
        yield house


async def test_with_nothing_at_all_it_says_what_to_start(tmp_path: Path, empty_house: Any) -> None:
    for database in (inbox_of(empty_house.place), mirror_of(empty_house.place)):
        lose(database)
    status = await looked(empty_house)
    assert [one.action for one in status.concerns()] == ["kounta-mirror worker", "kounta-mirror receiver"]
    assert names_in(tmp_path) == []  # looking makes nothing


async def test_with_an_inbox_alone_its_deliveries_wait(empty_house: Any) -> None:
    lose(mirror_of(empty_house.place))
    async with await empty_house.new_inbox() as inbox:
        await inbox.append(5678, "customers/updated", {}, b"{}")
        inbox.refuse(5678, "signature_invalid")
    empty_house.at(700)
    status = await looked(empty_house)
    deliveries = status.as_json()["deliveries"]
    assert (deliveries["pending"], sum(deliveries.values())) == (1, 1)
    assert status.as_json()["refused"]["signature_invalid"]["count"] == 1
    assert [one.sentence for one in status.concerns()] == [
        "The worker does not run.",
        "1 delivery waits, the oldest for 11 min.",
        "The receiver stopped at 12:00 UTC: what Kounta sends now may be lost.",
    ]


STRANGERS = (
    *("unknown_company", "unknown_topic", "method_not_allowed", "body_too_large", "signature_missing"),
    *("signature_invalid", "upgrade_unsupported"),
)


async def test_strangers_do_not_change_what_a_monitor_is_told(well: Any) -> None:
    await well.post(well.customer(1))
    await well.apply()
    for reason in STRANGERS:
        well.inbox.refuse(5678, reason)
    await well.inbox.close()  # what it counted is written by then
    code, out, _ = await said(well, "--check")
    assert (code, out.partition(",")[0]) == (0, "OK")
    assert all(f"1 {reason} (last 2026-" in out for reason in STRANGERS)


async def test_a_ping_of_our_own_is_no_proof_that_kountas_token_is_right(well: Any) -> None:
    await well.inbox.append(5678, PING, {}, b"{}")
    await well.apply()
    well.inbox.refuse(5678, "signature_invalid")
    await well.inbox.close()
    (concern,) = (await looked(well)).concerns()
    assert concern.sentence.endswith("Is the token right? No delivery has ever verified.")
    well.inbox = await well.stack.enter_async_context(await well.new_inbox())
    await well.post(well.customer(1))
    assert (await looked(well)).concerns() == []  # in the inbox, and not applied yet
    await well.apply()
    await well.inbox.close()
    lose(inbox_of(well.place))
    assert [one.sentence for one in (await looked(well)).concerns()] == ["No receiver has run yet."]
    assert (await looked(well)).heard  # the mirror knows it for longer than the inbox


async def test_figures_come_from_both_stores(well: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    await well.post(well.customer(1))
    await well.post(well.customer(2))
    await well.post(well.customer(2, 5), "deleted")
    await well.post(b"no JSON")
    await well.apply()
    await well.post(well.customer(1))
    well.at(40)
    status = await looked(well)
    deliveries = status.as_json()["deliveries"]
    assert {name: count for name, count in deliveries.items() if count} == {
        "pending": 1,
        "applied": 2,
        "tombstoned": 1,
        "quarantined": 1,
    }
    assert status.as_json()["customers"] == {"live": 1, "deleted": 1, "verified": 0, "partial": 0}
    assert status.as_json()["verifications"]["due"] == 2
    assert status.as_json()["freshness"]["oldest_pending_seconds"] == 40.0
    assert [one.sentence for one in status.concerns()] == [
        "1 delivery could not be read.",
        "Deliveries that name no customer could not be read; a sweep will find what was lost.",
    ]


async def test_another_companys_mirror_is_told(well: Any) -> None:
    await well.post(well.customer(1))
    await well.apply()
    status = await looked(well, company=99)
    assert status.sentence() == "The mirror holds nothing of company 99. Is KOUNTA_COMPANY_ID right?"


async def test_an_inbox_that_the_mirror_has_not_read_yet_is_no_fault(well: Any) -> None:
    for id_ in (1, 2, 3):
        await well.post(well.customer(id_))
    await well.apply()
    await well.inbox.close()
    lose(inbox_of(well.place))
    status = await looked(well)
    assert [one.sentence for one in status.concerns()] == ["No receiver has run yet."]
    well.inbox = await well.stack.enter_async_context(await well.new_inbox())
    await well.post(well.customer(4))
    status = await looked(well)
    assert (status.concerns(), status.pending.count) == ([], 1)


async def test_figures_are_those_of_one_moment(well: Any) -> None:
    await well.post(well.customer(1))
    await well.apply()
    looking = well.mirror._reading.sync_engine

    @event.listens_for(looking, "before_cursor_execute")
    def write_meanwhile(_c: Any, _d: Any, statement: str, *_: Any) -> None:
        if "_verdict_counts" in statement:
            change(mirror_of(well.place), "UPDATE _verdict_counts SET count = count + 1")

    figures = await figures_of(well.mirror)
    event.remove(looking, "before_cursor_execute", write_meanwhile)
    assert figures is not None
    assert (figures.progress.position, figures.verdicts) == (1, {"applied": 1})


async def test_it_raises_no_false_alarm_while_deliveries_come_and_are_applied(well: Any) -> None:
    stop = asyncio.Event()
    looks = 0

    async def come() -> None:
        for number in range(100):
            await well.post(well.customer(number % 20 + 1))
        while looks < 3:  # a machine that has much else to do looks slowly
            await well.post(well.customer(1))
            await asyncio.sleep(0.01)
        stop.set()

    async def be_applied() -> None:
        while not stop.is_set():
            await well.apply()

    async def be_looked_at() -> None:
        nonlocal looks
        while not stop.is_set():
            assert (await looked(well)).concerns() == []
            looks += 1

    await asyncio.gather(come(), be_applied(), be_looked_at())
    await well.apply()
    assert (await looked(well)).as_json()["deliveries"]["pending"] == 0


async def test_a_newer_mirror_is_one_sentence(house: Any) -> None:
    change(mirror_of(house.place), "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(NewerDatabase, match="9999"):
        await looked(house)
    code, out, complaint = await said(house, "--check")
    assert (code, out, complaint.count("\n")) == (2, "", 1)
    assert (await said(house))[0] == 1


async def test_check_ends_as_monitors_expect(well: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (await said(well, "--check"))[:2] == (0, OK)
    await well.post(well.customer(1))
    monkeypatch.setattr(apply, "merge", lambda *_: 1 / 0)
    await well.apply()
    code, out, _ = await said(well, "--check")
    assert code == 1
    assert out.startswith(
        "1 delivery could not be applied. → kounta-mirror deliveries replay --verdict failed\n"
    )
    change(mirror_of(well.place), "UPDATE _verdict_counts SET count = 0")
    code, out, _ = await said(well, "--check")
    assert code == 2
    assert out.startswith("1 delivery has no verdict: a fault of this program.")
    assert (await said(well))[0] == 0


async def test_json_is_one_value_on_stdout(well: Any) -> None:
    code, out, complaint = await said(well, "--json")
    assert (code, complaint) == (0, "")
    assert json.loads(out)["sentence"] == "OK, 0 customers, no delivery yet."


async def test_drift_and_loss_are_said_for_people(well: Any) -> None:
    counts = {"sampled": 400, "differed": 2, "differed_in:phone": 2, "announced": 30, "unannounced": 1}
    async with well.mirror.batch([], well.now) as batch:
        batch.counts.update(counts)
    _, out, _ = await said(well)
    assert out.endswith(
        "drift          0.50% of customers (0.14% to 1.80%) differ and nothing says so, most in phone; "
        "400 drawn in 7 days\n"
        "lost webhooks  3.2% in 7 days\n"
    )
    assert well.row("SELECT drift_rate FROM mirror_status")["drift_rate"] == 0.005


OK = """\
OK, 0 customers, no delivery yet.

deliveries     none
customers      none
to be read     none
last sweep     2026-11-24T12:00:00.000Z
oldest proof   none yet
receiver       last sign of life 2026-11-24T12:00:00.000Z
last gap       none known
drift          not known yet: nobody was drawn at random in the last 7 days
lost webhooks  not known yet: nothing changed in the last 7 days
"""
