"""Snapshots: what one delivery, read, list item or write says of a customer, and when that was so."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from pydantic import ValidationError

from sync.merge.customers import Customer, Subscription, Values
from sync.merge.deleted import says_deleted


class Source(StrEnum):
    """Where a change of the mirror came from, as `customer_changes.source` names it."""

    BACKFILL = "backfill"
    WEBHOOK = "webhook"
    VERIFICATION = "verification"
    SWEEP = "sweep"
    WRITE = "write"


class UnreadableError(ValueError):
    """A body that says nothing of a customer of this company; its sentence is why it is quarantined."""


class AnotherCompanyError(UnreadableError):
    """A body about another company's customer: no loss of ours."""


@dataclass(slots=True)
class Snapshot:
    """What upstream said of one customer at one moment.

    `as_of` is by upstream's clock, or the arrival by ours when `rests_on_arrival`. `position` is the
    delivery's in the inbox; for a read or a list item it is the position up to which deliveries had been
    applied when the call began. `values` holds the kept columns that were carried, and no others.
    """

    customer_id: int
    values: Values
    as_of: datetime
    rests_on_arrival: bool
    arrived_at: datetime
    position: int
    source: Source
    deleted: bool = False
    complete: bool = True
    """False for a list item that does not carry all that is subscribed."""
    says_deleted: bool = False
    """Whether a field of it says that the customer is deleted (sync.merge.deleted)."""


@dataclass(frozen=True, slots=True)
class Lens:
    """How one company's mirror looks at what comes in."""

    company_id: int
    subscription: Subscription
    window: timedelta

    def body(self, body: bytes, *, deleted: bool, arrived_at: datetime, position: int) -> Snapshot:
        """Read a delivery's body: the complete, bare customer (the seed).

        Raises UnreadableError with the reason: not JSON, not a customer, another company's, or text that
        SQLite and PostgreSQL cannot both store.
        """
        try:
            customer = Customer.model_validate_json(body)
        except ValidationError as error:
            raise UnreadableError(_sentence(error)) from None
        if b"\\u0000" in body:
            _refuse_nul(customer.model_dump())
        return self._snapshot(customer, arrived_at, position, Source.WEBHOOK, deleted=deleted)

    def customer(
        self, customer: Customer, *, arrived_at: datetime, position: int, source: Source, listed: bool = False
    ) -> Snapshot:
        """Take the picture of an answer: of a read, of a write, or of one item of a list.

        Raises UnreadableError as `body` does.
        """
        _refuse_nul(customer.model_dump())
        complete = not listed or self.subscription.covers(customer)
        return self._snapshot(customer, arrived_at, position, source, complete=complete)

    def _snapshot(
        self,
        customer: Customer,
        arrived_at: datetime,
        position: int,
        source: Source,
        *,
        deleted: bool = False,
        complete: bool = True,
    ) -> Snapshot:
        if customer.model_extra:
            _refuse_another_company(customer.model_extra, self.company_id)
        values = self.subscription.carried_in(customer)
        if "other" in values:
            _refuse_not_json(values["other"])
        as_of, rests_on_arrival = picture_time(customer.updated_at, arrived_at, self.window)
        return Snapshot(
            customer_id=customer.id,
            values=values,
            as_of=as_of,
            rests_on_arrival=rests_on_arrival,
            arrived_at=arrived_at,
            position=position,
            source=source,
            deleted=deleted,
            complete=complete,
            says_deleted=says_deleted(customer.model_extra),
        )


def picture_time(updated_at: object, arrived_at: datetime, window: timedelta) -> tuple[datetime, bool]:
    """Say when upstream took a picture, and whether that rests on our arrival time alone.

    `updated_at` is always "now" upstream (the seed). It is not believed when it does not parse, has no
    offset, or lies further ahead of the arrival than `window`. Old stamps stand.
    """
    if isinstance(updated_at, str):
        try:
            stamp = datetime.fromisoformat(updated_at)
            if stamp.tzinfo is not None:
                stamp = stamp.astimezone(UTC)
                if stamp <= arrived_at + window:
                    beyond = stamp.microsecond % 1000  # stored are milliseconds
                    return stamp - timedelta(microseconds=beyond) if beyond else stamp, False
        except (ValueError, OverflowError):
            pass
    return arrived_at, True


def _refuse_another_company(extra: dict[str, Any], company_id: int) -> None:
    named = extra.get("company_id")
    if named is None and isinstance(extra.get("company"), dict):
        named = extra["company"].get("id")
    if named is not None and str(named) != str(company_id):
        other = repr(str(named)[:20]) if str(named).isdecimal() else "whose id is no number"
        raise AnotherCompanyError(f"the body is about company {other}, not {company_id}")


def _refuse_nul(value: object) -> None:
    if any("\x00" in text for text in _texts(value)):
        raise UnreadableError("a text holds a NUL character, which PostgreSQL cannot store")


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, item in value.items():
            yield str(name)
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def _refuse_not_json(value: object) -> None:
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        raise UnreadableError("a number in an unknown field is not finite, which JSON cannot hold") from None


def _sentence(error: ValidationError) -> str:
    """Say what is wrong without the value: quarantine shows the body itself, reasons go to logs."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"{place}: {first['msg']}" if place else first["msg"]
