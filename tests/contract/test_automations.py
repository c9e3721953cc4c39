"""What every ledger promises of automations: an event counts once, a key is enrolled once, a step and its mail are one
change, and nobody's event is overlooked, whoever does what at the same time."""

import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from dispatcher.automation import Scan
from dispatcher.delivery import Actor
from dispatcher.emitted import EventReceipt
from dispatcher.enrolment import FORGOTTEN, Enrolment, EnrolmentState, Entry, Passed, StepOutcome, Touch
from dispatcher.errors import EventConflict, NotFound, SubmissionError
from dispatcher.flow import Move
from dispatcher.interfaces import EventRow, Step
from dispatcher.mail import Receipt
from dispatcher.suppression import ALL, Reason, Suppression
from tests.ledgers import ANNA, DAY, Kept, accepted, add, lease, settle

BOB = Actor("bob", "desk-8")
WELCOME: Mapping[str, Any] = {"automation": "welcome", "steps": [{"step": "hello"}]}
KIND: Mapping[str, Any] = {"event": "customer.registered", "about": "", "data": {}, "sample": {}}
EXPECTED, ACTIVE, FINISHED, EXITED, FAILED = EnrolmentState
HOUR = 3600.0


def loaded(kept: Kept, document: Mapping[str, Any] = WELCOME, scan: Scan | None = None) -> int:
    """The automation's number."""
    kept.ledger.automations.load([(document, scan)], [KIND], ANNA)
    return kept.ledger.automations.get(document["automation"]).id


def event(name: str = "customer.registered", own: str = "1", *, content: str = "a", at: float = 1000.0) -> EventRow:
    return EventRow(name, own, "crm", at, 0.0, {"customer": {"id": 7}}, content * 64)


def entering(owner: int, key: str = "7", version: int = 1, at: float = 1000.0) -> Touch:
    entry = Entry(version, at, "li@example.com", {"customer": {"name": "Li"}})
    return Touch(owner, key, "customer.registered", at, noted=False, brings=None, entry=entry)


def noticing(owner: int, key: str = "7", name: str = "order.created", **fields: Any) -> Touch:
    return Touch(owner, key, name, 2000.0, **{"noted": True, "brings": None, "entry": None, **fields})


def record(kept: Kept, row: EventRow, *touches: Touch) -> EventReceipt | EventConflict:
    (answer,) = kept.ledger.automations.record([row], [touches])
    return answer


def inside(kept: Kept, owner: int, key: str = "7") -> Enrolment:
    """Somebody who was just taken in."""
    record(kept, event(own=f"in {key}"), entering(owner, key))
    return kept.ledger.automations.enrolled("welcome", key)


def passing(seen: Enrolment, **made: Any) -> Move:
    passed = Passed("hello", 1000.0, 1001.0, StepOutcome.SENT, "")
    return Move(seen, replace(seen, **{"step": "tips", "planned_at": None, "due_at": None, **made}), (passed,))


def acts(kept: Kept) -> list[tuple[str, str]]:
    return [(act.act, act.subject) for act in reversed(kept.ledger.acts())]


# -- what is loaded


def test_what_is_loaded_is_a_version_and_the_same_again_is_none(kept: Kept) -> None:
    store = kept.ledger.automations
    assert store.load([(WELCOME, None)], [KIND], ANNA) == ["event customer.registered", "welcome version 1"]
    assert store.load([(WELCOME, None)], [KIND], ANNA) == []
    changed = {**WELCOME, "about": "other"}
    assert store.load([(changed, None)], [KIND], ANNA) == ["welcome version 2"]
    found = store.get("welcome")
    assert (found.name, found.version, found.paused, found.actor) == ("welcome", 2, False, "anna@desk-7")
    assert store.documents() == {(found.id, 1): WELCOME, (found.id, 2): changed}
    assert store.loaded() == (store.listed(), store.documents(), store.event_types())
    assert store.event_types() == {"customer.registered": KIND}
    assert acts(kept) == [("load", "event customer.registered, welcome version 1"), ("load", "welcome version 2")]


