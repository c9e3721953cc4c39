"""Cron lines by the clocks of zones, beside a clock that is looked at all year."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import islice, pairwise, takewhile
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dispatcher.cron import Time, check, moved, times
from dispatcher.errors import SubmissionError

BERLIN, NEW_YORK, LORD_HOWE = "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"
CHANGING = (BERLIN, NEW_YORK, LORD_HOWE, "Africa/Cairo", "America/Santiago")  # the last two skip midnight
STEADY = ("UTC", "Asia/Shanghai", "Asia/Kathmandu")
FIRST = datetime(2028, 1, 1)  # noqa: DTZ001 - wall times have no zone
BEGIN = datetime(2028, 1, 1, tzinfo=UTC).timestamp()
END = datetime(2029, 1, 10, tzinfo=UTC).timestamp()


def between(line: str, zone: str, after: float, upto: float) -> list[float]:
    return [time.at for time in takewhile(lambda time: time.at <= upto, times(line, zone, after))]


def on(line: str, zone: str, day: str) -> list[tuple[str, str]]:
    """What a line does on a day: by the zone's clock, with the offset, and what is said of it."""
    begin = datetime.fromisoformat(day).replace(tzinfo=ZoneInfo(zone))
    found = times(line, zone, begin.timestamp() - 1)
    end = (begin + timedelta(days=1)).timestamp()
    return [
        (datetime.fromtimestamp(time.at, ZoneInfo(zone)).strftime("%H:%M%z"), moved(time, zone))
        for time in takewhile(lambda time: time.at < end, found)
    ]


# -- nights in which clocks are changed: three zones, all kinds of lines


SKIPPED, TWICE = "clocks skip {} that night".format, "{} comes twice that night; this is the first".format


@pytest.mark.parametrize(
    ("zone", "day", "line", "expected"),
    [
        (BERLIN, "2027-03-28", "30 2 * * *", [("03:00+0200", SKIPPED("02:30"))]),
        (BERLIN, "2027-03-28", "15,45 2 * * *", [("03:00+0200", SKIPPED("02:15"))]),
        (BERLIN, "2027-03-28", "0 2,3 * * *", [("03:00+0200", SKIPPED("02:00"))]),
        (BERLIN, "2027-03-28", "30 2-3 * * *", [("03:00+0200", SKIPPED("02:30")), ("03:30+0200", "")]),
        (BERLIN, "2027-03-28", "0 */12 * * *", [("00:00+0100", ""), ("12:00+0200", "")]),
        (BERLIN, "2027-10-31", "30 2 * * *", [("02:30+0200", TWICE("02:30"))]),
        (BERLIN, "2027-10-31", "30 2-3 * * *", [("02:30+0200", TWICE("02:30")), ("03:30+0100", "")]),
        (NEW_YORK, "2027-03-14", "30 2 * * *", [("03:00-0400", SKIPPED("02:30"))]),
        (NEW_YORK, "2027-11-07", "30 1 * * *", [("01:30-0400", TWICE("01:30"))]),
        (LORD_HOWE, "2027-10-03", "15 2 * * *", [("02:30+1100", SKIPPED("02:15"))]),
        (LORD_HOWE, "2027-10-03", "45 2 * * *", [("02:45+1100", "")]),
        (LORD_HOWE, "2027-04-04", "45 1 * * *", [("01:45+1100", TWICE("01:45"))]),
        ("Africa/Cairo", "2027-04-30", "0 0 * * *", [("01:00+0300", SKIPPED("00:00"))]),
    ],
)
def test_a_skipped_time_runs_right_after_the_jump_and_a_doubled_one_once(
    zone: str, day: str, line: str, expected: list[tuple[str, str]]
) -> None:
    assert on(line, zone, day) == expected


