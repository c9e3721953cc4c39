"""Automations on fakes: who gets which mail when, whatever comes twice, late, in the wrong order, or not at all."""

import email
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from dispatcher.audience import Column, Kind, Member
from dispatcher.delivery import Lane, Selector
from dispatcher.emitted import Event
from dispatcher.enrolment import FORGOTTEN, EnrolmentState
from dispatcher.errors import AutomationError, EventConflict, LedgerUnavailable, NotFound, SubmissionError
from dispatcher.events import EnrolmentFailed
from dispatcher.flow import Flow
from dispatcher.handed import Handed
from dispatcher.suppression import MARKETING, Reason, Suppression
from tests.flows import KINDS, automation, customer, kind
from tests.stage import ANNA, Stage

HOUR, DAY = 3600.0, 86400.0
SHANGHAI = {"zone": "Asia/Shanghai"}


class Theatre(Stage):
    """A stage whose dispatcher goes by these automations."""

    def __init__(self, *documents: Mapping[str, Any], **options: Any) -> None:
        super().__init__(secret_keys=("k" * 16,), public_url="https://mail.example", **options)
        self.load(*documents)

    def load(self, *documents: Mapping[str, Any]) -> list[str]:
        return self.dispatcher.automations.load([*KINDS, *documents], ANNA)

    def emit(self, kind: str = "registered", /, *, own: str | None = None, number: int = 7, **more: Any) -> list[str]:
        """Whom it took in."""
        receipt = self.dispatcher.emit(Event(kind, customer(number, **more), own))
        self.deliver_all()
        return list(receipt.enrolled)

    def deliver_all(self) -> None:
        for lane in Lane:
            while self.dispatcher.deliver(lane):
                pass

    def wait(self, seconds: float) -> None:
        """Let time pass, a quarter of an hour at a time, as workers look."""
        until = self.clock.now + seconds
        while self.clock.now < until:
            self.clock.now = min(until, self.clock.now + 900)
            self.dispatcher.advance(10.0, again=True)
            self.deliver_all()

    def steps(self, name: str = "welcome") -> list[tuple[str, str]]:
        return [(each.step, each.outcome) for each in self.dispatcher.automations.lines(name)]

    def times(self) -> list[str]:
        return [each.at for each in self.dispatcher.automations.lines("welcome")]

    def state(self, key: str = "7", name: str = "welcome") -> EnrolmentState:
        return self.dispatcher.automations.enrolled(name, key).state


def at(text: str, zone: str = "UTC") -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


# -- steps and their times


def test_the_first_mail_goes_at_once_and_the_next_when_its_time_has_come() -> None:
    theatre = Theatre(automation({"step": "hello"}, {"step": "tips", "after": "2h"}))
    assert theatre.emit() == ["welcome/7"]
    assert theatre.steps() == [("hello", "sent")]
    theatre.wait(2 * HOUR - 1)
    assert theatre.steps() == [("hello", "sent")]
    theatre.wait(1)
    assert theatre.steps() == [("hello", "sent"), ("tips", "sent")]
    assert theatre.state() is EnrolmentState.FINISHED


@pytest.mark.parametrize(
    ("begin", "step", "expected"),
    [
        ("2027-03-01T10:00", {"after": "3d", "at": "09:00"}, "2027-03-04 09:00+08:00"),
        ("2027-03-01T08:00", {"at": "09:00"}, "2027-03-01 09:00+08:00"),
        ("2027-03-01T10:00", {"at": "09:00"}, "2027-03-02 09:00+08:00"),
        ("2027-03-01T10:00", {"after": "36h", "at": "21:00"}, "2027-03-03 21:00+08:00"),
        ("2027-03-01T10:00", {"after": "36h", "at": "23:00"}, "2027-03-02 23:00+08:00"),
        ("2027-03-01T10:00", {"after": "1d"}, "2027-03-02 10:00+08:00"),
        ("2027-03-01T10:00", {"after": "90m"}, "2027-03-01 11:30+08:00"),
    ],
)
def test_a_step_is_at_its_time_by_the_persons_clock(begin: str, step: dict[str, str], expected: str) -> None:
    theatre = Theatre(automation({"step": "tips", **step}))
    theatre.clock.now = at(begin, "Asia/Shanghai")
    theatre.emit(**SHANGHAI)
    theatre.wait(5 * DAY)
    assert theatre.times() == [expected]


