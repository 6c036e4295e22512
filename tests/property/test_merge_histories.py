"""A brute-force model of adversarial histories: does any of them end wrong without the mirror knowing it?

Upstream's truth of one customer stands beside a mirror that is fed through the real merge, fence and doubts:
bodies stamped when the change was made or when the delivery left or not at all, deliveries lost, doubled,
disordered, delayed and failed, lists and reads that lag and race, clocks that differ and step. A history ends
**silently wrong** when the record differs from the truth and no doubt is outstanding. There must be none; and
with a rule taken out, there must be some, else the model proves nothing of that rule.

`MIRROR_MODEL_HISTORIES=200000` tries that many; `MIRROR_MODEL_SEED=12345` starts there. A failure prints the
seed and the history.
"""

import heapq
import itertools
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final, Protocol

import pytest

from sync.merge import decisions, doubts, snapshots
from sync.merge.customers import Subscription
from sync.merge.decisions import Decision, Kind, Verdict
from sync.merge.doubts import Doubt, Reason, Timing
from sync.merge.records import Record
from sync.merge.snapshots import Snapshot, Source

HISTORIES: Final = int(os.environ.get("MIRROR_MODEL_HISTORIES", "24000"))
FIRST_SEED: Final = int(os.environ.get("MIRROR_MODEL_SEED", "0"))
LONGEST_READ: Final = 35_000
"""Milliseconds from the picture, which may lag, to the end of the read."""
MOST_SEEDS: Final = 20_000
"""So many histories at most are tried to find a rule that was taken out."""

BASE: Final = datetime(2026, 11, 2, 9, tzinfo=UTC)
LONG_AGO: Final = -(10**9)
TIMING: Final = Timing(
    read_lag=timedelta(seconds=5), pause=timedelta(seconds=1), longest_pause=timedelta(seconds=8)
)
"""A read lag of 5 s, whatever the default is: the times of the worlds (`World.lags`) are made for it.

With a longer one every read waits until these short histories are over, and no rule is needed.
"""
READ_AFTER: Final = int(TIMING.read_after.total_seconds() * 1000)
SUBSCRIPTION: Final = Subscription.of(["email", "phone"])
CUSTOMER: Final = 7

Lacks = dict[str, str | None]
"""What a picture does not say: attribute -> what came and cannot be read, None: nothing came."""

State = tuple[str, str] | None
"""E-mail, which lists carry, and phone, which abridged lists do not; None: there is no such customer."""


def moment(at: int) -> datetime:
    """Milliseconds of the model's time line as a time by our clock."""
    return BASE + timedelta(milliseconds=at)


class Stamp(StrEnum):
    MADE = "when the change was made"
    LEFT = "when the delivery left"
    NONE = "not at all"


@dataclass(frozen=True)
class World:
    """What can go wrong in a class of histories. Times in seconds."""

    name: str
    stamps: tuple[tuple[Stamp, ...], ...] = (
        (Stamp.MADE,),
        (Stamp.LEFT,),
        (Stamp.NONE,),
        (Stamp.MADE, Stamp.LEFT),
        (Stamp.MADE, Stamp.LEFT, Stamp.NONE),
    )
    skews: tuple[int, ...] = (0, 0, 1, -1, -3, 3, -30, 3600, -3600)
    """How far upstream's clock is ahead of ours."""
    steps: tuple[int, ...] = (0,)
    """How far upstream's clock steps back, once."""
    lost: float = 0
    """The share of changes whose delivery is lost. A sweep follows."""
    abridged: tuple[bool, ...] = (True, False)
    starts: tuple[str, ...] = ("nothing", "mirrored", "unknown")
    plots: tuple[tuple[float, ...], ...] = (
        (0,),
        (0, 0),
        (0, 0, 0),
        (1,),
        (0, 1),
        (1, 1),
        (0.3, 0.3, 0.3),
        (0.2,) * 6,
    )
    """For each change how likely it is the end of a living customer. A dead one comes back to life."""
    emails: str = "abc"
    phones: str = "xy"
    copies: tuple[tuple[int, ...], ...] = ((1,), (1, 1, 1, 2), (1, 2, 3))
    departures: tuple[tuple[float, ...], ...] = ((0,), (0, 0.25, 4), (0, 4, 30))
    transits: tuple[tuple[float, ...], ...] = ((0.05,), (0.05, 0.7, 3), (0.05, 3, 12, 45))
    waits: tuple[tuple[float, ...], ...] = ((0,), (0, 0, 0.4, 6), (0, 0, 25))
    durations: tuple[tuple[float, ...], ...] = ((0.05,), (0.05, 0.9, 10), (10, 30))
    lags: tuple[tuple[float, ...], ...] = ((0,), (0, 5), (0, 0.001, 2, 5), (5,))
    haste: tuple[int, ...] = (1, 1, 4, 10)
    """What the gaps between two changes, 50 ms to 20 s, are divided by."""
    failing: tuple[float, ...] = (0, 0, 0.05, 0.4)
    replayed: tuple[float, ...] = (0, 0, 0.2)
    sweeps: tuple[int, ...] = (0, 1, 3)
    reads: tuple[int, ...] = (0, 1, 4)
    """Reads that a person asks for, or a refresh."""
    lacking: tuple[float, ...] = ()
    """The share of bodies, and that of answers, which lack an attribute or have one that cannot be read."""


