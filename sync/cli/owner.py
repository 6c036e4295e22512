"""How a command reaches the process that owns the mirror, or becomes it when none runs."""

from __future__ import annotations

import json
import logging
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final

from receiver.errors import MirrorError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    import httpx2

    from receiver.settings import Settings


SILENCE_SECONDS: Final = 30.0
"""A worker that says nothing for so long does not answer: while it is busy, it sends a line every 5 s."""


_WAITING: Final = {"waiting"}


class UsageError(MirrorError):
    """The command's input cannot be right; nothing was asked of anyone."""

    exit_code = 2


class WorkerGoneError(MirrorError):
    """The worker ended, or fell silent, before it had answered: what was asked for may have been done."""

    def __init__(self, happened: str, advice: str) -> None:
        super().__init__(f"{happened}. {advice}.")
        self.happened = happened


class NotDoneError(MirrorError):
    """The worker could not do what it was asked for; `said` is its whole answer."""

    def __init__(self, sentence: str, said: dict[str, Any]) -> None:
        super().__init__(sentence)
        self.said = said


def worker_client(settings: Settings) -> httpx2.AsyncClient | None:
    """Give a client of the worker's local socket; None when no worker runs on this data directory.

    Then the command becomes the owner itself, and the engine's log must not mix with what it prints. Where
    several companies are configured, the paths of its requests begin with `/companies/ID`.
    """
    import httpx2
    import structlog

    from receiver.local import connect_locally
    from receiver.settings import companies
    from sync.mirror.store import OWNER

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    client = connect_locally(settings.data_dir, OWNER)
    if client is not None:
        client.timeout = httpx2.Timeout(SILENCE_SECONDS, pool=None)
        if len(companies()) > 1:
            client.base_url = client.base_url.join(f"/companies/{settings.company_id}")
    return client


async def ask(client: httpx2.AsyncClient, path: str, what: dict[str, Any]) -> dict[str, Any]:
    """Ask the worker for something and give its answer.

    Raises NotDoneError with what it says, and WorkerGoneError when it ends, or says nothing for too long.
    """
    said: dict[str, Any] = {}
    async with aclosing(follow(client, path, what)) as lines:
        async for line in lines:
            said = line
    if "error" in said:
        raise NotDoneError(_sentence(said), said)
    return said


async def follow(
    client: httpx2.AsyncClient, path: str, what: dict[str, Any], *, of: str = "worker"
) -> AsyncGenerator[dict[str, Any], None]:
    """Ask the worker, or who else is named, for something long and give its lines as they come.

    Raises as `ask` does, but gives an error that comes as a line.
    """
    import httpx2

    try:
        async with client.stream("POST", path, json=what) as answer:
            if answer.is_error:
                raise _not_done((await answer.aread()).decode())
            async for line in answer.aiter_lines():
                said = json.loads(line)
                if said.keys() != _WAITING:
                    yield said
    except httpx2.TimeoutException as error:
        raise WorkerGoneError(
            f"The {of} has not answered for {SILENCE_SECONDS:g} s", "See its log, or start it again"
        ) from error
    except httpx2.TransportError as error:
        raise WorkerGoneError(
            f"The {of} ended before it had answered ({error})", "See its log, and try again"
        ) from error


def _not_done(text: str) -> NotDoneError:
    if text == "Not Found":
        stale = "The worker that runs does not serve this company, or is of another version. Start it again."
        return NotDoneError(stale, {})
    try:
        said = json.loads(text)
    except ValueError:
        said = None
    if not isinstance(said, dict):
        return NotDoneError(text or "The worker could not do it; its log says why.", {})
    return NotDoneError(_sentence(said), said)


def _sentence(said: dict[str, Any]) -> str:
    return str(said.get("detail") or said.get("error"))
