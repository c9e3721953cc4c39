"""What a worker process writes down of its leases, and what is found when it died."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from dispatcher.delivery import Lease
from dispatcher.journal import DeadJournal, Entry
from dispatcher.mail import Message
from dispatcher.reply import Outcome, Result


class Journal(Protocol):
    """What happened inside a lease, written down as it happens, by one worker process. ``owner`` names the process in
    the ledger, as ``<folder>/<process>``."""

    owner: str

    def leasing(self, seconds: float) -> None:
        """Before a lease is asked for: its term counts from here, however long the answer takes."""
        ...

    def leased(self, lease: Lease) -> None:
        """The answer: these messages are ours until the term is over."""
        ...

    def begin(self, message: Message, refused: Sequence[tuple[int, Result]]) -> None:
        """Before a body goes out: which message, and which of its recipients were refused already.

        Raises LeaseLost when it is not leased, or its term is over: then the body must not go out.
        """
        ...

    def reply(self, outcome: Outcome) -> None:
        """As soon as the server has answered for every recipient of a message, or its silence is known."""
        ...

    def rest(self) -> None:
        """Nothing is in hand any more: what is not settled only waits for the ledger."""
        ...

    def abandon(self, lease: Lease) -> None:
        """It is in nobody's hands, and not settled: whoever looks for strays ends it."""
        ...

    def begun(self) -> dict[int, tuple[int, ...]]:
        """The messages that were begun and not answered, with the delivery ids that are still unknown."""
        ...

    def settled(self, token: str, messages: Iterable[int]) -> None:
        """The ledger has these of that lease; they need not be remembered."""
        ...

    def tokens(self) -> set[str]:
        """The leases of which something is not settled yet."""
        ...

    def entries(self) -> Mapping[tuple[str, int], Entry]:
        """What was begun in the last minute or longer, by token and message, settled or not: a ledger may have
        forgotten what it was told."""
        ...

    def close(self) -> None:
        """The process ends: nothing more is written."""
        ...


class Journals(Protocol):
    """The journals of all worker processes that share a folder."""

    def open(self, build: str) -> Journal:
        """One for this process, whose messages are built with this. Raises ConfigurationError."""
        ...

    def owners(self) -> set[str]:
        """Those that have a journal here: their processes live, or wait to be replayed."""
        ...

    def end_stuck(self, seconds: float) -> list[int]:
        """Kill the processes of this host that hold a lease which is over since so long, or stand still after one;
        their numbers. Call it every second or two."""
        ...

    def dead(self) -> AbstractContextManager[Iterator[DeadJournal]]:
        """Those whose processes have ended; each is the caller's alone until the block ends."""
        ...

    def note_told(self, owner: str) -> None:
        """The ledger knows all that a dead one says. Inside of the block in which it was met, as ``remove``."""
        ...

    def remove(self, owner: str) -> None:
        """Remove a dead one."""
        ...