def test_days_are_days_of_the_clock_also_when_it_is_changed() -> None:
    theatre = Theatre(automation({"step": "a", "after": "2d"}, {"step": "b", "after": "48h"}))
    theatre.clock.now = at("2027-03-27T10:00", "Europe/Berlin")  # the clock goes on an hour on the 28th
    theatre.emit(zone="Europe/Berlin")
    theatre.wait(5 * DAY)
    assert theatre.times() == ["2027-03-29 10:00+02:00", "2027-03-31 10:00+02:00"]


def test_who_has_no_zone_or_one_that_is_none_goes_by_the_automations() -> None:
    theatre = Theatre(automation({"step": "tips", "at": "09:00"}, zone="Asia/Tokyo"))
    theatre.clock.now = at("2027-03-01T00:30")
    theatre.emit(number=1)
    theatre.emit(number=2, zone="Mars/Olympus")
    theatre.wait(2 * DAY)
    assert theatre.times() == ["2027-03-02 09:00+09:00"] * 2


def test_send_hours_hold_by_the_persons_clock() -> None:
    theatre = Theatre(automation({"step": "tips"}, hours="mon-fri 09:00-17:00"))
    theatre.clock.now = at("2027-03-05T18:00", "Asia/Shanghai")  # a Friday
    theatre.emit(**SHANGHAI)
    theatre.wait(4 * DAY)
    assert theatre.times() == ["2027-03-08 09:00+08:00"]


def test_times_follow_from_times_and_not_from_when_somebody_got_round_to_it() -> None:
    theatre = Theatre(automation(*({"step": each, "after": "1h"} for each in "abc")))
    begin = theatre.clock.now
    theatre.emit()
    theatre.clock.now += 1.5 * HOUR  # nobody looked
    theatre.wait(HOUR)
    theatre.clock.now += 3 * HOUR  # nobody looked for long: then it counts on from now
    theatre.wait(4 * HOUR)
    planned = [step.passed.planned_at - begin for step in theatre.dispatcher.automations.steps("welcome")]
    assert planned == [HOUR, 2 * HOUR, 3 * HOUR]
    theatre = Theatre(automation({"step": "a", "after": "1h"}, {"step": "b", "after": "1h"}))
    begin = theatre.clock.now
    theatre.emit()
    theatre.clock.now += 9 * HOUR
    theatre.wait(2 * HOUR)
    planned = [step.passed.planned_at - begin for step in theatre.dispatcher.automations.steps("welcome")]
    assert planned[0] == HOUR
    assert planned[1] >= 10 * HOUR


def test_a_step_that_is_too_late_is_passed_over_by_name() -> None:
    theatre = Theatre(automation({"step": "a", "after": "1h"}, {"step": "b", "after": "1h"}, late="2h"))
    theatre.emit()
    theatre.clock.now += 9 * HOUR
    theatre.wait(2 * HOUR)
    assert theatre.steps() == [("a", "late"), ("b", "sent")]


# -- events


def test_a_step_waits_for_its_event_and_gets_what_that_brings() -> None:
    shipped = {"step": "shipped", "wait_for": "shipped", "send": {"template": "hello", "data": {"half": 1}}}
    theatre = Theatre(automation({"step": "hello"}, shipped))
    theatre.emit()
    theatre.wait(9 * DAY)
    assert theatre.steps() == [("hello", "sent")]
    theatre.dispatcher.emit(Event("shipped", {**customer(), "name": "Ada"}))
    theatre.deliver_all()
    assert theatre.steps() == [("hello", "sent"), ("shipped", "sent")]
    assert theatre.state() is EnrolmentState.FINISHED


def test_an_event_that_comes_before_its_time_is_not_forgotten() -> None:
    theatre = Theatre(automation({"step": "hello"}, {"step": "shipped", "wait_for": "shipped"}))
    assert theatre.emit("shipped") == []
    assert theatre.emit() == ["welcome/7"]
    theatre.wait(60)
    assert theatre.steps() == [("hello", "sent"), ("shipped", "sent")]


