"""Whether the sums are right: what was accepted against the rows, and the rows against what a sink has recorded.

It may look on while mail is sent. What the record has before the ledger is read, the ledger must explain; what the
ledger says is sent must be in the record after. So neither needs to stand still, nor do their clocks count.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from dispatcher import ids
from dispatcher.delivery import LIVE, State
from dispatcher.interfaces import Ledger
from dispatcher.records import Account

LISTED = 100


class Taken(Protocol):
    """A mail that a sink has taken: ``time`` in seconds since the epoch, ``message_id`` as it stands in its header."""

    @property
    def time(self) -> float: ...
    @property
    def message_id(self) -> str: ...
    @property
    def rcpt_to(self) -> Collection[str]: ...


@dataclass(frozen=True, slots=True)
class Contradiction:
    """What has no explanation: the id of a delivery or submission, or a Message-ID; whom it was for; and why."""

    id: str
    to: str
    why: str


@dataclass(slots=True)
class Contradictions:
    """Those of one kind: how many, and the first hundred."""

    count: int = 0
    listed: list[Contradiction] = field(default_factory=list)

    def add(self, id: str, to: str, why: str) -> None:  # noqa: A002 - the column's name
        """Count one more."""
        self.count += 1
        if len(self.listed) < LISTED:
            self.listed.append(Contradiction(id, to, why))


@dataclass(slots=True)
class Proof:
    """What was found. ``sink``: mails in the record, ``sink_recipients`` as many as they were for (None: no record).

    ``checked`` deliveries were looked at, and ``sent`` of them were; ``by_hand`` of those by the word of a person, who
    is believed. ``doubled``: copies beyond the first. ``retired``: mails in the record whose rows may be over their
    retention; ``foreign``: those that are not the dispatcher's.
    """

    accepted: int
    states: dict[State, int]
    sink: int | None = None
    sink_recipients: int = 0
    checked: int = 0
    sent: int = 0
    by_hand: int = 0
    doubled: int = 0
    in_doubt_events: int = 0
    held: int = 0
    host_lost: int = 0
    leased: int = 0
    retired: int = 0
    foreign: int = 0
    unbalanced: Contradictions = field(default_factory=Contradictions)
    missing: Contradictions = field(default_factory=Contradictions)
    unexplained: Contradictions = field(default_factory=Contradictions)
    strange: Contradictions = field(default_factory=Contradictions)
    overdue: Contradictions = field(default_factory=Contradictions)

    @property
    def rows(self) -> int:
        return sum(self.states.values())

    @property
    def live(self) -> int:
        """Deliveries that were not settled."""
        return sum(count for state, count in self.states.items() if state in LIVE)

    @property
    def contradictions(self) -> dict[str, Contradictions]:
        """By kind."""
        names = ("unbalanced", "missing", "unexplained", "strange", "overdue")
        return {name: getattr(self, name) for name in names}

    @property
    def ok(self) -> bool:
        """Whether the proof holds."""
        return self.accepted == self.rows and not any(found.count for found in self.contradictions.values())

    def document(self) -> dict[str, Any]:
        """As JSON values; of each kind of contradiction the first hundred ids, and how many there are."""
        counted = ("sent", "by_hand", "in_doubt_events", "held", "host_lost", "retired", "foreign")
        found: dict[str, Any] = {"ok": self.ok, "accepted": self.accepted, "rows": self.rows}
        found |= {"states": {state.value: count for state, count in self.states.items()}, "live": self.live}
        found |= {"sink": self.sink, "sink_recipients": self.sink_recipients}
        found["doubled"] = None if self.sink is None else self.doubled
        found |= {name: getattr(self, name) for name in counted}
        for name, against in self.contradictions.items():
            found |= {name: [each.id for each in against.listed], f"{name}_count": against.count}
        return found


class Accountant:
    """Goes through a ledger once. ``host_grace``: seconds that a lease may be past its term; ``kept_since``: of what a
    sink has taken before that (seconds since the epoch), the ledger may have retired the rows."""

    def __init__(self, ledger: Ledger, *, host_grace: float, kept_since: float) -> None:
        self._ledger, self._host_grace, self._kept_since = ledger, host_grace, kept_since
        self._copies: dict[int, int] = {}  # in the record, of each message for each recipient
        self._absent: dict[int, Account] = {}  # sent, and not in the record when that was read first

    def prove(self, record: Iterable[Taken] | None = None) -> Proof:
        """``record`` is read twice, the second time as far as it has come then. Raises LedgerUnavailable."""
        self._copies, self._absent = {}, {}
        taken = (0, 0, 0) if record is None else self._count(record)
        proof = self._balance()
        if record is not None:
            proof.sink, proof.sink_recipients, proof.foreign = taken
        for account in self._ledger.accounts():
            self._weigh(proof, account, compared=record is not None)
        if record is not None and (self._copies or self._absent):
            self._look_again(proof, record)
        for account in self._absent.values():
            proof.missing.add(account.id, account.rcpt, "sent, and not in the sink")
        return proof

    def _count(self, record: Iterable[Taken]) -> tuple[int, int, int]:
        """Note how often each message was taken for each recipient: how many mails, recipients, and mails that are
        not the dispatcher's."""
        mails = recipients = foreign = 0
        for taken in record:
            mails += 1
            recipients += len(taken.rcpt_to)
            message = _message(taken.message_id)
            foreign += message is None
            for rcpt in taken.rcpt_to if message else ():
                key = _key(message, rcpt)
                self._copies[key] = self._copies.get(key, 0) + 1
        return mails, recipients, foreign

    def _balance(self) -> Proof:
        totals, states = self._ledger.totals(), dict.fromkeys(State, 0)
        for (_, state), count in totals.states.items():
            states[state] += count
        proof = Proof(totals.accepted, {state: count for state, count in states.items() if count})
        for submission, accepted, rows in self._ledger.unbalanced():
            proof.unbalanced.add(submission, "", f"{accepted:,} accepted, {rows:,} rows")
        return proof

    def _weigh(self, proof: Proof, account: Account, *, compared: bool) -> None:
        proof.checked += 1
        proof.sent += account.state is State.SENT
        proof.by_hand += account.by_hand
        proof.in_doubt_events += account.doubts
        proof.held += account.state is State.IN_DOUBT
        proof.host_lost += account.host_lost
        proof.leased += account.state is State.LEASED
        if account.overdue > self._host_grace:
            proof.overdue.add(account.id, account.rcpt, f"leased, {account.overdue:,.0f} s past its term")
        if compared:
            self._compare(proof, account)

    def _compare(self, proof: Proof, account: Account) -> None:
        key = _key(account.message, account.rcpt)
        copies = self._copies.pop(key, 0)
        proof.doubled += max(0, copies - 1)
        known = account.state is State.SENT and not account.by_hand
        allowed = account.doubts + (known or account.state is State.LEASED)
        if copies > allowed == 0:
            proof.strange.add(account.id, account.rcpt, f"{account.state}, and{_times(copies)} in the sink")
        elif copies > allowed:
            doubts = f"{_times(account.doubts) or ' once'} in doubt, " if account.doubts else " "
            why = f"{account.state},{doubts}and{_times(copies)} in the sink"
            proof.unexplained.add(account.id, account.rcpt, why)
        elif known and not copies:
            self._absent[key] = account

    def _look_again(self, proof: Proof, record: Iterable[Taken]) -> None:
        """What is sent may have come into the record since; and what no row was found for is given its name."""
        for taken in record:
            message = _message(taken.message_id)
            for rcpt in taken.rcpt_to if message else ():
                key = _key(message, rcpt)
                self._absent.pop(key, None)
                if not self._copies.pop(key, 0):
                    continue
                if taken.time < self._kept_since:
                    proof.retired += 1
                else:
                    proof.strange.add(taken.message_id, rcpt, "in the sink, and no row is of it")


def _message(message_id: str) -> str | None:
    """The public id of the message; None when it is not the dispatcher's."""
    found = ids.parse(message_id)
    if found is None or found.n is None or found.k is not None:
        return None
    return message_id.strip("<> ").partition("@")[0]


def _key(message: str | None, rcpt: str) -> int:
    """64 bits for both, so that millions fit into memory. Servers quote a local part or not, as they like."""
    return hash((message, rcpt.replace('"', "")))


def _times(copies: int) -> str:
    return "" if copies == 1 else f" {copies} times"
