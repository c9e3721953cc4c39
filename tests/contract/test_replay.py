"""What a replay makes of the leases of a process that has ended, on every ledger."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from dispatcher.delivery import Lane, Lease, State
from dispatcher.dispatcher import SystemClock
from dispatcher.errors import LedgerUnavailable
from dispatcher.events import DeliveryTried, Event, Replayed, ReplayFailed
from dispatcher.interfaces import Ledger
from dispatcher.ledger import LEASE_ENDED
from dispatcher.mail import Message
from dispatcher.memory import MemoryJournal, MemoryJournals
from dispatcher.records import DeliveryRecord
from dispatcher.replay import Replay
from dispatcher.reply import NoReply, Outcome, Phase, Reply, Result
from dispatcher.retry import RetryPolicy
from dispatcher.verdict import UNBEGUN
from tests.ledgers import Kept, accepted, add, message, one, settle, states

OK = Reply(250, "queued as 7", "2.0.0", Phase.FINAL)
GONE = Reply(550, "no such user", "5.1.1", Phase.RCPT)
LATER = Reply(451, "later", "4.7.1", Phase.FINAL)


@dataclass
class Host:
    """A ledger, and journals with one process that dies and one that lives."""

    kept: Kept
    events: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.late = 0.0
        self.journals = MemoryJournals(strict=True, clock=lambda: SystemClock().monotonic() + self.late)
        self.mine, self.theirs = self.journals.open(""), self.journals.open("")
        self.replay = Replay(
            self.ledger, self.journals, self.mine, RetryPolicy((60.0,), 0.0), SystemClock(), self.events.append
        )

    @property
    def ledger(self) -> Ledger:
        return self.kept.ledger

    def lease(self, journal: MemoryJournal, limit: int = 100) -> Lease:
        journal.leasing(60.0)
        found = self.ledger.lease(Lane.TRANSACTIONAL, limit=limit, seconds=60.0, owner=journal.owner)
        journal.leased(found)
        return found

    def age(self, seconds: float) -> None:
        self.kept.age(seconds)
        self.late += seconds


@pytest.fixture
def host(kept: Kept) -> Host:
    return Host(kept)


def begin(journal: MemoryJournal, lease: Lease, nth: int, refused: Sequence[tuple[int, Result]] = ()) -> None:
    leased = lease.messages[nth]
    pairs = tuple((delivery.id, delivery.rcpt) for delivery in leased.deliveries)
    journal.begin(Message(leased.id, "erp@example.com", pairs, b"Subject: S\r\n\r\nT\r\n"), refused)


def reply(journal: MemoryJournal, lease: Lease, nth: int, *results: Result) -> None:
    leased = lease.messages[nth]
    pairs = zip((delivery.id for delivery in leased.deliveries), results, strict=True)
    journal.reply(Outcome(leased.id, tuple(pairs), "main", 0.2))


def record(host: Host, to: str) -> DeliveryRecord:
    return one(host.ledger, to=to)


def test_answered_is_settled_unbegun_goes_back_and_the_rest_is_in_doubt(host: Host) -> None:
    add(host.ledger, accepted("sent@x.example"), accepted("open@x.example"), accepted("never@x.example"))
    lease = host.lease(host.theirs)
    begin(host.theirs, lease, 0)
    reply(host.theirs, lease, 0, OK)
    begin(host.theirs, lease, 1)
    host.journals.kill(host.theirs)
    assert host.replay.replay() == 3
    sent, unknown, never = (record(host, f"{name}@x.example") for name in ("sent", "open", "never"))
    assert (sent.state, sent.attempts, sent.text, sent.relay) == (State.SENT, 1, "queued as 7", "main")
    assert (unknown.state, unknown.attempts) == (State.QUEUED, 1)
    assert (unknown.history[-1].state, unknown.history[-1].text) == (State.IN_DOUBT, LEASE_ENDED)
    assert (never.state, never.attempts, never.text) == (State.QUEUED, 0, UNBEGUN)
    assert host.ledger.due(Lane.TRANSACTIONAL, 10) == 2  # at once, not when the lease would have ended
    assert Replayed(host.theirs.owner, answered=1, in_doubt=1, back=1) in host.events
    told = {event.to: event.state for event in host.events if isinstance(event, DeliveryTried)}
    assert told == {"sent@x.example": State.SENT, "open@x.example": State.IN_DOUBT}


def test_held_in_doubt_where_the_submission_says_so(host: Host) -> None:
    add(host.ledger, accepted("open@x.example", if_in_doubt="hold"), accepted("never@x.example", if_in_doubt="hold"))
    lease = host.lease(host.theirs)
    begin(host.theirs, lease, 0)
    host.journals.kill(host.theirs)
    host.replay.replay()
    assert record(host, "open@x.example").state is State.IN_DOUBT
    assert record(host, "never@x.example").state is State.QUEUED


def test_each_recipient_has_its_own_end(host: Host) -> None:
    add(host.ledger, accepted(message("a@x.example", "gone@x.example", "c@x.example"), if_in_doubt="hold"))
    lease = host.lease(host.theirs)
    gone = next(d.id for d in lease.messages[0].deliveries if d.rcpt == "gone@x.example")
    begin(host.theirs, lease, 0, ((gone, GONE),))
    host.journals.kill(host.theirs)
    host.replay.replay()
    assert record(host, "gone@x.example").state is State.BOUNCED
    assert states(host.ledger) == {State.BOUNCED: 1, State.IN_DOUBT: 2}


def test_what_the_server_deferred_waits_and_its_silence_is_in_doubt(host: Host) -> None:
    add(host.ledger, accepted("later@x.example"), accepted("silent@x.example", if_in_doubt="hold"))
    lease = host.lease(host.theirs)
    for nth, result in enumerate((LATER, NoReply(Phase.FINAL, "timed out"))):
        begin(host.theirs, lease, nth)
        reply(host.theirs, lease, nth, result)
    host.journals.kill(host.theirs)
    host.replay.replay()
    later = record(host, "later@x.example")
    assert (later.state, later.attempts, later.code) == (State.DEFERRED, 1, 451)
    assert host.ledger.due(Lane.TRANSACTIONAL, 10) == 0
    assert record(host, "silent@x.example").state is State.IN_DOUBT


def test_after_a_reboot_what_is_not_answered_is_in_doubt(host: Host) -> None:
    add(host.ledger, accepted("sent@x.example"), accepted("never@x.example", if_in_doubt="hold"))
    lease = host.lease(host.theirs)
    begin(host.theirs, lease, 0)
    reply(host.theirs, lease, 0, OK)
    host.journals.kill(host.theirs, rebooted=True)
    host.replay.replay()
    assert states(host.ledger) == {State.SENT: 1, State.IN_DOUBT: 1}


def test_a_known_250_counts_although_its_lease_was_ended(host: Host) -> None:
    add(host.ledger, accepted("sent@x.example"), accepted("held@x.example", if_in_doubt="hold"))
    lease = host.lease(host.theirs)
    for nth in (0, 1):
        begin(host.theirs, lease, nth)
        reply(host.theirs, lease, nth, OK)
    host.journals.kill(host.theirs)
    host.age(61.0)
    host.ledger.reclaim()
    assert states(host.ledger) == {State.QUEUED: 1, State.IN_DOUBT: 1}
    assert host.replay.replay() == 2
    assert states(host.ledger) == {State.SENT: 2}


def test_a_process_that_lives_keeps_its_lease(host: Host) -> None:
    add(host.ledger, accepted())
    lease = host.lease(host.theirs)
    begin(host.theirs, lease, 0)
    host.age(3600.0)
    assert host.replay.replay() == 0
    assert host.ledger.reclaim(host.replay.owners(), 0.0) == 0
    assert states(host.ledger) == {State.LEASED: 1}
    assert host.ledger.reclaim((), 0.0) == 1


def test_a_journal_stays_until_no_lease_of_it_can_come_into_being(host: Host) -> None:
    add(host.ledger, accepted("a@x.example"))
    host.theirs.leasing(60.0)
    host.journals.kill(host.theirs)
    assert host.replay.replay() == 0
    # The answer to its last question comes after its death.
    host.ledger.lease(Lane.TRANSACTIONAL, limit=1, seconds=60.0, owner=host.theirs.owner)
    assert host.replay.replay() == 1
    assert states(host.ledger) == {State.QUEUED: 1}
    with host.journals.dead() as found:
        assert [each.owner for each in found] == [host.theirs.owner]
    host.age(61.0)
    host.replay.replay()
    with host.journals.dead() as found:
        assert not list(found)


def test_a_ledger_that_is_away_loses_nothing(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    add(host.ledger, accepted())
    lease = host.lease(host.theirs)
    begin(host.theirs, lease, 0)
    reply(host.theirs, lease, 0, OK)
    host.journals.kill(host.theirs)
    with monkeypatch.context() as away:

        def fail(*_: object) -> int:
            raise LedgerUnavailable("away")

        away.setattr(host.ledger, "settle", fail)
        with pytest.raises(LedgerUnavailable):
            host.replay.replay()
    assert host.replay.replay() == 1
    assert states(host.ledger) == {State.SENT: 1}


def test_a_lease_of_ours_that_we_never_heard_of_goes_back(host: Host) -> None:
    add(host.ledger, accepted("stray@x.example"), accepted("ours@x.example"))
    host.ledger.lease(Lane.TRANSACTIONAL, limit=1, seconds=60.0, owner=host.mine.owner)  # its answer was lost
    host.lease(host.mine)
    assert host.replay.end_strays() == 1
    stray = record(host, "stray@x.example")
    assert stray.state is State.QUEUED
    assert states(host.ledger) == {State.QUEUED: 1, State.LEASED: 1}


def test_what_was_sent_in_a_lease_that_was_abandoned_is_settled(host: Host) -> None:
    add(host.ledger, accepted("sent@x.example"), accepted("never@x.example"))
    lease = host.lease(host.mine)
    begin(host.mine, lease, 0)
    reply(host.mine, lease, 0, OK)
    host.mine.abandon(lease)
    assert host.replay.end_strays() == 2
    assert states(host.ledger) == {State.SENT: 1, State.QUEUED: 1}


def test_four_deaths_make_a_message_invalid_and_two_let_it_go_alone(host: Host) -> None:
    add(host.ledger, accepted("poison@x.example"), accepted("other@x.example"))
    sizes = []
    for _ in range(4):
        journal = host.journals.open("")
        lease = host.lease(journal)
        sizes.append(len(lease.messages))
        host.journals.kill(journal)
        host.replay.replay()
    assert sizes[:3] == [2, 2, 1]
    host.replay.replay()
    while State.QUEUED in states(host.ledger):
        journal = host.journals.open("")
        lease = host.lease(journal)
        poisoned = any(d.rcpt == "poison@x.example" for each in lease.messages for d in each.deliveries)
        if poisoned:
            host.journals.kill(journal)
            host.replay.replay()
        else:
            settle(host.ledger, lease)
    poison, other = record(host, "poison@x.example"), record(host, "other@x.example")
    assert (poison.state, poison.text) == (State.INVALID, "ended its worker four times")
    assert other.state is State.SENT


def test_the_dead_of_a_host_are_its_own_however_late_it_comes_back(host: Host) -> None:
    add(host.ledger, accepted())
    lease = host.lease(host.theirs)
    begin(host.theirs, lease, 0)
    reply(host.theirs, lease, 0, OK)
    host.journals.kill(host.theirs)
    host.age(86000.0)
    assert host.ledger.reclaim(host.replay.owners(), 900.0) == 0
    host.replay.replay()
    assert states(host.ledger) == {State.SENT: 1}


def test_a_fault_of_ours_is_counted_like_a_death_of_it(host: Host) -> None:
    add(host.ledger, accepted("poison@x.example"), accepted("other@x.example"))
    for _ in range(20):
        lease = host.lease(host.mine)
        if not lease.messages:
            break
        if any(d.rcpt == "poison@x.example" for each in lease.messages for d in each.deliveries):
            host.replay.abandon(lease)
            assert host.replay.end_strays() == len(lease.messages)
        else:
            settle(host.ledger, lease)
            host.mine.settled(lease.token, [each.id for each in lease.messages])
    assert states(host.ledger) == {State.INVALID: 1, State.SENT: 1}


def test_deaths_are_counted_in_a_row(host: Host) -> None:
    add(host.ledger, accepted("unlucky@x.example"))
    for _ in range(5):
        journal = host.journals.open("")
        host.lease(journal)
        host.journals.kill(journal)
        host.replay.replay()
        settle(host.ledger, host.lease(host.mine), State.DEFERRED)
    assert states(host.ledger) == {State.DEFERRED: 1}


def test_silence_that_a_reboot_may_have_cut_short_is_in_doubt(host: Host) -> None:
    add(host.ledger, accepted(if_in_doubt="hold"))
    lease = host.lease(host.theirs)
    begin(host.theirs, lease, 0)
    reply(host.theirs, lease, 0, NoReply(Phase.DATA, "closed", closed=True))  # then perhaps over another relay
    host.journals.kill(host.theirs, rebooted=True)
    host.replay.replay()
    assert states(host.ledger) == {State.IN_DOUBT: 1}


def test_a_journal_that_cannot_be_taken_up_does_not_hold_up_the_next(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(host.ledger, accepted("a@x.example"), accepted("b@x.example"))
    host.lease(host.theirs, limit=1)
    host.journals.kill(host.theirs)
    other = host.journals.open("")
    host.lease(other)
    host.journals.kill(other)
    held = host.ledger.held

    def torn(owner: str) -> list[Lease]:
        if owner == host.theirs.owner:
            raise KeyError("torn")
        return held(owner)

    monkeypatch.setattr(host.ledger, "held", torn)
    assert host.replay.replay() == 1
    assert ReplayFailed(host.theirs.owner, "KeyError: 'torn'") in host.events


def test_what_was_told_is_told_again_only_after_the_ledger_was_away(host: Host) -> None:
    add(host.ledger, accepted("sent@x.example"))
    lease = host.lease(host.theirs)
    begin(host.theirs, lease, 0)
    reply(host.theirs, lease, 0, OK)
    host.journals.kill(host.theirs)
    host.replay.replay()
    read: list[str] = []
    entries = host.theirs.entries
    host.theirs.entries = lambda: read.append("read") or entries()  # type: ignore[method-assign, func-returns-value]
    host.replay.replay()
    assert not read
    host.replay.again()
    host.replay.replay()
    host.replay.replay()
    assert read == ["read"]
