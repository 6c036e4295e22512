"""`kounta-mirror login` and `init` as a person types them, and a worker with OAuth, at the local Kounta."""

import asyncio
import json
import os
import pty
import re
import signal
import sqlite3
import stat
import termios
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
from dotenv import dotenv_values

from sync.sandbox import Faults, Sandbox, Settings, serving
from tests import forks
from tests.forks import Fork

KEY = "a-key-of-more-than-32-characters-for-a-test"
SECRET = """it's a "$ecret" ${HOME} #1 \\"""


@dataclass
class Shell:
    """A shop's directory with its settings, and a local Kounta that it can reach."""

    directory: Path
    sandbox: Sandbox
    url: str
    settings: dict[str, str] = field(default_factory=dict)
    processes: list[Fork] = field(default_factory=list)

    async def start(self, *command: str, settings: Mapping[str, str] | None = None, **options: Any) -> Fork:
        process = await forks.start(
            *command,
            env={"MIRROR_CONSOLE_PORT": "0", **self.settings, **(settings or {})},
            cwd=self.directory,
            **{"stdin": forks.PIPE, **options},
        )
        self.processes.append(process)
        return process

    async def end(self) -> None:
        """Kill what a test that failed has left."""
        for process in self.processes:
            if process.returncode is None:
                process.kill()
                await process.communicate()

    async def type(self, command: str, stdin: str = "") -> tuple[int, str, str]:
        """Give exit code, stdout and stderr."""
        process = await self.start(*command.split())
        out, complaint = await asyncio.wait_for(process.communicate(stdin.encode()), 60)
        return process.returncode or 0, out.decode(), complaint.decode()

    async def json(self, command: str) -> Any:
        code, out, complaint = await self.type(f"{command} --json")
        assert (code, complaint) == (0, "")
        return json.loads(out)

    async def log_in(self, options: str = "", bring: Callable[[str], str] = str) -> tuple[int, str, str]:
        """Type `login`, allow it at the address that it prints, and paste what `bring` makes of the answer.

        Gives exit code, stdout, and the sentence at the end of stderr.
        """
        process = await self.start("login", *options.split())
        assert process.stdin is not None
        assert process.stderr is not None
        async with asyncio.timeout(60):
            while not (line := (await process.stderr.readline()).decode()).startswith(self.url):
                assert line, "it ended without an address"
            process.stdin.write(f"{bring(await allowed(line.strip()))}\n".encode())
            out, complaint = await process.communicate()
        assert "Traceback" not in complaint.decode()
        return process.returncode or 0, out.decode(), complaint.decode().partition("here: \n")[2]

    @asynccontextmanager
    async def worker(self, **settings: str) -> AsyncIterator["Log"]:
        process = await self.start("worker", settings=settings)
        assert process.stderr is not None
        log = Log(process.stderr)
        try:
            await log.says("worker_started")
            yield log
        finally:
            process.send_signal(signal.SIGTERM)
            await log.rest()
            await asyncio.wait_for(process.communicate(), 20)

    def stored(self) -> bool:
        """Whether the mirror holds tokens."""
        return bool(self.ask("SELECT * FROM _oauth_tokens"))

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        path = self.directory / "data/mirror.db"
        if not path.exists():
            return []
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as mirror:
            return mirror.execute(query).fetchall()


@dataclass
class Log:
    """The lines of a worker's log."""

    stream: asyncio.StreamReader
    lines: list[dict[str, Any]] = field(default_factory=list)

    async def says(self, event: str) -> dict[str, Any]:
        """Wait for the next line of this event."""
        async with asyncio.timeout(30):
            while line := await self.stream.readline():
                self.lines.append(json.loads(line))
                if self.lines[-1]["event"] == event:
                    return self.lines[-1]
        raise AssertionError(f"it ended without {event}: {self.lines}")

    async def rest(self) -> None:
        self.lines += [json.loads(line) async for line in self.stream]


async def allowed(address: str) -> str:
    """Allow it, as a browser does; give the address that the browser is sent to."""
    async with httpx2.AsyncClient(trust_env=False) as browser:
        return str((await browser.get(address)).headers["Location"])


def code_alone(address: str) -> str:
    (code,) = parse_qs(urlsplit(address).query)["code"]
    return code


def with_code(code: str) -> Callable[[str], str]:
    """Bring the address that the browser was sent to, with another code in it."""
    return lambda address: re.sub("code=[^&]*", f"code={code}", address)


