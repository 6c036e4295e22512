"""A secret of each kind is planted, and none is printed to a file or a terminal, when all is well or not.

What is printed is searched when each test ends (`tests/secrecy.py`).
"""

import asyncio
import os
import pty
import re
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing, suppress
from typing import Any, Final

import httpx2
import pytest

from tests import forks
from tests.secrecy import KINDS, Watch

PLANTED: Final = {
    "KOUNTA_CLIENT_SECRET": "planted-client-secret",
    "KOUNTA_SIGNATURE_TOKENS": "planted-signature-token",
    "KOUNTA_REFRESH_TOKEN": "planted-refresh-token",
    "MIRROR_SECRET_KEY": "planted-key-of-more-than-32-characters",
    "MIRROR_CONSOLE_PASSWORD": "planted-console-password",
    "MIRROR_ALERT_URL": "http://127.0.0.1:1/planted-alert-path",
    "MIRROR_HEARTBEAT_URL": "http://127.0.0.1:1/planted-heartbeat-path",
}
DATABASES: Final = {
    "DATABASE_URL": "postgresql://mirror:planted-database-password@127.0.0.1:1/none?connect_timeout=1",
    "DATABASE_LISTEN_URL": "postgresql://mirror:planted-listening-password@127.0.0.1:1/none?connect_timeout=1",
}
COMMANDS: Final = (
    *("status", "status --check", "doctor --quick", "reconcile", "explain 1 --upstream", "customers list"),
    *("webhooks list", "webhooks ensure", "deliveries list", "worker --once", "login", "rebuild"),
)


@pytest.fixture
async def planted(shop: Any) -> Any:
    """An installation whose secrets are all planted; its permission at Kounta has ended."""
    await shop.open(2, client_secret=PLANTED["KOUNTA_CLIENT_SECRET"])
    shop.settings |= PLANTED
    return shop


async def on_terminal(
    shop: Any, command: str, once: Callable[[str], Awaitable[bool]] | None = None, **settings: str
) -> str:
    """Run a command whose stdin, stdout and stderr are a terminal; give what it shows.

    `once` is given what it has shown so far, until it gives True: then the command is ended.
    """
    ours, theirs = pty.openpty()
    child = await forks.start(
        *command.split(),
        env={"MIRROR_CONSOLE_PORT": "0", **shop.settings, **settings},
        cwd=shop.directory,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    shown = ""
    try:
        async with asyncio.timeout(60):
            with suppress(OSError):  # no one holds the other end any more
                while part := await asyncio.to_thread(os.read, ours, 4096):
                    shown += part.decode(errors="replace")
                    if "Paste it here" in shown and part.endswith(b": "):
                        os.write(ours, b"code=planted-code&state=another\n")
                    if once is not None and await once(shown):
                        once = None
                        if child.returncode is None:
                            child.terminate()
            await child.wait()
    finally:
        if child.returncode is None:
            child.kill()
        os.close(ours)
    return shown


async def test_a_secret_of_each_kind_is_searched_in_the_output_of_commands(
    planted: Any, secrecy: Watch
) -> None:
    for command in COMMANDS:
        await planted.type(command)
        assert await on_terminal(planted, command)
    for command in ("status", "doctor --quick"):
        await planted.type(command, **DATABASES)
    assert {*secrecy.secrets.values()} >= KINDS


async def test_wrong_settings_are_named_and_their_values_are_not(planted: Any) -> None:
    for name, wrong in {
        "MIRROR_SECRET_KEY": "planted-short-key",
        "MIRROR_ALERT_URL": "planted-no-url",
        "MIRROR_HEARTBEAT_URL": "ftp://planted:password@watch.example",
        "DATABASE_URL": "mysql://mirror:planted-wrong-password@db.example/mirror",
        "KOUNTA_CLIENT_SECRET": "planted-wrong-secret",
    }.items():
        for command in ("worker --once", "doctor --quick"):
            typed = await planted.type(command, **{name: wrong})
            assert typed.child.returncode != 0
    short = {"MIRROR_CONSOLE_PASSWORD": "planted-pw", "MIRROR_CONSOLE_HOST": "0.0.0.0"}  # noqa: S104 - refused
    typed = await planted.type("worker", **short)
    assert "MIRROR_CONSOLE_PASSWORD" in typed.sentences[0]


async def test_a_fault_on_a_terminal_shows_where_it_was_and_no_local_variables(planted: Any) -> None:
    """A page of the console fails on its way behind the password, which is in the frames that are shown."""
    del planted.settings["KOUNTA_REFRESH_TOKEN"]
    codes: list[int] = []

    async def ask(shown: str) -> bool:
        found = re.search(r"The console is at (http://[0-9.:]+)", shown)
        if found is None or "sweep_complete" not in shown:
            return False
        if not codes:
            with closing(sqlite3.connect(planted.directory / "data/mirror.db", timeout=10)) as mirror:
                mirror.execute("ALTER TABLE _samples RENAME TO _elsewhere")
            async with httpx2.AsyncClient(trust_env=False) as browser:
                password = ("any", PLANTED["MIRROR_CONSOLE_PASSWORD"])
                answer = await browser.get(f"{found[1]}/companies/5678", auth=password)
            codes.append(answer.status_code)
        return "Background on this error" in shown  # the last line of it

    shown = await on_terminal(planted, "worker", ask)
    assert codes == [500]
    assert "Traceback (most recent call last)" in shown
    assert "overview.py" in shown
    assert "locals" not in shown
