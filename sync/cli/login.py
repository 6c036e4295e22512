"""The command `login`: OAuth 2, from Kounta's page to tokens that the mirror keeps."""

from __future__ import annotations

import asyncio
import json as json_format
import sys
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from sync.cli.company import Company  # noqa: TC001 - cyclopts reads annotations
from sync.cli.owner import UsageError, ask, worker_client

if TYPE_CHECKING:
    from sync.settings import WorkerSettings

REDIRECT_URI: Final = "http://localhost"


def login(*, redirect_uri: str = REDIRECT_URI, company: Company = None, json: bool = False) -> None:
    """Log in at Kounta, for OAuth 2: the mirror then uses that instead of Basic auth.

    Prints an address of Kounta's for your browser, and reads from stdin the address that the browser is sent
    to when you have allowed it. The tokens are stored in the mirror, encrypted with MIRROR_SECRET_KEY. A
    worker that runs goes on with them at once.

    Parameters
    ----------
    redirect_uri
        The redirect URI that is set for the application at Kounta. Nothing needs to answer there.
    json
        Print a JSON object: company_id, name, worker_running.
    """
    from secrets import token_urlsafe

    from sync.cli.questions import line_of_stdin
    from sync.kounta.oauth import code_in
    from sync.settings import WorkerSettings

    _check(redirect_uri)
    settings = WorkerSettings.load(company)
    state = token_urlsafe(24)
    address = asyncio.run(_begun(settings, redirect_uri, state))
    sys.stderr.write(
        "Open this address in a browser, sign in to Kounta, and allow it:\n\n"
        f"{address}\n\n"
        f"Your browser is then sent to {redirect_uri}. An error page will do there: what counts is the "
        "address of that page.\nPaste it here: "
    )
    sys.stderr.flush()
    line = line_of_stdin()
    if line is None or not sys.stdin.isatty():
        sys.stderr.write("\n")
    code = code_in(line or "", state)
    said = asyncio.run(_finished(settings, code, redirect_uri))
    if json:
        sys.stdout.write(json_format.dumps(said) + "\n")
    else:
        sys.stdout.write(_told(said) + "\n")


def _check(redirect_uri: str) -> None:
    try:
        url = urlsplit(redirect_uri)
        usable = url.scheme in {"http", "https"} and url.hostname and url.port != 0
    except ValueError:
        usable = False
    if not usable or "#" in redirect_uri or not redirect_uri.isprintable() or " " in redirect_uri:
        raise UsageError(
            "--redirect-uri should be the one that is set for the application at Kounta, something like "
            f"{REDIRECT_URI}, without a #; not {redirect_uri!r}."
        )


async def _begun(settings: WorkerSettings, redirect_uri: str, state: str) -> str:
    """Give the address for the browser, once it is sure that what comes back can be used."""
    from sync.login import authorization_address

    address = authorization_address(settings, redirect_uri, state)
    client = worker_client(settings)
    if client is None:
        return address
    async with client:
        said = await ask(client, "/login/address", {"redirect_uri": redirect_uri, "state": state})
    return str(said["address"])


async def _finished(settings: WorkerSettings, code: str, redirect_uri: str) -> dict[str, Any]:
    """Have the worker take the code, or take it in this process, which owns the mirror meanwhile."""
    asked = {"code": code, "redirect_uri": redirect_uri}
    client = worker_client(settings)
    if client is not None:
        async with client:
            return {**await ask(client, "/login/finish", asked), "worker_running": True}

    from sync.console.login import Brought, finish
    from sync.engine import utc_now
    from sync.login import open_login

    async with open_login(settings, "kounta-mirror login", clock=utc_now) as owner:
        return {**await finish(owner, Brought.model_validate(asked)), "worker_running": False}


def _told(said: dict[str, Any]) -> str:
    from sync.kounta import Company
    from sync.login import described

    who = described(Company(id=said["company_id"], name=said["name"]))
    then = "The worker goes on with it." if said["worker_running"] else "Next: kounta-mirror worker"
    return f"Logged in for {who}. {then}"
