"""What a journal says of one message, and of a process that has ended: values. The file is in ``adapters.journal``."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from dispatcher.reply import Result


@dataclass(frozen=True, slots=True)
class Entry:
    """A message that was begun under a lease: its deliveries, those refused before the body, and what the server said
    of the others (None: it was not heard any more), when (seconds since the epoch) and after how many seconds."""

    token: str
    message: int
    deliveries: tuple[int, ...]
    refused: Mapping[int, Result]
    reply: Result | None = None
    relay: str = ""
    at: float = 0.0
    seconds: float = 0.0
    sha256: str | None = None

    def result(self, delivery: int) -> Result | None:
        """What became of one recipient; None where that is unknown."""
        return self.refused.get(delivery, self.reply)


@dataclass(frozen=True, slots=True)
class DeadJournal:
    """What a process that has ended left behind.

    ``entries`` reads it, by token and message. ``told``: the ledger was told all of it. ``closed``: the process ended
    in order. ``rebooted``: the machine went down with it, so that the last of it may be missing. ``over``: the term of
    its last lease is over, so that no lease of its can come into being any more. ``build`` is the fingerprint of what
    its messages were built with.
    """

    owner: str
    entries: Callable[[], Mapping[tuple[str, int], Entry]]
    told: bool = False
    closed: bool = False
    rebooted: bool = False
    over: bool = True
    build: str = ""
