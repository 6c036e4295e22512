"""Errands: work that a person has started from a page, which goes on while the page is left."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import structlog

from receiver.database import is_unavailable
from receiver.errors import MirrorError
from sync.console.pages.notices import Notice
from sync.kounta import KountaError

KEPT: Final = 5
"""So many of each company are remembered, those under way not counted."""

_log = structlog.get_logger()


@dataclass(eq=False)
class Errand:
    """One piece of work: what it is, how far it has come, and what came of it."""

    company_id: int
    what: str
    """For people: "Reconciliation"."""
    began_at: datetime
    stage: str = ""
    done: int = 0
    total: int | None = None
    ended_at: datetime | None = None
    outcome: Notice | None = None
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def notice(self) -> Notice:
        """Say what came of it, or how far it has come."""
        if self.outcome is not None:
            return self.outcome
        of = f" of {self.total:,}" if self.total else ""
        far = f" ({self.stage}: {self.done:,}{of})" if self.stage else ""
        return Notice(f"{self.what} is under way{far}; this page will say what comes of it.")


Work = Callable[[Errand], Awaitable[Notice]]


class Errands:
    """Those of every company, the newest last; whoever closes this ends those that are under way."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._of: dict[int, deque[Errand]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def of(self, company_id: int) -> list[Errand]:
        """Give those of a company that are remembered, the newest first."""
        return list(reversed(self._of.get(company_id, ())))

    def under_way(self, company_id: int, what: str) -> bool:
        """Whether such an errand is not over yet."""
        return any(one.what == what and one.ended_at is None for one in self.of(company_id))

    def ended_since(self, company_id: int, moment: datetime) -> bool:
        """Whether one of a company ended at that moment or later."""
        return any(one.ended_at is not None and one.ended_at >= moment for one in self.of(company_id))

    def begin(self, company_id: int, what: str, work: Work) -> Errand:
        """Do `work` in a task of its own; it is given the errand, to say how far it has come."""
        errand = Errand(company_id, what, self._clock())
        kept = self._of.setdefault(company_id, deque())
        over = [one for one in kept if one.ended_at is not None]
        for old in over[: max(0, len(over) - KEPT + 1)]:
            kept.remove(old)
        kept.append(errand)
        task = asyncio.create_task(self._do(errand, work), name=f"{what} of {company_id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return errand

    async def close(self) -> None:
        """End what is under way, and wait for its end."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _do(self, errand: Errand, work: Work) -> None:
        try:
            errand.outcome = await work(errand)
        except asyncio.CancelledError:
            errand.outcome = Notice("The worker was stopped before it was over.", is_good=False)
            raise
        except (KountaError, MirrorError) as error:
            errand.outcome = Notice(str(error), is_good=False)
        except Exception as error:  # noqa: BLE001 - whoever asked is told, the worker goes on
            errand.outcome = Notice(self._broken(errand, error), is_good=False)
        finally:
            errand.ended_at = self._clock()
            errand.over.set()

    def _broken(self, errand: Errand, error: Exception) -> str:
        if is_unavailable(error):
            return f"The database cannot be used: {getattr(error, 'orig', None) or error}."
        _log.exception("What a page has started broke.", action="errand_broken", what=errand.what)
        return f"A fault of the worker: {type(error).__name__}. Its log says more."
