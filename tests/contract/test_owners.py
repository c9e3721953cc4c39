"""Whose a lease is, and what becomes of it when its owner is gone: what every ledger promises a replay."""

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from sqlalchemy import text

from dispatcher.delivery import Lease, Selector, Settlement, State
from dispatcher.ledger import HOST_LOST, KILLED_ITS_WORKER, LEASE_ENDED
from dispatcher.records import DeliveryRecord
from tests.ledgers import (
    ANNA,
    Balance,
    InSql,
    Kept,
    accepted,
    add,
    lease,
    message,
    one,
    settle,
    settlement,
    states,
)
from tests.sizes import sized

ROUNDS = sized(3, 50)
GIVEN_BACK: dict[str, Any] = {"attempted": False, "crashed": True}
RESENT: dict[str, Any] = {"attempted": True, "crashed": True, "in_doubt": True, "relay": "main", "phase": "final"}


def told(found: DeliveryRecord) -> list[tuple[State, bool, str]]:
    return [(event.state, event.attempted, event.text) for event in found.history]


# -- what an owner holds


def test_an_owner_holds_what_it_has_leased_and_not_settled_by_token(kept: Kept) -> None:
    mails = [message(f"{n}a@example.com", f"{n}b@example.com", secrets={"url": n}) for n in range(4)]
    add(kept.ledger, accepted(*mails, template="d" * 64, relay="main"))
    first = lease(kept.ledger, owner="one", limit=2)
    other = lease(kept.ledger, owner="two", limit=1)
    second = lease(kept.ledger, owner="one")
    held = {each.token: each for each in kept.ledger.held("one")}
    assert {token: each.messages for token, each in held.items()} == {
        first.token: first.messages,
        second.token: second.messages,
    }
    assert [held[each.token].until for each in (first, second)] == pytest.approx([first.until, second.until])
    assert held[first.token].taken == pytest.approx(second.taken, abs=30)  # when it was answered, by the ledger's clock
    assert [each.messages for each in kept.ledger.held("two")] == [other.messages]
    assert kept.ledger.held("nobody") == []


def test_what_is_settled_is_held_no_more(kept: Kept) -> None:
    add(kept.ledger, accepted(message("a@example.com", "b@example.com"), "c@example.com"))
    leased = lease(kept.ledger, owner="one")
    kept.ledger.settle(leased.token, [settlement(leased), settlement(leased, State.IN_DOUBT, 2)])
    (left,) = kept.ledger.held("one")
    assert [(each.id, [to.rcpt for to in each.deliveries]) for each in left.messages] == [
        (leased.messages[0].id, ["b@example.com"])
    ]
    settle(kept.ledger, left, State.DEFERRED)
    assert kept.ledger.held("one") == []
    lease(kept.ledger, owner="two")
    assert kept.ledger.held("one") == []
    assert len(kept.ledger.held("two")) == 1


def test_what_was_reclaimed_is_nobodys(kept: Kept) -> None:
    add(kept.ledger, accepted("a@example.com"), accepted("b@example.com", if_in_doubt="hold"))
    lease(kept.ledger, owner="one", seconds=30)
    kept.age(31)
    assert kept.ledger.reclaim() == 2
    assert kept.ledger.held("one") == []


# -- the end of leases


def test_a_lease_is_ended_when_its_term_and_the_grace_are_over(kept: Kept) -> None:
    receipt = add(kept.ledger, accepted())
    lease(kept.ledger, seconds=30)
    kept.age(60)
    assert kept.ledger.reclaim(grace=60) == 0
    kept.age(31)
    assert kept.ledger.reclaim(grace=60) == 1
    assert told(one(kept.ledger, receipt.id)) == [(State.IN_DOUBT, False, HOST_LOST)]


def test_a_living_owner_keeps_its_leases_however_old(kept: Kept) -> None:
    add(kept.ledger, accepted(*(f"{n}@example.com" for n in range(5))))
    alive = [lease(kept.ledger, owner=f"folder/{n}", limit=1, seconds=1) for n in range(3)]
    lease(kept.ledger, owner="folder/9", limit=1, seconds=1)
    lease(kept.ledger, owner="", limit=1, seconds=1)
    kept.age(3600)
    assert kept.ledger.reclaim(["folder/2", "folder/0", "folder/1"], 10) == 2
    assert [len(kept.ledger.held(f"folder/{n}")) for n in (0, 1, 2, 9)] == [1, 1, 1, 0]
    assert [settle(kept.ledger, each) for each in alive] == [1, 1, 1]
    assert states(kept.ledger) == {State.SENT: 3, State.QUEUED: 2}


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgres", marks=pytest.mark.server)])
def test_a_lease_of_no_owner_is_nobodys_who_lives(kind: str, request: pytest.FixtureRequest) -> None:
    kept: InSql = request.getfixturevalue(f"{kind}_ledger")
    add(kept.ledger, accepted())
    lease(kept.ledger, seconds=1)
    with kept.engine.connect().execution_options(writing=True) as connection, connection.begin():
        connection.execute(text("UPDATE deliveries SET owner = NULL"))
    kept.age(2)
    assert kept.ledger.reclaim(["one"]) == 1