@pytest.mark.parametrize(("otherwise", "expected"), [(None, []), ("ask", [("ask", "sent")])])
def test_what_does_not_come_in_time_ends_it_or_leads_elsewhere(
    otherwise: str | None, expected: list[tuple[str, str]]
) -> None:
    shipped = {"step": "shipped", "wait_for": "shipped", "within": "2d", "otherwise": otherwise}
    asking = [{"step": "ask"}] if otherwise else []
    theatre = Theatre(automation({"step": "hello"}, shipped, *asking))
    theatre.emit()
    theatre.wait(3 * DAY)
    assert theatre.steps() == [("hello", "sent"), ("shipped", "timed_out"), *expected]
    theatre.emit("shipped")
    theatre.wait(DAY)
    assert len(theatre.steps()) == 2 + len(expected)


def test_a_step_is_passed_over_when_something_else_was() -> None:
    theatre = Theatre(automation({"step": "hello"}, {"step": "tips", "after": "1d", "unless": ["ordered"]}))
    theatre.emit(number=1)
    theatre.emit(number=2)
    theatre.emit("ordered", number=2)
    theatre.wait(2 * DAY)
    found = [(each.key, each.step, each.outcome, each.what) for each in theatre.dispatcher.automations.lines("welcome")]
    assert ("1", "tips", "sent", "tips") in found
    assert ("2", "tips", "skipped", "ordered was") in found


def test_conditions_choose_who_comes_in_and_which_way() -> None:
    document = automation(
        {"step": "vip", "if": ["customer.vip"], "otherwise": "plain", "then": "end"},
        {"step": "plain"},
        trigger={"event": "ordered", "where": ["order.total>=100"]},
    )
    theatre = Theatre(document)
    for number, total, vip in ((1, "99.99", True), (2, 100, True), (3, 250.5, False)):
        theatre.dispatcher.emit(Event("ordered", {**customer(number, vip=vip), "order": {"total": total}}))
    theatre.deliver_all()
    found = [(each.key, each.step, each.outcome) for each in theatre.dispatcher.automations.lines("welcome")]
    assert found == [("2", "vip", "sent"), ("3", "vip", "skipped"), ("3", "plain", "sent")]


def test_an_event_that_ends_it_ends_it_at_once_and_for_good() -> None:
    theatre = Theatre(automation({"step": "hello"}, {"step": "tips", "after": "1d"}, exit=["left"]))
    theatre.emit()
    theatre.emit("left")
    assert theatre.state() is EnrolmentState.EXITED
    theatre.wait(2 * DAY)
    assert theatre.emit() == []
    assert theatre.steps() == [("hello", "sent")]


def test_the_same_event_twice_is_one_and_a_key_comes_in_once() -> None:
    theatre = Theatre(automation({"step": "hello"}))
    assert theatre.emit(own="r1") == ["welcome/7"]
    assert theatre.emit(own="r1") == []
    assert theatre.emit(own="r2") == []
    assert theatre.steps() == [("hello", "sent")]
    with pytest.raises(EventConflict, match="'r1' was emitted before, with other content"):
        theatre.emit(own="r1", name="Ada")


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ({"event": "registered", "data": {}}, "data.customer: is missing"),
        ({"event": "registered", "data": {"customer": {"id": 7}}}, "data.customer.email: is missing"),
        (
            {"event": "registred", "data": {}},
            "event: no kind of event 'registred'; did you mean registered",
        ),
        ({"data": {}}, "event: required: the name of a kind of event"),
        ({"event": "left", "data": [1]}, "data: must be an object"),
        ({"event": "left", "data": {}, "when": 1}, "when: unknown field; known are event, data, id, at"),
        ({"event": "left", "data": {}, "id": ""}, "id: must be a text of up to 256 printable characters"),
        ({"event": "left", "data": {}, "at": "tomorrow"}, "at: is no ISO 8601 time such as 2026-12-01T09:00:00+08:00"),
        ({"event": "left", "data": {}, "at": "2026-12-01T09:00"}, "at: has no offset from UTC"),
        ({"event": "left", "data": {}, "at": "0001-01-01T00:00:00+00:00"}, "at: is out of range: 1970 to 2999"),
        (["left"], "an event is an object with event, data, id and at"),
        (
            {"event": "registered", "data": customer(7) | {"customer": {"id": "x" * 201, "email": "a@b.c"}}},
            "longer than",
        ),
    ],
)
def test_an_event_that_cannot_be_says_why_and_does_nothing(document: Any, reason: str) -> None:
    theatre = Theatre(automation({"step": "hello"}))
    with pytest.raises(SubmissionError) as raised:
        theatre.dispatcher.emit(document)
    assert reason in str(raised.value)
    assert theatre.dispatcher.automations.events() == []


