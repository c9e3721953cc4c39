"""What is asked of Redis itself, beside what Celery carries over it. All of it may be lost."""

from typing import Any

from redis import Redis
from redis.exceptions import RedisError

_STRIKE_SECONDS = 86400


class Broker:
    """A Redis (or Valkey) server by the URL that Celery uses. Connects at the first question, never when made."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._client: Redis | None = None

    def __repr__(self) -> str:
        return "<Broker>"  # the URL holds a password

    @property
    def _redis(self) -> Redis:
        if self._client is None:
            url = self.url.replace("redis+socket://", "unix://", 1)
            self._client = Redis.from_url(
                url, socket_timeout=5, socket_connect_timeout=2, retry=None, client_name="maildispatcher"
            )
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
        """The server's INFO and the settings that ``doctor`` asks about; None when it is out of reach."""
        try:
            found: dict[str, Any] = dict(self._redis.info())
            found["config"] = {
                name: value
                for pattern in ("maxmemory*", "append*")
                for name, value in self._redis.config_get(pattern).items()
            }
        except RedisError:
            return None
        return found

    def ping(self) -> str | None:
        """None when the server answers, else why it does not."""
        try:
            self._redis.ping()
        except RedisError as error:
            return str(error)
        return None

    def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            self._client.close()
            self._client = None
