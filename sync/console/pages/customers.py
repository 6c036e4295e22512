"""Customers: found by what a person knows of them; one with its row, doubts and history; reading it anew."""

from typing import Any, Final

from starlette.responses import Response

from sync.console.api import Erase, erasure
from sync.console.explanation import explain
from sync.console.pages.errands import Errand
from sync.console.pages.notices import Notice
from sync.console.pages.office import Visit
from sync.console.pages.reconciliations import reconcile_for
from sync.console.refusals import RefusedError
from sync.mirror.deliveries import Wanted
from sync.mirror.excerpts import changes_before, rulings_before
from sync.mirror.search import customers_like

FOUND_AT_MOST: Final = 25
CHANGES_SHOWN: Final = 20
DELIVERIES_SHOWN: Final = 10


async def search(visit: Visit) -> Response:
    """Show whom a search finds; one alone is shown at once."""
    wanted = visit.asked("q")
    found = await customers_like(visit.mirror, wanted, FOUND_AT_MOST) if wanted else []
    if len(found) == 1:
        return visit.redirect(f"/customers/{found[0].id}")
    return visit.page(
        "search.html", is_live=False, wanted=wanted, found=found, is_cut=len(found) == FOUND_AT_MOST
    )


async def customer(visit: Visit) -> Response:
    """Show one customer: why it looks as it does."""
    customer_id = visit.request.path_params["customer_id"]
    before = visit.number("before")
    explanation = await explain(visit.mirror, customer_id, timing=visit.settings.timing, now=visit.now)
    if not explanation.is_known:
        detail = f"The mirror knows nothing of a customer {customer_id}."
        raise RefusedError(404, "not_found", detail)
    changes = await changes_before(visit.mirror, customer_id, before, CHANGES_SHOWN)
    wanted = Wanted(customer_id=customer_id)
    rulings = await rulings_before(visit.mirror, wanted, None, DELIVERIES_SHOWN)
    said = explanation.as_json()
    return visit.page(
        "customer.html",
        is_live=before is None,
        customer_id=customer_id,
        said=said,
        name=_name(said["customer"]),
        changes=changes.rows,
        more=changes.more,
        before=before,
        rulings=rulings.rows,
        more_rulings=rulings.more,
        has_key=visit.settings.secret_key is not None,
    )


async def verify(visit: Visit) -> Response:
    """Read one customer from Kounta now."""
    customer_id = visit.request.path_params["customer_id"]
    return await reconcile_for(
        visit, f"Read of customer {customer_id}", f"/customers/{customer_id}", customer_id=customer_id
    )


async def erase(visit: Visit) -> Response:
    """Erase a person for good; the id has to be typed."""
    customer_id = visit.request.path_params["customer_id"]
    if visit.number("typed") != customer_id:
        detail = f"Type {customer_id} to erase this customer. Nothing was done."
        raise RefusedError(422, "bad_request", detail)

    async def work(_errand: Errand) -> Notice:
        async with visit.office.desks.engine(visit.company_id) as engine:
            return told(await erasure(engine.eraser, Erase(customer_id=customer_id)))

    return await visit.begin(f"Erasure of customer {customer_id}", work, f"/customers/{customer_id}")


def told(receipt: dict[str, Any]) -> Notice:
    """Say what an erasure removed, and what it cannot reach."""
    bodies = receipt["inbox"]["bodies"] + receipt["spool"]["bodies"]
    rows = sum(count for count in receipt["mirror"].values() if isinstance(count, int))
    said = f"Customer {receipt['customer_id']} is erased: {rows:,} rows of the mirror, {bodies:,} bodies."
    why = "" if receipt["complete"] else f" It is not complete yet, and goes on: {receipt['why']}"
    return Notice(" ".join([said + why, *receipt["remains"]]), is_good=receipt["complete"])


def _name(row: dict[str, Any] | None) -> str:
    if row is None:
        return ""
    return " ".join(part for part in (row["first_name"], row["last_name"]) if part)
