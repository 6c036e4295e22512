"""What a process that runs sees of mirror.toml: each change once, and never a half one."""

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from receiver.errors import SettingsError
from receiver.following import Change, Companies
from receiver.settings import ReceiverSettings

ONE = '[companies.1]\nsignature_tokens_file = "one"\n'
TWO = ONE + '[companies.2]\nsignature_tokens_env = "TOKENS_OF_2"\n'


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with one company in it."""
    monkeypatch.chdir(tmp_path)
    for name in ("KOUNTA_COMPANY_ID", "KOUNTA_SIGNATURE_TOKENS", "MIRROR_CONFIG", "MIRROR_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "one").write_text("token")
    (tmp_path / ".env").write_text("TOKENS_OF_2=token-2\n")
    (tmp_path / "mirror.toml").write_text(ONE)
    return tmp_path


def settled(companies: Companies[ReceiverSettings]) -> Change[ReceiverSettings] | None:
    """Look until the files, which nobody writes any more, are found alike."""
    for _ in range(4):
        change = companies.look()
        if change is not None:
            return change
    return None


def told(change: Change[ReceiverSettings] | None) -> dict[str, tuple[int, ...]]:
    assert change is not None
    return {"added": change.added, "gone": change.gone, "changed": change.changed}


def tokens(settings: Mapping[int, ReceiverSettings]) -> dict[int, tuple[bytes, ...]]:
    return {id_: one.tokens()[id_] for id_, one in settings.items()}


def test_nothing_has_changed_while_nothing_does(place: Path) -> None:
    companies = Companies(ReceiverSettings)
    assert [companies.look() for _ in range(5)] == [None] * 5
    assert tokens(companies.settings) == {1: (b"token",)}


def test_a_company_is_added_and_goes_again(place: Path) -> None:
    companies = Companies(ReceiverSettings)
    (place / "mirror.toml").write_text(TWO)
    with capture_logs() as log:
        assert told(settled(companies)) == {"added": (2,), "gone": (), "changed": ()}
    assert tokens(companies.settings) == {1: (b"token",), 2: (b"token-2",)}
    assert log == [
        {
            "event": "The companies have changed: 2 added.",
            "action": "companies_changed",
            "log_level": "info",
            "added": [2],
            "gone": [],
            "changed": [],
        }
    ]
    (place / "mirror.toml").write_text(ONE)
    assert told(settled(companies)) == {"added": (), "gone": (2,), "changed": ()}
    assert list(companies.settings) == [1]


def test_a_token_is_rotated_in_its_file(place: Path) -> None:
    companies = Companies(ReceiverSettings)
    (place / "one").write_text("token,next")
    assert told(settled(companies)) == {"added": (), "gone": (), "changed": (1,)}
    assert tokens(companies.settings) == {1: (b"token", b"next")}


def test_a_token_is_rotated_in_dotenv(place: Path) -> None:
    (place / "mirror.toml").write_text(TWO)
    companies = Companies(ReceiverSettings)
    (place / ".env").write_text("TOKENS_OF_2=next\n")
    assert told(settled(companies)) == {"added": (), "gone": (), "changed": (2,)}


def test_a_change_that_changes_no_setting_is_none(place: Path) -> None:
    companies = Companies(ReceiverSettings)
    (place / "mirror.toml").write_text(f"# a remark\n{ONE}")
    with capture_logs() as log:
        assert settled(companies) is None
    assert log == []


def test_a_file_that_is_still_being_written_is_waited_for(place: Path) -> None:
    (place / "mirror.toml").write_text(TWO)
    companies = Companies(ReceiverSettings)
    settled(companies)
    for size in range(len(TWO)):  # some beginnings are whole files that lack a company
        (place / "mirror.toml").write_text(TWO[:size])
        assert companies.look() is None
    (place / "mirror.toml").write_text(f"{TWO}\n")
    assert settled(companies) is None
    assert list(companies.settings) == [1, 2]
    assert companies.complaint is None


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[companies.", "The file mirror.toml is not TOML: "),
        (
            ONE + "[companies.2]\n",
            "In mirror.toml, company 2: signature_tokens_env or signature_tokens_file is",
        ),
        (
            ONE.replace("one", "two"),
            "In mirror.toml, company 1: signature_tokens_file names two, which cannot",
        ),
        (None, "The file mirror.toml is gone: put it back, or start again without it."),
    ],
)
def test_what_is_wrong_is_told_once_and_what_was_right_stays(
    text: str | None, complaint: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    companies = Companies(ReceiverSettings)
    before = companies.settings
    if text is None:
        monkeypatch.setenv("KOUNTA_COMPANY_ID", "7")
        monkeypatch.setenv("KOUNTA_SIGNATURE_TOKENS", "of-7")
        (place / "mirror.toml").unlink()
    else:
        (place / "mirror.toml").write_text(text)
    with capture_logs() as log:
        assert settled(companies) is None
        assert settled(companies) is None
    assert companies.settings == before
    assert companies.complaint is not None
    assert companies.complaint.startswith(complaint)
    (line,) = log
    assert line["event"] == f"{companies.complaint} The companies stay as they were."
    assert (line["action"], line["log_level"]) == ("companies_refused", "error")

    monkeypatch.delenv("KOUNTA_COMPANY_ID", raising=False)
    (place / "mirror.toml").write_text(TWO)
    with capture_logs() as log:
        assert told(settled(companies))["added"] == (2,)
    assert [line["action"] for line in log] == ["companies_accepted", "companies_changed"]
    assert companies.complaint is None


def test_a_secret_s_file_that_was_missing_is_taken_up_when_it_comes(place: Path) -> None:
    companies = Companies(ReceiverSettings)
    (place / "mirror.toml").write_text(ONE.replace("one", "two"))
    assert settled(companies) is None
    (place / "two").write_text("of two")
    assert told(settled(companies))["changed"] == (1,)
    assert tokens(companies.settings) == {1: (b"of two",)}


def test_a_file_that_is_put_in_place_with_the_old_time_and_size_is_seen(place: Path) -> None:
    companies = Companies(ReceiverSettings)
    settled(companies)
    old = (place / "one").stat()
    (place / "new").write_text("nekot")
    os.utime(place / "new", ns=(old.st_atime_ns, old.st_mtime_ns))
    (place / "new").rename(place / "one")
    assert told(settled(companies))["changed"] == (1,)


def test_a_change_before_the_first_look_is_seen(place: Path) -> None:
    companies = Companies(ReceiverSettings)
    (place / "one").write_text("later")
    settled(companies)
    assert tokens(companies.settings) == {1: (b"later",)}


def test_what_all_companies_share_is_as_it_was_at_the_start(place: Path) -> None:
    companies = Companies(ReceiverSettings)
    (place / ".env").write_text("MIRROR_DATA_DIR=elsewhere\nMIRROR_QUEUE_LIMIT=3\nTOKENS_OF_2=token-2\n")
    (place / "mirror.toml").write_text(TWO)
    assert told(settled(companies)) == {"added": (2,), "gone": (), "changed": ()}
    assert {one.data_dir for one in companies.settings.values()} == {place / "data"}
    assert {one.queue_limit for one in companies.settings.values()} == {10_000}


def test_a_file_that_comes_later_is_taken_up(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "mirror.toml").unlink()
    monkeypatch.setenv("KOUNTA_COMPANY_ID", "1")
    monkeypatch.setenv("KOUNTA_SIGNATURE_TOKENS", "token")
    companies = Companies(ReceiverSettings)
    assert tokens(companies.settings) == {1: (b"token",)}
    (place / "mirror.toml").write_text(TWO)
    assert told(settled(companies)) == {"added": (2,), "gone": (), "changed": ()}


def test_without_the_file_dotenv_is_read_at_the_start_alone(place: Path) -> None:
    (place / "mirror.toml").unlink()
    (place / ".env").write_text("KOUNTA_COMPANY_ID=1\nKOUNTA_SIGNATURE_TOKENS=token\n")
    companies = Companies(ReceiverSettings)
    (place / ".env").write_text("KOUNTA_COMPANY_ID=2\nKOUNTA_SIGNATURE_TOKENS=token\n")
    assert settled(companies) is None


def test_one_company_alone_can_be_followed(place: Path) -> None:
    (place / "mirror.toml").write_text(TWO)
    companies = Companies(ReceiverSettings, 2)
    assert list(companies.settings) == [2]
    (place / "one").write_text("next")
    assert settled(companies) is None
    (place / "mirror.toml").write_text(ONE)
    assert settled(companies) is None
    assert companies.complaint == "Company 2 is not in mirror.toml, which has 1."


def test_what_is_wrong_at_the_start_is_raised(place: Path) -> None:
    (place / "mirror.toml").write_text("")
    with pytest.raises(SettingsError, match=r"^In mirror\.toml: no company is named"):
        Companies(ReceiverSettings)


async def test_changes_come_as_they_are_made(place: Path) -> None:
    companies = Companies(ReceiverSettings, look_seconds=0.001)
    changes = companies.changes()
    async with asyncio.timeout(10):
        for text, expected in ((TWO, (2,)), (ONE, ()), (TWO, (2,))):
            (place / "mirror.toml").write_text(text)
            assert (await anext(changes)).added == expected
    await changes.aclose()
