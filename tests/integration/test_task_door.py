"""The door at the Celery tasks, on a real Redis, with tasks as a real Celery client sends them: each plain one is taken
in once or kept as rejected, whoever is killed; the others are left to Celery as they came."""

import json
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from celery import Celery, signature

from dispatcher.adapters.celery import EMIT, INTAKE, ODD, SUBMIT
from dispatcher.adapters.redis import Broker
from dispatcher.adapters.stream import GROUP, TASKS, waiting
from dispatcher.adapters.task_door import TaskDoor, TaskStream
from dispatcher.delivery import Selector
from dispatcher.errors import LedgerUnavailable
from tests.integration.test_stream import IDLE, MAIL, Place
from tests.ledgers import Kept
from tests.servers import Redis
from tests.waiting import wait_for

pytestmark = pytest.mark.server
GOOD = {"submission": MAIL}


class Tasks(Place):
    """A place with a Celery client beside it."""

    kind = TaskDoor

    def __init__(self, url: str, kept: Kept) -> None:
        super().__init__(url, kept)
        self.celery = Celery(broker=url, set_as_current=False)

    def send(self, name: str = SUBMIT, **options: Any) -> str:
        return str(self.celery.send_task(name, **{"queue": INTAKE, "kwargs": GOOD} | options).id)

    def stream(self) -> TaskStream:
        return TaskStream(self.address, idle_seconds=IDLE)

    def drained(self) -> bool:
        """Nothing waits in the queue or in the stream, nor is pending for anybody."""
        if waiting(Broker(self.address)):
            return False
        groups = self.redis.xinfo_groups(TASKS) if self.redis.exists(TASKS) else []
        return not any(int(group["pending"]) for group in groups)


@pytest.fixture
def tasks(own_redis: Redis, sqlite_ledger: Kept) -> Iterator[Tasks]:
    tasks = Tasks(own_redis.url, sqlite_ledger)  # the others take in what comes by the stream in the same way
    yield tasks
    tasks.celery.close()
    tasks.redis.close()


def test_many_tasks_are_taken_in_under_their_own_numbers(tasks: Tasks) -> None:
    sent = [tasks.send(task_id=f"t{n}", priority=n % 10) for n in range(600)]  # more than are moved at once
    tasks.drain()
    assert tasks.accepted() == 600
    assert all(len(list(tasks.ledger.find(Selector(key=f"task:{one}")))) == 1 for one in (sent[0], sent[-1]))
    tasks.send(task_id="t1")  # sent again, since its producer was not sure
    tasks.drain()
    assert tasks.accepted() == 600


def test_what_cannot_be_taken_in_is_kept_with_the_reason(tasks: Tasks) -> None:
    tasks.send(task_id="none", kwargs={})
    tasks.send(task_id="colour", kwargs=GOOD | {"colour": "red"})
    tasks.send(task_id="three", args=[MAIL, "erp", "more"], kwargs={})
    tasks.send(task_id="producer", kwargs=GOOD | {"producer": "x" * 5000})
    tasks.send(task_id="list", kwargs={"submission": ["mail"]})
    tasks.send(EMIT, task_id="event", kwargs={"event": {"event": "nobody.knows"}, "producer": "erp"})
    tasks.send(task_id="good", args=[MAIL, "erp"], kwargs={})
    tasks.drain()
    found = tasks.rejects()
    assert found.keys() == {"none", "colour", "three", "producer", "list", "event"}
    assert found["none"].field == "submission"
    assert "not colour" in found["colour"].reason
    assert "not more" in found["three"].reason
    assert found["producer"].field == "producer"
    assert "JSON object" in found["list"].reason
    assert (found["event"].door, found["event"].field, found["event"].producer) == ("event", "event", "erp")
    assert tasks.accepted() == 1


def test_what_only_celery_can_read_is_left_to_it_as_it_came(tasks: Tasks) -> None:
    soon = datetime.now(UTC) + timedelta(hours=1)
    tasks.send(task_id="eta", eta=soon)
    tasks.send(task_id="expires", expires=60)
    tasks.send(task_id="linked", link=signature("erp.done"))
    tasks.send(task_id="packed", compression="gzip")
    tasks.send("erp.other", task_id="other")
    came = sorted(tasks.redis.lrange(INTAKE, 0, -1))
    tasks.send(task_id="good")
    with tasks.door():
        wait_for(lambda: tasks.redis.llen(ODD) == len(came) and tasks.accepted(), 15)
    assert sorted(tasks.redis.lrange(ODD, 0, -1)) == came
    assert tasks.redis.xlen(TASKS) == 0
    assert (tasks.accepted(), tasks.rejects()) == (1, {})


@pytest.mark.parametrize(
    "raw", [b"no task at all", b"[1]", b'{"body": "", "headers": {}, "properties": {}}', b"\xff\xfe"]
)
def test_what_celery_would_stumble_over_is_kept_as_it_came(tasks: Tasks, raw: bytes) -> None:
    tasks.redis.lpush(INTAKE, raw)
    tasks.drain()
    (reject,) = tasks.rejects().values()
    assert "no message of Celery's" in reject.reason
    assert reject.payload == raw.decode("utf-8", "backslashreplace")


