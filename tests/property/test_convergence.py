"""A life of the mirror, step by step in any order, against a model: what upstream was, and what may be wrong.

Everything is real but the network: the local Kounta, the engine, the mirror's database. After each step no
row may be wrong without a reason that is outstanding, and the history, the figures and the verdicts must
agree with the rows. At the end a deep reconciliation makes everything right.
"""

import asyncio
import json
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, closing
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeVar

import httpx2
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from receiver.database import Place, Server
from receiver.inbox import Delivery
from sync.engine import Engine, open_engine
from sync.kounta import KountaError, Retries
from sync.merge.customers import ATTRIBUTES
from sync.mirror.queue import due_doubts
from sync.mirror.reader import mirror_path
from sync.mirror.store import migrate_mirror
from sync.reconcile.report import Report, Request
from sync.reconcile.sweep import ForeignListError
from sync.sandbox import AppTransport, Courier, Faults, Sandbox, Settings, create_app
from sync.settings import WorkerSettings
from tests.budget import tries
from tests.databases import asked
from tests.places import empty, settings_of, wrong_in

COMPANY: Final = 5678
NOON: Final = datetime(2026, 11, 24, 12, tzinfo=UTC).timestamp()
READ_LAG: Final = 5.0
LONG: Final = 3700.0
"""Seconds after which whatever is in doubt may be read, however often a read of it was put off."""

Result = TypeVar("Result")

NAMES = st.sampled_from(["Ada", "Ben", "Cy"])
LISTED: Final = {"first_name", "last_name", "email"}
"""What every list carries: a sweep must find it."""
UNLISTED = st.sampled_from([{"phone": "02 3"}, {"tags": ["new"]}, {"primary_address": {"city": "Perth"}}])
VALUES = UNLISTED | st.fixed_dictionaries(
    {},
    optional={
        "first_name": NAMES,
        "last_name": NAMES,
        "phone": st.sampled_from(["02 1", "02 2", None]),
        "tags": st.sampled_from([[], ["vip"], ["vip", "gold"]]),
        "shipping_address": st.sampled_from([None, {"city": "Sydney", "country": "AU"}]),
    },
).filter(bool)
WHICH = st.integers(0, 30)
SUBSCRIBED = st.sampled_from([ATTRIBUTES, ("name", "email"), ("name", "phone", "tags")])
FAULTS = st.sampled_from(["none", "server_errors", "cut_bodies", "html_answers", "wrong_answers", "too_many"])


@cache
def migrated() -> bytes:
    """An empty mirror's file."""
    with tempfile.TemporaryDirectory() as directory:
        migrate_mirror(Path(directory))
        with closing(sqlite3.connect(mirror_path(Path(directory)))) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return mirror_path(Path(directory)).read_bytes()


class Network(httpx2.AsyncBaseTransport):
    """The way to upstream; something may happen when upstream has answered and nobody knows it yet."""

    def __init__(self, sandbox: Sandbox, meanwhile: Callable[[str], Awaitable[None]]) -> None:
        self._way = AppTransport(create_app(sandbox, Courier(sandbox)))
        self._meanwhile = meanwhile

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        response = await self._way.handle_async_request(request)
        await self._meanwhile(request.url.path)
        return response


