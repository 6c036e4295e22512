"""What is to be done so that each topic is registered once, at our address. Pure: no I/O, no clock."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from receiver.topics import TOPICS
from sync.kounta import RegisteredWebhook

JSON: Final = "json"


@dataclass(frozen=True, slots=True)
class Registration:
    """What a person has asked for: the topics at this place, from now on."""

    public_url: str
    ensured_at: datetime
    checked_at: datetime | None = None
    repairing: bool = False
    """Something was found wrong, and it is not yet known that all is well again: a gap."""
    failure: str | None = None
    failure_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class OurWebhook:
    """A registration that this mirror made, or took over."""

    id: int
    topic: str
    address: str
    since: datetime


@dataclass(frozen=True, slots=True)
class Attempt:
    """A registration that was asked for, and whose answer may never have come.

    One for this topic at this address that is none of the `known` ids is ours: it came of the attempt.
    """

    topic: str
    address: str
    known: frozenset[int]
    asked_at: datetime


@dataclass(frozen=True, slots=True)
class Change:
    """What to tell upstream about a registration of ours that is not as it should be."""

    id: int
    topic: str
    fields: Mapping[str, Any]


@dataclass(slots=True)
class Plan:
    """Steps, to be done in this order: no topic is without a registration while another is removed."""

    change: list[Change] = field(default_factory=list)
    register: list[str] = field(default_factory=list)
    remove: list[int] = field(default_factory=list)

    @property
    def repairs(self) -> bool:
        """Whether deliveries may have been missed until now."""
        return bool(self.change or self.register)

    def __bool__(self) -> bool:
        return self.repairs or bool(self.remove)


def address_of(public_url: str, company_id: int, topic: str) -> str:
    """Give the receiver's URL for a topic."""
    return f"{public_url}/webhooks/{company_id}/{topic}"


def addresses(public_url: str, company_id: int) -> dict[str, str]:
    """Give topic -> where it is to be delivered."""
    return {topic: address_of(public_url, company_id, topic) for topic in sorted(TOPICS)}


def claimed(
    attempts: Iterable[Attempt], ours: Collection[int], listed: Iterable[RegisteredWebhook]
) -> list[RegisteredWebhook]:
    """Find the registrations that came of attempts whose answer never came."""
    by_topic = {attempt.topic: attempt for attempt in attempts}
    return [
        webhook
        for webhook in listed
        if webhook.id not in ours
        and (attempt := by_topic.get(webhook.topic or "")) is not None
        and webhook.leads_to(attempt.address)
        and webhook.id not in attempt.known
    ]


def differences(webhook: RegisteredWebhook, topic: str, address: str) -> dict[str, Any]:
    """Give what must be changed so that it delivers every change of `topic` to `address` in JSON."""
    found: dict[str, Any] = {}
    if webhook.topic != topic:
        found["topic"] = topic
    if not webhook.leads_to(address):
        found["address"] = address
    if not webhook.is_json:
        found["format"] = JSON
    if webhook.is_filtered:
        found["filter"] = {}  # upstream may refuse null, and shows an unset one so (kounta-api.md)
    return found


def plan(
    wanted: Mapping[str, str], ours: Mapping[int, OurWebhook], present: Mapping[int, RegisteredWebhook]
) -> Plan:
    """Compare topic -> address with those of ours that are `present`; others are not looked at.

    Of several for one topic the one that needs no change stays, else the oldest.
    """
    steps = Plan()
    for topic, address in wanted.items():
        candidates = sorted(
            (bool(differences(present[id_], topic, address)), id_)
            for id_, webhook in ours.items()
            if webhook.topic == topic and id_ in present
        )
        if not candidates:
            steps.register.append(topic)
            continue
        (differs, kept), *extra = candidates
        if differs:
            steps.change.append(Change(kept, topic, differences(present[kept], topic, address)))
        steps.remove += [id_ for _, id_ in extra]
    steps.remove += sorted(id_ for id_, webhook in ours.items() if webhook.topic not in wanted)
    return steps
