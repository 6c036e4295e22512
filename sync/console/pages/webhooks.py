"""Webhooks: whether they are registered at Kounta, who listens, and what the receiver refused."""

from typing import Final

from starlette.responses import Response

from sync.console.pages.office import Visit
from sync.mirror.registration import our_webhooks

MEANINGS: Final = {
    "signature_invalid": "Somebody else's request, or the token has changed: kounta-mirror webhooks capture "
    "and --try tell which.",
    "signature_missing": "No webhook of Kounta, or a proxy takes the header X-Kounta-Signature away.",
    "unknown_company": "The address names a company that this receiver does not serve.",
    "unknown_topic": "The address names no topic of customers.",
    "body_too_large": "Larger than a customer ever is.",
    "body_too_slow": "The body did not arrive in time: a slow or broken connection.",
    "unavailable": "The inbox could not store it; Kounta may send it again.",
    "method_not_allowed": "Something else than a webhook: they are POSTed.",
    "bad_request": "No HTTP, or a request that breaks its rules.",
    "not_found": "A path that is no address of a webhook.",
    "upgrade_unsupported": "A request to upgrade the connection: no webhook asks for that.",
    "headers_too_large": "Headers larger than any webhook's.",
    "headers_too_slow": "The headers did not arrive in time: a slow or broken connection.",
    "too_many_connections": "All connections were taken by others that sent nothing that verifies.",
}


async def webhooks(visit: Visit) -> Response:
    """Show the registration as it was found last, and the refusals."""
    status = await visit.office.status(visit.company_id)
    reader = await visit.office.inbox.reader()
    failed = [] if reader is None else (await reader.failed_commits())[-10:][::-1]
    ours = sorted((await our_webhooks(visit.mirror)).values(), key=lambda one: one.topic)
    return visit.page(
        "webhooks.html",
        status=status,
        ours=ours,
        failed_commits=failed,
        meanings=MEANINGS,
        public_url=visit.settings.public_url,
        read_only=visit.settings.read_only,
    )
