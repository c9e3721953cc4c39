"""The Redis stream on which any language hands mail over: ``XADD mail:submissions * submission '{...}'``.

Workers share it as one consumer group. An entry that is delivered to a worker is pending until it is ended, which
removes it from the stream. Redis counts how often it was delivered without an end: what it killed, if it is to blame.
"""

import os
import secrets
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from redis.exceptions import RedisError, ResponseError

from dispatcher.adapters.celery import INTAKE_KEYS, ODD
from dispatcher.adapters.redis import Broker, connect
from dispatcher.broker import BrokerAddress
from dispatcher.handed import Pairs

KEY, TASKS, GROUP = "mail:submissions", "mail:tasks", "dispatcher"
IDLE_SECONDS = 30.0  # a worker that has said nothing for so long is dead, and what it held is taken over
_ALONE_AFTER = 2  # an entry that has killed so many takes no others with it
_LOOK_SECONDS, _LOOK_AGAIN_SECONDS = 5.0, 0.02
_MOST, _MOST_AGAIN, _BYTES = 500, 50, 8 * 1024 * 1024  # in hand at once

# One by one, since what COUNT entries weigh is only known when they have come.
_TAKE = """
local taken, bytes = {}, tonumber(ARGV[4])
while #taken < tonumber(ARGV[3]) and bytes > 0 do
  local found = redis.call('XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', 1, 'STREAMS', KEYS[1], '>')
  if not found then break end
  local entry = found[1][2][1]
  for _, part in ipairs(entry[2]) do bytes = bytes - #part end
  taken[#taken + 1] = entry
end
return taken
"""
# In one step: a consumer that is removed takes what is pending for it along.
_FORGET = """
for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local facts = {}
  for n = 1, #consumer, 2 do facts[consumer[n]] = consumer[n + 1] end
  if facts['pending'] == 0 and facts['idle'] > tonumber(ARGV[2]) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], facts['name'])
  end
end
"""


class StreamAway(ConnectionError):
    """Redis is out of reach, or refuses."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry with its fields as they came; ``killed``: how many workers did not survive it."""

    id: str
    pairs: Pairs
    killed: int = 0

    @property
    def bytes(self) -> int:
        return sum(len(name) + len(value) for name, value in self.pairs)


