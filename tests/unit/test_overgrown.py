"""When the writer of a file waits for readers, so that the log can begin anew."""

from pathlib import Path

import pytest

from receiver.sqlite import BUSY_SECONDS
from sync.mirror.overgrown import LARGE_BYTES, Overgrown


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "mirror.db-wal"


def grown(log: Path, size: int) -> None:
    with log.open("wb") as file:
        file.truncate(size)


def test_nobody_is_waited_for_while_the_log_is_small_or_not_there(log: Path) -> None:
    overgrown = Overgrown(log.with_name("mirror.db"))
    assert overgrown.seconds_to_wait() == 0
    grown(log, LARGE_BYTES)
    assert overgrown.seconds_to_wait() == 0


def test_readers_are_waited_for_once_for_each_large_log_and_longer_each_time(log: Path) -> None:
    overgrown = Overgrown(log.with_name("mirror.db"))
    waited = []
    for part in range(1, 8):
        grown(log, part * (LARGE_BYTES + 1))
        waited.append(overgrown.seconds_to_wait())
        assert overgrown.seconds_to_wait() == 0
    assert [round(seconds) for seconds in waited] == [1, 2, 3, 4, 5, 5, 5]
    assert max(waited) == BUSY_SECONDS


def test_it_is_as_at_first_once_the_log_began_anew_or_is_small_again(log: Path) -> None:
    overgrown = Overgrown(log.with_name("mirror.db"))
    grown(log, 2 * LARGE_BYTES)
    assert overgrown.seconds_to_wait() > 0
    overgrown.begins_anew()
    assert overgrown.seconds_to_wait() > 0
    grown(log, LARGE_BYTES // 2)
    assert overgrown.seconds_to_wait() == 0
    grown(log, LARGE_BYTES + 1)
    assert overgrown.seconds_to_wait() > 0