def test_of_many_events_each_has_its_answer() -> None:
    theatre = Theatre(automation({"step": "hello"}))
    events = [Event("registered", customer(1)), Event("nothing", {}), Event("registered", customer(2))]
    first, second, third = theatre.dispatcher.emit_many(events)
    assert isinstance(second, SubmissionError)
    assert not isinstance(first, SubmissionError)
    assert not isinstance(third, SubmissionError)
    assert (first.enrolled, third.enrolled) == (("welcome/1",), ("welcome/2",))


def test_what_came_as_a_task_is_kept_as_rejected_with_the_reason() -> None:
    theatre = Theatre(automation({"step": "hello"}))
    assert theatre.dispatcher.take_in_events([Handed({"event": "nothing"}, "t1", "erp")]) == ["rejected"]
    (reject,) = theatre.ledger.rejects()
    assert (reject.door, reject.reference, reject.field) == ("event", "t1", "event")
    assert theatre.dispatcher.take_in_events([Handed({"event": "left", "data": customer()}, "t2")]) == ["task:t2"]


# -- mails


def test_the_mails_of_a_person_go_one_after_the_other() -> None:
    theatre = Theatre(automation({"step": "hello"}, {"step": "tips"}))
    theatre.dispatcher.emit(Event("registered", customer()))
    theatre.clock.now += 5
    theatre.dispatcher.advance(10.0, again=True)
    assert theatre.steps() == [("hello", "sent")]  # it was not delivered yet
    theatre.deliver_all()
    theatre.wait(60)
    assert theatre.steps() == [("hello", "sent"), ("tips", "sent")]


def test_a_mail_says_whose_it_is_and_who_is_suppressed_gets_none() -> None:
    theatre = Theatre(automation({"step": "hello"}, list="news", lane="bulk", tags=["w"]))
    theatre.emit(number=1)
    whose = (("automation", "welcome"), ("step", "hello"), ("key", "1"))
    (row,) = theatre.ledger.find(Selector(metadata=whose, tag="w"))
    assert row.lane is Lane.BULK
    theatre.ledger.suppressions.add([Suppression("c2@example.com", MARKETING, Reason.HAND)])
    theatre.emit(number=2)
    assert theatre.steps() == [("hello", "sent"), ("hello", "suppressed")]


def test_a_name_stands_in_to_and_the_locale_chooses_the_language() -> None:
    person = {"address": "customer.email", "name": "customer.name", "locale": "customer.locale"}
    theatre = Theatre(automation({"step": "hello"}, person=person))
    theatre.emit(name='Ada "A"  Lovelace', locale="zh-CN")
    theatre.emit(number=8, locale="no such locale!")
    found = [email.message_from_bytes(message.content)["To"] for message in theatre.transport.sent]
    assert found == ['"Ada \\"A\\" Lovelace" <c7@example.com>', "c8@example.com"]


