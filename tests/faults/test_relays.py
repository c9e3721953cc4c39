"""Relays that take only so much, over real workers: nothing bounces, `status` says why, and the rest goes out as soon
as they take it."""

from pathlib import Path
from typing import Any

import pytest

from dispatcher.adapters.sql.ledger import SqlLedger
from dispatcher.adapters.stack import Stack
from dispatcher.delivery import Selector
from dispatcher.reply import Phase
from dispatcher.servers.sink import Rule, Script, Sink
from tests.commands import QuickStack
from tests.sizes import sized
from tests.waiting import wait_for

COUNT = sized(500, 1500)  # to the relay that takes five connections
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {
        "DISPATCHER_DATA_DIR": str(tmp_path / "var"),
        "DISPATCHER_FROM": "shop@example.com",
        "DISPATCHER_DELIVERY__BATCH_SIZE": "20",
    }


def accept(stack: Stack, count: int, lane: str = "bulk") -> None:
    lines = "\n".join(
        f'{{"to": ["buyer{n}@example.com"], "subject": "Mail {n}", "text": "Hello", "lane": "{lane}"}}'
        for n in range(count)
    )
    done = stack.run("submit", "-", "--json", stdin=lines)
    assert done.returncode == 0, done.stderr


def all_sent(stack: Stack, count: int) -> None:
    """Sent, each with one attempt."""
    idle = stack.run("wait", "--idle", "--timeout", "120")
    assert idle.returncode == 0, idle.stderr
    assert stack.json("status")["states"] == {"sent": count}
    ledger = SqlLedger(f"sqlite:///{stack.folder.resolve() / 'ledger.db'}")
    assert {record.attempts for record in ledger.find(Selector())} == {1}
    ledger.close()


def test_a_daily_quota_from_message_1001_on_pauses_the_relay_and_bounces_nothing(environment: dict[str, str]) -> None:
    quota = Rule("*", "550 5.4.5 Daily sending quota exceeded", phase=Phase.MAIL, after=1000, per="sink")
    with Sink(rules=[quota]) as sink, QuickStack({**environment, "DISPATCHER_RELAY_URL": sink.url}) as stack:
        accept(stack, 1300)
        relay = wait_for(lambda: (found := stack.json("status")["relays"]["default"])["paused"] and found, 60)
        assert "5.4.5 Daily sending quota exceeded" in relay["reason"]
        assert set(stack.json("status")["states"]) <= {"sent", "queued", "leased"}  # one may be trying it
        assert len(sink.received()) == 1000
        sink.follow(Script())  # the day is over
        assert stack.run("resume", "default", "--reason", "a new day").returncode == 0
        all_sent(stack, 1300)
        assert len(sink.received()) == 1300


def test_a_relay_that_refuses_more_than_five_connections_is_given_five(environment: dict[str, str]) -> None:
    crowded = Rule(phase=Phase.CONNECT, reply="421 4.7.0 Too many concurrent SMTP connections", above=5)
    with Sink(rules=[crowded], final_seconds=0.05) as sink:
        settings = {**environment, "DISPATCHER_RELAY_URL": sink.url, "DISPATCHER_DELIVERY__PROCESSES__BULK": "8"}
        with QuickStack(settings) as stack:
            accept(stack, COUNT)
            wait_for(lambda: sink.struck[0] > 0, 60)

            def connections() -> Any:
                return stack.json("status")["relays"]["default"]["connections"]

            wait_for(lambda: connections()["learned"], 30)
            refused = sink.struck[0]
            wait_for(lambda: connections()["max"] <= 5, 30)  # two refused at the same time count each other at first
            all_sent(stack, COUNT)
            assert sink.struck[0] - refused <= 8  # each process may have been on its way
            assert len(sink.received()) == COUNT
            assert not stack.json("status")["relays"]["default"]["paused"]
