"""Where each page lies."""

from functools import partial
from typing import Final

from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from sync.console.pages.customers import customer, erase, search, verify
from sync.console.pages.deliveries import deliveries, delivery, do_replay, try_replay
from sync.console.pages.events import Events
from sync.console.pages.frame import STATIC
from sync.console.pages.office import Handler, Office, handling
from sync.console.pages.overview import front_door, overview
from sync.console.pages.reconciliations import held, reconcile, release, verifications
from sync.console.pages.webhooks import webhooks

_OF_A_COMPANY: Final[tuple[tuple[str, str, Handler], ...]] = (
    ("GET", "", overview),
    ("GET", "/deliveries", deliveries),
    ("GET", "/deliveries/{delivery_id}", delivery),
    ("POST", "/replay/try", try_replay),
    ("POST", "/replay", do_replay),
    ("GET", "/customers", search),
    ("GET", "/customers/{customer_id:int}", customer),
    ("POST", "/customers/{customer_id:int}/verify", verify),
    ("POST", "/customers/{customer_id:int}/erase", erase),
    ("GET", "/verifications", verifications),
    ("POST", "/reconcile", reconcile),
    ("GET", "/held", held),
    ("POST", "/held/release", release),
    ("GET", "/webhooks", webhooks),
)


def page_routes(office: Office) -> list[BaseRoute]:
    """Make the routes of every page and form."""
    events = Events(office)
    pages = (*_OF_A_COMPANY, ("GET", "/events", events.of_company))
    return [
        Route("/", partial(front_door, office)),
        Route("/events", events.of_all),
        Mount("/static", StaticFiles(directory=STATIC)),
        *(
            Route(f"/companies/{{company_id:int}}{path}", handling(office, handler), methods=[method])
            for method, path, handler in pages
        ),
    ]
