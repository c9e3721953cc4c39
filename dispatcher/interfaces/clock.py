"""This process' clocks."""

from typing import Protocol


class Clock(Protocol):
    """This process' clocks. What is shared between processes goes by the ledger's clock instead."""

    def time(self) -> float:
        """Seconds since the epoch, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds since some fixed moment, never set back."""
        ...
