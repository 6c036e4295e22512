"""The API that clients call: the company, its customers and webhooks, tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response

from sync.sandbox.answers import MAINTENANCE, record, written
from sync.sandbox.endpoint import METHODS
from sync.sandbox.reads import get_customer
from sync.sandbox.refusal import RefusedError
from sync.sandbox.writes import check_minimum, written_values

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request
    from starlette.routing import Route

    from sync.sandbox.customer import Customer
    from sync.sandbox.endpoint import Call, Endpoints
    from sync.sandbox.webhooks import Webhook

NAME_AND_PHONE = ("first_name", "last_name", "phone")
_LOOKUPS = ("reference_id", "email", "mobile", *NAME_AND_PHONE)


def routes(endpoints: Endpoints) -> list[Route]:
    """Make all routes of the API."""
    company = "/v1/companies/{company}"
    return [
        endpoints.route("/authorize", {"GET": ("authorize", authorize)}, open_=True),
        endpoints.route("/v1/token", {"POST": ("token", token)}, open_=True),
        endpoints.route(company, {"GET": ("company", show_company)}),
        endpoints.route(
            f"{company}/customers",
            {"GET": (_list_or_find, list_or_find), "POST": ("create", create_customer)},
        ),
        endpoints.route(
            f"{company}/customers/{{id}}",
            {"GET": ("get", get_customer), "PUT": ("update", update_customer)},
        ),
        endpoints.route(
            f"{company}/webhooks",
            {"GET": ("webhooks", list_webhooks), "POST": ("webhooks", register_webhook)},
        ),
        endpoints.route(
            f"{company}/webhooks/{{id}}",
            {
                "GET": ("webhooks", get_webhook),
                "PUT": ("webhooks", update_webhook),
                "DELETE": ("webhooks", remove_webhook),
            },
        ),
        endpoints.route("/v1/{rest:path}", dict.fromkeys(METHODS, ("other", no_such_thing))),
    ]


async def show_company(call: Call) -> Response:
    settings = call.sandbox.settings
    if settings.company_redirects and call.request.path_params["company"] == "me":
        path = f"/v1/companies/{settings.company_id}"
        location = call.url(path, absolute=settings.location == "absolute")
        return Response(status_code=302, headers={"Location": location})
    company = {"id": settings.company_id, "name": settings.company_name, "timezone": settings.time_zone}
    return record(call.company, company)


async def list_or_find(call: Call) -> Response:
    """Answer GET on the collection: the list, or one of the seed's look-ups."""
    query = call.request.query_params
    moment = call.company.moment()
    if "reference_id" in query:
        wanted = query["reference_id"]
        found = moment.matching(lambda one: one.reference_ids.get(call.application, "") == wanted != "")
        return _page(call, len(found), lambda start, stop: found[start:stop])
    if "email" in query:
        email = query["email"].casefold()
        return _redirect(call, moment.matching(lambda one: (one.email or "").casefold() == email != ""))
    if "mobile" in query:
        mobile = query["mobile"]
        return _redirect(call, moment.matching(lambda one: one.mobile == mobile))
    if any(name in query for name in NAME_AND_PHONE):
        if not all(query.get(name) for name in NAME_AND_PHONE):
            raise RefusedError(400, "invalid_request", "first_name, last_name and phone go together.")
        who = tuple(query[name] for name in NAME_AND_PHONE)
        return _redirect(call, moment.matching(lambda one: (one.first_name, one.last_name, one.phone) == who))
    order, gone = call.sandbox.settings.list_order, call.company.still_listed()
    if gone:
        listed = [*moment.slice(order, 0, len(moment)), *(one for one in gone if moment.get(one.id) is None)]
        return _page(call, len(listed), lambda start, stop: listed[start:stop])
    return _page(call, len(moment), lambda start, stop: moment.slice(order, start, stop))


async def create_customer(call: Call) -> Response:
    values = written_values(await call.body(), refuse_unknown=_refuse_unknown(call))
    check_minimum(values)
    customer = call.company.create(values, application=call.application)
    made = _created(call, customer.id, call.company.shown(customer, call.application))
    if not call.sandbox.settings.created_location:
        del made.headers["Location"]
    return written(call.company, made)


async def update_customer(call: Call) -> Response:
    values = written_values(await call.body(), refuse_unknown=_refuse_unknown(call))
    customer = call.company.update(call.id(), values, application=call.application)
    return written(call.company, record(call.company, call.company.shown(customer, call.application)))


async def list_webhooks(call: Call) -> Response:
    own = call.company.webhooks.of(call.application)
    return record(call.company, [_webhook(call, webhook) for webhook in own])


async def register_webhook(call: Call) -> Response:
    company = call.company
    webhook = company.webhooks.register(call.application, await call.body(), company.upstream_time())
    return _created(call, webhook.id, _webhook(call, webhook))


async def get_webhook(call: Call) -> Response:
    return record(call.company, _webhook(call, call.company.webhooks.get(call.application, call.id())))


async def update_webhook(call: Call) -> Response:
    company, body = call.company, await call.body()
    webhook = company.webhooks.update(call.application, call.id(), body, company.upstream_time())
    return record(company, _webhook(call, webhook))


async def remove_webhook(call: Call) -> Response:
    call.company.webhooks.remove(call.application, call.id())
    return Response(status_code=204)


