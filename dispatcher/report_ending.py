"""Ends the reports whose mails are all settled, and tells their owners."""

from collections.abc import Callable, Mapping
from typing import Any

from dispatcher.distribution import Distribution
from dispatcher.errors import SubmissionError
from dispatcher.events import ReportEnded
from dispatcher.interfaces import Clock, EventSink, Reports
from dispatcher.report_job import Report


class ReportEnding:
    """``submit`` accepts the mail to an owner: the same one once, however often."""

    def __init__(
        self,
        store: Reports,
        distribution: Distribution,
        submit: Callable[[Mapping[str, Any]], object],
        clock: Clock,
        sink: EventSink,
    ) -> None:
        self._store, self._distribution, self._submit = store, distribution, submit
        self._clock, self._sink = clock, sink

    def run(self, over: Callable[[], bool]) -> None:
        """Until it is ``over``. Whoever is killed between the end and the mail: the next one tells."""
        for report in self._store.moving():
            if over():
                return
            if report.finished_at is not None or self._store.finish(report):
                self._tell(self._store.get(report.name))

    def _tell(self, report: Report) -> None:
        fault = ""
        try:
            if document := self._distribution.document(report, self._clock.time()):
                self._submit(document)
        except SubmissionError as error:  # told below; another try would meet the same
            fault = str(error)
        self._store.reported(report)
        sums = {state.value: count for state, count in self._store.sums(report).items()}
        self._sink(ReportEnded(report.name, sums, fault))
