"""What is asked of Redis itself, beside what Celery carries over it. All of it may be lost."""

import time
from collections.abc import Iterator
from typing import Any

from redis import Redis
from redis.exceptions import RedisError, ResponseError
from redis.sentinel import Sentinel

from dispatcher.adapters.redis_fault import Fault, fault, sentinel_options, tls_options
from dispatcher.adapters.redis_health import Hazard, hazards
from dispatcher.broker import BrokerAddress
from dispatcher.errors import ConfigurationError

_STRIKE_SECONDS = 86400
_PROBE = "dispatcher:probe"


def connect(address: BrokerAddress, **options: Any) -> Redis:
    """A client of the broker that fails fast and does not try again by itself; ``options`` are redis-py's.

    It connects with its first command. With sentinels it asks them for the master whenever it connects, so that after a
    failover the command that meets the old master fails, if any does, and the next one goes to the new one.
    """
    usual: dict[str, Any] = {
        "socket_timeout": 5,
        "socket_connect_timeout": 2,
        "retry": None,
        "client_name": "maildispatcher",
        **(tls_options(address) if address.tls else {}),
    }
    given = usual | options
    if not address.sentinels:
        return Redis.from_url(address.url.replace("redis+socket://", "unix://", 1), **given)
    sentinel = Sentinel(address.sentinels, sentinel_kwargs=sentinel_options(address))  # type: ignore[no-untyped-call]
    who = {"username": address.username, "password": address.password, "db": address.database, "ssl": address.tls}
    client: Redis = sentinel.master_for(str(address.sentinel_master), **who, **given)  # type: ignore[no-untyped-call]
    return client


class Broker:
    """A Redis (or Valkey) server at the address that Celery uses. Connects at the first question, never when made."""

    def __init__(self, address: BrokerAddress | str) -> None:
        self.address = BrokerAddress(address) if isinstance(address, str) else address
        self._client: Redis | None = None

    def __repr__(self) -> str:
        return f"<Broker {self.address.display}>"

    @property
    def _redis(self) -> Redis:
        if self._client is None:
            self._client = connect(self.address)
        return self._client

    def depth(self, queue: str) -> int | None:
        """How many tasks wait in a queue; None when the server is out of reach."""
        try:
            return int(self._redis.llen(queue))
        except RedisError:
            return None

    def strike(self, task: str) -> int:
        """Count one more start of a task; a start that did not end killed its worker. 0 when it cannot be counted."""
        try:
            pipe = self._redis.pipeline()
            pipe.incr(f"dispatcher:strikes:{task}")
            pipe.expire(f"dispatcher:strikes:{task}", _STRIKE_SECONDS)
            return int(pipe.execute()[0])
        except RedisError:
            return 0

    def forgive(self, task: str) -> None:
        """The task ended, one way or the other."""
        try:
            self._redis.delete(f"dispatcher:strikes:{task}")
        except RedisError:
            return  # it expires by itself

    def info(self) -> dict[str, Any] | None:
        """The server's INFO, as far as it tells them its settings ``appendfsync`` and ``save``, and ``skew``: seconds
        that this host's clock is ahead of its. None when it is out of reach."""
        try:
            found: dict[str, Any] = dict(self._redis.info())
            before = time.time()
            seconds, micros = self._redis.time()
            found["skew"] = (before + time.time()) / 2 - (seconds + micros / 1e6)
            return found | self._config()
        except RedisError:
            return None

    def _config(self) -> dict[str, Any]:
        try:
            return {name: self._redis.config_get(name).get(name) for name in ("appendfsync", "save")}
        except ResponseError:  # a hosted Redis has no CONFIG
            return {}

    def hazards(self) -> Iterator[Hazard]:
        """What is amiss with a server that answers; nothing when it does not."""
        if info := self.info():
            yield from hazards(info)

    def fault(self) -> Fault | None:
        """None when the server lets us read and write, else why it does not."""
        try:
            pipe = self._redis.pipeline()
            pipe.lpush(_PROBE, 1)
            pipe.delete(_PROBE)
            pipe.execute()
        except RedisError as error:
            return fault(error, self.address)
        return None

    def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            self._client.close()
            self._client = None


def checked(address: BrokerAddress) -> list[str]:
    """What a person should know about the broker before anything is started on it, a line each. Out of reach is one of
    them: it may come back. Raises ConfigurationError when it answers and refuses us."""
    broker = Broker(address)
    try:
        found = broker.fault()
        if found is not None and found.refused:
            raise ConfigurationError(found.setting, found.reason)
        return [str(found)] if found is not None else [str(hazard) for hazard in broker.hazards()]
    finally:
        broker.close()
