"""The door at the Redis stream: a thread that takes in what was handed over, and ends it when the ledger has it."""

import threading
import time
from collections.abc import Callable, Sequence

import structlog

from dispatcher.adapters.stream import Entry, Stream, StreamAway
from dispatcher.dispatcher import Dispatcher
from dispatcher.errors import ConfigurationError, LedgerError, SubmissionError
from dispatcher.handed import killer, of_entry

DOOR = "stream"
_WAIT_SECONDS = 1.0  # for new entries; so late it sees that it is to stop
_AWAY_SECONDS = 2.0
_HOLD_SECONDS = 10.0
_SAY_AGAIN_SECONDS = 60.0
_log = structlog.stdlib.get_logger("dispatcher.stream")


class StreamDoor:
    """Takes entries in until ``stopping`` says so or it is closed. ``dispatcher`` is asked for whenever it is needed;
    it raises LedgerError or ConfigurationError while the ledger is away."""

    def __init__(self, stream: Stream, dispatcher: Callable[[], Dispatcher], stopping: Callable[[], bool]) -> None:
        self._stream, self._dispatcher, self._asked = stream, dispatcher, stopping
        self._closing = threading.Event()
        self._hand: list[Entry] = []  # delivered, and not in the ledger as far as we know
        self._ended: list[str] = []  # in the ledger, and not removed from the stream as far as we know
        self._said: tuple[str, float] = ("", 0.0)
        self._threads = [threading.Thread(target=work, name=DOOR, daemon=True) for work in (self._work, self._keep)]

    def start(self) -> None:
        """Begin; it connects in its own time."""
        for thread in reversed(self._threads):  # the first one waits for the other when it is asked to end at once
            thread.start()

    def close(self, seconds: float = 2.0) -> None:
        """Stop, and wait so long at most: what is in the middle of a call that hangs ends with the process."""
        self._closing.set()
        until = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        if not self._threads[0].is_alive():
            self._stream.close()

    def _work(self) -> None:
        while not self._over():
            try:
                self._turn()
            except StreamAway as error:
                self._trouble("the stream is out of reach", str(error))
                self._wait()
            except Exception:  # noqa: BLE001 - the thread must not end while its process lives
                _log.exception("what was handed over cannot even be kept as rejected: it stays in the stream")
                self._hand = []  # pending all the same: it comes again after the others
                self._wait()
        self._leave()

    def _turn(self) -> None:
        """End what is in the ledger, then take in what is in hand, else the next. Nothing is ended that is not kept."""
        if self._ended:
            self._stream.end(self._ended)
            self._ended = []
        if not self._hand:
            self._hand = self._stream.next(_WAIT_SECONDS)
        if not self._hand:
            return
        try:
            refused = self._take_in(self._hand)
        except (LedgerError, ConfigurationError) as error:
            self._trouble("the ledger is away: what was handed over waits", str(error))
            self._wait()
            return
        if refused:
            _log.warning("refused and kept as rejects", entries=refused, of=len(self._hand))
        self._ended, self._hand = [entry.id for entry in self._hand], []

    def _take_in(self, entries: Sequence[Entry]) -> int:
        """Accept or keep each; how many were refused."""
        dispatcher = self._dispatcher()
        try:
            answers = self.take_in(dispatcher, entries)
        except (LedgerError, ConfigurationError, StreamAway):
            raise
        except Exception:  # noqa: BLE001 - a fault of ours: one entry's must not keep the others
            _log.exception("these entries cannot be taken in together, so each goes alone", entries=len(entries))
            answers = [answer for each in entries for answer in self._alone(dispatcher, each)]
        return answers.count("rejected")

    def take_in(
        self, dispatcher: Dispatcher, entries: Sequence[Entry], fault: SubmissionError | None = None
    ) -> list[str]:
        """Accept these, or keep them as rejected, for this ``fault`` if there is one. The number of each that is in the
        ledger then, or ``rejected``, in any order."""
        handed = [of_entry(each.id, each.pairs, fault or killer(each.killed)) for each in entries]
        return dispatcher.take_in_many(handed, door=DOOR)

    def _alone(self, dispatcher: Dispatcher, entry: Entry) -> list[str]:
        """Accept or keep one that may have met a fault of ours."""
        try:
            return self.take_in(dispatcher, [entry])
        except (LedgerError, ConfigurationError, StreamAway):
            raise
        except Exception as error:  # noqa: BLE001 - as above
            _log.exception("the entry cannot be taken in", entry=entry.id)
            fault = SubmissionError("", f"unexpected {type(error).__name__}: {error}")
            return self.take_in(dispatcher, [entry], fault)

    def _keep(self) -> None:
        """Say now and then that what is in hand is still ours, however long the ledger takes."""
        while not self._closing.wait(_HOLD_SECONDS):
            try:
                if hand := self._hand:
                    self._stream.hold(hand)
            except StreamAway:
                continue  # the other thread says so

    def _leave(self) -> None:
        """End and give back what can be, so that nobody has to wait until this consumer is taken for dead."""
        self._closing.set()
        self._threads[1].join(_AWAY_SECONDS)  # it must not hold what is given back
        try:
            if self._ended:
                self._stream.end(self._ended)
            self._stream.give_back(self._hand)
        except StreamAway:
            return  # it is taken over later

    def _over(self) -> bool:
        return self._closing.is_set() or self._asked()

    def _wait(self) -> None:
        until = time.monotonic() + _AWAY_SECONDS
        while time.monotonic() < until and not self._over():
            time.sleep(0.1)

    def _trouble(self, what: str, reason: str) -> None:
        """Say so, but not every two seconds."""
        before, at = self._said
        if before != what or time.monotonic() - at > _SAY_AGAIN_SECONDS:
            self._said = what, time.monotonic()
            _log.error(what, reason=reason)