def test_a_mail_that_cannot_be_stops_there_until_a_person_sees_to_it() -> None:
    theatre = Theatre(automation({"step": "hello"}, {"step": "tips"}))
    theatre.dispatcher.emit(Event("registered", {"customer": {"id": 7, "email": "nobody"}}))
    assert theatre.state() is EnrolmentState.FAILED
    assert theatre.steps() == [("hello", "failed")]
    assert [each.step for each in theatre.events if isinstance(each, EnrolmentFailed)] == ["hello"]
    theatre.dispatcher.automations.retry("welcome", "7", ANNA)
    theatre.wait(60)
    assert theatre.steps() == [("hello", "failed"), ("hello", "failed")]
    with pytest.raises(SubmissionError, match="address: 'somebody' is not an email address"):
        theatre.dispatcher.automations.retry("welcome", "7", ANNA, address="somebody")
    theatre.dispatcher.automations.retry("welcome", "7", ANNA, address="ada@example.com")
    theatre.wait(60)
    assert theatre.steps()[2:] == [("hello", "sent")]
    assert b"\r\nTo: ada@example.com\r\n" in theatre.transport.sent[-1].content


def test_who_is_out_is_neither_tried_again_nor_taken_out() -> None:
    theatre = Theatre(automation({"step": "hello"}))
    theatre.dispatcher.emit(Event("registered", {"customer": {"id": 7, "email": "nobody"}}))
    theatre.dispatcher.automations.exit("welcome", "7", ANNA)
    assert theatre.state() is EnrolmentState.EXITED
    with pytest.raises(SubmissionError, match="has not failed but is exited; nothing was done"):
        theatre.dispatcher.automations.retry("welcome", "7", ANNA)
    with pytest.raises(SubmissionError, match="is exited already; nothing was done"):
        theatre.dispatcher.automations.exit("welcome", "7", ANNA)


def test_who_cannot_be_moved_on_keeps_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    theatre = Theatre(automation({"step": "hello"}, {"step": "tips", "after": "1h"}))
    theatre.emit(number=1)
    theatre.emit(number=2)
    real = Flow.moment

    def moment(flow: Flow, step: Any, base: float, zone: str) -> float:
        if zone == "Asia/Tokyo":
            raise OverflowError("date value out of range")
        return real(flow, step, base, zone)

    monkeypatch.setattr(Flow, "moment", moment)
    theatre.emit(number=3, zone="Asia/Tokyo")
    theatre.wait(2 * HOUR)
    assert theatre.state("3") is EnrolmentState.FAILED
    assert [theatre.state(key) for key in "12"] == [EnrolmentState.FINISHED] * 2


def test_a_rate_of_its_own_holds() -> None:
    theatre = Theatre(automation({"step": "hello"}, rate=["10/h"]))
    for number in range(25):
        theatre.emit(number=number)
    assert theatre.steps() == []  # who emits does not ask for the rate
    theatre.wait(60)
    assert len(theatre.steps()) == 10
    theatre.wait(3 * HOUR)
    assert len(theatre.steps()) == 25


def test_a_rate_that_was_too_low_is_put_right_by_another_version() -> None:
    theatre = Theatre(automation({"step": "hello"}, rate=["1/day"]))
    for number in range(205):  # more than are looked at in one go
        theatre.emit(number=number)
    theatre.wait(60)
    assert len(theatre.steps()) == 1
    theatre.load(automation({"step": "hello"}))
    theatre.emit(number=999)
    theatre.wait(60)
    assert len(theatre.steps()) == 206


def test_the_ledger_away_loses_no_mail_of_an_event_that_was_taken() -> None:
    theatre = Theatre(automation({"step": "hello"}))
    moved = theatre.ledger.automations.moved

    def away(*_: Any) -> Any:
        raise LedgerUnavailable("gone")

    theatre.ledger.automations.moved = away  # type: ignore[method-assign]
    assert theatre.emit() == ["welcome/7"]
    theatre.ledger.automations.moved = moved  # type: ignore[method-assign]
    assert theatre.steps() == []
    theatre.wait(60)
    assert theatre.steps() == [("hello", "sent")]


# -- versions, pauses


def test_who_is_inside_finishes_by_the_version_that_took_them_in() -> None:
    theatre = Theatre(automation({"step": "hello"}, {"step": "old", "after": "1d"}))
    theatre.emit(number=1)
    assert theatre.load(automation({"step": "hello"}, {"step": "new", "after": "1d"})) == ["welcome version 2"]
    theatre.emit(number=2)
    theatre.wait(2 * DAY)
    found = {(each.key, each.step) for each in theatre.dispatcher.automations.lines("welcome")}
    assert found == {("1", "hello"), ("1", "old"), ("2", "hello"), ("2", "new")}


