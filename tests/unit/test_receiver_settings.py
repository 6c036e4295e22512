from pathlib import Path

import pytest

from receiver.database import Server, inbox_of
from receiver.errors import SettingsError
from receiver.settings import ReceiverSettings

NAMES = (
    "MIRROR_DATA_DIR",
    "DATABASE_URL",
    "KOUNTA_COMPANY_ID",
    "KOUNTA_SIGNATURE_TOKENS",
    "KOUNTA_SIGNATURE_TOKENS_FILE",
    "MIRROR_QUEUE_LIMIT",
)


@pytest.fixture(autouse=True)
def working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory, and an environment with a company and a token."""
    monkeypatch.chdir(tmp_path)
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KOUNTA_COMPANY_ID", "5678")
    monkeypatch.setenv("KOUNTA_SIGNATURE_TOKENS", "token")
    return tmp_path


def test_two_variables_are_enough(working_directory: Path) -> None:
    settings = ReceiverSettings.load()
    assert settings.tokens() == {5678: (b"token",)}
    assert settings.data_dir == working_directory / "data"
    assert settings.queue_limit == 10_000


def test_tokens_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KOUNTA_SIGNATURE_TOKENS", " old, new ,")
    assert ReceiverSettings.load().tokens() == {5678: (b"old", b"new")}


def test_dotenv_gives_what_the_environment_does_not(
    working_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KOUNTA_SIGNATURE_TOKENS")
    (working_directory / ".env").write_text(
        "KOUNTA_COMPANY_ID=1\nKOUNTA_SIGNATURE_TOKENS=filed\nMIRROR_DATA_DIR=elsewhere\nNOT_OURS=1\n"
    )
    settings = ReceiverSettings.load()
    assert settings.tokens() == {5678: (b"filed",)}
    assert settings.data_dir == working_directory / "elsewhere"


def test_a_secret_may_come_from_a_file(working_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (working_directory / "secret").write_text("from a file\n")
    monkeypatch.delenv("KOUNTA_SIGNATURE_TOKENS")
    monkeypatch.setenv("KOUNTA_SIGNATURE_TOKENS_FILE", "secret")
    assert ReceiverSettings.load().tokens() == {5678: (b"from a file",)}


def test_a_secret_set_twice_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KOUNTA_SIGNATURE_TOKENS_FILE", "secret")
    with pytest.raises(SettingsError, match="KOUNTA_SIGNATURE_TOKENS and KOUNTA_SIGNATURE_TOKENS_FILE"):
        ReceiverSettings.load()


def test_a_secret_file_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KOUNTA_SIGNATURE_TOKENS")
    monkeypatch.setenv("KOUNTA_SIGNATURE_TOKENS_FILE", "nowhere")
    with pytest.raises(SettingsError, match="KOUNTA_SIGNATURE_TOKENS_FILE names nowhere"):
        ReceiverSettings.load()


@pytest.mark.parametrize("name", ["KOUNTA_COMPANY_ID", "KOUNTA_SIGNATURE_TOKENS"])
@pytest.mark.parametrize("value", [None, ""])
def test_a_missing_setting_is_named(name: str, value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if value is None:
        monkeypatch.delenv(name)
    else:
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=f"^{name} is not set") as caught:
        ReceiverSettings.load()
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KOUNTA_COMPANY_ID", "abc"),
        ("KOUNTA_COMPANY_ID", "0"),
        ("KOUNTA_COMPANY_ID", "-5"),
        ("KOUNTA_COMPANY_ID", "5678.0"),
        ("KOUNTA_COMPANY_ID", "5_678"),
        ("KOUNTA_COMPANY_ID", "+5678"),
        ("KOUNTA_COMPANY_ID", "9223372036854775808"),
        ("KOUNTA_COMPANY_ID", "5678\n9"),
        ("MIRROR_QUEUE_LIMIT", "0"),
        ("MIRROR_QUEUE_LIMIT", "many"),
    ],
)
def test_a_wrong_setting_is_named_with_its_value_in_one_line(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        ReceiverSettings.load()
    sentence = str(caught.value)
    assert sentence.startswith(f"{name} cannot be {value!r}")
    assert "\n" not in sentence


def test_with_a_url_both_stores_lie_in_postgresql_and_its_password_is_shown_nowhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://mirror:hunter2@localhost/mirror")
    settings = ReceiverSettings.load()
    assert settings.place == Server(settings.data_dir, "postgresql://mirror:hunter2@localhost/mirror")
    assert "hunter2" not in repr(settings) + repr(settings.place) + str(inbox_of(settings.place))
    assert str(inbox_of(settings.place)) == "the schema inbox of localhost/mirror"


@pytest.mark.parametrize("url", ["mysql://mirror:hunter2@localhost/mirror", "hunter2", "postgresql:/hunter2"])
def test_a_url_that_is_none_of_postgresql_is_refused_without_showing_it(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    with pytest.raises(SettingsError, match=r"DATABASE_URL.*postgresql://") as caught:
        ReceiverSettings.load()
    assert "hunter2" not in str(caught.value)


def test_no_token_is_shown_where_settings_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KOUNTA_SIGNATURE_TOKENS", "hunter2")
    settings = ReceiverSettings.load()
    assert "hunter2" not in repr(settings) + str(settings) + settings.model_dump_json()
