"""The worker's watch over itself: its heartbeat, and the alerts that somebody is told."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import structlog

from receiver.database import is_unavailable, unusable, utc_text
from sync.alerts import Pager, Untold
from sync.concerns import CRITICAL
from sync.kounta.observations import Observations
from sync.mirror.alerts import Alert, note_told, open_alerts, open_and_close, untold_alerts
from sync.mirror.store import Mirror
from sync.observations import keep_observations
from sync.settings import WorkerSettings
from sync.status import status_of

LOOK_SECONDS: Final = 15.0
"""Between two looks at what needs attention."""
NOTE_SECONDS: Final = 30.0
"""Between two notes in the mirror that the worker lives."""
BEAT: Final = timedelta(seconds=60)
"""Between two calls of the heartbeat's address."""
MOVES: Final = {"apply": timedelta(minutes=2), "verify": timedelta(minutes=5)}
"""Loop -> how long it may take to come round; one that takes longer makes no progress.

Verification comes round with every answer of upstream, and all the time while nothing is to be asked.
"""
FIRST_PAUSE: Final = timedelta(seconds=15)
LONGEST_PAUSE: Final = timedelta(minutes=10)
AWAY: Final = "database"
"""The alert of a mirror that cannot be used."""
DAMAGED: Final = "damaged"
"""The alert of a store whose file is damaged or was replaced."""
AWAY_FOR_LONG: Final = timedelta(minutes=2)
"""For so long nobody is told: a server is started anew, a backup holds a lock."""
OPEN: Final = "open"
CLOSED: Final = "closed"
RUNBOOK: Final = "docs/how-to/troubles.md"

_log = structlog.get_logger()