@pytest.fixture
async def shell(tmp_path: Path) -> AsyncIterator[Shell]:
    settings = Settings(requests_per_minute=100_000, oauth_requests_per_minute=100_000)
    sandbox = Sandbox(settings, Faults(), seed=7, customers=3)
    async with serving(sandbox) as url:
        shell = Shell(
            tmp_path,
            sandbox,
            url,
            {
                "KOUNTA_COMPANY_ID": "5678",
                "KOUNTA_CLIENT_ID": "sandbox-client",
                "KOUNTA_CLIENT_SECRET": "sandbox-secret",
                "KOUNTA_API_URL": url,
                "KOUNTA_AUTHORIZE_URL": f"{url}/authorize",
                "MIRROR_SECRET_KEY": KEY,
            },
        )
        yield shell
        await shell.end()


def is_one_sentence(complaint: str) -> bool:
    secrets = ("sandbox-secret", KEY)
    return complaint.count("\n") == 1 and not any(secret in complaint for secret in secrets)


async def test_a_login_without_a_worker_is_what_the_worker_then_uses(shell: Shell) -> None:
    shell.settings["KOUNTA_READ_ONLY"] = "true"
    code, out, complaint = await shell.log_in("--redirect-uri http://localhost:1/back?from=kounta")
    assert (code, complaint) == (0, "")
    assert out == "Logged in for Harbour Roasters (company 5678). Next: kounta-mirror worker\n"
    assert (await shell.json("status"))["budget"]["requests_per_minute"] == 180
    shell.sandbox.settings.client_secret = "another: only what was stored can be right now"
    code, _, complaint = await shell.type("reconcile")
    assert code == 0, complaint


async def test_a_worker_on_basic_goes_on_with_a_login_at_once(shell: Shell) -> None:
    async with shell.worker() as log:
        await log.says("sweep_complete")
        assert (await shell.json("status"))["budget"]["requests_per_minute"] == 60
        code, out, _ = await shell.log_in("--json")
        assert (code, json.loads(out)) == (
            0,
            {"company_id": 5678, "name": "Harbour Roasters", "worker_running": True},
        )
        shell.sandbox.settings.client_secret = "another: only what was stored can be right now"
        assert len(await shell.json("customers list")) == 3
        assert (await shell.json("status"))["budget"]["requests_per_minute"] == 180


async def test_a_worker_begins_with_the_refresh_token_of_its_settings(shell: Shell) -> None:
    async with shell.worker(KOUNTA_REFRESH_TOKEN=shell.sandbox.tokens._new_refresh("sandbox-client")) as log:
        await log.says("sweep_complete")
        assert (await shell.json("status"))["budget"]["requests_per_minute"] == 180
    assert shell.sandbox.calls.by_kind["token"] == 1
    async with shell.worker(KOUNTA_REFRESH_TOKEN="another: the stored one wins"):
        assert len(await shell.json("customers list")) == 3


async def test_an_expired_refresh_token_is_told_once_by_all_and_changes_nothing(shell: Shell) -> None:
    async with shell.worker() as log:
        await log.says("sweep_complete")
    rows = shell.ask("SELECT * FROM all_customers ORDER BY id")
    changes = shell.ask("SELECT count(*) FROM customer_changes")
    assert len(rows) == 3
    async with shell.worker(KOUNTA_REFRESH_TOKEN="expired", MIRROR_SWEEP_SECONDS="0.1") as log:
        told = (await log.says("upstream_refused"))["message"]
        status = await shell.json("status")
        code, _, complaint = await shell.type("customers get 1")
        assert (await shell.type("reconcile"))[0] == 1
    assert "invalid_grant" in told
    assert told.endswith("Run kounta-mirror login.")
    assert "expired" not in told
    assert (
        "400 invalid_grant" in status["sentence"]
    )  # with what upstream says beside its code, which no log has
    assert "Run kounta-mirror login." in status["sentence"]
    assert (code, is_one_sentence(complaint)) == (1, True)
    assert "Run kounta-mirror login" in complaint
    assert shell.sandbox.calls.by_kind["token"] == 1
    assert shell.ask("SELECT * FROM all_customers ORDER BY id") == rows
    assert shell.ask("SELECT count(*) FROM customer_changes") == changes
    assert not any(line["level"] == "error" for line in log.lines)


async def test_a_wrong_secret_key_stops_the_worker_until_somebody_logs_in(shell: Shell) -> None:
    assert (await shell.log_in())[0] == 0
    shell.settings["MIRROR_SECRET_KEY"] = KEY[::-1]
    code, out, complaint = await shell.type("worker")
    assert (code, out) == (2, "")
    (sentence,) = [line for line in complaint.splitlines(keepends=True) if not line.startswith("{")]
    assert is_one_sentence(sentence)
    assert "cannot be opened with this MIRROR_SECRET_KEY" in sentence
    assert (await shell.type("status"))[0] == 0
    assert (await shell.log_in())[0] == 0
    assert (await shell.type("worker --once"))[0] == 0