def test_a_name_that_is_nobodys_is_said_with_what_there_is(kept: Kept) -> None:
    loaded(kept)
    with pytest.raises(NotFound, match="no automation 'welcom'; did you mean welcome"):
        kept.ledger.automations.get("welcom")


def test_pause_and_resume_say_who_and_why_and_not_twice(kept: Kept) -> None:
    loaded(kept)
    store = kept.ledger.automations
    found = store.act("welcome", "pause", ANNA)
    assert (found.paused, found.reason) == (True, "asked by the customer")
    with pytest.raises(SubmissionError, match="paused by anna@desk-7; nothing was done"):
        store.act("welcome", "pause", BOB)
    assert not store.act("welcome", "resume", BOB).paused
    with pytest.raises(SubmissionError, match="not paused"):
        store.act("welcome", "resume", BOB)


def test_who_is_inside_of_what_is_paused_is_not_due(kept: Kept) -> None:
    inside(kept, loaded(kept))
    store = kept.ledger.automations
    assert [each.key for each in store.due(10)] == ["7"]
    store.act("welcome", "pause", ANNA)
    assert store.due(10) == []
    assert not store.pending()


def test_it_is_not_removed_while_anybody_is_inside(kept: Kept) -> None:
    store = kept.ledger.automations
    seen = inside(kept, loaded(kept))
    with pytest.raises(SubmissionError, match="1 are in it"):
        store.remove("welcome", ANNA)
    store.moved([(passing(seen, state=FINISHED), None)])
    store.remove("welcome", ANNA)
    assert (store.listed(), store.documents()) == ([], {})
    with pytest.raises(NotFound):
        list(store.steps("welcome"))
    owner = loaded(kept)
    with pytest.raises(NotFound):
        store.enrolled("welcome", "7")
    assert record(kept, event(own="again"), entering(owner)) == EventReceipt(
        "again", "customer.registered", duplicate=False, enrolled=("welcome/7",), due=(inside(kept, owner),)
    )


# -- events


def test_an_event_takes_somebody_in(kept: Kept) -> None:
    owner = loaded(kept)
    receipt = record(kept, event(), entering(owner))
    found = kept.ledger.automations.enrolled("welcome", "7")
    assert receipt == EventReceipt("1", "customer.registered", duplicate=False, enrolled=("welcome/7",), due=(found,))
    assert (found.state, found.step, found.since, found.version) == (ACTIVE, None, 1000.0, 1)
    assert (found.address, found.data) == ("li@example.com", {"customer": {"name": "Li"}})
    assert [each.name for each in kept.ledger.automations.events(None, 10)] == ["customer.registered"]


def test_a_producer_whose_clock_is_ahead_takes_somebody_in_at_once(kept: Kept) -> None:
    owner = loaded(kept)
    ahead = time.time() + DAY
    receipt = record(kept, event(at=ahead), entering(owner, at=ahead))
    found = kept.ledger.automations.enrolled("welcome", "7")
    assert isinstance(receipt, EventReceipt)
    assert receipt.due == (found,)
    assert found.since < ahead


def test_the_same_event_is_one_and_another_with_its_id_is_refused(kept: Kept) -> None:
    owner = loaded(kept)
    record(kept, event(), entering(owner))
    before = kept.ledger.automations.enrolled("welcome", "7")
    again = record(kept, event(), entering(owner))
    assert again == EventReceipt("1", "customer.registered", duplicate=True)
    assert kept.ledger.automations.enrolled("welcome", "7").revision == before.revision
    assert isinstance(record(kept, event(content="b"), entering(owner)), EventConflict)
    other = record(kept, event()._replace(producer="erp"), entering(owner, "8"))
    assert isinstance(other, EventReceipt)
    assert other.enrolled == ("welcome/8",)


def test_a_key_is_enrolled_once_for_good(kept: Kept) -> None:
    owner = loaded(kept)
    seen = inside(kept, owner)
    kept.ledger.automations.moved([(passing(seen, state=FINISHED), None)])
    again = record(kept, event(own="2"), entering(owner))
    assert isinstance(again, EventReceipt)
    assert (again.enrolled, again.due) == ((), ())
    assert kept.ledger.automations.enrolled("welcome", "7").state is FINISHED


