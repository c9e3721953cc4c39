"""What every ledger promises of brakes: pauses of people, the breaker of a relay, and what a caller avoids."""

import threading
from collections.abc import Callable

import pytest

from dispatcher.delivery import Actor, Lane
from dispatcher.records import Pause
from tests.ledgers import ANNA, Kept, accepted, add, lease, settle

BOB = Actor("bob", "desk-8", "it is mended")


def relays(kept: Kept, **fields: object) -> list[str]:
    """The relays that what is leased now asks for; ``-`` for none."""
    return sorted(each.relay or "-" for each in lease(kept.ledger, **fields).messages)


def standing(kept: Kept) -> list[tuple[str, bool]]:
    """The names of what is paused or half open, and which."""
    return [(pause.name, pause.half_open) for pause in kept.ledger.pauses()]


def trouble(kept: Kept, seconds: float | None = None, relay: str = "main") -> float:
    """A worker meets trouble with a relay; how long the pause is that comes of it."""
    pause = kept.ledger.pause("relay", relay, seconds, "cannot connect")
    assert pause.until is not None
    assert (pause.actor, pause.half_open) == (None, False)
    return round(pause.until - pause.since, 3)


# -- pauses of people


def test_mail_for_a_relay_that_is_paused_stays_and_other_mail_goes(kept: Kept) -> None:
    add(kept.ledger, accepted("held@example.com", relay="a"), accepted("b@example.com", relay="b"), accepted())
    kept.ledger.pause("relay", "a", 60, "quota", ANNA)
    assert kept.ledger.due(Lane.TRANSACTIONAL, 10) == 2
    assert relays(kept) == ["-", "b"]
    kept.age(61)
    assert relays(kept) == ["a"]


def test_a_lane_that_is_paused_leases_nothing_until_it_is_resumed(kept: Kept) -> None:
    add(kept.ledger, accepted(), accepted(lane="bulk"))
    pause = kept.ledger.pause("lane", "transactional", None, "stop the presses", ANNA)
    assert (pause.until, pause.actor, pause.half_open) == (None, "anna@desk-7", False)
    assert kept.ledger.pauses() == [pause]
    assert lease(kept.ledger).messages == ()
    assert [kept.ledger.due(lane, 10) for lane in (Lane.TRANSACTIONAL, Lane.BULK)] == [0, 1]
    assert kept.ledger.resume("lane", "transactional", BOB)
    assert kept.ledger.pauses() == []
    assert len(lease(kept.ledger).messages) == 1


def test_a_submission_that_is_paused_stays(kept: Kept) -> None:
    held, other = add(kept.ledger, accepted()), add(kept.ledger, accepted())
    kept.ledger.pause("submission", held.id, None, "wrong price", ANNA)
    assert kept.ledger.due(Lane.TRANSACTIONAL, 10) == 1
    leased = lease(kept.ledger, messages=held.message_ids)
    assert [each.submission for each in leased.messages] == [other.id]


def test_a_persons_pause_is_over_at_its_time_and_needs_no_probe(kept: Kept) -> None:
    trouble(kept)
    kept.ledger.pause("relay", "main", 60, "maintenance", ANNA)
    kept.age(61)
    assert kept.ledger.pauses() == []
    assert not kept.ledger.probe("main", 30)
    assert not kept.ledger.resume("relay", "main", BOB)


def test_a_pause_that_a_person_has_set_is_not_cut_short_by_what_workers_meet(kept: Kept) -> None:
    pause = kept.ledger.pause("relay", "main", None, "maintenance", ANNA)
    assert kept.ledger.pause("relay", "main", 5, "cannot connect") == pause
    assert not kept.ledger.resume("relay", "main")
    assert not kept.ledger.probe("main", 30)
    kept.ledger.reopen("main")
    assert kept.ledger.pauses() == [pause]
    longer = kept.ledger.pause("relay", "main", 3600, "maintenance", ANNA)
    assert kept.ledger.pause("relay", "main", 5, "cannot connect") == longer
    kept.age(3601)
    assert trouble(kept) == 5


@pytest.mark.parametrize("seconds", [None, 3600.0])
def test_a_person_lifts_the_pause_of_another(kept: Kept, seconds: float | None) -> None:
    kept.ledger.pause("relay", "main", seconds, "maintenance", ANNA)
    assert [kept.ledger.resume("relay", "main", BOB) for _ in range(2)] == [True, False]
    assert kept.ledger.pauses() == []


