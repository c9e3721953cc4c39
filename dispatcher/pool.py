"""A bounded pool of kept sessions: under the lock it only decides; opening and closing happen after it."""

import os
import threading
import time
from collections.abc import Callable
from typing import Generic, NamedTuple, Protocol, TypeVar

from dispatcher.errors import LimitReached, PoolTimeout, TransportError
from dispatcher.relay import Relay

_OPENING_AT_ONCE = 4
_UNWILLING_SECONDS = 10.0


class Pooled(Protocol):
    """What the pool asks of a session."""

    @property
    def usable(self) -> bool:
        """False once the session saw a 421, silence or garbage, or was left in the middle of a transaction."""
        ...

    @property
    def transactions(self) -> int:
        """How many it has carried."""
        ...

    def readable(self) -> bool:
        """Whether bytes or an end of file wait on the socket. An idle SMTP server has nothing to say but goodbye."""
        ...

    def close(self, *, polite: bool) -> None:
        """Close it; say QUIT before if ``polite``. Never raises a network error."""
        ...


class Gate(Protocol):
    """What the pool asks for a connection that counts over all workers; see ``interfaces.RateLimiter``."""

    def enter(self, relay: str) -> float:
        """0 if one may be opened, else the seconds after which to ask again."""
        ...

    def leave(self, relay: str) -> None:
        """One was closed, or not opened after all."""
        ...

    def wanted(self, relay: str) -> bool:
        """Whether another worker waits for one."""
        ...


S = TypeVar("S", bound=Pooled)


class _Idle(NamedTuple, Generic[S]):
    session: S
    opened: float
    since: float


