"""What every ledger promises of schedules: each occurrence stands there once, whoever looks and whoever is killed."""

import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from dispatcher.delivery import Actor
from dispatcher.errors import NotFound, SubmissionError
from dispatcher.schedule import Due, Noted, OccurrenceState, Schedule, ScheduleSpec, Standing, come_up
from tests.ledgers import ANNA, DAY, Kept

BOB = Actor("bob", "desk-8")
MAIL: Mapping[str, Any] = {"to": ["li@example.com"], "subject": "S", "text": "T"}
HOURLY = ScheduleSpec(every="1h", catch_up="all", submission=MAIL)
HOUR = 3600.0
DUE, FIRED, SKIPPED, FAILED = (OccurrenceState[name] for name in ("DUE", "FIRED", "SKIPPED", "FAILED"))


def made(kept: Kept, spec: ScheduleSpec = HOURLY, name: str = "report") -> Schedule:
    return kept.ledger.schedules.create(name, spec, ANNA)


def note(kept: Kept, limit: int = 100) -> list[bool]:
    """Note what has come up, as a worker does."""
    store = kept.ledger.schedules
    return [store.note(seen, come_up(seen, limit)) for seen in store.ripe(10)]


def due(kept: Kept) -> list[Due]:
    return kept.ledger.schedules.due(100)


def states(kept: Kept, name: str = "report") -> list[OccurrenceState]:
    """The oldest first."""
    return [each.state for each in reversed(kept.ledger.schedules.history(name, 100))]


def acts(kept: Kept) -> list[tuple[str, str, str]]:
    return [(act.act, act.subject, act.reason) for act in reversed(kept.ledger.acts())]


# -- making and changing


def test_a_schedule_is_kept_as_it_was_asked_for(kept: Kept) -> None:
    found = made(kept)
    assert (found.name, found.spec, found.paused, found.actor) == ("report", HOURLY, False, "anna@desk-7")
    assert found.next_at is not None
    assert 0 <= found.next_at - found.created_at - HOUR < 1
    assert not found.ripe
    assert kept.ledger.schedules.get("report") == found
    assert kept.ledger.schedules.listed() == [found]
    assert acts(kept) == [("add", "schedule report", "asked by the customer")]


def test_a_name_that_is_taken_is_refused(kept: Kept) -> None:
    made(kept)
    with pytest.raises(SubmissionError, match="there is a schedule 'report' already"):
        made(kept)
    assert len(acts(kept)) == 1


def test_a_name_that_is_nobodys_is_said_with_the_one_that_may_be_meant(kept: Kept) -> None:
    made(kept)
    store = kept.ledger.schedules
    for ask in (store.get, lambda name: store.remove(name, ANNA), lambda name: store.history(name, 1)):
        with pytest.raises(NotFound, match="did you mean report"):
            ask("reprt")


def test_they_are_listed_by_name(kept: Kept) -> None:
    for name in ("b", "c", "a"):
        made(kept, name=name)
    assert [each.name for each in kept.ledger.schedules.listed()] == ["a", "b", "c"]


def test_one_that_is_edited_goes_by_the_new_spec_from_now_on_and_what_is_due_stays(kept: Kept) -> None:
    made(kept)
    kept.age(1.5 * HOUR + 10)
    assert not kept.ledger.schedules.revise(kept.ledger.schedules.get("report"), HOURLY, BOB)  # not noted yet
    note(kept)
    seen = kept.ledger.schedules.get("report")
    other = replace(HOURLY, every="30m")
    assert kept.ledger.schedules.revise(seen, other, BOB)
    now = kept.ledger.schedules.get("report")
    assert (now.spec, now.actor) == (other, "bob@desk-8")
    assert now.next_at == pytest.approx(now.created_at + 2 * HOUR, abs=1)
    assert states(kept) == [DUE]
    assert acts(kept)[-1] == ("edit", "schedule report", "")


def test_of_two_who_edit_it_the_second_has_to_look_again(kept: Kept) -> None:
    seen = made(kept)
    assert kept.ledger.schedules.revise(seen, replace(HOURLY, every="2h"), ANNA)
    assert not kept.ledger.schedules.revise(seen, replace(HOURLY, every="3h"), BOB)
    assert kept.ledger.schedules.get("report").spec.every == "2h"


