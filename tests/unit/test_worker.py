"""The brakes that a worker looks at before each lease: trouble, half-open relays, limits."""

import io
from collections import Counter
from typing import Any

from dispatcher.delivery import Lane, Selector, State
from dispatcher.errors import ConnectFailed, LimitReached
from dispatcher.events import DeliveryTried, RelayPaused, RelayResumed
from dispatcher.reply import NoReply, Phase, Reply
from dispatcher.storm import IN_A_ROW
from dispatcher.testing import MemoryTransport
from tests.stage import Stage

LATER = Reply(451, "try again later", "4.3.0", Phase.MAIL)


def test_what_a_dead_relay_leaves_goes_to_the_next_one_in_the_same_batch() -> None:
    main, backup = MemoryTransport("main"), MemoryTransport("backup")
    main.down = ConnectFailed("main", "refused")
    stage = Stage([main, backup])
    stage.submit()
    stage.submit(relay="main")
    stage.deliver()
    (sent,) = stage.ledger.find(Selector(states=(State.SENT,)))
    (bound,) = stage.ledger.find(Selector(states=(State.QUEUED,)))
    assert (sent.attempts, sent.relay, bound.attempts) == (1, "backup", 0)
    assert "refused" in bound.text


def test_one_message_tries_a_half_open_relay_and_brings_it_back_for_all() -> None:
    stage = Stage(batch_size=10)
    stage.transport.down = ConnectFailed("main", "refused")
    for _ in range(5):
        stage.submit()
    stage.deliver()
    stage.transport.down = None
    assert stage.deliver() == 0  # the pause holds
    stage.clock.now += 6
    assert stage.deliver() == 5
    assert [type(event) for event in stage.events if not isinstance(event, DeliveryTried)] == [
        RelayPaused,
        RelayResumed,
    ]
    assert stage.ledger.pauses() == []


def test_a_half_open_relay_that_fails_again_is_tried_with_one_message_only_and_paused_for_longer() -> None:
    stage = Stage()
    stage.transport.down = ConnectFailed("main", "refused")
    for _ in range(5):
        stage.submit()
    stage.deliver()
    stage.clock.now += 6
    assert stage.deliver() == 1
    (pause,) = stage.ledger.pauses()
    assert (pause.half_open, round((pause.until or 0) - pause.since)) == (False, 10)
    assert stage.states() == [State.QUEUED] * 5
    assert {record.attempts for record in stage.ledger.find(Selector())} == {0}


def test_while_another_worker_tries_a_half_open_relay_it_stays_paused_for_us() -> None:
    stage = Stage()
    stage.transport.down = ConnectFailed("main", "refused")
    stage.submit()
    stage.deliver()
    stage.clock.now += 6
    assert stage.ledger.probe("main", 60)
    stage.transport.down = None
    assert stage.deliver() == 0
    stage.clock.now += 61  # the other one died
    assert stage.deliver() == 1


def test_a_try_in_a_lane_without_mail_leaves_the_relay_to_the_next_one() -> None:
    stage = Stage()
    stage.transport.down = ConnectFailed("main", "refused")
    stage.submit()
    stage.deliver()
    stage.transport.down = None
    stage.clock.now += 6
    assert stage.deliver(Lane.BULK) == 0
    assert stage.deliver() == 1


def test_a_relay_that_defers_everything_is_paused_and_says_why() -> None:
    refusing = {f"b{n}@example.com": LATER for n in range(100)}
    stage = Stage([MemoryTransport("main", refusing)])
    for n in range(100):
        stage.submit(to=[f"b{n}@example.com"])
    stage.deliver()
    assert stage.states().count(State.DEFERRED) == IN_A_ROW
    assert stage.states().count(State.QUEUED) == 100 - IN_A_ROW
    (pause,) = stage.ledger.pauses()
    assert "20 messages in a row" in pause.reason
    assert "451 4.3.0" in pause.reason


def test_mail_that_is_deferred_among_others_pauses_nobody() -> None:
    stage = Stage([MemoryTransport("main", {f"b{n}@example.com": LATER for n in range(0, 100, 2)})])
    for n in range(100):
        stage.submit(to=[f"b{n}@example.com"])
    stage.deliver()
    assert stage.ledger.pauses() == []
    assert stage.states().count(State.SENT) == 50


def test_what_is_over_the_limit_waits_for_its_relay_spends_no_attempt_and_rings_at_its_time() -> None:
    main, backup = MemoryTransport("main"), MemoryTransport("backup")
    stage = Stage([main, backup], rates={"main": ("10/min",)})
    for _ in range(30):
        stage.submit()
    stage.deliver()
    assert (len(main.sent), len(backup.sent)) == (10, 0)
    waiting = list(stage.ledger.find(Selector(states=(State.QUEUED,))))
    assert {record.attempts for record in waiting} == {0}
    assert stage.deliver() == 0  # not even leased
    stage.clock.now += 30
    stage.dispatcher._sweeper.look()
    assert (Lane.TRANSACTIONAL, (), "limit") not in stage.bells.rung
    stage.clock.now += 33
    stage.dispatcher._sweeper.look()
    assert (Lane.TRANSACTIONAL, (), "limit") in stage.bells.rung
    stage.deliver()
    assert len(main.sent) == 20


