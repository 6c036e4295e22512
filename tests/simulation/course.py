"""The course of one seed: what its plan brings, a look now and then, and the judgement at the end."""

from __future__ import annotations

import asyncio
from random import Random
from typing import TYPE_CHECKING, Any

from receiver.database import is_unavailable
from sync.kounta import KountaError
from sync.reconcile.report import Report, Request
from sync.reconcile.sweep import ForeignListError
from sync.replay import replay
from sync.sandbox import Faults
from sync.writes import NotMirroredError
from tests.simulation.judge import Broken
from tests.simulation.world import World, words

if TYPE_CHECKING:
    from collections.abc import Callable

    from sync.engine import Engine
    from sync.sandbox import Courier
    from tests.simulation.plan import Trouble

LOOK_SECONDS = 10.0
"""Between two looks at the files while everything goes on."""
REST_SECONDS = 15.0
"""Before the end, once the budget is open."""


class Course:
    """Runs a world through its plan."""

    def __init__(self, world: World) -> None:
        self.wrong_before = 0
        """Rows that were wrong when everything delivered was applied."""
        self.wrong_after = 0
        """Rows that were wrong after the deep reconciliation."""
        self._world = world
        self._plan = world.plan
        self._sandbox = world.sandbox
        self._judge = world.judge
        self._chance = Random(f"course {world.plan.seed}")
        self._complaints: list[str] = []
        self._faults: list[dict[str, Any]] = []
        self._asked_for: list[asyncio.Task[Any]] = []
        """What people have asked the worker for: a write may still make a customer."""
        self._made: dict[str, int] = {}
        """Reference -> the customer that a write said it has made."""

    async def suffer(self, tasks: asyncio.TaskGroup) -> None:
        befalling = [tasks.create_task(self._befall(trouble)) for trouble in self._plan.troubles]
        looks = int(self._plan.seconds / LOOK_SECONDS)
        for _ in range(looks):
            await asyncio.sleep(LOOK_SECONDS)
            self._look()
        await asyncio.sleep(self._plan.seconds - looks * LOOK_SECONDS)
        for one in befalling:
            one.cancel()

    async def _befall(self, trouble: Trouble) -> None:
        await asyncio.sleep(trouble.at)
        self._world.tell(f"{trouble.what} {trouble.values} for {trouble.seconds:.1f} s")
        begin: Callable[[Trouble], Any] = getattr(self, f"_begin_{trouble.what}")
        end = begin(trouble)
        if trouble.seconds:
            await asyncio.sleep(trouble.seconds)
            end()
            self._world.tell(f"{trouble.what} ends")

    def _begin_faults(self, trouble: Trouble) -> Callable[[], None]:
        self._faults.append(trouble.values)
        self._set_faults()

        def end() -> None:
            if trouble.values in self._faults:
                self._faults.remove(trouble.values)
                self._set_faults()

        return end

    def _set_faults(self) -> None:
        skew = {"clock_skew_seconds": self._sandbox.faults.clock_skew_seconds}
        values = {"next_page": "right", **self._plan.faults, "lost_access": "no", **skew}
        for active in self._faults:
            values |= active
        self._sandbox.change(self._sandbox.faults, values)

    def _begin_skew(self, trouble: Trouble) -> None:
        self._sandbox.change(self._sandbox.faults, trouble.values)

    def _begin_disk(self, trouble: Trouble) -> Callable[[], None]:
        disk = self._world.disks[trouble.values["process"]]
        disk.share = trouble.values["share"]

        def end() -> None:
            disk.share = 0.0

        return end

    def _begin_offline(self, _trouble: Trouble) -> Callable[[], None]:
        self._world.offline = True

        def end() -> None:
            self._world.offline = False

        return end

    def _begin_kill(self, trouble: Trouble) -> None:
        self._world.processes[trouble.values["process"]].kill()

    def _begin_stop(self, trouble: Trouble) -> None:
        self._world.processes[trouble.values["process"]].stop()

    def _begin_burst(self, trouble: Trouble) -> None:
        for _ in range(trouble.values["edits"]):
            self._sandbox.editor.edit()
        self._sandbox.wake()

    def _begin_reconcile(self, trouble: Trouble) -> None:
        request = Request(deep=trouble.values["deep"])
        self._ask_worker(lambda engine: engine.reconciler.reconcile(request))

    def _begin_replay(self, _trouble: Trouble) -> None:
        with_verdict = self._chance.choice(("applied", "stale", "unchanged", "tombstoned"))
        self._ask_worker(lambda engine: replay(engine, [], with_verdict))

    def _begin_write(self, trouble: Trouble) -> None:
        reference = trouble.values["reference_id"]

        async def write(engine: Engine) -> Any:
            written = await engine.writer.create(
                {"first_name": "Ana", "phone": "02 8765 4321", "reference_id": reference}
            )
            self._made[reference] = written.id
            return written.id

        self._ask_worker(write)

    def _ask_worker(self, work: Callable[[Engine], Any]) -> None:
        engine = self._world.engine
        if engine is None:
            return

        async def ask() -> None:
            try:
                answer = await work(engine)
            except (KountaError, ForeignListError, NotMirroredError) as error:
                answer = error
            except Exception as error:  # noqa: BLE001 - it is judged at the next look
                if not is_unavailable(error):
                    self._complaints.append(f"a request failed: {words(error)}")
                answer = error
            self._world.tell(f"a request is answered: {answer}"[:120])

        self._asked_for.append(self._world.processes["worker"].spawn(ask()))

    async def end(self, courier: Courier) -> None:
        """Let upstream stop changing and answer, reconcile, and compare."""
        self._world.sparing = True
        self._sandbox.pause()
        for disk in self._world.disks.values():
            disk.share = 0.0
        self._world.offline = False
        skew = self._sandbox.faults.clock_skew_seconds
        stamps = self._sandbox.faults.stamps
        lasting = self._plan.odd.lasting
        quiet = {**Faults().__dict__, **lasting, "clock_skew_seconds": skew, "stamps": stamps}
        self._sandbox.change(self._sandbox.faults, quiet)
        for process in self._world.processes.values():
            process.spare()
        await self._world.up["receiver"].wait()
        await courier.settle()
        self._world.tell("upstream is at rest")
        self._look()
        await self._until_applied()
        self.wrong_before = self._look()
        if self._asked_for:
            await asyncio.wait(self._asked_for)
        await self._until_applied()
        await asyncio.sleep(self._seconds_closed() + REST_SECONDS)
        await self._world.up["worker"].wait()
        doubtful = self._judge.doubts() + len(self._judge.missed())
        if "none_as_text" in self._plan.odd.lasting:  # whole list items that say none in another way are news
            doubtful = self._judge.known()
        await self._reconcile(Request(), most=doubtful)
        wrong = self._judge.missed()
        if wrong:
            raise Broken(f"after a reconciliation {_some(wrong)}")
        await self._reconcile(Request(deep=True), most=self._judge.known())
        self._check_made()
        wrong = self._judge.wrong()
        self.wrong_after = len(wrong)
        if wrong:
            raise Broken(f"after a deep reconciliation {_some(wrong)}")

    def _seconds_closed(self) -> float:
        """Say for how long upstream wants no more calls."""
        until = (
            self._world.engine.kounta.budget.state.closed_until if self._world.engine is not None else None
        )
        return 0.0 if until is None else max(0.0, (until - self._world.clock()).total_seconds())

    async def _until_applied(self) -> None:
        for _ in range(300):
            if self._world.up["worker"].is_set() and not self._judge.pending():
                return
            await asyncio.sleep(1)
        raise Broken(f"{self._judge.pending()} deliveries are not applied after 5 minutes of rest")

    async def _reconcile(self, request: Request, most: int) -> None:
        """Reconcile as a person would, who lets held deletions go. `most`: how many reads it may cost."""
        engine = self._world.engine
        if engine is None:
            raise Broken("there is no worker after a long rest")
        before = self._calls()
        report = await self._asked(engine, request)
        calls = self._calls() - before
        self._world.tell(f"reconciled: {report}")
        pages = max(1, -(-len(self._sandbox.company.customers) // self._sandbox.settings.page_size))
        each = 2 if self._sandbox.faults.redirects_same else 1
        if not report.calls <= min(calls, pages + each * most + 1):  # the worker may just have made some, too
            raise Broken(
                f"{report.calls} calls are reported, {calls} came, {pages} + {each} * {most} + 1 may be"
            )
        if report.held_deletes:
            report = await self._asked(engine, Request(allow_deletes=report.held_deletes))
        if not report.whole:
            raise Broken(f"the reconciliation left something undone: {report}")

    async def _asked(self, engine: Engine, request: Request) -> Report:
        asking = self._world.processes["worker"].spawn(engine.reconciler.reconcile(request))
        try:
            report: Report = await asking
        except (KountaError, ForeignListError) as error:
            raise Broken(f"a reconciliation at rest failed: {error}") from error
        return report

    def _calls(self) -> int:
        kinds = self._sandbox.calls.answered_by_kind
        return kinds["list"] + kinds["get"]

    def _check_made(self) -> None:
        """Check that no customer was made twice, and that a write names the one it made. Raises Broken."""
        made = self._world.ledger.made_by_reference()
        for reference, ids in made.items():
            if len(ids) > 1:
                raise Broken(f"customer {reference} was made {len(ids)} times: {ids}")
        for reference, customer_id in self._made.items():
            if made.get(reference) != [customer_id]:
                raise Broken(f"a write says that {reference} is customer {customer_id}, not {made}")

    def _look(self) -> int:
        if self._complaints:
            raise Broken(self._complaints[0])
        wrong = self._judge.look()
        self._world.tell(f"{wrong} rows are wrong: {self._judge.excused}")
        return wrong


def _some(wrong: dict[int, str]) -> str:
    customer_id, what = next(iter(wrong.items()))
    return f"{len(wrong)} rows are wrong: customer {customer_id}: {what}"
