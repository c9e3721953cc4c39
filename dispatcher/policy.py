"""The settings that the use case goes by."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dispatcher.delivery import Lane
from dispatcher.retention import Retention
from dispatcher.retry import RetryPolicy
from dispatcher.unsubscribe import key_id

UPKEEP_SECONDS = 600.0  # between one upkeep and the next


@dataclass(frozen=True, slots=True)
class Policy:
    """The settings that the use case goes by. Times in seconds. Of the keys the first signs, and all verify."""

    sender: str | None = None
    mail_from: str | None = None
    if_in_doubt: str = "resend"
    lifetimes: Mapping[str, float] = field(default_factory=lambda: {Lane.TRANSACTIONAL: 86400.0, Lane.BULK: 259200.0})
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    max_bytes: int = 25 * 1024 * 1024
    batch_size: int = 100
    batch_seconds: float = 60.0
    lease_seconds: float = 300.0
    host_grace: float = 900.0
    settle_seconds: float = 0.1
    sweep_seconds: float = 2.0
    retention: Retention = field(default_factory=Retention)
    secret_keys: Sequence[str] = field(default=(), repr=False)
    public_url: str = ""

    @property
    def unsubscribe(self) -> Mapping[str, str]:
        """Where one leaves a list, and the id of the key that signs it; nothing without a key."""
        return {"url": self.public_url, "key": key_id(self.secret_keys[0])} if self.secret_keys else {}
