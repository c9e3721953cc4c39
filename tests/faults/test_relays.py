"""Three relays with three troubles, over real workers: nothing bounces, `status` says why, and the rest goes out as
soon as the relay is well again."""

import asyncio
from pathlib import Path

import pytest

from dispatcher.adapters.sql.ledger import SqlLedger
from dispatcher.adapters.stack import Stack
from dispatcher.delivery import Selector
from dispatcher.reply import Phase
from dispatcher.servers.sink import Rule, Script, Sink
from tests.sizes import sized
from tests.waiting import wait_for

COUNT = sized(500, 1500)  # to the relay that takes five connections
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


class _Refusal(asyncio.Protocol):
    """A server that says goodbye instead of welcome."""

    def __init__(self, words: str) -> None:
        self._words = words

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(f"{self._words}\r\n".encode())
        transport.close()


class CrowdedSink(Sink):
    """Refuses connections above ``most``; remembers how many there were and how often it refused."""

    most, refused, seen = 5, 0, 0

    def _connection(self) -> asyncio.Protocol:  # type: ignore[override]  # any protocol will do
        self.seen = max(self.seen, len(self._connections) + 1)
        if len(self._connections) < self.most:
            return super()._connection()
        self.refused += 1
        return _Refusal("421 4.7.0 Too many concurrent SMTP connections")


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "secrets").mkdir()
    return {
        "DISPATCHER_DATA_DIR": str(tmp_path / "var"),
        "DISPATCHER_SECRETS_DIR": str(tmp_path / "secrets"),
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
    rules = [Rule("*", "550 5.4.5 Daily sending quota exceeded", phase=Phase.MAIL, after=1000)]
    with Sink(rules=rules) as sink, Stack({**environment, "DISPATCHER_RELAY_URL": sink.url}) as stack:
        accept(stack, 1300)
        relay = wait_for(lambda: (found := stack.json("status")["relays"]["default"])["paused"] and found, 60)
        assert "5.4.5 Daily sending quota exceeded" in relay["reason"]
        assert set(stack.json("status")["states"]) <= {"sent", "queued", "leased"}  # one may be trying it
        assert len(sink.received()) == 1000
        sink.follow(Script())  # the day is over
        assert stack.run("resume", "default", "--reason", "a new day").returncode == 0
        all_sent(stack, 1300)
        assert len(sink.received()) == 1300


def test_a_changed_password_is_read_again_from_its_file_without_a_restart(
    environment: dict[str, str], tmp_path: Path
) -> None:
    users = {"erp": "old"}
    with Sink(users=users) as sink:
        secret = tmp_path / "secrets" / "DISPATCHER_RELAY_URL"

        def write(password: str) -> None:
            new = tmp_path / "new"
            new.write_text(f"smtp://erp:{password}@127.0.0.1:{sink.port}?tls=none&insecure_auth=1")
            new.replace(secret)

        write("old")
        with Stack(environment) as stack:
            accept(stack, 50)
            all_sent(stack, 50)
            sink._users.update(erp="n3w-pass")  # the relay has another one now
            for connection in tuple(sink._connections):
                sink._loop.call_soon_threadsafe(connection.transport.abort)  # type: ignore[union-attr]
            accept(stack, 50)
            relay = wait_for(lambda: (found := stack.json("status")["relays"]["default"])["paused"] and found, 60)
            assert "535" in relay["reason"]
            assert set(stack.json("status")["states"]) <= {"sent", "queued", "leased"}  # one may be trying it
            write("n3w-pass")
            all_sent(stack, 100)
            assert "n3w-pass" not in stack.log()


def test_a_relay_that_refuses_more_than_five_connections_is_given_five(environment: dict[str, str]) -> None:
    with CrowdedSink(final_seconds=0.05) as sink:
        settings = {**environment, "DISPATCHER_RELAY_URL": sink.url, "DISPATCHER_DELIVERY__PROCESSES__BULK": "8"}
        with Stack(settings) as stack:
            accept(stack, COUNT)
            wait_for(lambda: sink.refused > 0, 60)
            relay = wait_for(
                lambda: (found := stack.json("status")["relays"]["default"])["connections"]["learned"] and found, 30
            )
            assert relay["connections"]["max"] <= 5
            refused = sink.refused
            all_sent(stack, COUNT)
            assert sink.refused - refused <= 8  # each process may have been on its way
            assert len(sink.received()) == COUNT
            assert not stack.json("status")["relays"]["default"]["paused"]
