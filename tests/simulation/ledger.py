"""What really happened: upstream's changes, and which of them the receiver has stored."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

from sync.sandbox.outbox import Change, Delivery, Outbox

if TYPE_CHECKING:
    from collections.abc import Iterable
    from random import Random

    from sync.sandbox.settings import Faults
    from sync.sandbox.webhooks import Webhook

LEAVING: ContextVar[int] = ContextVar("LEAVING", default=0)
"""The number of the change whose delivery is under way."""


class Ledger(Outbox):
    """The local Kounta's outbox, which keeps account of every change."""

    def __init__(self, faults: Faults, random: Random) -> None:
        super().__init__(faults, random)
        self.changes: dict[int, list[Change]] = {}
        """Customer -> its changes, in their order."""
        self.stored_as: dict[str, int] = {}
        """Delivery -> the number of the change that it announces."""

    def announce(self, change: Change, webhooks: Iterable[Webhook]) -> None:
        self.changes.setdefault(change.customer.id, []).append(change)
        super().announce(change, webhooks)

    def made_by_reference(self) -> dict[str, list[int]]:
        """Return the customers that the mirror has made, by the reference that was written.

        One that had lost its reference when the next one was made is left out: no look-up could find it
        (assumption H).
        """
        made: dict[str, list[int]] = {}
        begun = (
            (changes[0].at, reference, customer_id)
            for customer_id, changes in self.changes.items()
            if changes[0].topic == "customers/created"
            for reference in changes[0].customer.reference_ids.values()
            if reference.startswith("made-")
        )
        for at, reference, customer_id in sorted(begun):
            kept = [one for one in made.get(reference, ()) if self._has(one, reference, at)]
            made[reference] = [*kept, customer_id]
        return made

    def _has(self, customer_id: int, reference: str, at: float) -> bool:
        """Return whether a customer has a reference at a time."""
        until = [change.customer for change in self.changes[customer_id] if change.at <= at]
        return reference in until[-1].reference_ids.values()

    def left(self, delivery: Delivery) -> None:
        LEAVING.set(delivery.change.number)
        super().left(delivery)
