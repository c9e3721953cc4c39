"""Settings: ``dispatcher.toml``, overridden by secret files, overridden by ``DISPATCHER_*``. One frozen object.

An unknown key is an error, and so is a key of a part that this version does not have: a brake that somebody
believes in must not be ignored.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from dispatcher.errors import ConfigurationError
from dispatcher.relay import Relay

PREFIX = "DISPATCHER_"
# Read by the command line, the tests and this module itself; not settings of the dispatcher.
_NOT_SETTINGS = {"DISPATCHER_CONFIG", "DISPATCHER_SECRETS_DIR", "DISPATCHER_SCREENSHOTS"}
_LATER = {
    "retention": "retention",
    "secret_keys": "signed links",
    "public_url": "our own pages",
    "delivery.host_grace": "the file journal",
    "delivery.connections": "several connections per process",
    "broker": "Sentinel and TLS options of the broker",
    "relays.*.rate": "rate limits",
    "relays.*.max_connections": "limits over all workers",
    "relays.*.pipelining": "pipelining",
}
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?")
MARGIN_SECONDS = 1.0  # what settling a last outcome may take


def seconds(value: Any) -> Any:
    """Read ``90``, ``"90s"``, ``"5m"``, ``"1h"``, ``"3d"`` as seconds; ValueError for anything else."""
    if isinstance(value, str):
        if not (found := _DURATION.fullmatch(value.strip())):
            msg = f"{value!r} is no duration: write 90s, 5m, 1h or 3d"
            raise ValueError(msg)
        return float(found[1]) * _UNITS[found[2] or "s"]
    return value


Duration = Annotated[float, BeforeValidator(seconds), Field(gt=0)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Timeouts(_Section):
    """Seconds to wait for the relay. RFC 5321 section 4.5.3.2 allows minutes; a smarthost that needs them is ill."""

    connect: Duration = 10
    command: Duration = 60
    final: Duration = 120


class RelaySettings(_Section):
    """``[relays.NAME]``."""

    url: SecretStr
    priority: int = 0
    max_messages_per_connection: int = Field(default=100, gt=0)
    idle_seconds: Duration = 30
    max_age_seconds: Duration = 600
    timeouts: Timeouts = Timeouts()
    ehlo: str | None = None
    ca_file: Path | None = None
    xoauth2_command: tuple[str, ...] | None = Field(default=None, repr=False)


class Processes(_Section):
    """Worker processes by worker."""

    transactional: int = Field(default=1, gt=0)
    bulk: int = Field(default=2, gt=0)
    intake: int = Field(default=1, gt=0)


class DeliverySettings(_Section):
    """``[delivery]``; the times must fit into each other, see ``Settings``."""

    batch_size: int = Field(default=100, gt=0, le=1000)
    batch_seconds: Duration = 60
    task_seconds: Duration = 240
    lease_seconds: Duration = 300
    settle_seconds: Duration = 0.1
    sweep_seconds: Duration = 2
    if_in_doubt: Literal["resend", "hold"] = "resend"
    processes: Processes = Processes()


class Lifetime(_Section):
    """How long a mail may be tried, by lane."""

    transactional: Duration = 86400
    bulk: Duration = 3 * 86400


class RetrySettings(_Section):
    """``[retry]``; the last delay repeats until the lifetime is used up."""

    schedule: tuple[Duration, ...] = Field(default=(60, 300, 900, 3600, 7200, 14400, 28800, 57600, 86400), min_length=1)
    jitter: float = Field(default=0.1, ge=0, lt=1)
    lifetime: Lifetime = Lifetime()


class LogSettings(_Section):
    """``[log]``."""

    format: Literal["text", "json"] = "text"
    addresses: Literal["full", "masked"] = "full"


class Settings(BaseSettings):
    """All settings. Read them with ``load``; nothing else in the package looks at the environment."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        nested_model_default_partial_update=True,
    )

    data_dir: Path = Path("var")
    broker_url: SecretStr | None = None
    ledger_url: SecretStr | None = None
    blobs_url: str | None = None
    relay_url: SecretStr | None = None
    relays: dict[str, RelaySettings] = Field(default_factory=dict)
    sender: str | None = Field(default=None, validation_alias="from")
    mail_from: str | None = None
    templates_dir: Path | None = None
    attachments_dirs: tuple[Path, ...] = ()
    redis_server: Path | None = None
    flower_password: SecretStr | None = None
    max_message_bytes: int = Field(default=25 * 1024 * 1024, gt=0)
    delivery: DeliverySettings = DeliverySettings()
    retry: RetrySettings = RetrySettings()
    log: LogSettings = LogSettings()

    @classmethod
    def settings_customise_sources(  # type: ignore[override]  # ours takes the sources by name only
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the name is pydantic's
        init_settings: PydanticBaseSettingsSource,
        **_: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)

    @model_validator(mode="after")
    def _times_fit(self) -> Self:
        """A batch ends before its task is killed, a task before its lease ends; else two workers own one mail."""
        d, longest = (
            self.delivery,
            max(
                (max(r.timeouts.connect, r.timeouts.command, r.timeouts.final) for r in self.relays.values()),
                default=Timeouts().final,
            ),
        )
        if not d.batch_seconds + longest + MARGIN_SECONDS < d.task_seconds < d.lease_seconds:
            msg = (
                f"batch_seconds + longest SMTP timeout + {MARGIN_SECONDS:g} < task_seconds < lease_seconds must hold; "
                f"now {d.batch_seconds:g} + {longest:g} + {MARGIN_SECONDS:g} < {d.task_seconds:g} < {d.lease_seconds:g}"
            )
            raise ValueError(msg)
        return self

    @property
    def ledger(self) -> str:
        """The ledger's URL."""
        if self.ledger_url is not None:
            return self.ledger_url.get_secret_value()
        return f"sqlite:///{self.data_dir.resolve() / 'ledger.db'}"

    @property
    def blobs(self) -> Path:
        """The folder of the attachments."""
        return Path((self.blobs_url or f"file:{self.data_dir.resolve() / 'blobs'}").removeprefix("file:"))

    def relay_table(self) -> dict[str, Relay]:
        """All relays by name, in the order of their priority. Raises ConfigurationError."""
        return {
            name: Relay.parse(
                name,
                found.url.get_secret_value(),
                setting=f"relays.{name}.url" if self.relay_url is None or name != "default" else "DISPATCHER_RELAY_URL",
                priority=found.priority,
                max_messages_per_connection=found.max_messages_per_connection,
                idle_seconds=found.idle_seconds,
                max_age_seconds=found.max_age_seconds,
                timeout_connect=found.timeouts.connect,
                timeout_command=found.timeouts.command,
                timeout_final=found.timeouts.final,
                ehlo=found.ehlo,
                ca_file=str(found.ca_file) if found.ca_file else None,
                xoauth2_command=found.xoauth2_command,
            )
            for name, found in sorted(self.relays.items(), key=lambda item: (item[1].priority, item[0]))
        }


