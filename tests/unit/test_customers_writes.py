"""What `customers create` and `update` say of a write that Kounta does not show."""

import json
from pathlib import Path
from typing import Any

import pytest

from sync.cli import app, explained
from sync.cli import customers as command
from sync.cli.owner import NotDoneError, WorkerGoneError
from sync.kounta import KountaError, KountaUnavailable
from sync.writes import NotMirroredError

CREATE = ["customers", "create", "--first-name", "Jamie", "--phone", "1"]
UPDATE = ["customers", "update", "7", "--phone", "1"]


def unshown(**fate: Any) -> KountaError:
    error = KountaUnavailable(404, None, "customer 7 was written, but could not be read", "Read it later")
    for name, value in fate.items():
        setattr(error, name, value)
    return error


MADE = {"written_id": 7, "fate_unknown": False, "likely_id": None}
PERHAPS = {"written_id": None, "fate_unknown": True, "likely_id": 8}
GONE = WorkerGoneError("The worker has not answered for 30 s", "The customer may have been made")


@pytest.mark.parametrize(
    ("asked", "error", "fate"),
    [
        (CREATE, unshown(written_id=7), MADE),
        (UPDATE, unshown(written_id=7, fate_unknown=True), MADE),
        (CREATE, unshown(fate_unknown=True, likely_id=8), PERHAPS),
        (CREATE, NotDoneError("It may be there.", {"error": "It may be there.", **PERHAPS}), PERHAPS),
        (CREATE, GONE, {"written_id": None, "fate_unknown": True, "likely_id": None}),
        (UPDATE, GONE, {"written_id": None, "fate_unknown": True, "likely_id": 7}),
        (CREATE, NotMirroredError("Customer 7 was written, but could not be stored.", 7), MADE),
        (CREATE, unshown(), None),
        (CREATE, NotDoneError("Refused.", {"error": "Refused."}), None),
    ],
)
@pytest.mark.parametrize("as_json", [True, False])
def test_a_write_that_is_not_shown_ends_with_1_and_says_what_became_of_it(
    asked: list[str],
    error: Exception,
    fate: dict[str, Any] | None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    *,
    as_json: bool,
) -> None:
    async def done(*_: Any) -> dict[str, Any]:
        raise error

    monkeypatch.chdir(tmp_path)
    for name in ("KOUNTA_COMPANY_ID", "KOUNTA_CLIENT_ID", "KOUNTA_CLIENT_SECRET"):
        monkeypatch.setenv(name, "5678")
    monkeypatch.setattr(command, "_done", done)
    with pytest.raises(type(error)) as caught:
        app([*asked, *(["--json"] if as_json else [])], exit_on_error=False, print_error=False)
    complaint, code = explained(caught.value)
    assert (code, complaint) == (1, str(error))
    out = capsys.readouterr().out
    if as_json and fate is not None:
        assert json.loads(out) == {"error": str(error), **fate}
    else:
        assert out == ""
