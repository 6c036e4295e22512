"""Lines of the log as machines read them."""

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from receiver.logs import OncePerMinute, configure
from sync.kounta.errors import complaint, refusal


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


def test_a_traceback_shows_no_words_of_upstream(capsys: pytest.CaptureFixture[str]) -> None:
    configure()
    said = refusal(422, complaint(b'{"error": "taken", "message": "jamie@shop.example is taken"}'))
    several = ExceptionGroup("Two of them", [said, ValueError("another")])
    broken = RuntimeError("It broke.")
    broken.__cause__ = several
    structlog.get_logger().error("It broke.", action="it_broke", exc_info=broken)
    shown = json.loads(capsys.readouterr().err)["exception"]
    assert "answered 422 taken (…)" in shown
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