def test_one_that_is_removed_is_gone_with_its_occurrences(kept: Kept) -> None:
    made(kept)
    kept.age(HOUR + 2)
    note(kept)
    (waiting,) = due(kept)
    kept.ledger.schedules.remove("report", BOB)
    assert due(kept) == []
    assert not kept.ledger.schedules.done(waiting, FIRED, "")
    assert kept.ledger.schedules.listed() == []
    assert not kept.ledger.schedules.pending()
    assert states(kept, made(kept).name) == []
    assert acts(kept)[-2:] == [("remove", "schedule report", ""), ("add", "schedule report", "asked by the customer")]


# -- what comes up


def test_nothing_is_ripe_before_its_time(kept: Kept) -> None:
    made(kept)
    kept.age(HOUR - 5)
    assert kept.ledger.schedules.ripe(10) == []
    assert not kept.ledger.schedules.pending()
    kept.age(6)
    assert [each.name for each in kept.ledger.schedules.ripe(10)] == ["report"]
    assert kept.ledger.schedules.pending()


def test_what_has_come_up_is_due_once_and_then_the_next_one_is_waited_for(kept: Kept) -> None:
    first = made(kept).next_at or 0.0
    kept.age(HOUR + 2)
    assert note(kept) == [True]
    assert note(kept) == []
    (found,) = due(kept)
    assert found.at == pytest.approx(first - HOUR - 2, abs=0.01) or found.at == pytest.approx(first, abs=0.01)
    assert (found.by_hand, found.newest, found.schedule.name) == (False, True, "report")
    now = kept.ledger.schedules.get("report")
    assert (now.next_at or 0.0) - found.at == pytest.approx(HOUR)
    assert kept.ledger.schedules.pending()
    assert kept.ledger.schedules.done(found, FIRED, "submission s1")
    assert not kept.ledger.schedules.done(found, FAILED, "again")
    assert not kept.ledger.schedules.pending()
    (ended,) = kept.ledger.schedules.history("report", 10)
    assert (ended.at, ended.state, ended.outcome, ended.by_hand) == (found.at, FIRED, "submission s1", False)


def test_of_two_who_saw_the_same_the_second_enters_nothing(kept: Kept) -> None:
    made(kept)
    kept.age(3 * HOUR + 2)
    (seen,) = kept.ledger.schedules.ripe(10)
    assert kept.ledger.schedules.note(seen, come_up(seen, 2))
    assert not kept.ledger.schedules.note(seen, come_up(seen, 100))
    assert states(kept) == [DUE, DUE]
    assert note(kept) == [True]
    assert states(kept) == [DUE, DUE, DUE]


def test_many_who_look_at_once_enter_each_occurrence_once(kept: Kept) -> None:
    made(kept)
    kept.age(20 * HOUR + 2)
    start = threading.Barrier(4)

    def look() -> None:
        start.wait()
        while kept.ledger.schedules.ripe(10):
            note(kept, 3)

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert states(kept) == [DUE] * 20


def test_what_was_noted_of_one_that_was_changed_meanwhile_is_not_entered(kept: Kept) -> None:
    made(kept)
    kept.age(HOUR + 2)
    (seen,) = kept.ledger.schedules.ripe(10)
    kept.ledger.schedules.act("report", "pause", BOB)
    assert not kept.ledger.schedules.note(seen, come_up(seen, 10))
    assert states(kept) == []


def test_what_is_late_or_skipped_stands_there_as_such(kept: Kept) -> None:
    made(kept, replace(HOURLY, catch_up="latest"))
    made(kept, replace(HOURLY, catch_up="skip"), name="skips")
    made(kept, replace(HOURLY, late="90m"), name="lates")
    kept.age(3 * HOUR + 2)
    note(kept)
    assert states(kept) == [SKIPPED, SKIPPED, DUE]
    assert states(kept, "skips") == [SKIPPED, SKIPPED, DUE]
    assert states(kept, "lates") == [OccurrenceState.LATE, DUE, DUE]


