"""The calls that upstream gets: which of them fail on purpose, and how they are counted."""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from sync.sandbox.settings import OptionError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from random import Random

    from sync.sandbox.settings import Faults

CallFault: TypeAlias = Literal[
    "too_many", "server_errors", "hangs", "cut_bodies", "html_answers", "wrong_answers"
]
CALL_FAULTS: tuple[CallFault, ...] = get_args(CallFault)


class Calls:
    """Chooses the fault of each call, drawn from the seed or asked for, and counts them."""

    def __init__(self, faults: Faults, random: Random) -> None:
        self.total = 0
        self.answered = 0
        self.by_status: Counter[str] = Counter()
        self.by_kind: Counter[str] = Counter()
        self.answered_by_kind: Counter[str] = Counter()
        self.by_fault: Counter[str] = Counter()
        self._faults = faults
        self._random = random
        self._asked: deque[CallFault | None] = deque()

    def ask(self, faults: Iterable[str]) -> None:
        """Decide the next calls: each takes one of these faults, or none for "none".

        Calls of kinds that `only_calls` leaves out take nothing. Raises OptionError for an unknown fault.
        """
        asked: list[CallFault | None] = []
        for name in faults:
            if name == "none":
                asked.append(None)
            elif name in CALL_FAULTS:
                asked.append(name)
            else:
                known = ", ".join(("none", *CALL_FAULTS))
                raise OptionError(f"There is no fault {name!r} of a call; there are {known}.")
        self._asked.extend(asked)

    def begin(self, kind: str) -> CallFault | None:
        """Count a call and give what goes wrong with it."""
        self.total += 1
        self.by_kind[kind] += 1
        draw = self._random.random()
        if self._faults.only_calls and kind not in self._faults.only_calls:
            return None
        fault = self._asked.popleft() if self._asked else self._drawn(draw)
        if fault is not None:
            self.by_fault[fault] += 1
        return fault

    def end(self, kind: str, status: int, *, answered: bool) -> None:
        """Count what was answered. `answered`: the call got what it asked for, or a true no."""
        self.by_status[str(status)] += 1
        if answered:
            self.answered += 1
            self.answered_by_kind[kind] += 1

    def after_write(self) -> bool:
        """Decide whether a fault comes although the work was done."""
        return self._random.random() < self._faults.fault_after_write

    def shift(self) -> int:
        """Decide by how many rows a page has moved."""
        share, places = self._random.random(), self._random.choice((-3, -2, -1, 1, 2, 3))
        return places if share < self._faults.shifted_rows else 0

    def happens(self, share: float) -> bool:
        """Draw whether something happens; a share of 0 leaves the other draws as they are."""
        return share > 0 and self._random.random() < share

    def server_error(self) -> int:
        return self._random.choice((500, 502, 503))

    def wrong_value(self) -> Any:
        """Choose a JSON value that no call is answered with."""
        return self._random.choice((None, [], {}, "OK", {"id": "none"}, {"data": []}, [[1]], [{"id": None}]))

    def chance(self, options: int) -> int:
        """Choose one of so many."""
        return self._random.randrange(options)

    def _drawn(self, draw: float) -> CallFault | None:
        for name in CALL_FAULTS:
            share: float = getattr(self._faults, name)
            if draw < share:
                return name
            draw -= share
        return None