def test_a_pause_holds_mails_back_and_nothing_else() -> None:
    theatre = Theatre(automation({"step": "hello"}, {"step": "tips", "after": "1h", "unless": ["ordered"]}))
    theatre.emit(number=1)
    theatre.dispatcher.automations.pause("welcome", replace(ANNA, reason="a wrong price"))
    theatre.emit(number=2)
    theatre.emit("ordered", number=1)
    theatre.wait(5 * HOUR)
    assert theatre.steps() == [("hello", "sent")]
    theatre.dispatcher.automations.resume("welcome", ANNA)
    theatre.wait(2 * HOUR)
    assert sorted(theatre.steps()) == [("hello", "sent"), ("hello", "sent"), ("tips", "sent"), ("tips", "skipped")]


def test_what_is_refused_leaves_all_as_it_was() -> None:
    theatre = Theatre(automation({"step": "hello"}))
    with pytest.raises(AutomationError, match=r"automation welcome steps\[0\]\.then: no step 'nowhere'"):
        theatre.load(automation({"step": "hello", "then": "nowhere"}))
    assert theatre.dispatcher.automations.get("welcome").version == 1
    with pytest.raises(NotFound, match="no automation 'welcom'; did you mean welcome"):
        theatre.dispatcher.automations.get("welcom")


def test_a_kind_of_event_that_an_automation_would_not_fit_is_refused() -> None:
    theatre = Theatre(automation({"step": "hello", "if": ["order.total >= 10"]}, trigger={"event": "ordered"}))
    other = kind("ordered", order={"type": "object", "properties": {"sum": {"type": "number"}}})
    load = theatre.dispatcher.automations.load
    with pytest.raises(
        AutomationError, match=r"event ordered data: automation welcome goes by it: steps\[0\]\.if\[0\]"
    ):
        load([other], ANNA)
    fitting = automation({"step": "hello", "if": ["order.sum >= 10"]}, trigger={"event": "ordered"})
    assert load([other, fitting], ANNA) == ["event ordered", "welcome version 2"]


def test_a_kind_of_event_that_those_inside_need_stays() -> None:
    later = automation({"step": "hello", "after": "1h", "if": ["order.total >= 10"]}, trigger={"event": "ordered"})
    theatre = Theatre(later)
    theatre.emit("ordered", order={"total": 20})
    other = kind("ordered", order={"type": "object", "properties": {"sum": {"type": "number"}}})
    fitting = automation({"step": "hello", "if": ["order.sum >= 10"]}, trigger={"event": "ordered"})
    with pytest.raises(AutomationError, match=r"automation welcome goes by it: steps\[0\]\.if\[0\]"):
        theatre.dispatcher.automations.load([other, fitting], ANNA)
    theatre.wait(2 * HOUR)
    assert theatre.dispatcher.automations.load([other, fitting], ANNA) == ["event ordered", "welcome version 2"]


def test_a_key_that_those_inside_leave_by_stays() -> None:
    theatre = Theatre(automation({"step": "hello"}, {"step": "tips", "after": "1h"}, exit=["left"]))
    theatre.emit()
    other = {**kind("left"), "data": {"properties": {"customer": {"properties": {"no": {"type": "string"}}}}}}
    other["sample"] = {}
    with pytest.raises(AutomationError, match="automation welcome goes by it: key"):
        theatre.dispatcher.automations.load([other, automation({"step": "hello"})], ANNA)


def test_a_ledger_that_is_away_for_a_moment_pauses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    theatre = Theatre(automation({"step": "hello", "after": "1h", "if": ["customer.vip = true"]}))
    theatre.emit(vip=True)

    def away(*_: object) -> None:
        raise LedgerUnavailable("the server closed the connection")

    monkeypatch.setattr("dispatcher.flows.columns_of", away)
    theatre.dispatcher.automations._flows._flows.clear()  # as in a process that has just begun
    theatre.clock.now += 2 * HOUR
    with pytest.raises(LedgerUnavailable):
        theatre.dispatcher.advance(10.0)
    monkeypatch.undo()
    theatre.wait(60)
    assert not theatre.dispatcher.automations.get("welcome").paused
    assert theatre.steps() == [("hello", "sent")]


