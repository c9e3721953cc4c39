"""Keeps the ledger from growing for ever: what is over its retention goes, then the attachments that nobody uses."""

import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from dispatcher.audience import UNREADY_SECONDS
from dispatcher.interfaces import Blobs, Clock, Ledger
from dispatcher.retention import Retention

STEP = 1000  # deliveries in one transaction
UNUSED_SECONDS = 86400.0  # an attachment is put before its submission is in the ledger
_LAST_ID = "~"
_LONGEST_REST = 0.1


@dataclass(frozen=True, slots=True)
class Removed:
    """What one run removed; ``listed``: rows of audiences that were dropped, or whose import was given up;
    ``occurrences``: of schedules; ``events``: with those who are done in automations; ``more``: it ended before there
    was nothing left to remove, and another should follow."""

    submissions: int
    deliveries: int
    attachments: int
    more: bool = False
    listed: int = 0
    occurrences: int = 0
    events: int = 0


class Upkeep:
    """One run of it; two at once, on whatever machines, do each other no harm."""

    def __init__(self, ledger: Ledger, blobs: Blobs, retention: Retention, clock: Clock) -> None:
        self._ledger, self._blobs, self._retention, self._clock = ledger, blobs, retention, clock

    def run(self, seconds: float, stopping: Callable[[], bool] = lambda: False) -> Removed:
        """Remove what may go, until nothing is left or the time is over: rows for half of it at most while there are
        attachments too. Raises LedgerUnavailable."""
        until = self._clock.monotonic() + seconds
        submissions, deliveries, more_rows = self._retire(until - seconds / 2, stopping)
        lists, occurrences = self._ledger.audiences.forget, self._ledger.schedules.forget
        listed, more_lists = self._forget(lists, UNREADY_SECONDS, until - seconds / 4, stopping)
        ended, more_ended = self._forget(occurrences, self._retention.default, until - seconds / 8, stopping)
        past = self._ledger.automations.forget
        events, more_events = self._forget(past, self._retention.default, until - seconds / 16, stopping)
        attachments, more_files = self._clear(until, stopping)
        # What ended early and found nothing to remove would find nothing at once again: the next one begins elsewhere.
        removed = listed + ended + events + submissions + deliveries + attachments
        more = (more_rows or more_files or more_lists or more_ended or more_events) and removed > 0
        return Removed(submissions, deliveries, attachments, more, listed, ended, events)

    def _forget(
        self, forget: Callable[[float, int], int], seconds: float, until: float, stopping: Callable[[], bool]
    ) -> tuple[int, bool]:
        """Remove what is older than ``seconds``, a step at a time; how many rows, and whether there may be more."""
        gone = 0
        while not stopping() and self._clock.monotonic() < until:
            began = self._clock.monotonic()
            step = forget(seconds, STEP)
            if not step:
                return gone, False
            gone += step
            self._rest(began)
        return gone, True

    def _rest(self, began: float) -> None:
        """As long as it took, so that all others get their turn: SQLite keeps no queue of those who want to write."""
        time.sleep(min(self._clock.monotonic() - began, _LONGEST_REST))

    def _clear(self, until: float, stopping: Callable[[], bool]) -> tuple[int, bool]:
        """Remove attachments that nobody uses; how many, and whether the time was over before all were looked at."""
        removed = 0
        for page in self._pages():
            if stopping() or self._clock.monotonic() >= until:
                return removed, True
            for blob in self._ledger.unused(page):
                if stopping() or self._clock.monotonic() >= until:
                    return removed, True
                removed += self._blobs.remove(blob, UNUSED_SECONDS)
        return removed, False

    def _retire(self, until: float, stopping: Callable[[], bool]) -> tuple[int, int, bool]:
        submissions = deliveries = 0
        more = True
        while more and not stopping() and self._clock.monotonic() < until:
            began = self._clock.monotonic()
            retired = self._ledger.retire(self._retention, STEP)
            submissions, deliveries = submissions + retired.submissions, deliveries + retired.deliveries
            more = retired.more
            if more:
                self._rest(began)
        return submissions, deliveries, more

    def _pages(self) -> Iterator[list[str]]:
        """Attachments that are old enough. It begins anywhere, so that each has its turn, however many there are."""
        anywhere = secrets.token_hex(32)
        for first, last in ((anywhere, _LAST_ID), ("", anywhere)):
            after = first
            while page := [blob for blob in self._blobs.old(UNUSED_SECONDS, after=after) if blob <= last]:
                yield page
                after = page[-1]
