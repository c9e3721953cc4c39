"""The recipients of a receipt, spelled out when somebody looks: who hands over a million mails seldom does."""

from collections.abc import Collection, Iterator, Sequence
from typing import Any, overload

from dispatcher import ids
from dispatcher.delivery import State
from dispatcher.mail import ReceiptRecipient


class Listing(Sequence[ReceiptRecipient]):
    """Of a new submission: the addresses, by message, that its receipt lists. Else as the tuple that it stands for.
    ``suppressed``: which of them are, as (message, recipient), counted from 1."""

    __slots__ = ("_listed", "_rcpts", "_seed", "_submission", "_suppressed")

    def __init__(
        self,
        submission: str,
        seed: int,
        rcpts: Sequence[Sequence[str]],
        suppressed: Collection[tuple[int, int]] = frozenset(),
    ) -> None:
        self._submission, self._seed, self._rcpts, self._suppressed = submission, seed, rcpts, suppressed
        self._listed: tuple[ReceiptRecipient, ...] | None = None

    @property
    def _all(self) -> tuple[ReceiptRecipient, ...]:
        if self._listed is None:
            self._listed = tuple(self._spelled())
        return self._listed

    def _spelled(self) -> Iterator[ReceiptRecipient]:
        for n, message in enumerate(self._rcpts, 1):
            name = ids.message_id(self._submission, self._seed, n)
            for k, rcpt in enumerate(message, 1):
                state = State.SUPPRESSED if (n, k) in self._suppressed else State.QUEUED
                yield ReceiptRecipient(ids.delivery_id(name, k), rcpt, state)

    @overload
    def __getitem__(self, at: int) -> ReceiptRecipient: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[ReceiptRecipient, ...]: ...
    def __getitem__(self, at: Any) -> Any:
        return self._all[at]

    def __len__(self) -> int:
        return len(self._all)

    def __eq__(self, other: object) -> bool:
        return self._all == (other._all if isinstance(other, Listing) else other)

    def __hash__(self) -> int:
        return hash(self._all)

    def __repr__(self) -> str:
        return repr(self._all)
