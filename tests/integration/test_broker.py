"""Brokers that are not as the settings say: wrong passwords, users without rights, replicas, certificates of others.

Each is one clear line that names the setting and never the password; mail is accepted into the ledger all the same.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from celery import Celery

from dispatcher.adapters.redis import Broker, connect
from dispatcher.broker import BrokerAddress
from dispatcher.sources import load
from tests import orders
from tests.commands import Cli, QuickStack, cli
from tests.processes import sink_process
from tests.servers import Redis, TlsRedis
from tests.waiting import wait_for
from tests.zygote import clean

__all__ = ["cli"]
pytestmark = pytest.mark.server
WORKER = (sys.executable, "-m", "tasks", "worker", "-Q", "mail.bulk", "-c", "1", "--loglevel", "INFO")
SEND = ("send", "--to", "a@example.com", "--subject", "s", "--text", "t", "--json")


@pytest.fixture(scope="module")
def guarded() -> Iterator[Redis]:
    """A Redis with a password, and a user who may do little."""
    server = Redis("--save", "", *("--user", "guest", "on", ">guest", "~*", "+ping", "+info"), password="right")
    yield server
    server.close()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority, the server's and a client's certificates, and another authority that signed none of them."""
    folder = tmp_path_factory.mktemp("certificates")
    ca = trustme.CA()
    ca.cert_pem.write_to_path(folder / "ca.pem")
    ca.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    ca.issue_cert("erp.example.com").private_key_and_cert_chain_pem.write_to_path(folder / "client.pem")
    trustme.CA().cert_pem.write_to_path(folder / "other.pem")
    for file in folder.iterdir():
        file.chmod(0o600)
    return folder


@pytest.fixture(scope="module")
def tls_redis(certificates: Path) -> Iterator[TlsRedis]:
    server = TlsRedis(certificates)
    yield server
    server.close()


def secure(server: TlsRedis, certificates: Path, **changes: str) -> dict[str, str]:
    """The settings for it. Its certificate is for ``localhost``, not for 127.0.0.1."""
    return {
        "DISPATCHER_BROKER_URL": f"rediss://localhost:{server.port}/0",
        "DISPATCHER_BROKER__TLS_CA_FILE": str(certificates / "ca.pem"),
        "DISPATCHER_BROKER__TLS_CERT_FILE": str(certificates / "client.pem"),
        **changes,
    }


def refuses(cli: Cli, said: str, **environment: str) -> None:
    """Every command says so in one line and goes on as far as it can."""
    for arguments, code in ((("wait", "--ready", "--timeout", "5"), 2), (("status",), 3), (("up",), 2)):
        done = cli(*arguments, **environment)
        assert done.returncode == code, (arguments, done.stderr)
        (line,) = done.stderr.splitlines() if arguments == ("status",) else done.stderr.splitlines()[:1]
        assert line.startswith(f"dispatcher: {said}"), arguments
        assert "hunter2" not in done.stdout + done.stderr
    done = cli("doctor", **environment)
    assert done.returncode == 2
    assert f"broker\tfail\t{said}" in done.stdout
    assert "hunter2" not in done.stdout + done.stderr
    sent = cli(*SEND, **environment)
    assert (sent.returncode, json.loads(sent.stdout)["accepted"]) == (0, 1)
    assert sent.stderr.startswith(f"dispatcher: accepted, and sent once workers can be rung: {said}")
    assert len(sent.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("who", "said"),
    [
        (":hunter2@", "refuses this user or password"),
        ("", "wants a password, and none is given"),
        ("nobody:hunter2@", "refuses this user or password"),
        ("guest:guest@", "does not let this user do it: "),
    ],
)
def test_a_broker_that_refuses_us_is_one_line_everywhere_and_mail_is_accepted(
    cli: Cli, guarded: Redis, who: str, said: str
) -> None:
    url = f"redis://{who}127.0.0.1:{guarded.port}/0"
    display = f"redis://127.0.0.1:{guarded.port}/0"
    refuses(cli, f"DISPATCHER_BROKER_URL: {display} {said}", DISPATCHER_BROKER_URL=url)


def test_a_password_for_a_server_without_one_is_refused(cli: Cli, redis_server: Redis) -> None:
    url = f"redis://someone:hunter2@127.0.0.1:{redis_server.port}/0"
    display = f"redis://127.0.0.1:{redis_server.port}/0"
    refuses(cli, f"DISPATCHER_BROKER_URL: {display} refuses this user or password", DISPATCHER_BROKER_URL=url)


def test_a_replica_is_refused(cli: Cli, redis_server: Redis) -> None:
    replica = Redis("--save", "", "--replicaof", "127.0.0.1", str(redis_server.port))
    try:
        said = f"DISPATCHER_BROKER_URL: redis://127.0.0.1:{replica.port}/0 is a read-only replica: "
        refuses(cli, said, DISPATCHER_BROKER_URL=replica.url)
    finally:
        replica.close()


