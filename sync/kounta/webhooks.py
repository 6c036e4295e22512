"""The registration of webhooks at upstream: list, register, change, remove.

They belong to a company and an application. Registering a topic twice delivers twice (kounta-api.md), so a
registration whose fate is unknown is never sent again from here: whoever asked looks it up.
"""

import re
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, Final

from httpx2 import URL, InvalidURL
from pydantic import BaseModel, ConfigDict, TypeAdapter
from pydantic_core import to_json

from sync.kounta.connection import Answer, Call, Connection
from sync.kounta.errors import looks_like_html
from sync.kounta.lookups import NOT_FOUND
from sync.kounta.paging import Walk
from sync.kounta.shapes import shaped, wrong_shape

JSON: Final = "json"
_KIND: Final = "webhooks"
_PORTS: Final = {"https": 443, "http": 80}
_ID: Final = re.compile(r"/([0-9]{1,19})(?:\.json)?/?(?:\?.*)?$")


class RegisteredWebhook(BaseModel):
    """A registration as upstream holds it; fields beside these are kept, any but the id may be missing."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False, frozen=True)

    id: int
    topic: str | None = None
    address: str | None = None
    format: str | None = None
    filter: Any = None

    @property
    def is_json(self) -> bool:
        """Whether bodies come as JSON; upstream need not repeat its default."""
        return self.format is None or self.format.lower() == JSON

    def leads_to(self, address: str) -> bool:
        """Whether it delivers to `address`, however upstream writes that."""
        return self.address is not None and is_same_address(self.address, address)

    @property
    def is_filtered(self) -> bool:
        """Whether a filter stands there that may keep changes from being announced; an empty one does not."""
        return _says_something(self.filter)


def is_same_address(one: str, other: str) -> bool:
    """Whether two URLs are the same place to the receiver.

    The host's case, a default port and one slash at the end make no difference; the path's case does.
    """
    try:
        return _place(URL(one)) == _place(URL(other))
    except InvalidURL:
        return False


def _place(url: URL) -> tuple[str, str, int | None, bytes, bytes]:
    path = url.raw_path.partition(b"?")[0].removesuffix(b"/")
    return url.scheme, url.host.lower(), url.port or _PORTS.get(url.scheme), path, url.query


WEBHOOK: Final = TypeAdapter(RegisteredWebhook)
WEBHOOKS: Final = TypeAdapter(list[RegisteredWebhook])


class Webhooks:
    """The registrations of one company and the application of the credentials; `Kounta.webhooks`."""

    def __init__(self, connection: Connection, company_id: int) -> None:
        self._connection = connection
        self._below = f"/companies/{company_id}/webhooks"

    async def all(self, *, priority: int = 0) -> list[RegisteredWebhook]:
        """Give every registration of this application, by id, from all pages of the list."""
        walk = Walk(self._connection.origin, self._below)
        found: dict[int, RegisteredWebhook] = {}
        url: str | None = walk.start(None)
        while url is not None:
            listed, url = await self._connection.ask(self._read(url, priority), partial(_page, walk, url))
            found |= {webhook.id: webhook for webhook in listed}
        return [found[id_] for id_ in sorted(found)]

    async def get(self, id_: int, *, priority: int = 0) -> RegisteredWebhook | None:
        """Give one registration; None when upstream answers 404, as it also does when access is lost."""
        return await self._connection.ask(self._read(self._at(id_), priority), partial(_one, id_))

    async def register(self, topic: str, address: str, *, priority: int = 0) -> int:
        """Register `address` for `topic`, in JSON and without a filter, and give the new one's id.

        Raises KountaError with `fate_unknown` when it may be registered all the same: look it up then. With a
        status 2xx upstream has accepted it, and has not said which it is.
        """
        content = to_json({"topic": topic, "address": address, "format": JSON})
        call = Call(
            self._connection.origin.at(f"{self._below}.json"),
            _KIND,
            "POST",
            priority=priority,
            proves_access=False,
            content=content,
            once=True,
        )
        return await self._connection.ask(call, partial(_new_id, topic))

    async def change(self, id_: int, fields: Mapping[str, Any], *, priority: int = 0) -> bool:
        """Change these of topic, address, format and filter; False when there is no such registration."""
        return await self._do("PUT", id_, to_json(dict(fields)), priority)

    async def remove(self, id_: int, *, priority: int = 0) -> bool:
        """Remove a registration; False when there was none any more."""
        return await self._do("DELETE", id_, None, priority)

    async def _do(self, method: str, id_: int, content: bytes | None, priority: int) -> bool:
        call = Call(
            self._at(id_),
            _KIND,
            method,
            also=frozenset({NOT_FOUND}),
            priority=priority,
            proves_access=False,
            content=content,
        )
        return await self._connection.ask(call, _was_there)

    @staticmethod
    def _read(url: str, priority: int) -> Call:
        """Make the call; a right to see webhooks proves no right to see customers."""
        return Call(url, _KIND, also=frozenset({NOT_FOUND}), priority=priority, proves_access=False)

    def _at(self, id_: int) -> str:
        return self._connection.origin.at(f"{self._below}/{id_}.json")


def _page(walk: Walk, url: str, answer: Answer) -> tuple[list[RegisteredWebhook], str | None]:
    items = partial(shaped, WEBHOOKS, expected="an array of webhooks")
    return walk.read(url, answer, items, lambda webhook: webhook.id)


def _one(id_: int, answer: Answer) -> RegisteredWebhook | None:
    if answer.status == NOT_FOUND:
        return None
    webhook = shaped(WEBHOOK, answer, "a webhook")
    if webhook.id != id_:
        raise wrong_shape(answer, f"webhook {id_}", f"webhook {webhook.id} came")
    return webhook


def _was_there(answer: Answer) -> bool:
    """Read the answer to a change: an empty body will do, a page of somebody else's will not."""
    if answer.status != NOT_FOUND and looks_like_html(answer.body):
        raise wrong_shape(answer, "a webhook or nothing", "an HTML page came")
    return answer.status != NOT_FOUND


def _new_id(topic: str, answer: Answer) -> int:
    """Read which id was given: `Location` names it, or the body, which upstream need not send."""
    if named := _ID.search(answer.headers.get("Location", "")):
        return int(named[1])
    webhook = shaped(WEBHOOK, answer, "a webhook, or its place in Location")
    if webhook.topic != topic:
        raise wrong_shape(answer, f"a webhook for {topic}", "something else came")
    return webhook.id


def _says_something(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(_says_something(inner) for inner in value.values())
    if isinstance(value, Iterable) and not isinstance(value, str):
        return any(_says_something(inner) for inner in value)
    return value not in (None, "", False)
