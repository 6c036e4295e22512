from dataclasses import fields

import pytest

from sync.sandbox import Faults, OptionError, Sandbox, Settings
from sync.sandbox.settings import change


def test_all_faults_are_off_by_default() -> None:
    faults = Faults()

    shares = ("lost", "doubled", "disordered", "delayed", "garbled", "badly_signed", "too_many")
    assert all(getattr(faults, name) == 0 for name in shares)
    assert faults.delivery_retries == 0
    assert faults.lost_access == "no"


def test_a_change_sets_what_is_named_and_leaves_the_rest() -> None:
    faults = Faults(lost=0.5)

    change(faults, {"doubled": 0.25, "only_calls": ["list", "get"]})

    assert (faults.lost, faults.doubled, faults.only_calls) == (0.5, 0.25, ("list", "get"))


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"lost": 1.5}, "lost should be a number from 0 to 1, not 1.5."),
        ({"lost": -0.1}, "lost should be a number from 0 to 1, not -0.1."),
        ({"lost": float("nan")}, "lost should be a number from 0 to 1, not nan."),
        ({"hang_seconds": 3601}, "hang_seconds should be a number from 0 to 3600, not 3601.0."),
        ({"lost": "often"}, "lost should be a valid number, not 'often'."),
        ({"stamps": "never"}, "stamps should be 'change', 'departure' or 'absent', not 'never'."),
        ({"only_calls": ["lists"]}, "only_calls.0 should be 'list', 'get', 'find'"),
        ({"lots": 0.5}, "There is no 'lots' among the faults; there are lost, doubled"),
    ],
)
def test_what_cannot_be_is_refused_with_a_sentence_and_nothing_changes(
    values: dict[str, object], sentence: str
) -> None:
    faults = Faults()

    with pytest.raises(OptionError) as error:
        change(faults, {"doubled": 0.5, **values})

    assert str(error.value).startswith(sentence)
    assert faults == Faults()


def test_a_sandbox_checks_its_options() -> None:
    with pytest.raises(
        OptionError, match=r"requests_per_minute should be a number from 1 to 1000000000, not 0\."
    ):
        Sandbox(Settings(requests_per_minute=0))


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"client_secret": ""}, "client_secret should be a text that is not empty, not ''."),
        (
            {"other_applications": ("a:b",)},
            "other_applications should be CLIENT_ID:CLIENT_SECRET:SIGNATURE_TOKEN, not 'a:b'.",
        ),
        ({"page_base": 2}, "page_base should be 0 or 1, not 2."),
    ],
)
def test_settings_are_checked_too(values: dict[str, object], sentence: str) -> None:
    with pytest.raises(OptionError) as error:
        change(Settings(), values)

    assert str(error.value) == sentence


def test_every_option_is_in_the_reference(reference: str) -> None:
    options = [field.name.replace("_", "-") for kind in (Settings, Faults) for field in fields(kind)]

    assert [name for name in options if f"`--{name}`" not in reference] == []


@pytest.fixture
def reference(pytestconfig: pytest.Config) -> str:
    return (pytestconfig.rootpath / "docs" / "reference" / "sandbox.md").read_text()
