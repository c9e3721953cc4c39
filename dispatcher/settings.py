"""All settings, as one frozen object. ``dispatcher.sources`` reads them."""

import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from dispatcher.duration import seconds
from dispatcher.rate import Rate
from dispatcher.relay import Relay

PREFIX = "DISPATCHER_"
MARGIN_SECONDS = 1.0  # what settling a last outcome may take
MIN_KEY = 16  # characters of a key that signs
_LISTEN = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+):(\d{1,5})")
_PAGES_URL = re.compile(r"https?://(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(?::\d{1,5})?(?:/[A-Za-z0-9._~/-]*)?")
_MAX_URL = 200  # characters: a link in a header must fit into one line


def listed(value: Any) -> Any:
    """Read ``"first,second"`` and ``'["first", "second"]'`` as a list; ValueError for JSON that is none."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except ValueError:
            msg = "begins like a JSON list and is none"
            raise ValueError(msg) from None
    return [key.strip() for key in value.split(",") if key.strip()]


def unguessable(value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
    """ValueError unless every key is long enough not to be guessed."""
    if any(len(key) < MIN_KEY for key in value):
        msg = f"a key has at least {MIN_KEY} characters; separate several by commas"
        raise ValueError(msg)
    return value


def address(value: str) -> str:
    """The address of our pages, without a slash at its end; ValueError for what is none."""
    if len(value) > _MAX_URL or not _PAGES_URL.fullmatch(value):
        msg = f"is no address such as https://mail.example.com of up to {_MAX_URL} characters"
        raise ValueError(msg)
    return value.rstrip("/")


def listening(value: str) -> str:
    """``host:port``, an IPv6 address in brackets; ValueError for what is none."""
    if not (found := _LISTEN.fullmatch(value)) or not 0 < int(found[2]) < 1 << 16:
        msg = f"{value!r} is no address to listen on: write 127.0.0.1:8026"
        raise ValueError(msg)
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
    password: SecretStr | None = None  # instead of the URL's, so that it can be a secret file of its own
    priority: int = 0
    rate: tuple[str, ...] = ()
    max_connections: int | None = Field(default=None, gt=0)
    max_messages_per_connection: int = Field(default=1000, gt=0)
    idle_seconds: Duration = 30
    max_age_seconds: Duration = 600
    timeouts: Timeouts = Timeouts()
    pipelining: Literal["auto", "off"] = "auto"
    ehlo: str | None = None
    ca_file: Path | None = None
    xoauth2_command: tuple[str, ...] | None = Field(default=None, repr=False)


class Processes(_Section):
    """Worker processes by worker."""

    transactional: int = Field(default=1, gt=0)
    bulk: int = Field(default=1, gt=0)
    intake: int = Field(default=1, gt=0)


class DeliverySettings(_Section):
    """``[delivery]``; the times must fit into each other, see ``Settings``."""

    batch_size: int = Field(default=100, gt=0, le=1000)
    connections: int = Field(default=32, gt=0, le=100)
    batch_seconds: Duration = 60
    task_seconds: Duration = 240
    lease_seconds: Duration = 300
    host_grace: Duration = 900
    settle_seconds: Duration = 0.1
    sweep_seconds: Duration = 2
    deaf_seconds: Duration = 30
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


class LaneRetention(_Section):
    """By lane; the default where none is set."""

    transactional: Duration | None = None
    bulk: Duration | None = None


class RetentionSettings(_Section):
    """``[retention]``: how long what is settled is kept. A tag goes before the lane, of several tags the longest."""

    default: Duration = 90 * 86400
    lanes: LaneRetention = LaneRetention()
    tags: dict[str, Duration] = Field(default_factory=dict)


class BrokerSettings(_Section):
    """``[broker]``: what the broker's URL cannot say."""

    sentinel_master: str | None = None
    sentinel_password: SecretStr | None = None
    tls_ca_file: Path | None = None
    tls_cert_file: Path | None = None
    tls_key_file: Path | None = None
    tls_check_hostname: bool = True


class LogSettings(_Section):
    """``[log]``."""

    format: Literal["text", "json"] = "text"
    addresses: Literal["full", "masked"] = "full"


class ReportSettings(_Section):
    """``[reports]``: programs that make files and manifests, by the names that reports know them by."""

    renderers: dict[str, tuple[str, ...] | str] = Field(default_factory=dict)
    render_seconds: Duration = 20
    render_bytes: int = Field(default=10 * 1024 * 1024, gt=0)
    manifests: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    manifest_seconds: Duration = 60


class PagesSettings(_Section):
    """``[pages]``: our pages, such as the one to unsubscribe."""

    enabled: bool = True  # whether ``dispatcher up`` serves them
    listen: Annotated[str, AfterValidator(listening)] = "127.0.0.1:8026"

    @property
    def place(self) -> tuple[str, int]:
        """Host and port."""
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]"), int(port)


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
    secret_keys: Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(listed), AfterValidator(unguessable)] = ()
    public_url: Annotated[str, AfterValidator(address)] | None = None
    delivery: DeliverySettings = DeliverySettings()
    retry: RetrySettings = RetrySettings()
    retention: RetentionSettings = RetentionSettings()
    broker: BrokerSettings = BrokerSettings()
    log: LogSettings = LogSettings()
    pages: PagesSettings = PagesSettings()
    reports: ReportSettings = ReportSettings()

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
        longest += self.reports.render_seconds if self.reports.renderers else 0.0
        if not d.batch_seconds + longest + MARGIN_SECONDS < d.task_seconds < d.lease_seconds:
            msg = (
                f"batch_seconds + longest SMTP timeout (+ render_seconds) + {MARGIN_SECONDS:g} < task_seconds < "
                f"lease_seconds must hold; now {d.batch_seconds:g} + {longest:g} + {MARGIN_SECONDS:g} < "
                f"{d.task_seconds:g} < {d.lease_seconds:g}"
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
    def blobs(self) -> Path | None:
        """The folder of the attachments; None when they are in the ledger."""
        default = "ledger:" if self.ledger.startswith("postgresql") else f"file:{self.data_dir.resolve() / 'blobs'}"
        url = self.blobs_url or default
        return None if url == "ledger:" else Path(url.removeprefix("file:"))

    @property
    def pages_url(self) -> str:
        """The address of our pages, as it stands in mails."""
        return self.public_url or f"http://{self.pages.listen}"

    def relay_table(self) -> dict[str, Relay]:
        """All relays by name, in the order of their priority. Raises ConfigurationError."""
        return {
            name: Relay.parse(
                name,
                found.url.get_secret_value(),
                setting=f"relays.{name}.url" if self.relay_url is None or name != "default" else "DISPATCHER_RELAY_URL",
                password=found.password.get_secret_value() if found.password else None,
                rate=Rate.parse(found.rate, f"relays.{name}.rate"),
                max_connections=found.max_connections,
                priority=found.priority,
                max_messages_per_connection=found.max_messages_per_connection,
                pipelining=found.pipelining == "auto",
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