@pytest.mark.parametrize(
    ("zone", "day", "line", "expected"),
    [
        (BERLIN, "2027-03-28", "30 * * * *", 23),
        (BERLIN, "2027-10-31", "30 * * * *", 25),
        (NEW_YORK, "2027-03-14", "*/20 * * * *", 23 * 3),
        (NEW_YORK, "2027-11-07", "*/20 * * * *", 25 * 3),
        (LORD_HOWE, "2027-10-03", "*/30 * * * *", 47),
        (LORD_HOWE, "2027-04-04", "*/30 * * * *", 49),
    ],
)
def test_a_line_for_every_hour_runs_whenever_a_clock_shows_it(zone: str, day: str, line: str, expected: int) -> None:
    assert len(on(line, zone, day)) == expected


def test_both_passes_of_an_hour_that_comes_twice_are_in_order() -> None:
    found = on("*/30 * * * *", BERLIN, "2027-10-31")[4:8]
    assert [time for time, _ in found] == ["02:00+0200", "02:30+0200", "02:00+0100", "02:30+0100"]
    assert found[2][1] == "02:00 comes twice that night; this is the second"


# -- beside a clock

Fits = Callable[[datetime], bool]
LINES: tuple[tuple[str, Fits], ...] = (
    ("30 2 * * *", lambda t: (t.hour, t.minute) == (2, 30)),
    ("0 0 * * *", lambda t: (t.hour, t.minute) == (0, 0)),
    ("15 1,2 * * mon-fri", lambda t: t.hour in (1, 2) and t.minute == 15 and t.weekday() < 5),
    ("0 9 29 2 *", lambda t: (t.month, t.day, t.hour, t.minute) == (2, 29, 9, 0)),
    ("10 2 l * *", lambda t: (t + timedelta(days=1)).day == 1 and (t.hour, t.minute) == (2, 10)),
    ("*/45 2-3 * * sun", lambda t: t.hour in (2, 3) and t.minute % 45 == 0 and t.weekday() == 6),
    ("5 * * * sun", lambda t: t.minute == 5 and t.weekday() == 6),
)


def shown(zone: str, fits: Fits, *, every_hour: bool) -> list[float]:
    """By looking at the clock: on days in which it is changed every five minutes, on the others when a time fits."""
    there, found = ZoneInfo(zone), set[float]()
    for number in range(-1, 378):
        day = FIRST + timedelta(days=number)
        walls = [day + timedelta(minutes=minute) for minute in range(0, 1440, 5)]
        fitting = set(filter(fits, walls))
        if not fitting:
            continue
        offsets = {(day + timedelta(hours=hour)).replace(tzinfo=there).utcoffset() for hour in (-12, 0, 12, 24, 36)}
        jumped = False
        for wall in walls if len(offsets) > 1 else sorted(fitting):
            moments = {wall.replace(tzinfo=there, fold=fold).timestamp() for fold in (0, 1)}
            real = sorted(at for at in moments if datetime.fromtimestamp(at, there).replace(tzinfo=None) == wall)
            if not real:
                jumped = jumped or (wall in fitting and not every_hour)
                continue
            if jumped:  # the first minute that clocks show after those that were skipped
                found.add(real[0])
                jumped = False
            if wall in fitting:
                found.update(real if every_hour else real[:1])
        assert not jumped
    return sorted(at for at in found if BEGIN < at <= END)


@pytest.mark.parametrize("zone", CHANGING)
@pytest.mark.parametrize(("line", "fits"), LINES, ids=[line for line, _ in LINES])
def test_a_year_is_as_the_clock_shows_it(zone: str, line: str, fits: Fits) -> None:
    expected = shown(zone, fits, every_hour=line.split()[1] == "*")
    assert between(line, zone, BEGIN, END) == expected
    assert len(expected) > 0


