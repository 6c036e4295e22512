"""Snapshots: what one delivery, read, list item or write says of a customer, and when that was so."""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from pydantic import ValidationError

from sync.merge.customers import COLUMNS, Customer, Subscription, Values
from sync.merge.deleted import says_deleted
from sync.merge.reading import MOST_RAW, read_customer

_NONE: Final[frozenset[str]] = frozenset()


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
    """False when it does not carry all that is subscribed, or some of it cannot be read."""
    unread: dict[str, str | None] = field(default_factory=dict)
    """Columns that it says nothing of: column -> what came and could not be read, None: nothing came.

    `other.NAME` is an unknown field that could not be read.
    """
    numbers: frozenset[str] = frozenset()
    """Columns of text that came as a number: leading zeros and a `+` may be lost."""
    says_deleted: bool = False
    """Whether a field of it says that the customer is deleted (sync.merge.deleted)."""
    oddities: frozenset[str] = frozenset()
    """What was odd in how it was written, by names of docs/reference/upstream.md."""


@dataclass(frozen=True, slots=True)
class Lens:
    """How one company's mirror looks at what comes in."""

    company_id: int
    subscription: Subscription
    window: timedelta

    def body(
        self,
        body: bytes,
        *,
        deleted: bool,
        arrived_at: datetime,
        position: int,
        mobile: bool | None = None,
    ) -> Snapshot:
        """Read a delivery's body: the complete, bare customer (the seed), field by field where it must be.

        `mobile`: whether reads of this company carry `mobile`, None while that is not known. Raises
        UnreadableError with the reason: not JSON, not a customer, or another company's.
        """
        try:
            customer = read_customer(body)
        except ValidationError as error:
            raise UnreadableError(_sentence(error)) from None
        return self._snapshot(
            customer, arrived_at, position, Source.WEBHOOK, deleted=deleted, mobile=mobile is not False
        )

    def customer(
        self,
        customer: Customer,
        *,
        arrived_at: datetime,
        position: int,
        source: Source,
        listed: bool = False,
        mobile: bool | None = None,
    ) -> Snapshot:
        """Take the picture of an answer: of a read, of a write, or of one item of a list.

        `mobile` as for `body`: a read need not carry it unless one has. Raises UnreadableError for a
        customer of another company.
        """
        wanted = mobile is not False if listed else mobile is True
        return self._snapshot(customer, arrived_at, position, source, mobile=wanted)

    def _snapshot(
        self,
        customer: Customer,
        arrived_at: datetime,
        position: int,
        source: Source,
        *,
        mobile: bool,
        deleted: bool = False,
    ) -> Snapshot:
        if customer.model_extra:
            _refuse_another_company(customer.model_extra, self.company_id)
        values = self.subscription.carried_in(customer)
        unread = self.subscription.lacking(customer, mobile=mobile)
        if "other" in values:
            _leave_out_what_json_cannot_hold(values, unread)
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
            complete=not unread or not any(column in COLUMNS for column in unread),
            unread=unread,
            numbers=self.subscription.numbers_in(customer) if customer.numbers else _NONE,
            says_deleted=says_deleted(customer.model_extra),
            oddities=customer.oddities,
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


def _leave_out_what_json_cannot_hold(values: Values, unread: dict[str, str | None]) -> None:
    """Take unknown fields with a number that is not finite out of `values`, and note them as unread."""
    other: Any = values["other"]
    if _is_json(other):
        return
    kept = {name: value for name, value in other.items() if _is_json(value)}
    unread |= {f"other.{name}": json.dumps(other[name])[:MOST_RAW] for name in other.keys() - kept.keys()}
    if kept:
        values["other"] = kept
    else:
        del values["other"]


def _is_json(value: object) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        return False
    return True


def _sentence(error: ValidationError) -> str:
    """Say what is wrong without the value: quarantine shows the body itself, reasons go to logs."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"{place}: {first['msg']}" if place else first["msg"]
