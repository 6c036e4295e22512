from typing import Literal

import pytest

from sync.sandbox.limit import Limit


def test_a_fixed_window_is_a_minute_of_the_clock() -> None:
    limit = Limit()

    assert [limit.reset_at("ours", 3, "fixed", 118 + second) for second in range(6)] == [None] * 5 + [180.0]
    assert limit.reset_at("ours", 3, "fixed", 180) is None


def test_a_sliding_window_is_any_sixty_seconds() -> None:
    limit = Limit()

    assert [limit.reset_at("ours", 3, "sliding", 118 + second) for second in range(4)] == [None] * 3 + [178.0]
    assert limit.reset_at("ours", 3, "sliding", 177.9) == 178.0
    assert limit.reset_at("ours", 3, "sliding", 178) is None
    assert limit.reset_at("ours", 3, "sliding", 178) == 179.0


@pytest.mark.parametrize("window", ["fixed", "sliding"])
def test_each_application_has_a_limit_of_its_own(window: Literal["fixed", "sliding"]) -> None:
    limit = Limit()

    assert limit.reset_at("ours", 1, window, 10) is None
    assert limit.reset_at("theirs", 1, window, 10) is None
    assert limit.reset_at("ours", 1, window, 11) is not None


def test_refused_calls_do_not_count() -> None:
    limit = Limit()
    for _ in range(100):
        limit.reset_at("ours", 2, "sliding", 10)

    assert [limit.reset_at("ours", 2, "sliding", 70) for _ in range(3)] == [None, None, 130.0]
