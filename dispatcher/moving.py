"""Moves people on in automations: who is due gets what comes next for them; days that come round are looked through.

Any number may do it at once. A step and its mail are one transaction, from the revision that was seen: whoever comes
second changes nothing.
"""

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

from dispatcher import dates
from dispatcher.audience import where
from dispatcher.automation import Automation, AutomationSpec, Scan, look_up
from dispatcher.enrolment import Enrolment, EnrolmentState, Entry
from dispatcher.errors import AudienceError, AutomationError, NotFound, SubmissionError
from dispatcher.events import EnrolmentFailed
from dispatcher.flow import Move, refused, stopped
from dispatcher.flows import Flows
from dispatcher.interfaces import Clock, EventSink, Ledger
from dispatcher.mail import Accepted, Receipt

CHUNK = 200  # people in one transaction
ROWS = 1000  # of an audience, in one transaction
LOOK_SECONDS = 1800.0  # how often it is seen whether an audience has another version
Checked = Accepted | SubmissionError
Mail = tuple[Mapping[str, Any], str]  # a submission and its key


class Moving:
    """``check`` answers submissions with their keys as the ledger takes them, ``ring`` rings for what was taken, and
    ``wait`` says for how many seconds an automation's own rate allows no more of it."""

    def __init__(
        self,
        ledger: Ledger,
        clock: Clock,
        sink: EventSink,
        flows: Flows,
        *,
        check: Callable[[Sequence[Mail]], Sequence[Checked]],
        ring: Callable[[Sequence[Accepted], Sequence[Receipt]], object],
        wait: Callable[[str, tuple[str, ...]], float],
    ) -> None:
        self._ledger, self._store, self._clock, self._sink, self._flows = ledger, ledger.automations, clock, sink, flows
        self._check, self._ring, self._wait = check, ring, wait

    def run(self, over: Callable[[], bool]) -> bool:
        """Until it is ``over``; whether there is more to do at once."""
        self._flows.look(again=True)
        scanning = self._scan_all(over)
        while people := self._store.due(CHUNK):
            if over():
                return True
            self._move(people, paced=True)
        return scanning

    def some(self, people: Sequence[Enrolment]) -> None:
        """Those of whom something is due, as far as nothing but their events is asked for."""
        for start in range(0, len(people), CHUNK):
            self._move(people[start : start + CHUNK], paced=False)

    def _move(self, people: Sequence[Enrolment], *, paced: bool) -> None:
        full = set[int]() if paced else None
        moves = [move for each in people if (move := self._next(each, full)) is not None]
        mails = [(move.mail, _key(move)) for move in moves if move.mail is not None]
        checked = iter(self._check(mails))
        going: list[tuple[Move, Accepted | None]] = []
        for move in moves:
            answer = next(checked) if move.mail is not None else None
            if isinstance(answer, SubmissionError):
                going.append((refused(move, str(answer)), None))
            else:
                going.append((move, answer))
        receipts = self._store.moved(going)
        pairs = zip(going, receipts, strict=True)
        taken = [(accepted, got) for (_, accepted), got in pairs if accepted is not None and isinstance(got, Receipt)]
        self._ring([accepted for accepted, _ in taken], [receipt for _, receipt in taken])
        for made in [move.made for move, _ in going if move.made.state is EnrolmentState.FAILED]:
            self._sink(EnrolmentFailed(made.automation, made.key, made.step or "", made.outcome))

    def _next(self, seen: Enrolment, full: set[int] | None) -> Move | None:
        """None: it waits for the rate of its automation, or that was paused. ``full``: those (by number) whose rate
        allows no more; None: rates are left to those who keep them."""
        try:
            flow = self._flows.flow(seen.automation_id, seen.version)
            rate = self._flows.rate(seen.automation_id)
        except AutomationError as error:
            self._flows.pause(seen.automation, str(error))
            return None
        try:
            move = flow.move(seen, seen.read_at)
        except (ValueError, OverflowError, KeyError) as error:  # one who cannot be moved must not keep the others
            return stopped(seen, f"cannot be moved on: {error}")
        if move.mail is None or not rate:
            return move
        if full is None or seen.automation_id in full:
            return None
        if not (wait := self._wait(flow.spec.name, rate)):
            return move
        full.add(seen.automation_id)
        self._store.hold(seen.automation_id, self._flows.version(seen.automation_id), wait)
        return None

    # -- days

    def _scan_all(self, over: Callable[[], bool]) -> bool:
        """Look through the audiences of which a day has come; whether there is more."""
        while waiting := self._store.scans():
            for owner in waiting:
                if over():
                    return True
                self._scan(owner)
        return False

    def _scan(self, owner: Automation) -> None:
        scan, now = owner.scan or Scan("", None, 0, 0.0), self._clock.time()
        try:
            spec = self._flows.spec(owner.id, owner.version)
            version = self._ledger.audiences.current(spec.date.audience if spec.date else "")
            if scan.version != version.id:  # the first one, or other people: whose day is not over is looked for again
                scan = Scan(_again(scan, spec, now), version.id, 0, now)
            rows = self._rows(owner, spec, scan, now)
        except (AutomationError, AudienceError, NotFound, ValueError, OverflowError) as error:
            self._flows.pause(owner.name, str(error))
            return
        self._store.enrol(owner, *rows)

    def _rows(
        self, owner: Automation, spec: AutomationSpec, scan: Scan, now: float
    ) -> tuple[list[tuple[str, Entry]], Scan]:
        """Whose day it is among the next members, and where to go on."""
        trigger, day = spec.date, date.fromisoformat(scan.day)
        if trigger is None:
            return [], scan
        if (begins := dates.scanned_at(day, trigger)) > now:
            return [], replace(scan, at=max(now + 1.0, min(begins, now + LOOK_SECONDS)))
        columns = self._ledger.audiences.by_id(scan.version or 0).columns
        meant = where(trigger.where, columns)
        members = self._ledger.audiences.members(scan.version or 0, scan.after, ROWS)
        people = [dates.Person(address, shown, json.loads(own)) for _, address, shown, own in members]
        clock = functools.partial(_clock, spec)
        rows = [
            (each.key, Entry(owner.version, each.at, each.address, _data(spec, each.attributes)))
            for each in dates.celebrating([each for each in people if meant(each.attributes)], day, trigger, clock)
            if each.at >= owner.created_at
        ]
        if len(members) == ROWS:
            return rows, replace(scan, after=members[-1][0], at=now)
        following = day + timedelta(days=1)
        at = min(dates.scanned_at(following, trigger), now + LOOK_SECONDS)
        return rows, Scan(following.isoformat(), scan.version, 0, at)


def _key(move: Move) -> str:
    """Of the mail of a step: by it there is one, whoever sends it how often."""
    return f"automation/{move.seen.automation}/{move.seen.id}/{move.passed[-1].step}"


def _again(scan: Scan, spec: AutomationSpec, now: float) -> str:
    """From which day on other people are looked through: the first that is not over, or too late, everywhere."""
    if spec.date is None:
        return scan.day
    first = dates.first_day(spec.date, now - (spec.late or 0.0)).isoformat()
    return min(scan.day, first) if scan.version is not None else scan.day


def _data(spec: AutomationSpec, attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {spec.under: dict(attributes)} if spec.under else dict(attributes)


def _clock(spec: AutomationSpec, attributes: Mapping[str, Any]) -> str:
    """Where somebody lives; an audience's zones are known to be some."""
    return look_up(_data(spec, attributes), spec.person.get("zone", "")) or spec.zone
