"""Where settings come from: ``dispatcher.toml``, secret files, the environment; each goes over the one before.

An unknown key is an error: a brake that somebody believes in must not be ignored.
"""

import contextlib
import os
import re
import ssl
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_settings import EnvSettingsSource

from dispatcher.address import parse
from dispatcher.broker import BrokerAddress
from dispatcher.delivery import Lane
from dispatcher.errors import ConfigurationError, SubmissionError
from dispatcher.settings import PREFIX, Settings

# Read by the command line, the tests and this module itself; not settings of the dispatcher.
_NOT_SETTINGS = {"DISPATCHER_CONFIG", "DISPATCHER_SECRETS_DIR", "DISPATCHER_SCREENSHOTS"}
_EMBEDDED = "redis://127.0.0.1"  # what ``dispatcher up`` brings, without a URL
_RELAY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


def load(environ: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
    """Read the settings. ``overrides`` win over everything. Raises ConfigurationError naming the setting."""
    env = dict(os.environ if environ is None else environ)
    document = _toml(env.get("DISPATCHER_CONFIG"))
    secrets = _secret_files(env.get("DISPATCHER_SECRETS_DIR"))
    named = _environment({**secrets, **env})
    merged = _merge(_merge(document, named), overrides)
    if merged.get("relay_url") == "":  # a file that is just being written, perhaps
        raise ConfigurationError("DISPATCHER_RELAY_URL", "is empty; take it out if there is to be no relay")
    if url := merged.get("relay_url"):
        relays = merged.setdefault("relays", {})
        if relays.get("default", {}).get("url"):
            raise ConfigurationError("relays.default", "two relays have this name: relay_url makes one too")
        relays["default"] = {**relays.get("default", {}), "url": url}
    try:
        settings = Settings(**merged)
    except ValidationError as error:
        raise _readable(error, env) from None
    _check_urls(settings)
    _check_broker(settings)
    _check_sender(settings, env)
    _check_names(settings)
    settings.relay_table()
    return settings


def stamp(environ: Mapping[str, str] | None = None) -> tuple[tuple[str, int, int], ...]:
    """What tells whether a file of settings or secrets was written since: path, mtime (ns) and size of each."""
    env = os.environ if environ is None else environ
    paths = [Path(env.get("DISPATCHER_CONFIG") or "dispatcher.toml")]
    if folder := env.get("DISPATCHER_SECRETS_DIR"):
        with contextlib.suppress(OSError):  # it is just being replaced
            paths.extend(Path(folder).iterdir())
    found = []
    for path in paths:
        try:
            status = path.stat()
        except OSError:  # there is none, or it is just being replaced
            continue
        found.append((str(path), status.st_mtime_ns, status.st_size))
    return tuple(sorted(found))


def _toml(named: str | None) -> dict[str, Any]:
    path = Path(named or "dispatcher.toml")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if named:
            raise ConfigurationError("DISPATCHER_CONFIG", f"no file at {path}") from None
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(str(path), str(error)) from None


def _secret_files(named: str | None) -> dict[str, str]:
    if not named:
        return {}
    folder = Path(named)
    if not folder.is_dir():
        raise ConfigurationError("DISPATCHER_SECRETS_DIR", f"no folder at {folder}")
    found = {}
    for path in folder.iterdir():
        name = path.name.upper()
        if path.is_file() and not path.name.startswith("."):
            found[name if name.startswith(PREFIX) else PREFIX + name] = _secret(path)
    return found


def _secret(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not UTF-8"
        raise ConfigurationError(str(path), f"cannot be read: {reason}") from None


class _Environment(EnvSettingsSource):
    """pydantic's reading of names and JSON, over a mapping of ours instead of the process' environment."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = {name.lower(): value for name, value in variables.items()}
        super().__init__(Settings)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return self._variables


def _environment(variables: Mapping[str, str]) -> dict[str, Any]:
    """The settings that ``DISPATCHER_*`` names; an unknown name is an error."""
    ours = {
        name: value
        for name, value in variables.items()
        if name.startswith(PREFIX) and name not in _NOT_SETTINGS and not name.startswith("DISPATCHER_TEST_")
    }
    sender = ours.pop("DISPATCHER_FROM", None)
    for name in ours:
        top = name.removeprefix(PREFIX).lower().split("__")[0]
        if top not in Settings.model_fields:
            raise ConfigurationError(name, "unknown setting")
    try:
        found = _Environment(ours)()
    except ValueError as error:
        raise ConfigurationError("DISPATCHER_*", " ".join(str(error).split())) from None
    if sender is not None:
        found["from"] = sender
    return found


def _merge(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(under)
    for name, value in over.items():
        known = merged.get(name)
        merged[name] = _merge(known, value) if isinstance(known, dict) and isinstance(value, dict) else value
    return merged


def _readable(error: ValidationError, env: Mapping[str, str]) -> ConfigurationError:
    """The first fault as one line; never with the value, which may be a secret."""
    fault = error.errors(include_url=False, include_input=False)[0]
    path = [str(part) for part in fault["loc"]]
    variable = PREFIX + "__".join(path).upper()
    setting = variable if variable in env else ".".join(path) or "[delivery]"
    reason = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "extra_forbidden":
        reason = "unknown setting"
    return ConfigurationError(setting, reason)


def _check_sender(settings: Settings, env: Mapping[str, str]) -> None:
    if settings.sender is not None:
        name = "DISPATCHER_FROM" if "DISPATCHER_FROM" in env else "from"
        try:
            parse(settings.sender, name)
        except SubmissionError as error:
            raise ConfigurationError(name, error.reason) from None


def _check_names(settings: Settings) -> None:
    for name in settings.relays:
        if not _RELAY_NAME.fullmatch(name) or name in tuple(Lane):
            raise ConfigurationError(
                f"relays.{name[:64]}",
                "is no name for a relay: letters, digits, - and _, up to 64 of them, and not the name of a lane",
            )


def _check_urls(settings: Settings) -> None:
    if settings.ledger.partition("?")[0].count("@") > 1:  # what follows the first would be shown as the host
        raise ConfigurationError("DISPATCHER_LEDGER_URL", "has an @ in its user name or password; write it as %40")
    if not settings.ledger.startswith(("sqlite:///", "postgresql+psycopg://")):
        scheme = settings.ledger.partition("://")[0]
        raise ConfigurationError(
            "DISPATCHER_LEDGER_URL",
            f"unknown scheme {scheme!r}: use sqlite:///PATH or postgresql+psycopg://USER@HOST/NAME",
        )
    if (
        settings.blobs_url is not None
        and settings.blobs_url != "ledger:"
        and not settings.blobs_url.startswith("file:")
    ):
        raise ConfigurationError("DISPATCHER_BLOBS_URL", "is ledger: or file:FOLDER; there are no other stores yet")


def _check_broker(settings: Settings) -> None:
    url = settings.broker_url.get_secret_value() if settings.broker_url else _EMBEDDED
    BrokerAddress.of(settings, url)
    broker = settings.broker
    for name in ("tls_ca_file", "tls_cert_file", "tls_key_file"):
        path: Path | None = getattr(broker, name)
        if path is not None and not (path.is_file() and os.access(path, os.R_OK)):
            raise ConfigurationError(f"broker.{name}", f"no file that can be read at {path}")
    if broker.tls_ca_file:
        _check_pem("broker.tls_ca_file", lambda context: context.load_verify_locations(broker.tls_ca_file))
    if cert := broker.tls_cert_file:  # an empty passphrase: a worker has nobody to ask for another one
        _check_pem("broker.tls_cert_file", lambda context: context.load_cert_chain(cert, broker.tls_key_file, ""))


def _check_pem(setting: str, read: Callable[[ssl.SSLContext], None]) -> None:
    try:
        read(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    except (ssl.SSLError, ValueError):
        what = "authorities" if setting.endswith("ca_file") else "a certificate with its private key, unencrypted"
        raise ConfigurationError(setting, f"is no PEM file of {what}") from None
