"""The limits of relays, over all workers."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from dispatcher.rate import Grant, Rate, Usage
from dispatcher.relay import Relay


class RateLimiter(Protocol):
    """The limits of relays, over all workers. It never waits, and never raises: when what it shares is out of reach,
    each process goes by a share of its own."""

    def limits(self, relays: Mapping[str, Relay]) -> None:
        """Go by the rates and connections of these from now on."""
        ...

    def pace(self, name: str, rate: Rate) -> None:
        """Go by this rate for what is no relay, too, such as a campaign. Cheap when nothing has changed."""
        ...

    def rate(self, relay: str) -> Rate:
        """What it goes by; empty for a relay without a rate, and for one that it was not told of."""
        ...

    def take(self, relay: str, wanted: int, each: int = 1) -> Grant:
        """Slots for up to ``wanted`` messages of ``each`` recipients, in all windows or none; without a rate all."""
        ...

    def give_back(self, relay: str, slots: Sequence[float], each: int = 1) -> None:
        """Slots, by the limiter's clock, that were not used, so that others may have them. Costs no call."""
        ...

    def enter(self, relay: str) -> float:
        """Before a connection is opened: 0 if it may be, else the seconds after which to ask again."""
        ...

    def leave(self, relay: str) -> None:
        """After a connection was closed, or could not be opened."""
        ...

    def crowded(self, relay: str) -> int:
        """The relay refused a connection while others are open: allow no more than those for some minutes. Returns how
        many those are over all workers; 0 when there are none, and it is no crowd that the relay complains of."""
        ...

    def wanted(self, relay: str) -> bool:
        """Whether somebody waits for a connection, so that an idle one should be closed rather than kept."""
        ...

    def keep(self) -> None:
        """Call it every few seconds: this process lives, and so do its connections."""
        ...

    def usage(self) -> Mapping[str, Usage]:
        """By relay, for ``status``."""
        ...

    def close(self) -> None: ...