def test_an_event_before_its_time_is_remembered(kept: Kept) -> None:
    owner = loaded(kept)
    record(kept, event("order.created", "o1"), noticing(owner, brings={"order": 1}))
    with pytest.raises(NotFound, match="nobody is or was in welcome as '7'"):
        kept.ledger.automations.enrolled("welcome", "7")
    assert kept.ledger.automations.counts("welcome") == {}
    record(kept, event("order.created", "o2"), noticing(owner, brings={"order": 2}))
    found = inside(kept, owner)
    assert found.seen == {"order.created": {"at": 2000.0, "data": {"order": 1}}}


def test_an_event_that_is_waited_for_makes_who_waits_due(kept: Kept) -> None:
    owner = loaded(kept)
    store = kept.ledger.automations
    store.moved([(passing(inside(kept, owner), awaits="order.created"), None)])
    assert store.due(10) == []
    record(kept, event("order.cancelled", "c1"), noticing(owner, name="order.cancelled"))
    assert store.due(10) == []
    receipt = record(kept, event("order.created", "o1"), noticing(owner))
    assert isinstance(receipt, EventReceipt)
    assert store.due(10) == list(receipt.due)


def test_whoever_took_an_event_in_has_those_whom_it_moves_for_a_while(kept: Kept) -> None:
    owner = loaded(kept)
    store = kept.ledger.automations
    (receipt,) = store.record([event()], [[entering(owner)]], HOUR)
    assert isinstance(receipt, EventReceipt)
    assert (store.due(10), store.pending()) == ([], False)
    store.moved([(passing(receipt.due[0], awaits="order.created"), accepted())])
    taken = lease(kept.ledger)
    for n in range(2):
        (receipt,) = store.record([event("order.created", f"o{n}")], [[noticing(owner)]], HOUR)
        assert isinstance(receipt, EventReceipt)
        assert [each.busy for each in receipt.due] == [True]
    kept.age(HOUR)
    assert [each.key for each in store.due(10)] == ["7"]
    settle(kept.ledger, taken)
    store.act("welcome", "pause", ANNA)
    (receipt,) = store.record([event("order.created", "o2")], [[noticing(owner)]], HOUR)
    assert isinstance(receipt, EventReceipt)
    assert receipt.due == ()


def test_an_event_that_ends_it_makes_those_due_whose_version_says_so(kept: Kept) -> None:
    owner = loaded(kept)
    store = kept.ledger.automations
    store.moved([(passing(inside(kept, owner)), None)])
    record(kept, event("customer.left", "l1"), noticing(owner, name="customer.left", exits=frozenset({2})))
    assert store.due(10) == []
    record(kept, event("customer.left", "l2"), noticing(owner, name="customer.left", exits=frozenset({1})))
    assert [each.key for each in store.due(10)] == ["7"]


def test_events_of_one_transaction_go_in_their_order(kept: Kept) -> None:
    owner = loaded(kept)
    rows = [event(own="1"), event("order.created", "2"), event(own="1"), event(own="3")]
    touches = [[entering(owner)], [noticing(owner), noticing(owner, "8")], [entering(owner)], [entering(owner, "8")]]
    found = kept.ledger.automations.record(rows, touches)
    assert [(each.duplicate, each.enrolled) for each in found if isinstance(each, EventReceipt)] == [
        (False, ("welcome/7",)),
        (False, ()),
        (True, ()),
        (False, ("welcome/8",)),
    ]
    assert kept.ledger.automations.enrolled("welcome", "8").saw("order.created")


def test_an_event_for_an_automation_that_is_gone_is_kept(kept: Kept) -> None:
    assert record(kept, event(), entering(77)) == EventReceipt("1", "customer.registered", duplicate=False)


# -- people


