"""The keys that sign our links: those of the settings, else one that is made on first run in the data folder."""

import os
import secrets
from pathlib import Path

from dispatcher.errors import ConfigurationError
from dispatcher.settings import MIN_KEY, Settings

_FILE = "secret_keys"
_SETTING = "DISPATCHER_SECRET_KEYS"
_BYTES = 32


def secret_keys(settings: Settings) -> tuple[str, ...]:
    """The first one signs, all verify. Raises ConfigurationError."""
    if settings.secret_keys:
        return tuple(dict.fromkeys(key.get_secret_value() for key in settings.secret_keys))
    path = settings.data_dir / _FILE
    try:
        text = _read(path) or _made(path)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not UTF-8"
        raise ConfigurationError(_SETTING, f"is not set, and {path} cannot be used: {reason}") from None
    found = tuple(dict.fromkeys(text.split()))
    if not found or min(map(len, found)) < MIN_KEY:
        raise ConfigurationError(
            _SETTING, f"is not set, and {path} has no key, or one of less than {MIN_KEY} characters"
        )
    return found


def _read(path: Path) -> str | None:
    """One key a line."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def _made(path: Path) -> str:
    """Whoever is first makes it, whole and on disk before it has its name; all others read that one."""
    new = path.with_name(f"{_FILE}.{secrets.token_hex(8)}")
    handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(f"{secrets.token_urlsafe(_BYTES)}\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(new, path)
        except FileExistsError:  # another process was first
            return path.read_text(encoding="utf-8")
    finally:
        new.unlink()
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return path.read_text(encoding="utf-8")
