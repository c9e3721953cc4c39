"""A worker process' thread that settles outcomes in groups, so that a commit is paid once for many mails.

It also sweeps when nobody else has for a while, so that no beat is a single point.
"""

import threading
from collections import defaultdict
from collections.abc import Callable, Sequence

from dispatcher.delivery import Settlement
from dispatcher.errors import LedgerUnavailable
from dispatcher.events import LedgerAway
from dispatcher.interfaces import Clock, EventSink, Journal, Ledger

GROUP = 100
LOOK_SECONDS = 1.0  # how often a process looks whether somebody sweeps, and what else comes round
AWAY_SECONDS = 1.0


class Settler:
    """Takes settlements from the sending thread and puts them into the ledger every ``seconds`` or ``GROUP`` of them.

    While the ledger is away they wait in memory; ``back`` is called when it has taken them. ``look`` is called at least
    every second, by the time that it answers in seconds, if sooner. ``start`` it after the fork only: a thread does
    not survive one.
    """

    def __init__(
        self,
        ledger: Ledger,
        journal: Journal,
        clock: Clock,
        *,
        seconds: float,
        look: Callable[[], float] = lambda: LOOK_SECONDS,
        back: Callable[[], None] = lambda: None,
        sink: EventSink = lambda _: None,
    ) -> None:
        self._ledger, self._journal, self._clock = ledger, journal, clock
        self._seconds, self._look, self._back, self._sink = seconds, look, back, sink
        self._away = False
        self._look_at, self._nudged = clock.monotonic() + LOOK_SECONDS, False
        self._waiting: dict[str, list[Settlement]] = defaultdict(list)
        self._count = 0
        self._changed = threading.Condition()
        self._writing = threading.Lock()  # one group at a time, so that flush() returning means settled
        self._stopping = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin settling in the background."""
        self._thread = threading.Thread(target=self._run, name="settler", daemon=True)
        self._thread.start()

    def add(self, token: str, settlements: Sequence[Settlement]) -> None:
        """Hand over what became of some deliveries of a lease; returns at once."""
        with self._changed:
            first = not self._count
            self._waiting[token].extend(settlements)
            self._count += len(settlements)
            if first or self._count >= GROUP:
                self._changed.notify()

    def nudge(self) -> None:
        """Look now, and decide anew when to look again."""
        with self._changed:
            self._nudged = True
            self._changed.notify()

    def flush(self) -> bool:
        """Settle all that waits, now; False when the ledger is away and it goes on waiting."""
        with self._writing:
            with self._changed:
                group, self._waiting = self._waiting, defaultdict(list)
                self._count = 0
            reason = ""
            for token, settlements in tuple(group.items()):
                try:
                    self._ledger.settle(token, settlements)
                except LedgerUnavailable as error:
                    reason = str(error)
                    break
                except Exception as error:  # noqa: BLE001 - a fault of ours: the others must not wait behind it
                    reason = f"{type(error).__name__}: {error}"
                    continue
                del group[token]
                self._journal.settled(token, {s.message for s in settlements})
            if group:
                self._keep(group)
                self._away = True
                self._sink(LedgerAway(reason, self._count))
                return False
            if self._away:
                self._away = False
                self._back()
        return True

    def close(self) -> bool:
        """End the thread and settle what is left; False when it could not be."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()
        return self.flush()

    def _keep(self, group: dict[str, list[Settlement]]) -> None:
        with self._changed:
            for token, settlements in group.items():
                self._waiting[token] = settlements + self._waiting[token]
            self._count = sum(map(len, self._waiting.values()))

    def _run(self) -> None:
        while not self._stopping:
            self._wait(self._look_at - self._clock.monotonic(), lambda: self._count > 0 or self._nudged)
            self._wait(self._seconds, lambda: not 0 < self._count < GROUP)  # for the group to fill
            if self._count and not self.flush():
                self._wait(AWAY_SECONDS, lambda: False)
            if self._nudged or self._clock.monotonic() >= self._look_at:
                self._look_around()

    def _look_around(self) -> None:
        self._nudged, after = False, LOOK_SECONDS
        try:
            after = self._look()
        except Exception as error:  # noqa: BLE001 - this thread must outlive whatever it meets
            self._sink(LedgerAway(f"sweep: {type(error).__name__}: {error}", 0))
        self._look_at = self._clock.monotonic() + after

    def _wait(self, seconds: float, enough: Callable[[], bool]) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._stopping or enough(), seconds)
