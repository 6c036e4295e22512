"""Lines of the log as machines read them."""

import json
import logging
import re
import sys
from collections.abc import Callable, Iterator

import pytest
import structlog

from receiver.logs import OncePerMinute, configure
from sync.kounta.errors import complaint, refusal

PASSWORD = "planted-password"


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


def test_the_event_is_a_name_and_the_message_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    configure()
    structlog.get_logger().warning("It is so.", action="it_is_so", number=3)
    line = json.loads(capsys.readouterr().err)
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "it_is_so", "message": "It is so.", "level": "warning", "number": 3}


def test_what_a_library_says_has_an_event_too(capsys: pytest.CaptureFixture[str]) -> None:
    configure()
    logging.getLogger("uvicorn.error").error("Exception in %s", "ASGI")
    line = json.loads(capsys.readouterr().err)
    assert (line["event"], line["message"]) == ("library", "Exception in ASGI")


@pytest.fixture(params=["a file", "a terminal"])
def log_to(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Give what configures the log as a process whose stderr is a file, or a terminal."""

    def begin() -> None:
        monkeypatch.setattr(sys.stderr, "isatty", lambda: request.param == "a terminal", raising=False)
        configure()

    return begin


def test_a_traceback_shows_no_local_variables(
    log_to: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    log_to()

    def check(password: str) -> None:
        given = f"{password} as it was typed"
        raise ValueError(len(given))

    try:
        check(PASSWORD)
    except ValueError:
        structlog.get_logger().exception("It broke.", action="it_broke")
    shown = capsys.readouterr().err
    assert "ValueError" in shown
    assert "test_logs.py" in shown
    assert "Logging error" not in shown
    assert "planted" not in shown


def test_a_traceback_shows_no_words_of_upstream(
    log_to: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    log_to()
    said = refusal(422, complaint(b'{"error": "taken", "message": "jamie@shop.example is taken"}'))
    several = ExceptionGroup("Two of them", [said, ValueError("another")])
    broken = RuntimeError("It broke.")
    broken.__cause__ = several
    structlog.get_logger().error("It broke.", action="it_broke", exc_info=broken)
    shown = capsys.readouterr().err
    assert re.search(r"answered 422 taken \((…|\\u2026)\)", shown)
    assert "another" in shown
    assert "jamie" not in shown


def test_what_a_library_says_of_requests_is_said_once_a_minute() -> None:
    now = 0.0
    passes = OncePerMinute(lambda: now)

    def says(message: str, level: int = logging.WARNING) -> bool:
        return passes.filter(logging.LogRecord("uvicorn.error", level, "", 0, message, None, None))

    assert [says("Invalid HTTP request received.") for _ in range(3)] == [True, False, False]
    assert says("Unsupported upgrade request.")
    assert [says("It broke", logging.ERROR) for _ in range(2)] == [True, True]
    now = 60.0
    assert says("Invalid HTTP request received.")
