"""The resources that are mirrored and the topics upstream announces them by: one row each."""

from __future__ import annotations

RESOURCES: dict[str, tuple[str, ...]] = {
    "customers": ("created", "updated", "deleted"),
}

TOPICS = frozenset(f"{resource}/{event}" for resource, events in RESOURCES.items() for event in events)

PING = "ping"
"""Not of upstream: what `webhooks test` sends through the public URL. It is stored like a delivery."""

ACCEPTED = TOPICS | {PING}
