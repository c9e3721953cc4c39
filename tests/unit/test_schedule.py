"""A schedule as a value: what can be asked for, when it is, and what becomes of what is behind time."""

from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dispatcher.errors import SubmissionError
from dispatcher.names import check_name
from dispatcher.schedule import (
    CatchUp,
    Due,
    OccurrenceState,
    Schedule,
    ScheduleSpec,
    come_up,
    first_after,
    job,
    job_name,
    key_of,
    verdict,
)

MAIL = {"to": ["li@example.com"], "subject": "S", "text": "T"}
DAILY = ScheduleSpec(cron="30 2 * * *", zone="Europe/Berlin", submission=MAIL)
HOURLY = ScheduleSpec(every="1h", submission=MAIL)
DUE, LATE, SKIPPED = OccurrenceState.DUE, OccurrenceState.LATE, OccurrenceState.SKIPPED
HOUR, DAY = 3600.0, 86400.0


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


MADE = at("2027-01-01T12:00:00") + 0.25


def schedule(spec: ScheduleSpec, *, now: float, seen_until: float = MADE, **fields: Any) -> Schedule:
    usual: dict[str, Any] = {
        "id": 1, "name": "report", "paused": False, "reason": "", "created_at": MADE, "changed_at": MADE,
        "actor": "anna", "next_at": first_after(spec, MADE, seen_until),
    }  # fmt: skip
    return Schedule(spec=spec, seen_until=seen_until, read_at=now, **{**usual, **fields})


def first(spec: ScheduleSpec, count: int, after: float = MADE) -> list[str]:
    """By UTC."""
    return [datetime.fromtimestamp(time.at, UTC).isoformat() for time in islice(spec.times(MADE, after), count)]


# -- what can be asked for


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"cron": None}, "cron: give either a cron line or every"),
        ({"every": "1h"}, "cron: give either a cron line or every"),
        ({"submission": None}, "submission: give either a submission, a campaign or a report"),
        ({"campaign": {}}, "submission: give either a submission, a campaign or a report"),
        ({"cron": "0 0 31 2 *"}, "cron: '0 0 31 2 *' never fires"),
        ({"cron": "often"}, "cron: 'often' has not five fields"),
        ({"cron": None, "every": "often"}, "every: 'often' is no duration"),
        ({"cron": None, "every": "0.5s"}, "every: '0.5s' is "),
        ({"cron": None, "every": "0"}, "every: '0' is less than a second"),
        ({"cron": None, "every": "99999d"}, "every: '99999d' is more than ten years"),
        ({"zone": "Mars/Phobos"}, "zone: 'Mars/Phobos' is no time zone"),
        ({"zone": "../UTC"}, "zone: '../UTC' is no time zone"),
        ({"catch_up": "some"}, "catch_up: 'some' is none of all, latest, skip"),
        ({"late": "soon"}, "late: 'soon' is no duration"),
        ({"start": "soon"}, "start: 'soon' is no ISO 8601 time"),
        ({"end": "9999-12-31"}, "end: '9999-12-31' is out of range"),
        ({"start": "2027-05-02", "end": "2027-05-01"}, "end: is before start"),
        ({"colour": "red"}, "colour: unknown field; known are campaign, "),
        ({"cron": 5}, "cron: must be a text"),
        ({"submission": []}, "submission: must be an object"),
        ({"with_occurrence": 1}, "with_occurrence: must be true or false"),
    ],
)
def test_a_setting_that_is_wrong_is_named(changes: dict[str, Any], said: str) -> None:
    document = {name: value for name, value in {**DAILY.document(), **changes}.items() if value is not None}
    with pytest.raises(SubmissionError) as caught:
        ScheduleSpec.parse(document)
    assert str(caught.value).startswith(said)


def test_a_spec_is_the_same_after_it_was_kept() -> None:
    spec = replace(DAILY, catch_up="all", late="3h", start="2027-02-01", with_occurrence=True)
    assert ScheduleSpec.parse(spec.document()) == spec
    assert ScheduleSpec.kept(spec.document()) == spec
    assert "with_occurrence" not in DAILY.document()


def test_what_was_right_when_it_was_kept_can_be_read_though_it_is_wrong_now() -> None:
    assert ScheduleSpec.kept({**DAILY.document(), "zone": "Gone/Zone"}).zone == "Gone/Zone"


# -- when


def test_every_goes_by_what_has_elapsed_whatever_clocks_do() -> None:
    spec = replace(HOURLY, every="24h", zone="Europe/Berlin", start="2027-03-27T02:30")
    assert first(spec, 3) == [f"2027-03-{day}T01:30:00+00:00" for day in (27, 28, 29)]


def test_every_counts_from_when_it_was_made_or_from_its_start() -> None:
    assert first(HOURLY, 2) == ["2027-01-01T13:00:01+00:00", "2027-01-01T14:00:01+00:00"]
    later = replace(HOURLY, start="2027-02-01T00:00:00.5")
    assert first(later, 2) == ["2027-02-01T00:00:01+00:00", "2027-02-01T01:00:01+00:00"]
    assert first(later, 1, at("2027-03-01T00:00:01")) == ["2027-03-01T01:00:01+00:00"]


