"""`doctor` finds files with secrets and people's data that others may read or write."""

from pathlib import Path

import pytest

from receiver.settings import ReceiverSettings, secret_files
from sync.doctor.finding import Finding
from sync.doctor.modes import of_modes
from sync.settings import ProcessSettings


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """An installation in which all is closed."""
    data = tmp_path / "data"
    data.mkdir()
    data.chmod(0o750)
    for name, mode in (
        (".env", 0o600),
        ("secret", 0o440),
        ("data/mirror.db", 0o644),
        ("data/inbox.db", 0o644),
    ):
        (tmp_path / name).touch()
        (tmp_path / name).chmod(mode)
    return tmp_path


def looked(house: Path) -> list[Finding]:
    return list(of_modes(house / "data", {house / ".env": "secrets"}, [house / "secret", house / "missing"]))


def test_all_is_closed(house: Path) -> None:
    (found,) = looked(house)
    assert found.outcome == "ok"


@pytest.mark.parametrize(
    ("name", "mode", "action"),
    [
        (".env", 0o640, "chmod 600"),
        (".env", 0o604, "chmod 600"),
        ("secret", 0o444, "chmod o-rwx,g-w"),
        ("secret", 0o460, "chmod o-rwx,g-w"),
        ("data/mirror.db", 0o664, "chmod o-rwx,g-w"),
        ("data/inbox.db", 0o646, "chmod o-rwx,g-w"),
    ],
)
def test_what_is_open_is_named_with_what_to_do(house: Path, name: str, mode: int, action: str) -> None:
    (house / name).chmod(mode)
    (found,) = looked(house)
    assert found.outcome == "warning"
    assert f"{house / name} is open to others ({mode:04o})" in found.sentence
    assert found.action == f"{action} {house / name}"


def test_a_directory_that_lets_others_in_makes_readable_files_open(house: Path) -> None:
    (house / "data").chmod(0o755)
    assert [one.outcome for one in looked(house)] == ["warning", "warning"]


def test_files_of_secrets_are_those_that_settings_and_mirror_toml_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KOUNTA_CLIENT_SECRET_FILE", "/run/secrets/client")
    monkeypatch.setenv("KOUNTA_COMPANY_ID_FILE", "/not/a/secret")
    (tmp_path / ".env").write_text("KOUNTA_SIGNATURE_TOKENS_FILE=token\n")
    (tmp_path / "mirror.toml").write_text('[companies.7]\nclient_secret_file = "of-7"\n')
    assert secret_files(ReceiverSettings, ProcessSettings) == {
        Path("/run/secrets/client"),
        Path("token"),
        Path("of-7"),
    }
