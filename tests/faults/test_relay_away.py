"""Relays are away in every way at once, with mail waiting for each: no attempt is spent, nothing bounces, one message
at a time tries each of them, and all of it goes out when they are back. Then a relay breaks off at every step."""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from dispatcher.adapters.sql.ledger import SqlLedger
from dispatcher.delivery import Actor, Selector, State
from dispatcher.records import DeliveryRecord
from dispatcher.reply import Phase
from dispatcher.servers.connection import Connection
from dispatcher.servers.sink import Rule, Script, Sink
from tests import orders
from tests.faults.world import World, make_world
from tests.servers import free_port
from tests.sizes import sized
from tests.smtpd import Certificates
from tests.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(sized(300, 3 * 3600))]
WAITING = sized(600, 10_000)  # mails, over all relays
DOWN = sized(15.0, 3600.0)  # seconds that the relays are away
BACK = 20.0  # seconds after which a relay that is back must have had mail
FOR_EVER = 1e6
ILL = {
    "silent": Rule(phase=Phase.CONNECT, hold=FOR_EVER),
    "closing": Rule(phase=Phase.CONNECT, reply="421 4.3.2 Down for maintenance"),
    "dropping": Rule(phase=Phase.CONNECT, drop=True),
}
SAID = {
    "refused": "Connection refused",
    "silent": "timed out at connect",
    "closing": "421 4.3.2 Down for maintenance",
    "dropping": "connection closed at connect",
    "locked": "535",
    "stranger": "the certificate does not hold",
}


class Counted(Sink):
    """Knows how many connections came, and the most that were open at once."""

    came = most = 0

    def _connection(self) -> Connection:
        self.came += 1
        self.most = max(self.most, len(self._connections) + 1)
        return super()._connection()

    def count_anew(self) -> None:
        self.came = self.most = 0


class Relays:
    """One relay for each way to be away, and one that is well (``default``, the world's sink); how each comes back."""

    def __init__(self, folder: Path, ending: ExitStack) -> None:
        for name in ("right", "wrong", "secrets"):
            (folder / name).mkdir()
        self._right = Certificates.make(folder / "right")
        self.folder, self._ending = folder, ending
        port = free_port()
        self.settings = {"refused": f"smtp://127.0.0.1:{port}?tls=none"}
        self.sinks: dict[str, Counted] = {}
        self.back: dict[str, Callable[[], Any]] = {"refused": lambda: self._start("refused", port=port)}
        for name, rule in ILL.items():
            self._start(name, rules=[rule])
            self.back[name] = lambda name=name: self.sinks[name].follow(Script())  # type: ignore[misc]  # as it is now
        locked = self._start("locked", users={"erp": "n3w-pass"})
        self.settings["locked"] = f"smtp://erp@127.0.0.1:{locked.port}?tls=none&insecure_auth=1"
        self._write_password("0ld-pass")
        self.back["locked"] = lambda: self._write_password("n3w-pass")
        wrong = Certificates.make(folder / "wrong", "mail.example.org")
        stranger = self._start("stranger", tls=wrong.context)
        self.back["stranger"] = lambda: self._prove_identity(stranger.port)

    @property
    def environment(self) -> dict[str, str]:
        found = {"DISPATCHER_SECRETS_DIR": str(self.folder / "secrets")}
        for name, url in self.settings.items():
            relay = f"DISPATCHER_RELAYS__{name.upper()}"
            found |= {f"{relay}__URL": url, f"{relay}__PRIORITY": "1"}
            found |= {f"{relay}__TIMEOUTS__{phase}": "3" for phase in ("CONNECT", "COMMAND", "FINAL")}
        (self.folder / "both.pem").write_text(
            "".join((self.folder / which / "ca.pem").read_text() for which in ("right", "wrong"))
        )
        found["DISPATCHER_RELAYS__STRANGER__CA_FILE"] = str(self.folder / "both.pem")
        return found

    @property
    def records(self) -> list[Path]:
        return sorted(self.folder.glob("*.jsonl"))

    def _start(self, name: str, **options: Any) -> Counted:
        sink = Counted(record=self.folder / f"{name}.jsonl", **options)
        self._ending.enter_context(sink)
        self.sinks[name] = sink
        self.settings.setdefault(name, sink.url)
        return sink

    def _write_password(self, password: str) -> None:
        new = self.folder / "new"
        new.write_text(password)
        new.replace(self.folder / "secrets" / "relays__locked__password")

    def _prove_identity(self, port: int) -> None:
        self.sinks["stranger"].stop()
        self._start("stranger", tls=self._right.context, port=port)


@pytest.fixture
def relays(tmp_path: Path) -> Iterator[Relays]:
    (tmp_path / "relays").mkdir()
    with ExitStack() as ending:
        yield Relays(tmp_path / "relays", ending)


def mail(n: int, **change: Any) -> dict[str, Any]:
    plain = {"from": "shop@example.com", "to": [f"buyer{n}@example.com"], "subject": f"Mail {n}", "text": "Hello"}
    return plain | change


def submit(world: World, mails: Sequence[dict[str, Any]]) -> None:
    done = world.stack.run("submit", "-", stdin="".join(f"{json.dumps(each)}\n" for each in mails))
    assert done.returncode == 0, done.stderr
    world.submitted += len(mails)


def records(world: World) -> list[DeliveryRecord]:
    ledger = SqlLedger(world.ledger_url)
    found = list(ledger.find(Selector()))
    ledger.close()
    return found


