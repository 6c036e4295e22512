"""What the mirror knows of its webhooks at upstream: asked for by a person, ours, and under way."""

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import Delete, delete, select, update
from sqlalchemy.dialects.postgresql import insert

from sync.mirror.reader import MirrorReader
from sync.mirror.schema import REGISTRATION, WEBHOOK_ATTEMPTS, WEBHOOKS
from sync.mirror.store import Mirror
from sync.registration.plan import Attempt, OurWebhook, Registration

_ASKED = (
    REGISTRATION.c.public_url,
    REGISTRATION.c.ensured_at,
    REGISTRATION.c.checked_at,
    REGISTRATION.c.repairing,
    REGISTRATION.c.failure,
    REGISTRATION.c.failure_since,
)


async def registration_of(mirror: MirrorReader) -> Registration | None:
    """Give what a person has asked for; None while nobody has."""
    statement = select(*_ASKED).where(REGISTRATION.c.company_id == mirror.company_id)
    async with mirror.reading() as connection:
        row = (await connection.execute(statement)).one_or_none()
    return None if row is None else Registration(*row)


async def ask_for(mirror: Mirror, public_url: str, now: datetime) -> None:
    """Keep the topics registered at this place from now on."""
    wanted = {"public_url": public_url, "ensured_at": now}
    statement = insert(REGISTRATION).values(company_id=mirror.company_id, repairing=False, **wanted)
    async with mirror.transaction() as connection:
        await connection.execute(statement.on_conflict_do_update(index_elements=["company_id"], set_=wanted))


async def ask_for_none(mirror: Mirror) -> None:
    """Keep nothing registered from now on; which ones are ours is still known."""
    async with mirror.transaction() as connection:
        for table in (REGISTRATION, WEBHOOK_ATTEMPTS):
            await connection.execute(delete(table).where(table.c.company_id == mirror.company_id))


async def note_repairing(mirror: Mirror, *, repairing: bool) -> None:
    """Note that something is wrong, or that all is well again."""
    await _note(mirror, repairing=repairing)


async def note_check(mirror: Mirror, now: datetime) -> None:
    """Note that all was found well."""
    await _note(mirror, checked_at=now, failure=None, failure_since=None)


async def note_failure(mirror: Mirror, failure: str, since: datetime) -> None:
    """Note why it could not be found well."""
    await _note(mirror, failure=failure, failure_since=since)


async def _note(mirror: Mirror, **values: object) -> None:
    statement = update(REGISTRATION).where(REGISTRATION.c.company_id == mirror.company_id).values(values)
    async with mirror.transaction() as connection:
        await connection.execute(statement)


async def our_webhooks(mirror: MirrorReader) -> dict[int, OurWebhook]:
    """Give those that this mirror made or took over, by id."""
    statement = select(WEBHOOKS.c.webhook_id, WEBHOOKS.c.topic, WEBHOOKS.c.address, WEBHOOKS.c.since).where(
        WEBHOOKS.c.company_id == mirror.company_id
    )
    async with mirror.reading() as connection:
        return {row.webhook_id: OurWebhook(*row) for row in await connection.execute(statement)}


async def keep_webhook(mirror: Mirror, webhook: OurWebhook, *, settles: str | None = None) -> None:
    """Keep one as ours; `settles`: the topic whose attempt has come to its end with it."""
    values = {"topic": webhook.topic, "address": webhook.address}
    statement = insert(WEBHOOKS).values(
        company_id=mirror.company_id, webhook_id=webhook.id, since=webhook.since, **values
    )
    statement = statement.on_conflict_do_update(index_elements=["company_id", "webhook_id"], set_=values)
    async with mirror.transaction() as connection:
        await connection.execute(statement)
        if settles is not None:
            await connection.execute(_attempt_of(mirror, settles))


async def forget_webhook(mirror: Mirror, id_: int) -> None:
    """Keep it no longer: it is gone from upstream."""
    statement = delete(WEBHOOKS).where(
        WEBHOOKS.c.company_id == mirror.company_id, WEBHOOKS.c.webhook_id == id_
    )
    async with mirror.transaction() as connection:
        await connection.execute(statement)


async def attempts_of(mirror: MirrorReader) -> list[Attempt]:
    """Give the registrations that were asked for, and whose answer may never have come."""
    columns = ("topic", "address", "known", "asked_at")
    statement = select(*(WEBHOOK_ATTEMPTS.c[name] for name in columns)).where(
        WEBHOOK_ATTEMPTS.c.company_id == mirror.company_id
    )
    async with mirror.reading() as connection:
        rows = await connection.execute(statement)
        return [Attempt(row.topic, row.address, frozenset(row.known), row.asked_at) for row in rows]


async def begin_attempt(mirror: Mirror, attempt: Attempt) -> None:
    """Note a registration before it is asked for; one that is under way for this topic is replaced."""
    values = {"address": attempt.address, "known": sorted(attempt.known), "asked_at": attempt.asked_at}
    statement = insert(WEBHOOK_ATTEMPTS).values(company_id=mirror.company_id, topic=attempt.topic, **values)
    async with mirror.transaction() as connection:
        await connection.execute(
            statement.on_conflict_do_update(index_elements=["company_id", "topic"], set_=values)
        )


async def end_attempts(mirror: Mirror, topics: Collection[str]) -> None:
    """Forget attempts of which nothing can come any more."""
    async with mirror.transaction() as connection:
        for topic in topics:
            await connection.execute(_attempt_of(mirror, topic))


def _attempt_of(mirror: Mirror, topic: str) -> Delete:
    return delete(WEBHOOK_ATTEMPTS).where(
        WEBHOOK_ATTEMPTS.c.company_id == mirror.company_id, WEBHOOK_ATTEMPTS.c.topic == topic
    )