def test_start_and_end_are_part_of_it_and_go_by_its_clock() -> None:
    spec = replace(DAILY, start="2027-02-01T02:30", end="2027-02-02T02:30")
    assert first(spec, 9) == ["2027-02-01T01:30:00+00:00", "2027-02-02T01:30:00+00:00"]
    assert first(replace(spec, start="2027-02-01T02:30:00.5"), 9) == ["2027-02-02T01:30:00+00:00"]
    assert first(replace(spec, start="2027-02-01T02:30+00:00"), 9) == ["2027-02-02T01:30:00+00:00"]
    assert first_after(replace(spec, start=None, end="2026-01-01"), MADE, MADE) is None


@settings(max_examples=50)
@given(
    spec=st.sampled_from([HOURLY, replace(HOURLY, every="7h", start="2027-01-03T00:00:30"), DAILY,
                          replace(DAILY, start="2027-02-01", end="2027-04-01")]),
    waits=st.lists(st.floats(0, 20 * DAY), min_size=1, max_size=12),
    limit=st.integers(1, 50),
)  # fmt: skip
def test_whatever_the_pieces_in_which_it_is_looked_at_each_comes_up_once(
    spec: ScheduleSpec, waits: list[float], limit: int
) -> None:
    now, found = MADE, list[float]()
    seen = schedule(spec, now=now)
    for wait in waits:
        now += wait
        seen = replace(seen, read_at=now)
        while seen.ripe:
            noted = come_up(seen, limit)
            assert noted.found
            found += [moment for moment, _ in noted.found]
            seen = replace(seen, seen_until=noted.upto, next_at=noted.next_at)
    times = spec.times(MADE, MADE)
    expected = [time.at for time in islice(times, len(found) + 1)]
    assert found == expected[: len(found)]
    assert len(expected) == len(found) or expected[-1] > now


# -- what is behind time


@pytest.mark.parametrize(
    ("catch_up", "late", "age", "newest", "expected"),
    [
        (CatchUp.ALL, None, 0.0, False, DUE),
        (CatchUp.ALL, None, DAY, False, DUE),
        (CatchUp.ALL, None, DAY + 1, True, LATE),
        (CatchUp.ALL, "1h", HOUR + 1, True, LATE),
        (CatchUp.LATEST, None, 1.0, False, SKIPPED),
        (CatchUp.LATEST, None, DAY, True, DUE),
        (CatchUp.LATEST, None, DAY + 1, True, LATE),
        (CatchUp.LATEST, "30d", 29 * DAY, True, DUE),
        (CatchUp.SKIP, None, 299.0, False, DUE),
        (CatchUp.SKIP, None, 301.0, True, SKIPPED),
        (CatchUp.SKIP, "1h", HOUR, True, DUE),
    ],
)
def test_what_is_behind_time_is_fired_skipped_or_too_late(
    catch_up: CatchUp, late: str | None, age: float, newest: bool, expected: OccurrenceState
) -> None:
    assert verdict(replace(DAILY, catch_up=catch_up.value, late=late), age, newest=newest) is expected


def test_of_what_came_up_only_the_last_is_the_newest_also_when_there_is_more_than_was_asked_for() -> None:
    seen = schedule(HOURLY, now=MADE + 4 * HOUR + 1)
    noted = come_up(seen, 3)
    assert [state for _, state in noted.found] == [SKIPPED] * 3
    assert noted.upto == noted.found[-1][0]
    seen = replace(seen, seen_until=noted.upto, next_at=noted.next_at)
    noted = come_up(seen, 3)
    assert [state for _, state in noted.found] == [DUE]
    assert (noted.upto, noted.next_at) == (seen.read_at, noted.found[0][0] + HOUR)


def test_a_clock_that_was_set_back_brings_nothing_up_again() -> None:
    seen = schedule(HOURLY, now=MADE - 5 * HOUR, seen_until=MADE + 10 * HOUR)
    assert not seen.ripe
    assert come_up(seen, 10) == (MADE + 10 * HOUR, (), seen.next_at)


# -- what is done


def due(when: str, spec: ScheduleSpec = DAILY, *, by_hand: bool = False, more: float = 0.0) -> Due:
    return Due(schedule(spec, now=MADE), at(when) + more, by_hand=by_hand, newest=True)


def test_a_key_is_the_schedules_and_the_moments_own() -> None:
    assert key_of(due("2027-03-28T01:00:00")) == "schedule/report/2027-03-28T01:00:00+00:00"
    by_hand = key_of(due("2027-03-28T01:00:00", by_hand=True, more=0.5))
    assert by_hand == "schedule/report/2027-03-28T01:00:00.500000+00:00"


def test_campaigns_are_named_by_the_clock_and_no_two_alike() -> None:
    hourly = replace(DAILY, cron="30 * * * *")
    names = [job_name(due(f"2027-10-31T0{hour}:30:00", hourly)) for hour in (0, 1, 2)]
    assert names == ["report-2027-10-31T0230", "report-2027-10-31T0230+0100", "report-2027-10-31T0330"]
    assert job_name(due("2027-10-31T12:30:00", hourly, by_hand=True, more=0.5)) == "report-2027-10-31T133000"
    assert [check_name(name) for name in names] == names


def test_the_data_may_say_which_occurrence_it_is() -> None:
    spec = replace(DAILY, submission={**MAIL, "data": {"a": 1}})
    moment = at("2027-03-28T01:00:00")
    assert job(spec, "report", moment) == {**MAIL, "data": {"a": 1}}
    found = job(replace(spec, with_occurrence=True), "report", moment)
    assert found["data"] == {"a": 1, "schedule": {"name": "report", "at": "2027-03-28T03:00:00+02:00"}}
    assert spec.submission == {**MAIL, "data": {"a": 1}}
