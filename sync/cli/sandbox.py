"""The command `sandbox`: a local Kounta until it is told to stop."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, NoReturn

from cyclopts import Parameter

from sync.sandbox import Faults, OptionError, PortTakenError, Sandbox, Settings, serving

FAILED, WRONG_USAGE = 1, 2
HIGHEST_PORT = 65535
MOST_CUSTOMERS = 1_000_000


async def sandbox(
    *,
    port: int = 0,
    customers: int = 100,
    seed: int = 0,
    deliver_to: str | None = None,
    env_file: Path | None = None,
    json: bool = False,
    settings: Annotated[Settings | None, Parameter(name="*", group="How upstream is")] = None,
    faults: Annotated[Faults | None, Parameter(name="*", group="What goes wrong")] = None,
) -> None:
    """Run a local Kounta, with faults, and print the .env that points at it.

    It serves Kounta's customers API, its OAuth and its webhooks on 127.0.0.1 until SIGTERM or Ctrl+C. The
    control interface is under /sandbox/ of the same port.

    Parameters
    ----------
    port
        The port to listen on; 0 takes a free one.
    customers
        How many customers there are at the start.
    seed
        What all chance comes from: customers, edits, faults.
    deliver_to
        The receiver's base URL: registers the three topics of customers there.
    env_file
        Write the lines of the .env to this file too.
    json
        Print one JSON object instead of the lines of the .env.
    settings
        How upstream behaves where its documentation is silent.
    faults
        What goes wrong.
    """
    settings, faults = replace(settings or Settings()), replace(faults or Faults())
    if not 0 <= port <= HIGHEST_PORT:
        _fail(WRONG_USAGE, f"--port is a number from 0 to {HIGHEST_PORT}, not {port}.")
    if not 0 <= customers <= MOST_CUSTOMERS:
        _fail(WRONG_USAGE, f"--customers is a number from 0 to {MOST_CUSTOMERS}, not {customers}.")
    try:
        upstream = Sandbox(settings, faults, seed, customers)
        if deliver_to is not None:
            upstream.deliver_to(deliver_to)
    except OptionError as error:
        _fail(WRONG_USAGE, str(error))
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        async with serving(upstream, port) as url:
            environment = dict(_environment(url, settings, faults))
            lines = "".join(f"{name}={value}\n" for name, value in environment.items())
            if env_file is not None:
                await asyncio.to_thread(_write, env_file, lines)
            sys.stdout.write(_object(environment) if json else lines)
            sys.stdout.flush()
            await stop.wait()
    except PortTakenError as error:
        _fail(FAILED, str(error))
    except OSError as error:
        _fail(FAILED, f"{env_file} cannot be written: {error.strerror}.")


def _environment(url: str, settings: Settings, faults: Faults) -> Iterator[tuple[str, str]]:
    yield "KOUNTA_API_URL", url
    yield "KOUNTA_COMPANY_ID", str(settings.company_id)
    yield "KOUNTA_CLIENT_ID", settings.client_id
    yield "KOUNTA_CLIENT_SECRET", settings.client_secret
    yield "KOUNTA_SIGNATURE_TOKENS", settings.signature_token
    yield "KOUNTA_REQUESTS_PER_MINUTE", str(settings.requests_per_minute)
    yield "MIRROR_READ_LAG_SECONDS", f"{max(1, faults.read_lag_seconds):g}"
    yield "KOUNTA_AUTHORIZE_URL", f"{url}/authorize"


def _write(file: Path, lines: str) -> None:
    """Write an .env, a new one for this user alone: the next one may hold real secrets."""
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as opened:
        opened.write(lines)


def _object(environment: dict[str, str]) -> str:
    return json.dumps(environment) + "\n"


def _fail(status: int, sentence: str) -> NoReturn:
    sys.stderr.write(sentence + "\n")
    raise SystemExit(status)
