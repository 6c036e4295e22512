"""Deliveries: what came in and what became of it, one of them in full, and applying some again."""

import json
from dataclasses import asdict
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlencode

from starlette.responses import Response

from sync.console.deliveries import PENDING, json_of, listed, shown_delivery, text_of
from sync.console.moments import moment_of
from sync.console.pages.errands import Errand
from sync.console.pages.notices import Notice
from sync.console.pages.office import Visit
from sync.console.refusals import RefusedError
from sync.merge.decisions import Verdict
from sync.mirror.deliveries import Wanted
from sync.mirror.excerpts import rulings_before
from sync.mirror.verdicts import verdict_counts
from sync.replay import Replayed, rehearse, replay

ON_A_PAGE: Final = 50
WAITING_SHOWN: Final = 10
"""Of the deliveries that wait, above the others."""
AT_MOST: Final = 500
"""Deliveries that a page applies again; more is the command's business."""
LOOKS: Final = 5
"""Excerpts that are looked through for them."""
BODY_SHOWN: Final = 64 * 1024


async def deliveries(visit: Visit) -> Response:
    """List the newest deliveries, as far as the filter wants them."""
    wanted, since = wanted_of(visit)
    before = visit.asked("before") or None
    reader = await visit.office.inbox.reader()
    waiting: list[dict[str, Any]] = []
    if before is None and wanted.verdict in {None, PENDING}:
        only_waiting = Wanted(PENDING, wanted.customer_id, wanted.since)
        most = ON_A_PAGE if wanted.verdict == PENDING else WAITING_SHOWN
        waiting = await listed(visit.mirror, reader, visit.company_id, only_waiting, most)
    excerpt = None
    if wanted.verdict != PENDING:
        excerpt = await rulings_before(visit.mirror, wanted, before, ON_A_PAGE)
        ruled = {ruling.delivery_id for ruling in excerpt.rows}  # some perhaps since we looked
        waiting = [one for one in waiting if one["delivery_id"] not in ruled]
    return visit.page(
        "deliveries.html",
        is_live=before is None,
        wanted=wanted,
        since=since,
        before=before,
        waiting=waiting,
        rulings=excerpt.rows if excerpt else [],
        more=excerpt.more if excerpt else None,
        counts=await verdict_counts(visit.mirror),
        verdicts=list(Verdict),
    )


def wanted_of(visit: Visit) -> tuple[Wanted, str]:
    """Read the filter, and give its time as it was written."""
    verdict = visit.asked("verdict") or None
    if verdict not in {None, PENDING, *Verdict}:
        raise RefusedError(422, "bad_request", f"There is no verdict {verdict!r}.")
    since = visit.asked("since")
    return Wanted(verdict, visit.number("customer"), _moment(since, visit.now)), since


def _moment(text: str, now: datetime) -> datetime | None:
    if not text:
        return None
    try:
        return moment_of(text, now)
    except ValueError as error:
        raise RefusedError(422, "bad_request", str(error)) from error


async def delivery(visit: Visit) -> Response:
    """Show one delivery with all that is known of it."""
    name = visit.request.path_params["delivery_id"]
    reader = await visit.office.inbox.reader()
    found = await shown_delivery(visit.mirror, reader, visit.company_id, name)
    if found is None:
        raise RefusedError(404, "not_found", f"Neither inbox nor mirror knows a delivery {name}.")
    body = None if found.delivery is None else found.delivery.body
    return visit.page(
        "delivery.html",
        said=found.as_json(),
        size=None if body is None else len(body),
        body=None if body is None else written(body),
        can_be_replayed=found.ruling is not None and body is not None,
    )


def written(body: bytes) -> str:
    """Write a body for a person: JSON indented, at most so much of it."""
    value = json_of(body)
    if value is None:
        return text_of(body, BODY_SHOWN)
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return text if len(text) <= BODY_SHOWN else f"{text[:BODY_SHOWN]}\n... (cut off)"


async def try_replay(visit: Visit) -> Response:
    """Show the verdicts that deliveries would get if they were applied again now; nothing is changed."""
    names, is_cut = await _named(visit)
    if not names:
        raise RefusedError(409, "conflict", "There is no such delivery that could be applied again.")
    async with visit.office.desks.engine(visit.company_id) as engine:
        tried = await rehearse(engine.settings, engine.mirror, engine.clock, names)
    return visit.page(
        "rehearsal.html",
        is_live=False,
        tried=rows_of(tried),
        missing=tried.missing,
        tally=tally(tried),
        is_cut=is_cut,
        at_most=AT_MOST,
        names=" ".join(tried.verdicts),
        back=_back(visit),
    )


async def do_replay(visit: Visit) -> Response:
    """Apply the deliveries that were shown again, at their old place in the order."""
    names = visit.asked("names").split()
    if not 0 < len(names) <= AT_MOST:
        raise RefusedError(422, "bad_request", f"From 1 to {AT_MOST} deliveries were expected.")

    async def work(errand: Errand) -> Notice:
        errand.stage = "deliveries"
        errand.total = len(names)
        async with visit.office.desks.engine(visit.company_id) as engine:
            replayed = await replay(engine, names)
        return Notice(told(replayed), is_good=not replayed.missing and not _failed(replayed))

    return await visit.begin("Replay", work, _back(visit))


def _back(visit: Visit) -> str:
    """Give the page that a replay comes from: a delivery, a customer, or the list."""
    names = visit.asked("names").split()
    customer = visit.number("customer")
    if len(names) == 1 and customer is None:
        return f"/deliveries/{names[0]}"
    if customer is not None:
        return f"/customers/{customer}"
    wanted = {name: visit.asked(name) for name in ("verdict", "since") if visit.asked(name)}
    return f"/deliveries?{urlencode(wanted)}" if wanted else "/deliveries"


async def _named(visit: Visit) -> tuple[list[str], bool]:
    """Give the names of the deliveries that are meant, and whether there are more of them."""
    if visit.asked("names"):
        return visit.asked("names").split()[:AT_MOST], False
    wanted, _ = wanted_of(visit)
    if wanted.verdict == PENDING:
        raise RefusedError(409, "conflict", "What waits was never applied: the worker is about to do it.")
    names: list[str] = []
    before = None
    for _ in range(LOOKS):
        excerpt = await rulings_before(visit.mirror, wanted, before, AT_MOST)
        names += [ruling.delivery_id for ruling in excerpt.rows]
        before = excerpt.more
        if before is None or len(names) >= AT_MOST:
            break
    return names[:AT_MOST], before is not None or len(names) > AT_MOST


def rows_of(replayed: Replayed) -> list[tuple[str, str, str]]:
    """Give delivery, verdict before and after; those that change come first."""
    rows = [(name, replayed.before[name], after) for name, after in replayed.verdicts.items()]
    return sorted(rows, key=lambda row: (row[1] == row[2], row[0]))


def tally(replayed: Replayed) -> dict[tuple[str, str], int]:
    """Count them by verdict before and after."""
    counts: dict[tuple[str, str], int] = {}
    for _, before, after in rows_of(replayed):
        counts[before, after] = counts.get((before, after), 0) + 1
    return counts


def told(replayed: Replayed) -> str:
    """Say what a replay gave."""
    parts = [
        f"{count:,} {after}" + (f" (was {before})" if before != after else " as before")
        for (before, after), count in tally(replayed).items()
    ]
    if replayed.missing:
        parts.append(f"{len(replayed.missing):,} no longer in the inbox")
    return f"Applied again: {', '.join(parts) or 'nothing'}."


def _failed(replayed: Replayed) -> bool:
    return Verdict.FAILED.value in asdict(replayed)["verdicts"].values()
