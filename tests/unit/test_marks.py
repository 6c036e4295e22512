"""Marks of erased people, and the file that keeps them beside the databases."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from receiver.errors import MirrorError
from sync.mirror.erasure import Mark
from sync.mirror.marks import Marker
from sync.mirror.marks_file import MarksFile
from tests.clock import NOON
from tests.people import ANN, BOB, COMPANY, KEY

MARKER = Marker(SecretStr(KEY))


def mark(customer_id: int = ANN, at: datetime = NOON, returned_at: datetime | None = None) -> Mark:
    return Mark(MARKER.mark(COMPANY, customer_id), MARKER.key_id, at, returned_at=returned_at)


def test_a_mark_is_of_one_customer_of_one_company_under_one_key() -> None:
    other = Marker(SecretStr(KEY + "!"))
    marks = [MARKER.mark(1, 23), MARKER.mark(12, 3), MARKER.mark(1, 24), other.mark(1, 23)]
    assert len(set(marks)) == 4
    assert all(re.fullmatch("[0-9a-f]{64}", one) for one in marks)
    assert MARKER.mark(1, 23) == Marker(SecretStr(KEY)).mark(1, 23)
    assert MARKER.key_id != other.key_id


def test_the_file_names_nobody(tmp_path: Path) -> None:
    MarksFile(tmp_path, COMPANY).keep([mark()])
    assert str(ANN) not in (tmp_path / "erased.jsonl").read_text()


def test_the_later_word_about_a_person_holds(tmp_path: Path) -> None:
    file = MarksFile(tmp_path, COMPANY)
    assert file.read() == {}
    erased, returned = mark(), mark(returned_at=NOON + timedelta(minutes=1))
    again = mark(at=NOON + timedelta(minutes=2))
    for said in ([erased], [returned], [erased]):
        file.keep(said)
    assert file.read() == {erased.mark: returned}
    file.keep([again, mark(BOB)])
    assert file.read() == {again.mark: again, mark(BOB).mark: mark(BOB)}


def test_companies_share_the_file(tmp_path: Path) -> None:
    MarksFile(tmp_path, COMPANY).keep([mark()])
    assert MarksFile(tmp_path, 99).read() == {}


def test_a_line_that_was_cut_off_hides_no_other(tmp_path: Path) -> None:
    file = MarksFile(tmp_path, COMPANY)
    file.keep([mark()])
    path = tmp_path / "erased.jsonl"
    path.write_bytes(path.read_bytes() + b'{"company_id": 5678, "ma')
    file.keep([mark(BOB)])
    assert file.read().keys() == {mark().mark, mark(BOB).mark}


def test_a_file_that_cannot_be_written_or_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "erased.jsonl").mkdir()
    file = MarksFile(tmp_path, COMPANY)
    with pytest.raises(MirrorError, match="cannot be written"):
        file.keep([mark()])
    with pytest.raises(MirrorError, match="cannot be read"):
        file.read()


def test_times_are_kept_as_they_are(tmp_path: Path) -> None:
    at = datetime(2026, 11, 24, 12, 0, 0, 123_000, tzinfo=UTC)
    MarksFile(tmp_path, COMPANY).keep([mark(at=at)])
    assert MarksFile(tmp_path, COMPANY).read()[mark().mark].erased_at == at
