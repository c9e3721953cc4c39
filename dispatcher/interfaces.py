"""The seams: what the use cases ask of the outside world. Each has a real adapter and a fake in ``testing``;
one contract suite under ``tests/contract`` runs on both."""

from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, BinaryIO, Protocol

from dispatcher.audience import Audience, AudienceVersion, BadRow, Column, Member
from dispatcher.campaign import Campaign, CampaignSpec, CampaignState, Expanded, Sums
from dispatcher.delivery import Actor, Lane, Lease, Selector, Settlement, State
from dispatcher.errors import IdempotencyConflict
from dispatcher.interfaces_automations import Automations
from dispatcher.journal import DeadJournal, Entry
from dispatcher.mail import Accepted, Blob, Message, Receipt
from dispatcher.rate import Grant, Rate, Usage
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
from dispatcher.relay import Relay
from dispatcher.reply import Outcome, Result
from dispatcher.retention import Retention
from dispatcher.schedule import Due, Noted, Occurrence, OccurrenceState, Schedule, ScheduleSpec
from dispatcher.suppression import Reason, Suppression
from dispatcher.template import TemplateVersion


class Clock(Protocol):
    """This process' clocks. What is shared between processes goes by the ledger's clock instead."""

    def time(self) -> float:
        """Seconds since the epoch, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds since some fixed moment, never set back."""
        ...


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


class Blobs(Protocol):
    """Attachments by content: the SHA-256 of the bytes is the id, so the same file is stored once."""

    def put(self, stream: BinaryIO) -> Blob:
        """Store what the stream holds, durably before this returns."""
        ...

    def get(self, blob: str) -> bytes:
        """Raises NotFound."""
        ...

    def touch(self, blob: str) -> Blob:
        """The one that is stored under this id, as if it had been put again now. Raises NotFound."""
        ...

    def old(self, seconds: float, *, after: str = "", limit: int = 500) -> list[str]:
        """Ids that were last put longer ago than that, in their order, from behind ``after``."""
        ...

    def remove(self, blob: str, seconds: float) -> bool:
        """Remove it, unless it was put again since ``seconds`` ago; whether it is gone."""
        ...


class Campaigns(Protocol):
    """Campaigns as the ledger keeps them. A method is one transaction; of two who change the same one, the second is
    told how it stands: SubmissionError. Raises NotFound for a name that is nobody's."""

    def create(self, name: str, spec: CampaignSpec, actor: Actor) -> Campaign:
        """A draft. Raises SubmissionError for a name that is taken."""
        ...

    def get(self, name: str) -> Campaign: ...

    def listed(self, *states: CampaignState) -> list[Campaign]:
        """Those in these states, or all; the newest first."""
        ...

    def revise(self, name: str, spec: CampaignSpec, actor: Actor) -> Campaign:
        """Change one that was not started; it is a draft again."""
        ...

    def check(self, seen: Campaign, version: int, found: Mapping[str, Any], actor: Actor) -> Campaign:
        """Keep what a check has found of a campaign as it was ``seen``, and freeze this version of its audience. It is
        checked when ``found["ok"]``, else a draft."""
        ...

    def start(self, seen: Campaign, accepted: Accepted, start_at: float | None, actor: Actor) -> Campaign:
        """From checked, as it was ``seen``, to running, or scheduled: with a submission, to which messages are added
        later. An act."""
        ...

    def begin_due(self) -> int:
        """Let those run whose time has come; how many."""
        ...

    def expand(self, campaign: Campaign, upto: int, rows: Sequence[Expanded], *, filtered: int, complete: bool) -> bool:
        """Add these rows of its audience as messages, and move its cursor ``upto`` the last row that was looked at;
        ``filtered``: how many of those are not meant. Who is suppressed is kept as such.

        False, and nothing is changed, unless it is running and its cursor stands where ``campaign`` has it.
        """
        ...

    def act(self, name: str, verb: str, actor: Actor) -> Campaign:
        """``pause``, ``resume``, ``cancel`` or ``retry`` (see ``campaign.ACTS``), with a pause of its mails or the end
        of it. An act."""
        ...

    def pending(self) -> bool:
        """Whether there is a campaign that is to be moved on."""
        ...

    def moving(self) -> list[Campaign]:
        """Those that are, oldest first: running, due, cancelled and not ended, or over and not reported."""
        ...

    def live(self, campaign: Campaign) -> bool:
        """Whether any of its mails waits, is with a worker, or is held in doubt."""
        ...

    def finish(self, campaign: Campaign) -> bool:
        """Finished, or cancelled for good, with its sums, when no mail is live and they balance; whether it is now."""
        ...

    def reported(self, campaign: Campaign) -> None:
        """Its owner was told."""
        ...

    def sums(self, campaign: Campaign) -> Sums:
        """What became of every row; counted anew each time."""
        ...


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


