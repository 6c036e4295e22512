"""The commands `webhooks …`: the registration at Kounta, and whether a webhook would come through."""

from __future__ import annotations

import json as json_format
import sys
from typing import TYPE_CHECKING, Annotated, Any, Final

from cyclopts import App, Parameter, validators

from sync.cli.capture import capture
from sync.cli.company import Company  # noqa: TC001 - cyclopts reads annotations
from sync.cli.exactness import Positive  # noqa: TC001 - the same
from sync.cli.owner import UsageError, ask, worker_client

if TYPE_CHECKING:
    from sync.settings import WorkerSettings

_COLUMNS: Final = ("id", "whose", "topic", "address", "format")

webhooks: Final = App(
    name="webhooks",
    help="Register the three webhooks at Kounta, keep them registered, and test the way they take.",
)

webhooks.command(capture)


@webhooks.command(name="list")
async def list_webhooks(*, company: Company = None, json: bool = False) -> None:
    """List the webhooks that are registered for this application, and whose each is.

    "ours" were made, or adopted, by this mirror, and it keeps them right. "another's" are of another mirror
    or program that uses the same application; they are never touched.

    Parameters
    ----------
    json
        Print a JSON array: id, owner ("ours" or "another"), gone, topic, address, format, filtered.
    """
    from sync.cli.tables import print_table
    from sync.settings import WorkerSettings

    found = await _done(WorkerSettings.load(company), "list", {})
    rows = found["webhooks"]
    if json:
        sys.stdout.write(json_format.dumps(rows) + "\n")
        return
    print_table(
        ([row["id"], _whose(row), row["topic"], row["address"], _form(row)] for row in rows), _COLUMNS
    )
    for sentence in _remarks(found["public_url"], rows):
        sys.stderr.write(sentence + "\n")


@webhooks.command
async def ensure(
    *,
    adopt: Positive | None = None,
    company: Company = None,
    json: bool = False,
) -> None:
    """Register customers/created, customers/updated and customers/deleted, once each, and keep them so.

    Each is registered at MIRROR_PUBLIC_URL + /webhooks/COMPANY/TOPIC, in JSON and without a filter. What this
    mirror made is repaired when it was changed or removed; what others made is never touched. From now on the
    worker looks every few minutes, and repairs what it finds. Run it again when MIRROR_PUBLIC_URL changes.

    Parameters
    ----------
    adopt
        Take over the registration with this id first: it becomes ours, and is made right.
    json
        Print a JSON object: the ids that were registered, repaired, adopted, removed, and ours by now.
    """
    from sync.cli.tables import print_table
    from sync.settings import WorkerSettings

    settings = WorkerSettings.load(company)
    public_url = settings.required_public_url()
    _require_writable(settings)
    made = await _done(settings, "ensure", {"public_url": public_url, "adopt": adopt})
    if json:
        sys.stdout.write(json_format.dumps(made) + "\n")
        return
    rows = ([row["id"], _deed(made, row["id"]), row["topic"], row["address"]] for row in made["webhooks"])
    print_table(rows, ("id", "was", "topic", "address"))
    for id_ in made["removed"]:
        sys.stderr.write(f"Webhook {id_} was removed: it was one too many.\n")


@webhooks.command
async def remove(*, company: Company = None, json: bool = False) -> None:
    """Remove the webhooks that this mirror made, and register none from now on.

    What others made stays. Without webhooks the mirror is kept right by its sweeps alone.

    Parameters
    ----------
    json
        Print a JSON object: the ids that were removed.
    """
    from sync.settings import WorkerSettings

    settings = WorkerSettings.load(company)
    _require_writable(settings)
    removed = await _done(settings, "remove", {})
    if json:
        sys.stdout.write(json_format.dumps(removed) + "\n")
        return
    ids = ", ".join(str(id_) for id_ in removed["removed"])
    sys.stdout.write(f"Removed: {ids}\n" if ids else "Nothing of ours was registered.\n")


