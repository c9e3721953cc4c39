"""Ends a worker that has gone deaf: its process lives, its heart beats, and it hears no bell any more.

It happens when a connection to the broker breaks in an unlucky moment; Celery has mended it many times
(celery/celery #8030, #8091, #9054, #10205). So a worker watches itself: while bells wait in its queues and none of them
reaches it, it ends, and whoever keeps it running starts it again. Nothing is lost by that: mail lies in the ledger.
"""

import threading
import time
from collections.abc import Callable

LOOK_SECONDS = 1.0


class Watchdog(threading.Thread):
    """``waiting`` answers how many bells wait (None: the broker does not say), ``taken`` how many this worker has ever
    heard, ``busy`` whether it has one in hand, for which it may take ``busy_seconds``. ``end`` is called once. When the
    worker is asked to end, it is ``over``: from then on it may leave bells to others.

    It counts looks and no seconds: those in which the whole machine stood still are nobody's fault.
    """

    def __init__(
        self,
        *,
        waiting: Callable[[], int | None],
        taken: Callable[[], int],
        busy: Callable[[], bool],
        idle_seconds: float,
        busy_seconds: float,
        end: Callable[[], None],
        over: Callable[[], bool],
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        super().__init__(name="watchdog", daemon=True)
        self._waiting, self._taken, self._busy = waiting, taken, busy
        self._end, self._over = end, over
        self._idle_looks, self._busy_looks = idle_seconds / look_seconds, busy_seconds / look_seconds
        self._look_seconds = look_seconds
        self._last = -1
        self._idle = self._deaf = 0

    def run(self) -> None:
        """Look until it is over, or deaf."""
        while not self._over():
            time.sleep(self._look_seconds)
            if self.look() and not self._over():
                self._end()
                return

    def look(self) -> bool:
        """One look: whether the worker is deaf."""
        taken = self._taken()
        if taken != self._last or not self._waiting():
            self._last, self._idle, self._deaf = taken, 0, 0
            return False
        self._deaf += 1
        self._idle = 0 if self._busy() else self._idle + 1
        return self._idle >= self._idle_looks or self._deaf >= self._busy_looks