@pytest.mark.parametrize("passed", [0.0, 6.0])
def test_a_person_lifts_the_dispatchers_own_pause_open_or_half_open(kept: Kept, passed: float) -> None:
    trouble(kept)
    kept.age(passed)
    assert standing(kept) == [("main", passed > 5)]
    assert [kept.ledger.resume("relay", "main", BOB) for _ in range(2)] == [True, False]
    assert kept.ledger.pauses() == []
    assert not kept.ledger.probe("main", 30)
    assert trouble(kept) == 5


def test_what_was_never_paused_is_not_resumed(kept: Kept) -> None:
    assert not kept.ledger.resume("relay", "main", ANNA)
    assert not kept.ledger.resume("relay", "main")
    kept.ledger.reopen("main")
    assert not kept.ledger.probe("main", 30)
    assert kept.ledger.pauses() == []


def test_a_text_that_a_database_cannot_hold_names_the_same_pause(kept: Kept) -> None:
    nasty = Actor("a\0nna", "\ud83d", "nul \0")
    made = kept.ledger.pause("relay", "ma\0in", None, "half a pair \ud83d", nasty)
    assert (made.name, made.reason, made.actor) == ("ma\\0in", "half a pair \\ud83d", "a\\0nna@\\ud83d")
    assert kept.ledger.pauses() == [made]
    assert kept.ledger.resume("relay", "ma\0in", nasty)


# -- the dispatcher's own pause: open


def test_the_dispatchers_own_pause_doubles_while_it_comes_again_soon_up_to_five_minutes(kept: Kept) -> None:
    lengths = []
    for _ in range(6):
        lengths.append(trouble(kept, 30))
        kept.age(lengths[-1] + 1)
        assert kept.ledger.resume("relay", "main")
    assert lengths == [30, 60, 120, 240, 300, 300]
    kept.age(601)
    assert trouble(kept, 30) == 30


def test_a_relay_that_is_just_away_is_tried_every_ten_seconds(kept: Kept) -> None:
    lengths = []
    for _ in range(4):
        lengths.append(trouble(kept))
        kept.age(lengths[-1] + 1)
    assert lengths == [5, 10, 10, 10]


def test_it_doubles_however_late_the_probe_fails_since_nothing_came_through(kept: Kept) -> None:
    assert trouble(kept) == 5
    kept.age(40)  # the probe waited for a connection for half a minute
    assert trouble(kept) == 10


def test_many_workers_that_meet_the_same_trouble_make_one_pause(kept: Kept) -> None:
    assert [trouble(kept) for _ in range(5)] == [5] * 5
    assert [trouble(kept, 60) for _ in range(5)] == [60] * 5
    assert trouble(kept, 30) == 60
    kept.age(61)
    assert trouble(kept, 3600) == 3600
    assert standing(kept) == [("main", False)]


def test_nobody_probes_and_no_late_success_lifts_a_relay_whose_pause_is_open(kept: Kept) -> None:
    trouble(kept)
    before = kept.ledger.pauses()
    assert not kept.ledger.probe("main", 30)
    assert not kept.ledger.resume("relay", "main")
    assert kept.ledger.pauses() == before


# -- half open


def half_open(kept: Kept) -> Pause:
    trouble(kept)
    kept.age(6)
    (found,) = kept.ledger.pauses()
    assert found.half_open
    return found


def test_a_pause_that_is_over_is_half_open_until_a_message_came_through(kept: Kept) -> None:
    found = half_open(kept)
    assert (found.kind, found.name, found.reason, found.actor) == ("relay", "main", "cannot connect", None)
    kept.age(3600)
    assert standing(kept) == [("main", True)]
    assert [kept.ledger.resume("relay", "main") for _ in range(2)] == [True, False]
    assert kept.ledger.pauses() == []
    assert not kept.ledger.probe("main", 30)


def test_a_half_open_relay_is_the_callers_to_avoid(kept: Kept) -> None:
    half_open(kept)
    add(kept.ledger, accepted(relay="main"), accepted(relay="other"))
    assert kept.ledger.due(Lane.TRANSACTIONAL, 10) == 2
    assert kept.ledger.due(Lane.TRANSACTIONAL, 10, ["main"]) == 1
    assert relays(kept, avoid=["main"]) == ["other"]
    assert relays(kept) == ["main"]


def test_one_caller_at_a_time_may_try_a_half_open_relay(kept: Kept) -> None:
    half_open(kept)
    assert [kept.ledger.probe("main", 30) for _ in range(3)] == [True, False, False]
    assert standing(kept) == [("main", True)]
    kept.age(31)  # the one that tried has died
    assert [kept.ledger.probe("main", 30) for _ in range(2)] == [True, False]


