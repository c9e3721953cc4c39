"""What people do by hand, on every kind of ledger: how many are meant, large changes, wiped secrets, older versions."""

import pytest

from dispatcher.delivery import Lane, Selector, Settlement, State
from dispatcher.errors import NotFound
from dispatcher.template import TemplateVersion
from tests.ledgers import ANNA, Balance, InSql, Kept, accepted, add, lease, message, settle, states


def test_what_is_counted_is_what_is_found(kept: Kept) -> None:
    add(kept.ledger, accepted("a@example.com", "b@example.com", relay="main", producer="erp", key="k"))
    add(kept.ledger, accepted("c@example.com", lane="bulk", producer="crm", key="k", tags=("t",)))
    for selector, number in (
        (Selector(), 3),
        (Selector(relay="main"), 2),
        (Selector(relay="backup"), 0),
        (Selector(key="k"), 3),
        (Selector(key="k", producer="crm"), 1),
        (Selector(lane=Lane.BULK), 1),
        (Selector(tag="t", states=(State.SENT,)), 0),
        (Selector(ids=("k",), producer="erp"), 2),
    ):
        assert kept.ledger.count(selector) == number, selector
        assert len(list(kept.ledger.find(selector))) == number, selector
    assert kept.ledger.count(Selector(limit=1)) == 3
    with pytest.raises(NotFound):
        kept.ledger.count(Selector(ids=("nobodys",)))


def test_what_had_its_secrets_wiped_is_not_tried_again(kept: Kept) -> None:
    secretive = message("a@example.com", secrets={"url": "s"})
    half = message("b@example.com", "c@example.com", secrets={"url": "s"})
    add(kept.ledger, accepted(secretive, half, "d@example.com"))
    leased = lease(kept.ledger)
    gone = [each for each in leased.messages if len(each.deliveries) == 1]
    kept.ledger.settle(leased.token, [s for m in gone for s in _bounced(m.id, m.deliveries[0].id)])
    (both,) = (each for each in leased.messages if len(each.deliveries) == 2)
    kept.ledger.settle(leased.token, _bounced(both.id, both.deliveries[0].id))  # the other one is live still
    assert kept.ledger.count(Selector(wiped=True)) == 1
    assert kept.ledger.count(Selector(wiped=False, states=(State.BOUNCED,))) == 2
    assert kept.ledger.change(Selector(), State.QUEUED, ANNA) == 2
    assert states(kept.ledger) == {State.BOUNCED: 1, State.QUEUED: 2, State.LEASED: 1}
    (again,) = (each for each in lease(kept.ledger).messages if each.own["to"] == ["b@example.com", "c@example.com"])
    assert again.own["data"] == {"url": "s"}


def test_a_large_change_is_told_as_it_goes_and_is_one_act(kept: Kept) -> None:
    add(kept.ledger, accepted(*(f"{n}@example.com" for n in range(2300))))
    done: list[int] = []
    assert kept.ledger.change(Selector(limit=2200), State.CANCELLED, ANNA, done.append) == 2200
    assert sum(done) == 2200
    (act,) = kept.ledger.acts()
    assert (act.act, act.count) == ("cancel", 2200)
    assert Balance.of(kept.ledger) == Balance(2300, 2300)


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgres", marks=pytest.mark.server)])
def test_a_large_change_lets_others_in_between_and_meets_each_delivery_once(
    kind: str, request: pytest.FixtureRequest
) -> None:
    kept: InSql = request.getfixturevalue(f"{kind}_ledger")
    add(kept.ledger, accepted(*(f"{n}@example.com" for n in range(2300))))
    settle(kept.ledger, lease(kept.ledger, limit=3000), State.BOUNCED)
    between: list[int] = []

    def bounce_again(changed: int) -> None:  # as a worker does that is quick
        between.append(changed)
        settle(kept.ledger, lease(kept.ledger, limit=3000), State.BOUNCED)

    assert kept.ledger.change(Selector(states=(State.BOUNCED,)), State.QUEUED, ANNA, bounce_again) == 2300
    assert between == [1000, 1000, 300]
    assert states(kept.ledger) == {State.BOUNCED: 2300}


def test_the_versions_of_a_template_are_listed_newest_first(kept: Kept) -> None:
    first, second = (TemplateVersion("welcome", {"subject.txt": subject}) for subject in ("Hi", "Hello"))
    kept.ledger.put_template(first.digest, "welcome", dict(first.files))
    kept.age(60)
    kept.ledger.put_template("0" * 64, "birthday", {})
    kept.ledger.publish([second], ANNA)
    found = kept.ledger.template_versions("welcome")
    assert [digest for digest, _ in found] == [second.digest, first.digest]
    assert found[0][1] > found[1][1]
    assert kept.ledger.template_versions("nobody") == []


def _bounced(message: int, delivery: int) -> list[Settlement]:
    return [Settlement(delivery, message, State.BOUNCED, attempted=True)]
