"""`kounta-mirror changes` and `history` as programs and people use them: real processes, pipes, and kills."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests import forks
from tests.forks import Fork

LONGEST = 30
CUSTOMERS = 40


@pytest.fixture
async def kept(shop: Any) -> Any:
    """A mirror of so many customers, and a worker that keeps it."""
    await shop.open(CUSTOMERS)
    await shop.quiet_worker()
    return shop


class Reader:
    """A process whose stdout is read line by line."""

    def __init__(self, child: Fork) -> None:
        self.child = child

    async def next(self) -> dict[str, Any]:
        assert self.child.stdout is not None
        async with asyncio.timeout(LONGEST):
            line = await self.child.stdout.readline()
        assert line.endswith(b"\n"), "it ended"
        change: dict[str, Any] = json.loads(line)
        return change

    async def ends(self) -> tuple[int, str]:
        """Give its exit code, and what it complained of."""
        async with asyncio.timeout(LONGEST):
            _, complaint = await self.child.communicate()
        assert self.child.returncode is not None
        return self.child.returncode, complaint.decode()


@asynccontextmanager
async def reading(shop: Any, command: str, out: int = asyncio.subprocess.PIPE) -> AsyncIterator[Reader]:
    """Start a command whose output is read while it runs; it is killed if it still lives then."""
    child = await forks.start(
        *command.split(),
        env=shop.settings,
        cwd=shop.directory,
        stdout=out,
    )
    try:
        yield Reader(child)
    finally:
        if child.returncode is None:
            child.kill()
        await child.communicate()


def renamed(shop: Any, customer_id: int, first_name: str) -> tuple[int, str]:
    """Rename a customer at Kounta, too: the read that confirms the delivery finds nothing to change."""
    shop.sandbox.company.update(customer_id, {"first_name": first_name}, announce=False)
    return customer_id, first_name


async def lines(shop: Any, command: str) -> list[dict[str, Any]]:
    typed = await shop.type(command)
    assert (typed.child.returncode, typed.sentences) == (0, [])
    return [json.loads(line) for line in typed.out.splitlines()]


async def test_each_line_is_a_row_of_customer_changes(kept: Any) -> None:
    rows = kept.rows("SELECT * FROM customer_changes ORDER BY seq")
    for row in rows:
        row |= {name: json.loads(row[name]) for name in ("attributes", "before", "after")}
    assert len(rows) >= CUSTOMERS
    assert await lines(kept, "changes") == rows
    assert await lines(kept, f"changes --since {len(rows) - 3}") == rows[-3:]


async def test_the_feed_of_a_server_is_the_same(shop: Any, postgresql: Any) -> None:
    url = postgresql.fresh()
    await shop.open(3)
    shop.settings["DATABASE_URL"] = url
    await shop.quiet_worker()
    printed = await lines(shop, "changes")
    assert [line["customer_id"] for line in printed] == shop.ids
    async with reading(shop, f"changes --follow --since {printed[-2]['seq']}") as reader:
        assert await reader.next() == printed[-1]
    await shop.stack.aclose()
    postgresql.drop(url)


async def test_what_changes_is_followed_until_it_is_ended(kept: Any) -> None:
    inbox = await kept.inbox()
    end = kept.value("SELECT max(seq) FROM customer_changes")
    for number in (signal.SIGTERM, signal.SIGINT):
        async with reading(kept, f"changes --follow --since {end - 1}") as reader:
            assert (await reader.next())["seq"] == end
            delivery = await inbox.append(*renamed(kept, kept.ids[0], f"Followed {end}"))
            change = await reader.next()
            assert (change["seq"], change["delivery_id"]) == (end + 1, delivery)
            assert change["after"]["first_name"] == f"Followed {end}"
            reader.child.send_signal(number)
            assert await reader.ends() == (0, "")
        end = kept.value("SELECT max(seq) FROM customer_changes")


async def test_nothing_is_lost_however_often_it_is_killed(kept: Any) -> None:
    cursor = kept.directory / "cursor"
    inbox = await kept.inbox()
    seen: list[int] = []
    for turn in range(4):
        await inbox.append(*renamed(kept, kept.ids[turn], f"Turn {turn}"))
        async with reading(kept, "changes --follow --cursor cursor") as reader:
            seen.append((await reader.next())["seq"])
            if turn % 2:  # once at the first line, once when the cursor is known to be further
                before = seen[-1]
                await kept.until(lambda before=before: cursor.exists() and int(cursor.read_text()) >= before)
            reader.child.send_signal(signal.SIGKILL)
            assert reader.child.stdout is not None
            rest = await reader.child.stdout.read()
            seen += [json.loads(line)["seq"] for line in rest.splitlines() if line.endswith(b"}")]
    await kept.until(lambda: kept.value("SELECT count(*) FROM customer_changes WHERE delivery_id <> ''") >= 4)
    seen += [change["seq"] for change in await lines(kept, "changes --cursor cursor")]
    end = kept.value("SELECT max(seq) FROM customer_changes")
    assert set(seen) == set(range(1, end + 1))
    assert int(cursor.read_text()) == end
    assert await lines(kept, "changes --cursor cursor") == []
    assert {one.name for one in kept.directory.glob("cursor*")} <= {"cursor", "cursor.new"}


async def test_a_pipe_that_is_closed_ends_it_quietly(kept: Any) -> None:
    for follow in ("", " --follow"):
        source, sink = os.pipe()
        async with reading(kept, f"changes{follow}", sink) as reader:
            os.close(sink)
            assert os.read(source, 1)
            os.close(source)
            assert await reader.ends() == (0, "")


async def test_a_pipe_that_nobody_empties_does_not_delay_the_end(kept: Any) -> None:
    cursor = kept.directory / "cursor"
    source, sink = os.pipe()
    async with reading(kept, "changes --follow --cursor cursor", sink) as reader:
        os.close(sink)
        await kept.until(cursor.exists)
        for customer_id in kept.ids:
            kept.sandbox.company.update(customer_id, {"image": "x" * 20_000}, announce=False)
        assert (await kept.type("reconcile --deep --json")).child.returncode == 0
        before = int(cursor.read_text())
        assert before < kept.value("SELECT max(seq) FROM customer_changes")
        reader.child.send_signal(signal.SIGTERM)
        assert await reader.ends() == (0, "")
        assert int(cursor.read_text()) == before
    os.close(source)


@pytest.mark.parametrize("held", ["", "abc", "-1", "1.5", "9" * 40])
async def test_a_cursor_file_that_holds_no_number_is_told(kept: Any, held: str) -> None:
    (kept.directory / "cursor").write_text(held)
    typed = await kept.type("changes --cursor cursor")
    assert (typed.child.returncode, typed.out) == (1, "")
    (sentence,) = typed.sentences
    assert sentence.startswith("The cursor file cursor should hold the seq of a change, a number; it holds")
    assert (kept.directory / "cursor").read_text() == held


@pytest.mark.parametrize("command", ["changes --since 9999", "changes --cursor cursor --follow"])
async def test_a_place_beyond_the_end_is_told(kept: Any, command: str) -> None:
    (kept.directory / "cursor").write_text("9999")
    typed = await kept.type(command)
    assert (typed.child.returncode, typed.out) == (1, "")
    (sentence,) = typed.sentences
    assert sentence.startswith("The feed ends with seq ")
    assert "9999" in sentence


async def test_a_cursor_that_cannot_be_written_is_told(kept: Any) -> None:
    typed = await kept.type("changes --cursor nowhere/cursor")
    assert typed.child.returncode == 1
    (sentence,) = typed.sentences
    assert sentence.startswith("The cursor file nowhere/cursor cannot be written: No such file or directory.")


async def test_the_past_of_a_customer_is_told_the_newest_last(kept: Any) -> None:
    customer_id = kept.ids[0]
    inbox = await kept.inbox()
    delivery = await inbox.append(customer_id, "Renamed\x1b[31m")
    await kept.until(lambda: kept.rows("SELECT * FROM customer_changes WHERE delivery_id = ?", delivery))
    typed = await kept.type(f"history {customer_id} --json")
    first, *_ = past = json.loads(typed.out)
    assert (first["kind"], first["source"]) == ("created", "backfill")
    assert [one["seq"] for one in past] == sorted(one["seq"] for one in past)
    renamed = next(one for one in past if one["delivery_id"] == delivery)
    assert renamed["after"] == {"first_name": "Renamed\x1b[31m"}

    shown = (await kept.type(f"history {customer_id}")).out
    assert f"updated by webhook, delivery {delivery}  (seq {renamed['seq']})" in shown
    assert f"    first_name: {first['after']['first_name']} -> Renamed [31m\n" in shown


async def test_a_customer_that_never_was_has_no_past(kept: Any) -> None:
    typed = await kept.type("history 999999999")
    assert (typed.child.returncode, typed.out) == (1, "")
    assert typed.sentences == ["The mirror has no history of customer 999999999."]