@webhooks.command(name="test")
async def send_ping(
    *,
    wait: Annotated[float, Parameter(validator=validators.Number(gt=0))] = 15.0,
    company: Company = None,
    json: bool = False,
) -> int:
    """Send a signed ping through MIRROR_PUBLIC_URL and follow it to the worker, hop by hop.

    The hops are dns, tls, proxy (or tunnel), receiver, inbox, worker. Ends with 1 at the first that fails,
    and says what to do about it. The ping is stored like a webhook, and changes no customer. It leaves from
    this machine, so it does not show whether a firewall keeps Kounta out.

    Parameters
    ----------
    wait
        How many seconds the worker has for its verdict.
    json
        Print a JSON object: ok, failed (the hop), detail, delivery, hops.
    """
    from uuid import uuid4

    from sync.ping.hops import Hop, HopFailed, Way
    from sync.ping.ping import ping
    from sync.settings import PingSettings

    settings = PingSettings.load(company)
    public_url = settings.required_public_url()
    token = settings.tokens()[settings.company_id][0]
    way = Way(public_url, settings.company_id, token, settings.place)
    passed: list[Hop] = []
    failed: HopFailed | None = None
    delivery: str | None = None

    def tell(hop: Hop) -> None:
        passed.append(hop)
        if not json:
            sys.stdout.write(f"{hop:<10}ok\n")
            sys.stdout.flush()

    try:
        delivery = await ping(way, str(uuid4()), tell, verdict_seconds=wait)
    except HopFailed as error:
        failed = error
    if json:
        hop = failed.hop if failed else None
        said = {
            "ok": failed is None,
            "failed": hop,
            "detail": failed.sentence if failed else None,
            "delivery": delivery,
            "hops": {one: _outcome(one, passed, hop) for one in Hop},
        }
        sys.stdout.write(json_format.dumps(said) + "\n")
    if failed is not None:
        sys.stderr.write(f"{failed}\n")
    return int(failed is not None)


def _outcome(hop: str, passed: list[Any], failed: str | None) -> str | None:
    """Say what became of a hop; None: it was not met, or there is none."""
    if hop in passed:
        return "ok"
    return "failed" if hop == failed else None


async def _done(settings: WorkerSettings, what: str, asked: dict[str, Any]) -> dict[str, Any]:
    """Have the worker do it, or do it in this process, which owns the mirror meanwhile."""
    client = worker_client(settings)
    if client is not None:
        async with client:
            return await ask(client, f"/webhooks/{what}", asked)

    from sync.console import webhooks as owner
    from sync.engine import open_engine

    async with open_engine(settings, f"kounta-mirror webhooks {what}") as engine:
        if what == "ensure":
            return await owner.ensure(engine, owner.Ensure.model_validate(asked))
        return await (owner.remove(engine) if what == "remove" else owner.view(engine))


def _require_writable(settings: WorkerSettings) -> None:
    if settings.read_only:
        raise UsageError(
            "KOUNTA_READ_ONLY is set, and this would change something at Kounta. Unset it first."
        )


def _whose(row: dict[str, Any]) -> str:
    if row["owner"] == "ours":
        return "ours, gone" if row["gone"] else "ours"
    return "another's"


def _form(row: dict[str, Any]) -> str | None:
    return f"{row['format'] or 'json'}, filtered" if row["filtered"] else row["format"]


def _deed(made: dict[str, Any], id_: int) -> str:
    deeds = [name for name in ("adopted", "registered", "repaired") if id_ in made[name]]
    return " and ".join(deeds) or "right already"


def _remarks(public_url: str | None, rows: list[dict[str, Any]]) -> list[str]:
    """Say what a person should know about this list."""
    from sync.kounta.webhooks import is_same_address

    remarks = []
    if public_url is None:
        remarks.append("This mirror has registered nothing yet: kounta-mirror webhooks ensure.")
    elif any(row["gone"] for row in rows):
        remarks.append("What is gone, the worker registers again; or at once: kounta-mirror webhooks ensure.")
    ours = [(row["topic"], row["address"] or "") for row in rows if row["owner"] == "ours"]
    remarks += [
        f"Webhook {row['id']} is another's and delivers the same again, which does no harm; to be rid of it: "
        f"kounta-mirror webhooks ensure --adopt {row['id']}"
        for row in rows
        if row["owner"] == "another"
        and any(row["topic"] == topic and is_same_address(row["address"] or "", at) for topic, at in ours)
    ]
    return remarks