def nothing(_: Shell) -> None:
    pass


def denied(shell: Shell) -> None:
    shell.sandbox.settings.authorize = "denied"


def other_company(shell: Shell) -> None:
    shell.sandbox.settings.company_id = 42


def html(shell: Shell) -> None:
    shell.sandbox.faults.html_answers, shell.sandbox.faults.only_calls = 1.0, ("token",)


def failing(shell: Shell) -> None:
    shell.sandbox.faults.server_errors, shell.sandbox.faults.only_calls = 1.0, ("token",)


FAILURES: list[tuple[Callable[[Shell], None], Callable[[str], str], int, str]] = [
    (nothing, with_code("wr0ng-code"), 1, "A code is good once"),
    (nothing, lambda address: re.sub("state=.*", "state=other", address), 1, "belongs to another attempt"),
    (denied, str, 1, "The permission was not given ('access_denied')"),
    (other_company, str, 1, "This login is for Harbour Roasters (company 42), but KOUNTA_COMPANY_ID is 5678"),
    (html, str, 1, "answered 200 without tokens"),
    (failing, str, 1, "no tokens came, but 50"),
    (nothing, code_alone, 2, "has no state"),
    (nothing, lambda _: "http://localhost/", 2, "holds no code"),
    (nothing, lambda _: "", 2, "Nothing was given"),
]


@pytest.mark.parametrize(("spoil", "bring", "code", "sentence"), FAILURES)
async def test_a_login_that_fails_is_one_sentence_and_stores_nothing(
    shell: Shell, spoil: Callable[[Shell], None], bring: Callable[[str], str], code: int, sentence: str
) -> None:
    spoil(shell)
    ended, out, complaint = await shell.log_in(bring=bring)
    assert (ended, out) == (code, "")
    assert sentence in complaint
    assert is_one_sentence(complaint), complaint
    assert "wr0ng-code" not in complaint
    assert not shell.stored()


async def test_a_login_that_fails_leaves_the_worker_as_it_was(shell: Shell) -> None:
    async with shell.worker() as log:
        await log.says("sweep_complete")
        for spoil, bring, _, sentence in (FAILURES[0], FAILURES[3]):
            spoil(shell)
            ended, out, complaint = await shell.log_in(bring=bring)
            assert (ended, out) == (1, "")
            assert sentence in complaint
            assert is_one_sentence(complaint), complaint
        shell.sandbox.settings.company_id = 5678
        assert len(await shell.json("customers list")) == 3
    assert not shell.stored()


async def test_a_code_is_good_once(shell: Shell) -> None:
    good = shell.sandbox.tokens.authorize("sandbox-client", "http://localhost")
    assert (await shell.log_in(bring=with_code(good)))[0] == 0
    kept = shell.ask("SELECT * FROM _oauth_tokens")
    code, _, complaint = await shell.log_in(bring=with_code(good))
    assert code == 1
    assert is_one_sentence(complaint)
    assert shell.ask("SELECT * FROM _oauth_tokens") == kept


@pytest.mark.parametrize(
    ("options", "settings", "sentence"),
    [
        ("", {"MIRROR_SECRET_KEY": ""}, "MIRROR_SECRET_KEY is not set"),
        ("", {"MIRROR_SECRET_KEY": "short"}, "MIRROR_SECRET_KEY cannot be used"),
        ("", {"KOUNTA_CLIENT_SECRET": ""}, "KOUNTA_CLIENT_SECRET is not set"),
        ("", {"KOUNTA_API_URL": "http://kounta.example"}, "unencrypted"),
        ("", {"KOUNTA_API_URL": "ftp://me:hunter2@kounta.example"}, "KOUNTA_API_URL cannot be"),
        ("", {"KOUNTA_AUTHORIZE_URL": "my.kounta.com"}, "KOUNTA_AUTHORIZE_URL cannot be"),
        ("--redirect-uri localhost:8000", {}, "--redirect-uri should be"),
        ("--redirect-uri http://localhost/#x", {}, "--redirect-uri should be"),
        ("--redirect-uri http://localhost:99999", {}, "--redirect-uri should be"),
    ],
)
async def test_what_cannot_be_is_refused_before_anyone_is_sent_to_kounta(
    shell: Shell, options: str, settings: dict[str, str], sentence: str
) -> None:
    shell.settings |= settings
    code, out, complaint = await shell.type(f"login {options}")
    assert (code, out) == (2, "")
    assert sentence in complaint
    assert is_one_sentence(complaint), complaint
    assert "hunter2" not in complaint