class Pool(Generic[S]):
    """Up to ``size`` sessions to one relay, the one used last given out first, so that the others may age and close.

    The relay's caps on messages, age and idle time hold. A session is given out to one taker at a time. Thread-safe;
    made for one process: after a fork the child forgets what it inherited, without a QUIT that would end the
    parent's connections. Each session that is open has passed the ``gate``, if there is one.
    """

    def __init__(
        self,
        relay: Relay,
        open_session: Callable[[], S],
        *,
        size: int,
        wait_seconds: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
        gate: Gate | None = None,
    ) -> None:
        self._relay, self._open_session, self._gate = relay, open_session, gate
        self._size, self._wait_seconds, self._clock = size, wait_seconds, clock
        self._closed = False
        self._begin()

    def _begin(self) -> None:
        self._changed = threading.Condition()
        self._idle: list[_Idle[S]] = []  # the one used last is the last
        self._busy: dict[S, float] = {}  # when each was opened
        self._opening = 0
        self._unwilling_until = float("-inf")
        self._pid = os.getpid()

    def take(self) -> S:
        """A session that nobody else has: the idle one used last, or a new one.

        Raises PoolTimeout when all stay in use for the time allowed, LimitReached when other workers have all that may
        be open, and what opening raises.
        """
        self._forget_inherited()
        with self._changed:
            session, doomed = self._choose()
        for old in doomed:
            self._end(old, polite=True)
        return session if session is not None else self._open()

    def prepare(self) -> None:
        """Begin to open one more, which will be idle; a few at a time, and none for a while after one was refused."""
        with self._changed:
            busy = self._closed or self._opening >= _OPENING_AT_ONCE or self._clock() < self._unwilling_until
            if busy or len(self._busy) + len(self._idle) + self._opening >= self._size:
                return
            self._opening += 1
        threading.Thread(target=self._open_ahead, name="opener", daemon=True).start()

    def _open_ahead(self) -> None:
        try:
            self.give(self._open())
        except TransportError:  # whoever needs one, and not one more, will meet it
            self._unwilling_until = self._clock() + _UNWILLING_SECONDS

    def replace(self, session: S) -> S:
        """Close this session and open another in its place. When that fails, the place is free again."""
        with self._changed:
            self._busy.pop(session)
            self._opening += 1
        return self._open(session)

    def give(self, session: S) -> None:
        """Take a session back: it is kept for the next taker, or closed when it is of no use, or wanted elsewhere."""
        wanted = self.wanted()
        with self._changed:
            opened = self._busy.pop(session, None)
            keep = opened is not None and not self._closed and not wanted and not self._spent(session, opened)
            if keep and opened is not None:
                self._idle.append(_Idle(session, opened, self._clock()))
            self._changed.notify()
        if opened is None:
            session.close(polite=False)  # it is another process', or was replaced in vain
        elif not keep:
            self._end(session, polite=session.usable)

    @property
    def idle(self) -> int:
        """How many are open and not in use."""
        return len(self._idle)

    def wanted(self) -> bool:
        """Whether another worker waits for a connection."""
        return self._gate is not None and self._gate.wanted(self._relay.name)

    def spent(self, session: S) -> bool:
        """Whether a session in use should carry no further message: unusable, or at its cap of messages or age."""
        return self._spent(session, self._busy[session])

    def tend(self) -> None:
        """Close the idle sessions that are too old, or all of them when another worker waits for one."""
        if not self._idle or self._pid != os.getpid():
            return
        wanted = self.wanted()
        with self._changed:
            doomed = self._weed()
            if wanted:
                doomed += [idle.session for idle in self._idle]
                self._idle = []
        for session in doomed:
            self._end(session, polite=True)

    def close(self) -> None:
        """Close what is idle now and what is in use as soon as it is given back; nothing is given out any more."""
        self._forget_inherited()
        with self._changed:
            self._closed = True
            doomed, self._idle = self._idle, []
            self._changed.notify_all()
        for idle in doomed:
            self._end(idle.session, polite=True)

    def __repr__(self) -> str:
        closed = " closed" if self._closed else ""
        busy = len(self._busy) + self._opening
        return f"<Pool relay={self._relay.name} idle={len(self._idle)} busy={busy} max={self._size}{closed}>"

    def _choose(self) -> tuple[S | None, list[S]]:
        """An idle session, or None and a place reserved for a new one; and those that have to be closed."""
        deadline = self._clock() + self._wait_seconds
        while True:
            if self._closed:
                raise TransportError(self._relay.name, "its pool is closed")
            doomed = self._weed()
            if self._idle:
                session, opened, _ = self._idle.pop()
                self._busy[session] = opened
                return session, doomed
            if len(self._busy) + self._opening < self._size:
                self._opening += 1
                return None, doomed
            # Nothing is doomed here: an idle session that was weeded left its place free.
            if not self._changed.wait(deadline - self._clock()):
                raise PoolTimeout(
                    self._relay.name, f"all {self._size} connections stayed in use for {self._wait_seconds:g} s"
                )

    def _weed(self) -> list[S]:
        now = self._clock()
        kept: list[_Idle[S]] = []
        doomed: list[_Idle[S]] = []
        for idle in self._idle:
            worn = now - idle.since > self._relay.idle_seconds or self._spent(idle.session, idle.opened)
            (doomed if worn or idle.session.readable() else kept).append(idle)
        self._idle = kept
        return [idle.session for idle in doomed]

    def _spent(self, session: S, opened: float) -> bool:
        return (
            not session.usable
            or session.transactions >= self._relay.max_messages_per_connection
            or self._clock() - opened > self._relay.max_age_seconds
        )

    def _open(self, after: S | None = None) -> S:
        session: S | None = None
        entered = after is not None
        try:
            if after is not None:
                after.close(polite=after.usable)
            else:
                self._enter()
                entered = True
            session = self._open_session()
        finally:
            if session is None and entered:
                self._leave()
            with self._changed:
                self._opening -= 1
                if session is not None:
                    self._busy[session] = self._clock()
                else:
                    self._changed.notify()
        return session

    def _enter(self) -> None:
        if self._gate is not None and (wait := self._gate.enter(self._relay.name)):
            most = self._relay.max_connections
            these = "connections that it allows" if most is None else f"{most} connections"
            raise LimitReached(self._relay.name, f"all {these} are in use", wait)

    def _leave(self) -> None:
        if self._gate is not None:
            self._gate.leave(self._relay.name)

    def _end(self, session: S, *, polite: bool) -> None:
        session.close(polite=polite)
        self._leave()

    def _forget_inherited(self) -> None:
        if self._pid == os.getpid():
            return
        inherited = self._idle
        self._begin()  # a new lock as well: a thread of the parent may have held the old one at the fork
        for idle in inherited:
            idle.session.close(polite=False)