@settings(max_examples=25)
@given(
    zone=st.sampled_from(CHANGING + STEADY),
    line=st.sampled_from([line for line, _ in LINES] + ["*/20 * * * *", "0 */6 * * *", "59 23 31 * *"]),
    cuts=st.lists(st.floats(BEGIN, END), max_size=30),
)
def test_whatever_the_pieces_in_which_time_is_looked_at_none_is_lost_or_doubled(
    zone: str, line: str, cuts: list[float]
) -> None:
    if line.startswith("*/20"):
        cuts = [BEGIN + (cut - BEGIN) / 10 for cut in cuts]
    edges = [BEGIN, *sorted(cuts)]
    pieces = [between(line, zone, edges[n], edges[n + 1]) for n in range(len(edges) - 1)]
    assert [at for piece in pieces for at in piece] == between(line, zone, BEGIN, edges[-1])


@settings(max_examples=25)
@given(
    zone=st.sampled_from(CHANGING), quarters=st.integers(-5, 5), seconds=st.integers(-1, 1), change=st.integers(0, 1)
)
def test_also_where_a_piece_ends_in_the_night_itself(zone: str, quarters: int, seconds: int, change: int) -> None:
    night = nights(zone)[change]
    cut = night + quarters * 900 + seconds
    for line in ("*/15 * * * *", "*/15 1-3 * * *", "7 0-3 * * *"):
        begin, end = night - 86400, night + 86400
        whole = between(line, zone, begin, end)
        assert between(line, zone, begin, cut) + between(line, zone, cut, end) == whole
        assert whole == sorted(set(whole))


@cache
def nights(zone: str) -> list[int]:
    """The moments at which clocks are changed there."""
    there, hours = ZoneInfo(zone), range(int(BEGIN), int(END), 1800)
    offsets = {at: datetime.fromtimestamp(at, there).utcoffset() for at in hours}
    return [at for before, at in pairwise(hours) if offsets[at] != offsets[before]]


# -- what is no line


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "'' has not five fields"),
        ("@daily", "'@daily' has not five fields"),
        ("0 0 * * * *", "'0 0 * * * *' has not five fields"),
        ("60 * * * *", "'60' is no minute"),
        ("0 24 * * *", "'24' is no hour"),
        ("0 0 0 * *", "'0' is no day of the month"),
        ("0 0 1 13 *", "'13' is no month"),
        ("0 0 * * mom", "'mom' is no day of the week"),
        ("*/0 * * * *", "'*/0' is no minute"),
        ("0 0 31 2 *", "'0 0 31 2 *' never fires: there is no such day"),
        ("0 0 30 feb *", "'0 0 30 feb *' never fires"),
        ("0 0 31 4,6,9,11 *", "'0 0 31 4,6,9,11 *' never fires"),
        ("0 0 */31 2 mon#5", "'0 0 */31 2 mon#5' never fires"),
    ],
)
def test_a_line_that_is_none_or_never_fires_is_told(line: str, said: str) -> None:
    with pytest.raises(SubmissionError) as caught:
        check(line)
    assert str(caught.value).startswith(f"cron: {said}")


@given(st.text(st.sampled_from("0123456789*/-,#LWmonjan? "), max_size=25))
def test_whatever_is_written_is_a_line_that_fires_or_is_told(line: str) -> None:
    try:
        check(line)
    except SubmissionError:
        return
    assert next(times(line, BERLIN, BEGIN), None) is not None


@pytest.mark.parametrize("line", ["0 9 * * MON-FRI", "0 9 l * *", "0 9 lw * *", "0 9 * * fri#2", "0 9 * jan,jul 5L"])
def test_a_line_may_say_names_and_lasts(line: str) -> None:
    assert check(line) == line


def test_the_29th_of_february_is_every_fourth_year() -> None:
    found = islice(times("0 9 29 2 *", BERLIN, BEGIN), 3)
    assert [datetime.fromtimestamp(time.at, UTC).year for time in found] == [2028, 2032, 2036]


def test_a_moment_in_a_second_is_of_that_second() -> None:
    assert next(times("* * * * *", "UTC", BEGIN + 0.25)) == Time(BEGIN + 60, FIRST + timedelta(minutes=1))
