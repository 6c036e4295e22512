"""The company: its customers, its webhooks, and every change that makes deliveries. No I/O."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from sync.sandbox.bodies import json_bytes, signature, xml_bytes
from sync.sandbox.chance import Chance
from sync.sandbox.customer import Customer, JsonObject, abridged, differing, legacy_address, stamped
from sync.sandbox.customers import Customers, Moment
from sync.sandbox.damage import damaged
from sync.sandbox.oddities import Oddities
from sync.sandbox.outbox import Change, Delivery, Outbox
from sync.sandbox.people import person
from sync.sandbox.refusal import RefusedError
from sync.sandbox.webhooks import TOPICS, Webhooks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from random import Random

    from sync.sandbox.settings import Faults, Settings

CREATED, UPDATED, DELETED = TOPICS
FIRST_ID = 389_427
FIRST_LARGE_ID = 2**31 + 7


class Post(NamedTuple):
    """A delivery on its way: where to, the bytes, the headers."""

    url: str
    body: bytes
    headers: dict[str, str]


class Company:
    """The state of upstream for one company.

    `clock` gives epoch seconds; `random` decides the faults of deliveries and the customers that are made up.
    The same seed and the same calls at the same times give the same ids, customers and deliveries.
    """

    def __init__(
        self, settings: Settings, faults: Faults, clock: Callable[[], float], random: Random
    ) -> None:
        self.settings = settings
        self.faults = faults
        self.clock = clock
        self.customers = Customers()
        self.webhooks = Webhooks(settings)
        self.outbox = Outbox(faults, _child(random))
        self.changes: Counter[str] = Counter()
        self._people = _child(random)
        self._ids = _child(random)
        self._number = 0
        self._refusals: Counter[int] = Counter()
        self.chance = Chance(settings, _child(random))
        self.oddities = Oddities(settings, faults, self.chance, self.upstream_time)

    def upstream_time(self) -> float:
        """Give the time by upstream's own clock, which may be ahead."""
        return self.clock() + self.faults.clock_skew_seconds

    def populate(self, count: int) -> None:
        """Make up customers that were there before anyone looked: nothing is announced.

        The second half of them has ids above 2**31.
        """
        for index in range(count):
            values = person(self._people, self.customers.mobile_taken)
            jump = index == count // 2 and self.customers.highest_id < FIRST_LARGE_ID
            id_ = FIRST_LARGE_ID if jump else self._next_id()
            self.customers.put(self._new(id_, values, self.settings.client_id), at=None)

    def create(
        self,
        values: Mapping[str, Any],
        *,
        announce: bool = True,
        application: str | None = None,
        customer_id: int | None = None,
    ) -> Customer:
        """Add a customer. Raises RefusedError if its mobile, or the id asked for, is another's."""
        id_ = self._next_id() if customer_id is None else customer_id
        if self.customers.get(id_) is not None:
            raise RefusedError(409, "taken", f"There is a customer {id_} already.")
        customer = self._new(id_, values, application or self.settings.client_id)
        self._check_mobile(customer)
        self.customers.put(customer, self.clock())
        self._changed(CREATED, None, customer, announce=announce)
        return customer

    def update(
        self, id_: int, values: Mapping[str, Any], *, announce: bool = True, application: str | None = None
    ) -> Customer:
        """Replace some attributes of a customer. Raises RefusedError: 404, or if its mobile is another's."""
        before = self.customer(id_)
        customer = before.with_values(values, application or self.settings.client_id)
        self._check_mobile(customer)
        if customer != before:
            self.customers.put(customer, self.clock())
        if customer != before or self.settings.announce_unchanged:
            self._changed(UPDATED, before, customer, announce=announce)
        return customer

    def delete(self, id_: int, *, announce: bool = True) -> Customer:
        """Delete a customer and give its last state. Raises RefusedError (404)."""
        self.customer(id_)
        customer = self.customers.remove(id_, self.clock())
        self._changed(DELETED, customer, customer, announce=announce)
        return customer

    def customer(self, id_: int) -> Customer:
        """Give a customer as it really is now. Raises RefusedError (404)."""
        customer = self.customers.get(id_)
        if customer is None:
            raise RefusedError(404, "not_found", f"There is no customer {id_}.")
        return customer

    def moment(self) -> Moment:
        """Give the customers as reads show them: as they were read-lag-seconds ago."""
        return self.customers.at(self.clock() - self.faults.read_lag_seconds)

    def shown(self, customer: Customer, application: str) -> JsonObject:
        """Give a complete record as a read by id shows it now."""
        return self.oddities.of(stamped(self._complete(customer, application), self.upstream_time()))

    def shown_deleted(self, customer: Customer, application: str) -> JsonObject:
        """Give the last state of a deleted customer, with a flag that says that it is deleted."""
        record = stamped(self._complete(customer, application), self.upstream_time())
        return self.oddities.flagged(record)

    def listed(self, customer: Customer, application: str) -> JsonObject:
        """Give a customer as an item of a list shows it now, in the shape that is set."""
        shape = self.settings.list_shape
        if shape == "complete":
            return self.shown(customer, application)
        return self.oddities.of(abridged(customer.seen_by(application), legacy=shape == "legacy"))

    def still_listed(self) -> list[Customer]:
        """Give the deleted customers that the list still has."""
        share = self.faults.listed_deleted
        return [
            self.customers.last(id_)
            for id_ in (self.customers.deleted if share else ())
            if self.chance.fixed("listed_deleted", id_) < share
        ]

    def truth(self, application: str | None = None) -> Iterator[JsonObject]:
        """Walk the live customers as they really are, without times, as one application may know them."""
        application = application or self.settings.client_id
        return (self._complete(customer, application) for customer in self.customers)

    def due_deliveries(self, now: float) -> list[Delivery]:
        """Take out the deliveries that leave now; give each back with `finished`."""
        return self.outbox.due(now)

    def post(self, delivery: Delivery) -> Post:
        """Write and sign the body of a delivery that leaves now."""
        self.outbox.left(delivery)
        webhook, change = delivery.webhook, delivery.change
        at = {
            "change": change.at + self.faults.clock_skew_seconds,
            "departure": self.upstream_time(),
            "absent": None,
        }[self.faults.stamps]
        record: JsonObject = {"id": change.customer.id}
        if change.topic != DELETED or self.settings.deleted_body == "complete":
            record = self._complete(change.customer, webhook.application)
        record = self.oddities.of(stamped(record, at))
        if webhook.format == "xml":
            body, content_type = xml_bytes(record), "application/xml"
        else:
            body, content_type = self.json(record), "application/json"
        body = damaged(body, self.faults, self.chance, f"{webhook.id}/{change.number}")
        if delivery.garbled:
            body = body[: len(body) // 2]
        token = self.signature_token(webhook.application)
        if delivery.badly_signed:
            token += "x"
        headers = {
            **webhook.headers,
            "Content-Type": content_type,
            "X-Kounta-Signature": signature(token, body),
        }
        if self.settings.delivery_headers:
            headers |= {"X-Kounta-Topic": webhook.topic, "X-Kounta-Event-Id": str(change.number)}
        return Post(webhook.address, body, headers)

    def finished(self, delivery: Delivery, status: int | None, now: float) -> None:
        """Note the receiver's answer to a delivery: its status, or None when there was none."""
        answered = self.outbox.finished(delivery, status, now)
        refusals = 0 if answered else self._refusals[delivery.webhook.id] + 1
        self._refusals[delivery.webhook.id] = refusals
        if self.faults.disable_after and refusals >= self.faults.disable_after:
            self.webhooks.drop(delivery.webhook.id)

    def json(self, value: Any) -> bytes:
        return json_bytes(value, ascii_only=self.settings.ascii_json)

    def signature_token(self, application: str) -> str:
        """Give the key that signs an application's deliveries."""
        for known in self.settings.other_applications:
            client_id, _, token = known.split(":")
            if client_id == application:
                return token
        return self.settings.signature_token

    def _complete(self, customer: Customer, application: str) -> JsonObject:
        record = customer.seen_by(application)
        if self.settings.address_shape == "legacy":
            for name in ("primary_address", "shipping_address"):
                record[name] = legacy_address(record[name])
        if self.settings.unknown_extras:
            record = {"id_str": str(customer.id), "loyalty": {"points": customer.id % 100}, **record}
        return record

    def _new(self, id_: int, values: Mapping[str, Any], application: str) -> Customer:
        return Customer(id=id_).with_values(values, application)

    def _next_id(self) -> int:
        return max(self.customers.highest_id, FIRST_ID) + self._ids.randint(1, 40)

    def _check_mobile(self, customer: Customer) -> None:
        if customer.mobile and self.customers.mobile_taken(customer.mobile, by_other_than=customer.id):
            raise RefusedError(
                self.settings.mobile_taken, "mobile_taken", "Another customer has this mobile."
            )

    def _changed(self, topic: str, before: Customer | None, after: Customer, *, announce: bool) -> None:
        self._number += 1
        self.changes[topic] += 1
        if not announce:
            self.changes["silent"] += 1
            return
        change = Change(self._number, self.clock(), topic, after)
        passed = differing(before, after) if topic == UPDATED and before is not None else ()
        honoured = self.settings.webhook_filters == "honoured"
        self.outbox.announce(
            change,
            (
                webhook
                for webhook in self.webhooks
                if webhook.topic == topic and (topic != UPDATED or not honoured or webhook.passes(passed))
            ),
        )
        if self.chance.fixed("replayed_elsewhere", change.number) < self.faults.replayed_elsewhere:
            elsewhere = [webhook for webhook in self.webhooks if webhook.topic != topic]
            which = int(self.chance.fixed("where", change.number) * len(elsewhere))
            self.outbox.repeat(change, elsewhere[which : which + 1])


def _child(random: Random) -> Random:
    """Give a generator of its own, so that what one part draws does not disturb another."""
    return type(random)(random.getrandbits(64))
