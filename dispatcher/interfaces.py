"""The seams: what the use cases ask of the outside world. Each has a real adapter and a fake in ``testing``;
one contract suite under ``tests/contract`` runs on both."""

from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import Any, BinaryIO, Protocol

from dispatcher.delivery import Actor, Lane, Lease, Selector, Settlement, State
from dispatcher.errors import IdempotencyConflict
from dispatcher.mail import Accepted, Blob, Message, Receipt
from dispatcher.records import DeliveryRecord, Pause, Reject, SubmissionRecord, Totals
from dispatcher.reply import Outcome, Result


class Clock(Protocol):
    """This process' clocks. What is shared between processes goes by the ledger's clock instead."""

    def time(self) -> float:
        """Seconds since the epoch, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds since some fixed moment, never set back."""
        ...


class Journal(Protocol):
    """What happened inside a lease, written down as it happens, by one worker process."""

    def begin(self, message: Message, refused: Sequence[tuple[int, Result]]) -> None:
        """Before a body goes out: which message, and which of its recipients were refused already."""
        ...

    def reply(self, outcome: Outcome) -> None:
        """As soon as the server has answered for every recipient of a message."""
        ...

    def begun(self) -> dict[int, tuple[int, ...]]:
        """The messages that were begun and not answered, with the delivery ids that are still unknown."""
        ...

    def settled(self, messages: Iterable[int]) -> None:
        """The ledger has these; they need not be remembered."""
        ...


class Transport(Protocol):
    """A way to a relay. ``name`` is the relay's name in the settings."""

    name: str

    def send(self, messages: Iterable[Message], journal: Journal) -> Generator[Outcome]:
        """Send each message in one SMTP transaction; yield its outcome as soon as it is known.

        A refusal is data. Raises TransportError when the relay cannot be used (any more): every message that was
        not yielded until then is known to be unsent.
        """
        ...

    def close(self) -> None: ...


class Queue(Protocol):
    """The doorbells of the lanes. Everything on it may vanish, double or come late; no mail does."""

    def ring(self, lane: Lane, messages: Sequence[int], label: str = "") -> bool:
        """Ring the lane's bell for these messages (none: for whatever is due). False: nobody heard it."""
        ...

    def depth(self, lane: Lane) -> int | None:
        """How many bells wait in the lane; None when that cannot be told."""
        ...


class Blobs(Protocol):
    """Attachments by content: the SHA-256 of the bytes is the id, so the same file is stored once."""

    def put(self, stream: BinaryIO) -> Blob:
        """Store what the stream holds, durably before this returns."""
        ...

    def get(self, blob: str) -> bytes:
        """Raises NotFound."""
        ...

    def size(self, blob: str) -> int:
        """In bytes. Raises NotFound."""
        ...


class Ledger(Protocol):
    """The memory. A method is one transaction, on the ledger's clock; raises LedgerUnavailable, changing nothing."""

    # -- accepting
    def add(self, submissions: Sequence[Accepted]) -> list[Receipt | IdempotencyConflict]:
        """Commit these, in order. The same key with the same content answers the first receipt as a duplicate."""
        ...

    def put_template(self, digest: str, name: str, files: dict[str, str]) -> None:
        """Keep a template version under its content hash; keeping it twice changes nothing."""
        ...

    def template(self, digest: str) -> tuple[str, dict[str, str]]:
        """The name and files of a version. Raises NotFound."""
        ...

    # -- delivering
    def lease(self, lane: Lane, *, limit: int, seconds: float, owner: str, messages: Sequence[int] = ()) -> Lease:
        """Take up to ``limit`` due messages, those named first, then whatever is due longest.

        A message is taken with all its recipients that are due. What is past its lifetime becomes expired instead;
        what a pause covers stays. Two callers never get the same delivery.
        """
        ...

    def settle(self, token: str, settlements: Sequence[Settlement]) -> int:
        """Apply what became of leased deliveries, if the token still owns them; how many it did.

        A known reply also settles a delivery that is in doubt under the same token. Secrets of messages that are
        settled throughout are wiped.
        """
        ...

    def reclaim(self) -> int:
        """End leases that are past their term: nobody knows what was sent, so each goes the way of its
        submission's ``if_in_doubt``: back to queued, or held in doubt. How many deliveries."""
        ...

    def due(self, lane: Lane, limit: int) -> int:
        """How many deliveries are due now and not paused, counted up to ``limit``."""
        ...

    def pause(self, kind: str, name: str, seconds: float | None, reason: str, actor: Actor | None = None) -> Pause:
        """Stop leasing for a relay (``kind`` is ``relay``) for a time. Without an actor it is the dispatcher's own,
        and lasts twice as long as the one before while it comes again at once, up to five minutes."""
        ...

    def tick(self, name: str, every: float) -> bool:
        """True for one caller per ``every`` seconds: the one that is to do it."""
        ...

    # -- knowing
    def ticks(self) -> dict[str, float]:
        """When each tick was last granted: seconds ago."""
        ...

    def pauses(self) -> list[Pause]:
        """Those that hold now."""
        ...

    def totals(self) -> Totals:
        """Counts by lane and state, and the oldest waiting age by lane."""
        ...

    def find(self, selector: Selector) -> Iterator[DeliveryRecord]:
        """The deliveries that are meant, newest first, read in pages. Raises NotFound for an id that is nobody's."""
        ...

    def submission(self, public_id: str) -> SubmissionRecord:
        """Raises NotFound."""
        ...

    def message(self, delivery: str) -> Lease:
        """A lease-shaped view of the message of one delivery (without taking it), to build its bytes again."""
        ...

    # -- acting
    def change(self, selector: Selector, state: State, actor: Actor) -> int:
        """By hand: cancel (``cancelled``), try again (``queued``, due now), or settle what is in doubt
        (``sent``, ``bounced``, ``queued``). Only what the transition table allows changes; how many did."""
        ...

    # -- rejects
    def reject(self, *, door: str, reference: str, producer: str, payload: str, field: str, reason: str) -> Reject:
        """Keep what intake refused. The same door and reference twice is one reject."""
        ...

    def rejects(self, *, id: int | None = None, limit: int = 100, open_only: bool = True) -> list[Reject]:  # noqa: A002
        """Newest first."""
        ...

    def resolve_reject(self, id: int, outcome: str, actor: Actor) -> None:  # noqa: A002
        """Mark a reject as ``resubmitted`` or ``dropped``. Raises NotFound."""
        ...

    def close(self) -> None: ...


class EventSink(Protocol):
    """Any callable that takes one frozen event. It may fail; delivery may not."""

    def __call__(self, event: Any, /) -> None: ...
