"""What is wrong with an automation is said before anybody is taken in: at its place, in words of what it refers to."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dispatcher.adapters.yaml import read
from dispatcher.audience import Column, Kind
from dispatcher.automation_check import Fault, Surroundings, of_automation, of_event, shape
from dispatcher.emitted import EventType
from dispatcher.errors import AudienceError, AutomationError, MissingData
from tests.flows import KINDS, automation

COLUMNS = [Column("email", Kind.ADDRESS, "e"), Column("born", Kind.DATE, "b"), Column("city", Kind.TEXT, "c")]


def accept(document: Mapping[str, Any]) -> None:
    if document.get("template") == "lacks":
        raise MissingData("data.name", "is missing")


def columns(audience: str) -> list[Column]:
    if audience != "people":
        raise AudienceError(f"audience {audience}", "is none")
    return COLUMNS


AROUND = Surroundings({each["event"]: EventType.of(each) for each in KINDS}, columns, accept)


def faults(document: Any) -> list[tuple[str, str]]:
    found = list(shape(document)) or list(of_automation(document, AROUND))
    return [(fault.place, fault.reason) for fault in found]


def dated(**trigger: Any) -> dict[str, Any]:
    found = automation({"step": "hello"})
    return {name: value for name, value in found.items() if name not in ("key", "person")} | {
        "trigger": {"date": "born", "audience": "people", **trigger}
    }


def test_what_is_right_has_no_fault() -> None:
    assert faults(automation({"step": "hello"}, {"step": "tips", "after": "3d", "at": "09:00"})) == []
    assert faults(dated()) == []


STEP = {"step": "hello"}


@pytest.mark.parametrize(
    ("document", "place", "reason"),
    [
        ({"steps": []}, "", "is neither an automation nor an event: it begins with automation: NAME or event: NAME"),
        (["a"], "", "is neither an automation nor an event"),
        ({"automation": "a", "steps": [STEP]}, "trigger", "is missing"),
        (automation(STEP, colour="red"), "colour", "no property 'colour'; there are about, automation"),
        (automation({"step": "a", "sned": {}}), "steps[0].sned", "no property 'sned'; did you mean send?"),
        (
            automation({"step": "a", "after": "soon"}),
            "steps[0].after",
            "is not as asked for: How long after the step before, such as 36h",
        ),
        (automation({"step": "a", "at": "25:00"}), "steps[0].at", "is not as asked for: A time of day, such as 09:00"),
        (
            automation({"step": "a", "send": {"subject": "Hi {{ name }}", "text": "T"}}),
            "steps[0].send.subject",
            "{{ name ",
        ),
        (automation(STEP, zone="Mars"), "zone", "'Mars' is no time zone"),
        (automation(STEP, hours="nine to five"), "hours", "are no hours"),
        (automation(STEP, rate=["many"]), "rate", "many"),
        (automation(STEP, trigger={}), "trigger", "needs either an event or a date"),
        (automation(STEP, trigger={"event": "left", "date": "born"}), "trigger", "needs either an event or a date"),
        (automation(STEP, trigger={"event": "left", "at": "09:00"}), "trigger.at", "is only for a date"),
        (automation(STEP, trigger={"event": "gone"}), "trigger.event", "no kind of event 'gone'"),
        (automation(STEP, trigger={"event": "registred"}), "trigger.event", "did you mean registered"),
        (automation(STEP, exit=["gone"]), "exit[0]", "no kind of event 'gone'"),
        (
            automation(STEP, exit=["left", "registered"]),
            "exit[1]",
            "registered takes people in: all would leave",
        ),
        (automation(STEP, person={"address": "customer.name"}), "person.address", "with sample data: 'Ada"),
        (automation({**STEP, "unless": ["left", "gone"]}), "steps[0].unless[1]", "no kind of event 'gone'"),
        (automation({**STEP, "wait_for": "gone"}), "steps[0].wait_for", "no kind of event 'gone'"),
        (automation(STEP, key=None), "key", "must be of type string or object"),
        (automation(STEP, key="customer.number"), "key", "registered has no customer.number; did you mean"),
        (automation(STEP, key="customer.idd"), "key", "registered has no customer.idd; did you mean customer.id?"),
        (
            automation(STEP, key="customer.name"),
            "key",
            "need not have customer.name: make it required",
        ),
        (automation(STEP, key={"left": "customer.id"}), "key", "has no place for registered"),
        (automation(STEP, person={"address": "customer.mail"}), "person.address", "did you mean customer.email?"),
        (automation(STEP, person={"name": "customer.name"}), "person", "needs address"),
        (automation({**STEP, "then": "nowhere"}), "steps[0].then", "no step 'nowhere'"),
        (automation({**STEP, "if": ["customer.vip"], "otherwise": "x"}), "steps[0].otherwise", "no step 'x'"),
        (automation({**STEP, "otherwise": "end"}), "steps[0].otherwise", "can never be"),
        (automation({**STEP, "within": "2d"}), "steps[0].within", "is only for wait_for"),
        (automation(STEP, STEP), "steps[1].step", "hello is there twice"),
        (automation({"step": "end"}), "steps[0].step", "end is how a flow ends"),
        (automation({"step": "a"}, {"step": "b", "then": "a"}), "steps[0]", "goes round in a circle: a -> b -> a"),
        (automation({"step": "a", "then": "a"}), "steps[0]", "goes round in a circle: a -> a"),
        (automation({"step": "a", "then": "end"}, {"step": "b"}), "steps[1]", "b is never come to"),
        (automation({"step": "a", "send": None}), "steps[0]", "does nothing"),
        (automation({**STEP, "if": ["customer.age>3"]}), "steps[0].if[0]", "there is no attribute customer.age"),
        (automation({**STEP, "if": ["customer.vip=maybe"]}), "steps[0].if[0]", "is neither yes nor no"),
        (automation({**STEP, "if": ["%"]}), "steps[0].if[0]", "is no filter"),
        (automation({"step": "a", "send": {"template": "lacks"}}), "steps[0].send.template", "data.name: is missing"),
        (automation(STEP, under="customer"), "under", "is not for events"),
        (dated(audience="others"), "trigger.audience", "audience others: is none"),
        (dated(date="birthday"), "trigger.date", "no attribute of people 'birthday'"),
        (dated(date="city"), "trigger.date", "city of people is a text, and no date"),
        (dated(before="2h"), "trigger.before", "is not as asked for: So many whole days"),
        (dated(each="month"), "trigger.each", "must be one of"),
        (dated(where=["size=3"]), "trigger.where[0]", "there is no attribute size"),
        ({**dated(), "key": "customer.id"}, "key", "is not for dates"),
        ({**dated(), "exit": ["left"]}, "steps", "by dates cannot listen to events"),
    ],
)
def test_what_is_wrong_is_said_at_its_place(document: Any, place: str, reason: str) -> None:
    found = faults(document)
    assert any(where == place and reason in said for where, said in found), found


def test_a_kind_of_event_is_checked_with_its_sample() -> None:
    data = {"required": ["n"], "properties": {"n": {"type": "integer"}}}
    assert list(of_event({"event": "e", "data": data, "sample": {"n": 1}})) == []
    assert list(of_event({"event": "e", "data": data, "sample": {}})) == [Fault("sample.n", "is missing")]
    assert "is no JSON Schema" in next(of_event({"event": "e", "data": {"properties": 3}})).reason
    sensitive = {"properties": {"url": {"type": "string", "x-sensitive": True}}}
    assert "nothing of it can be x-sensitive" in next(of_event({"event": "e", "data": sensitive})).reason


def test_many_steps_that_may_be_passed_over_are_checked_at_once() -> None:
    steps = [{"step": f"s{n}", "after": "1d", "unless": ["ordered"]} for n in range(2000)]
    assert faults(automation(*steps)) == []


# -- the files


def test_values_are_what_they_look_like_whatever_yaml_1_1_says() -> None:
    plain = "at: 09:00\nday: 02-28\nno: no\non: yes\nn: 3\nx: -2.5\nflag: true\nnone: null\nzip: 01234\n"
    (document,) = read(f"{plain}q: '3'\nd: 2026-12-01", "f.yaml")
    assert document.value == {
        "at": "09:00", "day": "02-28", "no": "no", "on": "yes", "n": 3, "x": -2.5, "flag": True, "none": None,
        "zip": "01234", "q": "3", "d": "2026-12-01",
    }  # fmt: skip


def test_every_place_has_its_line() -> None:
    one, two = read("a: 1\n---\nsteps:\n  - step: x\n    send:\n      template: t\n  - step: y\n", "f.yaml")
    assert one.line("") == 1
    assert two.line("steps[0].send.template") == 6
    assert two.line("steps[1]") == 7
    assert two.line("steps[1].after") == 7
    assert two.line("nothing.at.all") == 3


@pytest.mark.parametrize(
    ("text", "where", "reason"),
    [
        ("a: [1", "f.yaml:1", "is no YAML"),
        ("a: 1\na: 2", "f.yaml:2", "a stands here twice"),
        ("a: !!python/object:os.system {}", "f.yaml:1", "is not understood here"),
        ("a: " + "9" * 400 + "\nb: [", "f.yaml:2", "is no YAML"),
        ("a: &x [*x]", "f.yaml:1", "nested deeper than 50"),
        ("? [1]\n: 2", "f.yaml:1", "a name must be a text"),
        ("a: \x00", "f.yaml", "is no YAML"),
        ("[" * 5000, "f.yaml", "nested deeper than 50"),
    ],
)
def test_what_is_no_plain_yaml_is_refused_with_its_line(text: str, where: str, reason: str) -> None:
    with pytest.raises(AutomationError) as raised:
        read(text, "f.yaml")
    assert raised.value.where == where
    assert reason in raised.value.reason


def test_a_few_lines_cannot_become_a_thousand_million() -> None:
    text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)
    )
    with pytest.raises(AutomationError, match="more than 20000 places"):
        read(text, "f.yaml")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=150, deadline=None)
@given(JSON, st.sampled_from(["trigger", "steps", "key", "person", "exit", "rate", "late", "zone", "hours"]))
def test_whatever_stands_at_a_place_is_a_fault_or_fine_and_never_a_bug(value: Any, place: str) -> None:
    document = automation({"step": "hello"}, **{place: value})
    assert all(isinstance(reason, str) for _, reason in faults(document))


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=60))
def test_whatever_a_file_holds_is_read_or_refused(text: str) -> None:
    try:
        found = read(text, "f.yaml")
    except AutomationError:
        return
    assert all(list(shape(document.value)) for document in found)