def load(environ: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
    """Read the settings. ``overrides`` win over everything. Raises ConfigurationError naming the setting."""
    env = dict(os.environ if environ is None else environ)
    document = _toml(env.get("DISPATCHER_CONFIG"))
    secrets = _secret_files(env.get("DISPATCHER_SECRETS_DIR"))
    named = _environment({**secrets, **env})
    merged = _merge(_merge(document, named), overrides)
    _refuse_later(merged)
    if url := merged.get("relay_url"):
        relays = merged.setdefault("relays", {})
        relays["default"] = {**relays.get("default", {}), "url": url}
    try:
        settings = Settings(**merged)
    except ValidationError as error:
        raise _readable(error, env) from None
    _check_urls(settings)
    settings.relay_table()
    return settings


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
            found[name if name.startswith(PREFIX) else PREFIX + name] = path.read_text(encoding="utf-8").strip()
    return found


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
        if top not in Settings.model_fields and top not in _LATER:
            raise ConfigurationError(name, "unknown setting")
        if top in _LATER:
            raise ConfigurationError(name, f"{_LATER[top]}: not part of this version; take the setting out")
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


def _refuse_later(document: dict[str, Any]) -> None:
    for path, what in _LATER.items():
        if _has(document, path.split(".")):
            raise ConfigurationError(
                path.replace("*", "NAME"), f"{what}: not part of this version; take the setting out"
            )


def _has(document: Any, path: list[str]) -> bool:
    if not path:
        return True
    if not isinstance(document, dict):
        return False
    if path[0] == "*":
        return any(_has(value, path[1:]) for value in document.values())
    return path[0] in document and _has(document[path[0]], path[1:])


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


def _check_urls(settings: Settings) -> None:
    if settings.broker_url is not None:
        scheme = settings.broker_url.get_secret_value().partition("://")[0]
        if scheme not in ("redis", "rediss", "redis+socket"):
            raise ConfigurationError("DISPATCHER_BROKER_URL", f"unknown scheme {scheme!r}: use redis:// or rediss://")
    if not settings.ledger.startswith(("sqlite:///", "postgresql+psycopg://")):
        scheme = settings.ledger.partition("://")[0]
        raise ConfigurationError(
            "DISPATCHER_LEDGER_URL",
            f"unknown scheme {scheme!r}: use sqlite:///PATH or postgresql+psycopg://USER@HOST/NAME",
        )
    if settings.blobs_url is not None and not settings.blobs_url.startswith("file:"):
        raise ConfigurationError("DISPATCHER_BLOBS_URL", "only file:FOLDER is part of this version")
