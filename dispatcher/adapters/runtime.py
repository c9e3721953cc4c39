"""How the commands of one machine find the stack that runs on a data folder: a lock that it holds while it lives,
and a file in which it says what runs where. A lock cannot outlive its process, as a pid in a file can."""

import fcntl
import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dispatcher.broker import BrokerAddress
from dispatcher.errors import ConfigurationError

if TYPE_CHECKING:
    from dispatcher.settings import Settings

_FILE, _LOCK = "runtime.json", "runtime.lock"
_PATIENCE_SECONDS = 1.0  # readers hold the lock for an instant


class Runtime:
    """The stack's side: ``claim`` the data folder, ``write`` as often as something changes, ``release`` at the end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = -1

    def claim(self) -> None:
        """Become the one stack of this folder. Raises ConfigurationError when another one runs on it."""
        self._lock = os.open(self._folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        until = time.monotonic() + _PATIENCE_SECONDS
        while not _taken(self._lock, fcntl.LOCK_EX):
            if time.monotonic() > until:
                os.close(self._lock)
                self._lock = -1
                pid = (read(self._folder) or {}).get("pid", "unknown")
                raise ConfigurationError("DISPATCHER_DATA_DIR", f"a stack runs on {self._folder} already (pid {pid})")
            time.sleep(0.05)
        (self._folder / _FILE).unlink(missing_ok=True)  # what a killed one left behind

    def write(self, document: dict[str, Any]) -> None:
        """Replace the file at once; it holds the broker's password, so nobody else may read it."""
        path = self._folder / f"{_FILE}.new"
        path.unlink(missing_ok=True)
        path.touch(mode=0o600)
        path.write_text(json.dumps(document), encoding="utf-8")
        path.replace(self._folder / _FILE)

    def release(self) -> None:
        """Nothing runs here any more."""
        if self._lock >= 0:
            (self._folder / _FILE).unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = -1


def read(folder: Path) -> dict[str, Any] | None:
    """What runs on this data folder: ``pid``, ``started`` (epoch), ``ready`` (every lane is served), ``broker_url``,
    ``flower`` and ``pages`` (URLs, or empty), ``journals`` (how many processes of it have one) and ``processes``, each
    with ``name``, ``pid`` and ``restarts``. None when nothing does, or it is another user's."""
    try:
        lock = os.open(folder / _LOCK, os.O_RDONLY)
    except OSError:
        return None
    try:
        if _taken(lock, fcntl.LOCK_SH):
            return None
    finally:
        os.close(lock)
    try:
        found: dict[str, Any] = json.loads((folder / _FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found


def writable(settings: "Settings") -> None:
    """Make the data folder, private to its user. Raises ConfigurationError."""
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not os.access(settings.data_dir, os.W_OK | os.X_OK):
            raise PermissionError(13, "permission denied")
    except OSError as error:
        raise ConfigurationError(
            "DISPATCHER_DATA_DIR", f"cannot write to {settings.data_dir}: {error.strerror}"
        ) from None


def broker_address(settings: "Settings") -> BrokerAddress | None:
    """The broker of the settings, else the embedded one of the running stack; None when there is neither."""
    if settings.broker_url is not None:
        return BrokerAddress.of(settings, settings.broker_url.get_secret_value())
    found = read(settings.data_dir)
    url = found["broker_url"] if found else ""  # a stack that has just begun has none yet
    return BrokerAddress.of(settings, str(url)) if url else None


def _taken(lock: int, kind: int) -> bool:
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
