"""The plots of the last day: what is drawn of samples, and what is not."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.console.pages.plots import DAY, HEIGHT, WIDTH, plot_of
from tests.clock import NOON

MINUTE = timedelta(minutes=1)


def corners(path: str) -> list[tuple[float, float]]:
    """Give the corners of a line."""
    parts = path.replace("M", "L").split("L")[1:]
    return [(float(x), float(y)) for x, y in (part.split() for part in parts)]


def test_nothing_is_drawn_of_nothing() -> None:
    plot = plot_of([], NOON)
    assert (plot.line, plot.area, plot.newest, plot.highest_at) == ("", "", None, None)


def test_a_day_goes_from_left_to_right_and_the_highest_touches_the_top() -> None:
    points = [(NOON - DAY + number * MINUTE, float(number == 700)) for number in range(1441)]
    plot = plot_of(points, NOON)
    line = corners(plot.line)
    assert line[0][0] == 0
    assert line[-1][0] == pytest.approx(WIDTH, abs=3)
    assert min(y for _, y in line) == 2
    assert (plot.highest, plot.highest_at) == (1, NOON - DAY + 700 * MINUTE)
    assert plot.newest == 0
    assert plot.line.count("M") == 1


def test_what_lasted_a_minute_is_seen() -> None:
    points = [(NOON - number * MINUTE, 0.0) for number in range(1440, 0, -1)]
    points[333] = (points[333][0], 50.0)
    assert min(y for _, y in corners(plot_of(points, NOON).line)) == 2


def test_while_nobody_sampled_there_is_no_line() -> None:
    points = [(NOON - number * MINUTE, 5.0) for number in range(1440, 0, -1) if not 400 < number < 800]
    plot = plot_of(points, NOON)
    assert plot.line.count("M") == 2
    assert plot.area.count("Z") == 2


def test_what_is_older_than_a_day_is_left_out() -> None:
    plot = plot_of([(NOON - 2 * DAY, 99.0), (NOON - MINUTE, 1.0)], NOON)
    assert plot.highest == 1
    assert len(corners(plot.line)) == 2


@given(
    st.lists(
        st.tuples(
            st.datetimes(datetime(2026, 11, 22), datetime(2026, 11, 25), timezones=st.just(UTC)),  # noqa: DTZ001 - hypothesis wants bounds without a zone
            st.floats(0, 1e9),
        )
    )
)
def test_no_corner_lies_outside_the_box(points: list[tuple[datetime, float]]) -> None:
    plot = plot_of(sorted(points), NOON)
    for x, y in corners(plot.line):
        assert 0 <= x <= WIDTH + 2
        assert 0 <= y <= HEIGHT
