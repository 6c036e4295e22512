"""`mirror.toml`: whose settings come from where, and what each mistake in it is told."""

from pathlib import Path

import pytest

from receiver.companies import OF_THE_INSTALLATION, PLAIN, SECRETS
from receiver.errors import SettingsError
from receiver.settings import ReceiverSettings, Settings, companies
from sync.settings import MirrorSettings, PingSettings, ProcessSettings, WorkerSettings

TWO = """
[companies.20]
client_id = "twenty"
client_secret_env = "SECRET_OF_20"
signature_tokens_file = "secrets/20"
attributes = ["name", "email"]
requests_per_minute = 90
hold_deletes = 7
read_only = true

[companies.3]
client_secret_env = "SECRET_OF_3"
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory, and an environment with what the companies share."""
    for name in ("KOUNTA_COMPANY_ID", "KOUNTA_CLIENT_SECRET", "MIRROR_CONFIG", "MIRROR_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KOUNTA_CLIENT_ID", "shared")
    monkeypatch.setenv("KOUNTA_SIGNATURE_TOKENS", "shared-token")
    monkeypatch.setenv("SECRET_OF_20", "hunter20")
    monkeypatch.setenv("SECRET_OF_3", "hunter3")
    return tmp_path


@pytest.fixture
def two(place: Path) -> Path:
    """Two companies."""
    (place / "secrets").mkdir()
    (place / "secrets/20").write_text("old, new\n")
    (place / "mirror.toml").write_text(TWO)
    return place


def complaint(text: str, place: Path, settings: type[Settings] = WorkerSettings) -> str:
    """Give what is said about a mirror.toml."""
    (place / "mirror.toml").write_text(text)
    with pytest.raises(SettingsError) as caught:
        settings.load_all()
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_a_table_says_what_is_a_company_s_own(two: Path) -> None:
    settings = WorkerSettings.load(20)
    assert (settings.company_id, settings.client_id) == (20, "twenty")
    assert settings.client_secret.get_secret_value() == "hunter20"
    assert settings.attributes == ("name", "email")
    assert settings.requests_per_minute == 90
    assert settings.hold_deletes == "7"
    assert settings.read_only
    assert ReceiverSettings.load(20).tokens() == {20: (b"old", b"new")}


def test_what_a_table_does_not_say_comes_from_the_environment_and_dotenv(two: Path) -> None:
    (two / ".env").write_text("MIRROR_SWEEP_SECONDS=60\nMIRROR_DATA_DIR=elsewhere\n")
    settings = WorkerSettings.load(3)
    assert (settings.client_id, settings.sweep_seconds) == ("shared", 60)
    assert settings.data_dir == two / "elsewhere"
    assert ReceiverSettings.load(3).tokens() == {3: (b"shared-token",)}


