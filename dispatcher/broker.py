"""Where the broker is: one server, or the master that some sentinels name."""

from dataclasses import dataclass, field
from urllib.parse import SplitResult, unquote, urlsplit

from dispatcher.errors import ConfigurationError
from dispatcher.settings import Settings

SETTING = "DISPATCHER_BROKER_URL"
_SCHEMES = ("redis", "rediss", "redis+socket", "sentinel", "sentinels")
_SECURE = ("rediss", "sentinels")
_REDIS_PORT, _SENTINEL_PORT = 6379, 26379
_LIKE = "is not a URL like redis://:password@host:6379/0"
_SENTINELS_LIKE = "is not like sentinel://:password@host1:26379/0;sentinel://host2:26379;sentinel://host3:26379"


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """A broker's URL with what the URL cannot say.

    ``url`` may be several, parted by ``;``, of sentinels: user, password and database are those of the Redis that they
    watch, and stand in any of them. ``rediss://`` and ``sentinels://`` are TLS, the latter to sentinels and Redis.
    """

    url: str = field(repr=False)
    sentinel_master: str | None = None
    sentinel_password: str | None = field(default=None, repr=False)
    tls_ca_file: str | None = None
    tls_cert_file: str | None = None
    tls_key_file: str | None = None
    tls_check_hostname: bool = True

    @classmethod
    def of(cls, settings: Settings, url: str) -> "BrokerAddress":
        """This URL with the ``[broker]`` section of the settings. Raises ConfigurationError, without the password."""
        broker = settings.broker
        made = cls(
            url,
            sentinel_master=broker.sentinel_master,
            sentinel_password=broker.sentinel_password.get_secret_value() if broker.sentinel_password else None,
            tls_ca_file=str(broker.tls_ca_file) if broker.tls_ca_file else None,
            tls_cert_file=str(broker.tls_cert_file) if broker.tls_cert_file else None,
            tls_key_file=str(broker.tls_key_file) if broker.tls_key_file else None,
            tls_check_hostname=broker.tls_check_hostname,
        )
        for part in made._urls:
            _check(part, made.scheme)
        made._check_section()
        return made

    @property
    def scheme(self) -> str:
        return self.url.partition("://")[0] if "://" in self.url else ""

    @property
    def tls(self) -> bool:
        return self.scheme in _SECURE

    @property
    def sentinels(self) -> tuple[tuple[str, int], ...]:
        """Host and port of each; empty when the URL names the server itself."""
        if not self.scheme.startswith("sentinel"):
            return ()
        return tuple((parts.hostname or "", parts.port or _SENTINEL_PORT) for parts in self._parts)

    @property
    def username(self) -> str | None:
        return next((unquote(parts.username) for parts in self._parts if parts.username), None)

    @property
    def password(self) -> str | None:
        return next((unquote(parts.password) for parts in self._parts if parts.password), None)

    @property
    def database(self) -> int:
        """The number at the end of a URL; 0 without one."""
        return next((int(path) for parts in self._parts if (path := parts.path.strip("/")).isdigit()), 0)

    @property
    def display(self) -> str:
        """For tables and log lines, without user and password: ``redis://127.0.0.1:6379/0``, and for sentinels
        ``mymaster by sentinel://host1:26379, host2:26379``."""
        if self.sentinels:
            places = ", ".join(_place(host, port) for host, port in self.sentinels)
            return f"{self.sentinel_master} by {self.scheme}://{places}"
        (parts,) = self._parts
        if self.scheme == "redis+socket":
            return f"{self.scheme}://{parts.path}"
        return f"{self.scheme}://{_place(parts.hostname or 'localhost', parts.port or _REDIS_PORT)}/{self.database}"

    @property
    def _urls(self) -> list[str]:
        return self.url.split(";") if self.scheme.startswith("sentinel") else [self.url]

    @property
    def _parts(self) -> list[SplitResult]:
        return [urlsplit(url) for url in self._urls]

    def _check_section(self) -> None:
        """Each setting of ``[broker]`` has a URL that it is for, or somebody believes in a lock that is not there."""
        if self.sentinels and not self.sentinel_master:
            raise ConfigurationError("broker.sentinel_master", f"is needed with {self.scheme}://: the master's name")
        if not self.sentinels:
            for name in ("sentinel_master", "sentinel_password"):
                if getattr(self, name) is not None:
                    raise ConfigurationError(f"broker.{name}", f"is for sentinel:// or sentinels:// in {SETTING}")
        if self.tls_key_file and not self.tls_cert_file:
            raise ConfigurationError("broker.tls_key_file", "is the key of no certificate: set broker.tls_cert_file")
        for name in ("tls_ca_file", "tls_cert_file", "tls_check_hostname"):
            if not self.tls and getattr(self, name) not in (None, True):
                raise ConfigurationError(f"broker.{name}", f"is for rediss:// or sentinels:// in {SETTING}")
        for which, found in (
            ("users", {p.username for p in self._parts if p.username}),
            ("passwords", {p.password for p in self._parts if p.password}),
            ("databases", {path for p in self._parts if (path := p.path.strip("/"))}),
        ):
            if len(found) > 1:
                raise ConfigurationError(
                    SETTING, f"names several {which}: they are those of one Redis, so one is enough"
                )


def _check(url: str, scheme: str) -> None:
    if scheme and scheme not in _SCHEMES:
        raise ConfigurationError(
            SETTING, f"unknown scheme {scheme!r}: use redis://, rediss://, sentinel:// or sentinels://"
        )
    like = _SENTINELS_LIKE if scheme.startswith("sentinel") else _LIKE
    # urllib's own sentence quotes what it could not read, which may be half a password: hence "from None".
    try:
        parts = urlsplit(url)
        sound = parts.port is None or parts.port > 0
    except ValueError:
        raise ConfigurationError(SETTING, like) from None
    if not sound or not scheme or parts.scheme != scheme or parts.fragment or "@" in parts.path + parts.query:
        raise ConfigurationError(SETTING, like)
    if scheme == "redis+socket":
        return
    if parts.query:
        raise ConfigurationError(SETTING, "takes no options after a ?: see [broker] in the settings")
    if parts.path.strip("/") and not parts.path.strip("/").isdigit():
        raise ConfigurationError(SETTING, "ends in the number of a database, such as /0")
    if scheme.startswith("sentinel") and not parts.hostname:
        raise ConfigurationError(SETTING, like)


def _place(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
