"""What comes next for somebody in an automation: pure, the same for the ledger's workers and for a simulation.

A step's moment follows from the moment of the step before, not from when somebody got round to it: so the same events
make the same mails at the same times. Only who was held up for long (``SLACK_SECONDS``) counts on from now.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, time, timedelta
from typing import Any, NamedTuple

from dispatcher.automation import END, AutomationSpec, Step, look_up
from dispatcher.enrolment import Enrolment, EnrolmentState, Passed, StepOutcome
from dispatcher.errors import IdempotencyConflict
from dispatcher.filters import canonical
from dispatcher.hours import Hours
from dispatcher.mail import Receipt
from dispatcher.zones import moment, wall, zone

SLACK_SECONDS = 3600.0
_LEAST_WAIT, _MOST_WAIT = 0.5, 60.0  # for the mail of the step before


class Where(NamedTuple):
    """Somebody's language and clock."""

    locale: str | None
    zone: str


class Move(NamedTuple):
    """A change of an enrolment that was ``seen``: the steps that it is past now, and how it stands then. ``mail``: the
    submission of the last of them, whose outcome is open."""

    seen: Enrolment
    made: Enrolment
    passed: tuple[Passed, ...]
    mail: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Flow:
    """A version of an automation at work. ``holds`` says whether the conditions of a step (by its name) hold for
    somebody's data; ``where`` where the data's locale and zone are, if it has any."""

    spec: AutomationSpec
    holds: Mapping[str, Callable[[Mapping[str, Any]], bool]]

    def move(self, seen: Enrolment, now: float) -> Move:
        """As far as it gets at this moment: up to one mail."""
        made, passed = seen, list[Passed]()
        if made.step is None:
            made = self._arrive(made, self.spec.steps[0].name, made.since)
        while made.state is EnrolmentState.ACTIVE:
            if left := next((event for event in self.spec.exits if made.saw(event)), None):
                made = _over(made, EnrolmentState.EXITED, left)
                break
            step = self.spec.by_name[made.step or ""]
            if made.awaits is not None and made.saw(made.awaits):
                made = self._arrive(made, step.name, made.since)
            if made.planned_at is None or made.planned_at > now:
                break
            if made.awaits is None and step.send is not None and self._passed_over(step, made, now) is None:
                return self._mail(seen, made, step, passed, now)
            made = self._pass(made, step, passed, now)
        return Move(seen, _waiting(made), tuple(passed))

    def _passed_over(self, step: Step, made: Enrolment, now: float) -> tuple[StepOutcome, str] | None:
        for event in step.unless:
            if made.saw(event):
                return StepOutcome.SKIPPED, f"{event} was"
        if step.name in self.holds and not self.holds[step.name](self.data(made, step)):
            return StepOutcome.SKIPPED, f"not {' and '.join(step.where)}"
        if self.spec.late is not None and now - (made.planned_at or now) > self.spec.late:
            return StepOutcome.LATE, f"more than {self.spec.late:g} s behind its time"
        return None

    def _pass(self, made: Enrolment, step: Step, passed: list[Passed], now: float) -> Enrolment:
        """Go on behind a step without a mail: what it awaited did not come, it is passed over, or it is a turning."""
        planned = made.planned_at or now
        if made.awaits is not None:
            passed.append(Passed(step.name, planned, now, StepOutcome.TIMED_OUT, f"no {made.awaits}"))
            return self._arrive(made, step.otherwise or END, _base(planned, now), f"no {made.awaits}")
        over = self._passed_over(step, made, now)
        if over is not None and step.send is not None:
            passed.append(Passed(step.name, planned, now, *over))
        skipped = over is not None and over[0] is StepOutcome.SKIPPED
        return self._arrive(made, step.otherwise or step.then if skipped else step.then, _base(planned, now))

    def _mail(self, seen: Enrolment, made: Enrolment, step: Step, passed: list[Passed], now: float) -> Move:
        planned = made.planned_at or now
        if made.busy:  # in order: what was first written reaches its reader first
            wait = min(_MOST_WAIT, max(_LEAST_WAIT, (now - planned) / 4))
            return Move(seen, replace(made, due_at=now + wait), tuple(passed))
        passed.append(Passed(step.name, planned, now, StepOutcome.SENT, ""))
        behind = self._arrive(made, step.then, _base(planned, now))
        return Move(seen, _waiting(behind), tuple(passed), self.submission(made, step))

    def _arrive(self, made: Enrolment, name: str, base: float, outcome: str = "") -> Enrolment:
        """At a step, from a moment on."""
        if name == END:
            return _over(made, EnrolmentState.FINISHED, outcome)
        step = self.spec.by_name[name]
        made = replace(made, step=name, since=base)
        if step.wait_for is not None:
            if not made.saw(step.wait_for):
                limit = None if step.within is None else base + step.within
                return replace(made, awaits=step.wait_for, planned_at=limit)
            base = max(base, float(made.seen[step.wait_for]["at"]))
        return replace(made, awaits=None, planned_at=self.moment(step, base, self.where(made).zone))

    def moment(self, step: Step, base: float, zone_name: str) -> float:
        """When a step is to be, whose waiting begins at ``base``, by a clock there."""
        due = base + step.after
        if step.days is not None:
            due = max(base, moment(wall(base, zone_name) + timedelta(days=step.days), zone_name))
        if step.at is not None:
            due = _at(step.at, due, base if step.days else due, zone_name)
        return due if self.spec.hours is None else Hours.parse(self.spec.hours).next(due, zone_name)

    def where(self, made: Enrolment) -> Where:
        """As the data says; what cannot be is as if it were not there."""
        locale, zone_name = (look_up(made.data, self.spec.person.get(name, "")) for name in ("locale", "zone"))
        return Where(_locale(locale), zone_name if _is_zone(zone_name) else self.spec.zone)

    def data(self, made: Enrolment, step: Step) -> dict[str, Any]:
        """Of a step's template: what its file gives, over it what took the person in, and over that what the events
        brought that were waited for."""
        found = laid_over(step.data, made.data)
        for awaited in dict.fromkeys(each.wait_for for each in self.spec.steps):
            if awaited is not None and made.saw(awaited):
                found = laid_over(found, made.brought(awaited))
        return found

    def submission(self, made: Enrolment, step: Step) -> dict[str, Any]:
        """The mail of a step."""
        send, where = dict(step.send or {}), self.where(made)
        found = {**self.spec.shared, **send, "to": [made.address]}
        if "template" in send:
            found["data"] = self.data(made, step)
            if where.locale is not None and "locale" not in send:
                found["locale"] = where.locale
        return found | {"metadata": {"automation": self.spec.name, "step": step.name, "key": made.key}}


