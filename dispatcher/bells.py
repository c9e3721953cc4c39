"""Ringing for what was just accepted: one bell for each batch, while that is of use; the sweep rings for the rest."""

from collections.abc import Iterable, Sequence

from dispatcher.delivery import Lane
from dispatcher.errors import LedgerError, SubmissionError
from dispatcher.interfaces import Clock, Ledger, Queue
from dispatcher.mail import Accepted, Receipt
from dispatcher.sweeper import WATERMARK

_HELD_SECONDS = 1.0


class Bells:
    """``size`` is of a batch."""

    def __init__(self, ledger: Ledger, queue: Queue, clock: Clock, size: int) -> None:
        self._ledger, self._queue, self._clock, self._size = ledger, queue, clock, size
        self._held: tuple[float, frozenset[str]] = (-_HELD_SECONDS, frozenset())

    def ring(self, checked: Iterable[Accepted | SubmissionError], answers: Iterable[Receipt | SubmissionError]) -> None:
        """Each lane's bells, for what is new and due."""
        now = self._clock.time()
        new: dict[str, list[int]] = {}
        last: dict[str, Accepted] = {}
        for accepted, answer in zip(checked, answers, strict=True):
            if isinstance(answer, SubmissionError) or isinstance(accepted, SubmissionError) or answer.duplicate:
                continue
            if accepted.send_at is None or accepted.send_at <= now:
                new.setdefault(accepted.lane, []).extend(answer.message_ids)
                last[accepted.lane] = accepted
        for lane, messages in new.items():
            self._ring(Lane(lane), messages, ", ".join(last[lane].tags) or last[lane].template_name or "")

    def _ring(self, lane: Lane, messages: Sequence[int], label: str) -> None:
        if lane in self._paused():
            return
        room = WATERMARK - (self._queue.depth(lane) or 0)
        for start in range(0, min(len(messages), max(room, 0) * self._size), self._size):
            if not self._queue.ring(lane, messages[start : start + self._size], label):
                return

    def _paused(self) -> frozenset[str]:
        """Lanes that were paused within the last second. A worker whose bell rings for one would look for mail that it
        may not take, and meanwhile a ledger in a file keeps those waiting who put more of it there."""
        since, held = self._held
        if self._clock.monotonic() - since >= _HELD_SECONDS:
            try:
                held = frozenset(pause.name for pause in self._ledger.pauses() if pause.kind == "lane")
            except LedgerError:  # what was accepted is accepted
                return frozenset()
            self._held = self._clock.monotonic(), held
        return held
