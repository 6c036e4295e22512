"""Verifications, sweeps and held deletions; and `reconcile` as a person starts it from a page."""

from contextlib import aclosing
from typing import Any, Final

from starlette.responses import Response

from receiver.errors import MirrorError
from sync.console.api import Reconcile, reconciliation
from sync.console.explanation import BECAUSE
from sync.console.pages.errands import Errand
from sync.console.pages.notices import Notice
from sync.console.pages.office import Visit
from sync.console.pages.overview import time_to_list, time_to_read
from sync.console.refusals import RefusedError
from sync.merge.doubts import Reason
from sync.mirror.excerpts import doubts_behind, held_behind, newest_sweeps

RECONCILIATION: Final = "Reconciliation"
ON_A_PAGE: Final = 50
SWEEPS_SHOWN: Final = 20


async def verifications(visit: Visit) -> Response:
    """Show who is to be read and why, the sweeps, and how far it has come."""
    status = await visit.office.status(visit.company_id)
    after = visit.asked("after") or None
    try:
        doubts = await doubts_behind(visit.mirror, after, ON_A_PAGE)
    except (ValueError, IndexError) as error:
        raise RefusedError(422, "bad_request", "This place in the list does not exist.") from error
    return visit.page(
        "verifications.html",
        is_live=after is None,
        status=status,
        doubts=doubts.rows,
        more=doubts.more,
        after=after,
        because={reason.value: why for reason, why in BECAUSE.items()},
        reasons=list(Reason),
        sweeps=await newest_sweeps(visit.mirror, SWEEPS_SHOWN),
        reading=time_to_read(status),
        listing=time_to_list(status),
        is_under_way=visit.office.errands.under_way(visit.company_id, RECONCILIATION),
    )


async def reconcile(visit: Visit) -> Response:
    """Sweep Kounta's list and read whom it puts in doubt."""
    if visit.office.errands.under_way(visit.company_id, RECONCILIATION):
        raise RefusedError(409, "conflict", "A reconciliation is under way already.")
    return await reconcile_for(visit, RECONCILIATION, "/verifications", deep=visit.asked("deep") == "yes")


async def held(visit: Visit) -> Response:
    """Show whose deletions are held."""
    status = await visit.office.status(visit.company_id)
    after = visit.number("after")
    excerpt = await held_behind(visit.mirror, after or 0, ON_A_PAGE)
    return visit.page(
        "held.html",
        is_live=after is None,
        count=status.figures.held_deletes if status.figures else 0,
        brake=visit.settings.hold_deletes,
        rows=excerpt.rows,
        more=excerpt.more,
        after=after,
    )


async def release(visit: Visit) -> Response:
    """Let so many held deletions go, each read once more."""
    number = visit.number("number")
    if number is None:
        raise RefusedError(422, "bad_request", "Say how many deletions may go.")
    if visit.office.errands.under_way(visit.company_id, RECONCILIATION):
        raise RefusedError(409, "conflict", "A reconciliation is under way; try again when it is over.")
    return await reconcile_for(visit, RECONCILIATION, "/held", allow_deletes=number)


async def reconcile_for(visit: Visit, what: str, path: str, **asked: Any) -> Response:
    """Reconcile as the command does, and lead to a page that says what came of it."""

    async def work(errand: Errand) -> Notice:
        async with (
            visit.office.desks.engine(visit.company_id) as engine,
            aclosing(reconciliation(engine, Reconcile(**asked))) as lines,
        ):
            async for line in lines:
                if "error" in line:
                    raise MirrorError(line["error"])
                if "report" in line:
                    return _told(what, line["report"], line["why"])
                errand.stage, errand.done, errand.total = line["stage"], line["done"], line["total"]
        raise MirrorError("The worker ended before it was over. See its log, and try again.")

    return await visit.begin(what, work, path)


def _told(what: str, report: dict[str, int], why: str) -> Notice:
    """Say what a reconciliation did."""
    named = ("listed", "read", "created", "updated", "deleted", "unchanged", "failed")
    did = ", ".join(f"{report[name]:,} {name}" for name in named if report[name])
    sentences = [f"{what} is over: {did or 'nothing was found'}, {report['calls']:,} calls."]
    if report["failed"]:
        sentences.append(f"The first one failed: {why}")
    if report["held_deletes"]:
        sentences.append(f"Deletions held: {report['held_deletes']:,}.")
    return Notice(" ".join(sentences), is_good=not report["failed"] and not report["held_deletes"])
