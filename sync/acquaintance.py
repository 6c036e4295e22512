"""Getting to know the company itself, its name and its time zone, and keeping its days."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

import structlog

from sync.kounta import Kounta, KountaError, for_log
from sync.merge.doubts import SWEEP
from sync.mirror.companies import KnownCompany, keep_company, keep_days, known_company
from sync.mirror.days import zone_named
from sync.mirror.store import Mirror

AGAIN: Final = timedelta(days=1)
"""Between two times that Kounta is asked; also after it told of another company."""

_log = structlog.get_logger()


class Acquaintance:
    """Asks Kounta what company this is, for the process that owns its mirror."""

    def __init__(self, mirror: Mirror, kounta: Kounta, *, clock: Callable[[], datetime]) -> None:
        self._mirror = mirror
        self._kounta = kounta
        self._clock = clock
        self._misled_at: datetime | None = None

    async def look(self) -> None:
        """Ask if a day has passed, and keep the days of the zone. What fails is logged, and tried later.

        The one call waits behind all that a person or a doubt of a delivery asks for.
        """
        known = await known_company(self._mirror)
        now = self._clock()
        if not any(at is not None and abs(now - at) < AGAIN for at in (known.read_at, self._misled_at)):
            await self._ask()
        await keep_days(self._mirror, self._clock())

    async def _ask(self) -> None:
        try:
            company = await self._kounta.company(priority=SWEEP)
        except KountaError as error:
            _log.warning(
                f"Kounta did not tell the company's name and time zone: {for_log(error)}",
                action="company_not_read",
            )
            return
        if company.id != self._mirror.company_id:
            self._misled_at = self._clock()
            _log.warning(
                f"Kounta tells of company {company.id}, and this is the mirror of {self._mirror.company_id}: "
                "its name and time zone are not kept. Check KOUNTA_COMPANY_ID and the credentials.",
                action="company_differs",
            )
            return
        await keep_company(self._mirror, KnownCompany(company.name, company.time_zone, self._clock()))
        if company.time_zone is not None and zone_named(company.time_zone) is None:
            _log.warning(
                f"No time zone {company.time_zone!r} is known on this machine: the company has no local "
                "days. Install the system's time zones, or the package tzdata.",
                action="company_zone_unknown",
            )
