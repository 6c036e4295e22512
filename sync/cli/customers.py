"""The commands `customers …`: asking Kounta for customers, creating and updating them."""

from __future__ import annotations

import json as json_format
import sys
from collections.abc import AsyncGenerator, Iterator, Mapping  # noqa: TC003 - cyclopts reads annotations
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final, Self

from cyclopts import App, Parameter

from receiver.errors import MirrorError
from sync.cli.company import Company  # noqa: TC001 - cyclopts reads annotations
from sync.cli.exactness import CustomerId, Positive  # noqa: TC001 - the same
from sync.cli.owner import NotDoneError, UsageError, WorkerGoneError, ask, follow, worker_client

if TYPE_CHECKING:
    from sync.settings import WorkerSettings

_COLUMNS: Final = ("id", "first_name", "last_name", "email", "reference_id")
_JSON_FIELDS: Final = ("primary_address", "shipping_address")
_WRITES: Final = {
    "create": "The customer may have been made: start the worker, and look for it (customers find) before "
    "you create it again",
    "update": "The customer may have been changed: start the worker, and update it again",
}
_FATE: Final = ("written_id", "fate_unknown", "likely_id")
_WAYS: Final = "--email, --mobile, --reference-id, or --first-name, --last-name and --phone together"

customers: Final = App(
    name="customers", help="Ask Kounta for customers; create and update them there and in the mirror."
)