def test_an_older_one_that_is_due_is_not_the_newest(kept: Kept) -> None:
    made(kept)
    kept.age(HOUR + 2)
    note(kept)
    assert [each.newest for each in due(kept)] == [True]
    kept.age(HOUR)
    note(kept)
    kept.ledger.schedules.run_now("report", ANNA)
    assert [(each.newest, each.by_hand) for each in due(kept)] == [(False, False), (True, False), (False, True)]


def test_one_that_is_over_is_never_ripe_again(kept: Kept) -> None:
    found = made(kept, replace(HOURLY, end="1999-01-01T00:00"))
    assert found.next_at is None
    kept.age(400 * DAY)
    assert kept.ledger.schedules.ripe(10) == []


def test_the_longest_ripe_come_first_and_only_so_many(kept: Kept) -> None:
    made(kept, replace(HOURLY, every="2h"), name="second")
    made(kept, name="first")
    kept.age(2 * HOUR + 2)
    assert [each.name for each in kept.ledger.schedules.ripe(10)] == ["first", "second"]
    assert [each.name for each in kept.ledger.schedules.ripe(1)] == ["first"]
    note(kept)
    assert len(kept.ledger.schedules.due(2)) == 2


# -- pauses, and by hand


def test_while_it_is_paused_nothing_comes_up_and_nothing_is_fired(kept: Kept) -> None:
    made(kept)
    kept.age(HOUR + 2)
    note(kept)
    found = kept.ledger.schedules.act("report", "pause", ANNA)
    assert (found.paused, found.reason) == (True, "asked by the customer")
    kept.age(2 * HOUR)
    assert (note(kept), due(kept), kept.ledger.schedules.pending()) == ([], [], False)
    found = kept.ledger.schedules.act("report", "resume", BOB)
    assert (found.paused, found.reason, found.ripe) == (False, "", True)
    assert kept.ledger.schedules.pending()
    note(kept)
    assert len(due(kept)) == 3
    assert acts(kept)[1:] == [
        ("pause", "schedule report", "asked by the customer"),
        ("resume", "schedule report", ""),
    ]


def test_what_is_so_already_is_told(kept: Kept) -> None:
    made(kept)
    with pytest.raises(SubmissionError, match="report: is not paused; nothing was done"):
        kept.ledger.schedules.act("report", "resume", BOB)
    kept.ledger.schedules.act("report", "pause", ANNA)
    with pytest.raises(SubmissionError, match="report: is paused by anna@desk-7; nothing was done"):
        kept.ledger.schedules.act("report", "pause", BOB)


def test_by_hand_it_fires_beside_its_times_also_while_it_is_paused(kept: Kept) -> None:
    before = made(kept)
    kept.ledger.schedules.act("report", "pause", ANNA)
    ran = kept.ledger.schedules.run_now("report", BOB)
    assert (ran.at % 1, ran.by_hand, ran.state) == (0.5, True, DUE)
    assert kept.ledger.schedules.pending()
    (found,) = due(kept)
    assert (found.by_hand, found.at) == (True, pytest.approx(ran.at))
    assert kept.ledger.schedules.get("report").next_at == before.next_at
    assert acts(kept)[-1] == ("run", "schedule report", "")
    assert kept.ledger.schedules.done(found, FIRED, "")
    assert kept.ledger.schedules.history("report", 1)[0].by_hand


# -- keeping


def test_the_history_is_newest_first_and_as_long_as_asked(kept: Kept) -> None:
    made(kept)
    kept.age(5 * HOUR + 2)
    note(kept)
    found = [each.at for each in kept.ledger.schedules.history("report", 3)]
    assert found == sorted(found, reverse=True)
    assert len(found) == 3


def test_what_ended_long_ago_is_forgotten_and_never_comes_up_again(kept: Kept) -> None:
    made(kept)
    kept.age(4 * HOUR + 2)
    note(kept)
    for each in due(kept)[:3]:
        kept.ledger.schedules.done(each, FAILED, "said so")
    assert kept.ledger.schedules.forget(DAY, 10) == 0
    kept.age(2 * DAY)
    assert kept.ledger.schedules.forget(DAY, 2) == 2
    assert kept.ledger.schedules.forget(DAY, 2) == 1
    assert states(kept) == [DUE]
    before = len(states(kept))
    note(kept)
    assert len(states(kept)) == before + 48


