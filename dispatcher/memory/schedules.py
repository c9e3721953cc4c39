"""Schedules and their occurrences, in memory."""

import math
import threading
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import Any

from dispatcher.delivery import Actor
from dispatcher.errors import NotFound, SubmissionError
from dispatcher.ledger import signature, storable
from dispatcher.names import unknown
from dispatcher.schedule import Due, Noted, Occurrence, OccurrenceState, Schedule, ScheduleSpec, Standing, first_after

Record = Callable[[Actor, str, str], Any]


class MemorySchedules:
    """``interfaces.Schedules`` under the ledger's lock, by its clock; ``record`` notes an act."""

    def __init__(self, lock: threading.RLock, now: Callable[[], float], record: Record) -> None:
        self._lock, self._now, self._record = lock, now, record
        self._rows: dict[str, Schedule] = {}
        self._occurrences: dict[int, dict[float, Occurrence]] = {}
        self._numbers = count(1)

    def create(self, name: str, spec: ScheduleSpec, actor: Actor) -> Schedule:
        with self._lock:
            if name in self._rows:
                raise SubmissionError("name", f"there is a schedule {name!r} already")
            now, number = self._now(), next(self._numbers)
            self._rows[name] = Schedule(
                id=number, name=name, spec=spec, paused=False, reason="", seen_until=now,
                next_at=first_after(spec, now, now), created_at=now, changed_at=now, actor=storable(signature(actor)),
            )  # fmt: skip
            self._occurrences[number] = {}
            self._record(actor, "add", f"schedule {name}")
            return self.get(name)

    def get(self, name: str) -> Schedule:
        with self._lock:
            if name not in self._rows:
                raise NotFound(unknown("schedule", name, self._rows))
            return replace(self._rows[name], read_at=self._now())

    def listed(self) -> list[Schedule]:
        with self._lock:
            return [self.get(name) for name in sorted(self._rows)]

    def revise(self, seen: Schedule, spec: ScheduleSpec, actor: Actor) -> bool:
        with self._lock:
            found = self.get(seen.name)
            if found != seen or found.ripe:
                return False
            since = max(self._now(), found.seen_until)
            self._change(found, actor, spec=spec, seen_until=since, next_at=first_after(spec, found.created_at, since))
            self._record(actor, "edit", f"schedule {seen.name}")
            return True

    def act(self, name: str, verb: str, actor: Actor) -> Schedule:
        with self._lock:
            found, paused = self.get(name), verb == "pause"
            if found.paused == paused:
                how = f"paused by {found.actor}" if paused else "not paused"
                raise SubmissionError(name, f"is {how}; nothing was done")
            self._change(found, actor, paused=paused, reason=storable(actor.reason) if paused else "")
            self._record(actor, verb, f"schedule {name}")
            return self.get(name)

    def remove(self, name: str, actor: Actor) -> None:
        with self._lock:
            del self._occurrences[self.get(name).id]
            del self._rows[name]
            self._record(actor, "remove", f"schedule {name}")

    def run_now(self, name: str, actor: Actor) -> Occurrence:
        with self._lock:
            mine, now = self._occurrences[self.get(name).id], self._now()
            made = Occurrence(math.floor(now) + 0.5, OccurrenceState.DUE, by_hand=True, outcome="", changed_at=now)
            if made.at in mine:
                raise SubmissionError(name, "was run by hand within this second; nothing was done")
            mine[made.at] = made
            self._record(actor, "run", f"schedule {name}")
            return made

    def ripe(self, limit: int) -> list[Schedule]:
        with self._lock:
            found = [row for row in self.listed() if row.ripe and not row.paused]
            return sorted(found, key=lambda row: (row.next_at or 0.0, row.id))[:limit]

    def note(self, seen: Schedule, noted: Noted) -> bool:
        with self._lock:
            if self._rows.get(seen.name) != seen:
                return False
            for at, state in noted.found:
                made = Occurrence(at, state, by_hand=False, outcome="", changed_at=self._now())
                self._occurrences[seen.id].setdefault(at, made)
            self._rows[seen.name] = replace(seen, seen_until=noted.upto, next_at=noted.next_at)
            return True

    def due(self, limit: int) -> list[Due]:
        with self._lock:
            found = [due for row in self.listed() for due in self._due(row)]
            return sorted(found, key=lambda due: (due.at, due.schedule.id))[:limit]

    def _due(self, row: Schedule) -> list[Due]:
        mine = self._occurrences[row.id].values()
        last = max((each.at for each in mine if not each.by_hand), default=None)
        standing = [each for each in mine if each.state is OccurrenceState.DUE and (each.by_hand or not row.paused)]
        return [Due(row, each.at, each.by_hand, newest=last in (None, each.at)) for each in standing]

    def done(self, due: Due, state: OccurrenceState, outcome: str) -> bool:
        with self._lock:
            mine = self._occurrences.get(due.schedule.id, {})
            if due.at not in mine or mine[due.at].state is not OccurrenceState.DUE:
                return False
            mine[due.at] = mine[due.at]._replace(state=state, outcome=storable(outcome), changed_at=self._now())
            return True

    def history(self, name: str, limit: int) -> list[Occurrence]:
        with self._lock:
            return sorted(self._occurrences[self.get(name).id].values(), reverse=True)[:limit]

    def pending(self) -> bool:
        with self._lock:
            return bool(self.ripe(1) or self.due(1))

    def standing(self, seconds: float) -> Standing:
        with self._lock:
            now, rows = self._now(), self.listed()
            moments = [each.at for row in rows for each in self._due(row)]
            moments += [row.next_at for row in rows if row.next_at is not None and row.ripe and not row.paused]
            failed = sorted(
                (each.changed_at, row.name, each.outcome)
                for row in rows
                for each in self._occurrences[row.id].values()
                if each.state is OccurrenceState.FAILED and each.changed_at > now - seconds
            )
            return Standing(
                count=len(rows), paused=sum(row.paused for row in rows),
                due=len(moments), due_since=min(moments, default=None),
                failed=len(failed), last_failed=failed[-1][1:] if failed else None,
                over=tuple(row.name for row in rows if row.next_at is None), read_at=now,
            )  # fmt: skip

    def forget(self, seconds: float, limit: int) -> int:
        with self._lock:
            since = self._now() - seconds
            over = [
                (mine, each.at)
                for mine in self._occurrences.values()
                for each in mine.values()
                if each.state is not OccurrenceState.DUE and each.changed_at <= since
            ][:limit]
            for mine, at in over:
                del mine[at]
            return len(over)

    def _change(self, found: Schedule, actor: Actor, **values: Any) -> None:
        changed = {"changed_at": self._now(), "actor": storable(signature(actor)), **values}
        self._rows[found.name] = replace(found, **changed)
