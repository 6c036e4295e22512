"""No secret is in any output: each that a test sets is searched in all that is printed, terminals included.

Secrets are what the settings of the program call so: those that a process gets in its environment, in `.env`
or in the file that a `…_FILE` names, each that this process holds as a `SecretStr`, and each token that a
local Kounta makes. Output is what is read from a pipe or a terminal, whichever process wrote it, what a file
ending in OUTPUT below a test's `tmp_path` holds, and what pytest has captured: stdout, stderr and the log.

A test that prints one fails, and says which kind of secret was where. PRINTS lists what may print secrets.
"""

import base64
import io
import os
import re
import stat
import subprocess
import sys
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, get_args
from urllib.parse import quote, urlsplit

import pytest
from dotenv import dotenv_values
from pydantic import SecretStr

from receiver.settings import ReceiverSettings
from sync.sandbox.oauth import Tokens
from sync.settings import ProcessSettings

SHORTEST: Final = 8
"""Shorter ones are words that a test uses for something else, too."""
LONGEST_SECRET_FILE: Final = 4096
LONGEST_OUTPUT: Final = 8 << 20
"""Bytes of one pipe or terminal that are kept until the test ends."""
OUTPUT: Final = frozenset({".log", ".txt", ".out", ".err"})
PRINTS: Final = {
    "tests/integration/test_sandbox_command.py": "the local Kounta prints the .env that points at it",
    "tests/acceptance/test_tutorial.py": "the same, in the tutorial",
}
_FORM: Final = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]|\s|\xe2\x94\x82")
"""Colours, wrapping and frames of a terminal, within which a secret may lie."""
URLS: Final = frozenset({"DATABASE_URL", "DATABASE_LISTEN_URL"})
"""Addresses whose password alone is a secret."""


def _holds_secret(annotation: object) -> bool:
    return annotation is SecretStr or any(_holds_secret(part) for part in get_args(annotation))


KINDS: Final = frozenset(
    str(field.alias)
    for model in (ReceiverSettings, ProcessSettings)
    for field in model.model_fields.values()
    if _holds_secret(field.annotation) or any(_holds_secret(one) for one in field.metadata)
)
"""Settings that are secrets."""


def _in_base64(secret: bytes) -> Iterator[bytes]:
    """Give what a secret looks like within more that is in base64, as behind the user name of HTTP Basic."""
    for before, spoiled in enumerate((0, 2, 3)):
        text = base64.b64encode(bytes(before) + secret).rstrip(b"=")
        whole = (before + len(secret)) % 3 == 0
        yield text[spoiled : len(text) if whole else -1]