def test_relays_that_are_away_cost_nothing_and_are_used_when_they_are_back(
    tmp_path: Path, relays: Relays, record_property: Callable[[str, object], None]
) -> None:
    with make_world("sqlite+valkey", tmp_path, final_seconds=0, **relays.environment) as world:
        names = sorted(SAID)
        submit(world, [mail(n, relay=names[n % len(names)]) for n in range(WAITING)])

        def away() -> bool:
            found = world.stack.json("status")["relays"]
            return all(SAID[name] in (found[name]["reason"] or "") for name in names)

        wait_for(away, 60)
        wait_for(lambda: not any(len(sink._connections) > 1 for sink in relays.sinks.values()))
        for sink in relays.sinks.values():
            sink.count_anew()
        submit(world, [mail(WAITING + n) for n in range(20)])  # for whatever relay is well
        until = time.monotonic() + DOWN
        wait_for(lambda: world.taken() == 20, BACK)
        time.sleep(max(0.0, until - time.monotonic()))

        for name, sink in relays.sinks.items():
            assert sink.most <= 1, f"{name}: {sink.came} connections, {sink.most} at once"
            assert sink.came or name == "locked", f"nobody tried {name}"  # a password is tried less and less often
        states = Counter(record.state for record in records(world))
        assert states.pop(State.LEASED, 0) <= len(names)  # those that try it
        assert set(states) == {State.QUEUED, State.SENT}
        assert states[State.SENT] == 20
        assert {record.attempts for record in records(world) if record.state is State.QUEUED} == {0}

        began = time.monotonic()
        for come_back in relays.back.values():
            come_back()
        for name in names:
            sink = relays.sinks[name]
            wait_for(lambda sink=sink: sink.recording.count > 0, BACK - (time.monotonic() - began))  # type: ignore[misc]
            record_property(f"{name}_back_seconds", round(time.monotonic() - began, 1))
        world.settle(120)
        files = [word for record in (world.record, *relays.records) for word in ("--sink", str(record))]
        proof = world.stack.json("verify", *files)
        assert (proof["ok"], proof["sent"], proof["sink"]) == (True, WAITING + 20, WAITING + 20), proof
        assert {record.attempts for record in records(world)} == {1}
        assert not {word for word in ("0ld-pass", "n3w-pass") if word in world.stack.log()}


BREAKS = """
[[rule]]
phase = "mail"
address = "mail@*"
times = 1
drop = true

[[rule]]
phase = "rcpt"
address = "rcpt*"
times = 1
drop = true

[[rule]]
phase = "data"
address = "body*"
times = 1
body_bytes = 100
drop = true

[[rule]]
phase = "final"
address = "lost*"
times = 1
drop = true

[[rule]]
phase = "final"
address = "kept*"
times = 1
accept = true
drop = true

[[rule]]
phase = "final"
address = "late*"
times = 1
accept = true
hold = "6s"
"""
KNOWN, UNKNOWN = ("mail", "rcpt", "body"), ("lost", "kept", "late")


def test_only_silence_after_the_final_dot_is_in_doubt(tmp_path: Path) -> None:
    often = {"DISPATCHER_RETRY__SCHEDULE": '["1s"]', "DISPATCHER_RELAYS__DEFAULT__TIMEOUTS__FINAL": "3"}
    with make_world("sqlite+valkey", tmp_path, final_seconds=0, **often) as world:
        world.sink.follow(BREAKS)
        mails = [mail(n) for n in range(30)]
        for n, step in enumerate((*KNOWN, *UNKNOWN)):
            for policy in ("resend", "hold"):
                change = {"to": [f"{step}-{policy}@example.com"], "if_in_doubt": policy}
                mails.insert(n * 5, mail(n, mail_from=f"{step}@example.com", **change))
        submit(world, mails)
        world.settle()

        found = {record.rcpt.partition("@")[0]: record for record in records(world)}
        assert {step: found[f"{step}-hold"].state for step in UNKNOWN} == dict.fromkeys(UNKNOWN, State.IN_DOUBT)
        others = {name: record.state for name, record in found.items() if record.state is not State.IN_DOUBT}
        assert len(others) == len(mails) - len(UNKNOWN)
        assert set(others.values()) == {State.SENT}
        doubts = {name for name, record in found.items() if any(e.state is State.IN_DOUBT for e in record.history)}
        assert doubts == {f"{step}-{policy}" for step in UNKNOWN for policy in ("resend", "hold")}
        world.prove(doubled=2, in_doubt_events=6)

        ledger = SqlLedger(world.ledger_url)
        for step, truth in (("lost", State.QUEUED), ("kept", State.SENT), ("late", State.SENT)):
            held = Selector(ids=(found[f"{step}-hold"].id,), states=(State.IN_DOUBT,))
            assert ledger.change(held, truth, Actor("anna", "desk", "by the relay's log")) == 1
        ledger.close()
        world.settle()
        world.prove(doubled=0)
        assert {record.state for record in records(world)} == {State.SENT}

        copies: dict[str, list[tuple[str, str]]] = {}
        for received in orders.read(world.record):
            name = received.rcpt_to[0].partition("@")[0]
            copies.setdefault(name, []).append((received.message_id, received.sha256))
        twice = {name: each for name, each in copies.items() if len(each) > 1}
        assert set(twice) == {"kept-resend", "late-resend"}
        assert all(len(set(each)) == 1 for each in twice.values())  # the same bytes, under the same Message-ID
