"""Ends the reports whose mails are all settled, and tells their owners."""

from collections.abc import Callable, Mapping
from typing import Any

from dispatcher.delivery import WAITING, Actor, Selector, State
from dispatcher.distribution import Distribution
from dispatcher.errors import IdempotencyConflict, SubmissionError, TemplateError
from dispatcher.events import ReportEnded
from dispatcher.interfaces import EventSink, Ledger
from dispatcher.report_job import Report, ReportState

_OURSELVES = Actor("dispatcher", "reports", "its report was cancelled")


class ReportEnding:
    """``submit`` accepts the mail to an owner: the same one once, however often."""

    def __init__(
        self,
        ledger: Ledger,
        distribution: Distribution,
        submit: Callable[[Mapping[str, Any]], object],
        sink: EventSink,
    ) -> None:
        self._ledger, self._store, self._distribution = ledger, ledger.reports, distribution
        self._submit, self._sink = submit, sink

    def run(self, over: Callable[[], bool]) -> None:
        """Until it is ``over``. Whoever is killed between the end and the mail: the next one tells."""
        for report in self._store.moving():
            if over():
                return
            if report.state is ReportState.CANCELLED and report.finished_at is None:
                self._cancel(report)
            if report.finished_at is not None or self._store.finish(report):
                self._tell(self._store.get(report.name))

    def _cancel(self, report: Report) -> None:
        """What was tried again since, or was left by somebody who was killed while cancelling."""
        waiting = Selector(ids=(report.submission,), states=tuple(WAITING))
        if self._ledger.count(waiting):
            self._ledger.change(waiting, State.CANCELLED, _OURSELVES)

    def _tell(self, report: Report) -> None:
        fault = ""
        try:
            if document := self._distribution.document(report):
                self._submit(document)
        except IdempotencyConflict:  # told before, by somebody who was killed then; a bounce has come in since
            pass
        except (SubmissionError, TemplateError) as error:  # told below; another try would meet the same
            fault = str(error)
        self._store.reported(report)
        sums = {state.value: count for state, count in self._store.sums(report).items()}
        self._sink(ReportEnded(report.name, sums, fault))