def test_a_probe_that_fails_pauses_the_relay_for_longer_and_then_another_may_try(kept: Kept) -> None:
    half_open(kept)
    assert kept.ledger.probe("main", 3600)
    assert trouble(kept) == 10
    assert standing(kept) == [("main", False)]
    assert not kept.ledger.probe("main", 30)
    kept.age(11)
    assert [kept.ledger.probe("main", 30) for _ in range(2)] == [True, False]


def test_trouble_after_a_good_probe_is_remembered(kept: Kept) -> None:
    half_open(kept)
    assert kept.ledger.resume("relay", "main")
    kept.age(1)
    assert trouble(kept) == 10


def test_a_relay_whose_settings_have_changed_is_half_open_at_once(kept: Kept) -> None:
    trouble(kept, 3600)
    kept.ledger.reopen("main")
    assert standing(kept) == [("main", True)]
    assert [kept.ledger.probe("main", 30) for _ in range(2)] == [True, False]
    assert trouble(kept) == 5


def test_a_probe_that_learned_nothing_leaves_the_next_one_to_another(kept: Kept) -> None:
    before = half_open(kept)
    assert kept.ledger.probe("main", 30)
    kept.ledger.reopen("main")
    assert kept.ledger.pauses() == [before]
    assert [kept.ledger.probe("main", 30) for _ in range(2)] == [True, False]
    assert kept.ledger.resume("relay", "main")
    kept.ledger.reopen("main")
    assert kept.ledger.pauses() == []


def test_each_relay_has_a_breaker_of_its_own(kept: Kept) -> None:
    half_open(kept)
    trouble(kept, relay="other")
    assert standing(kept) == [("main", True), ("other", False)]
    assert not kept.ledger.probe("other", 30)
    assert kept.ledger.resume("relay", "main")
    assert standing(kept) == [("other", False)]


def at_once(count: int, act: Callable[[], object]) -> list[object]:
    """What so many threads are answered that do the same at the same time."""
    answers, gate = list[object](), threading.Barrier(count)

    def work() -> None:
        gate.wait(30)
        answers.append(act())

    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def test_of_twenty_threads_one_may_probe(kept: Kept) -> None:
    half_open(kept)
    for _ in range(3):
        assert sorted(map(bool, at_once(20, lambda: kept.ledger.probe("main", 30)))) == [False] * 19 + [True]
        kept.age(31)


def test_of_workers_that_meet_the_first_trouble_at_once_none_cuts_a_person_short(kept: Kept) -> None:
    people, workers = iter([True]), iter(range(1, 20))

    def act() -> Pause:
        if next(people, False):
            return kept.ledger.pause("relay", "main", None, "maintenance", ANNA)
        return kept.ledger.pause("relay", "main", next(workers), "cannot connect")

    at_once(12, act)
    (pause,) = kept.ledger.pauses()
    assert (pause.until, pause.actor) == (None, "anna@desk-7")


# -- what a caller avoids


def test_what_a_caller_avoids_stays_also_when_it_is_named(kept: Kept) -> None:
    pinned = add(kept.ledger, accepted(relay="a"))
    add(kept.ledger, accepted(relay="b"), accepted())
    assert relays(kept, messages=pinned.message_ids, avoid=["a"]) == ["-", "b"]
    assert relays(kept) == ["a"]


def test_none_avoids_what_asks_for_no_relay(kept: Kept) -> None:
    for name in ("a", "b", None):
        add(kept.ledger, accepted(relay=name))
    due = kept.ledger.due
    asked: list[list[str | None]] = [[], ["a"], [None], ["a", None], ["a", "b"], ["a", "b", None]]
    assert [due(Lane.TRANSACTIONAL, 10, avoid) for avoid in asked] == [3, 2, 2, 1, 1, 0]
    kept.ledger.pause("relay", "b", 60, "quota", ANNA)
    assert [due(Lane.TRANSACTIONAL, 10, avoid) for avoid in asked] == [2, 1, 1, 0, 1, 0]
    assert relays(kept, avoid=[None]) == ["a"]
    assert relays(kept, avoid=["b", None]) == []
    assert relays(kept) == ["-"]
    assert kept.ledger.due(Lane.TRANSACTIONAL, 10) == 0


def test_few_that_may_go_are_found_behind_many_that_are_avoided(kept: Kept) -> None:
    add(kept.ledger, accepted(*(f"{n}@example.com" for n in range(700)), relay="a"))
    add(kept.ledger, accepted(*(f"{n}@example.com" for n in range(300))))
    kept.age(1)
    add(kept.ledger, accepted("free@example.com", relay="b"))
    leased = lease(kept.ledger, limit=10, avoid={"a", None})
    assert [each.relay for each in leased.messages] == ["b"]
    settle(kept.ledger, leased)
    assert len(lease(kept.ledger, limit=500, avoid={"a"}).messages) == 300