# -- a process that ended


def test_what_was_not_begun_goes_back_at_once_and_spends_no_attempt(kept: Kept) -> None:
    receipt = add(kept.ledger, accepted(message("a@example.com", "b@example.com")))
    dead = lease(kept.ledger)
    assert settle(kept.ledger, dead, State.QUEUED, **GIVEN_BACK) == 2
    for recipient in receipt.recipients:
        found = one(kept.ledger, recipient.id)
        assert (found.state, found.attempts, told(found)) == (State.QUEUED, 0, [(State.QUEUED, False, LEASE_ENDED)])
    assert settle(kept.ledger, dead) == 0  # it is known that nothing was sent
    assert [each.id for each in lease(kept.ledger).messages] == list(receipt.message_ids)


def test_a_process_that_ended_is_remembered_beside_what_was_given_back(kept: Kept) -> None:
    receipt = add(kept.ledger, accepted())
    for turn in (
        {"attempted": False, "text": "busy"},
        {"attempted": False, "text": "busy still"},
        GIVEN_BACK,
        {**GIVEN_BACK, "text": f"{LEASE_ENDED} before it was begun"},
        {"attempted": False, "text": "busy"},
        {"attempted": False, "text": "busy still"},
        {"attempted": False, "in_doubt": True, "text": "unknown"},
        {"attempted": False, "text": "busy"},
    ):
        assert settle(kept.ledger, lease(kept.ledger), State.QUEUED, **turn) == 1
    assert told(one(kept.ledger, receipt.id)) == [
        (State.QUEUED, False, "busy still"),
        (State.QUEUED, False, LEASE_ENDED),
        (State.QUEUED, False, f"{LEASE_ENDED} before it was begun"),
        (State.QUEUED, False, "busy still"),
        (State.IN_DOUBT, False, "unknown"),
        (State.QUEUED, False, "busy"),
    ]


def test_a_mail_that_is_sent_again_since_nobody_knows_says_so_and_can_go_at_once(kept: Kept) -> None:
    receipt = add(kept.ledger, accepted())
    assert settle(kept.ledger, lease(kept.ledger), State.QUEUED, **RESENT) == 1
    found = one(kept.ledger, receipt.id)
    assert (found.state, found.attempts, told(found)) == (State.QUEUED, 1, [(State.IN_DOUBT, True, LEASE_ENDED)])
    assert (found.history[0].relay, found.history[0].phase) == ("main", "final")
    again = lease(kept.ledger)
    assert again.messages[0].deliveries[0].attempts == 1
    settle(kept.ledger, again, text="Ok")
    found = one(kept.ledger, receipt.id)
    assert (found.state, found.attempts) == (State.SENT, 2)
    assert told(found) == [(State.IN_DOUBT, True, LEASE_ENDED), (State.SENT, True, "Ok")]


@pytest.mark.parametrize("learned", [State.SENT, State.BOUNCED])
@pytest.mark.parametrize("policy", [State.QUEUED, State.IN_DOUBT])
def test_a_reply_that_is_learned_late_counts_as_long_as_nobody_has_leased_it_again(
    kept: Kept, policy: State, learned: State
) -> None:
    receipt = add(kept.ledger, accepted())
    dead = lease(kept.ledger)
    assert settle(kept.ledger, dead, policy, **RESENT) == 1
    assert settle(kept.ledger, dead, policy, **RESENT) == 0  # a second replay learns nothing
    assert settle(kept.ledger, dead, learned, text="late") == 1
    found = one(kept.ledger, receipt.id)
    assert (found.state, found.attempts) == (learned, 1)  # it was one and the same attempt
    assert told(found) == [(State.IN_DOUBT, True, LEASE_ENDED), (learned, True, "late")]
    assert lease(kept.ledger).messages == ()


def test_a_late_reply_does_not_count_once_it_was_leased_again(kept: Kept) -> None:
    add(kept.ledger, accepted())
    dead = lease(kept.ledger)
    settle(kept.ledger, dead, State.QUEUED, **RESENT)
    again = lease(kept.ledger)
    assert settle(kept.ledger, dead) == 0
    assert settle(kept.ledger, again, State.DEFERRED) == 1


