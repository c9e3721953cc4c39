"""What keeps those who are not to be written to."""

from collections.abc import Collection, Iterable, Iterator
from typing import Protocol

from dispatcher.delivery import Actor
from dispatcher.suppression import Reason, Suppression


class Suppressions(Protocol):
    """Whom not to write to, by normal address and scope; what is over does not hold, and is nowhere to be seen.

    A ledger asks it of every address that mail is taken in for, and again when it is leased.
    """

    def add(self, suppressions: Iterable[Suppression], actor: Actor | None = None) -> int:
        """Suppress these, in small transactions; how many changed something: where one stands that is as long, it stays
        as it is. With an actor an act."""
        ...

    def remove(self, address: str, scope: str | None, actor: Actor, *, reason: Reason | None = None) -> int:
        """Write to this address again, in this scope (None: in all), if it was suppressed for this reason (None: for
        any); how many were removed. An act."""
        ...

    def standing(self, address: str) -> list[Suppression]:
        """Those of one address."""
        ...

    def find(
        self, *, scope: str | None = None, reason: Reason | None = None, address: str | None = None
    ) -> Iterator[Suppression]:
        """All for which what is given holds, read in pages."""
        ...

    def count(self, *, scope: str | None = None, reason: Reason | None = None, address: str | None = None) -> int:
        """How many ``find`` would find."""
        ...

    def held(self, addresses: Collection[str], list: str | None) -> dict[str, Suppression]:  # noqa: A002
        """Who of these gets no mail of this list (None: of no list), by normal address, and the widest reason why."""
        ...