class Watch:
    """The secrets of one test, and what was printed meanwhile."""

    def __init__(self) -> None:
        self.secrets: dict[bytes, str] = {}
        """A form of a secret -> its kind."""
        self._heard: dict[tuple[int, int], bytearray] = {}
        self._names: dict[tuple[int, int], str] = {}

    def plant(self, kind: str, value: str) -> None:
        """Search for this from now on: as it is, percent-encoded and in base64."""
        if kind in URLS:
            value = urlsplit(value).password or ""
        for one in value.split(",") if kind == "KOUNTA_SIGNATURE_TOKENS" else (value,):
            secret = one.strip()
            if len(secret) >= SHORTEST:
                for form in (secret.encode(), quote(secret, safe="").encode(), *_in_base64(secret.encode())):
                    self.secrets[form] = kind

    def plant_environment(self, variables: Mapping[str, str | None], directory: Path) -> None:
        """Search for the secrets that a process gets which runs in `directory`."""
        try:
            filed: Mapping[str, str | None] = dotenv_values(directory / ".env", encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            filed = {}
        known = {**filed, **variables}
        for kind in KINDS & known.keys():
            self.plant(kind, known[kind] or "")
        for kind in KINDS:
            path = directory / (known.get(f"{kind}_FILE") or "")
            if path.is_file() and path.stat().st_size <= LONGEST_SECRET_FILE:
                self.plant(kind, path.read_text(encoding="utf-8", errors="replace").strip())
        if (client := known.get("KOUNTA_CLIENT_ID")) and (secret := known.get("KOUNTA_CLIENT_SECRET")):
            self.plant("Authorization", base64.b64encode(f"{client}:{secret}".encode()).decode())

    def hear(self, descriptor: int, data: bytes) -> None:
        """Keep what was read, if it is of a pipe or a terminal."""
        try:
            found = os.fstat(descriptor)
        except OSError:
            return
        if not (stat.S_ISFIFO(found.st_mode) or stat.S_ISCHR(found.st_mode)):
            return
        key = (found.st_dev, found.st_ino)
        kept = self._heard.setdefault(key, bytearray())
        if len(kept) < LONGEST_OUTPUT:
            kept += data
        self._names[key] = "a terminal" if stat.S_ISCHR(found.st_mode) else "a pipe"

    def leaks(self, directory: Path | None = None) -> Iterator[str]:
        """Say which kinds of secrets were printed, and where, so far."""
        for key, text in self._heard.items():
            yield from self.search(bytes(text), self._names[key])
        for path in sorted(directory.rglob("*")) if directory is not None else ():
            if path.suffix in OUTPUT and path.is_file():
                yield from self.search(path.read_bytes(), path.name)

    def search(self, text: bytes, where: str) -> Iterator[str]:
        flat = _FORM.sub(b"", text)
        for form, kind in self.secrets.items():
            if form in text or form in flat:
                yield f"{kind} in {where}"


WATCH: Final = Watch()


def _begin() -> None:
    fresh = Watch()
    WATCH.__dict__.update(fresh.__dict__)


def hear_all() -> None:
    """Hear what this process reads from pipes and terminals, and note the secrets that are made in it."""
    read, made, hidden = os.read, Tokens._token, SecretStr.__init__

    def heard(descriptor: int, length: int, /) -> bytes:
        data = read(descriptor, length)
        WATCH.hear(descriptor, data)
        return data

    def token(self: Tokens) -> str:
        value = made(self)
        WATCH.plant("an OAuth token or code", value)
        return value

    def hide(self: SecretStr, secret_value: str) -> None:
        hidden(self, secret_value)
        if "://" not in secret_value:  # of an address see URLS
            WATCH.plant("a SecretStr", secret_value)

    os.read = heard
    Tokens._token = token  # type: ignore[method-assign]
    SecretStr.__init__ = hide  # type: ignore[method-assign,assignment]
    vars(subprocess)["io"] = _HeardIO()


class _HeardFile(io.FileIO):
    """The end of a pipe that `subprocess` reads by lines."""

    def readinto(self, buffer: Any, /) -> int | None:
        number = super().readinto(buffer)
        if number:
            WATCH.hear(self.fileno(), bytes(memoryview(buffer)[:number]))
        return number


class _HeardIO:
    """The module `io`, as `subprocess` sees it."""

    def __getattr__(self, name: str) -> Any:
        return getattr(io, name)

    def open(self, file: int, mode: str, buffering: int = -1) -> Any:
        if mode != "rb" or buffering == 0:
            return open(file, mode, buffering)
        return io.BufferedReader(_HeardFile(file))


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    """Note the secrets of each process that is started."""
    if event == "subprocess.Popen":
        _, _, directory, environment = arguments
        given = os.environ if environment is None else _texts(environment)
        WATCH.plant_environment(given, Path(os.fsdecode(directory) if directory else Path.cwd()))


def _texts(environment: Mapping[Any, Any] | Sequence[bytes]) -> dict[str, str]:
    if isinstance(environment, Mapping):
        return {os.fsdecode(name): os.fsdecode(value) for name, value in environment.items()}
    pairs = (os.fsdecode(one).partition("=") for one in environment)
    return {name: value for name, _, value in pairs}


hear_all()
sys.addaudithook(_hear)


@pytest.fixture(autouse=True)
def secrecy(request: pytest.FixtureRequest) -> Iterator[Watch]:
    """What is searched in this test's output; see this module."""
    _begin()
    yield WATCH
    if request.node.nodeid.partition("::")[0] in PRINTS:
        return
    directory = request.node.funcargs.get("tmp_path")
    found = sorted(set(WATCH.leaks(directory)))
    if found:
        pytest.fail(f"A secret was printed: {', '.join(found)}. See tests/secrecy.py.", pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """Let a test fail whose captured output holds a secret."""
    report = yield
    if item.nodeid.partition("::")[0] not in PRINTS:
        found = {leak for name, text in report.sections for leak in WATCH.search(text.encode(), name)}
        if found and report.outcome == "passed":
            report.outcome = "failed"
            report.longrepr = f"A secret was printed: {', '.join(sorted(found))}. See tests/secrecy.py."
    return report
