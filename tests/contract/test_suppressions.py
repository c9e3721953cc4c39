"""What every ledger promises of suppressions: who is not to be written to is not, from the next lease on."""

from dataclasses import replace

import pytest

from dispatcher.delivery import Actor, Lease, Selector, State
from dispatcher.mail import Accepted, Receipt
from dispatcher.suppression import ALL, MARKETING, Reason, Suppression, of_list
from tests.ledgers import ANNA, DAY, Balance, Kept, accepted, add, lease, message, one, settle, settlement, states

LI = "li@example.com"
NEWS = of_list("news")


def suppress(kept: Kept, address: str = LI, scope: str = ALL, **fields: object) -> int:
    return kept.ledger.suppressions.add([replace(Suppression(address, scope, Reason.HAND), **fields)])


def news(*rcpts: str) -> Accepted:
    return accepted(*(rcpts or (LI,)), list="news")


def rcpts(taken: Lease) -> list[str]:
    return [each.rcpt for mail in taken.messages for each in mail.deliveries]


def leased(kept: Kept) -> list[str]:
    return rcpts(lease(kept.ledger))


# -- the store


def test_what_was_added_stands_with_all_that_is_known_of_it(kept: Kept) -> None:
    until = 4_000_000_000.0
    made = Suppression(LI, NEWS, Reason.UNSUBSCRIBE, "one-click", "page", 1_700_000_000.0, until, "anna@desk-7")
    assert kept.ledger.suppressions.add([made]) == 1
    assert kept.ledger.suppressions.standing(LI) == [made]
    assert list(kept.ledger.suppressions.find()) == [made]


def test_an_address_is_one_however_it_is_written(kept: Kept) -> None:
    suppress(kept, "Li@EXAMPLE.com")
    suppress(kept, "JÖRG@example.com", MARKETING)
    assert [each.address for each in kept.ledger.suppressions.standing("LI@example.COM")] == [LI]
    assert set(kept.ledger.suppressions.held(["lI@example.com", "jo\u0308rg@example.com"], "news")) == {
        LI,
        "jörg@example.com",
    }


@pytest.mark.parametrize(
    ("before", "new", "changed"),
    [
        (None, None, 0),
        (None, DAY, 0),
        (DAY, DAY, 0),
        (2 * DAY, DAY, 0),
        (DAY, 2 * DAY, 1),
        (DAY, None, 1),
    ],
)
def test_the_longer_one_stands(kept: Kept, before: float | None, new: float | None, changed: int) -> None:
    def until(seconds: float | None) -> float | None:
        return None if seconds is None else 4_000_000_000.0 + seconds

    assert suppress(kept, until=until(before), evidence="first") == 1
    assert suppress(kept, until=until(new), evidence="second") == changed
    (stands,) = kept.ledger.suppressions.standing(LI)
    assert stands.evidence == ("second" if changed else "first")


def test_what_is_over_does_not_hold_and_may_come_again(kept: Kept) -> None:
    add(kept.ledger, accepted(LI))
    now = one(kept.ledger).accepted_at
    suppress(kept, until=now + 60)
    suppress(kept, scope=NEWS, until=now + 600)
    kept.age(61)
    assert [each.scope for each in kept.ledger.suppressions.find()] == [NEWS]
    assert kept.ledger.suppressions.count() == 1
    assert kept.ledger.suppressions.held([LI], None) == {}
    assert kept.ledger.suppressions.remove(LI, ALL, ANNA) == 0
    assert leased(kept) == [LI]
    assert suppress(kept, until=now + 3600) == 1
    assert set(kept.ledger.suppressions.held([LI], None)) == {LI}


def test_they_are_found_by_scope_reason_and_address_in_pages(kept: Kept) -> None:
    store = kept.ledger.suppressions
    addresses = [f"{n:04}@example.com" for n in range(2500)]
    assert store.add(Suppression(each, ALL, Reason.IMPORT) for each in addresses) == 2500
    assert store.add(Suppression(each, NEWS, Reason.UNSUBSCRIBE) for each in addresses[:1200]) == 1200
    assert store.add(Suppression(each, ALL, Reason.IMPORT) for each in addresses) == 0
    assert sorted(each.address for each in store.find(scope=ALL)) == addresses
    assert {(each.address, each.scope) for each in store.find()} == {
        *((each, ALL) for each in addresses),
        *((each, NEWS) for each in addresses[:1200]),
    }
    assert [store.count(), store.count(scope=NEWS), store.count(reason=Reason.IMPORT)] == [3700, 1200, 2500]
    assert [each.scope for each in store.find(address="0007@EXAMPLE.com", reason=Reason.UNSUBSCRIBE)] == [NEWS]
    assert store.count(address="0007@example.com") == 2
    assert len(store.held(addresses, "news")) == 2500


