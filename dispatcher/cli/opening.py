"""What commands begin with: the settings, a dispatcher or its ledger, and who is at the keyboard."""

import getpass
import json
import os
import re
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

from dispatcher.cli.output import note
from dispatcher.delivery import Actor
from dispatcher.duration import seconds
from dispatcher.errors import ConfigurationError

if TYPE_CHECKING:
    from dispatcher.adapters.sql.ledger import SqlLedger
    from dispatcher.dispatcher import Dispatcher
    from dispatcher.settings import Settings

_STARTING_SECONDS = 20.0
_AFTER = re.compile(r"\+(.+)")


def settings_of_user() -> "Settings":
    """The settings of file and environment. Raises ConfigurationError naming the setting."""
    from dispatcher.sources import load  # noqa: PLC0415 - a fifth of a second that --help does not need

    return load()


def duration_of(text: str) -> float:
    """Seconds of ``90s``, ``2h``, ``3d``. Raises ValueError."""
    return float(seconds(text))


@contextmanager
def opened(
    settings: "Settings | None" = None, *, paths: Literal["nowhere", "settings", "anywhere"] = "settings"
) -> Iterator["Dispatcher"]:
    """A dispatcher by the settings; ``paths``: where it reads attachments, as ``AttachmentPaths`` has it."""
    from dispatcher.bootstrap import AttachmentPaths, build  # noqa: PLC0415 - half a second that --help does not need

    dispatcher = build(settings or settings_of_user(), paths=AttachmentPaths(paths))
    with dispatcher:
        yield dispatcher


@contextmanager
def opened_ledger(settings: "Settings | None" = None, *, there: bool = False) -> Iterator["SqlLedger"]:
    """Only the ledger by the settings; ``there``: one that is there already, for what says nothing about a new one."""
    from dispatcher.adapters.runtime import writable  # noqa: PLC0415 - as above
    from dispatcher.adapters.sql.opening import missing_file, open_ledger  # noqa: PLC0415 - half of what a whole dispatcher imports

    settings = settings or settings_of_user()
    if there and (path := missing_file(settings.ledger)) is not None:
        setting = "DISPATCHER_DATA_DIR" if settings.ledger_url is None else "DISPATCHER_LEDGER_URL"
        raise ConfigurationError(setting, f"there is no ledger at {path}: is it the right one?")
    writable(settings)
    ledger = open_ledger(settings.ledger)
    try:
        yield ledger
    finally:
        ledger.close()


def actor(reason: str = "") -> Actor:
    """Whoever runs this command."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a container's user that has no name
        name = str(os.getuid())
    return Actor(name, socket.gethostname(), reason)


def warn_if_unserved(dispatcher: "Dispatcher", settings: "Settings") -> bool:
    """Say so when no worker serves the ledger that mail was just put into: their sweeps leave a mark there."""
    from dispatcher import bootstrap  # noqa: PLC0415 - as above

    age = dispatcher.ledger.ticks().get("sweep")
    if age is not None and age < max(_STARTING_SECONDS, 5 * settings.delivery.sweep_seconds):
        return False
    stack = bootstrap.runtime(settings)
    if stack is not None and time.time() - stack["started"] < _STARTING_SECONDS:
        return False
    broker = bootstrap.broker(settings)
    if broker is None:
        note("dispatcher: accepted, but no worker serves this ledger: start one with `dispatcher up`")
    elif (fault := broker.fault()) is not None:
        note(f"dispatcher: accepted, and sent once workers can be rung: {fault}")
    else:
        note("dispatcher: accepted, but no worker has served this ledger lately: see `dispatcher status`")
    return True


def moment(text: str, option: str) -> float:
    """A time on the command line as seconds since the epoch: ISO 8601, in this machine's zone if it names none, or
    ``+90s``, ``+2h`` from now. Ends the command for anything else."""
    try:
        if after := _AFTER.fullmatch(text):
            return time.time() + duration_of(after[1])
        return datetime.fromisoformat(text).astimezone().timestamp()
    except (ValueError, OverflowError, OSError):
        raise typer.BadParameter(f"{text!r} is no time: write 2026-12-01T09:00 or +90s", param_hint=option) from None


def ago(text: str, option: str) -> float:
    """``2h``, ``3d`` ago, or a time as ``moment`` reads it."""
    try:
        return time.time() - duration_of(text)
    except ValueError:
        return moment(text, option)


def pairs(texts: Sequence[str], option: str) -> tuple[tuple[str, str], ...]:
    """``NAME=VALUE`` as often as it is given."""
    found = [text.partition("=") for text in texts]
    for name, sign, _ in found:
        if not sign or not name:
            raise typer.BadParameter("write NAME=VALUE", param_hint=option)
    return tuple((name, value) for name, _, value in found)


def read_text(path: str, option: str, *, exact: bool = False) -> str:
    """A UTF-8 file, or stdin for ``-``; a mark of the byte order before it is no part of it, unless it is to be
    ``exact``. Raises ConfigurationError naming the option."""
    try:
        content = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
        return content.decode("utf-8" if exact else "utf-8-sig")
    except OSError as error:
        raise ConfigurationError(option, f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        row = content[: error.start].count(b"\n") + 1
        raise ConfigurationError(option, f"{path}:{row}: is not UTF-8") from None


def json_argument(given: str | None, option: str) -> Any:
    """JSON as it stands, or in a file; what begins with a brace is no file's name. Raises ConfigurationError naming the
    option."""
    if given is None:
        return None
    inline = given.lstrip().startswith("{")
    text, where = (given, "") if inline else (read_text(given, option), f"{given}:")
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        place = f"{where}{error.lineno}: " if where else ""
        raise ConfigurationError(option, f"{place}is not JSON: {error.msg} at column {error.colno}") from None
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(option, f"{where} is not JSON: {error}") from None