def laid_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Both, object by object; where both say something, what is above."""
    found = dict(below)
    for name, value in above.items():
        before = found.get(name)
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            value = laid_over(before, value)  # noqa: PLW2901 - what is there then
        found[name] = value
    return found


def told(move: Move, receipt: Receipt | IdempotencyConflict) -> tuple[tuple[Passed, ...], Enrolment]:
    """What came of its mail, in its last step and in the enrolment."""
    number = receipt.first if isinstance(receipt, IdempotencyConflict) else receipt.id
    held = isinstance(receipt, Receipt) and receipt.accepted == receipt.suppressed
    outcome = StepOutcome.SUPPRESSED if held else StepOutcome.SENT
    passed = (*move.passed[:-1], move.passed[-1]._replace(outcome=outcome, detail=number))
    return passed, replace(move.made, mail=number)


def refused(move: Move, reason: str) -> Move:
    """Its mail cannot be: it stops there until a person sees to it."""
    at = move.passed[-1]
    made = replace(
        move.made, state=EnrolmentState.FAILED, step=at.step, awaits=None, planned_at=at.planned_at, due_at=None,
        outcome=reason,
    )  # fmt: skip
    return Move(move.seen, made, (*move.passed[:-1], at._replace(outcome=StepOutcome.FAILED, detail=reason)))


def stopped(seen: Enrolment, reason: str) -> Move:
    """Nothing can be told of what comes next for them: they wait for a person."""
    return Move(seen, replace(seen, state=EnrolmentState.FAILED, due_at=None, outcome=reason), ())


def _over(made: Enrolment, state: EnrolmentState, outcome: str) -> Enrolment:
    return replace(made, state=state, step=None, awaits=None, planned_at=None, due_at=None, outcome=outcome)


def _waiting(made: Enrolment) -> Enrolment:
    return replace(made, due_at=made.planned_at)


def _base(planned: float, now: float) -> float:
    """From when the next step counts."""
    return planned if now - planned <= SLACK_SECONDS else now


def _at(text: str, due: float, earliest: float, zone_name: str) -> float:
    """The time of day on the day of ``due``, or on the next one where that would be before ``earliest``."""
    hour, minute = map(int, text.split(":"))
    day = datetime.combine(wall(due, zone_name).date(), time(hour, minute))
    found = moment(day, zone_name)
    return found if found >= earliest else moment(day + timedelta(days=1), zone_name)


def _locale(value: Any) -> str | None:
    try:
        return canonical(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _is_zone(value: Any) -> bool:
    try:
        return isinstance(value, str) and bool(zone(value))
    except ValueError:
        return False
