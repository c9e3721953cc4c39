"""Redis under three sentinels: the master is killed, and mail goes on; the old one comes back as a replica."""

import json
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from urllib.request import urlopen

import pytest
from celery import Celery
from redis import Redis as Client
from redis.exceptions import RedisError

from dispatcher.adapters.celery import Doorbell
from dispatcher.adapters.redis import Broker, connect
from dispatcher.broker import BrokerAddress
from dispatcher.delivery import Lane
from dispatcher.sources import load
from tests import orders
from tests.commands import QuickStack
from tests.processes import sink_process
from tests.servers import Redis, Watched
from tests.sizes import sized
from tests.waiting import wait_for

COUNT, LATER = sized((1000, 40), (2000, 100))
pytestmark = [pytest.mark.server, pytest.mark.slow]


def role(server: Redis, password: str) -> dict[str, object]:
    with Client(port=server.port, password=password, socket_timeout=5) as client:
        try:
            found: dict[str, object] = client.info("replication")
        except RedisError:  # it loads its data
            return {}
        return found


def follows(server: Redis, password: str) -> bool:
    """It is a replica, and has caught up."""
    found = role(server, password)
    return (found.get("role"), found.get("master_link_status")) == ("slave", "up")


def address(watched: Watched) -> BrokerAddress:
    return BrokerAddress.of(load(watched.environment), watched.url)


@pytest.mark.timeout(400)
def test_the_master_is_killed_in_the_middle_of_a_run_and_nothing_is_lost_or_doubled(
    watched: Watched, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    lines, later, record = tmp_path / "orders.jsonl", tmp_path / "later.jsonl", tmp_path / "sink.jsonl"
    orders.write(lines, COUNT)
    orders.write(later, COUNT + LATER)
    later.write_text("".join(later.read_text("utf-8").splitlines(keepends=True)[COUNT:]), "utf-8")
    with sink_process(record) as url:
        environment = {"DISPATCHER_DATA_DIR": str(tmp_path / "var"), "DISPATCHER_RELAY_URL": url, **watched.environment}
        with QuickStack(environment) as stack:
            submit = subprocess.Popen(
                [*stack.command, "submit", str(lines)],
                env=stack.environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            wait_for(lambda: orders.count(record) >= COUNT // 8, 60)
            watched.first.stop(signal.SIGKILL)
            killed, before = time.monotonic(), orders.count(record)
            assert before < COUNT  # else nothing was interrupted
            wait_for(lambda: role(watched.second, watched.password).get("role") == "master", 30)
            record_property("failover_seconds", round(time.monotonic() - killed, 1))
            assert submit.wait(120) == 0
            idle = stack.run("wait", "--idle", "--timeout", "120")
            assert idle.returncode == 0, idle.stderr

            assert stack.run("wait", "--ready", "--timeout", "60").returncode == 0
            watched.first.start()
            wait_for(lambda: follows(watched.first, watched.password), 40)
            assert stack.run("submit", str(later)).returncode == 0
            assert stack.run("wait", "--idle", "--timeout", "60").returncode == 0
            assert stack.json("status")["states"] == {"sent": COUNT + LATER}
            assert stack.json("status")["broker"] == "reachable"
            broker = {line.split("\t")[0]: line for line in stack.run("doctor").stdout.splitlines()}["broker"]
            assert "\tok\tmymaster by sentinel://127.0.0.1:" in broker

            with urlopen(f"{stack.json('status')['stack']['flower']}/broker", timeout=10) as page:
                assert b"mail.transactional" in page.read()

            # A producer that knows nothing but Celery and what `broker-url` says.
            said = stack.json("broker-url")
            with Celery(broker=said["url"], set_as_current=False) as producer:
                producer.conf.broker_transport_options = said["broker_transport_options"]
                submission = {"to": ["ann@example.com"], "from": "erp@example.com", "subject": "Hi", "text": "x"}
                producer.send_task("mail.submit", kwargs={"submission": submission}, queue="mail.intake")
            wait_for(lambda: orders.count(record) == COUNT + LATER + 1, 30)
            log = stack.log()
        received = [mail for mail in orders.read(record) if mail.rcpt_to[0] != "ann@example.com"]
    orders.check(received, COUNT + LATER, doubles=0)
    for secret in (watched.password, "p%3Bw%2F1%40", watched.sentinel_password):
        assert secret not in log
    assert "refuses" not in log


@pytest.mark.timeout(120)
def test_the_command_after_a_failover_finds_the_new_master(watched: Watched) -> None:
    broker = Broker(address(watched))
    bell = Doorbell(broker)
    client = connect(broker.address)
    assert bell.ring(Lane.BULK, [1])
    assert client.incr("n") == 1
    assert client.wait(1, 5000) == 1  # the replica has it
    watched.first.stop(signal.SIGKILL)
    assert not bell.ring(Lane.BULK, [2])
    assert broker.depth(Lane.BULK.queue) is None
    wait_for(lambda: broker.fault() is None, 30)
    assert client.incr("n") == 2  # its connection is to the dead one
    wait_for(lambda: bell.ring(Lane.BULK, [3]), 10)
    assert broker.depth(Lane.BULK.queue) == 2

    # The one that was killed comes back, and is made master again by hand: a living one is demoted.
    watched.first.start()
    wait_for(lambda: follows(watched.first, watched.password), 40)
    with Client(port=watched.ports[0], password=watched.sentinel_password) as sentinel:
        wait_for(lambda: _failed_over(sentinel), 30)
    wait_for(lambda: role(watched.second, watched.password).get("role") == "slave", 30)
    wait_for(lambda: broker.fault() is None, 10)
    with suppress(RedisError):  # the command that meets the old master, if one does
        client.incr("n")
    assert client.incr("n") > 2
    assert role(watched.first, watched.password)["role"] == "master"
    client.close()
    bell.close()
    broker.close()


def _failed_over(sentinel: Client) -> bool:
    try:
        return bool(sentinel.execute_command("SENTINEL", "FAILOVER", "mymaster"))
    except RedisError:  # it has not yet seen that the replica is well
        return False


@pytest.mark.timeout(120)
def test_a_wrong_word_for_the_sentinels_is_one_line_that_names_the_setting(watched: Watched, tmp_path: Path) -> None:
    for change, said in (
        ({"DISPATCHER_BROKER__SENTINEL_PASSWORD": "hunter2"}, "broker.sentinel_password: the sentinel 127.0.0.1:"),
        ({"DISPATCHER_BROKER__SENTINEL_MASTER": "other"}, "broker.sentinel_master: the sentinels know no 'other'"),
        ({"DISPATCHER_BROKER_URL": watched.url.replace("p%3B", "hunter2")}, "DISPATCHER_BROKER_URL: mymaster by sent"),
    ):
        environment = {**watched.environment, **change, "DISPATCHER_DATA_DIR": str(tmp_path / "var")}
        stack = QuickStack(environment, "--no-flower")
        up = stack.run("up", timeout=60)
        assert (up.returncode, up.stdout) == (2, "")
        assert [line for line in up.stderr.splitlines() if said in line] == [up.stderr.splitlines()[0]]
        assert "hunter2" not in up.stderr
        assert "Traceback" not in up.stderr
        sent = stack.run(
            "send", "--to", "a@example.com", "--from", "b@example.com", "--subject", "s", "--text", "t", "--json"
        )
        assert (sent.returncode, json.loads(sent.stdout)["accepted"]) == (0, 1)
        assert said in sent.stderr