def test_the_widest_reason_is_the_one_that_is_named(kept: Kept) -> None:
    suppress(kept, scope=NEWS, reason=Reason.UNSUBSCRIBE)
    suppress(kept, scope=ALL, reason=Reason.BOUNCE)
    suppress(kept, "wang@example.com", MARKETING, reason=Reason.COMPLAINT)
    held = kept.ledger.suppressions.held([LI, "wang@example.com", "zhao@example.com"], "news")
    assert {address: (each.scope, each.reason) for address, each in held.items()} == {
        LI: (ALL, Reason.BOUNCE),
        "wang@example.com": (MARKETING, Reason.COMPLAINT),
    }
    assert set(kept.ledger.suppressions.held([LI, "wang@example.com"], None)) == {LI}


def test_who_is_removed_is_written_to_again(kept: Kept) -> None:
    store = kept.ledger.suppressions
    for scope, reason in ((ALL, Reason.BOUNCE), (MARKETING, Reason.UNSUBSCRIBE), (NEWS, Reason.UNSUBSCRIBE)):
        suppress(kept, scope=scope, reason=reason)
    assert store.remove("LI@example.com", NEWS, ANNA, reason=Reason.HAND) == 0
    assert store.remove("LI@example.com", NEWS, ANNA, reason=Reason.UNSUBSCRIBE) == 1
    assert [each.scope for each in store.standing(LI)] == [ALL, MARKETING]
    assert store.remove(LI, None, ANNA) == 2
    assert store.remove(LI, None, ANNA) == 0
    assert store.standing(LI) == []
    add(kept.ledger, news())
    assert leased(kept) == [LI]


def test_what_a_person_does_is_an_act(kept: Kept) -> None:
    store = kept.ledger.suppressions
    store.add([Suppression(f"{n:04}@example.com", ALL, Reason.IMPORT) for n in range(2500)], ANNA)
    store.add([Suppression("0000@example.com", ALL, Reason.IMPORT)], ANNA)
    store.add([Suppression("Li@example.com", NEWS, Reason.HAND)], ANNA)
    store.remove("LI@example.com", NEWS, Actor("bob", "desk-8", "she asked"))
    store.remove("0001@example.com", None, Actor("bob", "desk-8"))
    assert [(act.actor, act.act, act.subject, act.count, act.reason) for act in kept.ledger.acts()] == [
        ("bob@desk-8", "allow", "0001@example.com", 1, ""),
        ("bob@desk-8", "allow", "li@example.com list:news", 1, "she asked"),
        ("anna@desk-7", "suppress", "li@example.com list:news", 1, "asked by the customer"),
        ("anna@desk-7", "suppress", "0000@example.com all and others", 2500, "asked by the customer"),
    ]
    assert next(store.find(address="0002@example.com")).actor == "anna@desk-7"


def test_evidence_that_a_database_cannot_hold_is_kept_readable(kept: Kept) -> None:
    suppress(kept, evidence="nul \0")
    assert kept.ledger.suppressions.standing(LI)[0].evidence == "nul \\0"


# -- at submit


def test_who_is_suppressed_is_accepted_as_that_and_not_rung_for(kept: Kept) -> None:
    suppress(kept, reason=Reason.BOUNCE)
    receipt = add(kept.ledger, accepted("LI@example.com", "wang@example.com"))
    assert (receipt.accepted, receipt.suppressed, receipt.state) == (2, 1, State.QUEUED)
    assert [(each.to, each.state) for each in receipt.recipients] == [
        ("LI@example.com", State.SUPPRESSED),
        ("wang@example.com", State.QUEUED),
    ]
    (number,) = receipt.message_ids
    held = one(kept.ledger, receipt.recipients[0].id)
    assert (held.state, held.text, held.attempts) == (State.SUPPRESSED, "scope all, reason bounce", 0)
    assert [(step.state, step.text) for step in held.history] == [(State.SUPPRESSED, "scope all, reason bounce")]
    assert [each.id for each in lease(kept.ledger).messages] == [number]
    assert Balance.of(kept.ledger) == Balance(2, 2)


def test_a_submission_to_nobody_else_is_suppressed_as_a_whole(kept: Kept) -> None:
    suppress(kept)
    receipt = add(kept.ledger, accepted(LI))
    assert (receipt.accepted, receipt.suppressed, receipt.state, receipt.message_ids) == (1, 1, State.SUPPRESSED, ())
    assert receipt.document()["suppressed"] == 1
    assert receipt.document()["recipients"][0]["state"] == "suppressed"
    assert lease(kept.ledger).messages == ()
    assert kept.ledger.submission(receipt.id).states == {State.SUPPRESSED: 1}