def test_a_step_and_its_mail_are_one_change(kept: Kept) -> None:
    seen = inside(kept, loaded(kept))
    (receipt,) = kept.ledger.automations.moved([(passing(seen), accepted(key="automation/welcome/1/hello"))])
    assert isinstance(receipt, Receipt)
    found = kept.ledger.automations.enrolled("welcome", "7")
    assert (found.step, found.mail, found.revision) == ("tips", receipt.id, seen.revision + 1)
    assert list(kept.ledger.automations.steps("welcome")) == [
        Step("7", "li@example.com", Passed("hello", 1000.0, 1001.0, StepOutcome.SENT, receipt.id))
    ]
    assert kept.ledger.submission(receipt.id).accepted == 1


def test_who_was_changed_meanwhile_is_not_moved_and_gets_no_mail(kept: Kept) -> None:
    owner = loaded(kept)
    seen = inside(kept, owner)
    record(kept, event("order.created", "o1"), noticing(owner))
    assert kept.ledger.automations.moved([(passing(seen), accepted())]) == [None]
    assert list(kept.ledger.automations.steps("welcome")) == []
    assert kept.ledger.totals().accepted == 0


def test_what_is_suppressed_is_said_in_the_step(kept: Kept) -> None:
    seen = inside(kept, loaded(kept))
    kept.ledger.suppressions.add([Suppression("li@example.com", ALL, Reason.HAND, "asked")], ANNA)
    kept.ledger.automations.moved([(passing(seen), accepted("li@example.com"))])
    (step,) = kept.ledger.automations.steps("welcome")
    assert step.passed.outcome is StepOutcome.SUPPRESSED


def test_who_has_a_mail_under_way_is_busy_until_it_is_settled(kept: Kept) -> None:
    store = kept.ledger.automations
    seen = inside(kept, loaded(kept))
    store.moved([(passing(seen, due_at=seen.due_at), accepted())])
    assert [each.busy for each in store.due(10)] == [True]
    taken = lease(kept.ledger)
    assert [each.busy for each in store.due(10)] == [True]
    settle(kept.ledger, taken)
    assert [each.busy for each in store.due(10)] == [False]


def test_due_are_those_whose_time_has_come_the_longest_first(kept: Kept) -> None:
    store, owner = kept.ledger.automations, loaded(kept)
    for key, late in (("a", 5.0), ("b", 50.0), ("c", -HOUR)):
        seen = inside(kept, owner, key)
        store.moved([(passing(seen, due_at=(seen.due_at or 0.0) - late), None)])
    assert [each.key for each in store.due(10)] == ["b", "a"]
    assert [each.key for each in store.due(1)] == ["b"]
    kept.age(HOUR)
    assert [each.key for each in store.due(10)] == ["b", "a", "c"]


def test_whom_the_rate_of_their_automation_holds_is_not_due(kept: Kept) -> None:
    store, owner = kept.ledger.automations, loaded(kept)
    seen = inside(kept, owner, "a")
    other = loaded(kept, {**WELCOME, "automation": "other"})
    record(kept, event(own="in b"), entering(other, "b"))
    store.hold(owner, store.get("welcome").version, HOUR)
    assert [each.key for each in store.due(10)] == ["b"]
    store.moved([(passing(store.enrolled("other", "b")), None)])
    assert not store.pending()
    at = store.next_at()
    assert at is not None
    assert at > seen.changed_at + HOUR - 60
    kept.age(HOUR)
    assert [each.key for each in store.due(10)] == ["a"]
    store.hold(owner, store.get("welcome").version, HOUR)
    store.load([({**WELCOME, "about": "another rate"}, None)], [], ANNA)
    store.hold(owner, 1, HOUR)  # by whoever looked before
    assert [each.key for each in store.due(10)] == ["a"]


def test_the_versions_that_somebody_is_in_are_known(kept: Kept) -> None:
    store, owner = kept.ledger.automations, loaded(kept)
    assert store.inside() == set()
    inside(kept, owner, "a")
    record(kept, event(own="2"), entering(owner, "b", version=2))
    assert store.inside() == {(owner, 1), (owner, 2)}
    store.moved([(passing(store.enrolled("welcome", "a"), state=FINISHED), None)])
    assert store.inside() == {(owner, 2)}


