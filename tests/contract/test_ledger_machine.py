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

from dispatcher.delivery import TRANSITIONS, Lane, Lease, Selector, Settlement, State
from dispatcher.interfaces import Ledger
from dispatcher.mail import Receipt
from dispatcher.records import Pause
from dispatcher.suppression import ALL, MARKETING, Reason, Suppression
from tests.ledgers import ANNA, Balance, InMemory, InSql, Kept, accepted, lease, message, settlement

LANES = st.sampled_from(list(Lane))
ADDRESSES = st.lists(st.sampled_from("abcdef"), min_size=1, max_size=4, unique=True)
RELAYS = ["a", "b"]
OWNERS = ["folder/1", "folder/2"]
SUBJECTS = st.sampled_from([("relay", "a"), ("relay", "b"), ("lane", "bulk")])
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

    @rule(
        lane=LANES,
        names=ADDRESSES,
        together=st.booleans(),
        policy=st.sampled_from(["resend", "hold"]),
        relay=st.sampled_from([None, *RELAYS]),
    )
    def add(self, lane: Lane, names: list[str], together: bool, policy: str, relay: str | None) -> None:
        rcpts = [f"{name}@example.com" for name in names]
        mails = [message(*rcpts)] if together else [message(rcpt) for rcpt in rcpts]
        fields = {"lane": lane.value, "if_in_doubt": policy, "relay": relay, "lifetime": 500.0}
        (receipt,) = self.ledger.add([accepted(*mails, **fields)])
        assert isinstance(receipt, Receipt)
        assert receipt.accepted == len(rcpts)
        assert receipt.suppressed == len(self.ledger.suppressions.held(rcpts, None))
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
    @rule(limit=st.integers(1, 5), avoid=st.sets(st.sampled_from([None, *RELAYS])))
    def lease(self, limit: int, avoid: set[str | None]) -> None:
        lane = next(lane for lane in Lane if self.ledger.due(lane, 1))
        held = self._open()
        assert ("lane", lane.value) not in held
        due = self.ledger.due(lane, 1, avoid)
        owner = OWNERS[len(self.leases) % len(OWNERS)]
        leased = lease(self.ledger, lane, limit=limit, seconds=30.0, owner=owner, avoid=avoid)
        assert len(leased.messages) <= limit
        rcpts = [each.rcpt for message in leased.messages for each in message.deliveries]
        assert not self.ledger.suppressions.held(rcpts, None)
        assert due or not leased.messages
        assert not {each.relay for each in leased.messages} & {*avoid, *(name for _, name in held)}
        if leased.messages:  # not when all that was due has expired
            self.leases.append(leased)

    @precondition(lambda self: self.leases)
    @rule(
        data=st.data(),
        results=st.lists(RESULTS, min_size=1, max_size=8),
        due_in=st.sampled_from([0.0, 60.0]),
        crashed=st.booleans(),
    )
    def settle(self, data: st.DataObject, results: list[State], due_in: float, crashed: bool) -> None:
        leased = data.draw(st.sampled_from(self.leases[-3:]))
        count = sum(len(each.deliveries) for each in leased.messages)
        settlements = [
            settlement(leased, state, nth, due_in=due_in, attempted=state is not State.QUEUED, crashed=crashed)
            for nth, state in enumerate(results[:count])
        ]
        assert self.ledger.settle(leased.token, settlements) <= len(settlements)

    @precondition(lambda self: self.leases)
    @rule(owner=st.sampled_from(OWNERS), begun=st.integers(0, 3), known=st.booleans())
    def replay(self, owner: str, begun: int, known: bool) -> None:
        """A process is dead: what it had begun is in doubt or known, the rest goes back. It holds nothing then."""
        for held in self.ledger.held(owner):
            policies = [each.if_in_doubt for each in held.messages for _ in each.deliveries]
            back = [settlement(held, State.QUEUED, n, attempted=False, crashed=True) for n in range(len(policies))]
            settlements = [_replayed(held, n, policy, known) for n, policy in enumerate(policies[:begun])]
            settlements += back[begun:]
            assert self.ledger.settle(held.token, settlements) == len(policies)
            assert self.ledger.settle(held.token, settlements) == 0  # a second replay changes nothing
        assert self.ledger.held(owner) == []

    @rule(seconds=st.sampled_from([1.0, 31.0, 400.0]))
    def wait(self, seconds: float) -> None:
        self.kept.age(seconds)

    @rule(living=st.sets(st.sampled_from(OWNERS)), grace=st.sampled_from([0.0, 60.0]))
    def reclaim(self, living: set[str], grace: float) -> None:
        before, kept = self._count(State.LEASED), [self._held(owner) for owner in sorted(living)]
        ended = self.ledger.reclaim(living, grace)
        assert before - self._count(State.LEASED) == ended
        assert [self._held(owner) for owner in sorted(living)] == kept

    @rule(
        state=st.sampled_from([State.CANCELLED, State.QUEUED, State.SENT, State.BOUNCED]), name=st.sampled_from("abc")
    )
    def change(self, state: State, name: str) -> None:
        leased, sent = self._count(State.LEASED), self._count(State.SENT)
        self.ledger.change(Selector(to=f"{name}@example.com"), state, ANNA)
        assert self._count(State.LEASED) == leased
        assert self._count(State.SENT) >= sent

    @rule(name=st.sampled_from("abc"), scope=st.sampled_from([ALL, MARKETING]), lifted=st.booleans())
    def suppress(self, name: str, scope: str, lifted: bool) -> None:
        address, store = f"{name}@example.com", self.ledger.suppressions
        stood = {each.scope for each in store.standing(address)}
        if lifted:
            assert store.remove(address, scope, ANNA) == (scope in stood)
        else:
            assert store.add([Suppression(address, scope, Reason.HAND)], ANNA) == (scope not in stood)
        assert {each.scope for each in store.standing(address)} == (stood - {scope} if lifted else stood | {scope})

    @rule(subject=SUBJECTS, seconds=st.sampled_from([None, 20.0, 300.0]))
    def pause_by_hand(self, subject: tuple[str, str], seconds: float | None) -> None:
        made = self.ledger.pause(*subject, seconds, "by hand", ANNA)
        assert made in self.ledger.pauses()

    @rule(subject=SUBJECTS)
    def resume_by_hand(self, subject: tuple[str, str]) -> None:
        stood = subject in {(pause.kind, pause.name) for pause in self.ledger.pauses()}
        assert self.ledger.resume(*subject, ANNA) == stood
        assert subject not in {(pause.kind, pause.name) for pause in self.ledger.pauses()}

    @rule(relay=st.sampled_from(RELAYS), seconds=st.sampled_from([None, 20.0]))
    def meet_trouble(self, relay: str, seconds: float | None) -> None:
        before = self._open().get(("relay", relay))
        made = self.ledger.pause("relay", relay, seconds, "trouble")
        assert self._open()["relay", relay] == made
        if before is not None and before.actor:
            assert made == before

    @rule(relay=st.sampled_from(RELAYS), well=st.booleans(), changed=st.booleans())
    def probe(self, relay: str, well: bool, changed: bool) -> None:
        if changed:
            self.ledger.reopen(relay)
        held, half_open = self._open(), self._half_open()
        granted = [self.ledger.probe(relay, 30.0) for _ in range(2)]
        assert granted[0] <= (relay in half_open)
        assert granted[0] or not (changed and relay in half_open)
        assert not granted[1]
        if well:
            assert self.ledger.resume("relay", relay) == (relay in half_open)
            half_open.discard(relay)
        assert (self._open(), self._half_open()) == (held, half_open)

    @rule()
    def look_who_holds_what(self) -> None:
        held = [number for owner in OWNERS for numbers in self._held(owner).values() for number in numbers]
        assert len(held) == len(set(held)) == self._count(State.LEASED)

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

    def _held(self, owner: str) -> dict[str, list[int]]:
        """The deliveries of an owner's leases, by token."""
        leases = self.ledger.held(owner)
        return {lease.token: [to.id for each in lease.messages for to in each.deliveries] for lease in leases}

    def _open(self) -> dict[tuple[str, str], Pause]:
        return {(pause.kind, pause.name): pause for pause in self.ledger.pauses() if not pause.half_open}

    def _half_open(self) -> set[str]:
        found = [pause for pause in self.ledger.pauses() if pause.half_open]
        assert all((pause.kind, pause.actor) == ("relay", None) for pause in found)
        return {pause.name for pause in found}

    def _count(self, state: State) -> int:
        return sum(count for (_, each), count in self.ledger.totals().states.items() if each is state)


def _replayed(held: Lease, nth: int, policy: str, known: bool) -> Settlement:
    """What becomes of a message that was begun by a process that is dead."""
    if known:
        return settlement(held, State.SENT, nth)
    state = State.IN_DOUBT if policy == "hold" else State.QUEUED
    return settlement(held, state, nth, crashed=True, in_doubt=True)


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