PLAIN: Final = World("disorder, delay, races and a constant difference of the clocks")
STEPPED: Final = World("upstream's clock steps back", skews=(0, -1), steps=(1, 3, 40, 4000))
ABRIDGED: Final = World("deliveries lost, then a sweep of an abridged list", lost=0.3, abridged=(True,))
COMPLETE: Final = World("deliveries lost, then a sweep of a complete list", lost=0.3, abridged=(False,))
RESTORED: Final = World(
    "back to life, while its deletion is announced a second time",
    stamps=((Stamp.LEFT,),),
    skews=(0, 1),
    starts=("mirrored",),
    plots=((1, 0),),
    copies=((1, 2),),
    departures=((0, 30),),
    transits=((0.05, 45),),
    waits=((0,),),
    durations=((0.05,), (10,)),
    lags=((0,),),
    haste=(1, 2),
    failing=(0,),
    replayed=(0,),
    sweeps=(0,),
    reads=(0,),
)
HELD: Final = World(
    "back to life as it was, while a 404 waits to be proven",
    stamps=((Stamp.MADE,), (Stamp.NONE,)),
    starts=("mirrored",),
    plots=((1, 0),),
    emails="a",
    phones="x",
    copies=((1,),),
    departures=((0,),),
    transits=((0.05, 45),),
    waits=((12,),),
    durations=((10,),),
    lags=((0,),),
    haste=(1,),
    failing=(0,),
    replayed=(0,),
    sweeps=(0,),
    reads=(2, 4),
)
FAILING: Final = World(
    "the deliveries of a customer not known yet fail",
    starts=("nothing", "unknown"),
    plots=((0,), (0, 0), (1,), (0, 1)),
    copies=((1,),),
    departures=((0,),),
    transits=((0.05, 3),),
    waits=((0,),),
    lags=((0, 5), (5,)),
    failing=(0.9,),
    replayed=(0,),
    reads=(1, 4),
)
MASKED: Final = World(
    "deliveries of a customer in doubt fail",
    starts=("mirrored",),
    plots=((0, 0), (0, 0, 0)),
    departures=((0,),),
    transits=((0.05, 3),),
    waits=((0,),),
    durations=((0.05,),),
    lags=((0, 5), (5,)),
    haste=(4, 10),
    failing=(0.4,),
    sweeps=(0,),
    reads=(4,),
)
WATCHED: Final = World(
    "changes that only a sweep sees, while reads are under way",
    lost=0.7,
    abridged=(True,),
    starts=("mirrored",),
    plots=((0,), (0, 0), (1,), (0, 1)),
    lags=((0, 5), (0,)),
    failing=(0,),
    sweeps=(3, 6),
    reads=(2, 6),
)
GONE: Final = World(
    "a deletion that only a sweep sees, while reads of a customer without a record are under way",
    lost=0.9,
    starts=("unknown",),
    plots=((1,),),
    copies=((1,),),
    durations=((0.05, 10),),
    lags=((0,),),
    failing=(0,),
    replayed=(0,),
    sweeps=(1, 2),
    reads=(1,),
)
BURIED: Final = World(
    "a second deletion that only a sweep sees, while reads of a tombstone are under way",
    lost=0.5,
    starts=("mirrored",),
    plots=((1, 0, 1),),
    copies=((1,),),
    departures=((0,),),
    transits=((0.05,),),
    waits=((0,),),
    durations=((0.05, 30),),
    lags=((0,), (0, 5)),
    haste=(1, 2),
    failing=(0,),
    replayed=(0,),
    sweeps=(6,),
    reads=(2, 4),
)
IN_ORDER: Final = World("stamped when made, by a clock that agrees", stamps=((Stamp.MADE,),), skews=(0,))
UNREAD: Final = World(
    "pictures that lack an attribute, or have one that cannot be read",
    lacking=(0, 0.3, 1),
)
UNREAD_AND_LOST: Final = World(
    "the same, and deliveries lost, then a sweep",
    lost=0.3,
    abridged=(True,),
    lacking=(0, 0.5, 1),
)
FILLED: Final = World(
    "an older picture that comes after one that cannot be read",
    stamps=((Stamp.MADE,),),
    starts=("nothing",),
    plots=((0, 0), (0, 0, 0)),
    copies=((1,),),
    transits=((0.05, 30),),
    waits=((0,),),
    haste=(1, 2),
    failing=(0,),
    replayed=(0,),
    sweeps=(0,),
    reads=(0,),
    lacking=(0.5,),
)
UNSAID: Final = World(
    "bodies that do not say what has changed",
    starts=("mirrored",),
    plots=((0,), (0, 0)),
    copies=((1,),),
    departures=((0,),),
    transits=((0.05,),),
    waits=((0,),),
    failing=(0,),
    replayed=(0,),
    sweeps=(0,),
    reads=(0,),
    lacking=(1,),
)
WORLDS: Final = (
    PLAIN,
    STEPPED,
    ABRIDGED,
    COMPLETE,
    RESTORED,
    HELD,
    FAILING,
    MASKED,
    WATCHED,
    GONE,
    BURIED,
    IN_ORDER,
    UNREAD,
    UNREAD_AND_LOST,
    FILLED,
)


