"""Local days, by zoneinfo."""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.mirror.days import local_days, zone_named

SYDNEY = ZoneInfo("Australia/Sydney")
HOUR = timedelta(hours=1)


def lasting(zone: ZoneInfo, day: date) -> timedelta:
    (one,) = local_days(zone, day, day)
    return one.ends_at - one.begins_at


def test_a_day_in_sydney_begins_on_the_evening_before_in_utc() -> None:
    (one,) = local_days(SYDNEY, date(2026, 11, 24), date(2026, 11, 24))
    assert one.begins_at == datetime(2026, 11, 23, 13, tzinfo=UTC)
    assert one.ends_at == datetime(2026, 11, 24, 13, tzinfo=UTC)
    assert (one.begins_at.tzinfo, one.ends_at.tzinfo) == (UTC, UTC)


def test_the_day_on_which_clocks_go_forward_has_23_hours_and_the_other_25() -> None:
    assert lasting(SYDNEY, date(2026, 10, 4)) == 23 * HOUR
    assert lasting(SYDNEY, date(2026, 10, 5)) == 24 * HOUR
    assert lasting(SYDNEY, date(2027, 4, 4)) == 25 * HOUR


def test_where_clocks_skip_midnight_the_day_begins_when_they_do() -> None:
    (one,) = local_days(ZoneInfo("Africa/Cairo"), date(2026, 4, 24), date(2026, 4, 24))
    assert one.begins_at == datetime(2026, 4, 23, 22, tzinfo=UTC)
    assert one.ends_at - one.begins_at == 23 * HOUR


def test_a_day_that_a_zone_left_out_is_left_out() -> None:
    days = list(local_days(ZoneInfo("Pacific/Apia"), date(2011, 12, 29), date(2011, 12, 31)))
    assert [one.day.day for one in days] == [29, 31]
    assert days[0].ends_at == days[1].begins_at


@given(st.sampled_from(sorted(available_timezones())), st.dates(date(2000, 1, 1), date(2040, 1, 1)))
def test_days_follow_each_other_without_gap_in_every_zone(name: str, first: date) -> None:
    days = list(local_days(ZoneInfo(name), first, first + timedelta(days=400)))
    assert all(one.ends_at == following.begins_at for one, following in pairwise(days))
    assert all(one.begins_at.astimezone(ZoneInfo(name)).date() == one.day for one in days)


@pytest.mark.parametrize("name", [None, "", "Nowhere/City", "Australia", "/etc/passwd", "../Sydney", "a\0b"])
def test_a_zone_that_is_not_known_is_none(name: str | None) -> None:
    assert zone_named(name) is None
