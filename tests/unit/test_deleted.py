import pytest

from sync.merge.deleted import says_deleted


@pytest.mark.parametrize("value", [True, 1, 1.0, "1", "true", "TRUE", " true "])
@pytest.mark.parametrize("name", ["deleted", "is_deleted"])
def test_a_flag_says_deleted(name: str, value: object) -> None:
    assert says_deleted({name: value})


@pytest.mark.parametrize(
    "value",
    [
        "2026-11-24T12:00:00+00:00",
        "2026-11-24 12:00:00",
        "2026-11-24",
        1_764_000_000,
        1_764_000_000.5,
        "1764000000",
        "1970-01-02",
    ],
)
def test_a_time_says_deleted(value: object) -> None:
    assert says_deleted({"deleted_at": value})


@pytest.mark.parametrize("value", [False, 0, 0.0, "0", "", " ", None, [], {}])
@pytest.mark.parametrize("name", ["deleted", "is_deleted", "deleted_at"])
def test_an_empty_value_says_no(name: str, value: object) -> None:
    assert not says_deleted({name: value})


@pytest.mark.parametrize(
    "value",
    [
        "0000-00-00",
        "0000-00-00 00:00:00",
        "0000-00-00T00:00:00+00:00",
        "0000-00-00T00:00:00Z",
        "1970-01-01",
        "1970-01-01T00:00:00Z",
        "1970-01-01T10:00:00+10:00",
        "0.0",
    ],
)
def test_a_zero_time_says_no(value: object) -> None:
    assert not says_deleted({"deleted_at": value})


@pytest.mark.parametrize("value", ["yes", "false", 2, -1, [1], {"at": 1}, "no", float("nan")])
def test_what_cannot_be_read_is_no_evidence(value: object) -> None:
    assert not says_deleted({"deleted": value})


@pytest.mark.parametrize("value", ["yesterday", True, [1], {"date": "2026-11-24"}, float("nan"), "never", -5])
def test_a_time_that_cannot_be_read_is_no_evidence(value: object) -> None:
    assert not says_deleted({"deleted_at": value})


def test_a_customer_without_such_fields_is_there() -> None:
    assert not says_deleted(None)
    assert not says_deleted({"undeleted": True, "deleted_by": "Jamie"})
