"""The journal of a worker process: what was begun inside a lease and is not answered yet."""

import threading
from collections.abc import Iterable, Sequence

from dispatcher.mail import Message
from dispatcher.reply import Outcome, Result


class MemoryJournal:
    """Lives and dies with its process. Implements interfaces.Journal. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begun: dict[int, tuple[int, ...]] = {}

    def begin(self, message: Message, refused: Sequence[tuple[int, Result]]) -> None:
        """Note the message and whose outcome is open from here on: everyone that was not refused."""
        known = {delivery for delivery, _ in refused}
        with self._lock:
            self._begun[message.id] = tuple(delivery for delivery, _ in message.rcpt_to if delivery not in known)

    def reply(self, outcome: Outcome) -> None:
        """The message is answered, or its silence is on its way to the ledger: it is no longer open here."""
        with self._lock:
            self._begun.pop(outcome.message, None)

    def begun(self) -> dict[int, tuple[int, ...]]:
        with self._lock:
            return dict(self._begun)

    def settled(self, messages: Iterable[int]) -> None:
        with self._lock:
            for message in messages:
                self._begun.pop(message, None)

    def __repr__(self) -> str:
        return f"<MemoryJournal begun={len(self._begun)}>"
