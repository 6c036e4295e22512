"""A whole house for a browser to look at: a local Kounta, the receiver and the worker, each a process."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final, Self

import httpx2
from playwright.sync_api import Browser, sync_playwright

from receiver.signature import sign
from tests.secrecy import Watch

COMPANY: Final = 5678
TOKEN: Final = "sandbox-signature-token"
SECRET: Final = "a key of this test alone, of 40 letters"
START_SECONDS: Final = 60
SCRIPT: Final = "<script>alert('here')</script>"
"""What one customer is called."""
FLAGS: Final = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def chromium() -> str:
    """Find the browser."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        raise RuntimeError("There is no Chromium. Install it; on Debian: apt-get install chromium")
    return found


@contextmanager
def browsing() -> Iterator[Browser]:
    """Run one browser."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=list(FLAGS))
        try:
            yield browser
        finally:
            browser.close()


class House:
    """The processes, and how a test makes something happen in them."""

    def __init__(self, directory: Path, *, customers: int = 40, **settings: str) -> None:
        self.directory = directory
        self._customers = customers
        self._settings = settings
        self._secrets = Watch()
        self._stack = ExitStack()
        self.client = self._stack.enter_context(httpx2.Client(timeout=30, trust_env=False))
        self.url = ""
        """The console's."""
        self.kounta_url = ""
        self.receiver_url = ""

    def __enter__(self) -> Self:
        try:
            self._open()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _open(self) -> None:
        kounta = self._run(
            "sandbox",
            *("--json", "--customers", str(self._customers), "--seed", "3"),
            *("--requests-per-minute", "100000", "--list-shape", "complete"),
        )
        self.kounta_url = self._until(lambda: _first_json(kounta.with_suffix(".out")))["KOUNTA_API_URL"]
        receiver = self._run("receiver", "--port", "0")
        port = self._until(lambda: _line(receiver, "receiver_started"))["port"]
        self.receiver_url = f"http://127.0.0.1:{port}"
        worker = self._run("worker")
        self.url = self._until(lambda: _line(worker, "console_started"))["url"]
        self._until(lambda: _line(worker, "sweep_complete"))

    def _run(self, *command: str) -> Path:
        """Start a process of the program, and give its log."""
        log = self.directory / f"{command[0]}.log"
        environment = {
            "PATH": os.environ["PATH"],
            "MIRROR_DATA_DIR": str(self.directory / "data"),
            "MIRROR_CONSOLE_PORT": "0",
            "KOUNTA_COMPANY_ID": str(COMPANY),
            "KOUNTA_SIGNATURE_TOKENS": TOKEN,
            "KOUNTA_CLIENT_ID": "sandbox-client",
            "KOUNTA_CLIENT_SECRET": "sandbox-secret",
            "KOUNTA_API_URL": self.kounta_url or "http://127.0.0.1:1",
            "KOUNTA_REQUESTS_PER_MINUTE": "6000",
            "MIRROR_READ_LAG_SECONDS": "0",
            "MIRROR_SECRET_KEY": SECRET,
            **self._settings,
        }
        self._secrets.plant_environment(environment, self.directory)
        with log.open("wb") as said, log.with_suffix(".out").open("wb") as out:
            process = subprocess.Popen(  # noqa: S603 - the program under test
                [sys.executable, "-m", "sync", *command],
                env=environment,
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=said,
            )
        self._stack.callback(_end, process)
        return log

    def leaks(self) -> list[str]:
        """Say which kinds of secrets are in the logs."""
        logs = [log for log in self.directory.glob("*.log") if log.read_bytes()]
        return [leak for log in logs for leak in self._secrets.search(log.read_bytes(), log.name)]

    def _until(self, find: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + START_SECONDS
        while (found := find()) is None:
            if time.monotonic() > deadline:
                logs = "\n".join(log.read_text()[-2000:] for log in self.directory.glob("*.log"))
                raise RuntimeError(f"It does not come: {logs}")
            time.sleep(0.05)
        return found

    def wait_until(self, condition: Callable[[], object]) -> None:
        """Wait for what another process brings about."""
        self._until(lambda: condition() or None)

    def control(self, method: str, path: str, body: Any = None) -> Any:
        """Use the control interface of the local Kounta."""
        answer = self.client.request(method, f"{self.kounta_url}/sandbox/{path}", json=body)
        return answer.raise_for_status().json()

    @property
    def ids(self) -> list[int]:
        """Give the ids of Kounta's customers."""
        return sorted(customer["id"] for customer in self.control("GET", "customers")["customers"])

    def deliver(self, topic: str, body: Mapping[str, Any] | bytes, token: str = TOKEN) -> str:
        """Deliver as Kounta does; give the delivery's name, or the code of the refusal."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        answer = self.client.post(
            f"{self.receiver_url}/webhooks/{COMPANY}/customers/{topic}",
            content=raw,
            headers={"X-Kounta-Signature": sign(raw, token.encode()), "Content-Type": "application/json"},
        )
        said = answer.json()
        return str(said.get("delivery") or said["error"])

    def page(self, path: str = "") -> httpx2.Response:
        """Ask for a page of the company as a browser without script does."""
        return self.client.get(
            f"{self.url}/companies/{COMPANY}{path}", headers={"Accept": "text/html"}, follow_redirects=True
        )

    def furnish(self) -> dict[str, str]:
        """Let things happen of which pages have something to say; give deliveries by what became of them."""
        first, second, *others = self.ids
        now = datetime.now(UTC)

        def said(customer_id: int, age: float = 0, **values: Any) -> dict[str, Any]:
            stamp = (now - timedelta(seconds=age)).isoformat(timespec="seconds")
            return {"id": customer_id, "updated_at": stamp, **values}

        self.control("PUT", f"customers/{first}?announce=false", {"first_name": SCRIPT, "tags": ["vip"]})
        for number, customer_id in enumerate(others[:20]):
            self.deliver("updated", said(customer_id, 40 - number, phone=f"02 9000 {number:04}"))
        named = {
            "applied": self.deliver("updated", said(first, first_name=SCRIPT, tags=["vip"])),
            "stale": self.deliver("updated", said(second, 90, first_name="Older")),
            "quarantined": self.deliver("updated", b'{"id": "no number", "first_name": "<b>bold</b>"'),
            "refused": self.deliver("updated", said(second), token="another token"),
        }
        for customer_id in others[-14:]:
            self.control("DELETE", f"customers/{customer_id}?announce=false")
        for name in (named["applied"], named["stale"], named["quarantined"]):
            self.wait_until(partial(self._has_verdict, name))
        return named

    def _has_verdict(self, delivery: str) -> bool:
        return "verdict pending" not in self.page(f"/deliveries/{delivery}").text


def _first_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except ValueError:
        return None


def _line(log: Path, event: str) -> Any:
    for line in log.read_text().splitlines():
        if line.startswith("{") and line.endswith("}"):
            said = json.loads(line)
            if said.get("event") == event:
                return said
    return None


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