def test_a_limit_of_connections_gives_the_mail_back_and_pauses_nobody() -> None:
    stage = Stage()
    stage.transport.down = LimitReached("main", "all 5 connections are in use", 2.0)
    stage.submit()
    assert stage.deliver() == 1
    (record,) = stage.ledger.find(Selector())
    assert (record.state, record.attempts) == (State.QUEUED, 0)
    assert "all 5 connections are in use" in record.text
    assert record.due_at == stage.clock.now + 2.0
    assert stage.ledger.pauses() == []
    stage.transport.down = None
    stage.clock.now += 2.1
    assert stage.deliver() == 1


def test_a_connection_that_is_to_be_had_again_is_used_for_a_whole_batch() -> None:
    stage = Stage(batch_size=20)
    for _ in range(20):
        stage.submit()
    stage.transport.down = LimitReached("main", "all 5 connections are in use", 1.0)
    for _ in range(3):
        stage.deliver()
        stage.clock.now += 1.1
    stage.transport.down = None
    leases = stage.ledger.lease
    sizes = list[int]()

    def counted(*given: Any, **more: Any) -> Any:
        found = leases(*given, **more)
        sizes.append(len(found.messages))
        return found

    stage.ledger.lease = counted  # type: ignore[method-assign]
    stage.deliver()
    assert sizes[0] == 20
    assert len(stage.transport.sent) == 20


def test_other_relays_go_on_while_one_is_at_its_limit() -> None:
    main, other = MemoryTransport("main"), MemoryTransport("other")
    stage = Stage([main, other], rates={"main": ("1/min",)})
    for relay in ("main", "main", "other", "other"):
        stage.submit(relay=relay)
    stage.deliver()
    stage.deliver()
    assert (len(main.sent), len(other.sent)) == (1, 2)


def test_new_settings_of_a_paused_relay_are_tried_at_once() -> None:
    stage = Stage()
    stage.transport.down = ConnectFailed("main", "535 wrong password")
    stage.submit()
    stage.deliver()
    healed = MemoryTransport("main")
    stage.replace(healed)
    assert stage.deliver() == 1
    assert len(healed.sent) == 1


def test_a_published_template_goes_before_the_folder_and_is_seen_within_a_second() -> None:
    stage = Stage()
    stage.submit(template="t", data={"name": "Ada", "half": 1}, subject=None, text=None)
    stage.publish("t", subject="Published for {{ name }}")
    stage.clock.now += 1
    stage.submit(template="t", data={"name": "Bob", "half": 1}, subject=None, text=None)
    stage.deliver()
    first, second = stage.transport.sent
    assert b"Subject: Hi Ada" in first.content
    assert b"Subject: Published for Bob" in second.content


def test_a_half_open_relay_that_says_nothing_is_paused_again() -> None:
    stage = Stage()
    stage.transport.down = ConnectFailed("main", "refused")
    for _ in range(3):
        stage.submit()
    stage.deliver()
    hanging = MemoryTransport("main", {"ada@example.com": NoReply(Phase.MAIL, "timed out")})
    stage.replace(hanging)
    assert stage.deliver() == 1
    (pause,) = stage.ledger.pauses()
    assert (pause.half_open, pause.reason) == (False, "relay: no reply to the message that tried it")


def test_a_clock_that_is_ahead_ends_no_lifetime() -> None:
    stage = Stage([MemoryTransport("main", {"ada@example.com": [LATER]})])
    stage.submit()
    stage.worker_clock.ahead = 2 * 86400.0
    stage.deliver()
    assert stage.states() == [State.DEFERRED]


def test_after_a_limit_was_met_only_about_as_much_is_leased_as_went() -> None:
    stage = Stage(rates={"main": ("3/min",)})
    for _ in range(50):
        stage.submit()
    for _ in range(5):
        stage.deliver()
        stage.clock.now += 62
    assert len(stage.transport.sent) == 15
    assert sum(len(record.history) for record in stage.ledger.find(Selector())) < 40


def with_attachment(stage: Stage, content: bytes, *, torn: bool) -> None:
    blob = stage.blobs.put(io.BytesIO(content)).id
    stage.submit(attachments=[{"blob": blob, "filename": "a.txt"}])
    if torn:
        stage.blobs.torn.add(blob)


def test_an_attachment_that_cannot_be_read_holds_up_only_its_own_message() -> None:
    stage = Stage()
    for n in range(8):
        with_attachment(stage, b"%d" % n, torn=n % 2 == 0)
    stage.deliver()
    assert Counter(stage.states()) == {State.QUEUED: 4, State.SENT: 4}
    held = list(stage.ledger.find(Selector(states=(State.QUEUED,))))
    assert {(record.attempts, record.due_at) for record in held} == {(0, stage.clock.now + 60)}
    assert {record.text for record in held} == {"attachments in /var/blobs: Input/output error"}
    stage.blobs.torn.clear()
    stage.clock.now += 61
    stage.deliver()
    assert stage.states() == [State.SENT] * 8


def test_while_nothing_can_be_read_the_rest_waits_a_moment_and_not_a_minute() -> None:
    stage = Stage()
    for n in range(5):
        with_attachment(stage, b"%d" % n, torn=True)
    stage.submit()
    stage.deliver()
    assert Counter(record.due_at - stage.clock.now for record in stage.ledger.find(Selector())) == {60: 3, 5: 3}
    assert stage.deliver() == 0
    stage.clock.now += 5.1
    stage.deliver()
    assert Counter(stage.states()) == {State.QUEUED: 5, State.SENT: 1}