@pytest.mark.parametrize("who", [":hunter2@", "guest:guest@"])
def test_a_worker_that_is_refused_ends_with_one_line(tmp_path: Path, guarded: Redis, who: str) -> None:
    url = f"redis://{who}127.0.0.1:{guarded.port}/0"
    done = worker(tmp_path, DISPATCHER_BROKER_URL=url)
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if " error " in line]
    assert f"DISPATCHER_BROKER_URL: redis://127.0.0.1:{guarded.port}/0 " in line
    assert "Traceback" not in done.stderr
    assert "hunter2" not in done.stdout + done.stderr


def test_a_worker_warns_of_a_broker_that_deletes_queues(tmp_path: Path) -> None:
    server = Redis("--appendonly", "yes", "--maxmemory-policy", "allkeys-lru")
    log = tmp_path / "log"
    environment = quiet(DISPATCHER_DATA_DIR=str(tmp_path / "var"), DISPATCHER_BROKER_URL=server.url)
    with log.open("wb") as file:
        process = subprocess.Popen(WORKER, env=environment, cwd=tmp_path, stdout=file, stderr=file)
    try:
        warned = (
            "the broker's maxmemory-policy is allkeys-lru: set maxmemory-policy noeviction: any other deletes queues"
        )
        wait_for(lambda: warned in log.read_text(), 30)
        assert log.read_text().count(warned) == 1
    finally:
        process.terminate()
        process.wait(30)
        server.close()


def quiet(**environment: str) -> dict[str, str]:
    """Celery warns whoever runs it as root."""
    return {**clean(**environment), "PYTHONWARNINGS": "ignore"}


def worker(folder: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        WORKER,
        env=quiet(DISPATCHER_DATA_DIR=str(folder / "var"), **environment),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


# -- TLS


def address(environment: dict[str, str]) -> BrokerAddress:
    return BrokerAddress.of(load(environment), environment["DISPATCHER_BROKER_URL"])


def test_tls_is_verified_both_ways(tls_redis: TlsRedis, certificates: Path) -> None:
    good = secure(tls_redis, certificates)
    with connect(address(good)) as client:
        assert client.ping()
    by_number = {"DISPATCHER_BROKER_URL": f"rediss://127.0.0.1:{tls_redis.port}/0"}
    anonymous = {name: value for name, value in good.items() if name != "DISPATCHER_BROKER__TLS_CERT_FILE"}
    for environment, said in (
        (
            good | {"DISPATCHER_BROKER__TLS_CA_FILE": str(certificates / "other.pem")},
            "self-signed certificate in certificate chain",
        ),
        (good | by_number, "certificate is not valid for '127.0.0.1'"),
        (anonymous, "certificate"),  # asked for, or hung up on
    ):
        found = Broker(address(environment)).fault()
        assert found is not None
        assert (found.setting, found.refused) == ("DISPATCHER_BROKER_URL", True)
        assert said in found.reason
    unnamed = good | by_number | {"DISPATCHER_BROKER__TLS_CHECK_HOSTNAME": "false"}
    assert Broker(address(unnamed)).fault() is None


def test_a_certificate_of_somebody_else_is_one_line_everywhere(
    cli: Cli, tls_redis: TlsRedis, certificates: Path
) -> None:
    other = secure(tls_redis, certificates, DISPATCHER_BROKER__TLS_CA_FILE=str(certificates / "other.pem"))
    said = f"DISPATCHER_BROKER_URL: rediss://localhost:{tls_redis.port}/0 is not reached by TLS: self-signed cert"
    refuses(cli, said, **other)


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_mail_flows_over_tls_and_a_producer_is_told_how(
    tls_redis: TlsRedis, certificates: Path, tmp_path: Path
) -> None:
    record = tmp_path / "sink.jsonl"
    with sink_process(record) as url:
        environment = {"DISPATCHER_DATA_DIR": str(tmp_path / "var"), "DISPATCHER_RELAY_URL": url}
        with QuickStack({**environment, **secure(tls_redis, certificates)}) as stack:
            sent = stack.run(*SEND, "--from", "b@example.com", "--wait", "--timeout", "30")
            assert sent.returncode == 0, sent.stderr
            said = stack.json("broker-url")
            with Celery(broker=said["url"], set_as_current=False) as producer:
                producer.conf.broker_use_ssl = said["broker_use_ssl"]
                submission = {"to": ["ann@example.com"], "from": "erp@example.com", "subject": "Hi", "text": "x"}
                producer.send_task("mail.submit", kwargs={"submission": submission}, queue="mail.intake")
            wait_for(lambda: orders.count(record) == 2, 30)
            assert "insecure SSL" not in stack.log()
