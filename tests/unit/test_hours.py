"""Send hours by everybody's own clock, over the nights when clocks are changed, too."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.errors import SubmissionError
from dispatcher.hours import Hours
from dispatcher.zones import moment, wall, zone

OFFICE = Hours.parse("mon-fri 09:00-18:00; sat 10:00-14:00")
ZONES = "Europe/Berlin", "America/New_York", "Asia/Shanghai", "Australia/Lord_Howe", "Pacific/Kiritimati"


def at(text: str, name: str = "UTC") -> float:
    return moment(datetime.fromisoformat(text), name)


def opens(hours: Hours, text: str, name: str) -> str:
    """When mail may go next, by the clock there."""
    return wall(hours.next(at(text, name), name), name).isoformat(timespec="minutes")


@pytest.mark.parametrize(
    ("now", "then"),
    [
        ("2026-11-27T09:00", "2026-11-27T09:00"),  # a Friday
        ("2026-11-27T17:59", "2026-11-27T17:59"),
        ("2026-11-27T18:00", "2026-11-28T10:00"),
        ("2026-11-28T14:00", "2026-11-30T09:00"),
        ("2026-11-29T12:00", "2026-11-30T09:00"),
        ("2026-11-30T08:59", "2026-11-30T09:00"),
    ],
)
def test_mail_waits_for_the_next_hour_at_which_it_may_go(now: str, then: str) -> None:
    assert opens(OFFICE, now, "Asia/Shanghai") == then


def test_hours_over_midnight_are_of_the_day_on_which_they_begin() -> None:
    night = Hours.parse("fri 22:00-02:00")
    assert opens(night, "2026-11-28T01:59", "Europe/Berlin") == "2026-11-28T01:59"
    assert opens(night, "2026-11-28T02:00", "Europe/Berlin") == "2026-12-04T22:00"


def test_days_may_go_over_the_end_of_the_week() -> None:
    assert {day for day, _, _ in Hours.parse("sat-mon 10:00-11:00").spans} == {5, 6, 0}


@pytest.mark.parametrize(
    ("name", "skipped", "shown"),
    [
        ("Europe/Berlin", "2026-03-29T02:30", "2026-03-29T03:30"),
        ("America/New_York", "2026-03-08T02:30", "2026-03-08T03:30"),
        ("Australia/Lord_Howe", "2026-10-04T02:15", "2026-10-04T02:45"),
    ],
)
def test_a_time_that_the_clock_skips_counts_on_from_before(name: str, skipped: str, shown: str) -> None:
    assert wall(at(skipped, name), name).isoformat(timespec="minutes") == shown


@pytest.mark.parametrize(
    ("name", "twice", "first"),
    [
        ("Europe/Berlin", "2026-10-25T02:30", "2026-10-25T00:30"),
        ("America/New_York", "2026-11-01T01:30", "2026-11-01T05:30"),
        ("Australia/Lord_Howe", "2026-04-05T01:45", "2026-04-04T14:45"),
    ],
)
def test_of_a_time_that_comes_twice_it_is_the_first(name: str, twice: str, first: str) -> None:
    assert datetime.fromtimestamp(at(twice, name), UTC).replace(tzinfo=None).isoformat(timespec="minutes") == first


@given(st.sampled_from(ZONES), st.integers(1_767_225_600, 1_830_297_600))
def test_the_next_moment_is_inside_of_the_hours_and_none_before_it_is(name: str, now: int) -> None:
    then = OFFICE.next(float(now), name)
    assert then >= now
    assert OFFICE.next(then, name) == then
    assert OFFICE.next(max(float(now), then - 61), name) == then or then == now or OFFICE.wait(then - 61, name) > 0
    shown = wall(then, name)
    assert (9 <= shown.hour < 18 and shown.weekday() < 5) or (10 <= shown.hour < 14 and shown.weekday() == 5)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "are no hours"),
        ("always", "are no hours"),
        ("mon 9-18", "are no hours"),
        ("mon-fri 09:00-25:00", "no time of day"),
        ("mon-fri 09:61-10:00", "no time of day"),
        ("mo-fr 09:00-18:00", "no day of the week"),
        ("mon 09:00-09:00", "is over when it begins"),
    ],
)
def test_what_are_no_hours_is_said(text: str, why: str) -> None:
    with pytest.raises(SubmissionError, match=why) as caught:
        Hours.parse(text)
    assert caught.value.field == "hours"


@pytest.mark.parametrize("name", ["Mars/Phobos", "", "../../etc/passwd", "/etc/localtime", "Europe", "Asia/Shanghai\0"])
def test_what_is_no_zone_is_said(name: str) -> None:
    with pytest.raises(ValueError, match="no time zone"):
        zone(name)