def test_what_is_looked_at_is_never_set_back(kept: Kept) -> None:
    made(kept)
    kept.age(HOUR + 2)
    note(kept)
    kept.age(-HOUR / 2)  # the ledger's clock
    seen = kept.ledger.schedules.get("report")
    assert kept.ledger.schedules.revise(seen, replace(HOURLY, every="10m"), ANNA)
    assert kept.ledger.schedules.get("report").seen_until == seen.seen_until
    kept.age(HOUR)
    note(kept)
    found = states(kept)
    assert found == [DUE] * len(found)


def test_an_occurrence_that_stands_there_is_not_entered_again(kept: Kept) -> None:
    seen = made(kept)
    at = seen.next_at or 0.0
    assert kept.ledger.schedules.note(seen, Noted(at, ((at, DUE),), at))
    assert kept.ledger.schedules.note(kept.ledger.schedules.get("report"), Noted(at, ((at, SKIPPED),), None))
    assert states(kept) == [DUE]


# -- how they stand


def standing(kept: Kept, seconds: float = DAY) -> Standing:
    return kept.ledger.schedules.standing(seconds)


def test_without_schedules_nothing_is_due(kept: Kept) -> None:
    found = standing(kept)
    assert (found.count, found.paused, found.due, found.due_since) == (0, 0, 0, None)
    assert (found.failed, found.last_failed, found.over) == (0, None, ())


def test_what_has_come_up_waits_since_its_time_noted_or_not(kept: Kept) -> None:
    made(kept)
    assert (standing(kept).due, standing(kept).due_since) == (0, None)
    kept.age(HOUR + 100)
    before = standing(kept)
    assert before.due == 1
    assert before.read_at - (before.due_since or 0.0) == pytest.approx(100, abs=2)
    note(kept)
    after = standing(kept)
    assert (after.due, after.due_since) == (1, pytest.approx(before.due_since, abs=0.01))
    (waiting,) = due(kept)
    kept.ledger.schedules.done(waiting, FIRED, "submission s1")
    assert (standing(kept).due, standing(kept).due_since) == (0, None)


def test_the_oldest_of_several_says_since_when(kept: Kept) -> None:
    made(kept)
    kept.age(HOUR + 10)
    note(kept)
    kept.age(HOUR)
    found = standing(kept)  # one is noted, the other is not
    assert found.due == 2
    assert found.read_at - (found.due_since or 0.0) == pytest.approx(HOUR + 10, abs=2)


def test_of_one_that_is_paused_only_what_is_asked_for_by_hand_is_due(kept: Kept) -> None:
    made(kept)
    kept.age(HOUR + 10)
    note(kept)
    kept.ledger.schedules.act("report", "pause", BOB)
    kept.age(HOUR)
    assert (standing(kept).count, standing(kept).paused, standing(kept).due) == (1, 1, 0)
    kept.ledger.schedules.run_now("report", BOB)
    assert standing(kept).due == 1


def test_what_has_failed_lately_is_told_with_the_last_one(kept: Kept) -> None:
    for name in ("a", "b"):
        made(kept, name=name)
    kept.age(HOUR + 10)
    note(kept)
    kept.ledger.schedules.done(due(kept)[0], FAILED, "to[0]: 'x' is no address")
    kept.age(100)
    (second,) = due(kept)
    kept.ledger.schedules.done(second, FAILED, "no template 'x'")
    found = standing(kept)
    assert (found.failed, found.last_failed) == (2, (second.schedule.name, "no template 'x'"))
    assert standing(kept, 50).failed == 1
    kept.age(DAY - 50)
    assert standing(kept).failed == 1
    kept.age(100)
    assert (standing(kept).failed, standing(kept).last_failed) == (0, None)


def test_those_without_a_next_time_are_over(kept: Kept) -> None:
    for name in ("b", "a"):
        made(kept, replace(HOURLY, start="2020-01-01T00:00", end="2020-01-02T00:00"), name=name)
    made(kept)
    assert standing(kept).over == ("a", "b")
