"""What every ledger promises about the end of what it keeps: when it goes, what goes with it, and what never does."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import text

from dispatcher.adapters.sql.ledger import SqlLedger
from dispatcher.delivery import Lane, Selector, State
from dispatcher.errors import IdempotencyConflict, NotFound
from dispatcher.interfaces import Ledger
from dispatcher.mail import Accepted, Receipt
from dispatcher.retention import Retention
from tests.ledgers import (
    ANNA,
    DAY,
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

MONTH = Retention(30 * DAY)


def retire(ledger: Ledger, retention: Retention = MONTH, limit: int = 1000) -> tuple[int, int]:
    """Until there is nothing left; how many submissions and deliveries went. The sums balance at every moment."""
    submissions = deliveries = 0
    for _ in range(200):
        step = ledger.retire(retention, limit)
        assert step.deliveries <= limit
        submissions, deliveries = submissions + step.submissions, deliveries + step.deliveries
        totals = ledger.totals()
        assert totals.accepted == sum(totals.states.values())
        if not step.more:
            return submissions, deliveries
    raise AssertionError("it does not end")


def sent(ledger: Ledger, *submissions: Accepted, **fields: Any) -> Receipt:
    """Add these and send them; the receipt of the last."""
    receipt = add(ledger, *submissions)
    for each in {Lane(each.lane) for each in submissions}:
        while (leased := lease(ledger, each, **fields)).messages:
            settle(ledger, leased)
    return receipt


def test_what_is_settled_goes_after_its_retention_with_all_that_belongs_to_it(kept: Kept) -> None:
    ledger = kept.ledger
    first = sent(ledger, accepted(message("a@example.com", "b@example.com"), message("c@example.com")))
    kept.age(20 * DAY)
    second = sent(ledger, accepted())
    assert retire(ledger) == (0, 0)
    kept.age(11 * DAY)
    assert retire(ledger) == (1, 3)
    assert Balance.of(ledger) == Balance(1, 1)
    with pytest.raises(NotFound):
        ledger.submission(first.id)
    assert one(ledger, second.id).state is State.SENT
    kept.age(20 * DAY)
    assert retire(ledger) == (1, 1)
    assert Balance.of(ledger) == Balance(0, 0)
    assert ledger.retire(MONTH, 1000).more is False


def test_the_clock_runs_from_the_last_change(kept: Kept) -> None:
    ledger = kept.ledger
    add(ledger, accepted("a@example.com", "b@example.com"))
    leased = lease(ledger)
    ledger.settle(leased.token, [settlement(leased, State.SENT, 0), settlement(leased, State.BOUNCED, 1)])
    kept.age(20 * DAY)
    assert ledger.change(Selector(states=(State.BOUNCED,)), State.QUEUED, ANNA) == 1
    kept.age(20 * DAY)
    assert retire(ledger) == (0, 0)  # one is queued again
    assert ledger.change(Selector(states=(State.QUEUED,)), State.CANCELLED, ANNA) == 1
    kept.age(29 * DAY)
    assert retire(ledger) == (0, 0)
    kept.age(2 * DAY)
    assert retire(ledger) == (1, 2)


@pytest.mark.parametrize("state", [State.QUEUED, State.DEFERRED, State.LEASED, State.IN_DOUBT])
def test_what_is_not_settled_never_goes_nor_do_its_fellows(kept: Kept, state: State) -> None:
    ledger = kept.ledger
    add(ledger, accepted("a@example.com", "b@example.com", lifetime=900 * DAY))
    leased = lease(ledger, seconds=900 * DAY)
    other = [] if state is State.LEASED else [settlement(leased, state, 1, due_in=500 * DAY)]
    ledger.settle(leased.token, [settlement(leased, State.SENT, 0), *other])
    kept.age(400 * DAY)
    assert retire(ledger) == (0, 0)
    assert states(ledger) == {State.SENT: 1, state: 1}


def test_a_tag_goes_before_the_lane_and_of_several_tags_the_longest_counts(kept: Kept) -> None:
    ledger = kept.ledger
    retention = Retention(
        50 * DAY, {Lane.BULK: 10 * DAY}, {"invoice": 300 * DAY, "odd\"ö'%": 20 * DAY, "hello": 5 * DAY}
    )
    wanted = {
        5: accepted(tags=("hello",)),
        10: accepted(lane="bulk", tags=("other", "invoices")),
        20: accepted(lane="bulk", tags=("hello", "odd\"ö'%")),
        50: accepted(),
        300: accepted(lane="bulk", tags=("hello", "invoice")),
    }
    receipts = {days: sent(ledger, each) for days, each in wanted.items()}
    passed = 0.0
    for days, receipt in receipts.items():
        kept.age((days - 0.5 - passed) * DAY)
        assert retire(ledger, retention) == (0, 0)
        kept.age(DAY)
        passed = days + 0.5
        assert retire(ledger, retention) == (1, 1)
        with pytest.raises(NotFound):
            ledger.submission(receipt.id)


def test_a_large_submission_goes_piece_by_piece(kept: Kept) -> None:
    ledger = kept.ledger
    large = sent(ledger, accepted(*(message(f"a{n}@example.com", f"b{n}@example.com") for n in range(40))), limit=1000)
    small = [sent(ledger, accepted()) for _ in range(5)]
    kept.age(31 * DAY)
    seen = set()
    while True:
        step = ledger.retire(MONTH, 15)
        if not step.more:
            break
        assert step.deliveries <= 15
        balance = Balance.of(ledger)
        assert balance.accepted == balance.found
        if balance.found > 5:
            record = ledger.submission(large.id)
            assert record.accepted == sum(record.states.values()) == balance.found - 5  # the oldest goes first
            seen.add(record.accepted)
    assert {65, 50, 35, 20} <= seen
    assert Balance.of(ledger) == Balance(0, 0)
    for receipt in small:
        with pytest.raises(NotFound):
            ledger.submission(receipt.id)


def test_what_is_tried_again_while_the_rest_goes_stays(kept: Kept) -> None:
    ledger = kept.ledger
    receipt = add(ledger, accepted(*(f"{n}@example.com" for n in range(30))))
    settle(ledger, lease(ledger), State.BOUNCED)
    kept.age(31 * DAY)
    while states(ledger)[State.BOUNCED] == 30:
        ledger.retire(MONTH, 10)
    left = next(iter(ledger.find(Selector(ids=(receipt.id,)))))
    assert ledger.change(Selector(ids=(left.id,)), State.QUEUED, ANNA) == 1
    assert retire(ledger) == (0, 0)  # nor do its fellows that were left
    assert Balance.of(ledger) == Balance(20, 20)
    assert one(ledger, left.id).state is State.QUEUED
    assert ledger.change(Selector(ids=(left.id,)), State.CANCELLED, ANNA) == 1
    assert retire(ledger) == (0, 0)  # its retention begins again
    kept.age(31 * DAY)
    assert retire(ledger) == (1, 20)


def test_what_was_tried_again_and_is_over_meanwhile_keeps_the_rest_for_a_whole_retention(kept: Kept) -> None:
    ledger = kept.ledger
    receipt = add(ledger, accepted(*(f"{n}@example.com" for n in range(30))))
    settle(ledger, lease(ledger), State.BOUNCED)
    kept.age(31 * DAY)
    while states(ledger)[State.BOUNCED] == 30:
        ledger.retire(MONTH, 10)
    left = next(iter(ledger.find(Selector(ids=(receipt.id,)))))
    assert ledger.change(Selector(ids=(left.id,)), State.QUEUED, ANNA) == 1
    settle(ledger, lease(ledger))
    assert retire(ledger) == (0, 0)
    assert states(ledger) == {State.BOUNCED: 19, State.SENT: 1}


def test_a_key_is_remembered_for_its_time_though_its_submission_is_gone(kept: Kept) -> None:
    ledger = kept.ledger
    week = Retention(7 * DAY)
    first = sent(ledger, accepted(key="k", producer="erp"))
    kept.age(8 * DAY)
    assert retire(ledger, week) == (1, 1)
    again = add(ledger, accepted(key="k", producer="erp"))
    assert (again.id, again.duplicate, again.accepted, again.state) == (first.id, True, 1, "settled")
    (other,) = ledger.add([accepted(key="k", producer="erp", fingerprints={"subject": "other"})])
    assert isinstance(other, IdempotencyConflict)
    kept.age(23 * DAY)
    retire(ledger, week)
    new = sent(ledger, accepted(key="k", producer="erp"))
    assert not new.duplicate
    kept.age(31 * DAY)
    retire(ledger, week)
    assert not add(ledger, accepted(key="k", producer="erp")).duplicate


def test_only_rejects_that_are_resolved_go(kept: Kept) -> None:
    ledger = kept.ledger
    numbers = [
        ledger.reject(door="task", reference=f"{n}", producer="", payload="{}", field="", reason="x").id
        for n in range(3)
    ]
    kept.age(200 * DAY)
    ledger.resolve_reject(numbers[0], "dropped", ANNA)
    retire(ledger)
    assert len(ledger.rejects(open_only=False)) == 3
    kept.age(31 * DAY)
    ledger.resolve_reject(numbers[1], "dropped", ANNA)
    retire(ledger)
    assert [each.id for each in ledger.rejects(open_only=False)] == [numbers[2], numbers[1]]
    made = ledger.reject(door="task", reference="new", producer="", payload="{}", field="", reason="x")
    assert made.id not in numbers


def test_acts_are_kept_for_a_year_at_least(kept: Kept) -> None:
    ledger = kept.ledger
    ledger.pause("lane", "bulk", None, "x", ANNA)
    kept.age(364 * DAY)
    retire(ledger)
    assert len(ledger.acts()) == 1
    kept.age(2 * DAY)
    retire(ledger, Retention(400 * DAY))
    assert len(ledger.acts()) == 1
    retire(ledger)
    assert ledger.acts() == []


def test_the_pause_of_a_submission_goes_with_it(kept: Kept) -> None:
    ledger = kept.ledger
    gone, stays = sent(ledger, accepted()), add(ledger, accepted())
    for receipt in (gone, stays):
        ledger.pause("submission", receipt.id, None, "x", ANNA)
    kept.age(31 * DAY)
    assert retire(ledger) == (1, 1)
    assert [pause.name for pause in ledger.pauses()] == [stays.id]


def file(blob: str) -> dict[str, Any]:
    return {"blob": blob, "size": 1, "content_type": "application/pdf", "filename": "a.pdf"}


BLOBS = tuple(digit * 64 for digit in "abcdef")


def with_files(**fields: Any) -> Accepted:
    """Shared a and b, b again and c with one recipient, d with another."""
    return accepted(
        message("a@example.com", attachments=[file(BLOBS[1]), file(BLOBS[2])]),
        message("b@example.com", attachments=[file(BLOBS[3])]),
        message("c@example.com"),
        shared={"from": "erp@example.com", "subject": "S", "text": "T", "attachments": [file(b) for b in BLOBS[:2]]},
        **fields,
    )


def test_an_attachment_is_used_as_long_as_a_submission_is_kept_that_has_it(kept: Kept) -> None:
    ledger = kept.ledger
    assert ledger.unused(BLOBS) == list(BLOBS)
    sent(ledger, with_files(), accepted())
    assert ledger.unused(BLOBS) == list(BLOBS[4:])
    kept.age(20 * DAY)
    sent(ledger, accepted(message("a@example.com", attachments=[file(BLOBS[1]), file(BLOBS[4])])))
    assert ledger.unused([]) == []
    kept.age(11 * DAY)
    assert retire(ledger) == (2, 4)
    assert ledger.unused(BLOBS) == [BLOBS[0], BLOBS[2], BLOBS[3], BLOBS[5]]


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.server)])
def sql(request: pytest.FixtureRequest) -> InSql:
    found: InSql = request.getfixturevalue(f"{request.param}_ledger")
    return found


def forget_uses(sql: InSql) -> None:
    """As a program of schema 1.0 takes mail in."""
    with sql.engine.connect().execution_options(writing=True) as connection, connection.begin():
        connection.execute(text("DELETE FROM blob_uses"))
        connection.execute(text("UPDATE submissions SET blobs_noted = NULL"))


def test_as_long_as_the_attachments_of_one_submission_are_not_known_none_is_unused(sql: InSql) -> None:
    ledger = sql.ledger
    add(ledger, with_files(), *(accepted() for _ in range(600)))
    forget_uses(sql)
    add(ledger, with_files())
    assert ledger.unused(BLOBS) == []
    assert ledger.retire(MONTH, 1000).more
    assert ledger.unused(BLOBS) == []
    retire(ledger)
    assert ledger.unused(BLOBS) == list(BLOBS[4:])
    with sql.engine.connect() as connection:
        uses = connection.execute(text("SELECT submission_id, blob FROM blob_uses ORDER BY 1, 2")).all()
    numbers = sorted({number for number, _ in uses})
    assert uses == [(number, blob) for number in numbers for blob in BLOBS[:4]]
    assert len(numbers) == 2


def test_two_who_retire_at_the_same_time_take_each_delivery_out_once(sql: InSql) -> None:
    ledger = sql.ledger
    sent(ledger, accepted(*(message(f"a{n}@example.com", f"b{n}@example.com") for n in range(300))), limit=1000)
    for _ in range(3):
        sent(ledger, *(accepted() for _ in range(50)), limit=1000)
    sql.age(31 * DAY)
    start = threading.Barrier(3)

    def act(_: int) -> int:
        mine = SqlLedger(sql.url)
        start.wait(10)
        total = 0
        while (step := mine.retire(MONTH, 40)).more:
            total += step.deliveries
        mine.close()
        return total

    with ThreadPoolExecutor(3) as pool:
        assert sum(pool.map(act, range(3))) == 750
    retire(ledger)  # what was left to the other by each of two
    assert Balance.of(ledger) == Balance(0, 0)
    with sql.engine.connect() as connection:
        for table in ("submissions", "messages", "deliveries", "attempts"):
            assert connection.execute(text(f"SELECT count(*) FROM {table}")).scalar() == 0