@Parameter(name="*")
@dataclass
class Given:
    """The fields of a customer.

    Parameters
    ----------
    first_name
        The first name.
    last_name
        The last name.
    email
        The e-mail address.
    phone
        The phone number.
    mobile
        The mobile number, which no other customer of the company has.
    tags
        All tags, comma-separated: vip,gold.
    image
        The URL of a picture.
    primary_address
        A JSON object of address, city, state, postal_code, country (AU); it replaces the whole address.
    shipping_address
        The same for the address to deliver to.
    reference_id
        Your own name for the customer; other applications do not see it.
    accepts_marketing
        Whether the customer wants to hear of offers.
    """

    first_name: str | None = None
    last_name: str | None = None
    email: str | None = None
    phone: str | None = None
    mobile: str | None = None
    tags: str | None = None
    image: str | None = None
    primary_address: str | None = None
    shipping_address: str | None = None
    reference_id: str | None = None
    accepts_marketing: bool | None = None

    def __new__(cls, **typed: object) -> Self:
        """Refuse the word for none: the parser takes `--accepts-marketing=null` for a flag not given."""
        if None in typed.values():
            raise UsageError("A flag is --accepts-marketing, --no-accepts-marketing, or left out.")
        return super().__new__(cls)

    def as_json(self) -> dict[str, Any]:
        """Give what was given, as JSON values. Raises UsageError for an address that is no JSON."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        given: dict[str, Any] = {name: value for name, value in values.items() if value is not None}
        if self.tags is not None:
            given["tags"] = _words(self.tags)
        for name in _JSON_FIELDS:
            if name in given:
                given[name] = _parsed(name, given[name])
        return given


@customers.command(name="list")
async def list_customers(
    *,
    limit: Positive | None = None,
    company: Company = None,
    json: bool = False,
) -> None:
    """List customers as Kounta lists them: abridged, 25 to a call.

    The mirror has them all, complete, and at once: see the view `customers` of mirror.db.

    Parameters
    ----------
    limit
        How many at most; all by default.
    json
        Print a JSON array.
    """
    from sync.cli.progress import Bar
    from sync.cli.tables import print_table
    from sync.settings import WorkerSettings

    found: list[dict[str, Any]] = []
    async with AsyncExitStack() as stack:
        pages = await stack.enter_async_context(aclosing(_pages(WorkerSettings.load(company))))
        bar = stack.enter_context(Bar())
        async for page in pages:
            if "error" in page:
                raise MirrorError(page["error"])
            found += page["customers"]
            bar.show("list", len(found), page["total"] and max(page["total"], len(found)))
            if limit is not None and len(found) >= limit:
                break
    found = found[:limit]
    if json:
        _print_json(found)
        return
    print_table(([_cell(one.get(name)) for name in _COLUMNS] for one in found), _COLUMNS)


@customers.command
async def get(customer_id: CustomerId, /, *, company: Company = None, json: bool = False) -> int:
    """Read one customer by its id. Ends with 1 when Kounta has none.

    Parameters
    ----------
    customer_id
        Kounta's id of the customer.
    json
        Print a JSON object.
    """
    from sync.settings import WorkerSettings

    found = await _done(WorkerSettings.load(company), "get", {"id": customer_id})
    return _show(found["customer"], f"Kounta has no customer {customer_id}.", json=json)


@customers.command
async def find(
    *,
    email: str | None = None,
    mobile: str | None = None,
    reference_id: str | None = None,
    first_name: str | None = None,
    last_name: str | None = None,
    phone: str | None = None,
    company: Company = None,
    json: bool = False,
) -> int:
    """Look a customer up, in one way: by e-mail, mobile or reference id, or by name and phone.

    A reference id may belong to several customers, or none: that gives a list. Otherwise it ends with 1 when
    nobody is found.

    Parameters
    ----------
    email
        The e-mail address.
    mobile
        The mobile number.
    reference_id
        Your own name for the customer.
    first_name
        The first name; last name and phone are needed, too.
    last_name
        The last name; first name and phone are needed, too.
    phone
        The phone number; first name and last name are needed, too.
    json
        Print a JSON object, or an array for a reference id.
    """
    from sync.cli.tables import print_table
    from sync.settings import WorkerSettings

    by = _way(
        {"email": email},
        {"mobile": mobile},
        {"reference_id": reference_id},
        {"first_name": first_name, "last_name": last_name, "phone": phone},
    )
    found = await _done(WorkerSettings.load(company), "find", {"by": by})
    if "customers" not in found:
        return _show(found["customer"], "Kounta has no such customer.", json=json)
    if json:
        _print_json(found["customers"])
    else:
        rows = ([_cell(one.get(name)) for name in _COLUMNS] for one in found["customers"])
        print_table(rows, _COLUMNS)
    return 0


@customers.command
async def create(*, given: Given | None = None, company: Company = None, json: bool = False) -> int:
    """Create a customer, at Kounta and in the mirror; a first name and an e-mail or a phone are needed.

    If Kounta's answer is lost, the customer is looked up before it is created again, and never made twice.
    Ends with 0 once Kounta shows it. Else with 1, and says whether it was made (written_id) or may have been
    (fate_unknown).

    Parameters
    ----------
    given
        The fields of the customer.
    json
        Print the customer as a JSON object, as Kounta has it then; of a write that may have been made and is
        not shown: error, written_id, fate_unknown, likely_id.
    """
    from sync.kounta.fields import to_create
    from sync.settings import WorkerSettings

    written = to_create((given or Given()).as_json())
    settings = _writable(WorkerSettings.load(company))
    made = await _written(settings, "create", {"fields": written}, json=json)
    return _show(made["customer"], "", json=json)


@customers.command
async def update(
    customer_id: CustomerId,
    /,
    *,
    given: Given | None = None,
    clear: str = "",
    company: Company = None,
    json: bool = False,
) -> int:
    """Change a customer, at Kounta and in the mirror. Only what is given is changed.

    Parameters
    ----------
    customer_id
        Kounta's id of the customer.
    given
        The fields of the customer.
    clear
        Fields to empty, comma-separated: image,shipping_address.
    json
        Print the customer as a JSON object, as Kounta has it then; of a write that may have been made and is
        not shown: error, written_id, fate_unknown, likely_id.
    """
    from sync.kounta.fields import to_update
    from sync.settings import WorkerSettings

    wanted = (given or Given()).as_json()
    both = [name for name in _words(clear) if name in wanted]
    if both:
        raise UsageError(f"{both[0]} is given and to be emptied, too: one of them is a mistake.")
    written = to_update(wanted | dict.fromkeys(_words(clear)))
    settings = _writable(WorkerSettings.load(company))
    changed = await _written(settings, "update", {"id": customer_id, "fields": written}, json=json)
    return _show(changed["customer"], "", json=json)


def _way(*ways: Mapping[str, str | None]) -> dict[str, str]:
    """Give the one look-up that was asked for, whole."""
    from sync.kounta.lookups import checked

    asked = [way for way in ways if any(value is not None for value in way.values())]
    if len(asked) != 1:
        raise UsageError(f"Look a customer up in one way: {_WAYS}.")
    missing = [f"--{name.replace('_', '-')}" for name, value in asked[0].items() if value is None]
    if missing:
        raise UsageError(f"A look-up by name and phone needs all three. Missing: {', '.join(missing)}.")
    return dict(checked({name: value for name, value in asked[0].items() if value is not None}))


def _writable(settings: WorkerSettings) -> WorkerSettings:
    if settings.read_only:
        raise UsageError(
            "KOUNTA_READ_ONLY is set, and this would change something at Kounta. Unset it first."
        )
    return settings


async def _done(settings: WorkerSettings, what: str, asked: dict[str, Any]) -> dict[str, Any]:
    """Have the worker do it, or do it in this process, which owns the mirror meanwhile."""
    client = worker_client(settings)
    if client is not None:
        async with client:
            try:
                return await ask(client, f"/customers/{what}", asked)
            except WorkerGoneError as gone:
                if what in _WRITES:
                    raise WorkerGoneError(gone.happened, _WRITES[what]) from gone
                raise

    from sync.console.customers import ANSWERS, Asked
    from sync.engine import open_engine

    async with open_engine(settings, f"kounta-mirror customers {what}") as engine:
        return await ANSWERS[what](engine, Asked.model_validate(asked))


async def _written(settings: WorkerSettings, what: str, asked: dict[str, Any], *, json: bool) -> Any:
    """Have it done; one that may have been done all the same is printed as JSON before it is raised."""
    from sync.console.answering import complaint
    from sync.kounta import KountaError

    try:
        return await _done(settings, what, asked)
    except WorkerGoneError as gone:
        said: dict[str, Any] = {"written_id": None, "fate_unknown": True, "likely_id": asked.get("id")}
        failure: Exception = gone
    except NotDoneError as error:
        said, failure = error.said, error
    except (KountaError, MirrorError) as error:
        said, failure = complaint(error), error
    if json and said.keys() >= set(_FATE):
        _print_json({"error": str(failure)} | {name: said[name] for name in _FATE})
    raise failure


async def _pages(settings: WorkerSettings) -> AsyncGenerator[dict[str, Any], None]:
    client = worker_client(settings)
    if client is not None:
        async with client, aclosing(follow(client, "/customers/list", {})) as pages:
            async for page in pages:
                yield page
        return

    from sync.console.customers import walk
    from sync.engine import open_engine

    async with (
        open_engine(settings, "kounta-mirror customers list") as engine,
        aclosing(walk(engine)) as pages,
    ):
        async for page in pages:
            yield page


def _parsed(name: str, text: str) -> Any:
    try:
        return json_format.loads(text)
    except ValueError as error:
        flag = f"--{name.replace('_', '-')}"
        raise UsageError(
            f"""{flag} should be a JSON object such as '{{"city": "Sydney", "country": "AU"}}': {error}."""
        ) from None


def _words(text: str) -> list[str]:
    return [word for word in (piece.strip() for piece in text.split(",")) if word]


def _show(customer: dict[str, Any] | None, otherwise: str, *, json: bool) -> int:
    """Print a customer, or say on stderr that there is none."""
    from sync.cli.tables import print_table

    if customer is None:
        sys.stderr.write(otherwise + "\n")
        return 1
    if json:
        _print_json(customer)
    else:
        print_table((name, _cell(value)) for name, value in _told(customer))
    return 0


def _told(customer: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Give what tells something of a customer; created_at and updated_at are the time of the request."""
    for name, value in customer.items():
        if name in {"created_at", "updated_at"}:
            continue
        if name in _JSON_FIELDS and isinstance(value, dict):
            value = ", ".join(str(part) for part in value.values() if part)  # noqa: PLW2901 - one line
        yield name, value


def _cell(value: Any) -> str:
    """Give a value in one line that no terminal takes for a command."""
    if value is None:
        return ""
    if isinstance(value, list):
        text = ", ".join(map(str, value))
    else:
        text = value if isinstance(value, str) else json_format.dumps(value, ensure_ascii=False)
    return "".join(sign if sign.isprintable() else " " for sign in text)


def _print_json(value: Any) -> None:
    sys.stdout.write(json_format.dumps(value) + "\n")