class Life(RuleBasedStateMachine):
    """One company. `silent` holds whom upstream has changed without a word that will ever come."""

    server: Server | None = None
    """Where it is lived, after another one; None: in a file of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.directory = Path(tempfile.mkdtemp())
        self.place: Place = self.directory if self.server is None else Server(self.directory, self.server.url)
        if isinstance(self.place, Server):
            empty(self.place)
        else:
            mirror_path(self.place).write_bytes(migrated())
        self.now = NOON
        self.flying: list[tuple[int, str, dict[str, Any]]] = []
        self.arrived: list[Delivery] = []
        self.silent: set[int] = set()
        self.meanwhile: list[tuple[int, bool]] = []
        """What comes in during the next calls: one on its way, or one about a change of just then."""
        self.subscribed: tuple[str, ...] = ATTRIBUTES
        self.stack = AsyncExitStack()

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        return self.runner.run(work)

    def clock(self) -> datetime:
        return datetime.fromtimestamp(round(self.now, 3), UTC)

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        await asyncio.sleep(0)

    @initialize(
        customers=st.sampled_from([0, 1, 2, 3, 30]), shape=st.sampled_from(["abridged", "legacy", "complete"])
    )
    def begin(self, customers: int, shape: Any) -> None:
        given = Settings(list_shape=shape, requests_per_minute=1_000_000)
        self.sandbox = Sandbox(given, Faults(), 1, customers, clock=lambda: self.now)
        self.run(self._open())
        self.reconcile(deep=False)

    async def _open(self) -> None:
        opened = open_engine(
            WorkerSettings.model_validate(
                {
                    **settings_of(self.place),
                    "KOUNTA_COMPANY_ID": str(COMPANY),
                    "KOUNTA_CLIENT_ID": "sandbox-client",
                    "KOUNTA_CLIENT_SECRET": "sandbox-secret",
                    "KOUNTA_REQUESTS_PER_MINUTE": "100000000",
                    "MIRROR_READ_LAG_SECONDS": str(READ_LAG),
                    "MIRROR_HOLD_DELETES": "100%",
                    "MIRROR_ATTRIBUTES": ",".join(self.subscribed),
                }
            ),
            "the test",
            clock=self.clock,
            transport=Network(self.sandbox, self._happen_meanwhile),
            retries=Retries.sleepless(patience=2),
            sleep=self.sleep,
        )
        self.engine: Engine = await self.stack.enter_async_context(opened)

    def teardown(self) -> None:
        try:
            if hasattr(self, "engine"):
                self.come_right()
        finally:
            self.run(self.stack.aclose())
            self.runner.close()
            shutil.rmtree(self.directory)

    # what happens upstream

    @property
    def ids(self) -> list[int]:
        return sorted(customer["id"] for customer in self.sandbox.company.truth())

    def _say(self, customer: Any, event: str, *, told: bool) -> None:
        if not told:
            self.silent.add(customer.id)
            return
        body = {**customer.seen_by("sandbox-client"), "updated_at": self._stamp()}
        self.flying.append((customer.id, f"customers/{event}", body))

    def _stamp(self) -> str:
        return datetime.fromtimestamp(int(self.now), UTC).isoformat()

    @rule(values=VALUES, told=st.booleans())
    def create(self, values: dict[str, Any], *, told: bool) -> None:
        given = {"first_name": "New", "email": f"new{self.now}@kounta.example", **values}
        self._say(self.sandbox.company.create(given, announce=False), "created", told=told)

    @rule(which=WHICH, values=VALUES, told=st.booleans())
    def update(self, which: int, values: dict[str, Any], *, told: bool) -> None:
        if self.ids:
            id_ = self.ids[which % len(self.ids)]
            self._say(self.sandbox.company.update(id_, values, announce=False), "updated", told=told)

    @rule(which=WHICH, told=st.booleans())
    def delete(self, which: int, *, told: bool) -> None:
        if self.ids:
            id_ = self.ids[which % len(self.ids)]
            self._say(self.sandbox.company.delete(id_, announce=False), "deleted", told=told)

    # what happens on the way

    @precondition(lambda self: self.flying)
    @rule(which=WHICH, stays=st.booleans(), leaves_now=st.booleans())
    def deliver(self, which: int, *, stays: bool, leaves_now: bool) -> None:
        """One comes in, not always the oldest; it may come again, or be stamped as it leaves."""
        self.run(self._deliver(which, stays=stays, leaves_now=leaves_now))

    async def _deliver(self, which: int, *, stays: bool = False, leaves_now: bool = False) -> None:
        place = which % len(self.flying)
        _, topic, body = self.flying[place]
        if not stays:
            del self.flying[place]
        stamp = {"updated_at": self._stamp()} if leaves_now else {}
        await self._arrive(topic, json.dumps({**body, **stamp}).encode())

    @rule(what=st.lists(st.tuples(WHICH, st.booleans()), min_size=1, max_size=3))
    def let_deliveries_come_in_during_calls(self, what: list[tuple[int, bool]]) -> None:
        self.meanwhile = what

    async def _happen_meanwhile(self, path: str) -> None:
        if not self.meanwhile:
            return
        which, changes = self.meanwhile.pop()
        read = [id_ for id_ in self.ids if path.endswith(f"/{id_}.json")]
        if changes and read:
            changed = self.sandbox.company.update(read[0], {"last_name": f"M{self.now}"}, announce=False)
            self._say(changed, "updated", told=True)
            await self._deliver(-1)
        elif self.flying:
            await self._deliver(which)

    @precondition(lambda self: self.flying)
    @rule(which=WHICH)
    def lose(self, which: int) -> None:
        self.silent.add(self.flying.pop(which % len(self.flying))[0])

    @rule(body=st.sampled_from([b"", b"{", b'{"id": "x"}', b'{"id": 1, "company_id": 9}', b'"\\ud800"']))
    def deliver_what_cannot_be_read(self, body: bytes) -> None:
        self.run(self._arrive("customers/updated", body))

    async def _arrive(self, topic: str, body: bytes) -> None:
        position = len(self.arrived) + 1
        delivery = Delivery(position, f"delivery-{position:04}", COMPANY, topic, self.clock(), {}, body)
        self.arrived.append(delivery)
        await self.engine.applier.apply([delivery])

    @precondition(lambda self: self.arrived)
    @rule(which=WHICH)
    def replay(self, which: int) -> None:
        again = self.arrived[which % len(self.arrived)]
        self.run(self.engine.applier.apply([again], again=True))

    # what the mirror does

    @rule(seconds=st.sampled_from([0.4, 1.0, 3.0, 20.0, 600.0, LONG]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(lag=st.sampled_from([0.0, 0.0, READ_LAG - 1]))
    def let_reads_lag(self, lag: float) -> None:
        self.sandbox.change(self.sandbox.faults, {"read_lag_seconds": lag})

    @rule(faults=st.lists(FAULTS, max_size=4))
    def let_calls_fail(self, faults: list[str]) -> None:
        self.sandbox.calls.ask(faults)

    @rule()
    def verify(self) -> None:
        self._try(self._verify())

    async def _verify(self) -> None:
        engine = self.engine
        due = await due_doubts(engine.mirror, engine.clock(), engine.settings.timing, 8)
        await engine.verifier.verify_all(due)
        await engine.deletions.settle()

    @rule()
    def refresh(self) -> None:
        self._try(self._refresh())

    async def _refresh(self) -> None:
        await self.engine.refresher.refresh()

    @rule()
    def sweep(self) -> None:
        if self._try(self.engine.sweeper.sweep("schedule")) is not None:
            self.silent -= self._seen_in_the_list()

    def _seen_in_the_list(self) -> set[int]:
        """Name the silent ones that are right by now."""
        if self.sandbox.faults.read_lag_seconds:
            return set()
        differing = set(self._wrong())
        return {id_ for id_ in self.silent if id_ not in differing}

    @rule(deep=st.booleans())
    def reconcile(self, *, deep: bool) -> None:
        report = self._try(self.engine.reconciler.reconcile(Request(deep=deep)))
        if deep and isinstance(report, Report) and report.whole and not self.sandbox.faults.read_lag_seconds:
            self.silent.clear()
            assert not self._wrong().keys() - {id_ for id_, *_ in self.flying}

    def _try(self, work: Coroutine[Any, Any, Result]) -> Result | None:
        try:
            return self.run(work)
        except (KountaError, ForeignListError):
            return None

    @rule()
    def restart(self) -> None:
        self.run(self._restart())

    async def _restart(self) -> None:
        await self.stack.aclose()
        self.stack = AsyncExitStack()
        await self._open()

    @rule(attributes=SUBSCRIBED)
    def subscribe(self, attributes: tuple[str, ...]) -> None:
        self.subscribed = attributes
        self.run(self._restart())

    # what must hold

    def _wrong(self) -> dict[int, str]:
        return wrong_in(self.place, self.sandbox, self.subscribed)

    def _rows(self, query: str) -> list[dict[str, Any]]:
        return asked(self.place, query)

    @invariant()
    def nobody_is_wrong_without_a_reason(self) -> None:
        if not hasattr(self, "engine"):
            return
        outstanding = {row["customer_id"] for row in self._rows("SELECT customer_id FROM _verifications")}
        outstanding |= {row["customer_id"] for row in self._rows("SELECT customer_id FROM _held_deletes")}
        on_their_way = {id_ for id_, *_ in self.flying}
        wrong = {
            id_: what
            for id_, what in self._wrong().items()
            if id_ not in outstanding | on_their_way | self.silent
        }
        assert wrong == {}

    @invariant()
    def the_figures_count_the_rows(self) -> None:
        if not hasattr(self, "engine"):
            return
        (figures,) = self._rows(
            "SELECT live, deleted, verified, partial, verifications_due FROM mirror_status"
        )
        (counted,) = self._rows(
            "SELECT (SELECT count(*) FROM customers) AS live,"
            " (SELECT count(*) FROM all_customers WHERE deleted_at IS NOT NULL) AS deleted,"
            " (SELECT count(*) FROM customers WHERE verified_at IS NOT NULL) AS verified,"
            " (SELECT count(*) FROM customers WHERE partial) AS partial,"
            " (SELECT count(*) FROM _verifications) AS verifications_due"
        )
        assert figures == counted

    @invariant()
    def each_delivery_has_one_verdict(self) -> None:
        if not hasattr(self, "engine"):
            return
        verdicts = self._rows("SELECT delivery_id, verdict FROM delivery_verdicts ORDER BY delivery_id")
        assert [row["delivery_id"] for row in verdicts] == [one.id for one in self.arrived]
        counted = self._rows("SELECT verdict, count FROM _verdict_counts WHERE count > 0")
        assert {row["verdict"]: row["count"] for row in counted} == Counter(
            row["verdict"] for row in verdicts
        )

    @invariant()
    def the_history_leads_to_the_rows(self) -> None:
        """Whoever follows the feed from its beginning has the same customers as whoever asks the mirror."""
        if not hasattr(self, "engine"):
            return
        followed: dict[int, dict[str, Any]] = {}
        for change in self._rows("SELECT customer_id, kind, after FROM customer_changes ORDER BY seq"):
            after = json.loads(change["after"])
            if change["kind"] == "deleted":
                followed.pop(change["customer_id"], None)
            elif change["kind"] == "updated":
                followed[change["customer_id"]] |= after
            else:
                followed[change["customer_id"]] = after
        rows = {row["id"]: row for row in self._rows("SELECT * FROM customers")}
        assert followed.keys() == rows.keys()
        for id_, told in followed.items():
            shown = {name: _plain(name, rows[id_][name]) for name in told}
            assert shown == told

    def come_right(self) -> None:
        """Upstream answers and stops changing, and whatever was on its way arrives."""
        self.sandbox.calls._asked.clear()
        self.sandbox.change(self.sandbox.faults, {"read_lag_seconds": 0})
        while self.flying:
            self.run(self._deliver(-1))
        self.now += LONG
        assert self.run(self.engine.reconciler.reconcile(Request())).whole
        for what in self._wrong().values():
            assert what.startswith("differs in ")
            assert not LISTED & set(what.removeprefix("differs in ").split(", "))
        self.now += LONG
        report = self.run(self.engine.reconciler.reconcile(Request(deep=True)))
        assert self._wrong() == {}
        assert report.whole


def _plain(name: str, value: Any) -> Any:
    if name in {"tags", "other"}:
        return json.loads(value)
    return bool(value) if name == "accepts_marketing" and value is not None else value


LIVES: Final = tries(8, 120)
ON_A_SERVER: Final = 4
"""One in so many lives is lived on PostgreSQL, too, where it takes longer."""


def test_a_life_in_any_order_ends_right(place: Place) -> None:
    class LifeThere(Life):
        server = place if isinstance(place, Server) else None

    run_state_machine_as_test(
        LifeThere,
        settings=settings(
            max_examples=LIVES if LifeThere.server is None else -(-LIVES // ON_A_SERVER),
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )
