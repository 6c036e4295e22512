"""Keeps the three topics registered: looks, compares, mends, and looks again until nothing is left to do."""

import asyncio
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

import structlog

from receiver.errors import MirrorError
from receiver.topics import TOPICS
from sync.apply import GAP
from sync.kounta import Kounta, KountaError, RegisteredWebhook, for_log
from sync.mirror.gaps import note_gap
from sync.mirror.registration import (
    ask_for,
    ask_for_none,
    attempts_of,
    begin_attempt,
    end_attempts,
    forget_webhook,
    keep_webhook,
    note_check,
    note_failure,
    note_repairing,
    our_webhooks,
    registration_of,
)
from sync.mirror.store import Mirror
from sync.registration.plan import Attempt, Change, OurWebhook, Plan, addresses, claimed, plan

ROUNDS: Final = 6
"""How often it is mended before it is said that it does not last."""
LATE: Final = timedelta(hours=1)
"""After that, a registration whose answer never came is not waited for any longer."""
REPLACED_AGAIN: Final = timedelta(days=1)
"""Before that, a topic whose filter does not go is not registered anew once more."""
_ACCEPTED: Final = range(200, 300)
_REFUSED: Final = range(400, 500)

_log = structlog.get_logger()


class RegistrationError(MirrorError):
    """Upstream answered, and yet the topics are not registered as they should be."""


@dataclass(slots=True)
class Outcome:
    """What was done, by the ids of registrations."""

    registered: list[int] = field(default_factory=list)
    repaired: list[int] = field(default_factory=list)
    adopted: list[int] = field(default_factory=list)
    removed: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class View:
    """What upstream has and what of it is ours; `public_url` None: nobody has asked for a registration."""

    public_url: str | None
    listed: list[RegisteredWebhook]
    ours: dict[int, OurWebhook]

    def as_json(self) -> list[dict[str, Any]]:
        """Give a row for each registration, and one for each of ours that upstream no longer has."""
        rows: list[dict[str, Any]] = [
            {
                "id": webhook.id,
                "owner": "ours" if webhook.id in self.ours else "another",
                "gone": False,
                "topic": webhook.topic,
                "address": webhook.address,
                "format": webhook.format,
                "filtered": webhook.is_filtered,
            }
            for webhook in self.listed
        ]
        present = {webhook.id for webhook in self.listed}
        gone: dict[str, Any] = {"owner": "ours", "gone": True, "format": None, "filtered": False}
        rows += [
            {"id": webhook.id, **gone, "topic": webhook.topic, "address": webhook.address}
            for webhook in self.ours.values()
            if webhook.id not in present
        ]
        return rows


class Registrar:
    """The registration of one company's topics, for the process that owns the mirror."""

    def __init__(
        self,
        mirror: Mirror,
        kounta: Kounta,
        *,
        clock: Callable[[], datetime],
    ) -> None:
        self._mirror = mirror
        self._kounta = kounta
        self._webhooks = kounta.webhooks
        self._clock = clock
        self._busy = asyncio.Lock()
        self._accepted: dict[str, tuple[datetime, KountaError]] = {}
        """Topic -> when upstream accepted its registration without saying which it is, and the error."""
        self._replaced: dict[str, datetime] = {}
        """Topic -> when it was registered anew because its filter did not go."""

    async def view(self) -> View:
        """Ask upstream what it has, and say whose each is."""
        async with self._busy:
            listed = await self._webhooks.all()
            await self._claim(listed)
            registration = await registration_of(self._mirror)
            ours = await our_webhooks(self._mirror)
        return View(None if registration is None else registration.public_url, listed, ours)

    async def ensure(self, public_url: str, adopt: int | None = None) -> Outcome:
        """Register the topics at `public_url` and keep them so; with `adopt` take over that one first.

        Raises KountaError, and RegistrationError when there is nothing to adopt or it does not last.
        """
        self._kounta.require_writable()
        async with self._busy:
            outcome = Outcome()
            self._accepted.clear()  # a person wants it tried again
            self._replaced.clear()
            if adopt is not None:
                await self._adopt(adopt, outcome)
            await ask_for(self._mirror, public_url, self._clock())
            await self._keep_well(public_url, outcome)
            return outcome

    async def remove(self) -> Outcome:
        """Remove what is ours, and keep nothing registered from now on. Raises KountaError."""
        self._kounta.require_writable()
        async with self._busy:
            outcome = Outcome()
            await self._claim(await self._webhooks.all())
            await ask_for_none(self._mirror)
            for id_ in sorted(await our_webhooks(self._mirror)):
                await self._remove(id_, outcome)
            return outcome

    async def check(self) -> Outcome:
        """See whether all is as a person asked for, and mend it; nothing at all while nobody has.

        What keeps it from being so is noted and logged, and tried again at the next check.
        """
        outcome = Outcome()
        async with self._busy:
            registration = await registration_of(self._mirror)
            if registration is None:
                return outcome
            try:
                await self._keep_well(registration.public_url, outcome)
            except (KountaError, RegistrationError) as error:
                _log.warning(
                    f"The webhooks could not be kept registered: {for_log(error)}", action="webhooks_failed"
                )
        if outcome.registered or outcome.repaired:
            _log.warning(
                "Webhooks had to be registered again or repaired: a sweep will find what they did not say.",
                action="webhooks_repaired",
                registered=outcome.registered,
                repaired=outcome.repaired,
            )
        return outcome

    async def _keep_well(self, public_url: str, outcome: Outcome) -> None:
        try:
            await self._mend(addresses(public_url, self._kounta.company_id), outcome)
        except (KountaError, RegistrationError) as error:
            registration = await registration_of(self._mirror)
            since = registration.failure_since if registration is not None else None
            await note_failure(self._mirror, str(error), since or self._clock())
            raise
        registration = await registration_of(self._mirror)
        if registration is not None and registration.repairing:
            # noted before it is forgotten that something was wrong: a kill between costs a sweep, not a gap
            await note_gap(
                self._mirror,
                "Webhooks were not registered as they should be",
                self._clock(),
                since=registration.checked_at,
                until=self._clock(),
                sweep_due=GAP,
            )
            await note_repairing(self._mirror, repairing=False)
        await note_check(self._mirror, self._clock())

    def _observe(
        self,
        ours: Mapping[int, OurWebhook],
        present: Mapping[int, RegisteredWebhook],
        wanted: Mapping[str, str],
    ) -> None:
        """Count what upstream's form of our registrations shows."""
        for webhook in (present[id_] for id_ in ours if id_ in present):
            address = wanted.get(webhook.topic or "")
            if webhook.filter == {}:
                self._kounta.observations.see("unset-filter")
            if address is not None and webhook.address != address and webhook.leads_to(address):
                self._kounta.observations.see("normalised-addresses")

    async def _mend(self, wanted: dict[str, str], outcome: Outcome) -> None:
        told: set[tuple[int, frozenset[str]]] = set()
        has_waited = False
        for tries in range(1, ROUNDS + 1):
            listed = await self._webhooks.all()
            await self._claim(listed)
            await self._expire()
            ours, present = await self._present(listed, outcome.registered)
            self._observe(ours, present, wanted)
            steps = plan(wanted, ours, present)
            if not steps:
                return
            if steps.repairs:
                await note_repairing(self._mirror, repairing=True)
            unheard = [one for one in steps.change if (one.id, frozenset(one.fields)) in told]
            if unheard and not has_waited:
                has_waited = True
                await self._kounta.retries.sleep(self._kounta.retries.read_lag)
                continue
            for one in unheard:
                await self._replace(one, steps, present, outcome)
            told |= {(one.id, frozenset(one.fields)) for one in steps.change}
            unknown = await self._do(steps, wanted, [webhook.id for webhook in listed], outcome)
            if unknown is not None:
                if tries == ROUNDS:
                    raise unknown
                await self._kounta.retries.pause(tries)
        raise RegistrationError(
            f"The webhooks were mended {ROUNDS} times and are wrong again: something else changes them. "
            "Look at kounta-mirror webhooks list, and whether a copy of this data directory runs elsewhere."
        )

    async def _replace(
        self, unheard: Change, steps: Plan, present: dict[int, RegisteredWebhook], outcome: Outcome
    ) -> None:
        """Register anew what keeps its filter; the old one is removed once the new one is seen.

        Raises RegistrationError for what else does not change, and when that was tried today already.
        """
        now, before = self._clock(), self._replaced.get(unheard.topic)
        if "filter" not in unheard.fields or (before is not None and now - before < REPLACED_AGAIN):
            for id_ in steps.remove:  # a replacement that is no better
                await self._remove(id_, outcome)
            raise _deaf(unheard, present)
        self._replaced[unheard.topic] = now
        steps.change.remove(unheard)
        steps.register.append(unheard.topic)

    async def _do(
        self, steps: Plan, wanted: dict[str, str], known: list[int], outcome: Outcome
    ) -> KountaError | None:
        """Do these steps; give the error after which the fate of a registration is unknown."""
        unknown: KountaError | None = None
        for change in steps.change:
            if await self._changed(change):
                await self._keep(change.id, change.topic, wanted[change.topic])
                _once(outcome.repaired, change.id)
        for topic in steps.register:
            accepted_at, accepted = self._accepted.get(topic, (None, None))
            if accepted_at is not None and self._clock() - accepted_at < LATE:
                unknown = accepted  # it is not sent again: the list will show it
                continue
            try:
                _once(outcome.registered, await self._register(topic, wanted[topic], known))
            except KountaError as error:
                if not error.fate_unknown:
                    raise
                if error.status in _ACCEPTED:
                    self._accepted[topic] = self._clock(), error
                unknown = error
        if unknown is None:  # until then, what is to be removed may be all there is
            for id_ in steps.remove:
                await self._remove(id_, outcome)
        return unknown

    async def _changed(self, change: Change) -> bool:
        """Change a registration; one whose filter upstream refuses to change is left as it is."""
        try:
            return await self._webhooks.change(change.id, change.fields)
        except KountaError as error:
            if (
                "filter" not in change.fields
                or type(error) is not KountaError
                or error.status not in _REFUSED
            ):
                raise
            return False

    async def _register(self, topic: str, address: str, known: list[int]) -> int:
        """Register once. Whatever becomes of this process, the next look knows what came of it."""
        before = {attempt.topic: attempt for attempt in await attempts_of(self._mirror)}.get(topic)
        again = before is not None and before.address == address
        attempt = Attempt(
            topic, address, before.known if again and before else frozenset(known), self._clock()
        )
        await begin_attempt(self._mirror, attempt)
        try:
            id_ = await self._webhooks.register(topic, address)
        except KountaError as error:
            if not error.fate_unknown and not again:
                await end_attempts(self._mirror, [topic])
            raise
        webhook = OurWebhook(id_, topic, address, self._clock())
        await keep_webhook(self._mirror, webhook, settles=None if again else topic)
        return id_

    async def _claim(self, listed: list[RegisteredWebhook]) -> None:
        """Know as ours what came of registrations whose answer never came."""
        ours = await our_webhooks(self._mirror)
        for webhook in claimed(await attempts_of(self._mirror), ours, listed):
            self._accepted.pop(webhook.topic or "", None)
            await self._keep(webhook.id, webhook.topic or "", webhook.address or "")

    async def _expire(self) -> None:
        over = [one for one in await attempts_of(self._mirror) if self._clock() - one.asked_at > LATE]
        await end_attempts(self._mirror, [one.topic for one in over])

    async def _present(
        self, listed: list[RegisteredWebhook], just_made: Collection[int]
    ) -> tuple[dict[int, OurWebhook], dict[int, RegisteredWebhook]]:
        """Give ours, without those that are gone, and what upstream has of each.

        Gone is what the list leaves out and a read of its own does not find: one list is no proof. What was
        just made is there, whatever upstream shows: its reads may lag behind its writes.
        """
        ours = await our_webhooks(self._mirror)
        present = {webhook.id: webhook for webhook in listed}
        for id_ in sorted(ours.keys() - present.keys()):
            found = await self._webhooks.get(id_)
            if found is None and id_ in just_made:
                found = RegisteredWebhook(id=id_, topic=ours[id_].topic, address=ours[id_].address)
            if found is None:
                await note_repairing(self._mirror, repairing=True)
                await forget_webhook(self._mirror, id_)
                del ours[id_]
            else:
                present[id_] = found
        return ours, present

    async def _adopt(self, id_: int, outcome: Outcome) -> None:
        if id_ in await our_webhooks(self._mirror):
            return
        found = await self._webhooks.get(id_)
        if found is None:
            raise RegistrationError(
                f"There is no webhook {id_} of this application to adopt; see kounta-mirror webhooks list."
            )
        if found.topic not in TOPICS:
            raise RegistrationError(
                f"Webhook {id_} is for {found.topic}, and only {', '.join(sorted(TOPICS))} can be adopted."
            )
        await self._keep(id_, found.topic, found.address or "")
        outcome.adopted.append(id_)

    async def _remove(self, id_: int, outcome: Outcome) -> None:
        if await self._webhooks.remove(id_):
            _once(outcome.removed, id_)
        await forget_webhook(self._mirror, id_)

    async def _keep(self, id_: int, topic: str, address: str) -> None:
        await keep_webhook(self._mirror, OurWebhook(id_, topic, address, self._clock()))


def _deaf(change: Change, present: dict[int, RegisteredWebhook]) -> RegistrationError:
    name = min(change.fields)
    shown = getattr(present[change.id], name)
    if name == "address" and str(shown).casefold() == str(change.fields[name]).casefold():
        return RegistrationError(
            f"Kounta delivers webhook {change.id} to {shown}, which differs from {change.fields[name]} in "
            "upper and lower case: the receiver does not accept it. Use a MIRROR_PUBLIC_URL in the case that "
            "Kounta keeps, then run kounta-mirror webhooks ensure."
        )
    return RegistrationError(
        f"Kounta was told to change webhook {change.id} and still shows {name} {shown!r}. Remove what is "
        "ours with kounta-mirror webhooks remove, then run kounta-mirror webhooks ensure."
    )


def _once(ids: list[int], id_: int) -> None:
    if id_ not in ids:
        ids.append(id_)
