"""What `doctor` asks of the process that owns the mirror: whether Kounta answers, and as what."""

from typing import Any

from starlette.requests import Request as HttpRequest
from starlette.routing import Route

from sync.console.answering import answering
from sync.engine import Engine
from sync.kounta import KountaError
from sync.login import described


def upstream_routes(engine: Engine) -> list[Route]:
    """Make the route; it answers what `asked_upstream` gives."""

    async def ask(_request: HttpRequest) -> dict[str, Any]:
        return await asked_upstream(engine)

    return [Route("/upstream", answering(ask), methods=["POST"])]


async def asked_upstream(engine: Engine) -> dict[str, Any]:
    """Ask whose the credentials are, and what is registered: two calls.

    Gives `company_id` and `company` (in words), `credentials` (how they authorize), `clock_ahead_seconds`,
    `public_url` and `webhooks` as `webhooks list` does, and `complaint` or `webhooks_complaint`, each a
    sentence, in the place of what Kounta refused.
    """
    found: dict[str, Any] = {
        "company_id": None,
        "company": None,
        "complaint": None,
        "clock_ahead_seconds": None,
        "public_url": None,
        "webhooks": None,
        "webhooks_complaint": None,
    }
    try:
        company = await engine.kounta.company()
        found |= {"company_id": company.id, "company": described(company)}
    except KountaError as error:
        found["complaint"] = str(error)
    else:
        try:
            seen = await engine.registrar.view()
            found |= {"public_url": seen.public_url, "webhooks": seen.as_json()}
        except KountaError as error:
            found["webhooks_complaint"] = str(error)
    ahead = engine.kounta.clock_ahead
    found["clock_ahead_seconds"] = None if ahead is None else ahead.total_seconds()
    return found
