"""The accountant: what it takes for a contradiction, what has an explanation, and what it makes of a moving picture."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from dispatcher.accountant import LISTED, Accountant, Proof
from dispatcher.delivery import Lease, Selector, State
from dispatcher.memory import MemoryLedger
from dispatcher.reply import Phase
from tests.ledgers import ANNA, InMemory, accepted, add, lease, message, settle, settlement

NOW = 2_000_000_000.0
SILENCE = {"phase": Phase.FINAL, "in_doubt": True}
SAID = {"phase": Phase.FINAL, "code": 250}


@dataclass
class Mail:
    message_id: str
    rcpt_to: Sequence[str]
    time: float = NOW


@dataclass
class Sink:
    """A record that may grow between two readings."""

    mails: list[Mail] = field(default_factory=list)
    later: list[Mail] = field(default_factory=list)
    readings: int = 0

    def take(self, lease: Lease, nth: int = 0, *rcpts: str, times: int = 1, time: float = NOW) -> None:
        """One of the leased messages, to all or some of its recipients."""
        found = lease.messages[nth]
        to = rcpts or tuple(delivery.rcpt for delivery in found.deliveries)
        self.mails += [Mail(f"<{found.public_id}@example.com>", to, time)] * times

    def __iter__(self) -> Iterator[Mail]:
        yield from tuple(self.mails)
        if self.readings:
            yield from self.later
        self.readings += 1


@pytest.fixture
def kept(memory_ledger: InMemory) -> InMemory:
    return memory_ledger


@pytest.fixture
def ledger(kept: InMemory) -> MemoryLedger:
    return kept.ledger


@pytest.fixture
def sink() -> Sink:
    return Sink()


def prove(ledger: MemoryLedger, sink: Sink | None = None, host_grace: float = 900) -> Proof:
    return Accountant(ledger, host_grace=host_grace, kept_since=NOW - 1000).prove(sink)


def against(proof: Proof) -> dict[str, list[str]]:
    return {name: [each.id for each in found.listed] for name, found in proof.contradictions.items() if found.count}


def sent(ledger: MemoryLedger, *rcpts: str) -> Lease:
    """A message of its own for each."""
    add(ledger, accepted(*rcpts))
    leased = lease(ledger)
    settle(ledger, leased, **SAID)
    return leased


def ids(ledger: MemoryLedger, **selected: Any) -> list[str]:
    return [record.id for record in ledger.find(Selector(**selected))]


# -- it holds


def test_of_nothing_it_holds(ledger: MemoryLedger, sink: Sink) -> None:
    for proof in (prove(ledger), prove(ledger, sink)):
        assert proof.ok
        assert (proof.accepted, proof.rows, proof.checked) == (0, 0, 0)


def test_it_holds_when_each_came_once(ledger: MemoryLedger, sink: Sink) -> None:
    add(ledger, accepted(message("a@example.com", "b@example.com"), message("c@example.com")))
    leased = lease(ledger)
    settle(ledger, leased, **SAID)
    sink.take(leased, 0)
    sink.take(leased, 1)
    proof = prove(ledger, sink)
    assert proof.ok
    assert (proof.accepted, proof.rows, proof.sent, proof.checked) == (3, 3, 3, 3)
    assert (proof.sink, proof.sink_recipients, proof.doubled) == (2, 3, 0)
    assert sink.readings == 1  # nothing was left to be asked


def test_one_message_may_come_in_several_transactions(ledger: MemoryLedger, sink: Sink) -> None:
    add(ledger, accepted(message("a@example.com", "b@example.com")))
    leased = lease(ledger)
    settle(ledger, leased, **SAID)
    sink.take(leased, 0, "a@example.com")
    sink.take(leased, 0, "b@example.com")
    assert prove(ledger, sink).ok


def test_a_server_may_quote_a_local_part_or_not(ledger: MemoryLedger, sink: Sink) -> None:
    leased = sent(ledger, '"a..b"@example.com')
    sink.take(leased, 0, "a..b@example.com")
    assert prove(ledger, sink).ok


@pytest.mark.parametrize("copies", [1, 2])
def test_a_copy_for_each_doubt_and_one_for_the_known_reply(ledger: MemoryLedger, sink: Sink, copies: int) -> None:
    add(ledger, accepted())
    leased = lease(ledger)
    settle(ledger, leased, State.QUEUED, **SILENCE)
    settle(ledger, lease(ledger), **SAID)
    sink.take(leased, times=copies)
    proof = prove(ledger, sink)
    assert proof.ok
    assert (proof.doubled, proof.in_doubt_events) == (copies - 1, 1)


@pytest.mark.parametrize("state", [State.QUEUED, State.IN_DOUBT, State.EXPIRED])
@pytest.mark.parametrize("copies", [0, 1])
def test_what_was_in_doubt_may_have_come_whatever_it_is_now(
    ledger: MemoryLedger, sink: Sink, state: State, copies: int
) -> None:
    add(ledger, accepted())
    leased = lease(ledger)
    settle(ledger, leased, state, **SILENCE)
    sink.take(leased, times=copies)
    proof = prove(ledger, sink)
    assert proof.ok
    assert proof.held == (state is State.IN_DOUBT)


def test_what_a_person_said_is_sent_need_not_have_come(ledger: MemoryLedger, sink: Sink) -> None:
    add(ledger, accepted())
    leased = lease(ledger)
    settle(ledger, leased, State.IN_DOUBT, **SILENCE)
    ledger.change(Selector(), State.SENT, ANNA)
    proof = prove(ledger, sink)
    assert proof.ok
    assert (proof.sent, proof.by_hand) == (1, 1)
    sink.take(leased)
    assert prove(ledger, sink).ok
    sink.take(leased)
    assert against(prove(ledger, sink)) == {"unexplained": ids(ledger)}


def test_without_a_record_the_sums_and_leases_alone_are_proved(ledger: MemoryLedger) -> None:
    sent(ledger, "a@example.com")
    proof = prove(ledger)
    assert proof.ok
    assert (proof.sink, proof.document()["sink"], proof.document()["doubled"]) == (None, None, None)


# -- it does not


def test_what_is_sent_and_did_not_come_is_missing(ledger: MemoryLedger, sink: Sink) -> None:
    add(ledger, accepted(message("a@example.com", "b@example.com"), message("c@example.com")))
    leased = lease(ledger)
    settle(ledger, leased, **SAID)
    sink.take(leased, 0, "a@example.com")
    proof = prove(ledger, sink)
    assert not proof.ok
    assert set(against(proof)["missing"]) == {*ids(ledger, to="b@example.com"), *ids(ledger, to="c@example.com")}


def test_what_came_twice_without_a_doubt_is_unexplained(ledger: MemoryLedger, sink: Sink) -> None:
    leased = sent(ledger, "a@example.com", "b@example.com")
    sink.take(leased, 0)
    sink.take(leased, 1, times=3)
    proof = prove(ledger, sink)
    assert against(proof) == {"unexplained": ids(ledger, to="b@example.com")}
    assert proof.doubled == 2


def test_each_doubt_explains_one_copy_only(ledger: MemoryLedger, sink: Sink) -> None:
    add(ledger, accepted())
    leased = lease(ledger)
    settle(ledger, leased, State.QUEUED, **SILENCE)
    sink.take(leased, times=2)
    assert against(prove(ledger, sink)) == {"unexplained": ids(ledger)}
    settle(ledger, lease(ledger), **SAID)
    assert prove(ledger, sink).ok
    sink.take(leased)
    assert against(prove(ledger, sink)) == {"unexplained": ids(ledger)}


@pytest.mark.parametrize(
    ("state", "known"),
    [
        (State.QUEUED, {"phase": Phase.CONNECT, "attempted": False}),
        (State.DEFERRED, {"phase": Phase.FINAL, "code": 451}),
        (State.DEFERRED, {"phase": Phase.DATA}),
        (State.BOUNCED, {"phase": Phase.RCPT, "code": 550}),
        (State.INVALID, {"attempted": False}),
    ],
)
def test_what_was_not_sent_must_not_have_come(
    ledger: MemoryLedger, sink: Sink, state: State, known: dict[str, Any]
) -> None:
    add(ledger, accepted("a@example.com"))
    leased = lease(ledger)
    settle(ledger, leased, state, **known)
    assert prove(ledger, sink).ok
    sink.take(leased)
    assert against(prove(ledger, sink)) == {"strange": ids(ledger)}


def test_only_the_recipient_that_was_refused_must_not_have_it(ledger: MemoryLedger, sink: Sink) -> None:
    add(ledger, accepted(message("a@example.com", "b@example.com")))
    leased = lease(ledger)
    refused = settlement(leased, State.BOUNCED, 1, phase=Phase.RCPT, code=550)
    ledger.settle(leased.token, [settlement(leased, State.SENT, 0, **SAID), refused])
    sink.take(leased, 0, "a@example.com")
    assert prove(ledger, sink).ok
    sink.take(leased, 0, "b@example.com")
    assert against(prove(ledger, sink)) == {"strange": ids(ledger, to="b@example.com")}


def test_a_mail_without_a_row_is_strange(ledger: MemoryLedger, sink: Sink) -> None:
    leased = sent(ledger, "a@example.com")
    sink.take(leased, 0, "a@example.com", "z@example.com")
    lost = "<aaaaaaaaaaaaaaaa-1-bbbbbb@example.com>"
    sink.mails.append(Mail(lost, ("a@example.com",)))
    assert set(against(prove(ledger, sink))["strange"]) == {lost, sink.mails[0].message_id}


def test_what_retention_may_have_taken_is_only_counted(ledger: MemoryLedger, sink: Sink) -> None:
    mail = "<aaaaaaaaaaaaaaaa-1-bbbbbb@example.com>"
    sink.mails += [Mail(mail, ("a@example.com",), NOW - 1001)]
    proof = prove(ledger, sink)
    assert proof.ok
    assert proof.retired == 1
    sink.mails += [Mail(mail.replace("-1-", "-2-"), ("a@example.com",), NOW - 999)]
    assert not prove(ledger, sink).ok


@pytest.mark.parametrize("message_id", ["", "<x@example.com>", "<aaaaaaaaaaaaaaaa@example.com>", "<a-1-b@example.com>"])
def test_mail_of_others_is_only_counted(ledger: MemoryLedger, sink: Sink, message_id: str) -> None:
    sink.mails.append(Mail(message_id, ("a@example.com",)))
    proof = prove(ledger, sink)
    assert proof.ok
    assert (proof.foreign, proof.sink) == (1, 1)


def test_a_row_that_is_gone_is_told_with_its_submission(ledger: MemoryLedger) -> None:
    receipt = add(ledger, accepted("a@example.com", "b@example.com"))
    add(ledger, accepted("c@example.com"))
    gone = ledger._store.submissions[receipt.id].messages[0]
    del ledger._store.deliveries[gone.deliveries[0].id]
    gone.deliveries.clear()
    proof = prove(ledger)
    assert not proof.ok
    assert (proof.accepted, proof.rows) == (3, 2)
    assert [(each.id, each.why) for each in proof.unbalanced.listed] == [(receipt.id, "2 accepted, 1 rows")]


def test_sums_that_are_wrong_in_total_are_enough(ledger: MemoryLedger) -> None:
    add(ledger, accepted("a@example.com"))
    ledger._store.deliveries.clear()  # the total is counted from these, a submission's rows are not
    assert not prove(ledger).ok


def test_a_lease_may_outlive_its_term_by_the_grace_only(kept: InMemory, sink: Sink) -> None:
    add(kept.ledger, accepted())
    lease(kept.ledger, seconds=60)
    for seconds, overdue in ((60, 0), (99, 0), (2, 1)):
        kept.age(seconds)
        assert prove(kept.ledger, sink, host_grace=100).overdue.count == overdue
    assert against(prove(kept.ledger, host_grace=100)) == {"overdue": ids(kept.ledger)}


def test_all_are_counted_and_the_first_hundred_named(ledger: MemoryLedger, sink: Sink) -> None:
    add(ledger, accepted(*(f"a{n}@example.com" for n in range(LISTED + 20))))
    settle(ledger, lease(ledger, limit=1000), **SAID)
    found = prove(ledger, sink).document()
    assert len(found["missing"]) == LISTED
    assert found["missing_count"] == LISTED + 20


# -- while mail is sent


@pytest.mark.parametrize(("copies", "kind"), [(0, None), (1, None), (2, "unexplained")])
def test_what_is_leased_may_have_come_once(ledger: MemoryLedger, sink: Sink, copies: int, kind: str | None) -> None:
    add(ledger, accepted())
    sink.take(lease(ledger), times=copies)
    proof = prove(ledger, sink)
    assert against(proof) == ({kind: ids(ledger)} if kind else {})
    assert (proof.live, proof.leased) == (1, 1)


def test_what_came_after_the_record_was_read_is_looked_for_again(ledger: MemoryLedger, sink: Sink) -> None:
    leased = sent(ledger, "a@example.com", "b@example.com")
    sink.take(leased, 0)
    sink.later.append(Mail(f"<{leased.messages[1].public_id}@example.com>", ("b@example.com",)))
    assert prove(ledger, sink).ok
    assert sink.readings == 2


def test_what_came_after_it_does_not_contradict_a_row_that_was_read_before(ledger: MemoryLedger, sink: Sink) -> None:
    add(ledger, accepted("a@example.com", "b@example.com"))
    leased = lease(ledger)
    ledger.settle(leased.token, [settlement(leased, State.SENT, 0, **SAID), settlement(leased, State.QUEUED, 1)])
    sink.later += [Mail(f"<{each.public_id}@example.com>", (each.deliveries[0].rcpt,)) for each in leased.messages]
    sink.later.append(Mail("<aaaaaaaaaaaaaaaa-1-bbbbbb@example.com>", ("new@example.com",)))
    assert prove(ledger, sink).ok


def test_one_accountant_proves_again_from_the_beginning(ledger: MemoryLedger, sink: Sink) -> None:
    leased = sent(ledger, "a@example.com")
    accountant = Accountant(ledger, host_grace=900, kept_since=NOW - 1000)
    assert not accountant.prove(sink).ok
    sink.take(leased)
    assert accountant.prove(sink).ok
    assert accountant.prove(sink).doubled == 0