async def test_a_worker_without_a_key_says_so_before_anyone_is_sent_to_kounta(shell: Shell) -> None:
    async with shell.worker(MIRROR_SECRET_KEY=""):
        code, out, complaint = await shell.type("login")
        assert (code, out) == (1, "")
        assert "worker that runs was started without MIRROR_SECRET_KEY" in complaint
        assert is_one_sentence(complaint)


@pytest.fixture
async def fresh(tmp_path: Path) -> AsyncIterator[Shell]:
    """An empty directory, no settings, and an application with a difficult secret."""
    settings = Settings(requests_per_minute=100_000, client_secret=SECRET)
    sandbox = Sandbox(settings, Faults(), seed=7, customers=3)
    async with serving(sandbox) as url:
        shell = Shell(tmp_path, sandbox, url)
        yield shell
        await shell.end()


def answers(shell: Shell, secret: str = SECRET, tokens: str = "t0ken #1, t0ken$2") -> str:
    return f"{shell.url}\nsandbox-client\n{secret}\n{tokens}\n"


def written(shell: Shell) -> dict[str, str | None]:
    return dict(dotenv_values(shell.directory / ".env"))


async def test_a_few_answers_make_an_env_that_the_commands_read(fresh: Shell) -> None:
    code, out, complaint = await fresh.type("init", answers(fresh))
    assert (code, complaint) == (0, "")
    assert "for Harbour Roasters (company 5678)" in out
    for command in ("worker", "receiver", "webhooks ensure", "status"):
        assert f"kounta-mirror {command}" in out
    assert stat.S_IMODE((fresh.directory / ".env").stat().st_mode) == 0o600
    env = written(fresh)
    key = env.pop("MIRROR_SECRET_KEY")
    assert key is not None
    assert len(key) >= 32
    assert env == {
        "KOUNTA_API_URL": fresh.url,
        "KOUNTA_COMPANY_ID": "5678",
        "KOUNTA_CLIENT_ID": "sandbox-client",
        "KOUNTA_CLIENT_SECRET": SECRET,
        "KOUNTA_SIGNATURE_TOKENS": "t0ken #1,t0ken$2",
    }
    assert list(fresh.directory.iterdir()) == [fresh.directory / ".env"]
    assert len(await fresh.json("customers list")) == 3


async def test_no_signature_token_yet_is_told(fresh: Shell) -> None:
    code, out, _ = await fresh.type("init", answers(fresh, tokens=""))
    assert code == 0
    assert "KOUNTA_SIGNATURE_TOKENS is still missing in it" in out
    assert "KOUNTA_SIGNATURE_TOKENS" not in written(fresh)


async def test_an_env_that_is_there_is_not_touched(fresh: Shell) -> None:
    env = fresh.directory / ".env"
    env.write_text("MIRROR_PUBLIC_URL=https://mirror.example\n")
    code, out, complaint = await fresh.type("init", answers(fresh))
    assert (code, out, is_one_sentence(complaint)) == (1, "", True)
    assert "--force" in complaint
    assert env.read_text() == "MIRROR_PUBLIC_URL=https://mirror.example\n"
    assert fresh.sandbox.calls.total == 0


async def test_force_changes_what_is_asked_for_and_keeps_the_rest(fresh: Shell) -> None:
    env = fresh.directory / ".env"
    env.write_text(
        "# ours\nKOUNTA_CLIENT_ID=old\nKOUNTA_CLIENT_SECRET_FILE=/run/secret\n"
        f"MIRROR_PUBLIC_URL=https://mirror.example # why\nMIRROR_SECRET_KEY={KEY}\n"
        "KOUNTA_SIGNATURE_TOKENS=kept\n"
    )
    env.chmod(0o644)
    code, out, _ = await fresh.type("init --force --json", answers(fresh, tokens=""))
    assert (code, json.loads(out)) == (
        0,
        {"company_id": 5678, "name": "Harbour Roasters", "file": str(env)},
    )
    lines = env.read_text().splitlines()
    assert lines[:5] == [
        "# ours",
        "KOUNTA_CLIENT_ID=sandbox-client",
        "MIRROR_PUBLIC_URL=https://mirror.example # why",
        f"MIRROR_SECRET_KEY={KEY}",
        "KOUNTA_SIGNATURE_TOKENS=kept",
    ]
    assert stat.S_IMODE(env.stat().st_mode) == 0o600
    assert len(await fresh.json("customers list")) == 3


