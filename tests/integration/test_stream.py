"""The door at the Redis stream, on a real Redis and a real ledger: what is handed over is accepted once, or kept."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from redis import Redis as Client
from redis.exceptions import OutOfMemoryError

from dispatcher.adapters.redis import Broker
from dispatcher.adapters.stream import GROUP, KEY, Stream, waiting
from dispatcher.adapters.stream_door import StreamDoor
from dispatcher.broker import BrokerAddress
from dispatcher.delivery import Selector
from dispatcher.dispatcher import Dispatcher
from dispatcher.errors import LedgerUnavailable, SubmissionError
from dispatcher.handed import Handed
from dispatcher.memory import (
    MemoryBlobs,
    MemoryFiles,
    MemoryJournals,
    MemoryLimiter,
    MemoryManifests,
    MemoryRenderers,
)
from dispatcher.policy import Policy
from dispatcher.records import Reject
from dispatcher.testing import MemoryQueue, MemoryTransport
from tests.ledgers import Kept
from tests.servers import Redis
from tests.waiting import wait_for

pytestmark = pytest.mark.server
MAIL = {"to": ["ada@example.com"], "subject": "Hi", "text": "Hello"}
IDLE = 0.4

REWRITING = ("in_progress", "scheduled")


class Flaky(Dispatcher):
    """A dispatcher that can stumble before it takes in."""

    before: Callable[[Sequence[Handed]], None] = staticmethod(lambda _: None)

    def take_in_many(self, handed: Sequence[Handed], *, door: str) -> list[str]:
        self.before(handed)
        return super().take_in_many(handed, door=door)


class Place:
    """A stream, a ledger, and doors between them."""

    kind: type[StreamDoor] = StreamDoor

    def __init__(self, url: str, kept: Kept) -> None:
        self.address, self.ledger = BrokerAddress(url), kept.ledger
        self.redis = Client.from_url(url, socket_timeout=5)
        blobs = MemoryBlobs()
        self.dispatcher = Flaky(
            ledger=kept.ledger,
            queue=MemoryQueue(),
            blobs=blobs,
            templates=lambda name: pytest.fail("no template here"),
            attach=self.attach,
            transports={"main": MemoryTransport("main")},
            limiter=MemoryLimiter(),
            journals=MemoryJournals(),
            files=MemoryFiles(blobs),
            renderers=MemoryRenderers(blobs),
            manifests=MemoryManifests(),
            policy=Policy(sender="shop@example.com"),
        )

    def attach(self, given: Any, at: str) -> dict[str, Any]:
        raise SubmissionError(at, "none here")

    def add(self, *fields: str | bytes) -> str:
        """XADD these fields and values; the entry's id."""
        found: bytes = self.redis.execute_command("XADD", KEY, "*", *fields)
        return found.decode()

    def mail(self, **changes: Any) -> str:
        return self.add("submission", json.dumps({**MAIL, **changes}))

    def fits(self) -> bool:
        """Hand over one more of 10 kB; whether Redis had room for it."""
        try:
            self.mail(text="x" * 10_000)
        except OutOfMemoryError:
            return False
        return True

    def stream(self) -> Stream:
        return Stream(self.address, idle_seconds=IDLE)

    @contextmanager
    def door(self, stream: Stream | None = None) -> Iterator[StreamDoor]:
        door = self.kind(stream or self.stream(), lambda: self.dispatcher, lambda: False)
        door.start()
        try:
            yield door
        finally:
            door.close(10)

    def pending(self) -> int:
        """How many entries are delivered and not ended."""
        groups = self.redis.xinfo_groups(KEY) if self.redis.exists(KEY) else []
        return sum(int(group["pending"]) for group in groups)

    def consumers(self) -> set[bytes]:
        """The names of the group's consumers."""
        return {consumer["name"] for consumer in self.redis.xinfo_consumers(KEY, GROUP)}

    def drained(self) -> bool:
        """Nothing is left: neither in the stream nor pending for anybody."""
        return self.redis.xlen(KEY) == 0 and self.pending() == 0

    def drain(self) -> None:
        with self.door():
            wait_for(self.drained, 15)

    def accepted(self) -> int:
        return self.ledger.totals().accepted

    def rejects(self) -> dict[str, Reject]:
        return {reject.reference: reject for reject in self.ledger.rejects()}


@pytest.fixture
def place(redis_url: str, kept: Kept) -> Iterator[Place]:
    place = Place(redis_url, kept)
    yield place
    place.redis.close()