class Watch:
    """Says that the worker lives, while its work gets on, and what needs attention, once."""

    def __init__(
        self,
        settings: WorkerSettings,
        mirror: Mirror,
        pager: Pager,
        *,
        answers: Callable[[], int],
        observations: Observations,
        clock: Callable[[], datetime],
    ) -> None:
        """`answers` gives how many of its calls upstream has answered as hoped, so far.

        `observations`: what upstream has shown is stored with each note that the worker lives.
        """
        self._settings = settings
        self._mirror = mirror
        self._pager = pager
        self._clock = clock
        self._moved = dict.fromkeys(MOVES, clock())
        self._position = mirror.progress.position
        self._answers = answers
        self._observations = observations
        self._answered = answers()
        self._beaten_at: datetime | None = None
        self._looking = asyncio.Lock()
        self._unkept: dict[str, Alert] = {}
        """Name -> what opened while the mirror could not be written: a full disk, a lock."""
        self._away_since: datetime | None = None
        """When the mirror could not be looked at, or not be written, for the first time in a row."""
        self._told: set[tuple[str, str]] = set()
        """What was told, by id and state, and could not be noted in the mirror yet."""
        self._failed_at: datetime | None = None
        self._pause = FIRST_PAUSE

    def moved(self, loop: str) -> None:
        """Note that a loop has come round."""
        self._moved[loop] = self._clock()

    @property
    def gets_on(self) -> bool:
        """Whether every loop that matters has come round lately."""
        if self._mirror.progress.position != self._position:
            self._position = self._mirror.progress.position
            self.moved("apply")
        if self._answers() != self._answered:
            self._answered = self._answers()
            self.moved("verify")
        now = self._clock()
        return all(now - self._moved[loop] <= longest for loop, longest in MOVES.items())

    async def keep_alive(self) -> None:
        """Note that the worker lives, and call the heartbeat's address, for as long as work gets on."""
        while True:
            await self.beat()
            await asyncio.sleep(NOTE_SECONDS)

    async def beat(self) -> None:
        """Do it once, if work gets on."""
        if not self.gets_on:
            return
        now = self._clock()
        await self._mirror.note(alive_at=now)
        await keep_observations(self._mirror, self._observations)
        if self._pager.heartbeats and (self._beaten_at is None or abs(now - self._beaten_at) >= BEAT):
            self._beaten_at = now
            try:
                await self._pager.beat()
            except Untold as why:
                _log.warning(f"The heartbeat was not heard: {why}.", action="heartbeat_unheard")

    async def keep_telling(self) -> None:
        """Tell what opens and what closes; nothing while nobody wants to know."""
        while self._pager.alerts:
            await self.look()
            await self.tell()
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Open an alert for each concern that is new, and close those of what is over.

        A mirror that cannot be written keeps nothing, and nobody is told the less; that it cannot even be
        read is told, once it lasts.
        """
        if not self._pager.alerts:
            return
        async with self._looking:
            now = self._clock()
            try:
                await self._compare(now)
            except Exception as error:
                if is_unavailable(error):
                    self._away_since = self._away_since or now
                    if now - self._away_since >= AWAY_FOR_LONG:
                        self._hold(AWAY, CRITICAL, unusable(error), self._away_since)
                    await self._tell_of(list(self._unkept.values()))
                raise
            self._away_since = None

    async def _compare(self, now: datetime) -> None:
        """Compare what stands with what is open, and keep what opens and what closes."""
        status = await status_of(self._settings, now)
        concerns = [one for one in reversed(status.concerns()) if one.is_told]
        standing = {one.alert: one for one in concerns if one.alert is not None}
        try:
            known = {alert.name for alert in await open_alerts(self._mirror)}
        except Exception:
            damaged = standing.get(DAMAGED)  # then the alerts may be unreadable, too
            if damaged is not None:
                self._hold(DAMAGED, damaged.severity, damaged.sentence, damaged.since or now)
            raise
        for name, one in standing.items():
            if name not in known:
                self._hold(name, one.severity, one.sentence, one.since or now)
        over = sorted((known | self._unkept.keys()) - standing.keys())
        if self._unkept or over:
            await open_and_close(self._mirror, list(self._unkept.values()), over, now)
            self._unkept.clear()

    def _hold(self, name: str, severity: int, sentence: str, since: datetime) -> None:
        """Remember what opens until the mirror holds it."""
        self._unkept.setdefault(name, Alert(0, name, severity, sentence, since, self._clock()))

    async def tell(self) -> None:
        """Tell what nobody was told yet, in order; after a failure, again later."""
        await self._tell_of(await untold_alerts(self._mirror))

    async def _tell_of(self, alerts: Sequence[Alert]) -> None:
        now = self._clock()
        if self._failed_at is not None and abs(now - self._failed_at) < self._pause:
            return
        try:
            for alert in alerts:
                if alert.open_told_at is None:
                    await self._tell_once(alert, OPEN)
                if alert.closed_at is not None:
                    await self._tell_once(alert, CLOSED)
        except Untold as why:
            self._pause = FIRST_PAUSE if self._failed_at is None else min(2 * self._pause, LONGEST_PAUSE)
            self._failed_at = now
            _log.warning(f"An alert was not told, and will be: {why}.", action="alert_untold")
        else:
            self._failed_at = None

    async def _tell_once(self, alert: Alert, state: str) -> None:
        """Tell it, unless only the note that it was told is missing; note that, if the mirror holds it."""
        message = self._message(alert, state)
        this = (message["id"], state)
        if this not in self._told:
            await self._pager.alert(message)
            self._told.add(this)
        if alert.id:
            await note_told(self._mirror, alert, self._clock(), closed=state == CLOSED)
            self._told.discard(this)

    def _message(self, alert: Alert, state: str) -> dict[str, Any]:
        closed_at = alert.closed_at if state == CLOSED else None
        return {
            "text": alert.sentence if state == OPEN else f"Over: {alert.sentence}",
            "id": f"{self._settings.company_id}-{alert.name}-{utc_text(alert.opened_at)}",
            "name": alert.name,
            "state": state,
            "severity": "critical" if alert.severity == CRITICAL else "warning",
            "sentence": alert.sentence,
            "company_id": self._settings.company_id,
            "since": utc_text(alert.since),
            "closed_at": None if closed_at is None else utc_text(closed_at),
            "runbook": f"{RUNBOOK}#{alert.name}",
        }
