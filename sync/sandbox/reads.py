"""A read by id: of a customer who is there, and of one who was deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import Response

from sync.sandbox.answers import record
from sync.sandbox.refusal import RefusedError

if TYPE_CHECKING:
    from sync.sandbox.customer import Customer
    from sync.sandbox.endpoint import Call

AGAIN = "again"
"""In the query of an address that a redirect has named: it is not redirected once more."""


async def get_customer(call: Call) -> Response:
    """Answer GET on one customer."""
    company, customer_id = call.company, call.id()
    customer = company.moment().get(customer_id)
    if customer is None:
        return _deleted(call, customer_id)
    share = company.faults.redirects_same
    if AGAIN not in call.request.query_params and company.chance.hits(share, "redirects_same", customer_id):
        return _elsewhere(call, customer_id, f"?{AGAIN}=1")
    return record(company, company.oddities.poor(company.shown(customer, call.application)))


def _deleted(call: Call, customer_id: int) -> Response:
    company, faults, chance = call.company, call.company.faults, call.company.chance
    if company.customers.is_deleted(customer_id):
        if chance.hits(faults.deleted_flags, "deleted_flags", customer_id):
            last = company.customers.last(customer_id)
            return record(company, company.shown_deleted(last, call.application))
        other = _another(call, customer_id)
        if other is not None and chance.fixed("answers_another", customer_id) < faults.answers_another:
            return record(company, company.shown(other, call.application))
        if other is not None and chance.fixed("redirects_another", customer_id) < faults.redirects_another:
            return _elsewhere(call, other.id, "")
    raise RefusedError(call.sandbox.settings.gone, "not_found", f"There is no customer {customer_id}.")


def _another(call: Call, customer_id: int) -> Customer | None:
    """Give the live customer that a deleted one was made part of."""
    customers = call.company.customers
    if not len(customers):
        return None
    return customers.nth(int(call.company.chance.fixed("another", customer_id) * len(customers)))


def _elsewhere(call: Call, customer_id: int, query: str) -> Response:
    path = f"{call.request.url.path.rpartition('/')[0]}/{customer_id}"
    absolute = call.sandbox.settings.location == "absolute"
    return Response(status_code=302, headers={"Location": call.url(path, absolute=absolute) + query})