class Rows(Protocol):
    """The rows of a source of recipients, read from its beginning, in flat memory.

    ``source``: what it is called; ``details``: what was found out about it, by name; ``size``: in bytes, if that is
    known, of which ``done`` have been read. Raises AudienceError where it cannot be read, when it is made or read.
    """

    source: str
    header: Sequence[str]
    details: Mapping[str, str]
    size: int | None

    @property
    def done(self) -> int: ...

    def __iter__(self) -> Iterator[tuple[int, Sequence[Any]] | BadRow]:
        """The number of each row as people find it in the source, with its cells in the header's order; or what is
        wrong with a row that cannot be parted into cells. A cell is text, or what the source has: None, bool, int,
        float, Decimal, date, datetime."""
        ...


class Audiences(Protocol):
    """Lists of recipients in versions. Each method is one transaction, but for ``ready``; times are the ledger's."""

    def begin(self, name: str, source: str, columns: Sequence[Column], actor: Actor) -> AudienceVersion:
        """The next version of an audience, which is nobody's until it is ready."""
        ...

    def add(self, version_id: int, members: Sequence[Member], rejects: Sequence[BadRow]) -> None:
        """Rows of a version that is not ready, each number once. Raises NotFound for another one."""
        ...

    def ready(self, version_id: int, actor: Actor) -> AudienceVersion:
        """From now on it is its audience's current one. An act.

        Of members with the same address the first stays; the others are kept as rejects, ``doubled``. That is done in
        small transactions before. Raises NotFound for what is ready already.
        """
        ...

    def current(self, name: str) -> AudienceVersion:
        """The newest version that is ready. Raises NotFound naming the audiences that are called alike."""
        ...

    def version(self, name: str, number: int) -> AudienceVersion:
        """One that is ready. Raises NotFound."""
        ...

    def by_id(self, version_id: int) -> AudienceVersion:
        """Any version, ready or not. Raises NotFound."""
        ...

    def list(self) -> list[Audience]:
        """All audiences, by name."""
        ...

    def members(self, version_id: int, after: int, limit: int) -> Sequence[tuple[int, str, str, str]]:
        """Row number, address as it is compared, as it is shown, and the attributes as JSON text: those behind row
        ``after``, in their order."""
        ...

    def rejects(self, version_id: int, after: int, limit: int) -> Sequence[BadRow]:
        """Those behind row ``after``, in their order."""
        ...

    def drop(self, name: str, number: int | None, actor: Actor) -> int:
        """Give up one version, or all that are ready; how many. Their rows go with ``forget``. An act.

        Raises NotFound, and AudienceError while a campaign that is not over goes by one of them.
        """
        ...

    def forget(self, seconds: float, limit: int) -> int:
        """Remove up to so many rows of versions that were dropped, or were begun longer ago than that and are not
        ready; how many. A version goes when it has none left, an audience with its last version."""
        ...


class Schedules(Protocol):
    """Schedules and their occurrences as the ledger keeps them. A method is one transaction on the ledger's clock,
    which says what is due. Raises NotFound for a name that is nobody's."""

    def create(self, name: str, spec: ScheduleSpec, actor: Actor) -> Schedule:
        """Its occurrences begin now. Raises SubmissionError for a name that is taken. An act."""
        ...

    def get(self, name: str) -> Schedule: ...

    def listed(self) -> list[Schedule]:
        """All of them, by name."""
        ...

    def revise(self, seen: Schedule, spec: ScheduleSpec, actor: Actor) -> bool:
        """Go by another spec from now on; what is due stays so. An act.

        False, and nothing is changed, unless it stands as it was ``seen`` and all that has come up of it is noted.
        """
        ...

    def act(self, name: str, verb: str, actor: Actor) -> Schedule:
        """``pause``: nothing of it becomes due, nor is fired, but by hand; ``resume``: what came up meanwhile is caught
        up with. Raises SubmissionError where it is so already. An act."""
        ...

    def remove(self, name: str, actor: Actor) -> None:
        """With all its occurrences. An act."""
        ...

    def run_now(self, name: str, actor: Actor) -> Occurrence:
        """An occurrence by hand, paused or not, beside the others. It is at half of a second, which no other one is.
        Raises SubmissionError for the second one in the same second. An act."""
        ...

    def ripe(self, limit: int) -> list[Schedule]:
        """Those of which occurrences have come up that are not noted, the longest first."""
        ...

    def note(self, seen: Schedule, noted: Noted) -> bool:
        """Enter these occurrences, and move on what was looked at. False, and nothing is changed, when somebody else
        did, or it is not as it was ``seen`` any more."""
        ...

    def due(self, limit: int) -> list[Due]:
        """What is to be fired, the oldest first."""
        ...

    def done(self, due: Due, state: OccurrenceState, outcome: str) -> bool:
        """What became of one that was due; whether it was so still."""
        ...

    def history(self, name: str, limit: int) -> list[Occurrence]:
        """The last ones, the newest first."""
        ...

    def pending(self) -> bool:
        """Whether there is anything to note or to fire."""
        ...

    def forget(self, seconds: float, limit: int) -> int:
        """Remove up to so many occurrences that ended longer ago than that; how many."""
        ...


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


class EventSink(Protocol):
    """Any callable that takes one frozen event. It may fail; delivery may not."""

    def __call__(self, event: Any, /) -> None: ...