async def token(call: Call) -> Response:
    """Answer POST /v1/token, which is form-encoded."""
    broken = _TOKEN_ANSWERS.get(call.sandbox.faults.token_answers)
    if broken is not None:
        return broken(call)
    content_type = call.request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != "application/x-www-form-urlencoded":
        raise RefusedError(400, "invalid_request", "The body must be application/x-www-form-urlencoded.")
    body = (await call.request.body()).decode("ascii", errors="replace")
    form = dict(parse_qsl(body, keep_blank_values=True))
    reply = record(call.company, call.sandbox.tokens.grant(form))
    reply.headers["Cache-Control"] = "no-store"
    return reply


async def authorize(call: Call) -> Response:
    """Answer GET /authorize as if the person at upstream's page had decided at once."""
    query = call.request.query_params
    application, redirect_uri = query.get("client_id", ""), query.get("redirect_uri", "")
    tokens = call.sandbox.tokens
    if tokens.secret(application) is None or urlsplit(redirect_uri).scheme not in ("http", "https"):
        raise RefusedError(400, "invalid_request", "client_id or redirect_uri is not known.")
    if query.get("response_type") != "code":
        answer = {"error": "unsupported_response_type"}
    elif call.sandbox.settings.authorize == "denied":
        answer = {"error": "access_denied"}
    else:
        answer = {"code": tokens.authorize(application, redirect_uri)}
    if "state" in query:
        answer["state"] = query["state"]
    joint = "&" if "?" in redirect_uri else "?"
    return RedirectResponse(redirect_uri + joint + urlencode(answer), 302)


async def no_such_thing(call: Call) -> Response:
    raise RefusedError(404, "not_found", f"There is no {call.request.url.path}.")


def _webhook(call: Call, webhook: Webhook) -> Any:
    return webhook.shown(call.sandbox.settings.unset_filter)


_TOKEN_ANSWERS: dict[str, Callable[[Call], Response]] = {
    "forbidden": lambda _: HTMLResponse(MAINTENANCE, 403),
    "unavailable": lambda call: record(call.company, {"error": "temporarily_unavailable"}, 400),
    "unauthorized": lambda _: PlainTextResponse("Unauthorized", 401),
}
"""`Faults.token_answers` -> the answer in place of tokens."""


def _list_or_find(request: Request) -> str:
    return "find" if any(name in request.query_params for name in _LOOKUPS) else "list"


def _refuse_unknown(call: Call) -> bool:
    return call.sandbox.settings.unknown_fields == "refused"


def _page(call: Call, count: int, rows: Callable[[int, int], list[Customer]]) -> Response:
    """Answer with one page of a list: a bare array, X-Pages, and X-Next-Page unless it is the last."""
    settings, faults, calls = call.sandbox.settings, call.sandbox.faults, call.sandbox.calls
    index, size = _page_index(call), settings.page_size
    pages = max(1, -(-count // size))
    shift = calls.shift() if index else 0
    endless = faults.next_page == "endless"
    start = max(0, (index % pages if endless else index) * size + shift)
    items = [_listed(call, one) for one in rows(start, start + size)]
    headers = {"X-Pages": str(pages + calls.happens(faults.overstated_pages))}
    if endless or (index + 1 < pages and not calls.happens(faults.cut_walks)):
        headers["X-Next-Page"] = _next_page(call, index)
    elif settings.last_next_page == "empty":
        headers["X-Next-Page"] = ""
    return record(call.company, items, headers=headers)


def _listed(call: Call, customer: Customer) -> Any:
    company = call.company
    shown = company.listed(customer, call.application)
    return company.oddities.flagged(shown) if company.customers.is_deleted(customer.id) else shown


def _page_index(call: Call) -> int:
    """Give the page asked for, counted from 0: by the query `page`, else by the header X-Page."""
    query, header = call.request.query_params.get("page"), call.request.headers.get("x-page")
    text = query if query is not None else header
    if text is None:
        return 0
    base = call.sandbox.settings.page_base if query is not None else 0
    if not (text.isascii() and text.isdigit()) or int(text) < base:
        raise RefusedError(400, "invalid_request", f"There is no page {text!r}.")
    return int(text) - base


def _next_page(call: Call, index: int) -> str:
    leads = call.sandbox.faults.next_page
    number = index + call.sandbox.settings.page_base + (leads != "repeated")
    query = urlencode(dict(call.request.query_params) | {"page": str(number)})
    path = call.url(call.request.url.path, absolute=leads != "foreign")
    if leads == "http":
        path = f"http:{path.removeprefix('https:').removeprefix('http:')}"
    return f"{'https://elsewhere.example' if leads == 'foreign' else ''}{path}?{query}"


def _redirect(call: Call, found: list[Customer]) -> Response:
    """Answer a look-up: 302 to the first match, or 404."""
    if not found:
        raise RefusedError(404, "not_found", "There is no such customer.")
    path = f"{call.request.url.path}/{found[0].id}"
    location = call.url(path, absolute=call.sandbox.settings.location == "absolute")
    return Response(status_code=302, headers={"Location": location})


def _created(call: Call, id_: int, shown: Any) -> Response:
    path = f"{call.request.url.path}/{id_}"
    location = call.url(path, absolute=call.sandbox.settings.location == "absolute")
    headers = {"Location": location}
    if call.sandbox.settings.created_body:
        return record(call.company, shown, 201, headers)
    return Response(status_code=201, headers=headers)
