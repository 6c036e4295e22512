"""`kounta-mirror customers …` with what cannot be right."""

import shlex
from pathlib import Path

import pytest
from cyclopts import CycloptsError

from receiver.errors import MirrorError
from sync.cli import app, explained
from sync.kounta import KountaRefused


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("find --first-name Jamie", "Missing: --last-name, --phone"),
        ("find", "in one way"),
        ("find --email a@b.example --mobile 1", "in one way"),
        ("find --email ''", "needs a value"),
        ("create --first-name Jamie", "needs an e-mail address or a phone"),
        ("create --email a@b.example", "needs a first name"),
        ("create", "needs a first name"),
        ('create --first-name A --phone 1 --primary-address \'{"country": "Australia"}\'', "AU is meant"),
        ("create --first-name A --phone 1 --primary-address Sydney", "should be a JSON object"),
        ("update 7", "would update nothing"),
        ("update 0 --phone 1", "Must be >= 1"),
        ("update 7 --clear name", "name cannot be written"),
        ("update 7 --phone 1 --clear phone", "one of them is a mistake"),
        ("get Jamie", "digits and nothing else"),
    ],
)
def test_what_cannot_be_right_is_exit_2_before_anyone_is_asked(
    command: str, sentence: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)  # where no settings say whom to ask
    with pytest.raises((MirrorError, KountaRefused, CycloptsError)) as caught:
        app(["customers", *shlex.split(command)], exit_on_error=False, print_error=False)
    complaint, code = explained(caught.value)
    assert code == 2
    assert sentence in complaint
    assert "KOUNTA_COMPANY_ID" not in complaint
