"""A sink's script: its rules and what they need, as values or as a TOML file with a table for each rule."""

import re
import ssl
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dispatcher.duration import seconds
from dispatcher.errors import ConfigurationError
from dispatcher.reply import Phase
from dispatcher.servers.rule import Rule

_HEAD = re.compile(r"^[ \t]*\[\[[ \t]*rule[ \t]*\]\]", re.MULTILINE)
_TWO = 2


@dataclass(frozen=True)
class Script:
    """Rules, of which the first that holds strikes, and what the sink needs for them: logins, TLS.

    ``seed`` is that of the random holds and chances. ``users``: name to password. ``implicit``: TLS is spoken at once.
    """

    rules: Sequence[Rule] = ()
    seed: int = 0
    users: Mapping[str, str] = field(default_factory=dict, repr=False)
    tls: ssl.SSLContext | None = None
    implicit: bool = False

    @classmethod
    def read(cls, path: Path) -> "Script":
        """Read a TOML file, see docs/fault-sink.md. Raises ConfigurationError: the file, line, rule and field."""
        try:
            text = path.read_text(encoding="utf-8")
            return cls._parse(text, path.parent)
        except OSError as error:
            raise ConfigurationError(str(path), f"cannot be read: {error.strerror}") from None
        except UnicodeDecodeError as error:
            line = path.read_bytes()[: error.start].count(b"\n") + 1
            raise ConfigurationError(str(path), f"line {line}: is not UTF-8") from None
        except ValueError as error:  # TOMLDecodeError is one
            raise ConfigurationError(str(path), str(error)) from None

    @classmethod
    def _parse(cls, text: str, folder: Path) -> "Script":
        document = tomllib.loads(text)
        _check_names(document, ("seed", "users", "tls", "rule"))
        tls, implicit = _tls(_table(document["tls"], "tls"), folder) if "tls" in document else (None, False)
        users = {
            name: _at(f"users.{name}", _text, word) for name, word in _table(document.get("users", {}), "users").items()
        }
        seed = _at("seed", _whole, document.get("seed", 0))
        return cls(_rules(document.get("rule", []), text), seed, users, tls, implicit)


def _rules(tables: Any, text: str) -> tuple[Rule, ...]:
    _require(isinstance(tables, list), "rule: must be a list of tables: write [[rule]]")
    lines = [text.count("\n", 0, found.start()) + 1 for found in _HEAD.finditer(text)]
    rules = []
    for number, table in enumerate(tables):
        try:
            rules.append(_rule(_table(table, "rule")))
        except ValueError as error:
            # A text of several lines may hold what looks like a head: better no line than a wrong one.
            line = f"line {_line(text, lines, number, str(error))}, " if len(lines) == len(tables) else ""
            raise ValueError(f"{line}rule {number + 1}: {error}") from None
    return tuple(rules)


def _line(text: str, lines: Sequence[int], number: int, error: str) -> int:
    """Where the field that the error names stands in its rule; else where the rule begins."""
    field, begin = error.partition(":")[0], lines[number]
    end = lines[number + 1] - 1 if number + 1 < len(lines) else None
    for line, words in enumerate(text.split("\n")[begin:end], begin + 1):
        if re.match(rf"[ \t]*{re.escape(field)}[ \t]*=", words):
            return line
    return begin


def _rule(table: Mapping[str, Any]) -> Rule:
    _check_names(table, tuple(_FIELDS))
    return Rule(**{name: _at(name, _FIELDS[name], value) for name, value in table.items()})


def _tls(table: Mapping[str, Any], folder: Path) -> tuple[ssl.SSLContext | None, bool]:
    _check_names(table, ("certificate", "key", "implicit"))
    _require("certificate" in table, "tls.certificate: required: a PEM file, by its path from the script's folder")
    paths = {name: folder / _at(f"tls.{name}", _text, table[name]) for name in ("certificate", "key") if name in table}
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(paths["certificate"], paths.get("key"))
    except OSError as error:  # ssl.SSLError is one
        raise ValueError(f"tls.certificate: {paths['certificate']}: {error.strerror or error}") from None
    return context, _at("tls.implicit", _flag, table.get("implicit", False))


def _check_names(table: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for name in table:
        _require(name in known, f"{name}: unknown field; known are {', '.join(known)}")


def _at(name: str, reader: Callable[[Any], Any], value: Any) -> Any:
    try:
        return reader(value)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _table(value: Any, name: str) -> dict[str, Any]:
    _require(isinstance(value, dict), f"{name}: must be a table")
    return dict(value)


def _text(value: Any) -> str:
    _require(isinstance(value, str), "must be a string")
    return str(value)


def _whole(value: Any) -> int:
    _require(isinstance(value, int) and not isinstance(value, bool), "must be a whole number")
    return int(value)


def _number(value: Any) -> float:
    _require(isinstance(value, int | float) and not isinstance(value, bool), "must be a number")
    return float(value)


def _flag(value: Any) -> bool:
    _require(isinstance(value, bool), "must be true or false")
    return bool(value)


def _require(fits: bool, reason: str) -> None:
    if not fits:
        raise ValueError(reason)


def _phase(value: Any) -> Phase:
    try:
        return Phase(value)
    except ValueError:
        raise ValueError(f"must be one of {', '.join(Phase)}") from None


def _duration(value: Any) -> float:
    return _number(seconds(value))


def _hold(value: Any) -> float | tuple[float, float]:
    if not isinstance(value, list):
        return _duration(value)
    _require(len(value) == _TWO, 'must be a time such as "300ms", or two of them')
    return _duration(value[0]), _duration(value[1])


_FIELDS: dict[str, Callable[[Any], Any]] = {
    "phase": _phase,
    "address": _text,
    "times": _whole,
    "after": _whole,
    "per": _text,
    "above": _whole,
    "chance": _number,
    "body_bytes": _whole,
    "accept": _flag,
    "hold": _hold,
    "reply": _text,
    "drop": _flag,
    "drip": _duration,
}