def test_what_is_said_of_who_is_forgotten_is_no_reason_to_leave() -> None:
    theatre = Theatre(automation({"step": "hello"}, {"step": "tips", "after": "1h"}))
    theatre.emit()
    with pytest.raises(SubmissionError, match="say it in other words"):
        theatre.dispatcher.automations.exit("welcome", "7", replace(ANNA, reason=FORGOTTEN))


def test_an_automation_that_cannot_tell_whom_it_means_pauses_and_keeps_no_other() -> None:
    meant = automation({"step": "hello"}, trigger={"event": "ordered", "where": ["order.total >= 10"]})
    theatre = Theatre(meant, {**automation({"step": "thanks"}, trigger={"event": "ordered"}), "automation": "other"})
    other = kind("ordered", order={"type": "object", "properties": {"sum": {"type": "number"}}})
    theatre.ledger.automations.load([], [other], ANNA)  # by a program that does not look
    theatre.clock.now += 2
    assert theatre.emit("ordered") == ["other/7"]
    found = theatre.dispatcher.automations.get("welcome")
    assert found.paused
    assert found.reason.startswith("trigger.where: ")


def test_a_template_that_lacks_data_is_refused_when_it_is_loaded() -> None:
    theatre = Theatre()
    with pytest.raises(AutomationError, match=r"steps\[0\]\.send\.template: with sample data: data\.name: is missing"):
        theatre.load(automation({"step": "hello", "send": {"template": "hello"}}))


# -- days


def celebrating(theatre: Theatre, *people: tuple[str, str, str]) -> None:
    """An audience of these: address, birthday, zone."""
    columns = [Column("email", Kind.ADDRESS, "email"), Column("born", Kind.DATE, "born"), Column("tz", Kind.ZONE, "tz")]
    version = theatre.ledger.audiences.begin("people", "people.csv", columns, ANNA)
    rows = [Member(n, who, who, {"born": born, "tz": zone}) for n, (who, born, zone) in enumerate(people, 2)]
    theatre.ledger.audiences.add(version.id, rows, [])
    theatre.ledger.audiences.ready(version.id, ANNA)


def birthday(**trigger: Any) -> dict[str, Any]:
    found = automation({"step": "hello"})
    del found["key"], found["person"]
    return {**found, "trigger": {"date": "born", "audience": "people", **trigger}}


def test_a_birthday_is_at_nine_where_the_person_lives() -> None:
    theatre = Theatre()
    theatre.clock.now = at("2027-02-25T12:00")
    celebrating(
        theatre, ("a@example.com", "1990-03-01", "Asia/Shanghai"), ("b@example.com", "1990-03-01", "America/New_York"),
        ("c@example.com", "1990-03-02", "Asia/Shanghai"), ("d@example.com", "2031-03-01", "Asia/Shanghai"),
    )  # fmt: skip
    theatre.load(birthday())
    theatre.wait(5 * DAY)
    found = [(each.to, each.at) for each in theatre.dispatcher.automations.lines("welcome")]
    assert found == [
        ("a@example.com", "2027-03-01 09:00+08:00"),
        ("b@example.com", "2027-03-01 09:00-05:00"),
        ("c@example.com", "2027-03-02 09:00+08:00"),
    ]


@pytest.mark.parametrize(("rule", "day"), [("02-28", "2027-02-28"), ("03-01", "2027-03-01"), ("skip", None)])
def test_who_is_born_on_29_february_has_a_day_in_other_years_too(rule: str, day: str | None) -> None:
    theatre = Theatre()
    theatre.clock.now = at("2027-02-20T00:00")
    celebrating(theatre, ("a@example.com", "1992-02-29", "UTC"))
    theatre.load(birthday(february_29=rule))
    theatre.wait(20 * DAY)
    assert theatre.times() == ([f"{day} 09:00+00:00"] if day else [])
    theatre.clock.now = at("2028-02-27T00:00")
    theatre.wait(4 * DAY)
    assert theatre.times()[-1] == "2028-02-29 09:00+00:00"