@pytest.mark.parametrize(
    ("lines", "code", "sentence"),
    [
        ("{url}\nsandbox-client\nwr0ng\n\n", 1, "answered 401"),
        ("{url}\nnobody\nwr0ng\n\n", 1, "answered 401"),
        ("{url}/v1\nsandbox-client\nwr0ng\n\n", 2, "ends in /v1"),
        ("http://kounta.example\nsandbox-client\nwr0ng\n\n", 2, "unencrypted"),
        ("{url}\n\nwr0ng\n\n", 2, "The client id should be"),
        ("{url}\na:b\nwr0ng\n\n", 2, "The client id should be"),
        ("{url}\nsandbox-client\n  \n\n", 2, "The client secret should be"),
        ("{url}\nsandbox-client\nwr0\x00ng\n\n", 2, "The client secret should be"),
        ("{url}\nsandbox-client\n", 2, "Stdin ended before KOUNTA_CLIENT_SECRET"),
        ("", 2, "Stdin ended before KOUNTA_API_URL"),
    ],
)
async def test_answers_that_are_no_good_are_one_sentence_and_write_nothing(
    fresh: Shell, lines: str, code: int, sentence: str
) -> None:
    ended, out, complaint = await fresh.type("init", lines.format(url=fresh.url))
    assert (ended, out) == (code, "")
    assert sentence in complaint
    assert is_one_sentence(complaint), complaint
    assert "wr0" not in complaint
    assert list(fresh.directory.iterdir()) == []


async def test_what_the_environment_overrules_is_told(fresh: Shell) -> None:
    fresh.settings["KOUNTA_COMPANY_ID"] = "9"
    code, _, complaint = await fresh.type("init", answers(fresh))
    assert code == 0
    assert complaint == "KOUNTA_COMPANY_ID is set in the environment, which wins over .env: unset it there.\n"


@dataclass
class Terminal:
    """A terminal, and what a person sees on it."""

    descriptor: int
    seen: str = ""
    _more: asyncio.Event = field(default_factory=asyncio.Event)

    def look(self) -> None:
        try:
            self.seen += os.read(self.descriptor, 4096).decode()
        except OSError:  # the other side is closed
            asyncio.get_running_loop().remove_reader(self.descriptor)
        self._more.set()

    async def type(self, prompt: str, line: str, *, hidden: bool = False) -> None:
        """Wait for a prompt, once more than before, and type a line; a hidden one once nothing is echoed."""
        async with asyncio.timeout(30):
            while prompt not in self.seen[self.seen.rfind("\x00") + 1 :]:
                self._more.clear()
                await self._more.wait()
            while hidden and termios.tcgetattr(self.descriptor)[3] & termios.ECHO:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.01)
        self.seen += "\x00"  # what comes after is the answer to this
        os.write(self.descriptor, f"{line}\n".encode())


@pytest.fixture
async def terminal() -> AsyncIterator[tuple[Terminal, int]]:
    async with AsyncExitStack() as stack:
        ours, theirs = pty.openpty()
        stack.callback(os.close, ours)
        stack.callback(os.close, theirs)
        seen = Terminal(ours)
        asyncio.get_running_loop().add_reader(ours, seen.look)
        stack.callback(asyncio.get_running_loop().remove_reader, ours)
        yield seen, theirs


async def test_on_a_terminal_a_person_is_asked_again_and_secrets_are_not_shown(
    fresh: Shell, terminal: tuple[Terminal, int]
) -> None:
    person, screen = terminal
    process = await fresh.start("init", stdin=screen, stderr=screen, start_new_session=True)
    await person.type("Kounta's address (https://api.kounta.com): ", f"{fresh.url}/v1")
    await person.type("Kounta's address", fresh.url)
    await person.type("Client id: ", "")
    await person.type("Client id: ", "sandbox-client")
    await person.type("Client secret (not shown): ", SECRET, hidden=True)
    await person.type("Signature token", "t0ken", hidden=True)
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, person.seen
    assert b"Harbour Roasters" in out
    assert "The client id should be" in person.seen
    assert "$ecret" not in person.seen
    assert "t0ken" not in person.seen
    assert (written(fresh)["KOUNTA_CLIENT_SECRET"], written(fresh)["KOUNTA_SIGNATURE_TOKENS"]) == (
        SECRET,
        "t0ken",
    )


@pytest.mark.parametrize("command", ["login", "init"])
async def test_help_asks_for_no_setting(fresh: Shell, command: str) -> None:
    code, out, complaint = await fresh.type(f"{command} --help")
    assert (code, complaint) == (0, "")
    assert "Usage:" in out