@pytest.fixture
def own_place(own_redis: Redis, sqlite_ledger: Kept) -> Iterator[Place]:
    """With a Redis that can be stopped, frozen and flushed."""
    place = Place(own_redis.url, sqlite_ledger)
    yield place
    place.redis.close()


def test_what_is_handed_over_is_accepted_under_the_entrys_id_and_leaves_the_stream(place: Place) -> None:
    entries = [place.mail(to=[f"buyer{n}@example.com"]) for n in range(700)]  # more than one read takes
    place.drain()
    assert place.accepted() == 700
    (found,) = place.ledger.find(Selector(key=f"stream:{entries[0]}"))
    assert found.rcpt == "buyer0@example.com"
    assert place.rejects() == {}


def test_what_came_before_there_was_a_group_is_taken_in_too_and_repeating_adds_nothing(place: Place) -> None:
    entry = place.mail()
    place.drain()
    place.redis.execute_command(
        "XADD", KEY, entry.replace("-0", "-99"), "submission", json.dumps({**MAIL, "idempotency_key": "K"})
    )
    place.mail(idempotency_key="K")
    place.drain()
    assert place.accepted() == 2


BAD = {
    "nothing of ours": ((b"mail", b"{}"), "mail", "mail: unknown field; an entry has submission and"),
    "only a producer": (
        (b"producer", b"erp"),
        "submission",
        "submission: required: XADD mail:submissions * submission",
    ),
    "an unknown field": ((b"submission", b"{}", b"colour", b"red"), "colour", "colour: unknown field"),
    "the field twice": ((b"submission", b"{}", b"submission", b"[]"), "submission", "more than once"),
    "bad JSON": ((b"submission", b'{"to": [}'), "submission", "is not JSON: Expecting value at line 1, column 9"),
    "nothing": ((b"submission", b""), "submission", "is not JSON"),
    "no object": ((b"submission", b'["a"]'), "", "a submission is a JSON object, not a list"),
    "an unknown field inside": ((b"submission", b'{"too": ["a@x.org"]}'), "too", "too: unknown field"),
    "GBK": ((b"submission", '{"text": "李雷"}'.encode("gbk")), "submission", "is not UTF-8 (byte 11)"),
    "a NUL": ((b"submission", b'{"a": "\0"}'), "submission", "is not JSON"),
    "half a character": ((b"submission", b'{"to": ["\\ud800@example.com"]}'), "to", "UTF-8"),
    "a deep one": ((b"submission", b"[" * 100_000), "submission", "nested too deeply"),
    "a long number": ((b"submission", b'{"metadata": ' + b"1" * 5000 + b"}"), "submission", "is not JSON that can be"),
    "not a number": ((b"submission", b'{"data": {"a": NaN}, "to": ["a@example.com"]}'), "data", "cannot be written"),
    "10 MB": ((b"submission", b'{"text": "' + b"x" * 10_000_000 + b'"}'), "submission", "is longer than 8 MiB"),
    "a long producer": ((b"submission", b"{}", b"producer", b"x" * 3000), "producer", "up to 256 printable"),
    "a strange producer": ((b"submission", b"{}", b"producer", b"\xff"), "producer", "up to 256 printable"),
}


def test_what_cannot_be_accepted_is_kept_as_it_came_with_one_clear_reason(place: Place) -> None:
    entries = {name: place.add(*fields) for name, (fields, _, _) in BAD.items()}
    place.mail()
    place.drain()
    assert place.accepted() == 1
    rejects = place.rejects()
    assert len(rejects) == len(BAD)
    for name, (fields, field, reason) in BAD.items():
        kept = rejects[entries[name]]
        assert (kept.door, kept.field) == ("stream", field), name
        assert reason in kept.reason, name
        assert "\n" not in kept.reason
        assert len(kept.reason) < 400
        words = [part.decode("utf-8", "backslashreplace").replace("\0", "\\0") for part in fields]
        if words[0] == "submission" and len(words) == 2:
            assert kept.payload == words[1], name
        else:  # the whole entry
            assert [word for pair in json.loads(kept.payload) for word in pair] == words, name


def test_a_producers_name_is_kept_and_its_keys_are_its_own(place: Place) -> None:
    for producer in ("erp", "crm"):
        document = json.dumps({**MAIL, "idempotency_key": "SO-1"})
        place.add("submission", document, "producer", producer)
    bad = place.add("producer", "erp", "submission", "{}")
    place.drain()
    assert place.accepted() == 2
    assert place.rejects()[bad].producer == "erp"