def test_no_number_is_given_again(kept: Kept) -> None:
    store, owner = kept.ledger.automations, loaded(kept)
    before = inside(kept, owner)
    store.moved([(passing(before, state=FINISHED), None)])
    store.remove("welcome", ANNA)
    again = loaded(kept)
    record(kept, event(own="again"), entering(again))
    assert again > owner
    assert store.enrolled("welcome", "7").id > before.id


def test_counts_and_lists_say_who_is_where(kept: Kept) -> None:
    store, owner = kept.ledger.automations, loaded(kept)
    for key in "abc":
        inside(kept, owner, key)
    store.moved([(passing(store.enrolled("welcome", "a")), None)])
    store.moved([(passing(store.enrolled("welcome", "b"), state=FAILED, outcome="no address"), None)])
    record(kept, event("order.created", "o1"), noticing(owner, "nobody yet"))
    assert store.counts("welcome") == {(ACTIVE, "tips"): 1, (FAILED, "tips"): 1, (ACTIVE, None): 1}
    assert {each.key for each in store.enrolments("welcome", limit=10)} == set("abc")
    assert [(each.key, each.outcome) for each in store.enrolments("welcome", FAILED, limit=10)] == [("b", "no address")]
    assert len(store.enrolments("welcome", limit=2)) == 2


def test_a_person_changes_what_they_saw_and_nothing_else(kept: Kept) -> None:
    store = kept.ledger.automations
    seen = inside(kept, loaded(kept))
    assert store.change(seen, replace(seen, state=EXITED, due_at=None, outcome="asked"), ANNA, "exit")
    assert not store.change(seen, replace(seen, state=ACTIVE), ANNA, "exit")
    assert store.enrolled("welcome", "7").state is EXITED
    assert acts(kept)[-1] == ("exit", "7 of automation welcome")


def test_steps_are_told_in_their_order_the_last_ones_if_few_are_asked_for(kept: Kept) -> None:
    store, owner = kept.ledger.automations, loaded(kept)
    for n, key in enumerate("ab"):
        seen = inside(kept, owner, key)
        passed = tuple(Passed(f"{key}{m}", 1000.0 + 10 * m - n, 2000.0, StepOutcome.SKIPPED, "") for m in range(2))
        store.moved([(Move(seen, seen, passed), None)])
    assert [each.passed.step for each in store.steps("welcome")] == ["b0", "a0", "b1", "a1"]
    assert [each.passed.step for each in store.steps("welcome", limit=2)] == ["b1", "a1"]
    assert [each.passed.step for each in store.steps("welcome", "a")] == ["a0", "a1"]


def test_standing_says_how_all_of_them_are(kept: Kept) -> None:
    store = kept.ledger.automations
    empty = store.standing()
    assert (empty.count, empty.paused, empty.inside, empty.failed, empty.due_since) == (0, (), 0, 0, None)
    owner = loaded(kept)
    seen = inside(kept, owner, "a")
    inside(kept, owner, "b")
    store.moved([(passing(seen, state=FAILED), None)])
    found = store.standing()
    assert (found.count, found.paused, found.inside, found.failed) == (1, (), 1, 1)
    assert found.due_since is not None
    assert found.due_since <= found.read_at
    store.act("welcome", "pause", ANNA)
    assert store.standing().paused == (("welcome", "asked by the customer"),)
    assert store.standing().due_since is None


# -- days


def scanned(kept: Kept) -> Scan:
    loaded(kept, scan=Scan("2028-02-28", None, 0, 1000.0))
    return Scan("2028-02-29", 4, 0, 2000.0)


def test_days_are_looked_through_once_and_people_taken_in_once(kept: Kept) -> None:
    store, scan = kept.ledger.automations, scanned(kept)
    (seen,) = store.scans()
    assert store.pending()
    rows = [(f"{n}@example.com/2028", Entry(1, 5000.0 + n, f"{n}@example.com", {"n": n})) for n in range(3)]
    assert store.enrol(seen, rows, replace(scan, after=3)) == 3
    assert store.enrol(seen, rows, scan) is None
    (seen,) = store.scans()
    assert seen.scan == replace(scan, after=3)
    assert store.enrol(seen, rows[:1], scan) == 0
    found = store.enrolled("welcome", "1@example.com/2028")
    assert (found.state, found.since, found.data) == (ACTIVE, 5001.0, {"n": 1})