def test_a_secret_s_variable_may_stand_in_dotenv(two: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SECRET_OF_3")
    (two / ".env").write_text("SECRET_OF_3=filed\n")
    assert WorkerSettings.load(3).client_secret.get_secret_value() == "filed"


def test_all_companies_come_in_the_order_of_their_ids(two: Path) -> None:
    assert companies() == (3, 20)
    assert list(MirrorSettings.load_all()) == [3, 20]


def test_without_the_file_there_is_the_company_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KOUNTA_COMPANY_ID", "5678")
    assert companies() == (5678,)
    assert list(ReceiverSettings.load_all()) == [5678]
    assert ReceiverSettings.load(5678) == ReceiverSettings.load()
    with pytest.raises(SettingsError) as caught:
        ReceiverSettings.load(9)
    assert str(caught.value) == "Company 9 is not configured here: KOUNTA_COMPANY_ID is 5678."


def test_the_only_company_of_the_file_needs_no_choice(place: Path) -> None:
    (place / "mirror.toml").write_text("[companies.9]\n")
    assert Settings.load().company_id == 9


def test_several_companies_need_a_choice(two: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        MirrorSettings.load()
    assert str(caught.value) == "Several companies are configured (3, 20): say which with --company ID."


def test_the_company_of_the_environment_is_the_default(two: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KOUNTA_COMPANY_ID", "20")
    assert MirrorSettings.load().company_id == 20
    assert MirrorSettings.load(3).company_id == 3


@pytest.mark.parametrize("named", ["4", "x"])
def test_a_default_that_the_file_does_not_have_is_refused(
    named: str, two: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KOUNTA_COMPANY_ID", named)
    for load in (MirrorSettings.load, MirrorSettings.load_all, lambda: MirrorSettings.load(3)):
        with pytest.raises(SettingsError) as caught:
            load()
        assert str(caught.value) == (
            f"KOUNTA_COMPANY_ID is '{named}', which mirror.toml does not have (3, 20): unset it, or name one "
            "of those."
        )


def test_a_company_that_the_file_does_not_have_is_refused(two: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        MirrorSettings.load(4)
    assert str(caught.value) == "Company 4 is not in mirror.toml, which has 3, 20."


def test_another_place_can_be_named_and_secrets_lie_beside_it(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "etc").mkdir()
    (place / "etc/shops.toml").write_text('[companies.7]\nsignature_tokens_file = "token"\n')
    (place / "etc/token").write_text("beside")
    (place / ".env").write_text("MIRROR_CONFIG=etc/shops.toml\n")
    assert ReceiverSettings.load().tokens() == {7: (b"beside",)}
    monkeypatch.setenv("MIRROR_CONFIG", "nowhere.toml")
    with pytest.raises(SettingsError) as caught:
        Settings.load()
    assert str(caught.value) == (
        "MIRROR_CONFIG names nowhere.toml, which cannot be read: No such file or directory."
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[companies.1", "The file mirror.toml is not TOML: Expected ']' at the end of a table"),
        ("", ": no company is named; it holds a table for each company, such as [companies.5678]"),
        ("companies = 1", ": no company is named;"),
        ("[companies]\n1 = 2", ", company 1: it should be a table;"),
        ("[companies.shop]", ": 'shop' is not the id of a company;"),
        ("[companies.07]", ": '07' is not the id of a company;"),
        ("[companies.0]", ": '0' is not the id of a company;"),
        (f"[companies.{2**63}]", f", company {2**63}: id cannot be {2**63}: Input should be less"),
        ("shops = 2\n[companies.1]", ": shops is not known here; it holds a table for each company"),
        ('data_dir = "x"\n[companies.1]', ": data_dir belongs to all companies, not to one: set MIRROR_DATA"),
    ],
)
def test_a_file_of_another_shape_is_told(text: str, sentence: str, place: Path) -> None:
    assert complaint(text, place).startswith(
        f"In mirror.toml{sentence}" if sentence.startswith((":", ",")) else sentence
    )


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        (
            'client_secret = "hunter2"',
            "client_secret is a secret, which this file must not hold: write where",
        ),
        (
            'client_secret_env = "NONE"',
            "client_secret_env names NONE, which is set neither in the environment",
        ),
        ("client_secret_env = true", "client_secret_env should be the name of a variable, as a text in"),
        ('client_secret_file = "none"', "client_secret_file names none, which cannot be read: No such file"),
        ('client_secret_file = "empty"', "client_secret_file names empty, which is empty."),
        ("client_secret_file = 3", "client_secret_file should be the path of a file, as a text in quotes."),
        (
            "",
            "client_secret_env or client_secret_file is not set, and KOUNTA_CLIENT_SECRET is not set either.",
        ),
        ('colour = "red"', "colour is not known here; a table can have api_url, attributes, "),
        ('KOUNTA_API_URL = "x"', "KOUNTA_API_URL is not known here: it is called api_url."),
    ],
)
def test_each_mistake_is_told_with_its_place_and_no_secret(table: str, sentence: str, place: Path) -> None:
    (place / "empty").write_text(" \n")
    said = complaint(f"[companies.1]\n{table}", place)
    assert said.startswith(f"In mirror.toml, company 1: {sentence}")
    assert "hunter" not in said


def test_a_literal_secret_is_told_what_to_write_instead(place: Path) -> None:
    said = complaint('[companies.1]\nrefresh_token = "hunter2"', place)
    assert 'refresh_token_env = "NAME" for a variable or refresh_token_file = "PATH" for a file.' in said


def test_a_secret_in_two_places_is_refused(place: Path) -> None:
    said = complaint('[companies.1]\nclient_secret_env = "A"\nclient_secret_file = "B"', place)
    assert said == (
        "In mirror.toml, company 1: client_secret_env and client_secret_file are both there: "
        "keep one of them."
    )


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (
            "sweep_seconds = -1",
            "sweep_seconds cannot be '-1': Input should be greater than 0. It is the seconds",
        ),
        ("sweep_seconds = true", "sweep_seconds cannot be 'true': Input should be a valid number"),
        ('attributes = ["nose"]', "attributes cannot be ['nose']: "),
        ("attributes = []", "attributes cannot be []: name at least one of "),
        ('public_url = "https://me:hunter2@x"', "public_url cannot be used: it can have a path, but no cred"),
        ("client_id = {}", "client_id cannot be {}: Input should be a valid string."),
    ],
)
def test_a_wrong_value_is_told_by_its_key(line: str, sentence: str, place: Path) -> None:
    said = complaint(f'[companies.1]\nclient_secret_env = "SECRET_OF_3"\n{line}', place)
    assert said.startswith(f"In mirror.toml, company 1: {sentence}")
    assert "hunter" not in said


@pytest.mark.parametrize("name", [*OF_THE_INSTALLATION.values(), *OF_THE_INSTALLATION])
def test_what_all_companies_share_has_no_place_in_a_table(name: str, place: Path) -> None:
    said = complaint(f'[companies.1]\n{name} = "hunter2"', place, MirrorSettings)
    assert said.startswith(f"In mirror.toml, company 1: {name} ")
    assert "belongs to all companies" in said or name.lower().endswith("company_id")
    assert "hunter2" not in said


def test_all_mistakes_are_told_at_once(place: Path) -> None:
    said = complaint("x = 1\n[companies.1]\ny = 1\n[companies.2]\nz = 1", place)
    assert [name for name in ("x is not", "company 1: y is not", "company 2: z is not") if name in said] == [
        "x is not",
        "company 1: y is not",
        "company 2: z is not",
    ]


def test_the_receiver_needs_no_secret_of_the_worker_s(two: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SECRET_OF_20")
    assert set(ReceiverSettings.load_all()) == {3, 20}


def test_every_setting_belongs_to_one_company_or_to_all() -> None:
    fields = {
        name: field.alias
        for settings in (ProcessSettings, PingSettings)
        for name, field in settings.model_fields.items()
    }
    own = {*PLAIN, *SECRETS}
    assert own <= fields.keys()
    assert {name: alias for name, alias in fields.items() if name not in own}.items() <= (
        OF_THE_INSTALLATION.items()
    )
    assert not own & OF_THE_INSTALLATION.keys()