class Stream:
    """One worker process' share of the stream. Its methods raise StreamAway; they make the stream and the group anew
    after a flush. For one thread, but for ``hold``."""

    key = KEY

    def __init__(self, address: BrokerAddress, *, idle_seconds: float = IDLE_SECONDS) -> None:
        self._idle = int(idle_seconds * 1000)
        # Never the name of another process: what is pending for it and not in hand was lost on the way.
        self._me = f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(4)}"
        self._cursor = "0-0"
        self._look_at = 0.0
        self._redis = connect(address, protocol=2)
        for command in ("XREADGROUP", "XAUTOCLAIM", "XPENDING", "XCLAIM"):
            self._redis.set_response_callback(command, _as_it_came)
        self._take, self._forget = self._redis.register_script(_TAKE), self._redis.register_script(_FORGET)

    def next(self, seconds: float) -> list[Entry]:
        """What is to be taken in now, waiting up to ``seconds`` for it: what a dead worker held, else what is new. All
        of it is in memory, so it is bounded in number and in bytes (but for one entry)."""
        with in_our_words():
            if time.monotonic() >= self._look_at and (again := self._again()):
                return again
            return self._new(min(seconds, max(self._look_at - time.monotonic(), 0.001)))

    def _new(self, seconds: float) -> list[Entry]:
        words = ("GROUP", GROUP, self._me, "COUNT", 1, "BLOCK", max(int(seconds * 1000), 1), "STREAMS", self.key, ">")
        found = self._ask("XREADGROUP", *words)
        if not found:
            return []
        first = _entry(found[0][1][0])
        try:
            rest = self._take(keys=[self.key], args=[GROUP, self._me, _MOST - 1, _BYTES - first.bytes])
        except RedisError:
            rest = []  # the first one is in hand, and nobody else may have it any more
        return [first, *map(_entry, rest)]

    def _again(self) -> list[Entry]:
        """What was delivered before and not ended: by a worker that is dead, or to this one on a broken connection."""
        claim = (self.key, GROUP, self._me, self._idle, self._cursor, "COUNT", _MOST_AGAIN, "JUSTID")
        self._cursor = self._ask("XAUTOCLAIM", *claim)[0].decode()
        with suppress(ResponseError):  # Redis 6.2 refuses it while its memory is full
            self._forget(keys=[self.key], args=[GROUP, self._idle])
        rows = self._ask("XPENDING", self.key, GROUP, "-", "+", _MOST_AGAIN, self._me)
        counts = {entry.decode(): int(delivered) for entry, _, _, delivered in rows}
        chosen = together(counts)
        more = self._cursor != "0-0" or len(counts) > len(chosen)
        self._look_at = time.monotonic() + (_LOOK_AGAIN_SECONDS if more else _LOOK_SECONDS)
        return self._fetch(chosen, counts)

    def _fetch(self, chosen: Sequence[str], counts: dict[str, int]) -> list[Entry]:
        """Deliver these to this worker, and count it; those that are over the bounds stay for the next time."""
        taken: list[Entry] = []
        for entry in chosen:
            if sum(each.bytes for each in taken) >= _BYTES:
                self._look_at = 0.0
                break
            try:
                found = self._ask("XCLAIM", self.key, GROUP, self._me, 0, entry, "RETRYCOUNT", counts[entry] + 1)
            except RedisError:
                if not taken:
                    raise
                break
            if found and found[0]:
                taken.append(_entry(found[0], counts[entry]))
            else:
                self._redis.xack(self.key, GROUP, entry)  # somebody has removed it from the stream
        return taken

    def hold(self, entries: Sequence[Entry]) -> None:
        """These are still in hand: nobody is to take them over."""
        with in_our_words():
            self._ask("XCLAIM", self.key, GROUP, self._me, 0, *(each.id for each in entries), "JUSTID")

    def give_back(self, entries: Sequence[Entry]) -> None:
        """Let another worker have these at once, as if they had not been delivered here."""
        with in_our_words():
            for entry in entries:
                how = ("IDLE", self._idle, "RETRYCOUNT", entry.killed, "JUSTID")
                self._ask("XCLAIM", self.key, GROUP, self._me, 0, entry.id, *how)

    def end(self, ids: Sequence[str]) -> None:
        """These are in the ledger: remove them. Twice is as good as once."""
        with in_our_words():
            # Not in a MULTI: a Redis whose memory is full refuses every command in one, and this is what makes room.
            # Removed first: what is pending and gone is cleared by the next look, what is only acknowledged never.
            pipe = self._redis.pipeline(transaction=False)
            pipe.xdel(self.key, *ids)
            pipe.xack(self.key, GROUP, *ids)
            pipe.execute()

    def close(self) -> None:
        """Close the connection."""
        self._redis.close()

    def _ask(self, *words: Any) -> Any:
        """Send a command, making the stream and the group if they are not there (any more)."""
        try:
            return self._redis.execute_command(*words)  # type: ignore[no-untyped-call]  # redis-py has no types for it
        except ResponseError as error:
            if "NOGROUP" not in str(error):
                raise
        self._make_group()
        return self._redis.execute_command(*words)  # type: ignore[no-untyped-call]  # redis-py has no types for it

    def _make_group(self) -> None:
        try:
            self._redis.xgroup_create(self.key, GROUP, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise


def waiting(broker: Broker) -> int | None:
    """How many entries are handed over and not in the ledger yet, tasks among them; None when Redis is out of reach."""
    client = connect(broker.address)
    try:
        entries = int(client.xlen(KEY)) + int(client.xlen(TASKS))
        return entries + sum(int(client.llen(queue)) for queue in (*INTAKE_KEYS, ODD))
    except RedisError:
        return None
    finally:
        client.close()


def together(counts: dict[str, int]) -> list[str]:
    """Which of these entries, by how often each was delivered, are delivered again at once: one that may have killed
    its workers goes alone, and after the others."""
    harmless = [entry for entry, count in counts.items() if count < _ALONE_AFTER]
    return harmless or sorted(counts, key=counts.__getitem__)[:1]


def _entry(found: Sequence[Any], killed: int = 0) -> Entry:
    parts = found[1]
    return Entry(found[0].decode(), tuple(zip(parts[::2], parts[1::2], strict=True)), killed)


def _as_it_came(response: Any, **_: Any) -> Any:
    """redis-py makes fields of one name into one; of what was handed over, nothing may vanish."""
    return response


@contextmanager
def in_our_words() -> Iterator[None]:
    try:
        yield
    except RedisError as error:
        raise StreamAway(str(error)) from error