def test_a_date_once_comes_so_many_days_before() -> None:
    theatre = Theatre()
    theatre.clock.now = at("2027-02-20T00:00")
    celebrating(theatre, ("a@example.com", "2027-03-10", "UTC"), ("b@example.com", "2026-03-10", "UTC"))
    theatre.load(birthday(each="once", before="14d", at="18:30"))
    theatre.wait(30 * DAY)
    assert theatre.times() == ["2027-02-24 18:30+00:00"]


def test_what_was_before_it_was_loaded_is_not_caught_up_with() -> None:
    theatre = Theatre()
    theatre.clock.now = at("2027-03-01T10:00")
    celebrating(theatre, ("a@example.com", "1990-03-01", "UTC"), ("b@example.com", "1990-03-01", "America/New_York"))
    theatre.load(birthday())
    theatre.wait(3 * DAY)
    assert theatre.times() == ["2027-03-01 09:00-05:00"]


def test_a_downtime_is_accounted_for_by_name() -> None:
    theatre = Theatre()
    theatre.clock.now = at("2027-02-25T12:00")
    celebrating(theatre, *((f"p{n}@example.com", f"1990-03-0{n}", "UTC") for n in range(1, 6)))
    theatre.load(birthday())
    theatre.clock.now = at("2027-03-04T12:00")
    theatre.wait(3 * DAY)
    found = [(each.to, each.outcome) for each in theatre.dispatcher.automations.lines("welcome")]
    assert found == [(f"p{n}@example.com", "late" if n < 4 else "sent") for n in range(1, 6)]


@pytest.mark.parametrize("loaded_again", [False, True])
def test_who_comes_in_with_another_version_of_the_audience_is_seen_the_same_day_and_nobody_twice(
    loaded_again: bool,
) -> None:
    theatre = Theatre()
    theatre.clock.now = at("2027-02-27T12:00")
    celebrating(theatre, ("a@example.com", "1990-03-01", "UTC"))
    theatre.load(birthday())
    theatre.clock.now = at("2027-03-01T09:30")
    theatre.wait(HOUR)
    celebrating(theatre, ("a@example.com", "1990-03-01", "UTC"), ("b@example.com", "1990-03-01", "UTC"))
    if loaded_again:
        theatre.load({**birthday(), "about": "Another text"})
    theatre.wait(2 * DAY)
    assert [each.to for each in theatre.dispatcher.automations.lines("welcome")] == ["a@example.com", "b@example.com"]


def test_an_audience_that_is_gone_pauses_it_with_the_reason() -> None:
    theatre = Theatre()
    theatre.clock.now = at("2027-02-27T12:00")
    celebrating(theatre, ("a@example.com", "1990-03-01", "UTC"))
    theatre.load(birthday())
    theatre.ledger.audiences.drop("people", None, ANNA)
    theatre.wait(HOUR)
    found = theatre.dispatcher.automations.get("welcome")
    assert found.paused
    assert "people" in found.reason


def test_a_load_while_it_is_looked_what_is_loaded_pauses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    theatre = Theatre(automation({"step": "hello"}))
    store = theatre.ledger.automations
    golden = automation({"step": "hello"}, trigger={"event": "registered", "where": ["tier=gold"]})
    tiers = kind("registered", tier={"type": "string"})
    event_types = store.event_types

    def loading() -> Any:
        found = event_types()
        store.load([(golden, None)], [tiers], ANNA)
        return found

    theatre.clock.now += 60
    monkeypatch.setattr(store, "event_types", loading)
    assert theatre.emit() == ["welcome/7"]  # by the version and the kinds of one moment
    monkeypatch.setattr(store, "event_types", event_types)
    theatre.clock.now += 60
    receipt = theatre.dispatcher.emit(Event("registered", {**customer(8), "tier": "gold"}))
    assert receipt.enrolled == ("welcome/8",)
    assert not store.get("welcome").paused
