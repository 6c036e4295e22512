"""A whole local Kounta, without its connections: state, faults, tokens, limit and report."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any

from sync.sandbox.calls import Calls
from sync.sandbox.company import Company
from sync.sandbox.editor import Editor
from sync.sandbox.limit import Limit
from sync.sandbox.oauth import Tokens
from sync.sandbox.refusal import RefusedError
from sync.sandbox.settings import Faults, OptionError, Settings, change, check
from sync.sandbox.webhooks import TOPICS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def _nothing() -> None:
    """Do nothing: there is no loop to wake."""


@dataclass
class Sandbox:
    """Everything that upstream is. `clock` gives epoch seconds; all chance comes from `seed`.

    Raises OptionError if a setting or a fault has a value that it cannot have.
    """

    settings: Settings = field(default_factory=Settings)
    faults: Faults = field(default_factory=Faults)
    seed: int = 0
    customers: int = 0
    clock: Callable[[], float] = time.time

    def __post_init__(self) -> None:
        check(self.settings)
        check(self.faults)
        random = Random(self.seed)  # noqa: S311 - faults that can be repeated
        self.company = Company(self.settings, self.faults, self.clock, _child(random))
        self.editor = Editor(self.company, _child(random))
        self.calls = Calls(self.faults, _child(random))
        self.tokens = Tokens(self.settings, self.clock, _child(random))
        self.limit = Limit()
        self.editing = True
        self.wake: Callable[[], None] = _nothing
        self.company.populate(self.customers)

    def change(self, options: Settings | Faults, values: Mapping[str, Any]) -> None:
        """Set some settings or faults while it runs. Raises OptionError; then nothing has changed."""
        change(options, values)
        self.wake()

    def deliver_to(self, base: str) -> None:
        """Register the three topics for the main application at a receiver's paths under this URL.

        Raises OptionError if it is no URL.
        """
        for topic in TOPICS:
            address = f"{base.rstrip('/')}/webhooks/{self.settings.company_id}/{topic}"
            body = {"topic": topic, "address": address, "format": "json"}
            try:
                self.company.webhooks.register(self.settings.client_id, body, self.company.upstream_time())
            except RefusedError as error:
                raise OptionError(f"deliver_to should be a receiver's base URL, not {base!r}.") from error

    @property
    def edit_rate(self) -> float:
        """Edits a second, 0 while paused."""
        return self.settings.edits_per_second if self.editing else 0

    def pause(self) -> None:
        """Stop the edits; those that have a second step take it now."""
        self.editing = False
        self.editor.finish()
        self.wake()

    def resume(self) -> None:
        """Let the edits go on."""
        self.editing = True
        self.wake()

    def report(self) -> dict[str, Any]:
        """Give what happened so far: changes by topic, deliveries, calls."""
        changes = self.company.changes
        return {
            "customers": len(self.company.customers),
            "changes": {topic: changes[topic] for topic in TOPICS} | {"silent": changes["silent"]},
            "deliveries": asdict(self.company.outbox.counts),
            "calls": {
                "total": self.calls.total,
                "answered": self.calls.answered,
                "by_status": dict(self.calls.by_status),
                "by_kind": dict(self.calls.by_kind),
                "answered_by_kind": dict(self.calls.answered_by_kind),
                "by_fault": dict(self.calls.by_fault),
            },
        }


def _child(random: Random) -> Random:
    return Random(random.getrandbits(64))  # noqa: S311 - faults that can be repeated