def test_a_message_goes_to_those_of_its_recipients_who_may_get_it(kept: Kept) -> None:
    suppress(kept)
    receipt = add(kept.ledger, accepted(message("wang@example.com", LI, "zhao@example.com")))
    assert len(receipt.message_ids) == 1
    assert [each.state for each in receipt.recipients] == [State.QUEUED, State.SUPPRESSED, State.QUEUED]
    assert leased(kept) == ["wang@example.com", "zhao@example.com"]


@pytest.mark.parametrize(
    ("scope", "of_no_list", "of_news", "of_offers"),
    [(ALL, True, True, True), (MARKETING, False, True, True), (NEWS, False, True, False)],
)
def test_each_scope_holds_its_own_mail(
    kept: Kept, scope: str, of_no_list: bool, of_news: bool, of_offers: bool
) -> None:
    suppress(kept, scope=scope)
    mails = [accepted(LI), accepted(LI, list="News"), accepted(LI, list="offers")]
    receipts = kept.ledger.add(mails)
    assert [bool(each.suppressed) for each in receipts if isinstance(each, Receipt)] == [
        of_no_list,
        of_news,
        of_offers,
    ]


def test_a_duplicate_says_how_many_are_suppressed_by_now(kept: Kept) -> None:
    suppress(kept)
    mail = accepted(LI, "wang@example.com", key="k")
    first, again = kept.ledger.add([mail, mail])
    later = add(kept.ledger, mail)
    found = [(each.suppressed, each.duplicate, each.accepted) for each in (first, again, later)]  # type: ignore[union-attr]
    assert found == [(1, False, 2), (1, True, 2), (1, True, 2)]
    suppress(kept, "wang@example.com")
    assert leased(kept) == []
    assert add(kept.ledger, mail).suppressed == 2


def test_secrets_of_a_message_to_nobody_are_not_kept(kept: Kept) -> None:
    suppress(kept)
    secret = {"reset_url": "https://example.com/secret"}
    receipt = add(kept.ledger, accepted(message(LI, secrets=secret), message("wang@example.com", secrets=secret)))
    shown = [kept.ledger.message(each.id).messages[0].own for each in receipt.recipients]
    assert ["secret" in str(own) for own in shown] == [False, True]
    assert kept.ledger.change(Selector(to=LI), State.QUEUED, ANNA) == 0


def test_many_of_many_are_each_told_apart(kept: Kept) -> None:
    names = [f"{n}@example.com" for n in range(1500)]
    kept.ledger.suppressions.add(Suppression(each, ALL, Reason.IMPORT) for each in names[::3])
    receipts = kept.ledger.add([accepted(each) for each in names])
    found = [each.suppressed for each in receipts if isinstance(each, Receipt)]
    assert found == [1, 0, 0] * 500
    whole = add(kept.ledger, accepted(*names))
    assert (whole.suppressed, len(whole.message_ids)) == (500, 1000)
    assert states(kept.ledger) == {State.SUPPRESSED: 1000, State.QUEUED: 2000}


# -- at lease


def test_who_is_suppressed_after_the_submit_is_not_leased(kept: Kept) -> None:
    receipt = add(kept.ledger, news(LI, "wang@example.com"))
    suppress(kept, scope=NEWS, reason=Reason.UNSUBSCRIBE)
    taken = lease(kept.ledger)
    assert rcpts(taken) == ["wang@example.com"]
    assert taken.more
    held = one(kept.ledger, receipt.recipients[0].id)
    assert (held.state, held.text) == (State.SUPPRESSED, "scope list:news, reason unsubscribe")
    assert held.attempts == 0
    assert settle(kept.ledger, taken) == 1
    assert Balance.of(kept.ledger) == Balance(2, 2)


def test_a_deferred_one_is_suppressed_with_its_timeline(kept: Kept) -> None:
    add(kept.ledger, accepted(LI))
    settle(kept.ledger, lease(kept.ledger), State.DEFERRED, code=451, text="later", relay="main")
    suppress(kept, reason=Reason.COMPLAINT)
    taken = lease(kept.ledger)
    assert (taken.messages, taken.more) == ((), True)
    assert [(step.state, step.text) for step in one(kept.ledger).history] == [
        (State.DEFERRED, "later"),
        (State.SUPPRESSED, "scope all, reason complaint"),
    ]
    assert lease(kept.ledger).more is False


def test_an_opt_out_of_marketing_holds_no_order_confirmation(kept: Kept) -> None:
    add(kept.ledger, accepted(LI))
    suppress(kept, scope=MARKETING, reason=Reason.UNSUBSCRIBE)
    assert leased(kept) == [LI]


