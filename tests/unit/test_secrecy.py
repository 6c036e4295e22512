"""A secret that is printed is found, whatever it was printed to."""

import asyncio
import base64
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest
from pydantic import SecretStr

from tests.secrecy import KINDS, SHORTEST, Watch

SECRET: Final = "planted-client-secret"
TELLS: Final = [sys.executable, "-c", "import os; print('It is', os.environ['KOUNTA_CLIENT_SECRET'])"]
ENVIRONMENT: Final = {"KOUNTA_CLIENT_SECRET": SECRET}


def by_run() -> None:
    subprocess.run(TELLS, env=ENVIRONMENT, check=True, capture_output=True)  # noqa: S603 - our own text


def by_line() -> None:
    with subprocess.Popen(TELLS, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - the same
        assert process.stdout is not None
        assert SECRET in process.stdout.readline()


def by_asyncio() -> None:
    async def tell() -> None:
        process = await asyncio.create_subprocess_exec(
            *TELLS, env=ENVIRONMENT, stdout=asyncio.subprocess.PIPE
        )
        await process.communicate()

    asyncio.run(tell())


def on_a_terminal() -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen(TELLS, env=ENVIRONMENT, stdout=theirs):  # noqa: S603 - the same
        os.close(theirs)
        with suppress(OSError):
            while os.read(ours, 1000):
                pass
    os.close(ours)


@pytest.mark.parametrize(
    ("tell", "where"),
    [(by_run, "a pipe"), (by_line, "a pipe"), (by_asyncio, "a pipe"), (on_a_terminal, "a terminal")],
)
def test_what_a_process_prints_is_heard(secrecy: Watch, tell: Callable[[], None], where: str) -> None:
    tell()
    assert sorted(secrecy.leaks()) == [f"KOUNTA_CLIENT_SECRET in {where}"]
    secrecy.secrets.clear()


def test_what_a_process_writes_to_a_log_is_found(secrecy: Watch, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/worker.log").write_text(f"It is {SECRET}.")
    (tmp_path / "password").write_text(SECRET)
    secrecy.plant("KOUNTA_CLIENT_SECRET", SECRET)
    assert sorted(secrecy.leaks(tmp_path)) == ["KOUNTA_CLIENT_SECRET in worker.log"]
    secrecy.secrets.clear()


def test_secrets_come_from_the_environment_from_env_from_files_and_from_this_process(
    secrecy: Watch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("KOUNTA_REFRESH_TOKEN=planted-refresh\nMIRROR_SECRET_KEY_FILE=key\n")
    (tmp_path / "key").write_text("planted-key\n")
    given = {"KOUNTA_SIGNATURE_TOKENS": "planted-one, planted-two", "KOUNTA_CLIENT_ID": "planted-id"}
    given["DATABASE_URL"] = "postgresql://me:planted-password@db.example/mirror"
    secrecy.plant_environment(given, tmp_path)
    SecretStr("planted-in-process")
    printed = b"planted-one planted-two planted-refresh planted-key planted-password planted-in-process"
    assert sorted({*secrecy.search(printed, "it")}) == [
        "DATABASE_URL in it",
        "KOUNTA_REFRESH_TOKEN in it",
        "KOUNTA_SIGNATURE_TOKENS in it",
        "MIRROR_SECRET_KEY in it",
        "a SecretStr in it",
    ]
    assert sorted(secrecy.search(b"db.example planted-id", "it")) == []


@pytest.mark.parametrize("form", ["planted%2Fsecret%3F", "cGxhbnRlZC9zZWNyZXQ/", "planted/secret?"])
def test_other_forms_of_a_secret_are_found(secrecy: Watch, form: str) -> None:
    secrecy.plant("MIRROR_CONSOLE_PASSWORD", "planted/secret?")
    assert sorted(secrecy.search(f"x={form}".encode(), "it")) == ["MIRROR_CONSOLE_PASSWORD in it"]
    wrapped = b"\xe2\x94\x82 \x1b[32mplanted/se\xe2\x94\x82\r\n\xe2\x94\x82 \x1b[1mcret?\x1b[0m"
    assert {*secrecy.search(wrapped, "it")} == {"MIRROR_CONSOLE_PASSWORD in it"}
    for user in ("", "a", "ab", "abc"):
        basic = base64.b64encode(f"{user}:planted/secret?".encode())
        assert sorted(secrecy.search(basic, "it")) == ["MIRROR_CONSOLE_PASSWORD in it"]
    secrecy.plant("MIRROR_CONSOLE_PASSWORD", "s" * (SHORTEST - 1))
    assert len({*secrecy.secrets.values()}) == 1


def test_every_secret_of_the_settings_is_a_kind() -> None:
    assert {
        *("KOUNTA_SIGNATURE_TOKENS", "KOUNTA_CLIENT_SECRET", "KOUNTA_REFRESH_TOKEN", "MIRROR_SECRET_KEY"),
        *("MIRROR_CONSOLE_PASSWORD", "MIRROR_ALERT_URL", "MIRROR_HEARTBEAT_URL", "DATABASE_URL"),
    } <= KINDS