def test_a_day_that_is_to_come_is_left(kept: Kept) -> None:
    store, scan = kept.ledger.automations, scanned(kept)
    (seen,) = store.scans()
    store.enrol(seen, [], replace(scan, at=seen.created_at + HOUR))
    assert (store.scans(), store.pending()) == ([], False)
    kept.age(2 * HOUR)
    assert len(store.scans()) == 1
    store.act("welcome", "pause", ANNA)
    assert store.scans() == []


def test_another_version_looks_through_its_day_anew(kept: Kept) -> None:
    store, scan = kept.ledger.automations, scanned(kept)
    (seen,) = store.scans()
    store.enrol(seen, [], replace(scan, after=700))
    store.load([({**WELCOME, "about": "other"}, Scan("2028-02-28", None, 0, 3000.0))], [], ANNA)
    assert store.get("welcome").scan == Scan(
        "2028-02-28", 4, 0, 3000.0
    )  # those who are new in an audience are seen, too
    store.load([({**WELCOME, "about": "third"}, Scan("2028-03-01", None, 0, 4000.0))], [], ANNA)
    assert store.get("welcome").scan == Scan("2028-02-28", 4, 0, 4000.0)  # what it was behind with is not left out


# -- forgetting


def test_what_is_over_its_retention_is_forgotten_but_for_the_key(kept: Kept) -> None:
    store, owner = kept.ledger.automations, loaded(kept)
    done, going = inside(kept, owner, "done"), inside(kept, owner, "going")
    store.moved([(passing(done, state=FINISHED), None), (passing(going), None)])
    record(kept, event("order.created", "o1"), noticing(owner, "unmet"))
    assert store.forget(30 * DAY, 10) == 0
    kept.age(31 * DAY)
    assert store.forget(30 * DAY, 10) == 3 + 1 + 1
    assert store.forget(30 * DAY, 10) == 0
    found = store.enrolled("welcome", "done")
    assert (found.address, found.data, found.outcome) == ("", {}, FORGOTTEN)
    assert [each.key for each in store.steps("welcome")] == ["going"]
    assert store.events(None, 10) == []
    again = record(kept, event(own="again"), entering(owner, "done"))
    assert isinstance(again, EventReceipt)
    assert again.enrolled == ()


def test_whose_step_has_failed_is_not_forgotten(kept: Kept) -> None:
    store, owner = kept.ledger.automations, loaded(kept)
    store.moved([(passing(inside(kept, owner, "a"), state=FAILED, outcome="no address"), None)])
    kept.age(31 * DAY)
    assert store.forget(30 * DAY, 10) == 1  # the event
    assert store.enrolled("welcome", "a").data == {"customer": {"name": "Li"}}


def test_of_who_is_forgotten_nothing_new_is_kept(kept: Kept) -> None:
    store, owner = kept.ledger.automations, loaded(kept)
    store.moved([(passing(inside(kept, owner), state=FINISHED), None)])
    kept.age(31 * DAY)
    store.forget(30 * DAY, 10)
    record(kept, event("order.created", "new"), noticing(owner, brings={"customer": {"name": "Li"}}))
    assert store.enrolled("welcome", "7").seen == {}


def test_whose_step_has_failed_is_inside(kept: Kept) -> None:
    store, owner = kept.ledger.automations, loaded(kept)
    store.moved([(passing(inside(kept, owner), state=FAILED, outcome="no address"), None)])
    assert store.inside() == {(owner, 1)}
    with pytest.raises(SubmissionError, match="1 are in it"):
        store.remove("welcome", ANNA)


def test_who_is_forgotten_is_in_no_list(kept: Kept) -> None:
    store, owner = kept.ledger.automations, loaded(kept)
    store.moved([(passing(inside(kept, owner, "a"), state=FINISHED), None)])
    kept.age(31 * DAY)
    store.forget(30 * DAY, 10)
    assert (store.enrolments("welcome", limit=10), store.enrolments("welcome", FINISHED, limit=10)) == ([], [])
    assert store.counts("welcome") == {(FINISHED, "tips"): 1}


