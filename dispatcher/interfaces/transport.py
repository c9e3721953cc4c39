"""A way to a relay."""

from collections.abc import Callable, Generator, Iterable
from typing import Protocol

from dispatcher.interfaces.journal import Journal
from dispatcher.mail import Message
from dispatcher.reply import Outcome


class Transport(Protocol):
    """A way to a relay. ``name`` is the relay's name in the settings."""

    name: str

    def send(
        self, messages: Iterable[Message], journal: Journal, halted: Callable[[], bool] = lambda: False
    ) -> Generator[Outcome]:
        """Send each message in one SMTP transaction; yield its outcome as soon as it is known, in any order. A few more
        messages may be taken by then.

        Once ``halted`` answers True, none is begun any more, and those that were are waited for. A refusal is data.
        Raises TransportError when the relay cannot be used (any more): every message that was not yielded until then
        is known to be unsent.
        """
        ...

    def tend(self) -> None:
        """Call it every few seconds, from any thread: close idle connections that are too old or wanted elsewhere."""
        ...

    def close(self) -> None: ...
