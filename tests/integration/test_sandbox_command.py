"""The command as a real process: start, read the .env, call, stop by a signal."""

import json
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

COMMAND = (sys.executable, "-m", "sync", "sandbox")
NAMES = [
    "KOUNTA_API_URL",
    "KOUNTA_COMPANY_ID",
    "KOUNTA_CLIENT_ID",
    "KOUNTA_CLIENT_SECRET",
    "KOUNTA_SIGNATURE_TOKENS",
    "KOUNTA_REQUESTS_PER_MINUTE",
    "MIRROR_READ_LAG_SECONDS",
    "KOUNTA_AUTHORIZE_URL",
]


@contextmanager
def command(*options: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(  # noqa: S603 - our own command
        [*COMMAND, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def environment(process: subprocess.Popen[str]) -> dict[str, str]:
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in NAMES]
    return dict(line.strip().split("=", 1) for line in lines)


def failed(*options: str) -> tuple[int, str, str]:
    done = subprocess.run(  # noqa: S603 - our own command
        [*COMMAND, *options], capture_output=True, text=True, timeout=20, check=False
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_prints_the_env_that_points_at_it_and_ends_cleanly(number: signal.Signals, tmp_path: Path) -> None:
    env_file = tmp_path / ".env"
    with command("--customers", "30", "--company-id", "42", "--env-file", str(env_file)) as process:
        env = environment(process)
        assert list(env) == NAMES
        assert stat.S_IMODE(env_file.stat().st_mode) == 0o600
        assert env_file.read_text() == "".join(f"{name}={value}\n" for name, value in env.items())

        answer = httpx2.get(
            f"{env['KOUNTA_API_URL']}/v1/companies/{env['KOUNTA_COMPANY_ID']}/customers.json",
            auth=(env["KOUNTA_CLIENT_ID"], env["KOUNTA_CLIENT_SECRET"]),
            trust_env=False,
        )
        assert (len(answer.json()), answer.headers["X-Pages"]) == (25, "2")

        started = time.monotonic()
        process.send_signal(number)
        assert process.wait(timeout=5) == 0
        assert time.monotonic() - started < 4  # honcho kills after 5
        assert process.stdout is not None
        assert process.stderr is not None
        assert (process.stdout.read(), process.stderr.read()) == ("", "")


def test_json_prints_one_object_instead() -> None:
    with command("--json", "--requests-per-minute", "600") as process:
        assert process.stdout is not None
        env: dict[str, Any] = json.loads(process.stdout.readline())

        assert list(env) == NAMES
        assert env["KOUNTA_REQUESTS_PER_MINUTE"] == "600"


def test_it_ends_within_a_second_amid_edits_deliveries_and_a_call_that_hangs() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        receiver = f"http://127.0.0.1:{silent.getsockname()[1]}"
        options = ("--edits-per-second", "200", "--deliver-to", receiver, "--hangs", "1")
        with command(*options) as process:
            env = environment(process)
            with pytest.raises(httpx2.ReadTimeout):
                httpx2.get(
                    f"{env['KOUNTA_API_URL']}/v1/companies/me.json",
                    auth=(env["KOUNTA_CLIENT_ID"], env["KOUNTA_CLIENT_SECRET"]),
                    timeout=0.5,
                    trust_env=False,
                )
            report = httpx2.get(f"{env['KOUNTA_API_URL']}/sandbox/report", trust_env=False).json()
            assert report["deliveries"]["in_flight"] > 0

            started = time.monotonic()
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=5) == 0
            assert time.monotonic() - started < 4  # honcho kills after 5
            assert process.stderr is not None
            assert process.stderr.read() == ""


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--lost", "2"), "lost"),
        (("--port", "70000"), "--port"),
        (("--customers", "-1"), "--customers"),
        (("--requests-per-minute", "0"), "requests_per_minute"),
        (("--deliver-to", "nowhere"), "deliver_to"),
        (("--other-applications", "a:b"), "CLIENT_ID:CLIENT_SECRET:SIGNATURE_TOKEN"),
        (("--stamps", "x"), "--stamps"),
        (("--lots", "1"), "--lots"),
    ],
)
def test_a_bad_option_is_one_sentence_and_exit_2(options: tuple[str, ...], word: str) -> None:
    status, out, err = failed(*options)

    assert (status, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert word in err


def test_a_port_in_use_is_one_sentence_and_exit_1() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, out, err = failed("--port", str(port))

    assert (status, out) == (1, "")
    assert err == f"Port {port} of 127.0.0.1 cannot be used: Address already in use.\n"


def test_an_env_file_that_cannot_be_written_is_one_sentence_and_exit_1(tmp_path: Path) -> None:
    target = tmp_path / "missing" / ".env"
    status, out, err = failed("--env-file", str(target))

    assert (status, out) == (1, "")
    assert err == f"{target} cannot be written: No such file or directory.\n"
