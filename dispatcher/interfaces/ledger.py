"""The memory: what was accepted, and what became of it."""

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Protocol

from dispatcher.delivery import Actor, Lane, Lease, Selector, Settlement, State
from dispatcher.errors import IdempotencyConflict
from dispatcher.interfaces.audiences import Audiences
from dispatcher.interfaces.automations import Automations
from dispatcher.interfaces.campaigns import Campaigns
from dispatcher.interfaces.reports import Reports
from dispatcher.interfaces.schedules import Schedules
from dispatcher.interfaces.suppressions import Suppressions
from dispatcher.mail import Accepted, Receipt
from dispatcher.records import (
    Account,
    Act,
    DeliveryRecord,
    Pause,
    Publication,
    Reject,
    Retired,
    SubmissionRecord,
    Totals,
)
from dispatcher.retention import Retention
from dispatcher.template import TemplateVersion


class Ledger(Protocol):
    """The memory. A method is one transaction, on the ledger's clock; raises LedgerUnavailable, changing nothing."""

    @property
    def campaigns(self) -> Campaigns: ...

    @property
    def suppressions(self) -> Suppressions: ...

    @property
    def audiences(self) -> Audiences: ...

    @property
    def schedules(self) -> Schedules: ...

    @property
    def automations(self) -> Automations: ...

    @property
    def reports(self) -> Reports: ...

    # -- accepting
    def add(self, submissions: Sequence[Accepted]) -> list[Receipt | IdempotencyConflict]:
        """Commit these, in order. The same key with the same content answers the first receipt as a duplicate.

        A recipient who is suppressed is accepted as ``suppressed``, which the receipt says, and need not be rung for.
        """
        ...

    def put_template(self, digest: str, name: str, files: dict[str, str]) -> None:
        """Keep a template version under its content hash; keeping it twice changes nothing."""
        ...

    def template(self, digest: str) -> tuple[str, dict[str, str]]:
        """The name and files of a version. Raises NotFound."""
        ...

    def publish(self, versions: Sequence[TemplateVersion], actor: Actor) -> list[Publication]:
        """Render new mail with these versions from now on; those that changed something. An act."""
        ...

    def publications(self) -> dict[str, Publication]:
        """The published version of each template that has one."""
        ...

    def template_versions(self, name: str) -> list[tuple[str, float]]:
        """The versions of a template that are kept, newest first: digest, and when it was first kept."""
        ...

    # -- delivering
    def lease(
        self,
        lane: Lane,
        *,
        limit: int,
        seconds: float,
        owner: str,
        messages: Sequence[int] = (),
        avoid: Collection[str | None] = (),
    ) -> Lease:
        """Take up to ``limit`` due messages, those named first, then whatever is due longest.

        A message is taken with all its recipients that are due. What is past its lifetime becomes expired instead, and
        who is suppressed by now suppressed: then ``more`` says to ask again. What a pause covers stays, and so does
        what asks for a relay in ``avoid`` (None there: what asks for none; ``campaign/ID``: mail of that submission). A
        half-open relay is the caller's to avoid. Two callers never get the same delivery.
        """
        ...

    def settle(self, token: str, settlements: Sequence[Settlement]) -> int:
        """Apply what became of leased deliveries, if the token still owns them; how many it did.

        A known reply also settles a delivery that is in doubt under the same token. One that came back from a dead
        process (``crashed``) is counted; after the fourth time it is invalid, unless it is held in doubt. Secrets of
        messages that are settled throughout are wiped. An address that the relay does not know is suppressed for good
        (see ``suppression.by_bounce``).
        """
        ...

    def held(self, owner: str) -> list[Lease]:
        """What this owner has leased and not settled, one lease for each token."""
        ...

    def reclaim(self, living: Collection[str] = (), grace: float = 0.0) -> int:
        """End leases that are past their term by more than ``grace`` seconds, unless their owner is one of ``living``,
        whose own host sees to it: the others' host is lost, and nobody knows what was sent. So each goes the way of its
        submission's ``if_in_doubt``: back to queued, or held in doubt. How many deliveries."""
        ...

    def due(self, lane: Lane, limit: int, avoid: Collection[str | None] = ()) -> int:
        """How many deliveries a lease would take now, counted up to ``limit``."""
        ...

    def pause(self, kind: str, name: str, seconds: float | None, reason: str, actor: Actor | None = None) -> Pause:
        """Stop leasing for a relay, lane or submission (``kind``) for a time; None: until it is lifted. An act.

        Without an actor it is the dispatcher's own, of a relay: it lasts twice as long as the one before while it comes
        again at once (up to five minutes; ten seconds for one that is just away), and is half open when it is over.
        """
        ...

    def probe(self, relay: str, seconds: float) -> bool:
        """True for one caller: the one that may try the half-open relay with one message in the next ``seconds``."""
        ...

    def resume(self, kind: str, name: str, actor: Actor | None = None) -> bool:
        """Lift a pause; whether there was one. With an actor whoever set it, an act; without one only the dispatcher's
        own, since a message came through."""
        ...

    def reopen(self, relay: str) -> None:
        """Make the dispatcher's own pause of a relay half open now, free for the next probe: its settings have changed,
        or a probe learned nothing."""
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

    def unbalanced(self) -> list[tuple[str, int, int]]:
        """The submissions whose accepted count is not that of their rows: id, accepted, rows. None, or the ledger is
        broken."""
        ...

    def accounts(self) -> Iterator[Account]:
        """Every delivery that there is at the first one, each as it stands when it is met."""
        ...

    def totals(self) -> Totals:
        """Counts by lane and state, and the oldest waiting age by lane."""
        ...

    def find(self, selector: Selector) -> Iterator[DeliveryRecord]:
        """The deliveries that are meant, newest first, read in pages. Raises NotFound for an id that is nobody's."""
        ...

    def count(self, selector: Selector) -> int:
        """How many deliveries are meant; the selector's limit does not count. Raises NotFound as ``find``."""
        ...

    def submission(self, public_id: str) -> SubmissionRecord:
        """Raises NotFound."""
        ...

    def message(self, delivery: str) -> Lease:
        """A lease-shaped view of the message of one delivery (without taking it), to build its bytes again."""
        ...

    # -- acting
    def change(
        self, selector: Selector, state: State, actor: Actor, progress: Callable[[int], None] = lambda _: None
    ) -> int:
        """By hand: cancel (``cancelled``), try again (``queued``, due now), or settle what is in doubt
        (``sent``, ``bounced``, ``queued``). Only what the transition table allows changes; how many did.

        What had its secrets wiped is not tried again: it could not be rendered. In small transactions, of which
        ``progress`` hears how many each changed; each delivery changes once, and what was changed stays so. One act.
        """
        ...

    def acts(self, *, since: float | None = None, limit: int = 100) -> list[Act]:
        """What people did, newest first."""
        ...

    # -- keeping
    def retire(self, retention: Retention, limit: int) -> Retired:
        """Remove up to ``limit`` deliveries whose submissions are over their retention, with all that belongs to them.

        A submission goes when all its deliveries are settled and none changed within its retention; its accepted count
        sinks with it, so that the sums balance at every moment. Keys, resolved rejects and old acts go in their time.
        """
        ...

    def unused(self, blobs: Sequence[str]) -> list[str]:
        """Which of these attachments no submission uses. None, as long as that is not known for all submissions."""
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
