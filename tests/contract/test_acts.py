"""What every ledger promises of acts: what people did stands there, with who, where, why, and how much it changed."""

import pytest

from dispatcher.delivery import Actor, Lane, Selector, State
from dispatcher.errors import NotFound
from tests.ledgers import ANNA, Kept, accepted, add, lease, settle

BOB = Actor("bob", "desk-8", "it is mended")


def acts(kept: Kept) -> list[tuple[str, str, str, int, str]]:
    return [(act.actor, act.act, act.subject, act.count, act.reason) for act in kept.ledger.acts()]


def test_pausing_and_resuming_are_acts(kept: Kept) -> None:
    kept.ledger.pause("relay", "main", 60, "maintenance", ANNA)
    kept.ledger.pause("lane", "bulk", None, "", ANNA)
    kept.ledger.resume("relay", "main", BOB)
    assert acts(kept) == [
        ("bob@desk-8", "resume", "relay main", 1, "it is mended"),
        ("anna@desk-7", "pause", "lane bulk", 1, ""),
        ("anna@desk-7", "pause", "relay main", 1, "maintenance"),
    ]


def test_what_changes_nothing_is_no_act(kept: Kept) -> None:
    add(kept.ledger, accepted())
    assert not kept.ledger.resume("relay", "main", BOB)
    assert kept.ledger.change(Selector(), State.SENT, ANNA) == 0
    with pytest.raises(NotFound):
        kept.ledger.resolve_reject(7, "dropped", ANNA)
    with pytest.raises(NotFound):
        kept.ledger.change(Selector(ids=("nobody",)), State.CANCELLED, ANNA)
    assert acts(kept) == []


def test_what_the_dispatcher_does_by_itself_is_no_act(kept: Kept) -> None:
    kept.ledger.pause("relay", "main", 5, "cannot connect")
    kept.ledger.reopen("main")
    kept.ledger.probe("main", 30)
    assert kept.ledger.resume("relay", "main")
    assert acts(kept) == []


def test_a_change_is_an_act_with_its_count(kept: Kept) -> None:
    receipt = add(kept.ledger, accepted("a@example.com", "b@example.com", tags=("order",)))
    kept.ledger.change(Selector(tag="order", states=(State.QUEUED, State.DEFERRED)), State.CANCELLED, ANNA)
    kept.ledger.change(Selector(ids=(receipt.id,), to="a@example.com"), State.QUEUED, BOB)
    assert acts(kept) == [
        ("bob@desk-8", "retry", f"{receipt.id} to=a@example.com", 1, "it is mended"),
        ("anna@desk-7", "cancel", "state=queued state=deferred tag=order", 2, "asked by the customer"),
    ]


@pytest.mark.parametrize("state", [State.SENT, State.BOUNCED, State.QUEUED, State.CANCELLED])
def test_settling_a_doubt_is_an_act_that_says_how(kept: Kept, state: State) -> None:
    add(kept.ledger, accepted())
    settle(kept.ledger, lease(kept.ledger), State.IN_DOUBT)
    kept.ledger.change(Selector(states=(State.IN_DOUBT,)), state, ANNA)
    assert acts(kept) == [("anna@desk-7", "resolve", f"state=in_doubt as {state}", 1, "asked by the customer")]


@pytest.mark.parametrize(("outcome", "verb"), [("resubmitted", "resubmit"), ("dropped", "drop")])
def test_dealing_with_a_reject_is_an_act(kept: Kept, outcome: str, verb: str) -> None:
    fields = {"reference": "task-1", "producer": "erp", "payload": "{}", "field": "to", "reason": "is no address"}
    number = kept.ledger.reject(door="celery", **fields).id
    kept.ledger.resolve_reject(number, outcome, ANNA)
    assert acts(kept) == [("anna@desk-7", verb, f"reject {number}", 1, "asked by the customer")]


def test_acts_are_listed_newest_first_since_a_time_and_up_to_a_limit(kept: Kept) -> None:
    for n in range(5):
        kept.ledger.pause("relay", f"r{n}", None, "", ANNA)
        kept.age(10)
    found = kept.ledger.acts()
    assert [act.subject for act in found] == [f"relay r{n}" for n in (4, 3, 2, 1, 0)]
    assert [act.subject for act in kept.ledger.acts(limit=2)] == ["relay r4", "relay r3"]
    assert [act.subject for act in kept.ledger.acts(since=found[2].at)] == ["relay r4", "relay r3", "relay r2"]
    assert kept.ledger.acts(since=found[0].at + 5) == []


def test_an_act_that_a_database_cannot_hold_is_kept_readable(kept: Kept) -> None:
    kept.ledger.pause("relay", "main", None, "nul \0", Actor("a\0nna", "desk"))
    assert acts(kept) == [("a\\0nna@desk", "pause", "relay main", 1, "nul \\0")]


def test_a_selector_is_named_shortly_and_completely_enough(kept: Kept) -> None:
    receipts = [add(kept.ledger, accepted(metadata={"customer": 7}, key=f"k{n}")) for n in range(8)]
    names = tuple(receipt.id for receipt in receipts)
    asked = Selector(names, metadata=(("customer", "7"),), since=0.0, lane=Lane.TRANSACTIONAL, limit=3)
    kept.ledger.change(asked, State.CANCELLED, ANNA)
    kept.ledger.change(Selector(key="k0"), State.CANCELLED, ANNA)
    assert [act.subject for act in kept.ledger.acts()] == [
        "key=k0",
        f"{' '.join(names[:5])} and 3 more customer=7 since=1970-01-01T00:00:00+00:00 lane=transactional limit=3",
    ]