def test_while_the_ledger_is_away_nothing_is_ended_and_nothing_is_taken_over(place: Place) -> None:
    away = threading.Event()
    away.set()

    def stumble(_: Sequence[Handed]) -> None:
        if away.is_set():
            raise LedgerUnavailable("ledger: connection refused")

    place.dispatcher.before = stumble  # type: ignore[method-assign]
    for n in range(3):
        place.mail(to=[f"buyer{n}@example.com"])
    with place.door():
        wait_for(place.pending, 10)
        assert place.redis.xlen(KEY) == 3
        assert waiting(Broker(place.address)) == 3
        away.clear()
        wait_for(place.drained, 10)
    assert place.accepted() == 3


def test_a_door_that_closes_gives_back_what_it_holds_for_another_to_take_at_once(place: Place) -> None:
    def stumble(_: Sequence[Handed]) -> None:
        raise LedgerUnavailable("ledger: connection refused")

    place.dispatcher.before = stumble  # type: ignore[method-assign]
    place.mail()
    patient = Stream(place.address, idle_seconds=600)
    with place.door(patient) as door:
        wait_for(place.pending, 10)
        began = time.monotonic()
        door.close(10)
        assert time.monotonic() - began < 2
    (pending,) = place.redis.xpending_range(KEY, GROUP, "-", "+", 10)
    assert pending["times_delivered"] == 0
    place.dispatcher.before = lambda _: None  # type: ignore[method-assign]
    with place.door(Stream(place.address, idle_seconds=600)):
        wait_for(place.drained, 10)
    assert place.accepted() == 1


def test_what_a_dead_worker_held_is_taken_over_and_its_consumer_is_forgotten(place: Place) -> None:
    for n in range(120):
        place.mail(to=[f"buyer{n}@example.com"])
    dead = place.stream()
    assert len(dead.next(1.0)) == 120
    dead.close()  # it was killed: it said nothing
    time.sleep(IDLE)
    place.drain()
    assert place.accepted() == 120
    assert place.rejects() == {}
    with place.door():
        wait_for(lambda: dead._me.encode() not in place.consumers(), 15)


def test_what_was_committed_and_not_ended_adds_nothing_when_it_comes_again(place: Place) -> None:
    place.mail()
    dead = place.stream()
    (entry,) = dead.next(1.0)
    place.dispatcher.take_in(json.loads(entry.pairs[0][1]), door="stream", reference=entry.id)
    dead.close()
    time.sleep(IDLE)
    place.drain()
    assert place.accepted() == 1


def test_an_entry_that_kills_its_workers_goes_alone_and_is_then_kept(place: Place) -> None:
    entries = [place.mail(to=[f"buyer{n}@example.com"]) for n in range(5)]
    killer = entries[2]
    held = []
    for _ in range(4):
        stream = place.stream()
        found = wait_for(lambda stream=stream: stream.next(0.1), 10)
        while killer not in {entry.id for entry in found}:  # the harmless go first, and come to an end
            place.dispatcher.take_in_many([Handed(MAIL, entry.id) for entry in found], door="stream")
            stream.end([entry.id for entry in found])
            found = wait_for(lambda stream=stream: stream.next(0.1), 10)
        held.append([(entry.id, entry.killed) for entry in found if entry.id == killer or len(found) == 1])
        sizes = len(found)
        stream.close()  # killed
        time.sleep(IDLE)
        if len(held) >= 3:
            assert sizes == 1
    assert held == [[(killer, 0)], [(killer, 1)], [(killer, 2)], [(killer, 3)]]
    place.drain()
    assert place.accepted() == 4
    assert place.rejects()[killer].reason == "killed its worker 4 times"


def test_a_fault_in_one_entry_keeps_it_with_the_faults_name_and_the_others_are_accepted(place: Place) -> None:
    entries = [place.mail(to=[f"buyer{n}@example.com"]) for n in range(3)]

    def stumble(handed: Sequence[Handed]) -> None:
        if any(each.reference == entries[1] and each.error is None for each in handed):
            raise ZeroDivisionError("a fault of ours")

    place.dispatcher.before = stumble  # type: ignore[method-assign]
    place.drain()
    assert place.accepted() == 2
    assert place.rejects()[entries[1]].reason == "unexpected ZeroDivisionError: a fault of ours"


