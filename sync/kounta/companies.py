"""Whose the credentials are (`/companies/me`), which may be answered with a redirect to the company."""

from functools import partial

from sync.kounta.connection import Answer, Call, Connection
from sync.kounta.lookups import MOST_REDIRECTS, REDIRECTS, Elsewhere
from sync.kounta.origin import Origin
from sync.kounta.shapes import COMPANY, Company, shaped, wrong_shape


async def company_of_credentials(connection: Connection, priority: int = 0) -> Company:
    """Ask; redirects are followed on the same origin, with `Authorization` again. Raises KountaError."""
    trail = _Trail(connection.origin)
    found: Company | Elsewhere = Elsewhere(connection.origin.at("/companies/me.json"))
    while isinstance(found, Elsewhere):
        call = Call(found.url, "company", also=REDIRECTS, proves_access=False, priority=priority)
        found = await connection.ask(call, partial(trail.step, found.url))
    return found


class _Trail:
    """The way from redirect to redirect, never twice to one place."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._seen: set[str] = set()

    def step(self, url: str, answer: Answer) -> Company | Elsewhere:
        """Read the answer to `url`. Raises KountaWrongShape for a place that must not see credentials."""
        self._seen.add(url)
        if answer.status not in REDIRECTS:
            return shaped(COMPANY, answer, expected="a company")
        following = self._origin.follow(answer.headers.get("Location", ""), base=url, below="/companies")
        if following in self._seen or len(self._seen) > MOST_REDIRECTS:
            raise wrong_shape(answer, "the company, or where it is", "redirects that do not end")
        return Elsewhere(following)