@dataclass(frozen=True, slots=True)
class Delivery:
    position: int
    arrived_at: int
    state: tuple[str, str]
    deleted: bool
    updated_at: str | None
    lacks: Lacks = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of upstream to a read or to a page of a list, or its silence."""

    began_at: int
    shows: State
    stamp: str
    position: int
    revision: int
    failed: bool = False
    lacks: Lacks = field(default_factory=dict)


@dataclass
class History:
    """One history, made from its seed: what happens upstream, on the way, and in the mirror."""

    world: World
    seed: int
    lines: list[tuple[int, str]] | None = None
    """Kept only to print a history that failed."""

    record: Record | None = None
    doubt: Doubt | None = None
    revision: int = 0
    position: int = 0
    truth: list[tuple[int, State]] = field(default_factory=list)
    inbox: list[Delivery] = field(default_factory=list)
    reads: int = 0
    under_way: int = 0
    unannounced: bool = False
    swept: bool = False
    """The last sweep began after the last change could be seen."""
    sweeping: bool = False
    held: Answer | None = None
    """A 404 that waits to become a tombstone."""
    overridden: bool = False
    """A delivery that an authoritative read knew of has changed what the read had said."""

    def __post_init__(self) -> None:
        self.random = random.Random(f"{self.world.name} {self.seed}")
        pick = self.random.choice
        world = self.world
        self.stamps = pick(world.stamps)
        self.skew = pick(world.skews) * 1000
        self.step = pick(world.steps) * 1000
        self.steps_at = pick((500, 4_000, 15_000, 40_000))
        self.abridged = pick(world.abridged)
        self.written_late = pick((True, False, False, False))
        self.haste = pick(world.haste)
        self.eagerness = pick((0.2, 0.7, 1.0))
        self.copies, self.failing, self.replayed = (
            pick(world.copies),
            pick(world.failing),
            pick(world.replayed),
        )
        self.departures, self.transits = pick(world.departures), pick(world.transits)
        self.waits, self.durations, self.lags = pick(world.waits), pick(world.durations), pick(world.lags)
        self.bodies_lacking = pick(world.lacking) if world.lacking else 0.0
        self.answers_lacking = pick(world.lacking) if world.lacking else 0.0
        self.now = 0
        self.events: list[tuple[int, int, Callable[[], None]]] = []
        self.order = itertools.count()

    # what happens, and when

    def run(self) -> "History":
        """Let everything happen that the seed holds; then, if anything was lost, a sweep."""
        self._begin()
        self._let_happen()
        if self.unannounced and not self.swept:
            self.now = max(self.now, self.truth[-1][0]) + READ_AFTER
            self.note("the sweep that follows a loss")
            self._page_ends(self._ask(self.now, quiet=True))
            self._let_happen()
        return self

    def _begin(self) -> None:
        pick = self.random.choice
        start = pick(self.world.starts)
        state: State = None if start == "nothing" else ("a", "x")
        self.truth.append((LONG_AGO, state))
        if start == "unknown":
            self.unannounced = True
        if start == "mirrored":
            read = Answer(-60_000, state, self.stamp_at(-60_000), 0, 0)
            self.record = decisions.accept(None, self._snapshot_of(read), SUBSCRIPTION).record
        self.note(f"customer: {start}; stamps: {self.stamps}; skew {self.skew}; step {self.step}")
        at, last = 0, ("a", "x")
        for deletes in pick(self.world.plots):
            at += pick((50, 300, 900, 2_500, 8_000, 20_000)) // self.haste
            if state is None:
                topic, state = "created", (pick(self.world.emails), pick(self.world.phones))
            elif self.random.random() < deletes:
                topic, state = "deleted", None
            else:
                topic, state = "updated", (pick(self.world.emails), pick(self.world.phones))
            last = state or last
            self.truth.append((at, state))
            self._announce(at, topic, last)
            if topic == "updated" and self.random.random() < 0.1:
                self._write(at, last)
        for _ in range(pick(self.world.sweeps)):
            self.at(self._about(pick(self.truth[1:])[0]), self._sweep)
        for _ in range(pick(self.world.reads)):
            self.at(self._about(pick(self.truth[1:])[0]), self._ask_for_a_read)

    def _about(self, at: int) -> int:
        return max(0, at + self.random.randrange(-1_000, self.random.choice((1_500, 8_000, 40_000)), 50))

    def _let_happen(self) -> None:
        while self.events:
            self.now, _, happen = heapq.heappop(self.events)
            happen()

    def at(self, at: int, happen: Callable[[], None]) -> None:
        heapq.heappush(self.events, (at, next(self.order), happen))

    def _some(self, seconds: tuple[float, ...]) -> int:
        return int(self.random.choice(seconds) * 1000)

    def note(self, line: str) -> None:
        if self.lines is not None:
            self.lines.append((self.now, line))

    # upstream

    def truth_at(self, at: int) -> State:
        return next(state for since, state in reversed(self.truth) if since <= at)

    def stamp_at(self, at: int) -> str:
        """Upstream's clock, in whole seconds."""
        shown = at + self.skew - (self.step if at >= self.steps_at else 0)
        return moment(shown // 1000 * 1000).isoformat()

    def _announce(self, made_at: int, topic: str, state: tuple[str, str]) -> None:
        pick = self.random.choice
        copies = 0 if self.random.random() < self.world.lost else pick(self.copies)
        if copies == 0:
            self.unannounced = True
            self.note(f"{made_at}: {topic} {state}, and its delivery is lost")
        for _ in range(copies):
            leaves_at = made_at + self._some(self.departures)
            arrives_at = leaves_at + self._some(self.transits)
            stamp = pick(self.stamps)
            updated_at = {
                Stamp.MADE: self.stamp_at(made_at),
                Stamp.LEFT: self.stamp_at(leaves_at),
                Stamp.NONE: None,
            }[stamp]
            self.note(f"{made_at}: {topic} {state}, leaves at {leaves_at}, stamped {updated_at}")
            written_at = leaves_at if self.written_late else made_at
            self.at(arrives_at, self._arrival(topic, state, written_at, updated_at))

    def _arrival(
        self, topic: str, state: tuple[str, str], written_at: int, updated_at: str | None
    ) -> Callable[[], None]:
        def arrive() -> None:
            body = self.truth_at(written_at) or state
            position = len(self.inbox) + 1
            lacks = self._lacks(self.bodies_lacking)
            self.inbox.append(Delivery(position, self.now, body, topic == "deleted", updated_at, lacks))
            self.note(f"delivery {position} arrives: {topic} {body}, stamped {updated_at}, lacks {lacks}")
            wait = self._some(self.waits)
            self.at(self.now + wait, lambda: self._apply_up_to(position))

        return arrive

    def _ask(self, at: int, *, quiet: bool = False) -> Answer:
        """Ask upstream: it takes the picture while the call lasts, from a copy that may lag."""
        lag = self._some(self.lags)
        lasts = 0 if quiet else self._some(self.durations)
        taken_at = at + self.random.choice((0, lasts // 2, lasts))
        failed = not quiet and self.random.random() < 0.1
        self.answered_at, self.pictured_at = at + lasts, taken_at - lag
        return Answer(
            began_at=at,
            shows=self.truth_at(taken_at - lag),
            stamp=self.stamp_at(taken_at),
            position=self.position,
            revision=self.revision,
            failed=failed,
            lacks=self._lacks(self.answers_lacking),
        )

    def _lacks(self, share: float) -> Lacks:
        """Draw what a picture does not say. What cannot be read may look the same though it has changed."""
        if not share or self.random.random() >= share:
            return {}
        names = self.random.choice((("phone",), ("phone",), ("email",), ("email", "phone")))
        return {name: self.random.choice((None, "?", f"? of {self.now}")) for name in names}

    # the mirror, as the worker does it

    def _decide(self, decision: Decision) -> None:
        self.record = decision.record
        self.note(f"  {decision.verdict}: {shown(self.record)}, doubt {decision.doubt}")
        if decision.doubt is not None:
            self._raise(decision.doubt)

    def _raise(self, reason: Reason, *, asked: bool = False) -> None:
        self.revision += 1
        self.held = None
        due_at = moment(self.now) + (timedelta(0) if asked else TIMING.read_after)
        self.doubt = doubts.raise_doubt(self.doubt, CUSTOMER, reason, due_at, self.revision, asked=asked)
        self._plan_a_read()

    def _apply_up_to(self, position: int) -> None:
        while self.position < position:
            delivery = self.inbox[self.position]
            self.position += 1
            if self.random.random() < self.failing:
                self.note(f"applying {delivery.position} fails")
                self._fail(delivery)
            else:
                self._apply(delivery)
            if self.random.random() < self.replayed:
                self._apply(self.random.choice(self.inbox[: self.position]))

    def _fail(self, delivery: Delivery) -> None:
        if self.record is not None:
            self.record = decisions.heard(self.record, moment(delivery.arrived_at))
        self._raise(Reason.FAILED)

    def _apply(self, delivery: Delivery) -> None:
        self.note(f"{delivery.position} is applied")
        arrived_at = moment(delivery.arrived_at)
        snapshot = self._snapshot(
            delivery.state, delivery.updated_at, arrived_at, delivery.position, Source.WEBHOOK, delivery.lacks
        )
        snapshot = replace(snapshot, deleted=delivery.deleted)
        known = self.record is not None and delivery.position <= self.record.read_position
        decision = decisions.merge(self.record, snapshot, SUBSCRIPTION, TIMING.window)
        self.overridden = self.overridden or (known and decision.kind is not None)
        self._decide(decision)

    def _plan_a_read(self) -> None:
        if self.doubt is not None and self.random.random() < self.eagerness:
            readable_at = doubts.readable_at(self.doubt, self.record, TIMING)
            due = int((readable_at - BASE) / timedelta(milliseconds=1))
            self.at(max(due, self.now) + self.random.choice((0, 0, 300, 5_000)), self._read)

    def _ask_for_a_read(self) -> None:
        reason = self.random.choice((Reason.ASKED, Reason.REFRESH))
        self.note(f"a read for its own sake: {reason}")
        self._raise(reason, asked=reason is Reason.ASKED)

    def _read(self) -> None:
        if self.doubt is None or self.reads > 40:
            return
        if self.under_way and (self.record is None or self.random.random() < 0.8):
            return  # one at a time where no record fences the other; elsewhere mostly
        if doubts.readable_at(self.doubt, self.record, TIMING) > moment(self.now):
            self._plan_a_read()
            return
        self.reads += 1
        self.under_way += 1
        answer = self._ask(self.now)
        self.note(f"read {self.reads} begins; its picture is of {self.pictured_at}")
        self.at(self.answered_at, lambda: self._read_ends(answer))

    def _read_ends(self, answer: Answer) -> None:
        self.under_way -= 1
        self.note(f"the read begun at {answer.began_at} ends: {answer}")
        now = moment(self.now)
        if answer.failed:
            self._put_off()
        elif self._fenced(answer):
            if answer.shows is not None:
                snapshot = self._snapshot_of(answer)
                self._decide(decisions.merge(self.record, snapshot, SUBSCRIPTION, TIMING.window))
            if self.record is not None:
                self.record = replace(self.record, read_at=now)
            self._put_off()
        elif answer.shows is not None:
            self._accept(self._snapshot_of(answer))
        else:
            failed = self.doubt is not None and self.doubt.reason is Reason.FAILED
            self.doubt = self.held = None
            if self.record is None:
                if failed:
                    self._miss_unknown(answer)
            else:
                self.held = answer
                proven_at = self.now + self.random.choice((0, 0, 400, 20_000))
                self.at(proven_at, lambda: self._settle_missing(answer, now))

    def _miss_unknown(self, answer: Answer) -> None:
        self._decide(
            decisions.accept_missing_unknown(
                CUSTOMER, SUBSCRIPTION, arrived_at=moment(self.now), position=answer.position
            )
        )

    def _accept(self, snapshot: Snapshot) -> None:
        self._decide(decisions.accept(self.record, snapshot, SUBSCRIPTION))
        self.doubt = self.held = None

    def _settle_missing(self, answer: Answer, missing_at: datetime) -> None:
        """A later call gave 200, and the brake lets go: the 404 becomes a tombstone if it still stands."""
        if self.held is not answer or self.record is None:
            return
        self.note(f"the 404 of the read begun at {answer.began_at} is proven")
        if self._contradicted(answer, missing_at):
            self._raise(Reason.CONTRADICTED)
        else:
            self.held = None
            self._decide(
                decisions.accept_missing(self.record, arrived_at=missing_at, position=answer.position)
            )

    def _contradicted(self, answer: Answer, _missing_at: datetime) -> bool:
        return self._fenced(answer)

    def _fenced(self, answer: Answer) -> bool:
        return doubts.is_fenced(
            self.record,
            self.doubt,
            began_at=moment(answer.began_at),
            seen_revision=answer.revision,
            timing=TIMING,
        )

    def _put_off(self) -> None:
        if self.doubt is not None:
            self.note("  put off")
            self.doubt = doubts.put_off(self.doubt, moment(self.now), TIMING)
            self._plan_a_read()

    def _write(self, made_at: int, state: tuple[str, str]) -> None:
        """Let a change be one that we asked upstream for: its answer shows it at once."""

        def begin() -> None:
            answer = Answer(self.now, state, self.stamp_at(made_at), self.position, self.revision)
            self.note("we write to upstream")
            self.at(made_at + self.random.choice((10, 900, 10_000)), lambda: end(answer))

        def end(answer: Answer) -> None:
            self.note(f"the write of {made_at} is answered")
            snapshot = replace(self._snapshot_of(answer), source=Source.WRITE)
            if self.record is None or self._fenced(answer):
                self._decide(decisions.merge(self.record, snapshot, SUBSCRIPTION, TIMING.window))
            else:
                self._accept(snapshot)

        self.at(made_at - self.random.choice((10, 900)), begin)

    def _sweep(self) -> None:
        answer = self._ask(self.now)
        if answer.failed or self.sweeping:
            return
        self.note(f"a page of a sweep is asked for; its picture is of {self.pictured_at}")
        self.sweeping = True
        seen_all = self.pictured_at >= self.truth[-1][0]
        self.at(self.answered_at, lambda: self._page_ends(answer, seen_all=seen_all))

    def _page_ends(self, answer: Answer, *, seen_all: bool = True) -> None:
        self.note(f"the page lists {answer.shows}")
        self.swept, self.sweeping = seen_all, False
        if answer.shows is None:
            if self.record is not None:
                self._decide(decisions.compare_unlisted(self.record, moment(self.now)))
            elif self.doubt is not None:
                self._doubt_again()
            return
        if self.world.lost:
            answer = replace(answer, lacks={})  # only the list tells of the loss
        snapshot = replace(self._snapshot_of(answer), source=Source.SWEEP)
        if self.abridged:
            listed = {name: value for name, value in snapshot.values.items() if name == "email"}
            snapshot = replace(snapshot, complete=False, values=listed)
        if not snapshot.complete and self.record is not None:
            self._decide(decisions.compare_listed(self.record, snapshot))
            return
        if not snapshot.complete or self._fenced(answer):
            self._decide(decisions.merge(self.record, snapshot, SUBSCRIPTION, TIMING.window))
        else:
            self._accept(snapshot)

    def _doubt_again(self) -> None:
        """A sweep did not list a customer in doubt who has no record that could fence a read under way."""
        self._raise(Reason.UNLISTED)

    def _snapshot_of(self, answer: Answer) -> Snapshot:
        assert answer.shows is not None
        return self._snapshot(
            answer.shows, answer.stamp, moment(self.now), answer.position, Source.VERIFICATION, answer.lacks
        )

    def _snapshot(
        self,
        state: tuple[str, str],
        updated_at: str | None,
        arrived_at: datetime,
        position: int,
        source: Source,
        lacks: Lacks,
    ) -> Snapshot:
        as_of, rests_on_arrival = snapshots.picture_time(updated_at, arrived_at, TIMING.window)
        values: dict[str, Any] = {"email": state[0], "phone": state[1]}
        for name, raw in lacks.items():
            values[name] = None
            if raw is None:
                del values[name]
        return Snapshot(
            CUSTOMER,
            values,
            as_of,
            rests_on_arrival,
            arrived_at,
            position,
            source,
            complete=not lacks,
            unread=dict(lacks),
        )

    # how it ended

    def right(self) -> bool:
        """Whether the record equals the truth, in what the sweep of a lossy world can show of it.

        What it says it does not know is not wrong.
        """
        truth = self.truth[-1][1]
        if self.record is None or self.record.deleted_at is not None:
            return truth is None
        if truth is None:
            return False
        email_is_right = self._unknown("email") or self.record.values["email"] == truth[0]
        if self.unannounced and self.abridged:
            return email_is_right
        return email_is_right and (self._unknown("phone") or self.record.values["phone"] == truth[1])

    def _unknown(self, name: str) -> bool:
        assert self.record is not None
        return self.record.partial and self.record.values[name] is None

    def silently_wrong(self) -> bool:
        return self.doubt is None and self.held is None and not (self.right() and not self._is_forgotten())

    def _is_forgotten(self) -> bool:
        """Whether a customer is partial and was never read: the refresh goes by the last read."""
        record = self.record
        return (
            record is not None and record.deleted_at is None and record.partial and record.verified_at is None
        )

    def lies(self) -> bool:
        """Whether a value is shown as verified that was not the truth at any time while it was read."""
        record = self.record
        if record is None or record.deleted_at is not None or record.verified_at is None:
            return False
        until = int((record.verified_at - BASE) / timedelta(milliseconds=1))
        since = until - LONGEST_READ
        shown = [self.truth_at(since), *(state for at, state in self.truth if since <= at <= until)]
        return any(
            not self._unknown(name) and all(one is None or one[place] != record.values[name] for one in shown)
            for place, name in enumerate(("email", "phone"))
        )

    def verify(self) -> "History":
        """Perform what is outstanding while upstream is quiet."""
        for _ in range(10):
            if self.doubt is None:
                break
            readable_at = doubts.readable_at(self.doubt, self.record, TIMING)
            due = int((readable_at - BASE) / timedelta(milliseconds=1))
            self.now = max(self.now, due, self.truth[-1][0] + READ_AFTER)
            answer = self._ask(self.now, quiet=True)
            self.under_way += 1
            self._read_ends(answer)
            self.eagerness = 0
            self._let_happen()
        return self

    def refresh(self) -> "History":
        """Read once more, in full, though nothing is known against it."""
        self.answers_lacking = 0
        self.now += READ_AFTER
        self._raise(Reason.REFRESH)
        return self.verify()


def shown(record: Record) -> str:
    state = "tombstone" if record.deleted_at is not None else tuple(record.values.values())[:2]
    return f"{state} as of {record.as_of:%H:%M:%S}, settled {record.settled_at:%H:%M:%S}"


def told(world: World, seed: int) -> str:
    """A failed history as a list to read."""
    history = History(world, seed, lines=[]).run()
    end = f"silently wrong: {history.silently_wrong()}"
    history.verify()
    lines = "\n".join(f"  {at:>7} {line}" for at, line in history.lines or [])
    return (
        f"seed {seed}, {world.name}\n{lines}\n{end}; truth {history.truth}, "
        f"record {history.record and shown(history.record)}, doubt {history.doubt}"
    )


def silently_wrong_seeds(world: World, seeds: range) -> Iterator[int]:
    return (seed for seed in seeds if History(world, seed).run().silently_wrong())


class Mutation(Protocol):
    """Takes a rule out for the rest of a test."""

    __name__: str

    def __call__(self, patch: pytest.MonkeyPatch, /) -> None: ...


def without_the_fence(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(doubts, "is_fenced", lambda *_, **__: False)


def without_the_wait(patch: pytest.MonkeyPatch) -> None:
    """Neither the fence nor the time of the next read asks when the customer was last heard of."""
    fenced, readable_at = doubts.is_fenced, doubts.readable_at
    patch.setattr(doubts, "is_fenced", lambda _, doubt, **known: fenced(None, doubt, **known))
    patch.setattr(doubts, "readable_at", lambda doubt, _, timing: readable_at(doubt, None, timing))


def waiting_for_the_stamp_alone(patch: pytest.MonkeyPatch) -> None:
    """The wait counts from upstream's stamp, not from the arrival."""
    patch.setattr(decisions, "_settled", lambda record, snapshot: max(record.settled_at, snapshot.as_of))


def with_listed_alone_unheard(patch: pytest.MonkeyPatch) -> None:
    listed = decisions.compare_listed
    patch.setattr(decisions, "compare_listed", lambda r, s: replace(listed(r, s), record=r))


def with_unlisted_tombstones_unheard(patch: pytest.MonkeyPatch) -> None:
    unlisted = decisions.compare_unlisted
    patch.setattr(
        decisions,
        "compare_unlisted",
        lambda r, at: replace(unlisted(r, at), record=r) if r.deleted_at else unlisted(r, at),
    )


def with_failures_unheard(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(History, "_fail", lambda history, _: history._raise(Reason.FAILED))


def with_every_doubt_due_at_the_earliest(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(doubts, "_due_at", lambda known, _, due_at: min(known.due_at, due_at))


def without_the_fence_of_failures(patch: pytest.MonkeyPatch) -> None:
    fenced = doubts.is_fenced

    def is_fenced(record: Record | None, doubt: Doubt | None, **known: Any) -> bool:
        if doubt is not None and doubt.reason in doubts._NOTED_HERE_ALONE:
            doubt = replace(doubt, reason=Reason.STALE)
        return fenced(record, doubt, **known)

    patch.setattr(doubts, "is_fenced", is_fenced)


def without_tombstones_of_the_unknown(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(History, "_miss_unknown", lambda *_: None)


def without_doubting_the_unknown_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(History, "_doubt_again", lambda *_: None)


def with_held_deletes_checked_by_their_answer(patch: pytest.MonkeyPatch) -> None:
    """A held delete is refused only if something was heard after its 404 was answered."""
    patch.setattr(
        History, "_contradicted", lambda history, _, missing_at: history.record.settled_at > missing_at
    )


def leaving_no(*reasons: Reason) -> Mutation:
    def mutation(patch: pytest.MonkeyPatch) -> None:
        merge = decisions.merge

        def decide(*known: Any) -> Decision:
            decision = merge(*known)
            return replace(decision, doubt=None) if decision.doubt in reasons else decision

        patch.setattr(decisions, "merge", decide)

    mutation.__name__ = f"leaving_no_{'_'.join(reasons)}"
    return mutation


def with_no_doubt_of_late_words_on_a_tombstone(patch: pytest.MonkeyPatch) -> None:
    onto = decisions._onto_tombstone

    def quiet(record: Record, snapshot: Snapshot, window: timedelta) -> Decision:
        decision = onto(record, snapshot, window)
        known = decisions._known_to_read(record, snapshot)
        return replace(decision, doubt=None) if decision.verdict is Verdict.STALE and not known else decision

    patch.setattr(decisions, "_onto_tombstone", quiet)


def reviving_a_tombstone(patch: pytest.MonkeyPatch) -> None:
    onto = decisions._onto_tombstone

    def revive(record: Record, snapshot: Snapshot, window: timedelta) -> Decision:
        if snapshot.deleted:
            return onto(record, snapshot, window)
        values = {**record.values, **snapshot.values}
        now = replace(record, values=values, as_of=snapshot.as_of, deleted_at=None)
        return Decision(Verdict.APPLIED, now, Kind.RESTORED)

    patch.setattr(decisions, "_onto_tombstone", revive)


def keeping_what_a_read_lacks(patch: pytest.MonkeyPatch) -> None:
    accept = decisions.accept

    def keep(record: Record | None, snapshot: Snapshot, subscription: Subscription) -> Decision:
        values = {**(record.values if record is not None else {}), **snapshot.values}
        return accept(record, replace(snapshot, values=values, unread={}, complete=True), subscription)

    patch.setattr(decisions, "accept", keep)


def keeping_what_cannot_be_read(patch: pytest.MonkeyPatch) -> None:
    """The old value stays where one came that cannot be read, as if nothing had come."""
    merge = decisions.merge

    def keep(record: Record | None, snapshot: Snapshot, *rest: Any) -> Decision:
        values = {name: value for name, value in snapshot.values.items() if name not in snapshot.unread}
        kept = replace(snapshot, values=values, unread={}, complete=True)
        return merge(record, kept if record is not None else snapshot, *rest)

    patch.setattr(decisions, "merge", keep)


def trusting_what_does_not_say_all(patch: pytest.MonkeyPatch) -> None:
    onto = decisions._onto_live

    def quiet(record: Record, snapshot: Snapshot, window: timedelta) -> Decision:
        decision = onto(record, snapshot, window)
        return replace(decision, doubt=None) if decision.verdict is Verdict.UNCHANGED else decision

    patch.setattr(decisions, "_onto_live", quiet)


def filling_what_cannot_be_read_with_what_is_older(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(decisions, "is_unknown", lambda record, column: record.values[column] is None)


def without_the_window(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(decisions, "_ambiguous", lambda *_: False)


def without_the_read_position(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(decisions, "_known_to_read", lambda *_: False)


def with_tombstones_of_a_404_by_our_clock(patch: pytest.MonkeyPatch) -> None:
    accept = decisions.accept_missing

    def stamped(record: Record, **known: Any) -> Decision:
        decision = accept(record, **known)
        return replace(decision, record=replace(decision.record, rests_on_arrival=False))

    patch.setattr(decisions, "accept_missing", stamped)


def both(*mutations: Mutation) -> Mutation:
    def mutation(patch: pytest.MonkeyPatch) -> None:
        for one in mutations:
            one(patch)

    mutation.__name__ = "_and_".join(one.__name__ for one in mutations)
    return mutation


RULES: Final[tuple[tuple[World, Mutation], ...]] = (
    (PLAIN, without_the_fence),
    (PLAIN, without_the_wait),
    (MASKED, waiting_for_the_stamp_alone),
    (PLAIN, leaving_no(Reason.CONFIRMATION)),
    (PLAIN, leaving_no(Reason.AMBIGUOUS)),
    (PLAIN, leaving_no(Reason.CONTRADICTED)),
    (STEPPED, leaving_no(Reason.STALE)),
    (PLAIN, reviving_a_tombstone),
    (RESTORED, with_no_doubt_of_late_words_on_a_tombstone),
    (PLAIN, both(with_no_doubt_of_late_words_on_a_tombstone, with_tombstones_of_a_404_by_our_clock)),
    (WATCHED, with_listed_alone_unheard),
    (BURIED, with_unlisted_tombstones_unheard),
    (GONE, without_doubting_the_unknown_again),
    (FAILING, with_every_doubt_due_at_the_earliest),
    (FAILING, without_the_fence_of_failures),
    (FAILING, without_tombstones_of_the_unknown),
    (MASKED, with_failures_unheard),
    (HELD, with_held_deletes_checked_by_their_answer),
    (IN_ORDER, both(without_the_window, leaving_no(Reason.CONFIRMATION))),
    (UNREAD, keeping_what_a_read_lacks),
    (UNREAD, keeping_what_cannot_be_read),
    (UNSAID, trusting_what_does_not_say_all),
    (FILLED, both(filling_what_cannot_be_read_with_what_is_older, leaving_no(Reason.CONFIRMATION))),
)
"""Each rule that keeps histories from ending silently wrong, and a world in which it is needed.

Three rules are not among them, because others make up for them: the window (a difference that cannot be
ordered leaves a confirmation in any case; the window makes it urgent), the revision of the fence (whatever
raises it has been heard of, too), and the position of the read (what it keeps out would be confirmed).
"""


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.name)
def test_no_history_ends_silently_wrong_and_its_doubts_make_it_right(world: World) -> None:
    for seed in range(FIRST_SEED, FIRST_SEED + HISTORIES // len(WORLDS)):
        history = History(world, seed).run()
        assert not history.silently_wrong(), told(world, seed)
        assert not history.overridden, told(world, seed)
        history.verify()
        assert history.right(), told(world, seed)
        assert history.doubt is None, told(world, seed)
        assert not history.lies(), told(world, seed)
        if world.lacking:
            history.refresh()
            assert history.right(), told(world, seed)
            assert history.record is None or history.record.deleted_at or not history.record.partial


@pytest.mark.parametrize(("world", "mutation"), RULES, ids=lambda one: getattr(one, "__name__", ""))
def test_without_a_rule_a_history_ends_silently_wrong(
    world: World, mutation: Mutation, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutation(monkeypatch)
    assert next(silently_wrong_seeds(world, range(MOST_SEEDS)), None) is not None


def test_where_stamps_can_be_trusted_the_window_does_what_confirmations_do_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    leaving_no(Reason.CONFIRMATION)(monkeypatch)
    assert next(silently_wrong_seeds(IN_ORDER, range(1000)), None) is None


def test_without_the_position_of_a_read_a_delivery_that_it_knew_of_overrides_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    without_the_read_position(monkeypatch)
    assert any(History(STEPPED, seed).run().overridden for seed in range(MOST_SEEDS))


def test_a_history_is_made_by_its_seed_alone_and_can_be_read() -> None:
    assert told(PLAIN, 3) == told(PLAIN, 3) != told(PLAIN, 4)
    assert "is applied" in told(PLAIN, 3)