def test_one_that_is_tried_again_by_hand_is_suppressed_again(kept: Kept) -> None:
    suppress(kept)
    add(kept.ledger, accepted(LI))
    assert kept.ledger.change(Selector(), State.QUEUED, ANNA) == 1
    assert leased(kept) == []
    assert one(kept.ledger).state is State.SUPPRESSED
    kept.ledger.suppressions.remove(LI, ALL, ANNA)
    assert kept.ledger.change(Selector(), State.QUEUED, ANNA) == 1
    assert leased(kept) == [LI]


def test_secrets_go_when_the_last_recipient_is_suppressed(kept: Kept) -> None:
    secret = {"reset_url": "https://example.com/secret"}
    receipt = add(kept.ledger, accepted(message(LI, secrets=secret)))
    suppress(kept)
    assert leased(kept) == []
    assert "secret" not in str(kept.ledger.message(receipt.recipients[0].id))


# -- at settle


@pytest.mark.parametrize("enhanced", ["5.1.1", "5.1.3", "5.1.6", "5.1.10", "5.2.1"])
def test_a_mailbox_that_is_not_there_is_not_written_to_again(kept: Kept, enhanced: str) -> None:
    receipt = add(kept.ledger, accepted("Li@example.com"))
    taken = lease(kept.ledger)
    fields = {"code": 550, "enhanced": enhanced, "text": "no such user", "relay": "main", "phase": "rcpt"}
    assert settle(kept.ledger, taken, State.BOUNCED, **fields) == 1
    (held,) = kept.ledger.suppressions.standing(LI)
    assert (held.scope, held.reason, held.until, held.actor) == (ALL, Reason.BOUNCE, None, None)
    assert held.evidence == f"550 {enhanced} no such user"
    assert held.origin == one(kept.ledger, receipt.id).message_id
    assert add(kept.ledger, accepted(LI)).suppressed == 1
    assert kept.ledger.acts() == []


@pytest.mark.parametrize(
    ("state", "fields"),
    [
        (State.BOUNCED, {"code": 550, "text": "unknown to us"}),
        (State.BOUNCED, {"code": 550, "enhanced": "5.7.1", "text": "policy"}),
        (State.BOUNCED, {"code": 552, "enhanced": "5.2.2", "text": "mailbox full"}),
        (State.BOUNCED, {"code": 550, "enhanced": "5.1.1", "text": "bad sender", "phase": "mail"}),
        (State.EXPIRED, {"code": 450, "enhanced": "4.1.1", "text": "not yet"}),
        (State.SENT, {"code": 250, "text": "Ok"}),
    ],
)
def test_no_other_end_says_anything_of_the_address(kept: Kept, state: State, fields: dict[str, object]) -> None:
    add(kept.ledger, accepted(LI))
    assert settle(kept.ledger, lease(kept.ledger), state, **fields) == 1
    assert kept.ledger.suppressions.count() == 0


def test_only_the_recipient_who_was_refused_is_suppressed(kept: Kept) -> None:
    add(kept.ledger, accepted(message(LI, "wang@example.com")))
    taken = lease(kept.ledger)
    gone = {"code": 550, "enhanced": "5.1.1", "text": "no such user", "phase": "rcpt"}
    ends = [settlement(taken, State.BOUNCED, 0, **gone), settlement(taken, State.SENT, 1, code=250)]
    assert kept.ledger.settle(taken.token, ends) == 2
    assert kept.ledger.settle(taken.token, ends) == 0
    assert [each.address for each in kept.ledger.suppressions.find()] == [LI]


def test_what_was_said_of_several_after_rcpt_is_about_nobody_in_particular(kept: Kept) -> None:
    add(kept.ledger, accepted(message(LI, "wang@example.com")))
    gone = {"code": 550, "enhanced": "5.1.1", "text": "no such user", "phase": "final"}
    assert settle(kept.ledger, lease(kept.ledger), State.BOUNCED, **gone) == 2
    assert kept.ledger.suppressions.count() == 0


def test_a_bounce_takes_nothing_from_what_a_person_has_said(kept: Kept) -> None:
    add(kept.ledger, accepted(LI))
    taken = lease(kept.ledger)
    kept.ledger.suppressions.add([Suppression(LI, ALL, Reason.HAND)], ANNA)
    settle(kept.ledger, taken, State.BOUNCED, code=550, enhanced="5.1.1", text="no such user")
    (held,) = kept.ledger.suppressions.standing(LI)
    assert (held.reason, held.actor) == (Reason.HAND, "anna@desk-7")
