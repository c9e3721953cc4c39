"""Upkeep: what is over its retention goes, then the attachments that nobody uses; and it ends when it is told to."""

import io
from typing import Any

from dispatcher.audience import Member
from dispatcher.mail import Accepted
from dispatcher.memory import MemoryBlobs, MemoryLedger
from dispatcher.retention import Retention
from dispatcher.upkeep import STEP, Removed, Upkeep
from tests.ledgers import ANNA, DAY, StandingClock, accepted, add, lease, settle

MONTH = Retention(30 * DAY)


class House:
    """A ledger and a store of attachments on one clock."""

    def __init__(self) -> None:
        self.clock = StandingClock()
        self.ledger, self.blobs = MemoryLedger(self.clock), MemoryBlobs(self.clock)
        self.upkeep = Upkeep(self.ledger, self.blobs, MONTH, self.clock)

    def put(self, content: str) -> str:
        return self.blobs.put(io.BytesIO(content.encode())).id

    def send(self, *blobs: str, count: int = 1) -> None:
        add(self.ledger, with_files(*blobs, count=count))
        settle(self.ledger, lease(self.ledger, limit=count))

    def stored(self) -> list[str]:
        return self.blobs.old(-DAY)


def with_files(*blobs: str, count: int = 1) -> Accepted:
    files: list[dict[str, Any]] = [
        {"blob": blob, "size": 1, "content_type": "text/plain", "filename": "a"} for blob in blobs
    ]
    shared = {"from": "erp@example.com", "subject": "S", "text": "T", "attachments": files}
    return accepted(*(f"{n}@example.com" for n in range(count)), shared=shared)


def test_what_is_over_goes_and_then_its_attachments() -> None:
    house = House()
    gone, both, new = house.put("gone"), house.put("both"), house.put("new")
    house.send(gone, both)
    house.clock.now += 20 * DAY
    house.send(new, both)
    nobodys = house.put("nobody's")
    house.clock.now += 11 * DAY
    assert house.upkeep.run(60) == Removed(submissions=1, deliveries=1, attachments=2)
    assert house.stored() == sorted([both, new])
    assert nobodys not in house.stored()
    assert house.upkeep.run(60) == Removed(0, 0, 0)


def test_audiences_that_are_nobodys_go_too() -> None:
    house = House()
    lists = house.ledger.audiences
    members = [Member(n, f"{n}@example.com", f"{n}@example.com", {}) for n in range(1, 1501)]
    for ready in (True, False):
        version = lists.begin("customers", "a.csv", (), ANNA)
        lists.add(version.id, members, [])
        if ready:
            lists.ready(version.id, ANNA)
    house.clock.now += DAY + 60
    assert house.upkeep.run(60) == Removed(0, 0, 0, listed=1501)
    assert [each.versions for each in lists.list()] == [1]
    lists.drop("customers", None, ANNA)
    assert house.upkeep.run(60) == Removed(0, 0, 0, listed=1501)
    assert lists.list() == []


def test_an_attachment_of_today_stays_though_nobody_uses_it_yet() -> None:
    house = House()
    blob = house.put("x")
    house.clock.now += DAY - 60
    assert house.upkeep.run(60) == Removed(0, 0, 0)
    house.blobs.touch(blob)
    house.clock.now += DAY - 60
    assert house.upkeep.run(60) == Removed(0, 0, 0)
    assert house.stored() == [blob]
    house.clock.now += 120
    assert house.upkeep.run(60) == Removed(0, 0, 1)


def test_thousands_of_attachments_are_looked_at_page_by_page() -> None:
    house = House()
    for n in range(1200):
        house.put(f"{n}")
    used = house.put("used")
    house.send(used)
    house.clock.now += 2 * DAY
    assert house.upkeep.run(60) == Removed(0, 0, 1200)
    assert house.stored() == [used]


def test_it_goes_on_in_small_steps_until_it_is_to_stop() -> None:
    house = House()
    house.send(count=3 * STEP)
    house.clock.now += 31 * DAY
    looks = iter([False, False, True])
    assert house.upkeep.run(60, lambda: next(looks, True)) == Removed(0, 2 * STEP, 0, more=True)
    assert house.upkeep.run(60) == Removed(1, STEP, 0)


def test_it_ends_when_its_time_is_over() -> None:
    house = House()
    house.send(count=3 * STEP)
    house.clock.now += 31 * DAY
    retire = house.ledger.retire

    def slow(*given: Any) -> Any:
        house.clock.now += 6
        return retire(*given)

    house.ledger.retire = slow  # type: ignore[method-assign]  # a ledger that takes six seconds for each step
    assert house.upkeep.run(20) == Removed(0, 2 * STEP, 0, more=True)  # half of it is for attachments


def test_attachments_in_use_take_no_longer_than_the_time_allows_and_ask_for_no_further_run() -> None:
    house = House()
    house.send(*[house.put(f"{n}") for n in range(1200)])
    house.clock.now += 2 * DAY
    unused, looks = house.ledger.unused, list[int]()

    def slow(blobs: Any) -> Any:
        looks.append(len(blobs))
        house.clock.now += 6
        return unused(blobs)

    house.ledger.unused = slow  # type: ignore[method-assign]  # a ledger that takes six seconds for each page
    assert house.upkeep.run(5) == Removed(0, 0, 0, more=False)
    assert len(looks) == 1
