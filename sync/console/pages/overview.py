"""The first page: the sentence of `status`, what needs attention with its action, and the figures behind."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from sync.concerns import CRITICAL, Concern
from sync.console.pages.frame import render
from sync.console.pages.office import Office, Visit
from sync.console.pages.plots import DAY, plot_of
from sync.merge.decisions import Verdict
from sync.mirror.lease import holder_of
from sync.mirror.samples import Sample, samples_since
from sync.numbers import whole_number
from sync.status import Status

LISTED_AT_ONCE: Final = 25
"""Companies on one page of the list, and customers on one page of Kounta's."""
_BY_ALERT: Final = {
    "failed": ("/deliveries?verdict=failed", "See them, and apply them again"),
    "gap": ("/verifications", "See the sweep"),
    "held-deletes": ("/held", "Review them"),
    "late": ("/deliveries?verdict=pending", "See what waits"),
    "quarantined": ("/deliveries?verdict=quarantined", "See them"),
    "registration": ("/webhooks", "See the registration"),
    "unread": ("/verifications", "See why"),
    "silence": ("/webhooks", "See the registration"),
}
_BY_COMMAND: Final = {
    "kounta-mirror reconcile": ("/verifications", "See sweeps and reads"),
    "kounta-mirror webhooks": ("/webhooks", "See the registration"),
}


@dataclass(frozen=True, slots=True)
class Attention:
    """A concern as the page shows it: with a page on which to act, if there is one."""

    concern: Concern
    path: str | None
    label: str

    @property
    def is_critical(self) -> bool:
        """Whether it is one of the worst kind."""
        return self.concern.severity == CRITICAL


def attention_of(status: Status) -> list[Attention]:
    """Say what needs attention, and where it can be acted upon."""
    return [Attention(concern, *_place_of(concern)) for concern in status.concerns()]


def _place_of(concern: Concern) -> tuple[str | None, str]:
    if concern.alert in _BY_ALERT:
        return _BY_ALERT[concern.alert]
    for command, place in _BY_COMMAND.items():
        if (concern.action or "").startswith(command):
            return place
    return None, ""


async def overview(visit: Visit) -> Response:
    """Show how the company's mirror is."""
    status = await visit.office.status(visit.company_id)
    samples = await samples_since(visit.mirror, visit.now - DAY)
    return visit.page(
        "overview.html",
        status=status,
        attention=attention_of(status),
        verdicts=list(Verdict),
        plots=plots_of(samples, visit.now),
        reading=time_to_read(status),
        listing=time_to_list(status),
        sweep_seconds=visit.settings.sweep_seconds,
        holder=await holder_of(visit.mirror) if visit.office.store.is_shared else None,
    )


def plots_of(samples: Sequence[Sample], now: datetime) -> list[tuple[str, str, object]]:
    """Give heading, unit and plot of each figure."""
    return [
        (
            "Freshness: age of the oldest delivery that waits",
            "s",
            plot_of([(one.at, one.oldest_pending_seconds) for one in samples], now),
        ),
        ("Backlog: deliveries that wait", "", plot_of([(one.at, one.pending) for one in samples], now)),
        ("Customers to be read", "", plot_of([(one.at, one.verifications_due) for one in samples], now)),
    ]


def time_to_read(status: Status) -> timedelta | None:
    """Say how long reading all that is due takes at the budget; None: nothing is due."""
    due = sum(status.figures.doubts.values()) if status.figures else 0
    return timedelta(minutes=due / status.requests_per_minute) if due else None


def time_to_list(status: Status) -> timedelta | None:
    """Say how long the rest of the sweep under way takes at the budget, if as many are listed as are live."""
    sweep = status.newest_sweep
    if sweep is None or sweep.finished_at is not None or status.figures is None:
        return None
    pages = max(0, status.figures.live - sweep.listed) / LISTED_AT_ONCE
    return timedelta(minutes=pages / status.requests_per_minute)


async def front_door(office: Office, request: Request) -> Response:
    """List the companies, each with its sentence; one alone is shown at once."""
    companies = sorted(office.served.settings)
    if len(companies) == 1:
        return RedirectResponse(f"/companies/{companies[0]}", 303)
    after = 0
    with suppress(ValueError):
        after = whole_number(request.query_params.get("after", "0"))
    behind = [one for one in companies if one > after]
    shown = behind[:LISTED_AT_ONCE]
    seen = await office.states()
    rows = [(company_id, await office.status(company_id)) for company_id in shown]
    more = shown[-1] if len(behind) > LISTED_AT_ONCE else None
    return HTMLResponse(render("companies.html", rows=rows, more=more, count=len(companies), seen=seen))
