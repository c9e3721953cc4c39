"""Whatever is done to a ledger, in whatever order: it balances, and only what may change does."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from dispatcher.delivery import TRANSITIONS, Lane, Lease, Selector, State
from dispatcher.interfaces import Ledger
from dispatcher.mail import Receipt
from tests.ledgers import ANNA, Balance, InMemory, InSql, Kept, accepted, lease, message, settlement

LANES = st.sampled_from(list(Lane))
ADDRESSES = st.lists(st.sampled_from("abcdef"), min_size=1, max_size=4, unique=True)
RESULTS = st.sampled_from([*sorted(TRANSITIONS[State.LEASED]), *State])  # mostly what a worker may say


class LedgerMachine(RuleBasedStateMachine):
    """Producers, workers that live or die, and people, all at one ledger."""

    kept: Kept

    def __init__(self) -> None:
        super().__init__()
        self.leases: list[Lease] = []
        self.keys: dict[str, str] = {}
        self.expected = 0
        self.seen: dict[str, State] = {}

    @property
    def ledger(self) -> Ledger:
        return self.kept.ledger

    @rule(lane=LANES, names=ADDRESSES, together=st.booleans(), policy=st.sampled_from(["resend", "hold"]))
    def add(self, lane: Lane, names: list[str], together: bool, policy: str) -> None:
        rcpts = [f"{name}@example.com" for name in names]
        mails = [message(*rcpts)] if together else [message(rcpt) for rcpt in rcpts]
        (receipt,) = self.ledger.add([accepted(*mails, lane=lane.value, if_in_doubt=policy, lifetime=500.0)])
        assert isinstance(receipt, Receipt)
        assert receipt.accepted == len(rcpts)
        self.expected += len(rcpts)

    @rule(key=st.sampled_from("kl"), content=st.sampled_from("12"))
    def add_with_key(self, key: str, content: str) -> None:
        (answer,) = self.ledger.add([accepted(key=key, fingerprints={"subject": content})])
        first = self.keys.setdefault(key, content)
        if first != content:
            assert not isinstance(answer, Receipt)
            return
        assert isinstance(answer, Receipt)
        self.expected += not answer.duplicate

    @precondition(lambda self: any(self.ledger.due(lane, 1) for lane in Lane))
    @rule(limit=st.integers(1, 5))
    def lease(self, limit: int) -> None:
        lane = next(lane for lane in Lane if self.ledger.due(lane, 1))
        leased = lease(self.ledger, lane, limit=limit, seconds=30.0)
        assert len(leased.messages) <= limit
        if leased.messages:  # not when all that was due has expired
            self.leases.append(leased)

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), results=st.lists(RESULTS, min_size=1, max_size=8), due_in=st.sampled_from([0.0, 60.0]))
    def settle(self, data: st.DataObject, results: list[State], due_in: float) -> None:
        leased = data.draw(st.sampled_from(self.leases[-3:]))
        count = sum(len(each.deliveries) for each in leased.messages)
        settlements = [
            settlement(leased, state, nth, due_in=due_in, attempted=state is not State.QUEUED)
            for nth, state in enumerate(results[:count])
        ]
        assert self.ledger.settle(leased.token, settlements) <= len(settlements)

    @rule(seconds=st.sampled_from([1.0, 31.0, 400.0]))
    def wait(self, seconds: float) -> None:
        self.kept.age(seconds)

    @rule()
    def reclaim(self) -> None:
        before = self._count(State.LEASED)
        ended = self.ledger.reclaim()
        assert before - self._count(State.LEASED) == ended

    @rule(
        state=st.sampled_from([State.CANCELLED, State.QUEUED, State.SENT, State.BOUNCED]), name=st.sampled_from("abc")
    )
    def change(self, state: State, name: str) -> None:
        leased, sent = self._count(State.LEASED), self._count(State.SENT)
        self.ledger.change(Selector(to=f"{name}@example.com"), state, ANNA)
        assert self._count(State.LEASED) == leased
        assert self._count(State.SENT) >= sent

    @invariant()
    def it_balances(self) -> None:
        assert Balance.of(self.ledger) == Balance(self.expected, self.expected)

    @invariant()
    def states_change_only_as_the_table_says(self) -> None:
        now = {record.id: record.state for record in self.ledger.find(Selector())}
        for name, state in self.seen.items():
            assert now[name] in {state, *TRANSITIONS[state]}, f"{state} became {now[name]}"
        self.seen = now

    @invariant()
    def a_delivery_has_one_owner(self) -> None:
        owners = dict[int, str]()
        for leased in self.leases:
            for each in leased.messages:
                for delivery in each.deliveries:
                    owners[delivery.id] = leased.token  # the newest lease of it is the only one that may settle
        older = [
            (leased.token, delivery.id)
            for leased in self.leases
            for each in leased.messages
            for delivery in each.deliveries
            if owners[delivery.id] != leased.token
        ]
        for token, number in older:
            (mine,) = (one for one in self.leases if one.token == token)
            nth = [d.id for each in mine.messages for d in each.deliveries].index(number)
            assert self.ledger.settle(token, [settlement(mine, State.SENT, nth)]) == 0

    def _count(self, state: State) -> int:
        return sum(count for (_, each), count in self.ledger.totals().states.items() if each is state)


SETTINGS: dict[str, Any] = {"stateful_step_count": 40, "deadline": None, "suppress_health_check": list(HealthCheck)}


def test_a_ledger_in_memory_holds_under_any_order_of_events() -> None:
    class Machine(LedgerMachine):
        def __init__(self) -> None:
            super().__init__()
            self.kept = InMemory()

    run_state_machine_as_test(Machine, settings=settings(max_examples=200, **SETTINGS))


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=tmp_path) as name:
        yield Path(name)


def test_a_ledger_on_sqlite_holds_under_any_order_of_events(sqlite_template: Path, folder: Path) -> None:
    class Machine(LedgerMachine):
        def __init__(self) -> None:
            super().__init__()
            shutil.copy(sqlite_template, folder / "ledger.db")
            self.sql = InSql(f"sqlite:///{folder / 'ledger.db'}")
            self.kept = self.sql

        def teardown(self) -> None:
            self.sql.close()
            for path in folder.iterdir():
                path.unlink()

    run_state_machine_as_test(Machine, settings=settings(max_examples=30, **SETTINGS))
