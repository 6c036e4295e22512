"""How a command reaches the process that owns the mirror, or becomes it when none runs."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

from receiver.errors import MirrorError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    import httpx2

    from receiver.settings import Settings


class UsageError(MirrorError):
    """The command's input cannot be right; nothing was asked of anyone."""

    exit_code = 2


class WorkerGoneError(MirrorError):
    """The worker ended before it had answered: what it was asked for may have been done."""


def worker_client(settings: Settings) -> httpx2.AsyncClient | None:
    """Give a client of the worker's local socket; None when no worker runs on this data directory.

    Then the command becomes the owner itself, and the engine's log must not mix with what it prints. Where
    several companies are configured, the paths of its requests begin with `/companies/ID`.
    """
    import structlog

    from receiver.local import connect_locally
    from receiver.settings import companies
    from sync.mirror.store import OWNER

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    client = connect_locally(settings.data_dir, OWNER)
    if client is not None and len(companies()) > 1:
        client.base_url = client.base_url.join(f"/companies/{settings.company_id}")
    return client


async def ask(client: httpx2.AsyncClient, path: str, what: dict[str, Any]) -> dict[str, Any]:
    """Ask the worker for something and give its answer; raises MirrorError with what it says."""
    import httpx2

    try:
        answer = await client.post(path, json=what)
    except httpx2.TransportError as error:
        raise _gone(error) from error
    if answer.is_error:
        raise MirrorError(_complaint(answer.text))
    said: dict[str, Any] = answer.json()
    return said


async def follow(
    client: httpx2.AsyncClient, path: str, what: dict[str, Any], *, of: str = "worker"
) -> AsyncGenerator[dict[str, Any], None]:
    """Ask the worker, or who else is named, for something long and give its lines as they come."""
    import httpx2

    try:
        async with client.stream("POST", path, json=what) as answer:
            if answer.is_error:
                raise MirrorError(_complaint((await answer.aread()).decode()))
            async for line in answer.aiter_lines():
                yield json.loads(line)
    except httpx2.TransportError as error:
        raise _gone(error, of) from error


def _gone(error: Exception, who: str = "worker") -> WorkerGoneError:
    return WorkerGoneError(f"The {who} ended before it had answered ({error}). See its log, and try again.")


def _complaint(text: str) -> str:
    if text == "Not Found":
        return "The worker that runs does not serve this company, or is of another version. Start it again."
    try:
        said = json.loads(text)
    except ValueError:
        return text or "The worker could not do it; its log says why."
    return str(said.get("detail") or said.get("error") or text)
