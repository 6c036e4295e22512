"""Whatever is written into a `.env` is read back as it was, and what was there stays."""

import shlex
from io import StringIO
from pathlib import Path

import pytest
from dotenv import dotenv_values
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from receiver.settings import ReceiverSettings
from sync.envfile import merged
from sync.settings import WorkerSettings

PRINTABLE = st.text(st.characters(exclude_categories=["C", "Zl", "Zp"]), min_size=1).filter(
    lambda text: text == text.strip() and text.isprintable()
)
TRICKY = st.text(st.sampled_from(list("ab \"'\\#$`{}:-=,%!&|;<>*?~^()[]é")), min_size=1).filter(
    lambda text: text == text.strip()
)
SPECIAL = [
    "two words",
    "it's",
    'say "hi"',
    "a#b #c",
    "pa$$word",
    "$HOME",
    "${HOME}",
    "${HOME:-x}",
    "a${b",
    "back\\slash\\",
    "'quoted'",
    '"quoted"',
    "\\n",
    "`id`",
    "export X=1",
    "naïve ☕",
    "all of '\"\\#$` ${X}",
]


@given(PRINTABLE | TRICKY)
@settings(max_examples=300)
def test_every_value_of_one_line_is_read_back(value: str) -> None:
    assert dotenv_values(stream=StringIO(merged("", {"NAME": value}))) == {"NAME": value}


@pytest.mark.parametrize("value", SPECIAL)
def test_special_values_are_read_back(value: str) -> None:
    text = merged("BEFORE='x'\n", {"NAME": value, "AFTER": "y"})
    assert dotenv_values(stream=StringIO(text)) == {"BEFORE": "x", "NAME": value, "AFTER": "y"}


@pytest.mark.parametrize("value", [value for value in SPECIAL if "'" not in value and "${" not in value])
def test_a_shell_reads_the_same_where_it_can(value: str) -> None:
    (word,) = shlex.split(merged("", {"NAME": value}))
    assert word == f"NAME={value}"


@pytest.mark.parametrize("value", SPECIAL)
def test_the_settings_read_what_was_written(
    value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("KOUNTA_COMPANY_ID", "KOUNTA_CLIENT_ID", "KOUNTA_CLIENT_SECRET", "KOUNTA_SIGNATURE_TOKENS"):
        monkeypatch.delenv(name, raising=False)
    written = {
        "KOUNTA_COMPANY_ID": "5678",
        "KOUNTA_CLIENT_ID": "shop",
        "KOUNTA_CLIENT_SECRET": value,
        "KOUNTA_SIGNATURE_TOKENS": f"first,{value}",
    }
    Path(".env").write_text(merged("", written), encoding="utf-8")
    assert WorkerSettings.load().client_secret.get_secret_value() == value
    assert ReceiverSettings.load().tokens() == {5678: (b"first", value.encode())}


LINES = st.sampled_from(
    [
        "# a comment\n",
        "\n",
        "MIRROR_PUBLIC_URL=https://mirror.example\n",
        "export OTHER='two words'  # why\n",
        'LONG="over\ntwo lines"\n',
        "NAME=old\n",
        "export NAME='older'\n",
        "NAME_FILE=secret\n",
        "no assignment\n",
    ]
)


@given(lines=st.lists(LINES, max_size=8), cut=st.booleans())
@settings(suppress_health_check=[HealthCheck.too_slow])
@example(lines=["NAME=old\n"], cut=True)
def test_every_other_line_stays_where_it_was(*, lines: list[str], cut: bool) -> None:
    before = "".join(lines)
    before = before.removesuffix("\n") if cut else before
    after = merged(before, {"NAME": "new"}, dropped=frozenset({"NAME_FILE"}))
    others = [line for line in lines if not line.removeprefix("export ").startswith("NAME")]
    assert after.replace("NAME=new\n", "").rstrip("\n") == "".join(others).rstrip("\n")
    assert after.count("NAME=new\n") == 1
    assert merged(after, {"NAME": "new"}, dropped=frozenset({"NAME_FILE"})) == after
