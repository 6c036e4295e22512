"""The webhooks that applications have registered."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

import httpx2

from sync.sandbox.customer import FILTERS, JsonObject, timestamp
from sync.sandbox.refusal import RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sync.sandbox.settings import Settings

TOPICS = ("customers/created", "customers/updated", "customers/deleted")

_NAME = re.compile("[A-Za-z0-9-]+")
_TOPIC = re.compile("[a-z_]+/[a-z_]+")
_WRITABLE = ("topic", "address", "format", "filter", "headers")


@dataclass(frozen=True)
class Webhook:
    """A registration: deliveries of one topic go to one address. It belongs to an application."""

    id: int
    application: str
    topic: str
    address: str
    created_at: float
    updated_at: float
    format: str = "json"
    filter: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def shown(self, unset_filter: Literal["null", "object"] = "null") -> JsonObject:
        """Give it as the API shows it."""
        unset: JsonObject | None = None if unset_filter == "null" else {}
        return {
            "id": self.id,
            "topic": self.topic,
            "address": self.address,
            "format": self.format,
            "filter": self.filter or unset,
            "headers": dict(self.headers),
            "created_at": timestamp(self.created_at),
            "updated_at": timestamp(self.updated_at),
        }

    def passes(self, differing: tuple[str, ...]) -> bool:
        """Tell whether an update of these attributes passes the filter; without one everything does.

        The form of the filter is a guess, as no documentation shows it: {"attributes": ["name", "email"]}.
        """
        wanted = self.filter.get("attributes") if isinstance(self.filter, dict) else None
        return not wanted or any(name in differing for name in wanted)


class Webhooks:
    """All registrations of the company. An application sees and changes only its own."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._all: dict[int, Webhook] = {}
        self._last_id = 9000

    def __iter__(self) -> Iterator[Webhook]:
        """Walk all of them, of every application."""
        return iter(self._all.values())

    def of(self, application: str) -> list[Webhook]:
        return [webhook for webhook in self if webhook.application == application]

    def get(self, application: str, id_: int) -> Webhook:
        """Give one of the application's own, or raise RefusedError (404)."""
        webhook = self._all.get(id_)
        if webhook is None or webhook.application != application:
            raise RefusedError(404, "not_found", f"There is no webhook {id_}.")
        return webhook

    def register(self, application: str, body: Any, at: float) -> Webhook:
        """Store a new one, even if it equals another: then every change is delivered twice."""
        values = self._values(body)
        for name in ("topic", "address"):
            if name not in values:
                raise _invalid(f"{name} is required.")
        self._last_id += 1
        webhook = Webhook(id=self._last_id, application=application, created_at=at, updated_at=at, **values)
        self._all[webhook.id] = webhook
        return webhook

    def update(self, application: str, id_: int, body: Any, at: float) -> Webhook:
        """Change the attributes that the body names."""
        webhook = replace(self.get(application, id_), **self._values(body), updated_at=at)
        self._all[id_] = webhook
        return webhook

    def _values(self, body: Any) -> JsonObject:
        values = _read(body)
        if self._settings.unset_filter == "object" and values.get("filter", {}) is None:
            raise _invalid("filter must be an object.")
        if "address" in values:
            values["address"] = _kept_as(values["address"], self._settings.webhook_addresses)
        return values

    def drop(self, id_: int) -> None:
        """Forget a registration, as upstream itself may."""
        self._all.pop(id_, None)

    def remove(self, application: str, id_: int) -> None:
        self.get(application, id_)
        del self._all[id_]


def _read(body: Any) -> JsonObject:
    if not isinstance(body, dict):
        raise _invalid("The body must be a JSON object with topic and address.")
    values = {name: value for name, value in body.items() if name in _WRITABLE}
    _check_topic(values.get("topic", TOPICS[0]))
    _check_address(values.get("address", "http://localhost"))
    if values.get("format", "json") not in ("json", "xml"):
        raise _invalid("format must be json or xml.")
    _check_filter(values.get("filter"))
    if "headers" in values:
        values["headers"] = values["headers"] or {}
        _check_headers(values["headers"])
    return values


def _kept_as(address: str, how: Literal["kept", "normalised", "slashed"]) -> str:
    """Give an address as upstream keeps it. httpx2.URL drops capitals of the host and a default port."""
    if how == "kept":
        return address
    url = httpx2.URL(address)
    slash = how == "slashed" and not url.path.endswith("/")
    return str(url.copy_with(path=f"{url.path}/") if slash else url)


def _check_topic(topic: Any) -> None:
    if not isinstance(topic, str) or not _TOPIC.fullmatch(topic):
        raise _invalid("topic must be one such as customers/updated.")


def _check_address(address: Any) -> None:
    try:
        url, host = httpx2.URL(address), urlsplit(address).hostname
    except (httpx2.InvalidURL, TypeError, ValueError) as error:
        raise _invalid("address must be the URL to deliver to.") from error
    if url.scheme not in ("http", "https") or not host:
        raise _invalid("address must be the URL to deliver to.")


def _check_filter(filter_: Any) -> None:
    wanted = filter_.get("attributes", []) if isinstance(filter_, dict) else []
    if not isinstance(wanted, list) or not all(isinstance(name, str) and name in FILTERS for name in wanted):
        raise _invalid(f"filter.attributes must be some of {', '.join(FILTERS)}.")


def _check_headers(headers: Any) -> None:
    if not isinstance(headers, dict):
        raise _invalid("headers must be an object of names and values.")
    for name, value in headers.items():
        if not (isinstance(value, str) and value.isascii() and value.isprintable() and _NAME.fullmatch(name)):
            raise _invalid("headers must have names and values that HTTP allows.")
        lower = name.lower()
        if lower != "authorization" and (not lower.startswith("x-") or lower.startswith("x-kounta")):
            raise _invalid(f"{name} cannot be sent: only Authorization and X-…, but not X-Kounta….")


def _invalid(sentence: str) -> RefusedError:
    return RefusedError(400, "invalid_request", sentence)
