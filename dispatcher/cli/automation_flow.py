"""How an automation is drawn: its flow as text, and who is where in it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from dispatcher.automation import END, AutomationSpec, Step
from dispatcher.enrolment import EnrolmentState

if TYPE_CHECKING:
    from dispatcher.automation import Automation

Counts = Mapping[tuple[EnrolmentState, str | None], int]


def drawn(found: "Automation", spec: AutomationSpec, counts: Counts) -> Iterator[str]:
    """Line by line."""
    paused = f" - paused by {found.actor}{f': {found.reason}' if found.reason else ''}" if found.paused else ""
    yield f"{spec.name}, version {found.version}{paused}"
    if spec.about:
        yield f"  {spec.about}"
    yield ""
    entered = sum(counts.values())
    yield f"● {_trigger(spec)}   ({_counted(entered, 'person')} so far)"
    for n, step in enumerate(spec.steps):
        behind = spec.steps[n + 1].name if n + 1 < len(spec.steps) else END
        yield "│"
        here = counts.get((EnrolmentState.ACTIVE, step.name), 0)
        failed = counts.get((EnrolmentState.FAILED, step.name), 0)
        where = ", ".join(filter(None, (f"{here} wait" if here else "", f"{failed} failed" if failed else "")))
        yield f"├─ {step.name}{f'   ({where})' if where else ''}"
        for text in _said(step, behind):
            yield f"│    {text}"
    yield "│"
    yield f"■ end   {_ended(counts)}"
    if spec.exits:
        yield f"  ends at any time with {' or '.join(spec.exits)}"


def _trigger(spec: AutomationSpec) -> str:
    if spec.date is None:
        where = f" if {' and '.join(spec.where)}" if spec.where else ""
        return f"{spec.event}{where}, once for each {spec.key_path(spec.event or '')}"
    date = spec.date
    before = f"{date.before} days before " if date.before else ""
    each = "each year" if date.each == "year" else "once"
    where = f" where {' and '.join(date.where)}" if date.where else ""
    return f"{before}{date.attribute} of {date.audience}{where}, {each}, at {date.at}"


def _said(step: Step, behind: str) -> Iterator[str]:
    yield _when(step)
    for label, texts in (("unless ", step.unless), ("if ", step.where)):
        if texts:
            yield label + " and ".join(texts)
    if step.otherwise is not None:
        yield f"otherwise on to {step.otherwise}"
    if step.send is not None:
        to = f", of the list {step.send['list']}" if "list" in step.send else ""
        yield f"mail {step.send.get('template') or step.send.get('subject')}{to}"
    if step.then != behind:
        yield f"then on to {step.then}"


def _when(step: Step) -> str:
    parts: list[str] = []
    if step.wait_for is not None:
        within = f" (within {_length(step.within)}, {'else it ends' if not step.otherwise else 'else otherwise'})"
        parts.append(f"when {step.wait_for}{within if step.within is not None else ''}")
    if step.days:
        parts.append(f"{_counted(step.days, 'day')} later")
    elif step.after:
        parts.append(f"{_length(step.after)} later")
    if step.at is not None:
        parts.append(f"at {step.at} of their clock")
    return ", ".join(parts) or "at once"


def _length(seconds: float | None) -> str:
    """Whole days, hours, minutes or seconds."""
    for size, noun in ((86_400, "day"), (3600, "hour"), (60, "minute")):
        if seconds and seconds % size == 0:
            return _counted(int(seconds // size), noun)
    return f"{seconds or 0:g} seconds"


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _ended(counts: Counts) -> str:
    states: Sequence[EnrolmentState] = EnrolmentState.FINISHED, EnrolmentState.EXITED, EnrolmentState.FAILED
    sums = {state: sum(n for (at, _), n in counts.items() if at is state) for state in states}
    return ", ".join(f"{number} {state.value}" for state, number in sums.items())
