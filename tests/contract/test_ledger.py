"""What every ledger promises: in memory, on SQLite, on PostgreSQL."""

import itertools
import threading
from dataclasses import replace
from typing import Any

import pytest

from dispatcher.delivery import Actor, Lane, Lease, Selector, Settlement, State
from dispatcher.errors import IdempotencyConflict, NotFound
from dispatcher.ledger import HOST_LOST, KILLED_ITS_WORKER, LIFETIME_USED_UP
from dispatcher.mail import AcceptedDelivery, AcceptedMessage, Receipt
from tests.ledgers import (
    ANNA,
    DAY,
    Balance,
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

# -- accepting


def test_a_submission_is_answered_with_its_id_and_every_recipient(kept: Kept) -> None:
    receipt = add(kept.ledger, accepted(message("a@example.com", "b@example.com"), "c@example.com"))
    assert (receipt.accepted, receipt.state, receipt.duplicate) == (3, "queued", False)
    assert [recipient.to for recipient in receipt.recipients] == ["a@example.com", "b@example.com", "c@example.com"]
    assert len(receipt.message_ids) == 2
    assert [one(kept.ledger, recipient.id).rcpt for recipient in receipt.recipients] == [
        recipient.to for recipient in receipt.recipients
    ]


def test_a_receipt_lists_a_hundred_recipients_and_counts_them_all(kept: Kept) -> None:
    receipt = add(kept.ledger, accepted(*(f"{n}@example.com" for n in range(2345))))
    assert (receipt.accepted, len(receipt.recipients), len(set(receipt.message_ids))) == (2345, 100, 2345)
    assert kept.ledger.submission(receipt.id).states == {State.QUEUED: 2345}


def test_adding_nothing_answers_nothing(kept: Kept) -> None:
    assert kept.ledger.add([]) == []


def test_the_same_key_and_content_is_a_duplicate_that_shows_how_the_first_stands(kept: Kept) -> None:
    first = add(kept.ledger, accepted("a@example.com", "b@example.com", key="SO-1"))
    settle(kept.ledger, lease(kept.ledger, limit=1))
    again = add(kept.ledger, accepted("a@example.com", "b@example.com", key="SO-1"))
    assert (again.id, again.accepted, again.duplicate, again.message_ids) == (first.id, 2, True, ())
    assert sorted(recipient.state for recipient in again.recipients) == ["queued", "sent"]
    assert again.state == "queued"
    assert {recipient.id for recipient in again.recipients} == {recipient.id for recipient in first.recipients}
    assert Balance.of(kept.ledger) == Balance(2, 2)


def test_the_same_key_with_other_content_is_a_conflict_that_names_the_first_and_the_fields(kept: Kept) -> None:
    first = add(kept.ledger, accepted(key="SO-1", fingerprints={"subject": "1", "text": "1", "tags": "1"}))
    (answer,) = kept.ledger.add([accepted(key="SO-1", fingerprints={"subject": "2", "text": "1", "html": "1"})])
    assert isinstance(answer, IdempotencyConflict)
    assert (answer.key, answer.first, answer.differs) == ("SO-1", first.id, ("html", "subject", "tags"))
    assert Balance.of(kept.ledger) == Balance(1, 1)


def test_a_key_is_its_producers_own(kept: Kept) -> None:
    first = add(kept.ledger, accepted(key="1", producer="erp"))
    second = add(kept.ledger, accepted(key="1", producer="crm"))
    assert first.id != second.id
    assert not second.duplicate


def test_one_call_may_hold_a_key_twice(kept: Kept) -> None:
    new, again, other, keyless = kept.ledger.add(
        [accepted(key="k"), accepted(key="k"), accepted(key="k", fingerprints={}), accepted()]
    )
    assert isinstance(new, Receipt)
    assert isinstance(again, Receipt)
    assert isinstance(keyless, Receipt)
    assert (new.duplicate, again.duplicate, keyless.duplicate) == (False, True, False)
    assert (again.id, again.recipients, again.message_ids) == (new.id, new.recipients, ())
    assert isinstance(other, IdempotencyConflict)
    assert other.first == new.id
    assert Balance.of(kept.ledger) == Balance(2, 2)


def test_a_key_is_remembered_as_long_as_its_submission_and_at_least_thirty_days(kept: Kept) -> None:
    first = add(kept.ledger, accepted("a@example.com", key="k"))
    kept.age(31 * DAY)
    assert add(kept.ledger, accepted("a@example.com", key="k")).id == first.id
    kept.remove(first.id)
    assert not add(kept.ledger, accepted("a@example.com", key="k")).duplicate


def test_a_key_that_need_not_be_remembered_is_free_whatever_others_are_kept(kept: Kept) -> None:
    first, other = add(kept.ledger, accepted(key="k")), add(kept.ledger, accepted(key="other"))
    kept.age(31 * DAY)
    kept.remove(first.id)
    assert not add(kept.ledger, accepted(key="k")).duplicate
    assert add(kept.ledger, accepted(key="other")).id == other.id


def test_a_key_outlives_its_submission(kept: Kept) -> None:
    first = add(kept.ledger, accepted("a@example.com", "b@example.com", key="k"))
    kept.remove(first.id)
    kept.age(29 * DAY)
    again = add(kept.ledger, accepted("a@example.com", "b@example.com", key="k"))
    assert (again.id, again.duplicate, again.accepted, again.recipients) == (first.id, True, 2, ())


def test_a_text_that_a_database_cannot_hold_is_kept_readable(kept: Kept) -> None:
    nasty = "nul \0 and half a pair \ud83d"
    first = add(kept.ledger, accepted(key=nasty, shared={"subject": nasty}, metadata={"note": nasty}))
    assert add(kept.ledger, accepted(key=nasty, shared={"subject": nasty}, metadata={"note": nasty})).id == first.id
    leased = lease(kept.ledger)
    assert leased.messages[0].shared == {"subject": nasty}
    assert settle(kept.ledger, leased, State.BOUNCED, text=nasty) == 1
    assert one(kept.ledger, first.id).text == "nul \\0 and half a pair \\ud83d"
    assert one(kept.ledger, first.id).metadata == {"note": nasty}


# -- leasing


def test_a_lease_holds_all_that_is_needed_to_build_the_message(kept: Kept) -> None:
    fields = {"template": "d" * 64, "relay": "main", "if_in_doubt": "hold", "shared": {"subject": "S"}}
    receipt = add(kept.ledger, accepted(message("a@example.com", "b@example.com", locale="zh-CN"), **fields))
    leased = lease(kept.ledger)
    (each,) = leased.messages
    assert (each.submission, each.id, each.lane) == (receipt.id, receipt.message_ids[0], Lane.TRANSACTIONAL)
    assert (each.template, each.relay, each.if_in_doubt) == ("d" * 64, "main", "hold")
    assert each.shared == {"subject": "S"}
    assert each.own == {"to": ["a@example.com", "b@example.com"], "locale": "zh-CN"}
    assert [(delivery.rcpt, delivery.attempts) for delivery in each.deliveries] == [
        ("a@example.com", 0),
        ("b@example.com", 0),
    ]
    assert each.public_id == one(kept.ledger, receipt.recipients[0].id).message_id
    assert each.dated == pytest.approx(one(kept.ledger, receipt.recipients[0].id).accepted_at)
    assert leased.until == pytest.approx(each.dated + 60, abs=30)


def test_what_is_leased_is_not_leased_again(kept: Kept) -> None:
    add(kept.ledger, accepted("a@example.com", "b@example.com"))
    first, second = lease(kept.ledger, limit=1), lease(kept.ledger)
    assert first.token != second.token
    assert len(first.messages) == len(second.messages) == 1
    assert first.messages[0].id != second.messages[0].id
    assert lease(kept.ledger).messages == ()


def test_messages_that_are_named_go_first_then_those_due_longest(kept: Kept) -> None:
    old = add(kept.ledger, accepted("old@example.com")).message_ids
    kept.age(10)
    middle = add(kept.ledger, accepted("middle@example.com")).message_ids
    kept.age(10)
    new = add(kept.ledger, accepted("new@example.com")).message_ids
    leased = lease(kept.ledger, limit=2, messages=[987654321, *new])
    assert [each.id for each in leased.messages] == [*new, *old]
    assert [each.id for each in lease(kept.ledger).messages] == [*middle]


def test_a_batch_is_filled_with_messages_however_many_recipients_they_have(kept: Kept) -> None:
    for n in range(7):
        add(kept.ledger, accepted(message(*(f"{n}.{k}@example.com" for k in range(n + 1)))))
    leased = lease(kept.ledger, limit=6)
    assert [len(each.deliveries) for each in leased.messages] == [1, 2, 3, 4, 5, 6]


def test_a_lane_gives_only_its_own(kept: Kept) -> None:
    add(kept.ledger, accepted("a@example.com", lane="bulk"))
    assert lease(kept.ledger, Lane.TRANSACTIONAL).messages == ()
    assert len(lease(kept.ledger, Lane.BULK).messages) == 1


def test_scheduled_mail_is_leased_when_its_time_has_come_and_bears_that_time(kept: Kept) -> None:
    add(kept.ledger, accepted("now@example.com"))
    (now,) = lease(kept.ledger).messages
    at = now.dated + 3600
    add(kept.ledger, accepted("later@example.com", send_at=at))
    assert lease(kept.ledger).messages == ()
    assert (kept.ledger.totals().scheduled, kept.ledger.due(Lane.TRANSACTIONAL, 10)) == (1, 0)
    kept.age(3601)
    assert (kept.ledger.totals().scheduled, kept.ledger.due(Lane.TRANSACTIONAL, 10)) == (0, 1)
    (later,) = lease(kept.ledger).messages
    assert later.dated in (pytest.approx(at), pytest.approx(at - 3601))  # ageing moves what stands in a database
    assert later.deliveries[0].expires_at == pytest.approx(later.dated + DAY)


def test_what_is_past_its_lifetime_expires_instead_of_being_leased(kept: Kept) -> None:
    receipt = add(kept.ledger, accepted(message("a@example.com", secrets={"url": "s"}), lifetime=60))
    kept.age(61)
    assert lease(kept.ledger).messages == ()
    found = one(kept.ledger, receipt.id)
    assert (found.state, found.text, found.attempts) == (State.EXPIRED, LIFETIME_USED_UP, 0)
    assert [(event.state, event.attempted) for event in found.history] == [(State.EXPIRED, False)]
    assert "data" not in kept.ledger.message(found.id).messages[0].own


def test_due_counts_up_to_its_limit(kept: Kept) -> None:
    add(kept.ledger, accepted(*(f"{n}@example.com" for n in range(5))))
    assert [kept.ledger.due(Lane.TRANSACTIONAL, limit) for limit in (0, 3, 9)] == [0, 3, 5]
    assert kept.ledger.due(Lane.BULK, 9) == 0
    settle(kept.ledger, lease(kept.ledger, limit=1))
    lease(kept.ledger, limit=1)
    assert kept.ledger.due(Lane.TRANSACTIONAL, 9) == 3


def test_callers_at_the_same_time_never_get_the_same_delivery(kept: Kept) -> None:
    count, leases = 400, list[Lease]()
    for n in range(0, count, 100):
        add(kept.ledger, *(accepted(message(f"{k}a@example.com", f"{k}b@example.com")) for k in range(n, n + 100)))

    def work() -> None:
        while (leased := lease(kept.ledger, limit=7)).messages:
            leases.append(leased)
            settle(kept.ledger, leased)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    taken = [each for leased in leases for each in leased.messages]
    assert len(taken) == len({each.id for each in taken}) == count
    assert {len(each.deliveries) for each in taken} == {2}
    assert states(kept.ledger) == {State.SENT: 2 * count}


def test_callers_at_the_same_time_with_the_same_key_add_one_submission(kept: Kept) -> None:
    answers = list[Receipt | IdempotencyConflict]()
    names = [f"SO-{n}" for n in range(50)]

    def work(order: list[str]) -> None:
        answers.extend(kept.ledger.add([accepted(key=name) for name in order]))

    threads = [threading.Thread(target=work, args=(order,)) for order in (names, names[::-1], names, names[::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    receipts = [answer for answer in answers if isinstance(answer, Receipt)]
    assert len(receipts) == 4 * len(names)
    assert sum(not receipt.duplicate for receipt in receipts) == len({receipt.id for receipt in receipts}) == len(names)
    assert Balance.of(kept.ledger) == Balance(len(names), len(names))


# -- ticks


def test_a_tick_is_granted_once_in_its_time(kept: Kept) -> None:
    assert [kept.ledger.tick("sweep", 2) for _ in range(3)] == [True, False, False]
    assert kept.ledger.tick("upkeep", 2)
    kept.age(2.5)
    assert 2 <= kept.ledger.ticks()["sweep"] < 60
    assert [kept.ledger.tick("sweep", 2) for _ in range(2)] == [True, False]


# -- settling


def test_a_sent_mail_keeps_the_reply_and_what_it_was_sent_as(kept: Kept) -> None:
    receipt = add(kept.ledger, accepted())
    leased = lease(kept.ledger)
    reply: dict[str, Any] = {
        "code": 250,
        "enhanced": "2.0.0",
        "text": "Ok",
        "relay": "main",
        "phase": "final",
        "seconds": 0.25,
    }
    assert settle(kept.ledger, leased, sha256="a" * 64, build="b1", at=leased.messages[0].dated + 1, **reply) == 1
    found = one(kept.ledger, receipt.id)
    assert (found.state, found.attempts, found.code, found.enhanced, found.text) == (State.SENT, 1, 250, "2.0.0", "Ok")
    (event,) = found.history
    assert (event.relay, event.phase, event.seconds, event.attempted) == ("main", "final", 0.25, True)
    assert event.at == pytest.approx(leased.messages[0].dated + 1)
    view = kept.ledger.message(found.id)
    assert (view.token, view.messages[0].sha256, view.messages[0].build) == ("", "a" * 64, "b1")


def test_each_recipient_of_a_message_is_settled_for_itself(kept: Kept) -> None:
    add(kept.ledger, accepted(message("a@example.com", "b@example.com", "c@example.com")))
    leased = lease(kept.ledger)
    results = [
        settlement(leased, State.SENT, 0),
        settlement(leased, State.BOUNCED, 1, code=550),
        settlement(leased, State.DEFERRED, 2, code=450, due_in=60.0),
    ]
    assert kept.ledger.settle(leased.token, results) == 3
    assert {record.rcpt[0]: record.state for record in kept.ledger.find(Selector())} == {
        "a": State.SENT,
        "b": State.BOUNCED,
        "c": State.DEFERRED,
    }
    assert lease(kept.ledger).messages == ()
    kept.age(61)
    (again,) = lease(kept.ledger).messages
    assert [(delivery.rcpt, delivery.attempts) for delivery in again.deliveries] == [("c@example.com", 1)]


def test_the_first_build_of_a_message_is_the_one_that_is_kept(kept: Kept) -> None:
    add(kept.ledger, accepted())
    settle(kept.ledger, lease(kept.ledger), State.DEFERRED, sha256="a" * 64, build="1")
    second = lease(kept.ledger)
    assert (second.messages[0].sha256, second.messages[0].build) == ("a" * 64, "1")
    settle(kept.ledger, second, State.DEFERRED, sha256="b" * 64, build="2")
    assert lease(kept.ledger).messages[0].sha256 == "a" * 64


def test_an_older_token_changes_nothing(kept: Kept) -> None:
    receipt = add(kept.ledger, accepted())
    leased = lease(kept.ledger)
    assert kept.ledger.settle("another token", [settlement(leased)]) == 0
    assert settle(kept.ledger, leased, State.QUEUED, attempted=False) == 1
    assert settle(kept.ledger, leased) == 0
    newer = lease(kept.ledger)
    assert settle(kept.ledger, leased) == 0
    assert settle(kept.ledger, newer, State.BOUNCED) == 1
    assert settle(kept.ledger, newer) == 0
    assert one(kept.ledger, receipt.id).state is State.BOUNCED


def test_not_now_costs_no_attempt(kept: Kept) -> None:
    receipt = add(kept.ledger, accepted())
    settle(kept.ledger, lease(kept.ledger), State.QUEUED, attempted=False, due_in=30.0, text="relay busy")
    found = one(kept.ledger, receipt.id)
    assert (found.state, found.attempts, found.text) == (State.QUEUED, 0, "relay busy")
    assert lease(kept.ledger).messages == ()
    kept.age(31)
    assert len(lease(kept.ledger).messages) == 1


def give_back(kept: Kept, turns: int = 20) -> None:
    """Lease what is due and give it back untried, again and again."""
    for turn in range(turns):
        assert settle(kept.ledger, lease(kept.ledger), State.QUEUED, attempted=False, text=f"turn {turn}") > 0


def told(kept: Kept, delivery: str) -> list[tuple[State, bool, str]]:
    return [(event.state, event.attempted, event.text) for event in one(kept.ledger, delivery).history]


def test_of_many_turns_that_gave_it_back_the_last_is_remembered(kept: Kept) -> None:
    receipt = add(kept.ledger, accepted())
    give_back(kept)
    assert told(kept, receipt.id) == [(State.QUEUED, False, "turn 19")]
    settle(kept.ledger, lease(kept.ledger), code=250, text="Ok")
    assert told(kept, receipt.id) == [(State.QUEUED, False, "turn 19"), (State.SENT, True, "Ok")]


def test_no_attempt_and_no_persons_act_is_forgotten_over_what_gave_it_back(kept: Kept) -> None:
    receipt = add(kept.ledger, accepted())
    give_back(kept, 3)
    settle(kept.ledger, lease(kept.ledger), State.DEFERRED, text="try again")
    give_back(kept, 3)
    assert kept.ledger.change(Selector(ids=(receipt.id,)), State.CANCELLED, ANNA) == 1
    assert kept.ledger.change(Selector(ids=(receipt.id,)), State.QUEUED, ANNA) == 1
    give_back(kept)
    settle(kept.ledger, lease(kept.ledger), State.QUEUED, text="tried, and not now")
    give_back(kept)
    assert told(kept, receipt.id) == [
        (State.QUEUED, False, "turn 2"),
        (State.DEFERRED, True, "try again"),
        (State.QUEUED, False, "turn 2"),
        (State.CANCELLED, False, ANNA.reason),
        (State.QUEUED, False, ANNA.reason),
        (State.QUEUED, False, "turn 19"),
        (State.QUEUED, True, "tried, and not now"),
        (State.QUEUED, False, "turn 19"),
    ]


def test_a_lease_that_ended_is_remembered_beside_what_gave_it_back(kept: Kept) -> None:
    receipt = add(kept.ledger, accepted())
    give_back(kept, 2)
    lease(kept.ledger, seconds=1.0)
    kept.age(2)
    assert kept.ledger.reclaim() == 1
    give_back(kept)
    assert told(kept, receipt.id) == [
        (State.QUEUED, False, "turn 1"),
        (State.IN_DOUBT, False, HOST_LOST),
        (State.QUEUED, False, "turn 19"),
    ]


def test_a_state_that_no_lease_leads_to_is_not_taken(kept: Kept) -> None:
    add(kept.ledger, accepted("a@example.com", "b@example.com"))
    leased = lease(kept.ledger)
    bad, good = settlement(leased, State.SUPPRESSED), settlement(leased, State.SENT, 1)
    unknown = Settlement(987654321, 1, State.SENT, attempted=True)
    assert kept.ledger.settle(leased.token, [bad, good, unknown]) == 1
    assert states(kept.ledger) == {State.LEASED: 1, State.SENT: 1}


def test_of_two_words_on_one_delivery_the_first_counts(kept: Kept) -> None:
    receipt = add(kept.ledger, accepted())
    leased = lease(kept.ledger)
    assert kept.ledger.settle(leased.token, [settlement(leased), settlement(leased, State.BOUNCED)]) == 1
    assert one(kept.ledger, receipt.id).state is State.SENT


def test_a_timeline_has_every_attempt_in_its_order(kept: Kept) -> None:
    receipt = add(kept.ledger, accepted())
    for n in range(3):
        settle(kept.ledger, lease(kept.ledger), State.DEFERRED, code=450 + n, text=f"try {n}", relay=f"relay{n}")
    settle(kept.ledger, lease(kept.ledger), State.SENT, code=250, text="Ok", relay="relay3")
    found = one(kept.ledger, receipt.id)
    assert found.attempts == 4
    assert [(event.state, event.code, event.relay) for event in found.history] == [
        (State.DEFERRED, 450, "relay0"),
        (State.DEFERRED, 451, "relay1"),
        (State.DEFERRED, 452, "relay2"),
        (State.SENT, 250, "relay3"),
    ]
    assert (found.relay, found.text) == ("relay3", "Ok")


# -- secrets


def test_secrets_are_in_the_lease_and_wiped_when_the_whole_message_is_settled(kept: Kept) -> None:
    sensitive = {"customer": {"url": "https://reset"}}
    mail = message("a@example.com", "b@example.com", data={"customer": {"name": "A"}}, secrets=sensitive)
    receipt = add(kept.ledger, accepted(mail, shared={"data": {"x": 1}}, secrets={"pin": "1234"}))
    leased = lease(kept.ledger)
    assert leased.messages[0].own["data"] == {"customer": {"name": "A", "url": "https://reset"}}
    assert leased.messages[0].shared["data"] == {"x": 1, "pin": "1234"}
    kept.ledger.settle(leased.token, [settlement(leased)])
    view = kept.ledger.message(receipt.recipients[0].id).messages[0]
    assert view.own["data"] == {"customer": {"name": "A", "url": "https://reset"}}
    kept.ledger.settle(leased.token, [settlement(leased, State.BOUNCED, 1)])
    view = kept.ledger.message(receipt.recipients[0].id).messages[0]
    assert view.own["data"] == {"customer": {"name": "A"}}
    assert view.shared["data"] == {"x": 1}


def test_secrets_of_other_messages_stay_while_they_are_live(kept: Kept) -> None:
    mails = [message(f"{n}@example.com", secrets={"url": n}) for n in range(3)]
    receipt = add(kept.ledger, accepted(*mails))
    settle(kept.ledger, lease(kept.ledger, limit=1))
    kept.ledger.change(Selector(ids=(receipt.recipients[1].id,)), State.CANCELLED, ANNA)
    (left,) = lease(kept.ledger).messages
    assert left.own["data"] == {"url": 2}
    seen = [kept.ledger.message(recipient.id).messages[0].own.get("data") for recipient in receipt.recipients]
    assert seen == [None, None, {"url": 2}]


# -- ends of leases


def test_a_lease_whose_host_is_lost_is_sent_again(kept: Kept) -> None:
    receipt = add(kept.ledger, accepted(message("a@example.com", "b@example.com")))
    dead = lease(kept.ledger, seconds=30)
    assert kept.ledger.reclaim() == 0
    kept.age(31)
    assert kept.ledger.reclaim() == 2
    assert kept.ledger.reclaim() == 0
    found = one(kept.ledger, receipt.recipients[0].id)
    assert (found.state, found.attempts) == (State.QUEUED, 0)
    assert [(event.state, event.attempted, event.text) for event in found.history] == [
        (State.IN_DOUBT, False, HOST_LOST)
    ]
    (again,) = lease(kept.ledger).messages
    assert again.id == dead.messages[0].id
    assert again.public_id == dead.messages[0].public_id
    assert settle(kept.ledger, dead) == 0


def test_a_known_reply_that_comes_after_the_end_of_its_lease_still_counts(kept: Kept) -> None:
    receipt = add(kept.ledger, accepted())
    late = lease(kept.ledger, seconds=30)
    kept.age(31)
    assert kept.ledger.reclaim() == 1
    assert settle(kept.ledger, late, State.DEFERRED) == 0
    assert settle(kept.ledger, late, State.SENT) == 1
    assert one(kept.ledger, receipt.id).state is State.SENT
    assert lease(kept.ledger).messages == ()


def test_a_submission_that_asks_for_it_is_held_in_doubt(kept: Kept) -> None:
    receipt = add(kept.ledger, accepted(if_in_doubt="hold"))
    lease(kept.ledger, seconds=30)
    kept.age(31)
    assert kept.ledger.reclaim() == 1
    assert one(kept.ledger, receipt.id).state is State.IN_DOUBT
    assert lease(kept.ledger).messages == ()


@pytest.mark.parametrize(
    ("learned", "state"),
    [
        (State.SENT, State.SENT),
        (State.BOUNCED, State.BOUNCED),
        (State.DEFERRED, State.QUEUED),
        (State.EXPIRED, State.QUEUED),
        (State.INVALID, State.IN_DOUBT),
    ],
)
def test_a_reply_that_is_learned_late_settles_what_is_in_doubt(kept: Kept, learned: State, state: State) -> None:
    receipt = add(kept.ledger, accepted(if_in_doubt="hold"))
    leased = lease(kept.ledger, seconds=30)
    kept.age(31)
    kept.ledger.reclaim()
    assert settle(kept.ledger, leased, learned, code=451) == (state is not State.IN_DOUBT)
    assert one(kept.ledger, receipt.id).state is state


def test_an_attempt_that_left_a_doubt_is_counted_once(kept: Kept) -> None:
    receipt = add(kept.ledger, accepted())
    leased = lease(kept.ledger)
    assert settle(kept.ledger, leased, State.IN_DOUBT, text="silence after the final dot") == 1
    assert one(kept.ledger, receipt.id).attempts == 1
    assert settle(kept.ledger, leased, State.SENT, code=250) == 1
    found = one(kept.ledger, receipt.id)
    assert (found.state, found.attempts) == (State.SENT, 1)
    assert [event.state for event in found.history] == [State.IN_DOUBT, State.SENT]


def test_a_mail_that_kills_its_worker_is_leased_alone_and_in_the_end_declared_invalid(kept: Kept) -> None:
    poison = add(kept.ledger, accepted("poison@example.com"))
    add(kept.ledger, accepted(*(f"{n}@example.com" for n in range(3))))
    batches = []
    while (leased := lease(kept.ledger, seconds=30)).messages:
        batches.append(len(leased.messages))
        if len(batches) <= 2 or leased.messages[0].submission == poison.id:
            kept.age(31)
            assert kept.ledger.reclaim() == len(leased.messages)
        else:
            settle(kept.ledger, leased)
    assert batches == [4, 4, 1, 1, 1, 1, 1]
    found = one(kept.ledger, poison.id)
    assert (found.state, found.text, found.attempts) == (State.INVALID, KILLED_ITS_WORKER, 0)
    assert [event.text for event in found.history] == [HOST_LOST] * 3 + [KILLED_ITS_WORKER]
    assert states(kept.ledger) == {State.INVALID: 1, State.SENT: 3}


# -- people


def test_cancelled_mail_is_not_sent_and_names_who_did_it(kept: Kept) -> None:
    receipt = add(kept.ledger, accepted("a@example.com", "b@example.com", "c@example.com"))
    leased = lease(kept.ledger, limit=1)
    assert kept.ledger.change(Selector(ids=(receipt.id,)), State.CANCELLED, ANNA) == 2
    assert kept.ledger.change(Selector(ids=(receipt.id,)), State.CANCELLED, ANNA) == 0
    assert lease(kept.ledger).messages == ()
    assert settle(kept.ledger, leased) == 1
    (event,) = one(kept.ledger, receipt.id, states=(State.CANCELLED,), to="c@example.com").history
    assert (event.state, event.actor, event.text, event.attempted) == (
        State.CANCELLED,
        "anna@desk-7",
        "asked by the customer",
        False,
    )
    assert event.at > 0


def test_a_retry_by_hand_starts_over_with_a_lifetime_to_use(kept: Kept) -> None:
    receipt = add(kept.ledger, accepted(lifetime=100))
    settle(kept.ledger, lease(kept.ledger), State.BOUNCED, code=550)
    kept.age(200)
    assert kept.ledger.change(Selector(states=(State.BOUNCED,)), State.QUEUED, ANNA) == 1
    found = one(kept.ledger, receipt.id)
    assert (found.state, found.attempts, [event.state for event in found.history]) == (
        State.QUEUED,
        0,
        [State.BOUNCED, State.QUEUED],
    )
    (again,) = lease(kept.ledger).messages
    assert again.deliveries[0].expires_at == pytest.approx(found.changed_at + 100, abs=1)


def test_a_retry_by_hand_makes_what_is_deferred_due_now(kept: Kept) -> None:
    add(kept.ledger, accepted())
    settle(kept.ledger, lease(kept.ledger), State.DEFERRED, due_in=3600.0)
    assert lease(kept.ledger).messages == ()
    assert kept.ledger.change(Selector(), State.QUEUED, ANNA) == 1
    assert len(lease(kept.ledger).messages) == 1


@pytest.mark.parametrize("state", [State.SENT, State.BOUNCED, State.QUEUED, State.CANCELLED])
def test_a_person_resolves_what_is_held_in_doubt(kept: Kept, state: State) -> None:
    receipt = add(kept.ledger, accepted())
    leased = lease(kept.ledger)
    settle(kept.ledger, leased, State.IN_DOUBT)
    assert kept.ledger.change(Selector(ids=(receipt.id,)), state, ANNA) == 1
    assert one(kept.ledger, receipt.id).state is state
    assert settle(kept.ledger, leased, State.SENT) == 0


@pytest.mark.parametrize("state", [State.CANCELLED, State.QUEUED, State.BOUNCED, State.SENT])
def test_sent_stays_sent_and_a_lease_is_its_workers(kept: Kept, state: State) -> None:
    add(kept.ledger, accepted("a@example.com", "b@example.com"))
    settle(kept.ledger, lease(kept.ledger, limit=1))
    leased = lease(kept.ledger)
    assert kept.ledger.change(Selector(), state, ANNA) == 0
    assert settle(kept.ledger, leased) == 1


@pytest.mark.parametrize("state", sorted(set(State) - {State.CANCELLED, State.QUEUED, State.BOUNCED, State.SENT}))
def test_other_states_are_not_a_persons_to_give(kept: Kept, state: State) -> None:
    with pytest.raises(ValueError, match=f"cannot be made {state} by hand"):
        kept.ledger.change(Selector(), state, ANNA)


def test_a_change_stops_at_its_limit(kept: Kept) -> None:
    add(kept.ledger, accepted(*(f"{n}@example.com" for n in range(2500))))
    assert kept.ledger.change(Selector(limit=1200), State.CANCELLED, ANNA) == 1200
    assert states(kept.ledger) == {State.CANCELLED: 1200, State.QUEUED: 1300}
    assert kept.ledger.change(Selector(), State.CANCELLED, ANNA) == 1300


# -- knowing


def test_every_kind_of_id_is_understood(kept: Kept) -> None:
    receipt = add(kept.ledger, accepted(message("a@example.com", "b@example.com"), "c@example.com", key="SO-1 / x"))
    delivery = receipt.recipients[1].id
    number = delivery.rpartition(".")[0]
    for name, expected in {
        receipt.id: "abc",
        number: "ab",
        delivery: "b",
        f"<{number}@mail.example.com>": "ab",
        f"{number}@mail.example.com": "ab",
        f"<{delivery}@mail.example.com>": "b",
        "SO-1 / x": "abc",
    }.items():
        found = kept.ledger.find(Selector(ids=(name,)))
        assert "".join(sorted(record.rcpt[0] for record in found)) == expected, name
    both = kept.ledger.find(Selector(ids=(delivery, number)))
    assert sorted(record.rcpt[0] for record in both) == ["a", "b"]
    assert kept.ledger.submission("SO-1 / x").id == receipt.id


def test_a_key_that_looks_like_an_id_is_still_a_key(kept: Kept) -> None:
    receipt = add(kept.ledger, accepted(key="abcdefghijklmnop"))
    assert one(kept.ledger, "abcdefghijklmnop").submission == receipt.id


def test_an_id_that_is_nobodys_is_named_at_once(kept: Kept) -> None:
    receipt = add(kept.ledger, accepted())
    number = receipt.recipients[0].id.rpartition(".")[0]
    guessed = f"{receipt.id}-1-{'a' * 6 if number[-6:] != 'a' * 6 else 'b' * 6}"
    for name in ("abcdefghijklmnop", guessed, f"{number}.2", f"{receipt.id}-2-aaaaaa", "SO-404", ""):
        with pytest.raises(NotFound, match="is no id"):
            kept.ledger.find(Selector(ids=(receipt.id, name)))
        with pytest.raises(NotFound):
            kept.ledger.submission(name)
        with pytest.raises(NotFound):
            kept.ledger.message(name)
        with pytest.raises(NotFound):
            kept.ledger.change(Selector(ids=(name,)), State.CANCELLED, ANNA)


def test_deliveries_are_found_by_what_is_known_of_them(kept: Kept) -> None:
    own = AcceptedMessage({"metadata": {"customer": 8, "vip": True}}, (AcceptedDelivery("Ü.Own@Example.com"),))
    add(kept.ledger, accepted("old@example.com", tags=('a "quoted" tag',), metadata={"customer": 7}))
    kept.age(100)
    first = add(kept.ledger, accepted("b@example.com", lane="bulk", tags=("order", "eu"), key="k1"))
    add(kept.ledger, accepted(own, "c@example.com", metadata={"customer": "7", "note": None}, producer="crm", key="k2"))
    since = one(kept.ledger, first.id).accepted_at - 50

    def found(**fields: object) -> list[str]:
        return [record.rcpt for record in kept.ledger.find(Selector(**fields))]  # type: ignore[arg-type]

    assert found() == ["c@example.com", "Ü.Own@Example.com", "b@example.com", "old@example.com"]
    assert found(limit=2) == ["c@example.com", "Ü.Own@Example.com"]
    assert found(to="Ü.own@EXAMPLE.com") == ["Ü.Own@Example.com"]
    assert found(lane=Lane.BULK) == ["b@example.com"]
    assert found(tag="order") == ["b@example.com"]
    assert found(tag="Order") == found(tag="ord") == found(tag="tag") == []
    assert found(tag='a "quoted" tag') == ["old@example.com"]
    assert found(metadata=(("customer", "7"),)) == ["c@example.com", "old@example.com"]
    assert found(metadata=(("customer", "8"), ("vip", "true"))) == ["Ü.Own@Example.com"]
    assert found(metadata=(("note", "null"),)) == found(metadata=(("customer", "9"),)) == []
    assert found(key="k2") == ["c@example.com", "Ü.Own@Example.com"]
    assert found(key="nobody's") == []
    assert found(since=since) == ["c@example.com", "Ü.Own@Example.com", "b@example.com"]
    assert found(since=since, lane=Lane.BULK, states=(State.SENT,)) == []
    assert found(states=(State.QUEUED, State.SENT), to="b@example.com") == ["b@example.com"]


def test_a_record_says_all_that_is_known_of_a_delivery(kept: Kept) -> None:
    mail = AcceptedMessage({"metadata": {"b": 2}}, (AcceptedDelivery("a@example.com", "cc"),))
    fields = {"template": "d" * 64, "template_name": "welcome", "tags": ("x", "y"), "metadata": {"a": 1, "b": 1}}
    receipt = add(kept.ledger, accepted(mail, lane="bulk", key="k", **fields))
    found = one(kept.ledger, receipt.id)
    assert found.id == receipt.recipients[0].id == f"{found.message_id}.1"
    assert found.message_id.startswith(f"{receipt.id}-1-")
    assert (found.submission, found.rcpt, found.kind, found.lane) == (receipt.id, "a@example.com", "cc", Lane.BULK)
    assert (found.state, found.attempts, found.template) == (State.QUEUED, 0, "welcome")
    assert (found.tags, found.metadata, found.history, found.text) == (("x", "y"), {"a": 1, "b": 2}, (), "")
    assert found.due_at == found.accepted_at == found.changed_at
    assert found.expires_at == pytest.approx(found.accepted_at + DAY)
    submission = kept.ledger.submission(receipt.id)
    assert (submission.accepted, submission.states, submission.key) == (1, {State.QUEUED: 1}, "k")
    assert (submission.template, submission.tags, submission.lane) == ("welcome", ("x", "y"), Lane.BULK)
    assert submission.accepted_at == found.accepted_at


def test_a_long_answer_comes_whole_and_once(kept: Kept) -> None:
    add(kept.ledger, accepted(*(f"{n}@example.com" for n in range(1234))))
    assert [record.rcpt for record in kept.ledger.find(Selector())] == [f"{n}@example.com" for n in range(1233, -1, -1)]
    assert len(list(kept.ledger.find(Selector(limit=777)))) == 777
    assert len(list(itertools.islice(kept.ledger.find(Selector()), 3))) == 3


def test_totals_count_by_lane_and_state_and_balance(kept: Kept) -> None:
    empty = kept.ledger.totals()
    assert (empty.accepted, empty.states, empty.oldest, empty.scheduled, empty.rejects) == (0, {}, {}, 0, 0)
    add(kept.ledger, accepted("a@example.com", "b@example.com"), accepted(lane="bulk"))
    settle(kept.ledger, lease(kept.ledger, limit=1))
    kept.age(50)
    add(kept.ledger, accepted("c@example.com", lane="bulk"))
    totals = kept.ledger.totals()
    assert totals.states == {
        (Lane.TRANSACTIONAL, State.SENT): 1,
        (Lane.TRANSACTIONAL, State.QUEUED): 1,
        (Lane.BULK, State.QUEUED): 2,
    }
    assert totals.accepted == 4
    assert set(totals.oldest) == {Lane.TRANSACTIONAL, Lane.BULK}
    assert all(50 <= age < 110 for age in totals.oldest.values())


def test_totals_are_of_one_moment(kept: Kept) -> None:
    def work() -> None:
        for _ in range(30):
            add(kept.ledger, accepted("a@example.com", "b@example.com"))

    thread = threading.Thread(target=work)
    thread.start()
    while thread.is_alive():
        balance = Balance.of(kept.ledger)
        assert balance.accepted == balance.found
    thread.join()
    assert Balance.of(kept.ledger) == Balance(60, 60)


def test_a_message_can_be_looked_at_without_being_taken(kept: Kept) -> None:
    receipt = add(kept.ledger, accepted(message("a@example.com", "b@example.com", locale="de")))
    view = kept.ledger.message(receipt.recipients[1].id)
    leased = lease(kept.ledger)
    assert (view.token, view.until) == ("", 0)
    assert view.messages == leased.messages


# -- rejects


def reject(kept: Kept, reference: str, **fields: str) -> int:
    usual = {"door": "celery", "producer": "erp", "payload": "{}", "field": "to[0]", "reason": "is no address"}
    return kept.ledger.reject(**{**usual, "reference": reference, **fields}).id


def test_a_reject_is_kept_as_it_came_until_somebody_deals_with_it(kept: Kept) -> None:
    number = reject(kept, "task-1", payload='{"to": "x"}')
    (found,) = kept.ledger.rejects()
    assert (found.id, found.door, found.reference, found.producer) == (number, "celery", "task-1", "erp")
    assert (found.payload, found.field, found.reason, found.outcome) == ('{"to": "x"}', "to[0]", "is no address", None)
    assert kept.ledger.totals().rejects == 1
    kept.ledger.resolve_reject(number, "resubmitted", ANNA)
    assert kept.ledger.rejects() == []
    assert kept.ledger.rejects(id=number) == []
    assert kept.ledger.rejects(open_only=False) == [replace(found, outcome="resubmitted")]
    assert kept.ledger.totals().rejects == 0


def test_the_same_reference_at_the_same_door_is_one_reject(kept: Kept) -> None:
    first = reject(kept, "task-1")
    assert reject(kept, "task-1", reason="again") == first
    others = {reject(kept, "task-1", door="cli"), reject(kept, "task-2"), reject(kept, ""), reject(kept, "")}
    assert len(others) == 4
    assert [found.id for found in kept.ledger.rejects()] == sorted({first, *others}, reverse=True)
    assert len(kept.ledger.rejects(limit=2)) == 2
    assert [found.id for found in kept.ledger.rejects(id=first)] == [first]


def test_a_reject_is_resolved_once(kept: Kept) -> None:
    number = reject(kept, "task-1")
    kept.ledger.resolve_reject(number, "dropped", ANNA)
    for unknown in (number, number + 1):
        with pytest.raises(NotFound, match="no open reject"):
            kept.ledger.resolve_reject(unknown, "dropped", Actor("bob", "desk-8"))


def test_a_payload_that_is_no_text_a_database_takes_is_kept_readable(kept: Kept) -> None:
    reject(kept, "line 3", payload="a\0b\udcff")
    assert kept.ledger.rejects()[0].payload == "a\\0b\\udcff"
