"""A relay (smarthost) as the settings have it: where it is, how to get in, how long to wait (RFC 6409, RFC 8314)."""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Literal, cast
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from dispatcher.errors import ConfigurationError
from dispatcher.rate import Rate

Tls = Literal["starttls", "implicit", "none"]
_TLS_MODES = ("starttls", "implicit", "none")
_PORTS: dict[Tls, int] = {"starttls": 587, "implicit": 465, "none": 25}
_FLAGS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
_MAX_PORT = 65535


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a relay offered once TLS and AUTH were through (RFC 5321 section 4.1.1.1).

    ``extensions`` are EHLO lines, keyword first in upper case; ``size`` is the limit in bytes (RFC 1870), None when
    there is none; ``tls`` the protocol version, None in the clear; ``auth`` the mechanism that let us in.
    """

    extensions: tuple[str, ...] = ()
    size: int | None = None
    tls: str | None = None
    auth: str | None = None

    def offers(self, keyword: str) -> bool:
        """Whether the extension was offered, such as ``SMTPUTF8``, ``8BITMIME`` or ``PIPELINING``."""
        return keyword in _keywords(self.extensions)


@lru_cache(maxsize=64)
def _keywords(extensions: tuple[str, ...]) -> frozenset[str]:
    return frozenset(line.split(" ", 1)[0] for line in extensions)


@dataclass(frozen=True, slots=True)
class Relay:
    """One relay and the terms on which its connections are kept. Of several, the lowest ``priority`` is tried first.

    ``xoauth2_command`` is run for each connection; what it prints is the bearer token. ``ca_file`` (PEM) stands in for
    the system's certificate authorities. ``ehlo`` is the name that we greet with; by default this host's. The timeouts,
    in seconds: the connection and its TLS handshake; a reply to a command; the body and the reply after its final dot.
    ``rate`` and ``max_connections`` hold over all workers. ``pipelining``: use it where it is offered.
    """

    name: str
    host: str
    port: int
    tls: Tls = "starttls"
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    xoauth2_command: tuple[str, ...] | None = field(default=None, repr=False)
    ca_file: str | None = None
    insecure_auth: bool = False
    priority: int = 0
    max_messages_per_connection: int = 1000
    idle_seconds: float = 30.0
    max_age_seconds: float = 600.0
    timeout_connect: float = 10.0
    timeout_command: float = 60.0
    timeout_final: float = 120.0
    ehlo: str | None = None
    rate: Rate = field(default_factory=Rate)
    max_connections: int | None = None
    pipelining: bool = True

    @classmethod
    def parse(cls, name: str, url: str, *, setting: str, **options: Any) -> "Relay":
        """Read ``smtp://user:password@host:587?tls=starttls&insecure_auth=1`` or ``smtps://...``.

        ``options`` are further fields and go over the URL's. Raises ConfigurationError, which names ``setting`` and
        never repeats what may be part of a password.
        """
        parts, port = _split(setting, url)
        query = _query(setting, parts.query)
        host = parts.hostname or ""
        tls = _tls(setting, parts.scheme, query.get("tls"), host)
        given: dict[str, Any] = {
            "host": host,
            "port": port or _PORTS[tls],
            "tls": tls,
            "username": unquote(parts.username) if parts.username else None,
            "password": unquote(parts.password) if parts.password else None,
            "insecure_auth": _flag(setting, "insecure_auth", query.get("insecure_auth", "0")),
        }
        relay = cls(name=name, **(given | {option: value for option, value in options.items() if value is not None}))
        relay._check(setting)
        return relay

    def behind(self) -> "Relay":
        """The relay as a worker for bulk mail alone may use it: a part of its limits is left to what is urgent."""
        most = self.max_connections
        return replace(self, rate=self.rate.behind(), max_connections=most - 1 if most and most > 1 else most)

    @property
    def display(self) -> str:
        """For tables and log lines: ``mail.example.com:587 starttls``."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port} {self.tls}"

    def _check(self, setting: str) -> None:
        secret = self.password is not None or self.xoauth2_command is not None
        if secret and not self.username:
            raise ConfigurationError(setting, "has a password or an xoauth2 command, but no user name")
        if self.username and not secret:
            raise ConfigurationError(setting, "has a user name, but neither a password nor an xoauth2 command")
        if secret and self.tls == "none" and not self.insecure_auth:
            raise ConfigurationError(
                setting,
                "would send the password in the clear; use tls=starttls or implicit, or add insecure_auth=1",
            )


def _split(setting: str, url: str) -> tuple[SplitResult, int | None]:
    # urllib's own sentences quote what they could not read, and that may be half a password: hence "from None".
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ConfigurationError(setting, "is not a URL like smtp://user:password@host:587") from None
    if parts.scheme not in ("smtp", "smtps"):
        raise ConfigurationError(setting, "must begin with smtp:// or smtps://")
    if "@" in parts.path + parts.query + parts.fragment or parts.fragment:
        raise ConfigurationError(setting, "has one of / ? # in its user name or password; write it as %2F, %3F or %23")
    try:
        port = parts.port
    except ValueError:
        raise ConfigurationError(setting, f"has a port that is not a number from 1 to {_MAX_PORT}") from None
    if port == 0:
        raise ConfigurationError(setting, f"has a port that is not a number from 1 to {_MAX_PORT}")
    if not parts.hostname:
        raise ConfigurationError(setting, "names no host; it should look like smtp://user:password@host:587")
    if re.search(r"[^A-Za-z0-9.:_%-]", parts.hostname):
        raise ConfigurationError(setting, "has a host name with characters that no host name has")
    if parts.path not in ("", "/"):
        raise ConfigurationError(setting, "has a path; a relay is only a host and a port")
    return parts, port


def _query(setting: str, query: str) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for key, value in parse_qsl(query, keep_blank_values=True):
        if key not in ("tls", "insecure_auth"):
            raise ConfigurationError(setting, f"has an unknown option {key!r}; known are tls and insecure_auth")
        if key in found:
            raise ConfigurationError(setting, f"has the option {key} twice")
        found[key] = value
    return found


def _tls(setting: str, scheme: str, wanted: str | None, host: str) -> Tls:
    if wanted is not None and wanted not in _TLS_MODES:
        raise ConfigurationError(setting, f"has tls={wanted!r}; it is one of {', '.join(_TLS_MODES)}")
    if scheme == "smtps":
        if wanted not in (None, "implicit"):
            raise ConfigurationError(setting, f"contradicts itself: smtps:// is implicit TLS, not tls={wanted}")
        return "implicit"
    if wanted is not None:
        return cast("Tls", wanted)
    return "none" if _is_loopback(host) else "starttls"


def _flag(setting: str, key: str, value: str) -> bool:
    if value.lower() not in _FLAGS:
        raise ConfigurationError(setting, f"has {key}={value!r}; it is 1 or 0")
    return _FLAGS[value.lower()]


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
