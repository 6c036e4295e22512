"""The lease of a company: its holder alone asks Kounta, and what comes too late is not written."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any

import pytest

from receiver.database import mirror_of
from sync.engine import Engine
from sync.mirror.lease import Lease, held, holder_of, lease_over
from sync.mirror.store import LeaseLostError
from sync.reconcile.report import Request
from sync.writes import NotMirroredError
from tests.stores import held as content

MOVE = "UPDATE _progress SET lease_until = now() - interval '1 second'"
FIRST = 389450  # the first customer of the local Kounta
JAMIE: Any = {"first_name": "Jamie", "email": "j@shop.example"}


async def verify(engine: Engine) -> None:
    await engine.verifier.refresh(FIRST, sampled=False)


async def sweep(engine: Engine) -> None:
    await engine.sweeper.sweep("schedule")


async def register(engine: Engine) -> None:
    await engine.registrar.ensure("https://mirror.example/shop/webhooks")


async def write(engine: Engine) -> None:
    await engine.writer.create(JAMIE)


@pytest.mark.parametrize(
    ("effect", "refusal"),
    [
        (verify, LeaseLostError),
        (sweep, LeaseLostError),
        (register, LeaseLostError),
        (write, NotMirroredError),
    ],
)
async def test_nothing_is_written_of_what_a_holder_hears_after_its_lease_has_moved(
    crew: Any, gate: Any, effect: Callable[[Engine], Coroutine[Any, Any, None]], refusal: type[Exception]
) -> None:
    await crew.found(customers=3)
    async with AsyncExitStack() as old_stack:
        old = await crew.engine(old_stack, gate)
        await old.reconciler.reconcile(Request())
        crew.sandbox.company.update(FIRST, {"first_name": "Old"}, announce=False)
        gate.shut()
        reading = asyncio.create_task(effect(old))
        async with asyncio.timeout(20):
            await gate.stopped.wait()
        crew.change(MOVE)
        new = await crew.engine()
        crew.sandbox.company.update(FIRST, {"first_name": "New"}, announce=False)
        await new.reconciler.reconcile(Request(customer_id=FIRST))
        before = content(mirror_of(crew.place))
        gate.open()
        with pytest.raises(refusal):
            await reading
        assert content(mirror_of(crew.place)) == before
        name = crew.rows("SELECT first_name FROM customers WHERE id = ?", FIRST)
        assert name == [{"first_name": "New"}]
    assert (
        await holder_of(new.mirror) is not None
    )  # the end of the old one has taken nothing from the new one


async def test_a_holder_learns_that_its_lease_is_lost(crew: Any) -> None:
    old, new = await crew.mirror(), await crew.mirror()
    async with held(old, renew_seconds=0.01):
        crew.change(MOVE)
        while await Lease(new, "new").take() is None:  # the old one may have renewed it
            crew.change(MOVE)
        async with asyncio.timeout(10):
            await lease_over(old)
        with pytest.raises(LeaseLostError):
            await old.note(sweep_due="gap")
    assert await holder_of(new) == "new"


async def test_a_clean_stop_gives_the_lease_up_at_once(crew: Any) -> None:
    old, new = await crew.mirror(), await crew.mirror()
    async with held(old):
        assert await Lease(new, "new").take() is None
    assert await Lease(new, "new").take() is not None


async def test_a_dead_holder_s_lease_can_be_taken_when_its_time_is_over(crew: Any) -> None:
    old, new = await crew.mirror(), await crew.mirror()
    assert await Lease(old, "old", timedelta(hours=1)).take() == 1
    assert await Lease(new, "new").take() is None
    crew.change(MOVE)
    assert await Lease(new, "new").take() == 2


async def test_a_command_gets_the_lease_and_the_worker_has_it_back_afterwards(crew: Any) -> None:
    worker, command, other = await crew.mirror(), await crew.mirror(), await crew.mirror()
    async with held(worker, renew_seconds=0.01), asyncio.timeout(20):
        commanding = asyncio.create_task(_hold_for_a_moment(command))
        await lease_over(worker)
        assert await Lease(other, "other").take() is None  # not let go of yet
    assert await commanding == worker.progress.epoch + 2
    async with held(worker):
        assert await holder_of(worker) is not None


async def test_nobody_takes_what_a_command_waits_for_until_the_command_has_died(crew: Any) -> None:
    worker, command = await crew.mirror(), await crew.mirror()
    await Lease(command, "command").want()
    assert await Lease(worker, "worker").take() is None
    crew.change("UPDATE _progress SET lease_wanted_at = now() - interval '16 seconds'")
    assert await Lease(worker, "worker").take() is not None


async def test_two_commands_at_once_have_it_one_after_the_other(crew: Any) -> None:
    worker, one, other = await crew.mirror(), await crew.mirror(), await crew.mirror()
    async with held(worker, renew_seconds=0.01):
        commands = [asyncio.create_task(_hold_for_a_moment(mirror)) for mirror in (one, other)]
        await lease_over(worker)
    async with asyncio.timeout(20):
        first, second = sorted(await asyncio.gather(*commands))
    assert second == first + 1


async def test_a_command_keeps_it_though_another_one_wants_it(crew: Any) -> None:
    one, other = await crew.mirror(), await crew.mirror()
    async with held(one, insist=True, renew_seconds=0.01):
        wanting = Lease(other, "other")
        for _ in range(5):
            await wanting.want()
            assert await wanting.take() is None
        await one.note(sweep_due="gap")
    assert await wanting.take() is not None


async def _hold_for_a_moment(mirror: Any) -> int:
    """Insist on the lease as a command does, write under it, and give its epoch."""
    async with held(mirror, insist=True):
        await mirror.note(sweep_due="gap")
        epoch: int = mirror.lease.epoch
        return epoch