def test_what_waits_for_its_time_before_it_goes_again_takes_a_late_reply_too(kept: Kept) -> None:
    receipt = add(kept.ledger, accepted())
    dead = lease(kept.ledger)
    settle(kept.ledger, dead, State.QUEUED, due_in=60.0, **RESENT)
    assert lease(kept.ledger).messages == ()
    assert settle(kept.ledger, dead) == 1
    assert one(kept.ledger, receipt.id).state is State.SENT


# -- mails that end their workers


def crash(kept: Kept, batch: Lease, how: str, state: State = State.QUEUED) -> None:
    """The process ends that has this lease."""
    if how == "lost":
        kept.age(61)
        kept.ledger.reclaim()
    else:
        settle(kept.ledger, batch, state, **(RESENT if how == "begun" else GIVEN_BACK))


@pytest.mark.parametrize("how", ["unbegun", "begun", "lost"])
def test_a_mail_that_ends_its_workers_is_leased_alone_and_in_the_end_invalid(kept: Kept, how: str) -> None:
    poison = add(kept.ledger, accepted("poison@example.com"))
    add(kept.ledger, accepted(*(f"{n}@example.com" for n in range(3))))
    batches = []
    while (batch := lease(kept.ledger)).messages:
        batches.append(len(batch.messages))
        if len(batches) <= 2 or batch.messages[0].submission == poison.id:
            crash(kept, batch, how)
        else:
            settle(kept.ledger, batch)
    assert batches == [4, 4, 1, 1, 1, 1, 1]
    found = one(kept.ledger, poison.id)
    assert (found.state, found.text) == (State.INVALID, KILLED_ITS_WORKER)
    gone = LEASE_ENDED if how != "lost" else HOST_LOST
    assert [event.text for event in found.history] == [gone, gone, gone, KILLED_ITS_WORKER]
    # What may have been sent says so to the end, whatever it counts as.
    expected = [State.QUEUED] * 3 + [State.INVALID] if how == "unbegun" else [State.IN_DOUBT] * 4
    assert [event.state for event in found.history] == expected
    assert states(kept.ledger) == {State.INVALID: 1, State.SENT: 3}


@pytest.mark.parametrize("last", ["unbegun", "begun", "lost"])
@pytest.mark.parametrize("first", ["unbegun", "begun", "lost"])
def test_all_ends_of_a_worker_count_alike(kept: Kept, first: str, last: str) -> None:
    receipt = add(kept.ledger, accepted())
    for how in (first, first, first):
        crash(kept, lease(kept.ledger), how)
        assert one(kept.ledger, receipt.id).state is State.QUEUED
    crash(kept, lease(kept.ledger), last)
    assert one(kept.ledger, receipt.id).state is State.INVALID


def test_what_is_to_be_held_in_doubt_is_never_invalid(kept: Kept) -> None:
    receipt = add(kept.ledger, accepted(if_in_doubt="hold"))
    for _ in range(3):
        settle(kept.ledger, lease(kept.ledger), State.QUEUED, **GIVEN_BACK)
    dead = lease(kept.ledger)
    settle(kept.ledger, dead, State.IN_DOUBT, **RESENT)
    assert one(kept.ledger, receipt.id).state is State.IN_DOUBT
    assert settle(kept.ledger, dead) == 1


def test_an_end_of_a_worker_that_was_counted_when_its_lease_ended_is_not_counted_again(kept: Kept) -> None:
    receipt = add(kept.ledger, accepted(if_in_doubt="hold"))
    for _ in range(2):
        dead = lease(kept.ledger, seconds=30)
        kept.age(31)
        kept.ledger.reclaim()
        assert settle(kept.ledger, dead, State.QUEUED, **GIVEN_BACK) == 1  # its host came back, and knows
    settle(kept.ledger, lease(kept.ledger), State.QUEUED, **GIVEN_BACK)
    assert one(kept.ledger, receipt.id).state is State.QUEUED


def test_a_retry_by_hand_forgets_how_often_it_ended_its_worker(kept: Kept) -> None:
    receipt = add(kept.ledger, accepted())
    for _ in range(4):
        settle(kept.ledger, lease(kept.ledger), State.QUEUED, **GIVEN_BACK)
    assert kept.ledger.change(Selector(ids=(receipt.id,)), State.QUEUED, ANNA) == 1
    settle(kept.ledger, lease(kept.ledger), State.QUEUED, **GIVEN_BACK)
    assert one(kept.ledger, receipt.id).state is State.QUEUED


