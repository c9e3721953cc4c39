"""What every ledger tells whoever proves its sums: each delivery once, its doubts, its lease, and what is missing."""

import pytest
from sqlalchemy import text

from dispatcher.adapters.sql import proving
from dispatcher.delivery import Selector, State
from dispatcher.ledger import HOST_LOST
from dispatcher.records import Account
from dispatcher.reply import Phase
from dispatcher.retention import Retention
from tests.ledgers import ANNA, DAY, InMemory, InSql, Kept, accepted, add, lease, message, one, settle, settlement


def only(kept: Kept) -> Account:
    (found,) = kept.ledger.accounts()
    return found


def test_an_empty_ledger_has_no_accounts(kept: Kept) -> None:
    assert list(kept.ledger.accounts()) == []
    assert kept.ledger.unbalanced() == []


def test_each_delivery_is_met_once_whatever_a_page_holds(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proving, "_PAGE", 3)
    for count in (1, 5, 3):
        add(kept.ledger, accepted(*(message(f"a{n}@example.com", f"b{n}@example.com") for n in range(count))))
        found = list(kept.ledger.accounts())
        records = {record.id: record for record in kept.ledger.find(Selector())}
        assert len(found) == len(records)
        assert {account.id for account in found} == set(records)
        for account in found:
            record = records[account.id]
            assert (account.message, account.rcpt) == (record.message_id, record.rcpt)
            assert account == Account(record.id, record.message_id, record.rcpt, State.QUEUED)


def test_what_is_added_meanwhile_is_left_to_the_next_time(kept: Kept) -> None:
    add(kept.ledger, accepted("a@example.com", "b@example.com"))
    accounts = kept.ledger.accounts()
    first = next(accounts)
    add(kept.ledger, accepted("c@example.com"))
    assert sorted([first.rcpt, *(each.rcpt for each in accounts)]) == ["a@example.com", "b@example.com"]


def test_a_doubt_is_counted_however_it_came(kept: Kept) -> None:
    add(kept.ledger, accepted())
    settle(kept.ledger, lease(kept.ledger), State.QUEUED, phase=Phase.FINAL, text="timed out")
    assert only(kept).doubts == 1
    settle(kept.ledger, lease(kept.ledger), State.QUEUED, in_doubt=True, crashed=True, attempted=False)
    assert only(kept).doubts == 2
    settle(kept.ledger, lease(kept.ledger), State.IN_DOUBT, phase=Phase.FINAL)
    assert (only(kept).doubts, only(kept).state) == (3, State.IN_DOUBT)
    kept.ledger.change(Selector(), State.QUEUED, ANNA)
    settle(kept.ledger, lease(kept.ledger), State.SENT, phase=Phase.FINAL, code=250)
    assert only(kept).doubts == 3
    assert (only(kept).state, only(kept).host_lost) == (State.SENT, 0)


@pytest.mark.parametrize(
    "known",
    [
        {"phase": Phase.FINAL, "code": 450},
        {"phase": Phase.DATA},
        {"phase": Phase.CONNECT, "attempted": False},
        {"attempted": False, "crashed": True},
    ],
)
def test_what_is_known_to_be_unsent_is_no_doubt(kept: Kept, known: dict[str, object]) -> None:
    add(kept.ledger, accepted())
    for _ in range(2):
        settle(kept.ledger, lease(kept.ledger), State.QUEUED, **known)
        assert only(kept).doubts == 0


def test_the_doubts_of_one_are_not_those_of_another(kept: Kept) -> None:
    add(kept.ledger, accepted(message("a@example.com", "b@example.com"), message("c@example.com")))
    leased = lease(kept.ledger)
    last = settlement(leased, State.QUEUED, 2, phase=Phase.FINAL)
    kept.ledger.settle(leased.token, [settlement(leased, State.SENT, 0, phase=Phase.FINAL, code=250), last])
    kept.age(61)
    assert kept.ledger.reclaim() == 1
    found = {account.rcpt[0]: (account.doubts, account.host_lost) for account in kept.ledger.accounts()}
    assert found == {"a": (0, 0), "b": (1, 1), "c": (1, 0)}


def test_a_lost_host_is_counted_each_time(kept: Kept) -> None:
    add(kept.ledger, accepted())
    for times in (1, 2):
        lease(kept.ledger, seconds=60)
        kept.age(61)
        assert kept.ledger.reclaim() == 1
        assert one(kept.ledger).text == HOST_LOST
        assert (only(kept).doubts, only(kept).host_lost) == (times, times)
    settle(kept.ledger, lease(kept.ledger), phase=Phase.FINAL, code=250)
    assert (only(kept).doubts, only(kept).host_lost) == (2, 2)


def test_a_lease_is_overdue_from_its_term_on(kept: Kept) -> None:
    add(kept.ledger, accepted())
    assert only(kept).overdue == 0
    leased = lease(kept.ledger, seconds=60)
    assert only(kept).overdue == 0
    kept.age(100)
    assert only(kept).overdue == pytest.approx(40, abs=5)
    settle(kept.ledger, leased)
    assert only(kept).overdue == 0


def test_a_persons_word_is_told_from_a_relays(kept: Kept) -> None:
    add(kept.ledger, accepted("a@example.com", "b@example.com", "c@example.com"))
    leased = lease(kept.ledger)
    kinds = (State.IN_DOUBT, State.IN_DOUBT, State.SENT)
    kept.ledger.settle(leased.token, [settlement(leased, state, nth) for nth, state in enumerate(kinds)])
    kept.ledger.change(Selector(to="a@example.com"), State.SENT, ANNA)
    kept.ledger.settle(leased.token, [settlement(leased, State.SENT, 1)])  # what was known all the time
    found = {account.rcpt[0]: (account.state, account.by_hand) for account in kept.ledger.accounts()}
    assert found == {"a": (State.SENT, True), "b": (State.SENT, False), "c": (State.SENT, False)}


def test_what_retention_takes_out_in_pieces_is_not_missed(kept: Kept) -> None:
    add(kept.ledger, accepted("a@example.com", "b@example.com", "c@example.com"), accepted("d@example.com"))
    settle(kept.ledger, lease(kept.ledger))
    kept.age(2 * DAY)
    for left in (3, 2, 1, 0):
        kept.ledger.retire(Retention(DAY), 1)
        assert len(list(kept.ledger.accounts())) == left
        assert kept.ledger.unbalanced() == []


@pytest.mark.parametrize("left", [0, 1, 2])
def test_a_row_that_is_gone_is_missed(kept: Kept, left: int) -> None:
    receipt = add(kept.ledger, accepted("a@example.com", "b@example.com", "c@example.com"))
    add(kept.ledger, accepted("d@example.com"))
    _take_out(kept, receipt.id, left)
    assert kept.ledger.unbalanced() == [(receipt.id, 3, left)]


def _take_out(kept: Kept, submission: str, left: int) -> None:
    """Rows that vanish, as no code of ours lets them."""
    if isinstance(kept, InMemory):
        for each in kept.ledger._store.submissions[submission].messages[left:]:
            each.deliveries.clear()
        return
    assert isinstance(kept, InSql)
    rows = "SELECT d.id FROM deliveries d JOIN submissions s ON s.id = d.submission_id WHERE s.public_id = :id"
    with kept.engine.connect().execution_options(writing=True) as connection, connection.begin():
        found = list(connection.execute(text(f"{rows} ORDER BY d.id"), {"id": submission}).scalars())
        for number in found[left:]:
            connection.execute(text("DELETE FROM deliveries WHERE id = :number"), {"number": number})
