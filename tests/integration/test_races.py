"""Processes that share a ledger in SQL: of those that do the same at the same time, one does it."""

import multiprocessing
import os
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import text

from dispatcher.adapters.sql.ledger import SqlLedger
from dispatcher.template import TemplateVersion
from tests.ledgers import ANNA, InSql


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.server)])
def shared(request: pytest.FixtureRequest) -> InSql:
    """A ledger that processes may share."""
    found: InSql = request.getfixturevalue(f"{request.param}_ledger")
    return found


def race(shared: InSql, count: int, act: Callable[[SqlLedger], Any]) -> list[Any]:
    """What so many processes are answered that do the same at the same time, each over connections of its own."""
    context = multiprocessing.get_context("fork")
    gate, answers = context.Barrier(count), context.SimpleQueue()

    def run() -> None:
        ledger = SqlLedger(shared.url)
        ledger.pauses()  # it is connected before the start
        gate.wait(60)
        answers.put(act(ledger))
        ledger.close()

    children = [context.Process(target=run) for _ in range(count)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0] * count
    return [answers.get() for _ in range(count)]


def test_of_many_processes_one_may_probe(shared: InSql) -> None:
    shared.ledger.pause("relay", "main", 5, "cannot connect")
    shared.age(6)
    granted = race(shared, 10, lambda ledger: ledger.probe("main", 60))
    assert sorted(granted) == [False] * 9 + [True]


def test_of_processes_that_lift_a_pause_one_does_and_it_is_one_act(shared: InSql) -> None:
    shared.ledger.pause("relay", "main", 5, "cannot connect")
    lifted = race(shared, 8, lambda ledger: ledger.resume("relay", "main", ANNA))
    assert sorted(lifted) == [False] * 7 + [True]
    assert [act.act for act in shared.ledger.acts()] == ["resume"]


def test_a_message_that_came_through_lifts_no_pause_that_is_made_meanwhile(shared: InSql) -> None:
    names = [f"r{n}" for n in range(10)]
    for name in names:
        shared.ledger.pause("relay", name, 5, "cannot connect")
    shared.age(6)

    def act(ledger: SqlLedger) -> None:
        for name in names:
            if os.getpid() % 2:
                ledger.pause("relay", name, 60, "trouble again")
            ledger.resume("relay", name)

    race(shared, 6, act)
    assert [pause.half_open for pause in shared.ledger.pauses()] == [False] * len(names)


def test_a_pause_that_an_older_program_sets_by_hand_is_over_at_its_end(shared: InSql) -> None:
    shared.ledger.pause("relay", "main", 5, "cannot connect")
    with shared.engine.connect().execution_options(writing=True) as connection, connection.begin():
        connection.execute(text("UPDATE pauses SET actor = 'anna@desk-7'"))  # it knows no probes
    shared.age(6)
    assert shared.ledger.pauses() == []
    assert not shared.ledger.probe("main", 60)


def test_of_two_publishers_one_changes_each_template(shared: InSql) -> None:
    names = [f"t{n}" for n in range(20)]
    for body in ("1", "2", "3"):
        versions = [TemplateVersion(name, {"body.txt": body}) for name in names]
        changed = race(shared, 2, lambda ledger, versions=versions: len(ledger.publish(versions, ANNA)))
        assert sorted(changed) == [0, 20]
        assert {each.digest for each in shared.ledger.publications().values()} == {each.digest for each in versions}
    assert len(shared.ledger.acts()) == 60
