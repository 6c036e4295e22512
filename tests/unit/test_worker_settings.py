"""What a wrong setting of the worker's is told, and what is never repeated."""

from pathlib import Path

import pytest

from receiver.errors import SettingsError
from sync.settings import ProcessSettings, WorkerSettings


@pytest.fixture(autouse=True)
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty directory, and an environment with a company and credentials."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KOUNTA_COMPANY_ID", "5678")
    monkeypatch.setenv("KOUNTA_CLIENT_ID", "shop")
    monkeypatch.setenv("KOUNTA_CLIENT_SECRET", "s3cret")


@pytest.mark.parametrize(
    "name", ["MIRROR_PUBLIC_URL", "KOUNTA_AUTHORIZE_URL", "MIRROR_ALERT_URL", "MIRROR_HEARTBEAT_URL"]
)
@pytest.mark.parametrize(
    "value",
    [
        "https://me:hunter2@mirror.example.com:99999999",
        "ftp://me:hunter2@mirror.example.com",
        "me:hunter2@mirror.example.com",
        "https://me:hunter2/x@mirror.example.com",
        "mirror.example.com?token=hunter2",
        "https:#hunter2",
    ],
)
def test_an_address_that_may_hold_a_password_is_not_repeated(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=f"^{name} cannot be used: ") as caught:
        WorkerSettings.load()
    assert "hunter2" not in str(caught.value)


def test_an_address_that_holds_none_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIRROR_PUBLIC_URL", "mirror.example.com")
    with pytest.raises(SettingsError, match=r"^MIRROR_PUBLIC_URL cannot be 'mirror.example.com': it should"):
        WorkerSettings.load()


def test_the_addresses_of_those_who_watch_may_be_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIRROR_HEARTBEAT_URL", "https://watch.example.com/hunter2")
    kept = tmp_path / "alert_url"
    kept.write_text("https://watch.example.com/alerts?token=hunter2\n")
    monkeypatch.setenv("MIRROR_ALERT_URL_FILE", str(kept))
    settings = WorkerSettings.load()
    assert "hunter2" not in repr(settings)
    assert settings.alert_url is not None
    assert settings.alert_url.get_secret_value() == "https://watch.example.com/alerts?token=hunter2"


def test_a_key_that_is_short_is_refused_without_showing_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIRROR_SECRET_KEY", "hunter2")
    with pytest.raises(SettingsError, match=r"^MIRROR_SECRET_KEY cannot be used: .* 32 characters") as caught:
        WorkerSettings.load()
    assert "hunter2" not in str(caught.value)


def test_off_loopback_a_short_password_of_the_console_is_refused_without_showing_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MIRROR_CONSOLE_PASSWORD", "hunter2-hun")
    assert ProcessSettings.load().console_host == "127.0.0.1"
    monkeypatch.setenv("MIRROR_CONSOLE_HOST", "10.0.0.7")
    with pytest.raises(SettingsError, match=r"^MIRROR_CONSOLE_HOST cannot be .* 12 characters") as caught:
        ProcessSettings.load()
    assert "hunter2" not in str(caught.value)
    monkeypatch.setenv("MIRROR_CONSOLE_PASSWORD", "hunter2-hunt")
    assert ProcessSettings.load().console_host == "10.0.0.7"