def test_one_read_holds_a_bounded_number_of_bytes_whatever_waits(redis_url: str) -> None:
    stream = Stream(BrokerAddress(redis_url), idle_seconds=0.01)
    with Client.from_url(redis_url) as client:
        for size in [10] * 600 + [3_000_000] * 10:
            client.execute_command("XADD", KEY, "*", "submission", b"x" * size)
        sizes = [[entry.bytes for entry in stream.next(1.0)] for _ in range(6)]
        assert [len(size) for size in sizes] == [500, 103, 3, 3, 1, 0]
        assert max(map(sum, sizes)) < 12_000_000
        time.sleep(0.05)
        other = Stream(BrokerAddress(redis_url), idle_seconds=0.01)
        again = [other.next(0.1) for _ in range(3)]
        assert max(sum(entry.bytes for entry in found) for found in again) < 12_000_000
        other.close()
    stream.close()


def test_a_redis_whose_memory_is_full_is_emptied(own_place: Place) -> None:
    own_place.mail()
    own_place.drain()
    own_place.redis.config_set("maxmemory", "3mb")
    own_place.redis.config_set("maxmemory-policy", "noeviction")
    while own_place.fits():
        continue
    handed_over = own_place.redis.xlen(KEY)
    assert handed_over > 50
    own_place.redis.config_set("maxmemory", "2mb")  # well over it now
    with own_place.door():
        wait_for(lambda: own_place.redis.xlen(KEY) == 0, 30)
    assert own_place.accepted() == 1 + handed_over


def test_a_redis_that_is_flushed_killed_and_started_again_is_found_again(own_place: Place, own_redis: Redis) -> None:
    with own_place.door():
        own_place.mail()
        wait_for(lambda: own_place.accepted() == 1, 10)
        own_redis.flush()
        own_place.mail()
        wait_for(lambda: own_place.accepted() == 2, 10)
        own_redis.stop(signal.SIGKILL)
        assert waiting(Broker(own_place.address)) is None
        own_redis.start()
        own_place.mail()
        wait_for(lambda: own_place.accepted() == 3, 20)
        wait_for(own_place.drained, 10)


def test_a_commit_that_redis_did_not_hear_of_is_ended_when_it_is_back(own_place: Place, own_redis: Redis) -> None:
    def stop_redis(_: Sequence[Handed]) -> None:
        own_place.dispatcher.before = lambda _: None  # type: ignore[method-assign]
        own_redis.stop(signal.SIGKILL)

    own_place.redis.config_set("appendonly", "yes")
    own_place.redis.config_set("appendfsync", "always")
    own_redis._command[own_redis._command.index("no")] = "yes"
    wait_for(lambda: not any(own_place.redis.info("persistence")[f"aof_rewrite_{how}"] for how in REWRITING), 10)
    own_place.mail()
    own_place.dispatcher.before = stop_redis  # type: ignore[method-assign]
    with own_place.door():
        wait_for(lambda: own_place.accepted() == 1, 10)
        own_redis.start()
        wait_for(own_place.drained, 15)
    assert own_place.accepted() == 1
    assert own_place.redis.xinfo_stream(KEY)["entries-added"] == 1  # it came back with its entry


def test_a_frozen_redis_does_not_hold_up_the_end(own_place: Place, own_redis: Redis) -> None:
    assert own_redis._process is not None
    pid = own_redis._process.pid
    door = StreamDoor(own_place.stream(), lambda: own_place.dispatcher, lambda: False)
    door.start()
    own_place.mail()
    wait_for(lambda: own_place.accepted() == 1, 10)
    os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(1.5)  # long enough to be in the middle of a command
        began = time.monotonic()
        door.close()
        assert time.monotonic() - began < 2.5
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_for(lambda: not door._threads[0].is_alive(), 15)
    door._stream.close()


def test_a_key_of_another_kind_is_told_and_not_touched(own_place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    own_place.redis.set(KEY, "x")
    with own_place.door():
        wait_for(lambda: "WRONGTYPE" in capsys.readouterr().out, 10)
        assert own_place.redis.get(KEY) == b"x"
        own_place.redis.delete(KEY)
        own_place.mail()
        wait_for(own_place.drained, 10)
    assert own_place.accepted() == 1


def test_an_entry_that_was_deleted_while_it_was_pending_is_cleared(place: Place) -> None:
    entry = place.mail()
    dead = place.stream()
    assert dead.next(1.0)
    dead.close()
    place.redis.xdel(KEY, entry)
    time.sleep(IDLE)
    place.drain()
    assert (place.accepted(), place.rejects()) == (0, {})
