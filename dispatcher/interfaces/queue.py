"""The bells of the lanes."""

from collections.abc import Sequence
from typing import Protocol

from dispatcher.delivery import Lane


class Queue(Protocol):
    """The doorbells of the lanes. Everything on it may vanish, double or come late; no mail does."""

    def ring(self, lane: Lane, messages: Sequence[int], label: str = "") -> bool:
        """Ring the lane's bell for these messages (none: for whatever is due). False: nobody heard it."""
        ...

    def depth(self, lane: Lane) -> int | None:
        """How many bells wait in the lane; None when that cannot be told."""
        ...

    def expand(self) -> bool:
        """Ring for schedules and campaigns that are to be moved on. False: nobody heard it."""
        ...