# -- at the same time


def test_an_event_and_a_move_at_the_same_time_never_overlook_each_other(kept: Kept) -> None:
    """However they meet, whoever waits is woken, or sees the event when they look."""
    store, owner = kept.ledger.automations, loaded(kept)
    for n in range(10):
        seen, key = inside(kept, owner, f"k{n}"), f"k{n}"
        together = threading.Barrier(2)

        def move(seen: Enrolment = seen, together: threading.Barrier = together) -> None:
            together.wait()
            store.moved([(passing(seen, awaits="order.created"), None)])

        def emit(key: str = key, together: threading.Barrier = together) -> None:
            together.wait()
            record(kept, event("order.created", f"o {key}"), noticing(owner, key))

        threads = [threading.Thread(target=each) for each in (move, emit)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = store.enrolled("welcome", key)
        assert found.saw("order.created")
        assert key in [each.key for each in store.due(100)]


def test_the_same_event_from_many_at_once_is_one(kept: Kept) -> None:
    owner, answers = loaded(kept), list[Any]()
    together = threading.Barrier(4)

    def emit() -> None:
        together.wait()
        answers.append(record(kept, event(), entering(owner)))

    threads = [threading.Thread(target=emit) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(each.duplicate for each in answers) == [False, True, True, True]
    assert [each.enrolled for each in answers if not each.duplicate] == [("welcome/7",)]


def test_two_who_move_the_same_person_make_one_mail(kept: Kept) -> None:
    store = kept.ledger.automations
    seen, answers, together = inside(kept, loaded(kept)), list[Any](), threading.Barrier(3)

    def move() -> None:
        together.wait()
        answers.extend(store.moved([(passing(seen), accepted())]))

    threads = [threading.Thread(target=move) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(each is not None for each in answers) == 1
    assert len(list(store.steps("welcome"))) == 1


def test_what_was_added_by_somebody_else_stays(kept: Kept) -> None:
    add(kept.ledger, accepted())
    seen = inside(kept, loaded(kept))
    kept.ledger.automations.moved([(passing(seen), accepted())])
    assert kept.ledger.totals().accepted == 2


def test_many_who_meet_the_same_keys_in_any_order_hinder_nobody(kept: Kept) -> None:
    owner = loaded(kept)
    keys = [str(n) for n in range(20)]

    def emit(n: int) -> None:
        mine = keys if n % 2 else keys[::-1]
        rows = [event(own=f"{n}/{key}") for key in mine] + [event(own=f"all/{key}") for key in mine]
        kept.ledger.automations.record(rows, [[entering(owner, key)] for key in mine * 2])

    def move(_: int) -> None:
        moves = [(passing(seen, step="hello", due_at=seen.due_at), None) for seen in kept.ledger.automations.due(10)]
        kept.ledger.automations.moved(moves[::-1])

    with ThreadPoolExecutor(6) as pool:
        for work in [pool.submit(move if n % 3 == 0 else emit, n) for n in range(36)]:
            work.result(60)
    assert len(kept.ledger.automations.enrolments("welcome", limit=100)) == len(keys)


def test_a_key_that_is_forgotten_meanwhile_is_there_again(kept: Kept) -> None:
    """What notices an event and what forgets old keys do not drop it between them."""
    owner, store = loaded(kept), kept.ledger.automations
    for n in range(10):
        record(kept, event("order.created", f"old {n}"), noticing(owner, str(n)))
    kept.age(31 * DAY)
    done = threading.Event()

    def forget() -> None:
        while not done.is_set():
            store.forget(30 * DAY, 1)

    def emit() -> None:
        for n in range(10):
            record(kept, event("order.created", f"new {n}"), noticing(owner, str(n)))

    with ThreadPoolExecutor(2) as pool:
        forgetting, emitting = pool.submit(forget), pool.submit(emit)
        emitting.result(60)
        done.set()
        forgetting.result(60)
    for n in range(10):
        record(kept, event(own=f"in {n}"), entering(owner, str(n)))
        assert store.enrolled("welcome", str(n)).saw("order.created")