def test_what_celery_would_drop_unread_is_kept(tasks: Tasks) -> None:
    tasks.send(task_id="yaml", serializer="yaml")
    broken = json.loads(tasks.redis.lindex(INTAKE, 0) or b"")
    broken |= {"content-type": "application/json", "body": "bm90IGpzb24="}
    tasks.redis.lpush(INTAKE, json.dumps(broken))
    tasks.drain()
    assert sorted(reject.reason.split(":")[0] for reject in tasks.rejects().values()) == [
        "cannot be read",
        "is application/x-yaml",
    ]


def test_dates_and_decimals_are_read_as_celery_writes_them(tasks: Tasks) -> None:
    tasks.send(kwargs={"submission": MAIL | {"metadata": {"due": date(2026, 12, 1)}}}, task_id="date")
    tasks.drain()
    assert "__type__" not in tasks.rejects()["date"].payload
    assert tasks.rejects()["date"].field == "metadata"  # as when Celery runs it: a date is no value there


def test_what_celery_cannot_be_given_stays_and_the_others_go_on(tasks: Tasks) -> None:
    tasks.redis.set(ODD, "no list")
    tasks.send("erp.other")
    tasks.send(task_id="good")
    with tasks.door():
        wait_for(lambda: tasks.accepted() == 1, 15)
        assert tasks.redis.xlen(TASKS) >= 1
        tasks.redis.delete(ODD)
        wait_for(lambda: tasks.redis.llen(ODD) == 1, 15)


def test_what_waits_is_counted_whatever_its_priority(tasks: Tasks) -> None:
    for priority in (0, 3, 5, 9):
        tasks.send(priority=priority)
    assert waiting(Broker(tasks.address)) == 4


def test_what_a_dead_worker_had_moved_or_fetched_is_taken_over(tasks: Tasks) -> None:
    dead = tasks.stream()
    tasks.send(task_id="fetched")
    assert len(dead.next(1.0)) == 1
    tasks.send(task_id="moved")
    assert dead._move() == 1  # and killed before it read it
    dead.close()
    tasks.drain()
    assert tasks.accepted() == 2


def test_what_has_killed_its_workers_is_kept_as_rejected(tasks: Tasks) -> None:
    tasks.send(task_id="killer")
    for _ in range(3):
        dead = tasks.stream()
        until = time.monotonic() + 10
        while not dead.next(0.1):
            assert time.monotonic() < until
        dead.close()
    tasks.drain()
    assert "killed its worker 3 times" in tasks.rejects()["killer"].reason
    assert tasks.accepted() == 0


def test_while_the_ledger_is_away_tasks_wait(tasks: Tasks) -> None:
    seen = list[object]()

    def away(handed: object) -> None:
        seen.append(handed)
        raise LedgerUnavailable("away")

    tasks.dispatcher.before = away
    with tasks.door():
        tasks.send(task_id="patient")
        wait_for(lambda: seen, 10)
        assert tasks.redis.xpending(TASKS, GROUP)["pending"] == 1
        del tasks.dispatcher.before
        wait_for(tasks.drained, 15)
    assert tasks.accepted() == 1


def test_a_fault_of_ours_keeps_that_task_and_no_other(tasks: Tasks) -> None:
    def stumble(handed: Any) -> None:
        if any(each.reference == "odd" and each.error is None for each in handed):
            raise ConnectionError("a fault of ours")  # which is not Redis being away

    tasks.dispatcher.before = stumble
    tasks.send(task_id="odd")
    tasks.send(task_id="good")
    tasks.send("erp.other")  # Celery's, whatever the others do
    with tasks.door():
        wait_for(lambda: tasks.redis.llen(ODD) == 1 and tasks.accepted() == 1 and tasks.rejects(), 15)
    assert "ConnectionError: a fault of ours" in tasks.rejects()["odd"].reason
    assert json.loads(tasks.rejects()["odd"].payload) == MAIL
    assert tasks.accepted() == 1


def test_a_redis_whose_memory_is_full_is_emptied(tasks: Tasks) -> None:
    sent = 200
    for _ in range(sent):
        tasks.send(kwargs={"submission": MAIL | {"text": "x" * 5000}})
    tasks.redis.config_set("maxmemory-policy", "noeviction")
    tasks.redis.config_set("maxmemory", "2mb")  # well over it now
    with tasks.door():
        wait_for(tasks.drained, 30)
    assert tasks.accepted() == sent


def test_where_the_stream_should_be_is_something_else_nothing_leaves_the_queue(tasks: Tasks) -> None:
    tasks.redis.set(TASKS, "something else")
    tasks.send()
    stream = tasks.stream()
    with pytest.raises(ConnectionError, match="WRONGTYPE"):
        stream.next(0.1)
    stream.close()
    assert tasks.redis.llen(INTAKE) == 1
