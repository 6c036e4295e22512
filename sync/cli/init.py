"""The command `init`: asks for the credentials, and writes the `.env`."""

from __future__ import annotations

import asyncio
import json as json_format
import os
import secrets
import sys
from io import StringIO
from pathlib import Path
from tempfile import mkstemp
from typing import TYPE_CHECKING, Final

from receiver.errors import MirrorError
from sync.cli.owner import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sync.cli.questions import Question
    from sync.kounta import Company

_ENV: Final = Path(".env")
_KEY: Final = "MIRROR_SECRET_KEY"
_SECRETS: Final = ("KOUNTA_CLIENT_SECRET", "KOUNTA_SIGNATURE_TOKENS", _KEY)
_NEXT: Final = """Next, in this directory:
  kounta-mirror worker           fills the mirror, and keeps it right
  kounta-mirror receiver         takes Kounta's webhooks, on port 8000
  kounta-mirror webhooks ensure  registers them, once MIRROR_PUBLIC_URL=https://… is in .env, too
  kounta-mirror status           says how it is

kounta-mirror login changes from Basic auth to OAuth 2: 180 calls a minute instead of 60.
"""
_PATIENCE: Final = 15.0
"""For how many seconds Kounta is asked whose credentials these are: a person waits."""


class WontOverwriteError(MirrorError):
    """There is a `.env`, and nobody said that it may be changed."""


def init(*, force: bool = False, json: bool = False) -> None:
    """Ask for the credentials, find their company at Kounta, and write .env in this directory.

    When stdin is no terminal it is read instead, one line for each question: Kounta's address (empty: the
    usual one), the client id, the client secret, and the signature token, or several, comma-separated
    (empty: none yet).

    Parameters
    ----------
    force
        Change a .env that is there: lines that are not asked for stay, and so does MIRROR_SECRET_KEY.
    json
        Print a JSON object: company_id, name, file.
    """
    from dotenv import dotenv_values

    from sync.cli.questions import answers_to

    before = _text_of_env()
    if before is not None and not force:
        raise WontOverwriteError(
            f"{_ENV.absolute()} is there already. With --force, init changes what it asks for in it, "
            "and keeps all other lines."
        )
    if sys.stdin.isatty():
        sys.stderr.write("The credentials are on the page of your application at Kounta.\n")
    there = dotenv_values(stream=StringIO(before or ""))
    given = answers_to(_questions(there))
    company = asyncio.run(_found(given))
    values = {name: value for name, value in given.items() if value}
    values["KOUNTA_COMPANY_ID"] = str(company.id)
    if not there.get(_KEY) and not there.get(f"{_KEY}_FILE"):
        values[_KEY] = secrets.token_urlsafe(32)
    _write(before or "", values)
    if json:
        said = {"company_id": company.id, "name": company.name, "file": str(_ENV.absolute())}
        sys.stdout.write(json_format.dumps(said) + "\n")
    else:
        sys.stdout.write(_told(company, there | values, changed=before is not None))
    for name in _overruled(values):
        sys.stderr.write(f"{name} is set in the environment, which wins over .env: unset it there.\n")


def _questions(there: Mapping[str, str | None]) -> list[Question]:
    from sync.cli.questions import Question
    from sync.kounta import API_URL

    return [
        Question(
            "KOUNTA_API_URL", "Kounta's address", _api_url, default=there.get("KOUNTA_API_URL") or API_URL
        ),
        Question("KOUNTA_CLIENT_ID", "Client id", _client_id, default=there.get("KOUNTA_CLIENT_ID") or ""),
        Question("KOUNTA_CLIENT_SECRET", "Client secret (not shown)", _client_secret, secret=True),
        Question(
            "KOUNTA_SIGNATURE_TOKENS",
            "Signature token, or several, comma-separated (not shown; none yet: Enter)",
            _signature_tokens,
            secret=True,
        ),
    ]


def _api_url(text: str) -> str:
    from sync.kounta import KountaRefused
    from sync.kounta.origin import Origin

    try:
        Origin(text)
    except KountaRefused as error:
        raise UsageError(str(error)) from None
    return text


def _client_id(text: str) -> str:
    if not text or ":" in text or not text.isprintable():
        raise UsageError("The client id should be a plain word without a colon. Copy it from Kounta's page.")
    return text


def _client_secret(text: str) -> str:
    if not text or not text.isprintable():
        raise UsageError("The client secret should be a line of plain text. Copy it from Kounta's page.")
    return text


def _signature_tokens(text: str) -> str:
    if not text.isprintable():
        raise UsageError("The signature token should be a line of plain text. Copy it from Kounta's page.")
    return ",".join(token for token in (piece.strip() for piece in text.split(",")) if token)


async def _found(given: Mapping[str, str]) -> Company:
    """Ask Kounta whose credentials these are. Raises KountaError."""
    from sync.kounta import BasicAuth, Retries
    from sync.kounta.client import company_of

    if sys.stdin.isatty():
        sys.stderr.write(f"Asking {given['KOUNTA_API_URL']} whose credentials these are …\n")
    auth = BasicAuth(given["KOUNTA_CLIENT_ID"], given["KOUNTA_CLIENT_SECRET"])
    return await company_of(auth, given["KOUNTA_API_URL"], retries=Retries(patience=_PATIENCE))


def _text_of_env() -> str | None:
    try:
        return _ENV.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise WontOverwriteError(
            f"{_ENV.absolute()} is there already and cannot be read: {reason}."
        ) from None


def _write(before: str, values: Mapping[str, str]) -> None:
    """Write it whole or not at all, for this user alone."""
    from sync.envfile import merged

    files = frozenset(f"{name}_FILE" for name in _SECRETS if name in values)
    path = _ENV.resolve()
    try:
        text = merged(before, values, dropped=files)
        descriptor, new = mkstemp(dir=path.parent, prefix=".env-")
    except OSError as error:
        raise MirrorError(f"Nothing can be written to {path.parent}: {error.strerror}.") from None
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        Path(new).replace(path)
    except OSError as error:
        Path(new).unlink(missing_ok=True)
        raise MirrorError(f"{path} cannot be written: {error.strerror}.") from None


def _overruled(values: Mapping[str, str]) -> list[str]:
    """Name what the environment has otherwise."""
    files = {f"{name}_FILE" for name in _SECRETS if name in values} & os.environ.keys()
    return [name for name, value in values.items() if os.environ.get(name, value) != value] + sorted(files)


def _told(company: Company, values: Mapping[str, str | None], *, changed: bool) -> str:
    from sync.login import described

    said = [f"{_ENV.absolute()} is written, for {described(company)}; only you can read it."]
    if changed:
        said.append("Receiver and worker read it when they start: if they run, start them again.")
    if not values.get("KOUNTA_SIGNATURE_TOKENS") and not values.get("KOUNTA_SIGNATURE_TOKENS_FILE"):
        said.append("KOUNTA_SIGNATURE_TOKENS is still missing in it: the receiver needs it.")
    return "\n".join([*said, "", _NEXT])