def test_secrets_of_what_ended_its_workers_are_wiped(kept: Kept) -> None:
    receipt = add(kept.ledger, accepted(message("a@example.com", secrets={"url": "s"})))
    for _ in range(4):
        assert kept.ledger.message(receipt.recipients[0].id).messages[0].own["data"] == {"url": "s"}
        settle(kept.ledger, lease(kept.ledger), State.QUEUED, **GIVEN_BACK)
    assert "data" not in kept.ledger.message(receipt.recipients[0].id).messages[0].own


# -- in doubt, and a later word


@pytest.mark.parametrize("state", [State.SENT, State.BOUNCED, State.QUEUED, State.CANCELLED])
def test_one_who_knows_better_settles_what_is_in_doubt_and_nothing_else(kept: Kept, state: State) -> None:
    receipt = add(kept.ledger, accepted("a@example.com", "b@example.com", if_in_doubt="hold"))
    leased = lease(kept.ledger, limit=1)
    settle(kept.ledger, leased, State.IN_DOUBT, **RESENT)
    ids = tuple(recipient.id for recipient in receipt.recipients)
    assert kept.ledger.change(Selector(ids=ids, states=(State.IN_DOUBT,)), state, ANNA) == 1
    assert one(kept.ledger, ids[1]).state is State.QUEUED
    found = one(kept.ledger, ids[0])
    assert (found.state, found.history[-1].actor) == (state, "anna@desk-7")
    assert settle(kept.ledger, leased) == 0
    assert Balance.of(kept.ledger) == Balance(2, 2)


# -- all at once


def at_once(*acts: Callable[[], int]) -> list[int]:
    """What they answer when all begin at the same moment."""
    gate, answers = threading.Barrier(len(acts)), [0] * len(acts)

    def run(n: int) -> None:
        gate.wait(30)
        answers[n] = acts[n]()

    threads = [threading.Thread(target=run, args=(n,)) for n in range(len(acts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return answers


@pytest.mark.parametrize("policy", ["resend", "hold"])
@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgres", marks=pytest.mark.server)])
def test_of_two_that_end_leases_and_one_that_knows_the_replies_none_undoes_another(
    kind: str, policy: str, request: pytest.FixtureRequest
) -> None:
    kept: InSql = request.getfixturevalue(f"{kind}_ledger")
    total = 60
    for turn in range(1, ROUNDS + 1):
        receipt = add(kept.ledger, accepted(*(f"{n}@example.com" for n in range(total)), if_in_doubt=policy))
        late = lease(kept.ledger, owner="late", limit=total, seconds=1)
        kept.age(2)
        known = [settlement(late, State.SENT, n, text="Ok") for n in range(total - 1, 0, -2)]
        first, second, settled = at_once(
            kept.ledger.reclaim, kept.ledger.reclaim, partial(kept.ledger.settle, late.token, known)
        )
        assert settled == total // 2  # a known reply counts, whether it came before or after
        records = list(kept.ledger.find(Selector(ids=(receipt.id,))))
        doubts = [sum(event.state is State.IN_DOUBT for event in record.history) for record in records]
        assert max(doubts) == 1
        assert first + second == sum(doubts) >= total // 2
        held = State.IN_DOUBT if policy == "hold" else State.QUEUED
        assert kept.ledger.submission(receipt.id).states == {State.SENT: total // 2, held: total // 2}
        assert kept.ledger.change(Selector(ids=(receipt.id,)), State.CANCELLED, ANNA) == total // 2
        assert Balance.of(kept.ledger) == Balance(turn * total, turn * total)


@pytest.mark.server
def test_what_is_being_settled_at_this_moment_is_not_taken_away(postgres_ledger: InSql) -> None:
    ledger = postgres_ledger.ledger
    add(ledger, accepted("a@example.com", "b@example.com"))
    late = lease(ledger, seconds=1)
    postgres_ledger.age(2)
    with postgres_ledger.engine.connect() as connection:
        connection.execute(text("SELECT id FROM deliveries WHERE rcpt = 'a@example.com' FOR UPDATE"))
        assert ledger.reclaim() == 1
        connection.rollback()
    (left,) = ledger.held("worker")
    assert [delivery.rcpt for each in left.messages for delivery in each.deliveries] == ["a@example.com"]
    assert settle(ledger, late) == 2


def test_a_settlement_of_a_dead_process_is_compared_like_any_other(kept: Kept) -> None:
    add(kept.ledger, accepted())
    dead = lease(kept.ledger)
    settle(kept.ledger, dead, State.QUEUED, **GIVEN_BACK)
    again = lease(kept.ledger)
    number, delivery = again.messages[0].id, again.messages[0].deliveries[0].id
    replayed = [Settlement(delivery, number, State.QUEUED, attempted=False, crashed=True)]
    assert kept.ledger.settle(dead.token, replayed) == 0
    assert len(kept.ledger.held("worker")) == 1
