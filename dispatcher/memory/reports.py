"""Reports of the ledger in memory."""

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

from dispatcher.campaign import Expanded
from dispatcher.delivery import LIVE, Actor, State
from dispatcher.errors import NotFound, SubmissionError
from dispatcher.ledger import signature
from dispatcher.mail import Accepted
from dispatcher.memory.brakes import Brakes
from dispatcher.memory.expanding import Held, add_rows
from dispatcher.memory.rows import DeliveryRow
from dispatcher.memory.store import Store
from dispatcher.names import unknown
from dispatcher.report_job import Asked, Report, ReportRow, ReportState, another, ended, with_made


class MemoryReports:
    """``interfaces.Reports``. It shares the ledger's lock, clock, rows and brakes; ``record`` notes an act, ``held``
    answers who is suppressed."""

    def __init__(
        self,
        lock: threading.RLock,
        now: Callable[[], float],
        store: Store,
        brakes: Brakes,
        record: Callable[..., Any],
        held: Held,
    ) -> None:
        self._lock, self._now, self._store, self._brakes = lock, now, store, brakes
        self._record, self._held = record, held
        self._reports: dict[str, Report] = {}
        self._sums: dict[int, dict[State, int]] = {}
        self._numbers = count(1)

    def begin(self, asked: Asked, accepted: Accepted, actor: Actor) -> Report:
        with self._lock:
            if found := self._reports.get(asked.name):
                if found.digest != asked.digest:
                    raise SubmissionError("name", another(found))
                return found
            now, who = self._now(), signature(actor)
            submission = self._store.insert(replace(accepted, messages=()), now, lambda *_: None)
            made = Report(
                id=next(self._numbers), name=asked.name, state=ReportState.TAKING, spec=dict(asked.spec),
                digest=asked.digest, files=asked.files, missing=asked.missing, submission=submission.public_id,
                cursor=0, total=asked.total, created_at=now, changed_at=now, finished_at=None, reported_at=None,
                actor=who,
            )  # fmt: skip
            self._brakes.hold("submission", made.submission, f"report {asked.name} is being taken in", who)
            self._record(actor, "send", f"report {asked.name}", count=asked.total)
            return self._keep(made)

    def add(self, report: Report, rows: Sequence[Expanded], blobs: Sequence[str]) -> bool:  # noqa: ARG002 - rows name them
        with self._lock:
            found = self.get(report.name)
            if found.cursor != report.cursor or found.state is not ReportState.TAKING:
                return False
            upto = found.cursor + len(rows)
            state = ReportState.SENDING if upto == found.total else ReportState.TAKING
            self._keep(replace(found, cursor=upto, state=state, changed_at=self._now()))
            add_rows(self._store, self._store.submissions[found.submission], rows, self._held, self._now())
            if state is ReportState.SENDING:
                self._brakes.lift("submission", found.submission, found.actor)
            return True

    def cancel(self, name: str, actor: Actor) -> Report:
        with self._lock:
            found = self.get(name)
            if fault := ended(found):
                raise SubmissionError(name, fault)
            self._brakes.hold("submission", found.submission, f"report {name} is cancelled", signature(actor))
            self._record(actor, "cancel", f"report {name}", reason=actor.reason)
            return self._keep(replace(found, state=ReportState.CANCELLED, changed_at=self._now()))

    def owns(self, submission: str) -> bool:
        """Whether it is a report's; the caller locks."""
        return bool(self._states(submission))

    def goes_on(self, submission: str) -> bool:
        """Whether messages may still be added to it, so that it is not over its retention; the caller locks."""
        return ReportState.TAKING in self._states(submission)

    def cancelled(self, submission: str) -> bool:
        """Whether its mails are not tried again; the caller locks."""
        return ReportState.CANCELLED in self._states(submission)

    def _states(self, submission: str) -> list[ReportState]:
        return [row.state for row in self._reports.values() if row.submission == submission]

    def get(self, name: str) -> Report:
        with self._lock:
            if name not in self._reports:
                raise NotFound(unknown("report", name, self._reports))
            return self._reports[name]

    def listed(self) -> list[Report]:
        with self._lock:
            return list(reversed(self._reports.values()))

    def rows(self, report: Report, after: int, limit: int) -> list[ReportRow]:
        with self._lock:
            mine = [row for row in self._deliveries(report) if row.message.n > after]
            return [_row(row) for row in sorted(mine, key=lambda row: row.message.n)[:limit]]

    def sums(self, report: Report) -> dict[State, int]:
        with self._lock:
            found = Counter(row.state for row in self._deliveries(report))
            kept = self._sums.get(report.id)
            return kept if kept is not None and found.total() < report.cursor else dict(found)

    def made(self, message: int) -> Mapping[str, Any] | None:
        with self._lock:
            return self._store.messages[message].made

    def keep_made(self, message: int, made: Mapping[str, Any]) -> Mapping[str, Any]:
        with self._lock:
            row = self._store.messages[message]
            row.made = row.made or dict(made)
            return row.made

    def pending(self) -> bool:
        return bool(self.moving())

    def moving(self) -> list[Report]:
        with self._lock:
            return [each for each in self._reports.values() if _moves(each)]

    def finish(self, report: Report) -> bool:
        with self._lock:
            found = self.get(report.name)
            rows = list(self._deliveries(found))
            if not _ending(found) or any(row.state in LIVE for row in rows):
                return False
            self._sums[found.id] = dict(Counter(row.state for row in rows))
            state = ReportState.FINISHED
            if found.state is ReportState.CANCELLED:  # it was held
                state = found.state
                self._brakes.lift("submission", found.submission, found.actor)
            self._keep(replace(found, state=state, finished_at=self._now(), changed_at=self._now()))
            return True

    def reported(self, report: Report) -> None:
        with self._lock:
            self._keep(replace(self.get(report.name), reported_at=self._now()))

    def _keep(self, report: Report) -> Report:
        self._reports[report.name] = report
        return report

    def _deliveries(self, report: Report) -> list[DeliveryRow]:
        submission = self._store.submissions.get(report.submission)
        return [] if submission is None else list(submission.deliveries)


def _moves(report: Report) -> bool:
    untold = report.finished_at is not None and report.reported_at is None
    return _ending(report) or untold


def _ending(report: Report) -> bool:
    return report.state in (ReportState.SENDING, ReportState.CANCELLED) and report.finished_at is None


def _row(row: DeliveryRow) -> ReportRow:
    record = row.record()
    own = with_made(row.message.own, row.message.made)
    known = record.relay, record.code, record.enhanced, record.text
    return ReportRow(row.message.n, row.rcpt, own, row.state, *known, row.changed_at)
